"""The processor that kernels are compiled for: this one, or one with shorter vectors.

The environment variable TINYGAN_VECTORS says how many bytes a vector register has. Without it that is what this processor
has. With less, kernels are compiled for any processor of that generation: so one machine can test what runs on others. The
variable is read once, when kernels are first needed.
"""
from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

import llvmlite.binding as llvm

from tinygan.devices import DeviceError

SWITCH = "TINYGAN_VECTORS"
SIZES = (16, 32, 64)
# The x86 generation whose vector registers have so many bytes, by LLVM's name.
GENERATIONS = {16: "x86-64-v2", 32: "x86-64-v3"}


class Target(NamedTuple):
    """What LLVM is told. features: such as "+avx2,-avx512f", beside those that the name implies."""

    vector_bytes: int
    name: str
    features: str


@cache
def target() -> Target:
    """The processor to compile for. Raises DeviceError where TINYGAN_VECTORS names none that this one can stand for."""
    try:
        features: Any = llvm.get_host_cpu_features()
    except RuntimeError:  # LLVM does not know them here
        features = {}
    own = _vector_bytes(features)
    possible = [str(size) for size in SIZES if size <= own]
    chosen = os.environ.get(SWITCH) or str(own)
    if chosen not in possible:
        raise DeviceError(f"{SWITCH}={chosen}: expected the bytes of a vector register, here one of {', '.join(possible)}")
    if chosen == str(own):
        return Target(own, llvm.get_host_cpu_name(), features.flatten() if features else "")
    return Target(int(chosen), GENERATIONS[int(chosen)], "")


def _vector_bytes(features: Mapping[str, bool]) -> int:
    """The size of the registers in which this processor computes with floating-point numbers."""
    if features.get("avx512f"):
        return 64
    return 32 if features.get("avx2") and features.get("fma") else 16
