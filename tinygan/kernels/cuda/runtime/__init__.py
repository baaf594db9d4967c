"""What all CUDA kernels build on: the device, the launcher, and the headers that kernel files share."""
