"""Spaces, the super-network, objectives and the search loop."""
