"""What the CUDA kernels stand on: the device, and how kernels are started."""
