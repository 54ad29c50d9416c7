"""Co-exploration: networks and the accelerators that run them, searched as pairs."""
