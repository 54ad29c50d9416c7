"""Search spaces as genes and sites."""
