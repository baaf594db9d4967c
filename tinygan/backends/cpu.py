"""The CPU backend: NumPy, and the compiled kernels where arrays are large enough for them to matter.

Every function takes arrays of one floating-point dtype, returns a new one (or `out`), and is bound by the ops' own
checks of shapes and dtypes.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy as xp

from tinygan.kernels import exponentials
from tinygan.kernels.activations import CODES, FUSED
from tinygan.kernels.cpu.batchnorm import small as batchnorm
from tinygan.kernels.cpu.conv import im2col
from tinygan.kernels.cpu.runtime.loading import loaded
from tinygan.kernels.cpu.runtime.workspace import SMALL as REUSED
from tinygan.kernels.cpu.runtime.workspace import empty

name = "cpu"
array_type = np.ndarray
Array = np.ndarray[Any, Any]

LARGE = 4096  # elements, or 64 times as many multiplications, from which the compiled kernels are faster than NumPy
FEW = 32  # numbers of which something costly is to be made, likewise (even fewer would not be slower, but need no compiler)
GROUP = 128  # numbers that are added one after another, at most
THIN = 4  # columns of the left matrix, up to which a product has a kernel of its own

__all__ = ["activation", "activation_grad", "adam", "adam_grad", "add", "add_at", "array_type", "asarray", "batch_norm",
           "batch_norm_input_grad", "batch_norm_input_grad_vjp", "batch_norm_statistics", "batch_norm_sums",
           "batch_norm_sums_vjp", "bce_with_logits", "bce_with_logits_curvature", "bce_with_logits_grad", "channels_last",
           "conv2d", "conv2d_input_grad", "conv2d_weight_grad", "dense", "dense_parameter_grads", "empty", "feed",
           "log_softmax", "logsumexp", "matmul", "mean", "minibatch_similarity", "minibatch_similarity_grad",
           "minibatch_similarity_second", "mlp", "mlp_grad", "mlp_second", "multiply", "name", "random_bits",
           "random_normal", "random_uniform", "reshape", "rmsprop", "sgd", "softmax", "subtract", "sum", "sums_along",
           "to_numpy", "xp"]


def _native() -> Any:
    return loaded("tinygan.kernels.cpu.native")


def _convolution() -> Any:
    return loaded("tinygan.kernels.cpu.conv.compiled")


def to_numpy(array: Array) -> Array:
    """The array in the CPU's memory."""
    return np.asarray(array)


def asarray(array: Any) -> Array:
    """The array in this backend's memory."""
    return np.asarray(array)


def feed(value: Array | Callable[[], Array]) -> Array:
    """A small array of the host, or what a function makes of the host's state."""
    return value() if callable(value) else value


# Layouts


def channels_last(x: Array) -> Array:
    """(N, C, ...) -> (N, ..., C), C-contiguous: the same memory if it lies so."""
    last = x.transpose(0, 2, 3, 1) if x.ndim == 4 else np.moveaxis(x, 1, -1)
    if last.flags.c_contiguous:
        return last
    if x.size > LARGE and x.flags.c_contiguous:
        return _native().transposed(x.reshape(*x.shape[:2], -1)).reshape(last.shape)
    return np.ascontiguousarray(last)


def reshape(x: Array, shape: tuple[int, ...]) -> Array:
    """The elements in row-major order under another shape: a view where that can be. But a large batch of vectors becomes
    images that lie channels-last, as the kernels want them, and that is a copy."""
    if x.size <= LARGE or x.dtype.kind != "f":  # labels have shapes, too
        return x.reshape(shape)
    if x.ndim == 2 and len(shape) == 4 and x.shape[0] == shape[0] and shape[1] > 1 and x.flags.c_contiguous:
        images = _native().transposed(x.reshape(*shape[:2], -1))
        return images.reshape(shape[0], *shape[2:], shape[1]).transpose(0, 3, 1, 2)
    if x.ndim == 4 and not x.flags.c_contiguous and x.transpose(0, 2, 3, 1).flags.c_contiguous:
        rows = x.transpose(0, 2, 3, 1).reshape(x.shape[0], -1, x.shape[1])
        return _native().transposed(rows).reshape(shape)
    return x.reshape(shape)


# Sums and products of elements


def _binary(ufunc: Any) -> Callable[[Any, Any], Array]:
    """The NumPy function; large arrays of one shape give memory that is used again."""
    def compute(a: Any, b: Any) -> Array:
        if type(a) is np.ndarray and a.nbytes >= REUSED and (
                type(b) is float or (type(b) is np.ndarray and a.strides == b.strides and a.shape == b.shape
                                     and a.dtype is b.dtype)) and _is_dense(a):
            return ufunc(a, b, out=_empty_like(a))
        return ufunc(a, b)

    return compute


add = _binary(np.add)
subtract = _binary(np.subtract)
multiply = _binary(np.multiply)


# Sums over axes


def sum(x: Array, axis: Any, keepdims: bool) -> Array:
    """The sum over the axes, a tuple (None: all). NumPy adds pairwise along contiguous axes. Along others it adds one number
    after another, which loses digits, in float32 as many as 1e-7 times their count: of more than GROUP, `_total` adds."""
    reduce: Any = np.add.reduce  # np.sum checks more, at three times the cost of a small sum
    if x.size <= GROUP or not _is_sequential(x, axis):
        return reduce(x, axis, keepdims=keepdims)
    if axis is not None and x.ndim - 1 in axis and x.flags.c_contiguous:  # first the axes along which it adds pairwise
        inner = x.ndim - 1
        while inner - 1 in axis:
            inner -= 1
        parts, outer = reduce(x, tuple(range(inner, x.ndim))), tuple([i for i in axis if i < inner])
        y = _total(parts, outer, keepdims).astype(x.dtype, copy=False)
        return y.reshape(*y.shape, *[1] * (x.ndim - inner)) if keepdims else y
    return _total(x, axis, keepdims).astype(x.dtype, copy=False)


def mean(x: Array, axis: Any, keepdims: bool) -> Array:
    """The mean over the axes, of which there is something; that of equal float32 numbers is exactly their value."""
    total = _total(x, axis, keepdims)
    return (total / (x.size // total.size if total.size else 1)).astype(x.dtype, copy=False)


def _is_sequential(x: Array, axis: Any) -> bool:
    """Whether NumPy would add more than GROUP floating-point numbers of x one after another."""
    if x.dtype.kind != "f":
        return False
    if axis is None:
        return not (_is_dense(x) or x.flags.f_contiguous)
    count = 1
    for i in axis:
        count *= x.shape[i]
    return count > GROUP and not (x.flags.c_contiguous and min(axis) == x.ndim - len(axis))


def _total(x: Array, axis: Any, keepdims: bool) -> Array:
    """The sum over the axes, a tuple (None: all), in float64."""
    reduce: Any = np.add.reduce
    axes = tuple(range(x.ndim)) if axis is None else axis
    rows = _columns(x, axes) if x.size > LARGE and axes else None
    if rows is not None:
        total = _native().column_sums(rows)
        if len(axes) == x.ndim:
            total = reduce(total, keepdims=True)
        return total.reshape([1 if i in axes else n for i, n in enumerate(x.shape) if keepdims or i not in axes])
    if x.dtype == np.float64 and x.size > GROUP:
        for i in axes:
            x = _folded(x, i)
    return reduce(x, axis, np.float64, keepdims=keepdims)


def _columns(x: Array, axes: tuple[int, ...]) -> Array | None:
    """x as a C-contiguous matrix whose columns add up to the sums over the axes, or, over all axes, to parts of it. None: x
    lies otherwise."""
    if not x.size or x.dtype not in _native().REALS or not _is_dense(x):
        return None
    if len(axes) == x.ndim:
        width = math.gcd(x.size, 1024)
        last = x if x.flags.c_contiguous else x.transpose(0, 2, 3, 1)
        return last.reshape(-1, width) if width >= 32 else None
    if not x.flags.c_contiguous:  # images that lie channels-last
        return x.transpose(0, 2, 3, 1).reshape(-1, x.shape[1]) if sorted(axes) == [0, 2, 3] else None
    return x.reshape(-1, math.prod(x.shape[len(axes):])) if max(axes) < len(axes) else None


def _folded(x: Array, axis: int) -> Array:
    """x with groups of GROUP neighbours along the axis replaced by their sums, until GROUP or fewer are left."""
    reduce: Any = np.add.reduce
    while x.shape[axis] > GROUP:
        before, n, behind = x.shape[:axis], x.shape[axis], x.shape[axis + 1:]
        whole = n // GROUP * GROUP
        cut = (slice(None),) * axis
        parts = [reduce(x[*cut, :whole].reshape(*before, n // GROUP, GROUP, *behind), axis + 1)]
        if whole < n:
            parts.append(reduce(x[*cut, whole:], axis, keepdims=True))
        x = np.concatenate(parts, axis)
    return x


def add_at(out: Array, index: Any, g: Array) -> None:
    """out[index] += g, where a place may be named several times: float32 is added in float64, in which many keep their
    digits."""
    if out.dtype != np.float32 or g.size <= GROUP:
        np.add.at(out, index, g)
    else:
        wide = np.zeros(out.shape)
        np.add.at(wide, index, g.astype(np.float64))  # (of two dtypes it would take five times as long)
        out += wide


def sums_along(g: Array, index: Array, axis: int, count: int) -> Array:
    """The adjoint of `take_along_axis`: (outer, count, inner), where along the middle axis element j is the sum of those of
    g that `index`, of g's shape, says j for. In float64 on the way, and in the order in which they lie."""
    outer, inner = math.prod(g.shape[:axis]), math.prod(g.shape[axis + 1:])
    blocks = index.reshape(outer, index.shape[axis], inner)
    places = (np.arange(outer)[:, None, None] * count + blocks) * inner + np.arange(inner)
    sums = np.bincount(places.reshape(-1), g.reshape(-1), outer * count * inner)
    return sums.astype(g.dtype).reshape(outer, count, inner)


softmax = partial(exponentials.softmax, np)
log_softmax = partial(exponentials.log_softmax, np)
logsumexp = partial(exponentials.logsumexp, np)


# Matrix products


def matmul(a: Array, b: Array, out: Array | None = None) -> Array:
    """a @ b, leading axes broadcast."""
    if a.ndim == 2 and b.ndim == 2 and (out is None or out.flags.c_contiguous):
        if _is_thin(a, b.shape[1]):
            return _native().thin_product(a, b, out)
        if a.size * b.shape[1] > 64 * LARGE:
            return _native().product(a, b, out)
        if a.shape[1] == 1:  # an outer product, for which NumPy takes four times as long
            return np.multiply(a, b, out=out)
    return np.matmul(a, b, out=out)


def _is_thin(a: Array, columns: int) -> bool:
    """Whether a (N, few), times a matrix of so many columns, is a large product of few multiplications an element."""
    return 0 < a.shape[1] <= THIN and columns >= 4 * THIN and a.shape[0] * columns > LARGE


def dense(x: Array, weight: Array, bias: Array, activation_name: str, slope: float, out: Array | None = None) -> Array:
    """activation(x @ weight.T + bias): x (N, in), weight (out, in), bias (out,) -> (N, out)."""
    fused = FUSED.get(activation_name)
    if _is_thin(x, weight.shape[0]) and (out is None or out.flags.c_contiguous):
        y = _native().thin_product(x, weight.T, out, bias, fused or 0, slope)
    elif x.size * weight.shape[0] > 64 * LARGE and (out is None or out.flags.c_contiguous):
        if weight.shape[0] <= _native().NARROW:
            y, fused = _native().product(x, weight.T, out), 0
            y += bias
        else:
            y = _native().product(x, weight.T, out, bias, fused or 0, slope)
    else:
        y = np.matmul(x, weight.T, out=out)
        y += bias
        fused = 0
    if fused is None or (fused == 0 and activation_name != "identity"):
        activation(y, activation_name, slope, out=y)
    return y


def dense_parameter_grads(x: Array, y: Array) -> Array:
    """y.T @ x and the sums of y's columns, one after the other: x (N, in), y (N, out) -> (out * in + out,). (Whoever keeps
    one keeps the memory of both.)"""
    both = empty((y.shape[1] * (x.shape[1] + 1),), y.dtype)
    weight, bias = both[:y.shape[1] * x.shape[1]], both[y.shape[1] * x.shape[1]:]
    matmul(y.T, x, out=weight.reshape(y.shape[1], x.shape[1]))
    if y.size > LARGE and y.flags.c_contiguous:
        bias[...] = _native().column_sums(y)
    elif len(y) > GROUP:
        bias[...] = sum(y, (0,), False)
    else:
        np.add.reduce(y, 0, out=bias)
    return both


# A multilayer perceptron, all weights in one array; `layers` are `fusion.MLPLayer`s


def mlp(x: Array, weights: Array, layers: Any) -> Array:
    """x (N, in) through dense layers and activations: (N, out)."""
    return _native().multilayer("forward", x, weights, layers, True, (False, False)).reshape(len(x), -1)


def mlp_grad(g: Array, x: Array, weights: Array, layers: Any, by: tuple[bool, bool]) -> Array:
    """For g (N, out), the gradients `by` x and by the weights, one behind the other."""
    return _native().multilayer("gradient", x, weights, layers, False, by, g)


def mlp_second(h: Array, g: Array, x: Array, weights: Array, layers: Any, by: tuple[bool, bool]) -> Array:
    """The gradients of the inner product of h and `mlp_grad` by g, x and the weights, one behind the other."""
    return _native().multilayer("second", x, weights, layers, True, (True, True), g, h, by)


# Convolutions: `g` is their Geometry


def conv2d(x: Array, weight: Array, g: Any, bias: Array | None = None, activation_name: str = "identity", slope: float = 0.0,
           statistics: Any = None) -> Array:
    """activation(x * weight + bias): (N, C, H, W), (K, C / groups, kH, kW), (K,) -> (N, K, OH, OW). statistics: where to
    write the mean and the biased variance of each channel of the result, which has no activation then."""
    if not _is_large(x.shape[0], weight.size, g):
        return _finished(im2col.conv2d(x, weight, g), bias, activation_name, slope, statistics)
    fused = None if bias is None else FUSED.get(activation_name)
    y = _convolution().conv2d(channels_last(x), weight, g, bias, fused or 0, slope)
    return _finished(y.transpose(0, 3, 1, 2), None, "identity" if fused is not None else activation_name, slope, statistics)


def conv2d_input_grad(y: Array, weight: Array, g: Any, bias: Array | None = None, activation_name: str = "identity",
                      slope: float = 0.0, statistics: Any = None) -> Array:
    """The adjoint in x, with bias, activation and statistics: (N, K, OH, OW), (K, C / groups, kH, kW), (C,) ->
    (N, C, H, W)."""
    if _is_large(y.shape[0], weight.size, g):
        x = _convolution().conv2d_input_grad(channels_last(y), weight, g, bias).transpose(0, 3, 1, 2)
        bias = None
    else:
        x = im2col.conv2d_input_grad(y, weight, g)
    return _finished(x, bias, activation_name, slope, statistics)


def conv2d_weight_grad(x: Array, y: Array, g: Any) -> Array:
    """The adjoint in weight: (N, C, H, W), (N, K, OH, OW) -> (K, C / groups, kH, kW)."""
    size = y.shape[1] * x.shape[1] // g.groups * g.kernel[0] * g.kernel[1]
    if _is_large(x.shape[0], size, g):
        return _convolution().conv2d_weight_grad(channels_last(x), channels_last(y), g)
    return im2col.conv2d_weight_grad(x, y, g)


def _is_large(images: int, weight_size: int, g: Any) -> bool:
    """Whether a group, which is a convolution of its own to the compiled kernels, is worth them."""
    return images * g.output[0] * g.output[1] * (weight_size // g.groups) > 64 * LARGE


def _finished(y: Array, bias: Array | None, activation_name: str, slope: float, statistics: Any) -> Array:
    if bias is not None:
        y += bias[:, None, None]
    if statistics is not None:
        batch_norm_statistics(y, *statistics)
    return y if activation_name == "identity" else activation(y, activation_name, slope, out=y)


# Activations


def _is_dense(x: Array) -> bool:
    """Whether the elements fill one piece of memory, row-major or channels-last."""
    return x.flags.c_contiguous or (x.ndim == 4 and x.transpose(0, 2, 3, 1).flags.c_contiguous)


def _empty_like(x: Array) -> Array:
    """Memory for as many elements in the same order."""
    if x.flags.c_contiguous:
        return empty(x.shape, x.dtype)
    n, c, height, width = x.shape
    return empty((n, height, width, c), x.dtype).transpose(0, 3, 1, 2)


def _softplus(x: Array, slope: float, out: Array | None) -> Array:
    return np.add(np.maximum(x, 0), np.log1p(np.exp(-np.abs(x))), out=out)  # nothing overflows


def _sigmoid(x: Array, slope: float = 0.0, out: Array | None = None) -> Array:
    tail = np.exp(-np.abs(x))  # nothing overflows, and a small tail survives
    return np.divide(np.where(x < 0, tail, 1), 1 + tail, out=out)


def _leaky_relu(x: Array, slope: float, out: Array | None) -> Array:
    return np.multiply(x, np.where(x > 0, x.dtype.type(1), x.dtype.type(slope)), out=out)


def _elu(x: Array, slope: float, out: Array | None) -> Array:
    return np.add(np.maximum(x, 0), slope * np.expm1(np.minimum(x, 0)), out=out)


_IN_NUMPY: dict[str, Callable[[Array, float, Array | None], Array]] = {
    "identity": lambda x, slope, out: np.positive(x, out=out),
    "relu": lambda x, slope, out: np.maximum(x, 0, out=out),
    "leaky_relu": _leaky_relu,
    "elu": _elu,
    "tanh": lambda x, slope, out: np.tanh(x, out=out),
    "sigmoid": _sigmoid,
    "softplus": _softplus,
}


def activation(x: Array, activation_name: str, slope: float, out: Array | None = None) -> Array:
    """The activation of that name; leaky_relu and elu use `slope`."""
    compiled = activation_name in ("relu", "leaky_relu", "sigmoid") or (activation_name == "tanh" and x.dtype == np.float32)
    if x.size > (FEW if activation_name == "sigmoid" else LARGE) and compiled and _is_dense(x):
        if out is None:
            out = _empty_like(x)
        if out.strides == x.strides:
            return _native().activation_forward(x, CODES[activation_name], slope, out)
    return _IN_NUMPY[activation_name](x, slope, out)


def activation_grad(g: Array, x: Array, activation_name: str, slope: float, out: Array | None = None) -> Array:
    """g times the activation's slope at x. (Of those in FUSED, the result tells it as well as x does.)"""
    kind = g.dtype.type
    if g.size > (LARGE if activation_name in FUSED else FEW) and activation_name != "identity" and _is_dense(x):
        if out is None:
            out = _empty_like(x)
        if out.strides == x.strides:
            if g.strides != x.strides:
                aligned = _empty_like(x)
                aligned[...] = g
                g = aligned
            return _native().activation_backward(g, x, CODES[activation_name], slope, out)
    if activation_name == "tanh":
        slopes = 4 * _sigmoid_slope(2 * x)
    elif activation_name == "sigmoid":
        slopes = _sigmoid_slope(x)
    elif activation_name == "softplus":
        slopes = _sigmoid(x)
    elif activation_name == "elu":
        slopes = np.where(x > 0, kind(1), kind(slope) * np.exp(np.minimum(x, 0)))
    else:
        slopes = np.where(x > 0, kind(1), kind({"relu": 0.0, "leaky_relu": slope, "identity": 1.0}[activation_name]))
    return np.multiply(g, slopes, out=out)


def _sigmoid_slope(x: Array) -> Array:
    tails = np.exp(-np.abs(x))
    return tails / (1 + tails) ** 2  # (p (1 - p) would lose a small 1 - p)


# Losses


def bce_with_logits(logits: Array, targets: Any) -> Array:
    """mean(softplus(logits) - targets * logits) = mean(t |logits| + log(1 + exp(-|logits|))), where t is the target of a
    negative logit and 1 - target of another; t = 0 leaves nothing even of an infinite logit."""
    if logits.size > FEW:
        return _native().bce_with_logits(logits, targets)
    targets, sizes = np.asarray(targets, logits.dtype), np.abs(logits)
    factors = np.where(logits < 0, targets, 1 - targets)
    return np.mean(np.where(factors == 0, 0, sizes) * factors + np.log1p(np.exp(-sizes)))


def bce_with_logits_grad(g: Array, logits: Array, targets: Any) -> Array:
    """g * (sigmoid(logits) - targets) / size; g is one number."""
    if logits.size > FEW:
        return _native().bce_with_logits_grad(g, logits, targets)
    # (1 - targets) * sigmoid(logits) - targets * sigmoid(-logits), where no small difference is lost
    slopes = (1 - targets) * _sigmoid(logits) - targets * _sigmoid(-logits)
    return slopes * (g / logits.dtype.type(logits.size))


def bce_with_logits_curvature(gg: Array, g: Array, logits: Array) -> Array:
    """gg * g / size * p * (1 - p), for p = sigmoid(logits); g is one number."""
    if logits.size > FEW:
        return _native().bce_with_logits_curvature(gg, g, logits)
    return gg * (g / logits.dtype.type(logits.size)) * _sigmoid_slope(logits)


# Batch normalisation of (N, C, ...), with relu, leaky_relu or the identity after it


def _rows(x: Array) -> Array:
    """(N, C, ...) -> (N * ..., C), C-contiguous: the same memory if x lies channels-last."""
    return channels_last(x).reshape(-1, x.shape[1])


def _images(rows: Array, like: Array) -> Array:
    return np.moveaxis(rows.reshape(like.shape[0], *like.shape[2:], like.shape[1]), -1, 1)


def _normalized(x: Array, weight: Array, bias: Array, eps: float, mean: Array, var: Array, activation_name: str,
                slope: float) -> tuple[Any, batchnorm.Normalized]:
    """The kernels for this size, and what they are told."""
    mean, inverse, weight, bias = map(np.ascontiguousarray, (mean, 1 / np.sqrt(var + var.dtype.type(eps)), weight, bias))
    kernels = _native() if x.size > LARGE else batchnorm
    return kernels, batchnorm.Normalized(_rows(x), mean, inverse, weight, bias, FUSED[activation_name], slope)


def batch_norm_statistics(x: Array, mean: Array, var: Array) -> None:
    """Write each channel's mean and biased variance."""
    if x.size:
        mean[...], var[...] = (_native() if x.size > LARGE else batchnorm).moments(_rows(x))


def batch_norm(x: Array, weight: Array, bias: Array, eps: float, mean: Array, var: Array, activation_name: str,
               slope: float) -> Array:
    """x normalised per channel by mean and var, scaled and shifted, and activated."""
    kernels, n = _normalized(x, weight, bias, eps, mean, var, activation_name, slope)
    return _images(kernels.batch_norm(n, empty(n.x.shape, x.dtype)), x)


def batch_norm_sums(g: Array, x: Array, *told: Any) -> Array:
    """The sums per channel of the gradient before the activation, and of that times the normalised x: (2, C). told: as
    `batch_norm` was, and so below."""
    kernels, n = _normalized(x, *told)
    return kernels.batch_norm_sums(_rows(g), n)


def batch_norm_input_grad(g: Array, x: Array, sums: Array, *told: Any) -> Array:
    """The gradient of x: weight / deviation * (g - (sums[0] + normalised x * sums[1]) / count)."""
    kernels, n = _normalized(x, *told)
    return _images(kernels.batch_norm_input_grad(_rows(g), n, sums, empty(n.x.shape, x.dtype)), x)


def batch_norm_sums_vjp(h: Array, g: Array, x: Array, sums: Array, *told: Any) -> tuple[Array, Array]:
    """The gradients of sum(h * batch_norm_sums), h (2, C), by g and x."""
    kernels, n = _normalized(x, *told)
    count, nothing, scale = len(n.x), np.zeros_like(h[0]), h[1] * n.inverse
    factors = [h[0], h[1], nothing, -scale * sums[0] / count, -scale * sums[1] / count, nothing, scale]
    rows = _rows(g)
    by_g, by_x = kernels.batch_norm_combine(rows, rows, n, np.array(factors, x.dtype))
    return _images(by_g, x), _images(by_x, x)


def batch_norm_input_grad_vjp(h: Array, g: Array, x: Array, sums: Array, *told: Any) -> tuple[Array, Array, Array, Array]:
    """The gradients of sum(h * batch_norm_input_grad), h like x, by g, x, weight and sums.

    With n = (x - mean) r, c = weight r and u = g' - (s0 + n s1) / count, g' the gradient before the activation, the result
    is c u. Through n, whose gradient is a = -c s1 / count h, and through r, whose own by x is -r^2 n / count, x gets
    r (a - mean(a) - n mean(a n)) - weight sum(h u) r^2 n / count.
    """
    kernels, n = _normalized(x, *told)
    rows, rows_h, count, r = _rows(g), _rows(h), len(n.x), n.inverse
    total, weighted, products = kernels.batch_norm_second_sums(rows_h, rows, n)
    of_u = products - (sums[0] * total + sums[1] * weighted) / count
    c, nothing = n.weight * r, np.zeros_like(r)
    of_a = -r * c * sums[1] / count
    factors = [nothing, nothing, c, -of_a * total / count, -of_a * weighted / count - n.weight * of_u * r * r / count, of_a,
               nothing]
    by_g, by_x = kernels.batch_norm_combine(rows_h, rows, n, np.array(factors, x.dtype))
    by_sums = np.array([total, weighted]) * (-c / count)
    return _images(by_g, x), _images(by_x, x), (r * of_u).astype(x.dtype), by_sums.astype(x.dtype)


# Minibatch discrimination: m (N, B, C), and s_ij = exp(-sum of |m_i - m_j|) for each of the B kernels


def _pairs(m: Array) -> tuple[Array, Array]:
    """The signs of m_i - m_j (N, N, B, C), and s_ij (N, N, B), where i is j 0."""
    difference = m[:, None] - m
    nearness = np.exp(-np.abs(difference).sum(-1))
    nearness[np.arange(len(m)), np.arange(len(m))] = 0
    return np.sign(difference), nearness


def minibatch_similarity(m: Array) -> Array:
    """The sum of s_ij over the other examples j: (N, B)."""
    if m.size * len(m) > LARGE:
        return _native().minibatch("similarity", m)[0]
    return _pairs(m)[1].sum(1)


def minibatch_similarity_grad(g: Array, m: Array) -> Array:
    """The gradient by m, for g (N, B)."""
    if m.size * len(m) > LARGE:
        return _native().minibatch("gradient", m, g)[1]
    signs, nearness = _pairs(m)
    return -np.einsum("ijb,ijbc->ibc", (g[:, None] + g) * nearness, signs)


def minibatch_similarity_second(h: Array, g: Array, m: Array) -> tuple[Array, Array]:
    """The gradients of sum(h * minibatch_similarity_grad(g, m)), by g (N, B) and by m (N, B, C)."""
    if m.size * len(m) > LARGE:
        return _native().minibatch("second", m, g, h)
    signs, nearness = _pairs(m)
    q = np.einsum("ijbc,ijbc->ijb", h[:, None] - h, signs) * nearness
    return -q.sum(1), np.einsum("ijb,ijbc->ibc", (g[:, None] + g) * q, signs)


# Optimisers: in place, over lists of arrays; `settings` are float64


def _update(rule: str, settings: Array, parameters: list[Array], gradients: list[Array], *slots: list[Array]) -> None:
    """One task for all the arrays of a dtype."""
    for dtype in {p.dtype for p in parameters}:
        rows = [i for i, p in enumerate(parameters) if p.dtype == dtype]
        lists = [[arrays[i] for i in rows] for arrays in (parameters, gradients, *slots)]
        _native().optimizer_step(rule, settings, *lists)


def adam(parameters: list[Array], gradients: list[Array], m: list[Array], v: list[Array], settings: Array) -> None:
    """settings: learning rate, beta1, beta2, eps, weight decay, decoupled, 1 - beta1^t, 1 - beta2^t."""
    _update("adam", settings, parameters, gradients, m, v)


def rmsprop(parameters: list[Array], gradients: list[Array], square: list[Array], settings: Array) -> None:
    """settings: learning rate, decay, eps, weight decay."""
    _update("rmsprop", settings, parameters, gradients, square)


def sgd(parameters: list[Array], gradients: list[Array], velocity: list[Array], settings: Array) -> None:
    """settings: learning rate, momentum, nesterov, weight decay."""
    _update("sgd", settings, parameters, gradients, velocity)


def adam_grad(g: Array, packed: Array, gradient: Array, settings: Array) -> Array:
    """The derivative of `adam` without weight decay. From the gradient g (3, N) of what it makes of parameter, m and v,
    which are packed (3, N): those of packed, and behind them that of gradient (N,): (4, N). 0 through the root of v = 0."""
    return _native().adam_backward(g, packed, gradient, settings)


# Random numbers: element i depends on the key and on i alone


def random_bits(key: Array, out: Array) -> Array:
    """Uniform uint32."""
    return _native().random_bits(key, out)


def _unit(key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
    """Uniform in [0, 1): 24 random bits for float32, 53 for float64."""
    if dtype == np.float32:
        bits = random_bits(key, np.empty(shape, np.uint32)) >> np.uint32(8)
        return bits.astype(np.float32) * np.float32(2.0**-24)
    words = random_bits(key, np.empty((*shape, 2), np.uint32)).astype(np.uint64)
    bits = (words[..., 0] << np.uint64(32) | words[..., 1]) >> np.uint64(11)
    return bits.astype(np.float64) * 2.0**-53


def random_uniform(key: Array, out: Array, low: float, high: float) -> Array:
    """Uniform in [low, high)."""
    kind = out.dtype.type
    np.multiply(_unit(key, out.shape, out.dtype), kind(high - low), out=out)
    out += kind(low)
    if high > low:
        np.minimum(out, np.nextafter(kind(high), kind(low)), out=out)  # rounding may have reached `high`
    return out


def random_normal(key: Array, out: Array) -> Array:
    """Normal with mean 0 and variance 1 (Box, Muller 1958): pairs of uniform numbers to pairs of normal ones."""
    if out.dtype == np.float32 and out.flags.c_contiguous:
        return _native().random_normal(key, out)
    kind = out.dtype.type
    pairs = _unit(key, ((out.size + 1) // 2, 2), out.dtype)
    radius = np.sqrt(kind(-2) * np.log(kind(1) - pairs[:, 0]))  # the logarithm of a number in (0, 1]
    angle = pairs[:, 1] * kind(2 * np.pi)
    normal = np.empty_like(pairs)
    np.multiply(radius, np.cos(angle), out=normal[:, 0])
    np.multiply(radius, np.sin(angle), out=normal[:, 1])
    out.reshape(-1)[...] = normal.reshape(-1)[:out.size]
    return out
