"""Which activations a fused op applies itself."""
from __future__ import annotations

__all__ = ["split"]

from collections.abc import Container

from tinygan.kernels.activations import FUSED


def split(activation: str, applied: Container[str] = FUSED) -> tuple[str, str]:
    """(what a kernel applies itself, what remains to be applied to its result): one of the two is the identity. applied: the
    names that the kernel knows; by default what products and convolutions do."""
    return (activation, "identity") if activation in applied else ("identity", activation)
