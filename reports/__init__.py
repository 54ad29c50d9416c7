"""One page that shows what was measured, predicted and found."""
