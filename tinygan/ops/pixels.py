"""Channels into pixels and back: an image of more pixels from one of more channels."""
from __future__ import annotations

__all__ = ["check_factor", "pixel_shuffle", "pixel_unshuffle"]

from tinygan.making import X
from tinygan.ops.shape import reshape, transpose
from tinygan.ops.windows import image_shape, is_whole


def pixel_shuffle(x: X, factor: int) -> X:
    """Channels rearranged into pixels: x (N, C r^2, H, W) -> (N, C, r H, r W) for r = factor (Shi et al. 2016, equation 4).

    out[n, c, r y + i, r x + j] = x[n, c r^2 + r i + j, y, x], as in PyTorch. Raises ValueError if r^2 does not divide the
    channels."""
    n, channels, height, width = image_shape("pixel_shuffle", x)
    check_factor("pixel_shuffle", factor)
    if channels % factor**2:
        raise ValueError(f"pixel_shuffle: {factor} * {factor} should divide the {channels} channels (input {x.shape})")
    split = reshape(x, (n, channels // factor**2, factor, factor, height, width))
    return reshape(transpose(split, (0, 1, 4, 2, 5, 3)), (n, channels // factor**2, height * factor, width * factor))


def pixel_unshuffle(x: X, factor: int) -> X:
    """The inverse of `pixel_shuffle`: x (N, C, r H, r W) -> (N, C r^2, H, W) for r = factor. Raises ValueError if r does not
    divide the image's height and width."""
    n, channels, height, width = image_shape("pixel_unshuffle", x)
    check_factor("pixel_unshuffle", factor)
    if height % factor or width % factor:
        raise ValueError(f"pixel_unshuffle: {factor} should divide height and width (input {x.shape})")
    split = reshape(x, (n, channels, height // factor, factor, width // factor, factor))
    return reshape(transpose(split, (0, 1, 3, 5, 2, 4)), (n, channels * factor**2, height // factor, width // factor))


def check_factor(caller: str, factor: int) -> None:
    """Raise ValueError unless factor is a whole number, 1 or more."""
    if not is_whole(factor) or factor < 1:
        raise ValueError(f"{caller}: factor should be a whole number, 1 or more, got {factor!r}")
