"""The kernels on the CPU: one room for each kind of work.

A room's front, its `__init__.py` or its only file, has the functions of the backend's table, listed in `__all__`. It
computes small arrays by NumPy and large ones by its `compiled` part, which it asks `runtime.loading` for. `runtime` is what
all rooms stand on.
"""
