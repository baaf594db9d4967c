"""PyTorch's source text of every layer that PyTorch has too."""
from __future__ import annotations

__all__ = ["layer_source"]

from collections.abc import Callable
from typing import Any

from tinygan import nn

Rule = Callable[[Any, int], str]


def layer_source(layer: nn.Module, axes: int) -> str | None:
    """The expression that makes PyTorch's layer with the same weights by the same names; None for another kind of module.
    axes: how many axes the layer's input has."""
    if type(layer) is nn.SpectralNorm:
        inner = layer_source(layer._with(getattr(layer, layer.paths[0])), axes)
        return inner and _call("nn.utils.parametrizations.spectral_norm", inner,
                               n_power_iterations=(layer.n_power_iterations, 1), eps=(layer.eps, 1e-12))
    rule = _RULES.get(type(layer))
    return None if rule is None else rule(layer, axes)


def _call(name: str, *arguments: Any, **options: tuple[Any, Any]) -> str:
    """The text of a call. options: each a value, which is written if it is not the default beside it."""
    given = [*map(str, arguments), *[f"{key}={value!r}" for key, (value, default) in options.items() if value != default]]
    return f"{name}({', '.join(given)})"


def _dense(layer: Any, axes: int) -> str:
    outputs, inputs = layer.weight.shape
    return _call("nn.Linear", inputs, outputs, bias=(layer.bias is not None, True))


def _convolution(layer: Any, axes: int) -> str:
    name = type(layer).__name__
    first, second, *kernel = layer.weight.shape
    transposed = name.startswith("ConvTranspose")
    channels = (first, second * layer.groups) if transposed else (second * layer.groups, first)
    size = kernel[0] if len(set(kernel)) == 1 else tuple(kernel)
    extra = {"output_padding": (layer.output_padding, 0)} if transposed else {}
    return _call(f"nn.{name}", *channels, size, stride=(layer.stride, 1), padding=(layer.padding, 0), **extra,
                 dilation=(layer.dilation, 1), groups=(layer.groups, 1), bias=(layer.bias is not None, True))


def _batch_norm(layer: Any, axes: int) -> str:
    kind = {2: "1d", 3: "1d", 4: "2d", 5: "3d"}[axes]
    return _call(f"nn.BatchNorm{kind}", layer.weight.size, eps=(layer.eps, 1e-5), momentum=(layer.momentum, 0.1))


def _reshape(layer: Any, axes: int) -> str:
    unflatten = f"nn.Unflatten(1, {tuple(layer.shape)!r})"
    return unflatten if axes == 2 else f"nn.Sequential(nn.Flatten(), {unflatten})"


def _activation(layer: Any, axes: int) -> str:
    slope = layer.slope
    return {"identity": "nn.Identity()", "relu": "nn.ReLU()", "leaky_relu": f"nn.LeakyReLU({slope!r})",
            "elu": f"nn.ELU({slope!r})", "tanh": "nn.Tanh()", "sigmoid": "nn.Sigmoid()", "softplus": "nn.Softplus()",
            "silu": "nn.SiLU()", "gelu": "nn.GELU()", "gelu_tanh": "nn.GELU(approximate='tanh')"}[layer.name]


def _pooling(layer: Any, axes: int) -> str:
    extra = {"count_include_pad": (layer.count_include_pad, True)} if type(layer) is nn.AvgPool2d else {
        "dilation": (layer.dilation, 1)}
    return _call(f"nn.{type(layer).__name__}", layer.kernel_size, stride=(layer.stride, None), padding=(layer.padding, 0),
                 ceil_mode=(layer.ceil_mode, False), **extra)


def _upsample(layer: Any, axes: int) -> str:
    return _call("nn.Upsample", size=(layer.size, None), scale_factor=(layer.scale_factor, None),
                 mode=(layer.mode, "nearest"), align_corners=(layer.align_corners or None, None))


def _padding(layer: Any, axes: int) -> str:
    sides = layer.padding[0] if len(set(layer.padding)) == 1 else layer.padding
    value = [layer.value] if type(layer) in (nn.ConstantPad1d, nn.ConstantPad2d) else []
    return _call(f"nn.{type(layer).__name__}", sides, *value)


_RULES: dict[type, Rule] = {
    nn.Dense: _dense,
    **dict.fromkeys((nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d, nn.ConvTranspose2d), _convolution),
    nn.BatchNorm: _batch_norm,
    nn.LayerNorm: lambda layer, axes: _call("nn.LayerNorm", layer.weight.shape, eps=(layer.eps, 1e-5)),
    nn.GroupNorm: lambda layer, axes: _call("nn.GroupNorm", layer.groups, layer.channels, eps=(layer.eps, 1e-5),
                                            affine=(layer.weight is not None, True)),
    nn.InstanceNorm2d: lambda layer, axes: _call("nn.InstanceNorm2d", layer.channels, eps=(layer.eps, 1e-5),
                                                 affine=(layer.weight is not None, False)),
    **dict.fromkeys((nn.Activation, nn.ReLU, nn.LeakyReLU, nn.ELU, nn.SiLU, nn.GELU, nn.Tanh, nn.Sigmoid, nn.Softplus),
                    _activation),
    nn.PReLU: lambda layer, axes: _call("nn.PReLU", layer.weight.size),
    nn.Dropout: lambda layer, axes: _call("nn.Dropout", layer.rate),
    nn.Flatten: lambda layer, axes: "nn.Flatten()",
    nn.Reshape: _reshape,
    nn.Embedding: lambda layer, axes: _call("nn.Embedding", *layer.weight.shape),
    nn.MaxPool2d: _pooling,
    nn.AvgPool2d: _pooling,
    nn.Upsample: _upsample,
    **dict.fromkeys((nn.ZeroPad1d, nn.ZeroPad2d, nn.ConstantPad1d, nn.ConstantPad2d, nn.ReflectionPad1d, nn.ReflectionPad2d,
                     nn.ReplicationPad1d, nn.ReplicationPad2d, nn.CircularPad1d, nn.CircularPad2d), _padding),
    nn.PixelShuffle: lambda layer, axes: _call("nn.PixelShuffle", layer.factor),
    nn.PixelUnshuffle: lambda layer, axes: _call("nn.PixelUnshuffle", layer.factor),
}
"""By the exact class: a subclass may have a `forward` of its own."""
