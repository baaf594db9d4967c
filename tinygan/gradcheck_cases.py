"""One small example of every differentiable op, for `tinygan gradcheck`."""
from __future__ import annotations

__all__ = ["cases"]

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from tinygan import nn, ops
from tinygan.random import Key

Case = tuple[str, Callable[..., Any], Sequence[Any]]


def cases() -> Iterator[Case]:
    """(name, function, inputs) of every example. The inputs are not near kinks or poles."""
    key = Key(0)
    a, b = key.fold("a").normal((3, 4), np.float64), key.fold("b").normal((3, 4), np.float64)
    positive = np.abs(a) + 0.5
    away = a + 0.2 * np.sign(a)  # no element is near 0, where abs and relu have a kink
    labels = np.array([0, 2, 3])
    for name in ("exp", "sin", "cos", "tanh", "sigmoid", "softplus", "silu", "gelu", "neg"):
        yield name, getattr(ops, name), [a]
    yield "gelu, tanh", partial(ops.gelu, approximate="tanh"), [a]
    yield "prelu", ops.prelu, [away, b[0]]
    for name in ("log", "log1p", "sqrt"):
        yield name, getattr(ops, name), [positive]
    for name in ("abs", "relu", "leaky_relu", "elu"):
        yield name, getattr(ops, name), [away]
    for name in ("add", "sub", "mul", "maximum", "minimum", "mean_squared_error", "mean_absolute_error"):
        yield name, getattr(ops, name), [a, b]
    yield "add, broadcast", ops.add, [a, b[:1]]
    yield "div", ops.div, [a, positive]
    yield "pow", ops.pow, [positive, b]
    yield "pow, whole exponents", lambda x: ops.add(ops.pow(x, 3), ops.pow(x, np.array([0.0, 1.0, 2.0, -1.0]))), [away]
    for name in ("sign", "floor", "ceil", "round"):
        yield name, getattr(ops, name), [np.floor(a) + 0.3]  # not near the steps
    yield "clip", lambda x: ops.clip(x, -0.1, 0.9), [away]
    yield "where", lambda x, y: ops.where(a > 0, x, y), [a, b]
    for name in ("sum", "mean", "var", "std", "norm", "prod", "max", "min", "logsumexp", "softmax", "log_softmax"):
        yield name, partial(getattr(ops, name), axis=1), [a]
    zeros = a.copy()
    zeros[0, 1] = zeros[1, 1:3] = 0.0
    yield "prod, with zeros", partial(ops.prod, axis=1), [zeros]
    yield "cumsum", lambda x: ops.mul(ops.cumsum(x, 0), ops.cumsum(x, 1)), [a]
    yield "reshape, transpose", lambda x: ops.transpose(ops.reshape(x, (2, 6))), [a]
    yield "flatten", lambda x: ops.exp(ops.flatten(x)), [a]
    yield "broadcast_to", lambda x: ops.broadcast_to(x, (2, 3, 4)), [a]
    yield "expand_dims, squeeze", lambda x: ops.mul(ops.squeeze(ops.expand_dims(x, 1), 1), x), [a]
    yield "concatenate, stack, split", _joined, [a, b]
    yield "flip, pad", lambda x: ops.mul(ops.pad(ops.flip(x, 0), ((1, 0), (0, 1))), 2.0), [a]
    for mode in ("reflect", "replicate", "circular"):
        yield f"pad, {mode}", lambda x, mode=mode: ops.exp(ops.pad(x, ((1, 2), (0, 2)), mode=mode)), [a]
    yield "getitem, repeated indices", lambda x: ops.mul(ops.getitem(x, labels[[0, 0, 1]]), 2.0), [a]
    yield "gather", lambda x: ops.exp(ops.gather(x, 1, np.array([[0, 0, 2], [3, 3, 3]]))), [a]
    yield "tril, triu", lambda x: ops.mul(ops.tril(x), ops.exp(ops.triu(x, -1))), [a]
    yield "embedding", lambda x: ops.embedding(x, np.array([[0, 2], [2, 2]])), [a]
    yield "matmul", ops.matmul, [a, b.T]
    yield "einsum", lambda x, y: ops.einsum("ij,kj->ik", x, y), [a, b]
    yield "dense, leaky_relu", lambda x, w, c: ops.dense(x, w, c, "leaky_relu"), [a, b[:2], b[2, :2]]
    yield from _of_images(key, b[0])
    yield "batch_norm", ops.batch_norm, [a, positive[0], b[0]]
    yield "layer_norm", ops.layer_norm, [a, positive[0], b[0]]
    yield "group_norm", lambda x, w, c: ops.group_norm(x, 2, w, c), [a, positive[0], b[0]]
    yield "minibatch_std", partial(ops.minibatch_std, group_size=3), [a]
    yield "dropout", lambda x: ops.mul(ops.dropout(x, 0.5), x), [a]
    yield "cross-entropy with logits", lambda x: ops.binary_cross_entropy_with_logits(x, 0.9), [a]
    yield "softmax cross-entropy", lambda x: ops.softmax_cross_entropy(x, labels), [a]
    yield "cross-entropy with logits, weights", lambda x, t, w: ops.binary_cross_entropy_with_logits(
        x, t, w, "none", pos_weight=1.5), [a, 1 / (1 + np.exp(-b)), positive]
    yield "softmax cross-entropy, weights, smoothed", lambda x, w: ops.softmax_cross_entropy(
        x, labels, w, label_smoothing=0.1), [a, positive[0]]
    network = nn.Sequential(nn.Dense(4, 5), nn.LeakyReLU(0.2), nn.Dense(5, 1))
    names, parameters = zip(*network.named_parameters(), strict=True)
    weights = [key.fold(name).normal(parameter.shape, np.float64) for name, parameter in zip(names, parameters, strict=True)]
    yield "a network and its weights", partial(_call, network, names), [a, *weights]


def _of_images(key: Key, c: Any) -> Iterator[Case]:
    """The examples of images and signals. c: some numbers, for the channels."""
    images = key.fold("images").normal((2, 2, 5, 4), np.float64)
    kernels = key.fold("kernels").normal((2, 2, 3, 2), np.float64)
    yield "conv2d, tanh", partial(ops.conv2d, stride=2, padding=1, activation="tanh"), [images, kernels, c[:2]]
    yield "conv2d, groups, dilation", partial(ops.conv2d, groups=2, dilation=(1, 2)), [images, kernels[:, :1]]
    yield "conv_transpose2d", partial(ops.conv_transpose2d, stride=2, padding=1, output_padding=(1, 0)), [
        images, kernels, c[:2]]
    yield "conv2d_weight_grad", partial(ops.conv2d_weight_grad, kernel_size=(4, 2), stride=(1, 2)), [
        images, images[:, :1, :2, :2]]
    signals, taps = images[0], key.fold("taps").normal((5, 3, 2), np.float64)
    yield "conv1d", partial(ops.conv1d, stride=2, padding=1), [signals, taps.transpose(1, 0, 2), c[:3]]
    yield "conv_transpose1d", partial(ops.conv_transpose1d, stride=2, output_padding=1), [signals, taps, c[:3]]
    yield "pixel_shuffle", lambda x: ops.exp(ops.pixel_shuffle(ops.reshape(x, (1, 4, 5, 2)), 2)), [images[:1]]
    yield "pixel_unshuffle", lambda x: ops.exp(ops.pixel_unshuffle(x, 2)), [images[:, :, :4]]
    yield "max_pool2d", lambda x: ops.mul(ops.max_pool2d(x, 2), 2.0), [images]
    yield "avg_pool2d", partial(ops.avg_pool2d, kernel_size=3, stride=2, padding=1), [images]
    for mode in ("nearest", "bilinear"):
        yield f"upsample, {mode}", partial(ops.upsample, size=(7, 6), mode=mode), [images]
    for mode, size in (("nearest", 2), ("bilinear", 2), ("bilinear", 0.5)):
        yield f"upsample, {mode}, times {size}", partial(ops.upsample, scale_factor=size, mode=mode), [images]
    yield "instance_norm", ops.instance_norm, [images, c[:2], c[2:]]
    yield "pixel_norm", ops.pixel_norm, [images]


def _call(network: nn.Module, names: Sequence[str], x: Any, *weights: Any) -> Any:
    return nn.functional_call(network, dict(zip(names, weights, strict=True)), x)


def _joined(x: Any, y: Any) -> Any:
    first, second = ops.split(ops.concatenate([x, y], axis=0), 2)
    return ops.mul(ops.stack([first, second]), ops.stack([second, first]))
