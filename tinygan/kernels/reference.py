"""What every kernel computes, in plain loops over Python numbers: the oracle of the tests.

The loops are slow, and exact to float64. Results are float64 (random bits: uint32), whatever dtype the inputs have. Names
and arguments are those of `tinygan.backends.cpu`.
"""
from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tinygan.kernels.optimizer_settings import AdamSettings, RMSPropSettings, SGDSettings

Array = np.ndarray[Any, Any]


# Matrix products


def matmul(a: Array, b: Array) -> Array:
    """(n, k) @ (k, m) -> (n, m)."""
    rows, columns = a.astype(np.float64).tolist(), b.T.astype(np.float64).tolist()
    out = np.zeros((a.shape[0], b.shape[1]))
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            total = 0.0
            for x, y in zip(row, column, strict=True):
                total += x * y
            out[i, j] = total
    return out


def dense(x: Array, weight: Array, bias: Array, activation_name: str, slope: float) -> Array:
    """activation(x @ weight.T + bias): x (n, in), weight (out, in), bias (out,) -> (n, out)."""
    z = matmul(x, weight.T)
    for i in range(z.shape[0]):
        for j in range(z.shape[1]):
            z[i, j] += float(bias[j])
    return activation(z, activation_name, slope)


# Minibatch discrimination


def _pairs(m: Array) -> Iterator[tuple[int, int, int, float, list[int]]]:
    """(i, j, b, exp(-sum over c of |m_ibc - m_jbc|), the signs of the differences) for all i != j and all b."""
    values = m.astype(np.float64).tolist()
    for i, j, b in np.ndindex(len(m), len(m), m.shape[1]):
        if i != j:
            differences = [x - y for x, y in zip(values[i][b], values[j][b], strict=True)]
            yield i, j, b, math.exp(-sum(map(abs, differences))), [(d > 0) - (d < 0) for d in differences]


def minibatch_similarity(m: Array) -> Array:
    """(N, B, C) -> (N, B): for each example i, the sum of exp(-distance) over all other examples j."""
    out = np.zeros(m.shape[:2])
    for i, _, b, near, _ in _pairs(m):
        out[i, b] += near
    return out


def minibatch_similarity_grad(g: Array, m: Array) -> Array:
    """The gradient by m. A pair (i, j) contributes to the sum of i and to the sum of j."""
    out = np.zeros(m.shape)
    for i, j, b, near, signs in _pairs(m):
        for c, sign in enumerate(signs):
            out[i, b, c] -= float(g[i, b]) * near * sign
            out[j, b, c] += float(g[i, b]) * near * sign
    return out


def minibatch_similarity_second(h: Array, g: Array, m: Array) -> tuple[Array, Array]:
    """The gradients of sum(h * minibatch_similarity_grad(g, m)) by g and by m."""
    by_g, by_m = np.zeros(g.shape), np.zeros(m.shape)
    for i, j, b, near, signs in _pairs(m):
        along = sum((float(h[i, b, c]) - float(h[j, b, c])) * sign for c, sign in enumerate(signs))
        by_g[i, b] -= along * near
        for c, sign in enumerate(signs):  # the derivative of -g_i * along * near, where near' = -near * sign
            by_m[i, b, c] += float(g[i, b]) * along * near * sign
            by_m[j, b, c] -= float(g[i, b]) * along * near * sign
    return by_g, by_m


# Convolutions: the three maps add up the same products in three different places. `g` is a Geometry.

Index = tuple[int, int, int, int]


def _products(images: int, kernels: int, per_group: int, g: Any) -> Iterator[tuple[Index, Index, Index]]:
    """For every product, the indices of its factors in x (N, C, H, W) and weight (K, C / groups, kH, kW), and of its sum in
    y (N, K, OH, OW)."""
    for n, k, row, column in np.ndindex(images, kernels, *g.output):
        first = k // (kernels // g.groups) * per_group  # the first channel of this kernel's group
        for c, i, j in np.ndindex(per_group, *g.kernel):
            v = row * g.stride[0] + i * g.dilation[0] - g.padding[0]
            h = column * g.stride[1] + j * g.dilation[1] - g.padding[1]
            if 0 <= v < g.input[0] and 0 <= h < g.input[1]:
                yield (n, first + c, v, h), (k, c, i, j), (n, k, row, column)


def conv2d(x: Array, weight: Array, g: Any) -> Array:
    """(N, C, H, W), (K, C / groups, kH, kW) -> (N, K, OH, OW)."""
    y = np.zeros((x.shape[0], weight.shape[0], *g.output))
    for at_x, at_weight, at_y in _products(x.shape[0], weight.shape[0], weight.shape[1], g):
        y[at_y] += float(x[at_x]) * float(weight[at_weight])
    return y


def conv2d_input_grad(y: Array, weight: Array, g: Any) -> Array:
    """(N, K, OH, OW), (K, C / groups, kH, kW) -> (N, C, H, W)."""
    x = np.zeros((y.shape[0], weight.shape[1] * g.groups, *g.input))
    for at_x, at_weight, at_y in _products(y.shape[0], weight.shape[0], weight.shape[1], g):
        x[at_x] += float(y[at_y]) * float(weight[at_weight])
    return x


def conv2d_weight_grad(x: Array, y: Array, g: Any) -> Array:
    """(N, C, H, W), (N, K, OH, OW) -> (K, C / groups, kH, kW)."""
    weight = np.zeros((y.shape[1], x.shape[1] // g.groups, *g.kernel))
    for at_x, at_weight, at_y in _products(x.shape[0], weight.shape[0], weight.shape[1], g):
        weight[at_weight] += float(x[at_x]) * float(y[at_y])
    return weight


# Activations


def _activated(x: float, name: str, slope: float) -> float:
    if math.isnan(x) or name == "identity":
        return x
    if name == "relu":
        return x if x > 0 else 0.0
    if name == "leaky_relu":
        return x if x > 0 else slope * x
    if name == "tanh":
        return math.tanh(x)
    if name == "sigmoid":
        small = math.exp(-abs(x))
        return (1.0 if x >= 0 else small) / (1.0 + small)
    if name == "softplus":
        return max(x, 0.0) + math.log1p(math.exp(-abs(x)))
    if name == "silu":
        return x * _activated(x, "sigmoid", 0.0)
    if name == "gelu":
        return x * math.erfc(-x / math.sqrt(2)) / 2
    if name == "gelu_tanh":
        return x * _activated(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3), "sigmoid", 0.0)
    assert name == "elu"
    return x if x > 0 else slope * math.expm1(x)


def _slope_at(x: float, name: str, slope: float) -> float:
    """The slope of an activation at x."""
    if math.isnan(x):
        return x
    if name == "identity":
        return 1.0
    if name == "relu":
        return 1.0 if x > 0 else 0.0
    if name == "leaky_relu":
        return 1.0 if x > 0 else slope
    if name == "tanh":
        return 1.0 / math.cosh(x) ** 2 if abs(x) < 350 else 0.0  # (beyond that cosh^2 overflows)
    if name == "sigmoid":
        return _activated(x, "sigmoid", 0.0) * _activated(-x, "sigmoid", 0.0)
    if name == "softplus":
        return _activated(x, "sigmoid", 0.0)
    if name == "silu":
        return _activated(x, "sigmoid", 0.0) + x * _slope_at(x, "sigmoid", 0.0)
    if name == "gelu":
        return math.erfc(-x / math.sqrt(2)) / 2 + x * math.exp(-x * x / 2) / math.sqrt(2 * math.pi)
    if name == "gelu_tanh":
        inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
        inner_slope = math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x * x)
        return _activated(2 * inner, "sigmoid", 0.0) + x / 2 * _slope_at(inner, "tanh", 0.0) * inner_slope
    assert name == "elu"
    return 1.0 if x > 0 else slope * math.exp(x)


def activation(x: Array, activation_name: str, slope: float) -> Array:
    """The activation of every element."""
    return np.array([_activated(float(v), activation_name, slope) for v in x.flat], np.float64).reshape(x.shape)


def activation_grad(g: Array, x: Array, activation_name: str, slope: float) -> Array:
    """g times the activation's slope at x."""
    products = [float(a) * _slope_at(float(b), activation_name, slope) for a, b in zip(g.flat, x.flat, strict=True)]
    return np.array(products, np.float64).reshape(g.shape)


# Losses


def bce_with_logits(logits: Array, targets: Array | float) -> float:
    """mean(softplus(logits) - targets * logits)."""
    total = 0.0
    for x, t in zip(logits.flat, np.broadcast_to(targets, logits.shape).flat, strict=True):
        factor = float(t) if x < 0 else 1.0 - float(t)
        total += (factor * abs(float(x)) if factor else 0.0) + math.log1p(math.exp(-abs(float(x))))
    return total / logits.size


def bce_with_logits_grad(g: float, logits: Array, targets: Array | float) -> Array:
    """g * (sigmoid(logits) - targets) / size."""
    out = np.zeros(logits.shape)
    for i in np.ndindex(logits.shape):
        target = float(np.broadcast_to(targets, logits.shape)[i])
        p, not_p = _activated(float(logits[i]), "sigmoid", 0.0), _activated(-float(logits[i]), "sigmoid", 0.0)
        out[i] = float(g) * ((1.0 - target) * p - target * not_p) / logits.size
    return out


def bce_with_logits_curvature(gg: Array, g: float, logits: Array) -> Array:
    """gg * g * p * (1 - p) / size, for p = sigmoid(logits)."""
    out = np.zeros(logits.shape)
    for i in np.ndindex(logits.shape):
        out[i] = float(gg[i]) * float(g) * _slope_at(float(logits[i]), "sigmoid", 0.0) / logits.size
    return out


# Batch normalisation of (N, C, ...)


def _channels(x: Array) -> Iterator[tuple[int, list[tuple[int, ...]]]]:
    """(channel, the indices of its elements) for every channel."""
    for channel in range(x.shape[1]):
        yield channel, [i for i in np.ndindex(x.shape) if i[1] == channel]


def batch_norm(x: Array, weight: Array, bias: Array, eps: float) -> tuple[Array, Array, Array]:
    """(x normalised per channel, then scaled and shifted; the means; the biased variances)."""
    out, mean, var = np.zeros(x.shape), np.zeros(x.shape[1]), np.zeros(x.shape[1])
    for c, places in _channels(x):
        mean[c] = math.fsum(float(x[i]) for i in places) / len(places)
        var[c] = math.fsum((float(x[i]) - mean[c]) ** 2 for i in places) / len(places)
        for i in places:
            out[i] = (float(x[i]) - mean[c]) / math.sqrt(var[c] + eps) * float(weight[c]) + float(bias[c])
    return out, mean, var


def batch_norm_sums(g: Array, x: Array, eps: float, mean: Array, var: Array) -> Array:
    """Per channel the sum of g, and of g times the normalised x: (2, C)."""
    sums = np.zeros((2, x.shape[1]))
    for c, places in _channels(x):
        deviation = math.sqrt(float(var[c]) + eps)
        sums[0, c] = math.fsum(float(g[i]) for i in places)
        sums[1, c] = math.fsum(float(g[i]) * (float(x[i]) - float(mean[c])) / deviation for i in places)
    return sums


def batch_norm_input_grad(g: Array, x: Array, weight: Array, sums: Array, eps: float, mean: Array, var: Array) -> Array:
    """weight / deviation * (g - (sums[0] + normalised x * sums[1]) / count)."""
    out = np.zeros(x.shape)
    for c, places in _channels(x):
        deviation = math.sqrt(float(var[c]) + eps)
        for i in places:
            normalized = (float(x[i]) - float(mean[c])) / deviation
            common = (float(sums[0, c]) + normalized * float(sums[1, c])) / len(places)
            out[i] = float(weight[c]) / deviation * (float(g[i]) - common)
    return out


# Optimisers: (parameter, gradient, state ...) -> (new parameter, new state ...), for one array


def adam(p: Array, g: Array, m: Array, v: Array, s: AdamSettings) -> tuple[Array, Array, Array]:
    """Adam (Kingma, Ba 2015, algorithm 1), or AdamW (Loshchilov, Hutter 2019, algorithm 2) if decoupled."""
    p, m, v = p.astype(np.float64), m.astype(np.float64), v.astype(np.float64)
    for i in np.ndindex(p.shape):
        if s.decoupled:
            p[i] -= s.learning_rate * s.weight_decay * p[i]
        slope = float(g[i]) + (0.0 if s.decoupled else s.weight_decay * float(p[i]))
        m[i] = s.beta1 * m[i] + (1 - s.beta1) * slope
        v[i] = s.beta2 * v[i] + (1 - s.beta2) * slope * slope
        p[i] -= s.learning_rate * (m[i] / s.correction1) / (math.sqrt(v[i] / s.correction2) + s.eps)
    return p, m, v


def rmsprop(p: Array, g: Array, square: Array, s: RMSPropSettings) -> tuple[Array, Array]:
    """RMSProp (Tieleman, Hinton 2012)."""
    p, square = p.astype(np.float64), square.astype(np.float64)
    for i in np.ndindex(p.shape):
        slope = float(g[i]) + s.weight_decay * p[i]
        square[i] = s.decay * square[i] + (1 - s.decay) * slope * slope
        p[i] -= s.learning_rate * slope / (math.sqrt(square[i]) + s.eps)
    return p, square


def sgd(p: Array, g: Array, velocity: Array, s: SGDSettings) -> tuple[Array, Array]:
    """Gradient descent with momentum (Sutskever et al. 2013)."""
    p, velocity = p.astype(np.float64), velocity.astype(np.float64)
    for i in np.ndindex(p.shape):
        slope = float(g[i]) + s.weight_decay * p[i]
        velocity[i] = s.momentum * velocity[i] + slope
        p[i] -= s.learning_rate * (slope + s.momentum * velocity[i] if s.nesterov else velocity[i])
    return p, velocity


# Random numbers: element i depends only on the key and on i


def philox(counter: Sequence[int], key: Sequence[int]) -> list[int]:
    """Philox4x32-10 (Salmon et al. 2011, section 3.3): a counter of four words, a key of two -> four random words."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        product0, product1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (product1 >> 32) ^ c1 ^ k0, product1 % 2**32, (product0 >> 32) ^ c3 ^ k1, product0 % 2**32
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return [c0, c1, c2, c3]


def random_bits(key: Sequence[int], count: int) -> Array:
    """`count` random words. Word i is word i % 4 of the block with counter i // 4."""
    words: list[int] = []
    for block in range((count + 3) // 4):
        words += philox((block % 2**32, block >> 32, 0, 0), (int(key[0]), int(key[1])))
    return np.array(words[:count], np.uint32)


def _unit(key: Sequence[int], count: int, single: bool) -> list[float]:
    """Numbers in [0, 1): each from the upper 24 bits of one word (single), or from the upper 53 bits of two words."""
    if single:
        return [(int(word) >> 8) / 2**24 for word in random_bits(key, count)]
    words = [int(word) for word in random_bits(key, 2 * count)]
    return [(words[2 * i] << 32 | words[2 * i + 1]) // 2**11 / 2**53 for i in range(count)]


def random_uniform(key: Sequence[int], count: int, low: float, high: float, single: bool) -> Array:
    """Uniform numbers in [low, high). single: use the bits that a float32 array would use."""
    return np.array([low + (high - low) * u for u in _unit(key, count, single)], np.float64)


def random_normal(key: Sequence[int], count: int, single: bool) -> Array:
    """Normal numbers of mean 0 and variance 1, made in pairs (Box, Muller 1958). single: as for `random_uniform`."""
    numbers = _unit(key, 2 * ((count + 1) // 2), single)
    out = []
    for u, turn in zip(numbers[::2], numbers[1::2], strict=True):
        radius, angle = math.sqrt(-2 * math.log(1 - u)), 2 * math.pi * turn
        out += [radius * math.cos(angle), radius * math.sin(angle)]
    return np.array(out[:count], np.float64)
