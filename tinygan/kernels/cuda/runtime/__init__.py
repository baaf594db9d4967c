"""What the CUDA kernels need to run on a GPU: the device, the launcher, and the headers that kernel files share."""
