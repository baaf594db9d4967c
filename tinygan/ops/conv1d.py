"""Convolutions in one dimension: those of images with one row."""
from __future__ import annotations

__all__ = ["conv1d", "conv_transpose1d"]

from collections.abc import Sequence
from typing import Any

from tinygan.making import weighted
from tinygan.ops.activations import checked_activation
from tinygan.ops.conv import conv2d, conv_transpose2d
from tinygan.ops.shape import expand_dims, squeeze
from tinygan.ops.windows import is_whole
from tinygan.tensor import shape_of

Size = int | Sequence[int]


@weighted
def conv1d(x: Any, weight: Any, bias: Any = None, stride: Size = 1, padding: Size | str = 0, dilation: Size = 1,
           groups: int = 1, activation: str = "identity", slope: float = 0.2) -> Any:
    """activation(x * weight + bias), where * is cross-correlation, as in PyTorch.

    x (N, C, L), weight (K, C / groups, k), bias (K,) or None -> (N, K, OL), with
    OL = (L + 2 padding - dilation (k - 1) - 1) // stride + 1.

    The arguments are those of `conv2d`, with one number each. Raises ValueError for sizes that don't fit.
    """
    name = "conv1d"
    channels, length, kernel, shapes = _checked(name, x, weight, groups)
    if channels != weight.shape[1] * groups:
        raise ValueError(f"{name}: input has {channels} channels, weight expects {weight.shape[1] * groups}{shapes}")
    _check_bias(name, bias, weight.shape[0], shapes)
    checked_activation(name, activation, slope)
    step, spread = one(name, "stride", stride, 1, shapes), one(name, "dilation", dilation, 1, shapes)
    if isinstance(padding, str):
        if padding not in ("same", "valid"):
            raise ValueError(f'{name}: unknown padding {padding!r}, expected a number, "same" or "valid"{shapes}')
        if padding == "same" and step != 1:
            raise ValueError(f'{name}: padding "same" needs stride 1, got {step}{shapes}')
        around = spread * (kernel - 1) if padding == "same" else 0
    else:
        around = 2 * one(name, "padding", padding, 0, shapes)
    if length < 1 or length + around < spread * (kernel - 1) + 1:
        raise ValueError(f"{name}: the kernel is larger than the input with its padding of {padding}{shapes}")
    frame = padding if isinstance(padding, str) else (0, around // 2)
    return squeeze(conv2d(_as_row(x), _as_row(weight), bias, (1, step), frame, (1, spread), groups, activation, slope), 2)


@weighted
def conv_transpose1d(x: Any, weight: Any, bias: Any = None, stride: Size = 1, padding: Size = 0, output_padding: Size = 0,
                     groups: int = 1, dilation: Size = 1, activation: str = "identity", slope: float = 0.2) -> Any:
    """The transposed convolution, as in PyTorch: activation(y + bias), where y is the adjoint of `conv1d` applied to x.

    x (N, C, L), weight (C, K / groups, k), bias (K,) or None -> (N, K, OL), with
    OL = (L - 1) stride - 2 padding + dilation (k - 1) + output_padding + 1.

    The arguments are those of `conv_transpose2d`, with one number each. Raises ValueError for sizes that don't fit.
    """
    name = "conv_transpose1d"
    channels, length, kernel, shapes = _checked(name, x, weight, groups)
    if channels != weight.shape[0]:
        raise ValueError(f"{name}: input has {channels} channels, weight expects {weight.shape[0]}{shapes}")
    _check_bias(name, bias, weight.shape[1] * groups, shapes)
    checked_activation(name, activation, slope)
    step, spread = one(name, "stride", stride, 1, shapes), one(name, "dilation", dilation, 1, shapes)
    frame, extra = one(name, "padding", padding, 0, shapes), one(name, "output_padding", output_padding, 0, shapes)
    if extra >= max(step, spread):
        raise ValueError(f"{name}: output_padding {extra} should be smaller than stride {step} or dilation {spread}{shapes}")
    output = (length - 1) * step - 2 * frame + spread * (kernel - 1) + extra + 1
    if min(length, output) < 1:
        raise ValueError(f"{name}: expected at least one element, got an input of {length} and an output of {output}"
                         f"{shapes}")
    return squeeze(conv_transpose2d(_as_row(x), _as_row(weight), bias, (1, step), (0, frame), (0, extra), groups,
                                    (1, spread), activation, slope), 2)


def one(caller: str, what: str, value: Any, least: int, shapes: str = "") -> int:
    """value, a whole number or a sequence of one. shapes: a text for the error, which quotes the shapes of the inputs."""
    values = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value,)
    if len(values) != 1 or not is_whole(values[0]) or values[0] < least:
        raise ValueError(f"{caller}: {what} should be a whole number, {least} or more, got {value!r}{shapes}")
    return int(values[0])


def _as_row(x: Any) -> Any:
    """(A, B, L) -> (A, B, 1, L)."""
    return expand_dims(x, 2)


def _checked(name: str, x: Any, weight: Any, groups: Any) -> tuple[int, int, int, str]:
    """The input's channels and length, the kernel's length, and a text that quotes the shapes in error messages."""
    first, second = shape_of(name, x), shape_of(name, weight)
    shapes = f" (input {first}, weight {second})"
    if len(first) != 3 or len(second) != 3:
        raise ValueError(f"{name}: input and weight should have three axes each, (N, C, L) and (K, C, length){shapes}")
    if not all(second):
        raise ValueError(f"{name}: the weight is empty{shapes}")
    if not is_whole(groups) or groups < 1 or second[0] % groups:
        raise ValueError(f"{name}: groups should divide the weight's {second[0]} rows, and be at least 1, got {groups}"
                         f"{shapes}")
    return first[1], first[2], second[2], shapes


def _check_bias(name: str, bias: Any, channels: int, shapes: str) -> None:
    if bias is not None and shape_of(name, bias) != (channels,):
        raise ValueError(f"{name}: bias has shape {bias.shape}, expected ({channels},){shapes}")
