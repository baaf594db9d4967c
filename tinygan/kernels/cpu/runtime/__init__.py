"""What the CPU's kernels stand on: the compiler, the pool of threads, memory that is used again, vector registers."""
