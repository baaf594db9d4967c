"""Which activations a fused op applies itself."""
from __future__ import annotations

__all__ = ["split"]

from collections.abc import Collection

from tinygan.kernels.activations import FUSED


def split(activation: str, applied: Collection[str] = FUSED) -> tuple[str, str]:
    """Two activations: the one that the kernel applies, and the one that is left for an op after it. One of them is the
    identity. applied: the activations that the kernel can apply, by default those of matrix products and convolutions."""
    return (activation, "identity") if activation in applied else ("identity", activation)
