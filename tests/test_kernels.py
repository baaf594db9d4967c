"""The kernels of the CPU: results against plain loops (`kernels/reference.py`), threads, the cache on disk, memory."""
import math
import os
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import share_all_tasks, use_compiled_kernels, use_pool
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numba import carray, types
from scipy import stats

import tinygan
from tinygan.backends import cpu
from tinygan.kernels import reference
from tinygan.kernels.cpu.activations import COMPILED_ABOVE
from tinygan.kernels.cpu.runtime import compiling, loading, workspace
from tinygan.kernels.cpu.runtime.arrays import pointer_to
from tinygan.kernels.cpu.runtime.pool import SHARED_FROM_ELEMENTS, Pool, core_count, pool
from tinygan.kernels.optimizer_settings import AdamSettings, RMSPropSettings, SGDSettings

FLOATS = (np.float32, np.float64)
ACTIVATIONS = ("identity", "relu", "leaky_relu", "elu", "tanh", "sigmoid", "softplus", "silu", "gelu", "gelu_tanh")
SETTINGS = {
    "adam": [
        AdamSettings(learning_rate=2e-3, beta1=0.5, beta2=0.999, eps=1e-8, weight_decay=0.0, decoupled=False, correction1=0.5, correction2=1e-3),
        AdamSettings(learning_rate=1e-2, beta1=0.9, beta2=0.99, eps=1e-6, weight_decay=0.1, decoupled=False, correction1=0.19, correction2=0.02),
        AdamSettings(learning_rate=1e-2, beta1=0.9, beta2=0.99, eps=1e-6, weight_decay=0.1, decoupled=True, correction1=0.19, correction2=0.02),
    ],
    "rmsprop": [
        RMSPropSettings(learning_rate=1e-2, decay=0.99, eps=1e-8, weight_decay=0.0),
        RMSPropSettings(learning_rate=1e-2, decay=0.9, eps=1e-6, weight_decay=0.1),
    ],
    "sgd": [
        SGDSettings(learning_rate=0.1, momentum=0.0, nesterov=False, weight_decay=0.0),
        SGDSettings(learning_rate=0.1, momentum=0.9, nesterov=False, weight_decay=0.01),
        SGDSettings(learning_rate=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    ],
}
dtypes = st.sampled_from(FLOATS)
sizes = st.integers(0, 40)
layouts = st.sampled_from(["C", "F", "strided", "reversed", "read-only"])
paths = st.sampled_from(["as it is", "compiled", "compiled, shared"])
seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=40, deadline=None)
KEY = np.array([0xA4093822, 0x299F31D0], np.uint32)


@contextmanager
def path(name):
    """Usually NumPy, or one thread, computes small arrays. In the body, compiled code or several threads may do it (name)."""
    with pytest.MonkeyPatch.context() as patch:
        if name != "as it is":
            use_compiled_kernels(patch)
        if name == "compiled, shared":
            share_all_tasks(patch)
        yield


def draw(seed, shape, dtype, layout="C"):
    """Normally distributed numbers of that shape. layout: their order in memory."""
    x = np.array(np.random.default_rng(seed).standard_normal(shape), dtype)
    if layout == "F" and x.ndim:
        return np.asfortranarray(x)
    if layout == "strided" and x.ndim:
        wide = np.full((*x.shape[:-1], 2 * x.shape[-1] + 3), np.nan, dtype)
        view = wide[..., 3::2]
        view[...] = x
        return view
    if layout == "reversed" and x.ndim:
        return np.ascontiguousarray(x[::-1])[::-1]
    if layout == "read-only":
        x.flags.writeable = False
    return x


def close(actual, expected, dtype, digits=1.0):
    """Whether the errors are at most `digits` times 32 rounding errors of the largest element."""
    assert np.asarray(actual).dtype == dtype
    assert np.shape(actual) == np.shape(expected)
    error = np.max(np.abs(np.asarray(actual, np.float64) - expected), initial=0.0)
    assert error <= 32 * digits * np.finfo(dtype).eps * np.max(np.abs(expected), initial=1e-30)


# Sums and products of elements


@pytest.mark.parametrize("name", ["add", "subtract", "multiply"])
@pytest.mark.parametrize("order", ["rows", "channels-last", "sliced", "number"])
def test_large_results_are_not_written_to_again(name, order):
    """Their memory is reused, but only when they are gone."""
    a, b = (draw(i, (8, 16, 16, 32), np.float32) for i in range(2))
    if order == "channels-last":
        a, b = a.transpose(0, 3, 1, 2), b.transpose(0, 3, 1, 2)
    elif order == "sliced":
        a, b = a[:, ::2], b[:, ::2]
    elif order == "number":
        b = 2.0
    compute = getattr(cpu, name)
    kept = [compute(a, b) for _ in range(3)]
    expected = getattr(np, name)(a, b)
    for _ in range(10):
        compute(b, a) if order != "number" else compute(a, 3.0)
    for found in kept:
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, expected)


# Matrix products


@few
@given(sizes, sizes, sizes, dtypes, layouts, layouts, paths, st.booleans(), seeds)
def test_matmul(n, k, m, dtype, layout_a, layout_b, which, into, seed):
    a, b = draw(seed, (n, k), dtype, layout_a), draw(seed + 1, (k, m), dtype, layout_b)
    out = np.full((n, m), np.nan, dtype) if into else None
    with path(which):
        c = cpu.matmul(a, b, out)
    assert out is None or c is out
    close(c, reference.matmul(a, b), dtype)


@few
@given(sizes, sizes, sizes, dtypes, layouts, layouts, paths, st.sampled_from(ACTIVATIONS), seeds)
def test_dense(n, k, m, dtype, layout_x, layout_w, which, name, seed):
    x, weight = draw(seed, (n, k), dtype, layout_x), draw(seed + 1, (m, k), dtype, layout_w)
    bias = draw(seed + 2, (m,), dtype)
    with path(which):
        y = cpu.dense(x, weight, bias, name, 0.3)
    close(y, reference.dense(x, weight, bias, name, 0.3), dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layout_a", ["C", "F"])
@pytest.mark.parametrize("layout_b", ["C", "F"])
@pytest.mark.parametrize("n, k, m", [(70, 129, 101), (49, 15, 300), (150, 1100, 90), (33, 17, 257), (13, 400, 200)])
def test_products_of_several_blocks(n, k, m, layout_a, layout_b, dtype):
    """Several strips and blocks of both matrices, and incomplete ones at their ends."""
    a, b, bias = draw(1, (n, k), dtype, layout_a), draw(2, (k, m), dtype, layout_b), draw(3, (m,), dtype)
    exact = a.astype(np.float64) @ b.astype(np.float64)
    for which in ("compiled", "compiled, shared"):
        with path(which):
            close(cpu.matmul(a, b), exact, dtype, k**0.5)
            close(cpu.dense(a, b.T, bias, "relu", 0.0), np.maximum(exact + bias, 0), dtype, k**0.5)


@few
@given(sizes, st.integers(1, 4), st.integers(16, 40), dtypes, layouts, layouts, paths, st.sampled_from(ACTIVATIONS), seeds)
def test_products_of_a_few_features(n, k, m, dtype, layout_x, layout_w, which, name, seed):
    """There is a separate kernel for them."""
    x, weight, bias = draw(seed, (n, k), dtype, layout_x), draw(seed + 1, (m, k), dtype, layout_w), draw(seed + 2, (m,), dtype)
    with path(which):
        close(cpu.dense(x, weight, bias, name, 0.3), reference.dense(x, weight, bias, name, 0.3), dtype)
        close(cpu.matmul(x, weight.T), reference.matmul(x, weight.T), dtype)


@few
@given(sizes, sizes, sizes, dtypes, layouts, layouts, paths, seeds)
def test_gradients_of_a_dense_layers_parameters(n, k, m, dtype, layout_x, layout_y, which, seed):
    x, y = draw(seed, (n, k), dtype, layout_x), draw(seed + 1, (n, m), dtype, layout_y)
    with path(which):
        both = cpu.dense_parameter_grads(x, y)
    close(both[:m * k].reshape(m, k), reference.matmul(y.T, x), dtype)
    close(both[m * k:], y.astype(np.float64).sum(0), dtype)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("n, k, m", [(128, 100, 256), (97, 1031, 131), (128, 784, 1), (1, 600, 700), (700, 1, 600),
                                     (300, 300, 17)])
def test_products_of_the_sizes_that_networks_have(n, k, m, dtype):
    """Several blocks in every direction. The oracle is the product of the same numbers in float64."""
    x, weight, g = draw(1, (n, k), dtype), draw(2, (m, k), dtype), draw(3, (n, m), dtype)
    bias = draw(4, (m,), dtype)
    wide = [a.astype(np.longdouble) for a in (x, weight, g)]
    z = (wide[0] @ wide[1].T + bias).astype(np.float64)
    close(cpu.dense(x, weight, bias, "leaky_relu", 0.2), np.where(z > 0, z, 0.2 * z), dtype)
    close(cpu.matmul(g, weight), (wide[2] @ wide[1]).astype(np.float64), dtype)
    close(cpu.matmul(g.T, x), (wide[2].T @ wide[0]).astype(np.float64), dtype)


@pytest.mark.parametrize("which", ["as it is", "compiled", "compiled, shared"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_one_bad_element_reaches_its_row_and_no_other(which, bad):
    x, weight = np.abs(draw(0, (9, 7), np.float32)), np.abs(draw(1, (20, 7), np.float32))
    x[4, 3] = bad
    with path(which):
        y = cpu.dense(x, weight, np.zeros(20, np.float32), "identity", 0.0)
    assert np.array_equal(np.isfinite(y).all(axis=1), np.arange(9) != 4)
    assert not np.isfinite(y[4]).any()


def test_matmul_of_more_axes_broadcasts():
    a, b = draw(0, (5, 1, 3, 4), np.float64), draw(1, (2, 4, 6), np.float64)
    c = cpu.matmul(a, b)
    for i in range(5):
        for j in range(2):
            close(c[i, j], reference.matmul(a[i, 0], b[j]), np.float64)


# Activations


@few
@given(st.lists(st.integers(0, 7), max_size=3), dtypes, layouts, layouts, paths, st.sampled_from(ACTIVATIONS), seeds)
def test_activation_and_its_gradient(shape, dtype, layout, layout_g, which, name, seed):
    x, g = draw(seed, shape, dtype, layout), draw(seed + 1, shape, dtype, layout_g)
    with path(which if shape else "as it is"):  # compiled code never gets arrays without axes
        y = cpu.activation(x, name, 0.3)
        gx = cpu.activation_grad(g, x, name, 0.3)
    close(y, reference.activation(x, name, 0.3), dtype)
    close(gx, reference.activation_grad(g, x, name, 0.3), dtype)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("size", [COMPILED_ABOVE, COMPILED_ABOVE + 1, SHARED_FROM_ELEMENTS + 17])
def test_activation_on_both_sides_of_the_thresholds(size, name, dtype):
    x, g = 3 * draw(0, (size,), dtype), draw(1, (size,), dtype)
    y = cpu.activation(x, name, 0.3)
    close(y, reference.activation(x, name, 0.3), dtype)
    close(cpu.activation_grad(g, x, name, 0.3), reference.activation_grad(g, x, name, 0.3), dtype)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("which", ["as it is", "compiled"])
def test_activation_of_extremes(which, name, dtype):
    x = np.array([np.nan, 0.0, 1e4, -1e4, 100, -100], dtype)
    with path(which), np.errstate(invalid="ignore"):
        y = cpu.activation(x, name, 0.5)
    assert np.isnan(y[0])
    close(y[1:], reference.activation(x[1:], name, 0.5), dtype)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("which", ["as it is", "compiled"])
def test_a_gradient_that_is_not_a_number_stays_so(which, name):
    g, x = np.full(3, np.nan, np.float32), np.array([0.5, 0.0, 0.7], np.float32)
    with path(which):
        assert np.isnan(cpu.activation_grad(g, x, name, 0.5)).all()


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("size", [10, COMPILED_ABOVE + 1])
def test_activation_writes_where_it_is_told(size, name):
    x = draw(0, (size,), np.float32)
    expected = reference.activation(x, name, 0.3)
    out = np.full(size, np.nan, np.float32)
    assert cpu.activation(x, name, 0.3, out=out) is out
    close(out, expected, np.float32)
    assert cpu.activation(x, name, 0.3, out=x) is x  # in place
    close(x, expected, np.float32)


# Losses and batch normalisation


@few
@given(st.lists(st.integers(1, 6), max_size=3), dtypes, layouts, paths, st.booleans(), seeds)
def test_binary_cross_entropy(shape, dtype, layout, name, one_target, seed):
    logits = draw(seed, shape, dtype, layout) * dtype(5)
    targets = 0.9 if one_target else np.random.default_rng(seed).random(shape).astype(dtype)
    g = np.array(1.7, dtype)
    with path(name):
        close(cpu.bce_with_logits(logits, targets), reference.bce_with_logits(logits, targets), dtype)
        close(cpu.bce_with_logits_grad(g, logits, targets), reference.bce_with_logits_grad(1.7, logits, targets), dtype)
        gg = draw(seed + 1, shape, dtype, layout)
        close(cpu.bce_with_logits_curvature(gg, g, logits), reference.bce_with_logits_curvature(gg, 1.7, logits), dtype)


@pytest.mark.parametrize("name", ["as it is", "compiled"])
@pytest.mark.parametrize("target", [0.0, 0.9, 1.0])
@pytest.mark.parametrize("dtype", FLOATS)
def test_binary_cross_entropy_of_large_logits(dtype, target, name):
    with path(name):
        logits = np.array([1e4, -1e4, 0.0], dtype)
        close(cpu.bce_with_logits(logits, target), reference.bce_with_logits(logits, target), dtype)
        g = cpu.bce_with_logits_grad(np.array(1.0, dtype), logits, target)
        close(g, reference.bce_with_logits_grad(1.0, logits, target), dtype)
        if target in (0, 1):  # a small loss keeps its digits
            sure = np.array([60 * target - 30], dtype)
            close(cpu.bce_with_logits(sure, target), math.log1p(math.exp(-30)), dtype)
            slope = math.copysign(1 / (1 + math.exp(30)), -sure[0])
            np.testing.assert_allclose(cpu.bce_with_logits_grad(np.array(1.0, dtype), sure, target), slope, rtol=1e-6)


@pytest.mark.parametrize("name", ["as it is", "compiled"])
def test_binary_cross_entropy_of_nan_is_nan(name):
    logits = np.array([np.nan, 1.0], np.float32)
    with np.errstate(invalid="ignore"), path(name):
        assert np.isnan(cpu.bce_with_logits(logits, 1.0))
        assert np.array_equal(np.isnan(cpu.bce_with_logits_grad(np.float32(1), logits, 1.0)), [True, False])
        assert np.array_equal(np.isnan(cpu.bce_with_logits_curvature(logits, np.float32(1), logits)), [True, False])


@few
@given(st.integers(2, 9), st.integers(1, 20), st.lists(st.integers(1, 3), max_size=2), dtypes, layouts, seeds,
       st.sampled_from([0.0, 30.0]), st.sampled_from(["identity", "relu", "leaky_relu"]), st.booleans())
def test_batch_norm(n, channels, space, dtype, layout, seed, offset, activation, shared):
    shape = (n, channels, *space)
    x = draw(seed, shape, dtype, layout) + dtype(offset)
    g, weight, bias = draw(seed + 1, shape, dtype), draw(seed + 2, (channels,), dtype), draw(seed + 3, (channels,), dtype)
    mean, var = np.empty(channels, dtype), np.empty(channels, dtype)
    z, exact_mean, exact_var = reference.batch_norm(x, weight, bias, 1e-2)
    y = reference.activation(z, activation, 0.3)
    before = reference.activation_grad(g, y, activation, 0.3)
    lost = 1 + 10 * offset  # x itself has fewer digits left after its large mean is subtracted
    with path("compiled, shared" if shared else "as it is"):
        cpu.batch_norm_statistics(x, mean, var)
        close(cpu.batch_norm(x, weight, bias, 1e-2, mean, var, activation, 0.3), y, dtype, lost)
        close(mean, exact_mean, dtype)
        close(var, exact_var, dtype)
        if np.abs(z).min() < 1e-4:  # rounding decides the sign, and so the slope
            return
        sums = cpu.batch_norm_sums(g, x, weight, bias, 1e-2, mean, var, activation, 0.3)
        close(sums, reference.batch_norm_sums(before, x, 1e-2, mean, var), dtype, lost)
        close(cpu.batch_norm_input_grad(g, x, sums, weight, bias, 1e-2, mean, var, activation, 0.3),
              reference.batch_norm_input_grad(before, x, weight, sums, 1e-2, mean, var), dtype, 10 * lost)


@pytest.mark.parametrize("channels", [1, 2, 3, 33])
@pytest.mark.parametrize("activation", ["identity", "relu", "leaky_relu"])
@pytest.mark.parametrize("which", ["compiled, shared", "as it is"])
def test_second_gradients_of_batch_norm_are_slopes(channels, activation, which):
    """Against finite differences of the first gradients, whose definition is written out here."""
    shape, eps = (4, channels, 4, 2), 0.1
    g, x, h = (draw(i, shape, np.float64) for i in range(3))
    weight, bias, s, t = (draw(i, (channels,), np.float64) for i in range(3, 7))
    sums = np.array([s, t])

    def wide(v):
        return v[:, None, None]

    def parts(g, x):
        mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3))
        n = (x - wide(mean)) / np.sqrt(wide(var) + eps)
        slope = np.where(n * wide(weight) + wide(bias) > 0, 1, {"identity": 1, "relu": 0, "leaky_relu": 0.3}[activation])
        return n, g * slope, np.sqrt(wide(var) + eps), (mean, var)

    def of_sums(g, x):
        n, by_z, *_ = parts(g, x)
        return (s * by_z.sum((0, 2, 3)) + t * (by_z * n).sum((0, 2, 3))).sum()

    def of_input_grad(g, x, weight, sums):
        n, by_z, deviation, _ = parts(g, x)
        return (h * wide(weight) / deviation * (by_z - (wide(sums[0]) + n * wide(sums[1])) / (x.size / channels))).sum()

    def slopes(function, *arrays):
        found = []
        for i, a in enumerate(arrays):
            direction = draw(7 + i, a.shape, np.float64)
            there, back = ([*arrays[:i], a + step * direction, *arrays[i + 1:]] for step in (1e-6, -1e-6))
            found.append((direction, (function(*there) - function(*back)) / 2e-6))
        return found

    told = (weight, bias, eps, *parts(g, x)[3], activation, 0.3)
    with path(which):
        own = cpu.batch_norm_sums(g, x, *told)
        by_sums = cpu.batch_norm_sums_vjp(sums, g, x, own, *told)
        by_input_grad = cpu.batch_norm_input_grad_vjp(h, g, x, sums, *told)
    for got, (direction, slope) in zip((*by_sums, *by_input_grad), slopes(of_sums, g, x) + slopes(of_input_grad, g, x, weight, sums),
                                       strict=True):
        np.testing.assert_allclose((got * direction).sum(), slope, rtol=1e-6, atol=1e-6)


@few
@given(st.integers(0, 9), st.integers(1, 40), st.sampled_from([1, 4, 8]), st.sampled_from([1, 3, 4]), dtypes, paths, seeds)
def test_sums_of_images_by_channel(n, channels, height, width, dtype, which, seed):
    x = draw(seed, (n, height, width, channels), dtype).transpose(0, 3, 1, 2)
    with path(which):
        found = cpu.sum(x, (0, 2, 3), False)
    expected = [sum(float(value) for value in x[:, c].ravel()) for c in range(channels)]
    assert found.dtype == dtype and found.shape == (channels,)
    np.testing.assert_allclose(found, expected, rtol=0, atol=4 * np.finfo(dtype).eps * max(np.abs(x).sum(), 1))


def test_a_sum_of_many_keeps_its_digits():
    x = np.full((64, 1, 64, 64), 0.1, np.float32) + np.zeros((1, 3, 1, 1), np.float32)
    x = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(cpu.sum(x, (0, 2, 3), False), np.float32(0.1) * np.float64(64**3), rtol=1e-7)


# Optimisers


@pytest.mark.parametrize("rule, values", [(rule, values) for rule, many in SETTINGS.items() for values in many])
@settings(max_examples=8, deadline=None)
@given(st.lists(st.lists(st.integers(0, 9), max_size=3), min_size=1, max_size=4), dtypes, layouts, st.booleans(), seeds)
def test_optimizer(rule, values, shapes, dtype, layout, shared, seed):
    slots = 2 if rule == "adam" else 1
    parameters = [draw(seed + i, shape, dtype) for i, shape in enumerate(shapes)]
    gradients = [draw(seed + 10 + i, shape, dtype, layout) for i, shape in enumerate(shapes)]
    states = [[np.array(draw(seed + 20 + 10 * s + i, shape, dtype) ** 2) for i, shape in enumerate(shapes)]
              for s in range(slots)]
    expected = [getattr(reference, rule)(p, g, *(state[i] for state in states), values)
                for i, (p, g) in enumerate(zip(parameters, gradients, strict=True))]
    for i, arrays in enumerate(expected):  # (where an update nearly cancels a number, no digits of the result are left to judge)
        for before, after in zip((parameters[i], *(state[i] for state in states)), arrays, strict=True):
            assume(not before.size or np.abs(after).max() >= 0.2 * np.abs(before).max())
    with path("compiled, shared" if shared else "as it is"):
        getattr(cpu, rule)(parameters, gradients, *states, values)
    for i, arrays in enumerate(expected):
        for actual, exact in zip((parameters[i], *(state[i] for state in states)), arrays, strict=True):
            close(actual, exact, dtype)


@pytest.mark.parametrize("rule", SETTINGS)
def test_a_large_optimizer_step_updates_every_element_once(rule):
    sizes = [SHARED_FROM_ELEMENTS + 5, 3, 40_000]
    gradients = [np.ones(size, np.float32) for size in sizes]
    parameters = [np.zeros(size, np.float32) for size in sizes]
    states = [[np.zeros(size, np.float32) for size in sizes] for _ in range(2 if rule == "adam" else 1)]
    getattr(cpu, rule)(parameters, gradients, *states, SETTINGS[rule][0])
    assert {float(value) for p in parameters for value in np.unique(p)} == {float(parameters[1][0])} != {0.0}


# Random numbers


@pytest.mark.parametrize("counter, key, expected", [
    ((0, 0, 0, 0), (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ((2**32 - 1,) * 4, (2**32 - 1,) * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0), "d16cfe09 94fdcceb 5001e420 24126ea1"),
])
def test_philox_known_answers(counter, key, expected):
    """The test vectors of the Random123 library."""
    assert [f"{word:08x}" for word in reference.philox(counter, key)] == expected.split()


def test_the_kernel_starts_at_counter_zero():
    out = cpu.random_bits(np.zeros(2, np.uint32), np.empty(4, np.uint32))
    assert [f"{word:08x}" for word in out] == ["6627e8d5", "e169c58d", "bc57ac4c", "9b00dbd8"]


@few
@given(st.integers(0, 300), st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)), paths)
def test_random_bits(count, key, which):
    with path(which):
        out = cpu.random_bits(np.array(key, np.uint32), np.empty(count, np.uint32))
    assert np.array_equal(out, reference.random_bits(key, count))


@few
@given(st.integers(0, 60), dtypes, st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)))
def test_uniform_and_normal(count, dtype, key):
    words, single = np.array(key, np.uint32), dtype is np.float32
    close(cpu.random_uniform(words, np.empty(count, dtype), -2.0, 5.0),
          reference.random_uniform(key, count, -2.0, 5.0, single), dtype)
    close(cpu.random_normal(words, np.empty(count, dtype)), reference.random_normal(key, count, single), dtype)


@pytest.mark.parametrize("dtype", FLOATS)
def test_distributions(dtype):
    uniform = cpu.random_uniform(KEY, np.empty(100_000, dtype), 2.0, 3.0)
    normal = cpu.random_normal(KEY, np.empty(100_000, dtype))
    assert uniform.min() >= 2 and uniform.max() < 3 and np.isfinite(normal).all()
    assert stats.kstest(uniform[:20_000], stats.uniform(2, 1).cdf).pvalue > 0.01
    assert stats.kstest(normal[:20_000], stats.norm.cdf).pvalue > 0.01
    for lag in (1, 2, 4):
        assert abs(np.corrcoef(normal[:-lag], normal[lag:])[0, 1]) < 0.02


def test_uniform_never_reaches_its_upper_end():
    """The interval contains only 17 floats, so rounding 2^24 values would often give its end."""
    low = np.float32(1.0)
    high = low + 16 * np.finfo(np.float32).eps
    drawn = cpu.random_uniform(KEY, np.empty(10_000, np.float32), float(low), float(high))
    assert drawn.min() == low and drawn.max() < high


def test_a_longer_draw_begins_with_the_shorter_one():
    long = cpu.random_bits(KEY, np.empty(SHARED_FROM_ELEMENTS + 13, np.uint32))
    assert np.array_equal(long[:101], cpu.random_bits(KEY, np.empty(101, np.uint32)))


# Threads


def workload(seed):
    """Run one example of every kernel, large enough for threads to share. Returns the results as one array."""
    x, weight, bias = draw(seed, (128, 300), np.float32), draw(seed + 1, (260, 300), np.float32), np.ones(260, np.float32)
    y = cpu.dense(x, weight, bias, "leaky_relu", 0.2)
    g = cpu.activation_grad(y, y, "leaky_relu", 0.2)
    gw = cpu.matmul(g.T, x)
    m, v = np.zeros_like(gw), np.zeros_like(gw)
    cpu.adam([weight], [gw], [m], [v], SETTINGS["adam"][0])
    bits = cpu.random_bits(KEY, np.empty(SHARED_FROM_ELEMENTS + 1, np.uint32))
    return np.concatenate([y.ravel(), gw.ravel(), weight.ravel(), bits.astype(np.float32)])


@pytest.mark.parametrize("workers", [1, 2, 3, 5])
def test_results_do_not_depend_on_the_number_of_threads(workers, monkeypatch):
    """The parts never cut a sum of these kernels, so even the last bits are equal. Three and five threads are more than some
    machines have cores."""
    expected = workload(0)
    mine = Pool(workers)
    use_pool(monkeypatch, mine)
    try:
        for _ in range(3):
            assert np.array_equal(workload(0), expected)
    finally:
        mine._stop()


def test_threads_that_call_kernels_at_once():
    expected = [workload(seed) for seed in range(4)]
    wrong = []

    def repeat(seed):
        wrong.extend(seed for _ in range(15) if not np.array_equal(workload(seed), expected[seed]))

    threads = [threading.Thread(target=repeat, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong and not any(thread.is_alive() for thread in threads)


def python(code, folder, timeout=120, **environment):
    """Run code in a fresh interpreter, with its cache under `folder`. Returns (stdout, stderr)."""
    root = str(Path(tinygan.__file__).parents[1])
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=timeout,
                          cwd=folder, env={**os.environ, "PYTHONPATH": root, "XDG_CACHE_HOME": str(folder), **environment})
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.parametrize("busy", [False, True], ids=["idle", "while another thread is in a kernel"])
def test_a_forked_child_goes_on(busy, tmp_path_factory):
    code = f"""
import os, sys, threading, warnings
sys.path.insert(0, {str(Path(__file__).parent)!r})
warnings.simplefilter("ignore", DeprecationWarning)  # of fork in a process with threads: what is tested here
import numpy as np
from test_kernels import workload
from tinygan.kernels.cpu.runtime.pool import pool

expected, over = workload(0), threading.Event()

def other():
    while not over.is_set():
        workload(1)

thread = threading.Thread(target=other)
if {busy}:
    thread.start()
for _ in range(4):
    child = os.fork()
    if child == 0:
        right = all(np.array_equal(workload(0), expected) for _ in range(3))
        right = right and (pool.size == 1 or len(pool._workers) == pool.size - 1)  # the child's own
        os._exit(0 if right else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert np.array_equal(workload(0), expected)
over.set()
if {busy}:
    thread.join()
"""
    python(code, tmp_path_factory.mktemp("fork"), XDG_CACHE_HOME=os.environ.get("XDG_CACHE_HOME", ""))


def test_the_pool_is_as_large_as_it_should_be(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("NUMBA_NUM_THREADS", raising=False)
    cores = core_count()
    assert 1 <= cores <= (os.cpu_count() or 1)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert core_count() == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "1000")
    assert core_count() == cores
    assert pool.size >= 1


# The cache on disk

BITS = """
import numpy as np
from tinygan.kernels.cpu.random.compiled import random_bits
out = random_bits(np.zeros(2, np.uint32), np.zeros(4, np.uint32))
print(*(f"{word:08x}" for word in out))
"""
ANSWER = "6627e8d5 e169c58d bc57ac4c 9b00dbd8"


def test_importing_tinygan_compiles_nothing(tmp_path):
    out, error = python("import sys, tinygan; print('numba' in sys.modules)", tmp_path)
    assert out.strip() == "False" and error == "" and not any(tmp_path.iterdir())


@pytest.mark.cache
def test_the_message_appears_only_when_something_is_compiled(tmp_path):
    # The group's other kernels take most of the time, and a product of matrices does not call them.
    code = f"""
import sys
from types import SimpleNamespace
for name in {[name for name in loading.EVERY_TRAINING.modules if "matmul" not in name]}:
    sys.modules[name] = SimpleNamespace(activation_forward=None)
import numpy as np, tinygan as tg
a = np.ones((100, 100), np.float32)
assert (np.asarray(tg.matmul(a, a)) == 100).all()
"""
    _, first = python(code, tmp_path)
    assert "compiling kernels" in first and str(tmp_path) in first
    _, second = python(code, tmp_path)
    assert second == ""


def test_what_every_training_needs_is_loaded_together_and_once(monkeypatch):
    imported, said = [], []

    @contextmanager
    def announced(file, name):
        said.append(name)
        yield

    monkeypatch.setattr(compiling, "announced", announced)
    monkeypatch.setattr(loading, "_LOADED", {})
    monkeypatch.setattr(loading, "importlib", SimpleNamespace(import_module=lambda name: imported.append(name) or name))
    room, conv = f"{loading.CPU}.batchnorm.compiled", f"{loading.CPU}.conv.compiled"
    for _ in range(2):
        assert loading.loaded(room) == room
    assert imported == [*loading.EVERY_TRAINING.modules, room] and said == ["kernels"]
    assert loading.loaded(conv) == conv
    assert imported[-1] == conv and said == ["kernels", "convolutions"] and len(set(imported)) == len(imported)


@pytest.mark.parametrize("group", [loading.EVERY_TRAINING, loading.CONVOLUTIONS])
def test_a_group_of_kernels_leaves_the_file_in_the_cache_that_says_so(group):
    for module in group.modules:
        loading.loaded(module)
    assert any(compiling.cache_folder().glob(f"{group.file}.*.nbi"))


@pytest.mark.cache
def test_an_edited_helper_is_not_run_from_the_cache(tmp_path):
    root = tmp_path / "copy"
    shutil.copytree(Path(tinygan.__file__).parent, root / "tinygan", ignore=shutil.ignore_patterns("__pycache__"))
    cache = tmp_path / "tinygan" / "kernels"
    assert python(BITS, tmp_path, PYTHONPATH=str(root))[0].strip() == ANSWER
    assert python(BITS, tmp_path, PYTHONPATH=str(root))[0].strip() == ANSWER
    assert len(list(cache.iterdir())) == 1
    helpers = root / "tinygan" / "kernels" / "cpu" / "runtime" / "shares.py"  # the kernel's helper `share` is there
    text = helpers.read_text()
    assert text.count("    units = (count + GRAIN_ELEMENTS - 1) // GRAIN_ELEMENTS\n") == 1
    helpers.write_text(text.replace("    units = (count + GRAIN_ELEMENTS - 1) // GRAIN_ELEMENTS\n", "    units = 0 * count\n"))
    assert python(BITS, tmp_path, PYTHONPATH=str(root))[0].strip() == "00000000 " * 3 + "00000000"
    assert len(list(cache.iterdir())) == 2


@pytest.mark.parametrize("file", ["activations.py", "winograd.py", "cpu/matmul/gemm.py", "cpu/runtime/simd.py", "cpu/new/file.py"])
def test_the_cache_is_keyed_by_the_files_of_every_room(file, tmp_path):
    root = tmp_path / "kernels"
    shutil.copytree(Path(tinygan.__file__).parent / "kernels", root, ignore=shutil.ignore_patterns("__pycache__"))
    before = compiling.hash_of_sources(root)
    with open(root / "cuda" / "optimizers.py", "a") as edited:
        edited.write("# for a GPU\n")
    assert compiling.hash_of_sources(root) == before
    (root / file).parent.mkdir(exist_ok=True)
    with open(root / file, "a") as edited:
        edited.write("# edited\n")
    assert compiling.hash_of_sources(root) != before


def test_kernels_of_one_name_on_one_line_of_two_rooms_are_two_in_the_cache():
    """Each room has a file compiled.py. Numba's own names in the cache consist of the file, the function and the line."""
    def kernel():
        pass

    rooms = [compiling._Locator.from_function(kernel, f"/kernels/cpu/{room}/compiled.py") for room in ("matmul", "losses")]
    assert rooms[0].get_disambiguator() != rooms[1].get_disambiguator()


def test_helpers_that_differ_in_what_they_close_over_have_different_names():
    """Otherwise a process that loads two kernels, compiled by two other processes, would link the helper of one to both."""
    def make(real, factor):
        pointer = pointer_to(real)  # an intrinsic

        @compiling.inline
        def first(address):
            return carray(pointer(address), (1,))[0] * factor

        @compiling.inline
        def second(address):
            return first(address)

        return first.py_func.__qualname__, second.py_func.__qualname__

    names = [make(types.float32, 2), make(types.float64, 2), make(types.float32, 3), make(types.float32, 2)]
    assert names[0] == names[3] and len({name for pair in names for name in pair}) == 6


def test_a_helper_that_would_have_another_name_in_every_process_is_refused():
    unnamed = object()
    with pytest.raises(TypeError, match="closes over <object object"):
        compiling.inline(lambda: unnamed)


def test_an_unwritable_cache_folder_works_uncached(tmp_path):
    blocked = tmp_path / "a file"
    blocked.touch()
    out, error = python(BITS, tmp_path, XDG_CACHE_HOME=str(blocked))
    assert out.strip() == ANSWER and error == ""


@pytest.mark.cache
def test_processes_that_start_at_once_share_an_empty_cache(tmp_path):
    root = str(Path(tinygan.__file__).parents[1])
    started = [subprocess.Popen([sys.executable, "-W", "error", "-c", BITS], stdout=subprocess.PIPE, text=True, cwd=tmp_path,
                                env={**os.environ, "PYTHONPATH": root, "XDG_CACHE_HOME": str(tmp_path)}) for _ in range(3)]
    for process in started:
        assert process.communicate(timeout=120)[0].strip() == ANSWER
        assert process.returncode == 0
    assert python(BITS, tmp_path)[0].strip() == ANSWER


# Memory

LARGE_SHAPE = (workspace.REUSED_FROM_BYTES // 4, 2)


def test_a_large_array_takes_the_memory_of_one_that_is_gone():
    first = workspace.empty(LARGE_SHAPE, np.float32)
    place = first.ctypes.data
    del first
    assert workspace.empty(LARGE_SHAPE, np.float32).ctypes.data == place


def test_memory_is_not_taken_while_a_view_of_a_view_lives():
    first = workspace.empty(LARGE_SHAPE, np.float32)
    first[...] = 7
    view = first[3:, 1:].T[:, :5].reshape(-1)[::2]
    copy = view.copy()
    del first
    others = [workspace.empty(LARGE_SHAPE, np.float32) for _ in range(5)]
    for other in others:
        other[...] = 0
    assert np.array_equal(view, copy)


@given(st.lists(st.integers(0, 300), max_size=3), st.sampled_from([np.float32, np.float64, np.uint32]))
def test_workspace_arrays_are_ordinary_arrays(shape, dtype):
    x = workspace.empty(tuple(shape), dtype)
    assert x.shape == tuple(shape) and x.dtype == dtype and x.flags.c_contiguous and x.flags.writeable and x.flags.aligned
    if x.nbytes >= workspace.REUSED_FROM_BYTES:
        assert x.ctypes.data % workspace.ALIGNMENT_BYTES == 0


def test_threads_have_their_own_memory():
    held = {}
    barrier = threading.Barrier(2)

    def take(i):
        mine = [workspace.empty(LARGE_SHAPE, np.float32) for _ in range(3)]
        for x in mine:
            x[...] = i
        barrier.wait(10)
        held[i] = all((x == i).all() for x in mine)

    threads = [threading.Thread(target=take, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert held == {0: True, 1: True}


def in_a_thread_of_its_own(function):  # whose list of buffers starts empty
    results = []
    thread = threading.Thread(target=lambda: results.append(function()))
    thread.start()
    thread.join(20)
    assert results, "the thread failed"
    return results[0]


def held_bytes():
    return sum(buffer.memory.nbytes for buffers in workspace._BUFFERS.by_size.values() for buffer in buffers)


def test_sizes_that_keep_changing_do_not_fill_the_memory():
    """A thread holds at most three times the memory that was ever in use at once."""
    def change():
        most = 0
        for i in range(500):
            workspace.empty((workspace.REUSED_FROM_BYTES + 64 * i,), np.uint8)
            most = max(most, held_bytes())
        return most

    assert in_a_thread_of_its_own(change) < 3.1 * (workspace.REUSED_FROM_BYTES + 64 * 500)


def test_what_every_step_needs_is_not_given_back_between():
    """Not even if far less is in use at the end of a step, and its first arrays have other sizes than its last."""
    def train():
        places = []
        for _ in range(3):
            forward = [workspace.empty((workspace.REUSED_FROM_BYTES + 64 * i,), np.uint8) for i in range(10)]
            backward = [workspace.empty((2 * workspace.REUSED_FROM_BYTES + 64 * i,), np.uint8) for i in range(5)]
            places.append([x.ctypes.data for x in forward + backward])
            del forward, backward
            for i in range(5):
                places[-1].append(workspace.empty((workspace.REUSED_FROM_BYTES + 64 * (20 + i),), np.uint8).ctypes.data)
        return places

    first, second, third = in_a_thread_of_its_own(train)
    assert first == second == third
