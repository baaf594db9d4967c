"""Compiled kernels, imported when they are first needed.

Importing tinygan imports no Numba: that takes a second, compiling kernels takes half a minute, and small arrays need
neither. So a room's front has no import of its compiled part. It asks for it where it uses it:

    loaded("tinygan.kernels.cpu.batchnorm.compiled").moments(x)

The first such call imports the module, which compiles its kernels or reads them from the cache. Every later one is a
look-up in a dictionary.
"""
from __future__ import annotations

import importlib
from typing import Any, NamedTuple

from tinygan.kernels import COMPILING


class Group(NamedTuple):
    """Modules that are loaded together, at the first use of any of them, so that the user waits, and reads why, once."""

    name: str
    """What the message says is being compiled."""
    file: str
    """A Python file with kernels of the group. If the cache has code of it, the group was compiled before."""
    modules: tuple[str, ...]


CPU = "tinygan.kernels.cpu"
EVERY_TRAINING = Group("kernels", "gemm", (
    f"{CPU}.matmul.compiled", f"{CPU}.activations.compiled", f"{CPU}.optimizers.compiled", f"{CPU}.random.compiled"))
CONVOLUTIONS = Group("convolutions", "tiled", (f"{CPU}.conv.compiled",))

_LOADED: dict[str, Any] = {}


def loaded(module: str) -> Any:
    """The module of that full name, with its kernels compiled."""
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
