"""Runs the CUDA kernels on the CPU, for tests without a GPU."""
