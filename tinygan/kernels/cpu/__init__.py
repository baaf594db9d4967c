"""The kernels on the CPU: one room for each kind of work.

The front of a room is its `__init__.py` or its only file. `__all__` lists its functions, which make up the backend's table.
They use NumPy for small arrays. For large ones they use the room's `compiled` module, which `runtime.loading` imports. All
rooms build on `runtime`.
"""
