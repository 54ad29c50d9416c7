"""Accelerators that exist as a design only: workloads as loop nests, cost models, design spaces, and simulated devices."""
