"""Which activations a fused op applies itself."""
from __future__ import annotations

__all__ = ["split"]

from collections.abc import Collection

from tinygan.kernels.activations import FUSED


def split(activation: str, applied: Collection[str] = FUSED) -> tuple[str, str]:
    """(what the kernel applies itself, what remains to be applied to its result); one of the two is the identity. applied:
    what the kernel can apply, by default what products and convolutions can."""
    return (activation, "identity") if activation in applied else ("identity", activation)
