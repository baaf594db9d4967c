"""The kernels: hand-written loops over arrays, which know nothing of ops.

`cpu` and `cuda` have the same rooms: one for each kind of work, such as `matmul`, `conv` or `batchnorm`. Above them stands
what both use: the activations and the matrices of fast convolution. `reference` computes the same in plain loops; the tests
compare with it. Importing this package compiles nothing. The first large array does: see `cpu.runtime.loading`.
"""
from __future__ import annotations

import os
import threading

COMPILING = threading.RLock()
"""Held while kernels are imported or compiled. A fork waits for it, or the child would inherit locks that nobody opens."""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=COMPILING.acquire, after_in_parent=COMPILING.release, after_in_child=COMPILING.release)
