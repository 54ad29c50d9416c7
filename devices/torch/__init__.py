"""PyTorch: eager and compiled networks on the processor and on CUDA devices, built from their space. Needs torch."""
