"""Neural latency predictors that learn from other devices and adapt to a new one with a handful of its measurements. Need torch."""
