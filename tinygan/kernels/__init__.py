"""The kernels: hand-written loops over arrays, which know nothing of ops. `reference` says in plain loops what they compute.

Importing this package compiles nothing: `native` does, or loads from the cache, when the first large array comes by.
"""
from __future__ import annotations

import os
import threading

COMPILING = threading.RLock()
"""Held while kernels are imported or compiled. A fork waits for it: the child would find locks that nobody opens."""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=COMPILING.acquire, after_in_parent=COMPILING.release, after_in_child=COMPILING.release)
