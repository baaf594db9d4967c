"""The kernels on the CPU: one room for each kind of work, and `runtime` below them."""
