"""The kernels: hand-written loops over arrays, which know nothing of ops.

`cpu` and `cuda` have the same rooms: one for each kind of work, such as `matmul`, `conv` or `batchnorm`. The modules beside
them hold what both use: the activations, the matrices of fast convolution and the settings of the optimisers. `reference`
computes the same results in plain loops, and the tests compare the kernels with it. Importing this package compiles nothing.
The kernels are compiled when the first large array needs them: see `cpu.runtime.loading`.
"""
from __future__ import annotations

import os
import threading

COMPILING = threading.RLock()
"""Held while kernels are imported or compiled. `fork` waits for it: otherwise the child would inherit locks that none of its
threads can release."""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=COMPILING.acquire, after_in_parent=COMPILING.release, after_in_child=COMPILING.release)
