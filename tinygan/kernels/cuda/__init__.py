"""The kernels on a GPU: one room for each kind of work. The rooms have the same names as in `kernels/cpu`.

A room has a CUDA file (.cu) and a Python file, which chooses grids and passes arrays. `__all__` lists its functions. They
take a `Device` as their first argument, and then the arguments of the CPU's functions of the same names. All rooms build on
    runtime/     the device, the launcher that compiles and starts kernels, and the headers that kernel files share
    emulator/    a device and a launcher for tests without a GPU: g++ compiles the kernels, and the CPU runs them
"""
