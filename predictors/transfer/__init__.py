"""Latency predictors for a device of which only a handful of networks were measured, helped by other devices' tables."""
