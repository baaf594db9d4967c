"""The hand-written hot paths: compiled kernels on plain arrays, the threads that run them, and the loops they must match.

`reference.py` says in plain loops what each kernel computes. `compile.py` compiles the others for this machine, on first
use; importing this package compiles nothing and does not import Numba.
"""
