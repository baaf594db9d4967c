"""CUDA kernels run on the CPU, for tests without a GPU."""
