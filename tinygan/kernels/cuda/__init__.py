"""The kernels on a GPU: one room for each kind of work, under the names of the rooms in `kernels/cpu`.

A room is a CUDA file (.cu) beside a Python file that chooses grids and passes arrays. Its functions, in `__all__`, take
a `Device` first, and then what the CPU's functions of the same names take. Below the rooms are
    runtime/     the device, how kernels are compiled and started, and the headers that kernel files share
    emulator/    the same on the CPU, for tests: modules of the same names for a device whose kernels g++ compiles
"""
