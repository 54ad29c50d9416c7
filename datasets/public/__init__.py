"""Latencies that others have published, as values and as latency tables: one file a format."""
