"""The CUDA kernels, and what starts them.

Each room is a CUDA file beside a Python file that chooses grids and hands over arrays; its functions take a `Device` first,
and else what the function of that name in `backends/cpu.py` takes. `launcher.py` compiles and starts kernels on a GPU,
`emulator.py` on the CPU.
"""
