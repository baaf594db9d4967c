"""Which consecutive layers run as one fused op.

A Sequential looks up its sequence of layers' kinds here, once per sequence. To fuse another pair, add a row to TABLE with
the function that computes it.
"""
from __future__ import annotations

__all__ = ["TABLE", "Row"]

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

from tinygan import ops
from tinygan.fusion.batch_norm import measured_batch_norm
from tinygan.fusion.conv import Measured, measured_convolution, measured_transposed_convolution
from tinygan.nn.activations import Activation
from tinygan.nn.conv import Conv2d, ConvTranspose2d
from tinygan.nn.layers import Dense
from tinygan.nn.located import is_located, locate
from tinygan.nn.module import Module
from tinygan.nn.normalization import BatchNorm
from tinygan.nn.sequential import in_turn
from tinygan.nn.spectral import SpectralNorm
from tinygan.ops.conv_geometry import conv2d_geometry, conv_transpose2d_geometry

IDENTITY = Activation("identity")


# A layer and the activation after it


def dense(x: Any, layer: Any, activation: Activation) -> Any:
    """The activation is applied in the pass that adds the bias."""
    return ops.dense(x, layer.weight, layer.bias, activation.name, activation.slope)


def conv2d(x: Any, layer: Any, activation: Activation) -> Any:
    """As `dense`."""
    return ops.conv2d(x, layer.weight, layer.bias, layer.stride, layer.padding, layer.dilation, layer.groups,
                      activation.name, activation.slope)


def conv_transpose2d(x: Any, layer: Any, activation: Activation) -> Any:
    """As `dense`."""
    return ops.conv_transpose2d(x, layer.weight, layer.bias, layer.stride, layer.padding, layer.output_padding,
                                layer.groups, layer.dilation, activation.name, activation.slope)


def batch_norm(x: Any, layer: Any, activation: Activation) -> Any:
    """The activation is applied in the pass that normalises. In evaluation mode there is no such op."""
    if not layer.training:
        return activation(layer.forward(x))
    y, mean, variance = ops.batch_norm_with_statistics(x, layer.weight, layer.bias, layer.eps, activation.name,
                                                       activation.slope)
    layer.track(mean, variance, x.size // x.shape[1])
    return y


def spectral_norm(x: Any, layer: Any, activation: Activation) -> Any:
    """As the layer that it wraps."""
    inner = layer.normalized()
    (row, *_), *rest = plan((kind_of(inner), kind_of(activation)))
    return activation(inner.forward(x)) if rest or row is None else row.run(x, inner, activation)


# A convolution and the batch norm after it


def conv2d_batch_norm(x: Any, layer: Any, norm: Any, activation: Activation = IDENTITY) -> Any:
    """The convolution measures the statistics of its result too, which saves batch norm a pass over it."""
    if not norm.training:
        return activation(norm(layer.forward(x)))
    x, geometry = conv2d_geometry(x, layer.weight, layer.bias, layer.stride, layer.padding, layer.dilation, layer.groups)
    return _normalized(measured_convolution(x, layer.weight, layer.bias, geometry), norm, activation)


def conv_transpose2d_batch_norm(x: Any, layer: Any, norm: Any, activation: Activation = IDENTITY) -> Any:
    """As `conv2d_batch_norm`."""
    if not norm.training:
        return activation(norm(layer.forward(x)))
    geometry = conv_transpose2d_geometry(x, layer.weight, layer.bias, layer.stride, layer.padding, layer.output_padding,
                                         layer.groups, layer.dilation)
    return _normalized(measured_transposed_convolution(x, layer.weight, layer.bias, geometry), norm, activation)


def _normalized(measured: Measured, norm: Any, activation: Activation) -> Any:
    x, mean, variance = measured
    try:
        y = measured_batch_norm(x, norm.weight, norm.bias, norm.eps, (mean, variance), activation.name, activation.slope)
    except (ValueError, TypeError, IndexError) as error:
        locate(error, norm, (x,))
        raise
    norm.track(mean, variance, x.size // x.shape[1])
    return y


class Row(NamedTuple):
    """Consecutive layers of these classes are computed by `run(x, *layers)`."""

    layers: tuple[type[Module], ...]
    run: Callable[..., Any]


TABLE = (
    Row((Conv2d, BatchNorm, Activation), conv2d_batch_norm),
    Row((ConvTranspose2d, BatchNorm, Activation), conv_transpose2d_batch_norm),
    Row((Conv2d, BatchNorm), conv2d_batch_norm),
    Row((ConvTranspose2d, BatchNorm), conv_transpose2d_batch_norm),
    Row((Dense, Activation), dense),
    Row((Conv2d, Activation), conv2d),
    Row((ConvTranspose2d, Activation), conv_transpose2d),
    Row((BatchNorm, Activation), batch_norm),
    Row((SpectralNorm, Activation), spectral_norm),
)
"""The first row that fits is taken. (`networks.as_function` can make a whole network of dense layers one op.)"""

Step = tuple[Row | None, int, int]


Kind = type[Module] | None
"""What a layer computes: what layers of that class do, which stands in TABLE. None: something else."""

_CALL = Module.__call__
_KINDS: dict[Any, Kind] = {kind.forward: kind for row in TABLE for kind in row.layers}


def kind_of(layer: Module) -> Kind:
    """The layer's kind. A layer or a class with a `forward` of its own has none, nor has one whose functions were replaced,
    by a profiler, say: such a layer runs by itself."""
    kind = type(layer)
    return None if "forward" in layer.__dict__ or kind.__call__ is not _CALL else _KINDS.get(kind.forward)


@lru_cache(1024)
def plan(kinds: tuple[Kind, ...]) -> tuple[Step, ...]:
    """The steps that compute layers of these kinds. A step is (row, first, end): `row` computes layers[first:end]. If row is
    None, the layer runs by itself."""
    steps: list[Step] = []
    first = 0
    while first < len(kinds):
        row = next((row for row in TABLE if row.layers == kinds[first:first + len(row.layers)]), None)
        end = first + (1 if row is None else len(row.layers))
        steps.append((row, first, end))
        first = end
    return tuple(steps)


@in_turn.fused
def _(layers: tuple[Module, ...], x: Any) -> Any:
    for row, first, end in plan(tuple([kind_of(layer) for layer in layers])):
        if row is None:
            x = layers[first](x)
            continue
        try:
            x = row.run(x, *layers[first:end])
        except (ValueError, TypeError, IndexError) as error:
            if not is_located(error):
                locate(error, layers[first], (x,))
            raise
    return x
