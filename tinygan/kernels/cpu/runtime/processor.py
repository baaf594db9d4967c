"""The processor that kernels are compiled for: this one, or one with shorter vectors.

The environment variable TINYGAN_VECTORS sets the bytes of a vector register. By default they are those of this processor.
With fewer bytes, kernels are compiled for any processor of the generation that has such registers. So one machine can test
the kernels of others. The variable is read once, when kernels are first needed.
"""
from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

import llvmlite.binding as llvm

from tinygan.errors import DeviceError

SWITCH = "TINYGAN_VECTORS"
SIZES = (16, 32, 64)
# LLVM's name of the x86 generation whose vector registers have that many bytes.
GENERATIONS = {16: "x86-64-v2", 32: "x86-64-v3"}


class Target(NamedTuple):
    """The processor as LLVM describes it. features: such as "+avx2,-avx512f", in addition to those that the name implies."""

    vector_bytes: int
    name: str
    features: str


@cache
def target() -> Target:
    """The processor to compile for. Raises DeviceError if TINYGAN_VECTORS is not a size that this processor supports."""
    try:
        features: Any = llvm.get_host_cpu_features()
    except RuntimeError:  # LLVM cannot tell the features of this processor
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
    """The bytes of the floating-point vector registers of a processor with these features."""
    if features.get("avx512f"):
        return 64
    return 32 if features.get("avx2") and features.get("fma") else 16
