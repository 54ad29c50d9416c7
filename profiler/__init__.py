"""Measuring campaigns: what to measure, how to resume, and the summary as a latency table."""
