"""Runtimes: export a network, load it, run it, read its kernels' times. One file a runtime."""
