"""Numbers whose squares are too large or too small: optimisers, clipping, layer norm, spectral norm. The oracle is PyTorch, or
the same in float64, where the squares are ordinary numbers."""
from __future__ import annotations

import numpy as np
import pytest
from helpers import smallest, to_device, to_numpy

import tinygan as tg
from tinygan import nn, ops
from tinygan.optim import Adam, AdamW, RMSProp, clip_by_norm
from tinygan.optim.packed import advance_grad, gradients_of_advance
from tinygan.random import Key

RULES = {
    "adam": lambda: Adam(1e-3, betas=(0.9, 0.99)),
    "adamw": lambda: AdamW(1e-3, betas=(0.9, 0.99), weight_decay=0.1),
    "rmsprop": lambda: RMSProp(1e-3, decay=0.9),
}
TORCH = {
    "adam": lambda p, torch: torch.optim.Adam([p], 1e-3, betas=(0.9, 0.99)),
    "adamw": lambda p, torch: torch.optim.AdamW([p], 1e-3, betas=(0.9, 0.99), weight_decay=0.1),
    "rmsprop": lambda p, torch: torch.optim.RMSprop([p], 1e-3, alpha=0.9),
}


def course(rule, gradients, *, device="cpu", dtype=np.float32, size=1):
    """The parameter, 1 at first, after each step."""
    p = tg.Parameter(to_device(np.ones(size, dtype), device))
    optimizer = rule()
    optimizer.bind({"p": p})
    found = []
    for g in gradients:
        optimizer.step([to_device(np.full(size, g, dtype), device)])
        found.append(to_numpy(p.array).copy())
    return np.array(found), optimizer


def pure_course(rule, gradients, dtype=np.float32):
    """The same by the pure rule."""
    optimizer, p = rule(), np.ones(1, dtype)
    state = optimizer.initial_state([p])
    found = []
    for g in gradients:
        (p,), state = optimizer.update([p], [np.full(1, g, dtype)], state)
        found.append(p)
    return np.array(found)


@pytest.mark.oracle
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("first", [2e19, -2e19, 1e-25, 3e-20, 1e-12])
def test_a_course_is_pytorchs(device, rule, first):
    torch = pytest.importorskip("torch")
    gradients = [first, *[0.1, -0.2, 0.3] * 20] if abs(first) > 1 else [first] * 40
    p = torch.ones(1, requires_grad=True)
    optimizer, expected = TORCH[rule](p, torch), []
    for g in gradients:
        p.grad = torch.full((1,), g)
        optimizer.step()
        expected.append(p.detach().numpy().copy())
    found, _ = course(RULES[rule], gradients, device=device)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_allclose(pure_course(RULES[rule], gradients), expected, rtol=1e-6)


QUICK = {**RULES, "adam": lambda: Adam(1e-3, betas=(0.5, 0.9)), "adamw": lambda: AdamW(1e-3, betas=(0.5, 0.9))}


@pytest.mark.parametrize("rule", QUICK)
@pytest.mark.parametrize("first", [2e19, 1e30, -3e38])
def test_a_weight_moves_again_after_a_huge_gradient(rule, first):
    weights, _ = course(QUICK[rule], [first, *[1.0] * 2000])
    assert abs(weights[0] - 1) < 0.01  # a step like that for any other first gradient
    assert weights[-1] < weights[0] - 0.5


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("first", [2e19, 1e30])
def test_large_parameters_hold_huge_gradients(fast_device, rule, first):
    weights, optimizer = course(RULES[rule], [first, first, -first, 1.0], device=fast_device, size=70_000)
    np.testing.assert_allclose(weights[:, ::7], np.repeat(pure_course(RULES[rule], [first, first, -first, 1.0]), 10_000, 1),
                               rtol=1e-6)
    assert all(np.isfinite(to_numpy(arrays[0])).all() for arrays in optimizer.state().slots.values())


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("first", [1e30, -3e38])
def test_the_pure_rule_holds_huge_gradients_as_the_kernel_does(device, rule, first):
    gradients = [first, *[1.0] * 50, -first, first, first, *[-1.0] * 50]
    found, _ = course(RULES[rule], gradients, device=device)
    np.testing.assert_allclose(found, pure_course(RULES[rule], gradients), rtol=1e-5)
    assert np.isfinite(found).all() and np.abs(found - 1).max() < 0.2


@pytest.mark.parametrize("rule", RULES)
def test_huge_gradients_in_float64(rule):
    gradients = [1e200, *[1.0] * 3000]
    found, _ = course(RULES[rule], gradients, dtype=np.float64)
    assert np.isfinite(found).all() and np.abs(found[:5] - 1).max() < 0.1
    np.testing.assert_allclose(found[:200], pure_course(RULES[rule], gradients[:200], np.float64), rtol=1e-12)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_gradients_that_are_no_numbers_are_not_hidden(device, rule, bad):
    with np.errstate(all="ignore"):
        found, _ = course(RULES[rule], [0.5, bad, 0.5], device=device)
        assert not np.isfinite(found[1:]).any()
        assert not np.isfinite(pure_course(RULES[rule], [0.5, bad, 0.5])[1:]).any()


@pytest.mark.parametrize("first", [0.3, 2e19, 1e-12])
def test_the_derivative_of_adam_at_huge_and_tiny_gradients(device, first):
    """By `adam_grad`, and by the definition, in float32, against the definition in float64."""
    rng = np.random.default_rng(0)
    optimizer = Adam(1e-3, betas=(0.5, 0.999), eps=1e-8)
    packed = np.stack([rng.normal(size=5), first * rng.normal(size=5), np.square(first * rng.uniform(0.01, 0.02, size=5))])
    gradient, weights = first * rng.uniform(0.5, 1.5, size=5), np.stack([rng.normal(size=5), np.zeros(5), np.zeros(5)])
    weights[1] = rng.normal(size=5) / first * 1e-3
    wide = gradients_of_advance(optimizer, weights, packed, gradient, 3)
    narrow = [to_device(a.astype(np.float32), device) for a in (weights, packed, gradient)]
    by_kernel = advance_grad(*narrow, optimizer=optimizer, count=3)
    by_definition = gradients_of_advance(optimizer, *narrow, 3)
    counted = smallest(device, np.float32)
    # The definition computes row 3 through row 2. Where row 2 counts as 0, row 3 lacks a part: only the kernel finds it.
    rows_by_definition = 4 if np.abs(wide[2]).max() > counted else 3
    for found, rows in ((to_numpy(by_kernel), 4), (to_numpy(by_definition), rows_by_definition)):
        for row in range(rows):
            np.testing.assert_allclose(found[row], wide[row], rtol=2e-3, atol=max(2e-44, counted))


def test_a_gradient_beyond_the_limit_has_no_derivative(device):
    optimizer = Adam(1e-3)
    packed, gradient = np.ones((3, 2), np.float32), np.array([1e30, 0.5], np.float32)
    arrays = [to_device(a, device) for a in (np.ones((3, 2), np.float32), packed, gradient)]
    for derivative in (advance_grad(*arrays, optimizer=optimizer, count=0), gradients_of_advance(optimizer, *arrays, 0)):
        found = to_numpy(derivative)
        assert found[3, 0] == 0 and found[3, 1] != 0 and np.isfinite(found).all()


CLIPPED = [
    ([[1e20, -1e20]], 1.0, [[0.5**0.5, -0.5**0.5]], 2**0.5 * 1e20),
    ([[1e-25, 1e-25]], 1e-30, [[0.5**0.5 * 1e-30, 0.5**0.5 * 1e-30]], 2**0.5 * 1e-25),
    ([[3e38], [-3e38]], 1.0, [[0.5**0.5], [-0.5**0.5]], None),
    ([[3e38], [-3e38]], 1e-3, [[0.5**0.5 * 1e-3], [-0.5**0.5 * 1e-3]], None),
    ([[1e-42, 0], [0]], 1e-40, [[1e-42, 0], [0]], 1e-42),
    ([[3.0, 4.0]], 2.5, [[1.5, 2.0]], 5.0),
    ([[3.0, 1e-30]], 3.0, [[3.0, 1e-30]], 3.0),
    ([[1e20], [1.0]], 1e21, [[1e20], [1.0]], 1e20),
    ([[0.0, 0.0], [0.0]], 1.0, [[0.0, 0.0], [0.0]], 0.0),
    ([[], [6.0, 8.0]], 5.0, [[], [3.0, 4.0]], 10.0),
]


@pytest.mark.parametrize("kind", [tg.Tensor, None])
@pytest.mark.parametrize("gradients, limit, expected, norm", CLIPPED, ids=str)
def test_clip_by_norm(device, gradients, limit, expected, norm, kind):
    arrays = [to_device(np.array(g, np.float32), device) for g in gradients]
    with np.errstate(over="ignore"):  # the norm itself
        found, before = clip_by_norm([kind(a) for a in arrays] if kind else arrays, limit)
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == np.float32
        np.testing.assert_allclose(to_numpy(a), b, rtol=1e-6, atol=smallest(device, np.float32))
    if norm is not None:
        np.testing.assert_allclose(float(to_numpy(before)), norm, rtol=1e-6, atol=smallest(device, np.float32))
    else:
        assert float(to_numpy(before)) == np.inf


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_clip_by_norm_of_infinities_is_nan_throughout(device, bad):
    arrays = [to_device(np.array(g, np.float32), device) for g in ([bad, 1.0], [2.0])]
    with np.errstate(all="ignore"):
        found, norm = clip_by_norm(arrays, 1.0)
    assert all(np.isnan(to_numpy(a)).all() for a in found) and np.isnan(to_numpy(norm))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("limit", [np.inf, 1e39, 1e300])
def test_clip_by_norm_without_a_limit(device, limit, dtype):
    a = to_device(np.array([3.0, -4.0], dtype), device)
    found, norm = clip_by_norm([a, to_device(np.zeros(2, dtype), device)], limit)
    assert to_numpy(found[0]).tolist() == [3, -4] and to_numpy(found[1]).tolist() == [0, 0] and float(to_numpy(norm)) == 5
    x = tg.Tensor(a, requires_grad=True)
    np.testing.assert_array_equal(to_numpy(tg.grad(tg.sum(clip_by_norm([x], limit)[0][0]), x)), [1, 1])


def test_clip_by_norm_of_nothing():
    (found,), norm = clip_by_norm([np.ones((0, 2), np.float32)], 1.0)
    assert found.shape == (0, 2) and norm == 0.0


def test_clip_by_norm_in_float64_and_its_derivative():
    found, norm = clip_by_norm([np.array([1e200, -1e200])], 1.0)
    np.testing.assert_allclose(found[0], [0.5**0.5, -0.5**0.5], rtol=1e-15)
    assert norm == pytest.approx(2**0.5 * 1e200)
    a, b = np.array([1.0, -2.0, 0.5]), np.array([3.0, 0.25])
    for limit in (0.5, 100.0):
        tg.check_gradients(lambda x, y, limit=limit: ops.concatenate(clip_by_norm([x, y], limit)[0]), a, b, order=2)
        tg.check_gradients(lambda x, y, limit=limit: clip_by_norm([x, y], limit)[1], a, b, order=2)


@pytest.mark.parametrize("scale", [1e20, 1e-25])
def test_the_derivative_of_clipping_does_not_depend_on_the_scale(scale):
    def derivative(scale, dtype):
        x = tg.Tensor((np.array([1.0, -2.0, 0.5]) * scale).astype(dtype), requires_grad=True)
        (y,), norm = clip_by_norm([x], 0.5 * scale)
        return tg.grad((y * np.array([1, 2, 3], dtype)).sum(), x, retain_graph=True).numpy(), tg.grad(norm, x).numpy()

    for found, expected in zip(derivative(scale, np.float32), derivative(1.0, np.float64), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


ROW = [1.0, -1.0, 2.0, -2.0]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scale", [1e20, 1.0, 5e37, 1e-25, 1e-3, 1e-40])
def test_layer_norm(device, scale, dtype):
    if scale < smallest(device, dtype):
        pytest.skip("there such numbers are 0")
    x = np.array([ROW, [0, 0, 0, 0], [5, 5, 5, 5]]) * scale
    x = x.astype(dtype).astype(np.float64)
    weight, bias = np.array([1.0, 2, 3, 4], dtype), np.array([0.0, 0, 0, 0], dtype)
    centred = x - x.mean(1, keepdims=True)
    expected = centred / np.sqrt(np.square(centred).mean(1, keepdims=True) + 1e-5) * weight
    if scale == 1e20:
        np.testing.assert_allclose(expected[0] / weight, [0.632456, -0.632456, 1.264911, -1.264911], rtol=1e-5)
    leaf = tg.Tensor(to_device(x.astype(dtype), device), requires_grad=True)
    found = ops.layer_norm(leaf, to_device(weight, device), to_device(bias, device))
    np.testing.assert_allclose(to_numpy(found), expected, rtol=1e-5, atol=1e-44 if dtype == "float32" else 0)
    g = np.random.default_rng(0).normal(size=x.shape)
    by_x = to_numpy(tg.grad(found, leaf, tg.Tensor(to_device(g.astype(dtype), device))))
    wide = tg.Tensor(x, requires_grad=True)
    deviation = np.sqrt(np.square(centred).mean(1, keepdims=True) + 1e-5)
    n, gw = centred / deviation, g * weight
    exact = (gw - gw.mean(1, keepdims=True) - n * (gw * n).mean(1, keepdims=True)) / deviation
    assert np.isfinite(by_x).all() and wide.shape == by_x.shape
    np.testing.assert_allclose(by_x, exact, rtol=1e-4,
                               atol=1e-5 * np.abs(exact[0]).max() + (max(1e-44, smallest(device, dtype)) if dtype == "float32" else 0))


@pytest.mark.parametrize("eps", [1e-12, 1e-60, 1.0])
def test_layer_norm_where_eps_matters(eps):
    x = np.array([ROW]) * 1e-20
    exact = x / np.sqrt(np.square(x).mean() + eps)
    ones = np.ones(4, np.float32)
    np.testing.assert_allclose(ops.layer_norm(x.astype(np.float32), ones, 0 * ones, eps), exact, rtol=1e-6)


def spectral(scale, dtype=np.float32, layer=None):
    layer = nn.SpectralNorm(layer or nn.Dense(6, 4)).initialize(Key(0))
    path = "parametrizations.weight.original"
    drawn = getattr(layer, path).numpy().astype(np.float64)
    with np.errstate(all="ignore"):
        array = (drawn * scale).astype(np.float32)
    getattr(layer, path).assign(array)
    return layer, array.astype(np.float64)


@pytest.mark.parametrize("layer", [lambda: nn.Dense(6, 4), lambda: nn.Conv2d(2, 3, 3), lambda: nn.ConvTranspose2d(2, 3, 3)])
@pytest.mark.parametrize("scale", [1e20, 1e-22, 1e36, 1e-30, 1.0])
def test_spectral_norm_of_any_scale(scale, layer):
    wrapped, original = spectral(scale, layer=layer())
    x = np.random.default_rng(0).normal(size=(2, 6) if "Dense" in repr(wrapped) else (2, 2, 5, 5)).astype(np.float32)
    for _ in range(60):
        wrapped(x)
    matrix = original.swapaxes(0, 1) if "ConvTranspose" in repr(wrapped) else original
    sigma = np.linalg.norm(matrix.reshape(len(matrix), -1), 2)
    np.testing.assert_allclose(wrapped.weight.numpy(), original / sigma, rtol=1e-4, atol=1e-5)
    weight = getattr(wrapped, "parametrizations.weight.original")
    found = tg.grad((wrapped(x) * 1.0).sum(), weight).numpy().astype(np.float64) * scale
    reference, _ = spectral(1.0, layer=layer())
    for _ in range(60):
        reference(x)
    expected = tg.grad((reference(x) * 1.0).sum(), getattr(reference, "parametrizations.weight.original")).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("scale", [1e20, 1e-22])
def test_spectral_norm_of_a_layer_that_has_such_weights(scale):
    layer = nn.Dense(4, 3).initialize(Key(0))
    layer.weight.assign(layer.weight.numpy() * np.float32(scale))
    with tg.random.use_key(Key(1)):
        wrapped = nn.SpectralNorm(layer)
    assert np.linalg.norm(wrapped.weight.numpy().astype(np.float64), 2) == pytest.approx(1, rel=0.02)


def test_a_weight_of_zeros_is_refused_in_evaluation_too():
    x = np.ones((1, 6), np.float32)
    for training, message in ((True, r"SpectralNorm: a weight of zeros has no singular vectors \(weight \(4, 6\)\)"),
                              (False, r"SpectralNorm: .* \(of shape \(4, 6\)\) .* the weight is zeros")):
        layer, _ = spectral(0.0)
        layer.train(training)
        with pytest.raises(ValueError, match=message):
            layer(x)
        with nn.update_buffers_of(nn.Dense(2, 2)), pytest.raises(ValueError, match=r"SpectralNorm: .* \(of shape \(4, 6\)\) .* the weight is zeros"):
            layer(x)


def test_a_weight_of_zeros_on_a_device_is_nan(other_device):
    layer = nn.SpectralNorm(nn.Dense(3, 2)).initialize(Key(0)).to(other_device)
    weight = getattr(layer, "parametrizations.weight.original")
    weight.assign(to_device(np.zeros((2, 3), np.float32), other_device))
    x = to_device(np.ones((1, 3), np.float32), other_device)
    with np.errstate(all="ignore"):
        assert np.isnan(to_numpy(layer.eval()(x))).all()
        assert np.isnan(to_numpy(layer.train()(x))).all()


