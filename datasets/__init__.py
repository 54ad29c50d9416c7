"""Latency tables as data: their columns, reading and writing."""
