"""Which activations a fused op applies itself."""
from __future__ import annotations

__all__ = ["split"]

from tinygan.kernels.activations import FUSED


def split(activation: str) -> tuple[str, str]:
    """(what the kernel of a product, a convolution or a normalisation applies itself, what remains to be applied to its
    result): one of the two is the identity."""
    return (activation, "identity") if activation in FUSED else ("identity", activation)
