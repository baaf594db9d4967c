"""Imports the compiled kernels when they are first needed.

Importing tinygan does not import Numba. That takes a second, compiling kernels takes half a minute, and small arrays need
neither. So the front of a room does not import its `compiled` module at the top. It calls `loaded` at each use:

    loaded("tinygan.kernels.cpu.batchnorm.compiled").moments(x)

The first such call imports the module, which compiles its kernels or reads them from the cache. Every later call only looks
up a dictionary.
"""
from __future__ import annotations

import importlib
from typing import Any, NamedTuple

from tinygan.kernels import COMPILING


class Group(NamedTuple):
    """Modules that are loaded together at the first use of any of them. So the user waits once and reads one message."""

    name: str
    """The name of the group in the message."""
    file: str
    """The name of a Python file with kernels of the group. If the cache has code from it, the group was compiled before."""
    modules: tuple[str, ...]


CPU = "tinygan.kernels.cpu"
EVERY_TRAINING = Group("kernels", "gemm", (
    f"{CPU}.matmul.compiled", f"{CPU}.activations.compiled", f"{CPU}.optimizers.compiled", f"{CPU}.random.compiled"))
CONVOLUTIONS = Group("convolutions", "tiled", (f"{CPU}.conv.compiled",))

_LOADED: dict[str, Any] = {}


def loaded(module: str) -> Any:
    """The module of that full name, with compiled kernels."""
    return _LOADED.get(module) or _load(module)


def _load(module: str) -> Any:
    with COMPILING:
        _load_group(EVERY_TRAINING)
        if module in CONVOLUTIONS.modules:
            _load_group(CONVOLUTIONS)
        return _LOADED.get(module) or _import(module)


def _load_group(group: Group) -> None:
    missing = [module for module in group.modules if module not in _LOADED]
    if missing:
        from tinygan.kernels.cpu.runtime.compiling import announced  # which imports Numba

        with announced(group.file, group.name):
            for module in missing:
                _import(module)


def _import(module: str) -> Any:
    _LOADED[module] = importlib.import_module(module)
    return _LOADED[module]
