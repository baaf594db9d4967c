"""Losses: from logits, finite for every finite logit, and what they refuse."""
from __future__ import annotations

import numpy as np
import pytest
from helpers import agree, check, check_both_modes, gradients, layouts, seeds, shapes, to_device, to_numpy, values
from hypothesis import given
from hypothesis import strategies as st

import tinygan as tg

BCE = tg.binary_cross_entropy_with_logits


def numpy_bce(x, t):
    p = 1 / (1 + np.exp(-x))
    return np.mean(-t * np.log(p) - (1 - t) * np.log(1 - p))


@given(shape=shapes(max_dims=2, min_side=1), layout=layouts, seed=seeds,
       target=st.sampled_from([1, 0.0, 0.9, np.float64(0.25), True]))
def test_binary_cross_entropy(shape, layout, seed, target):
    x, t = values(seed, shape, -4, 4), values(seed + 1, shape, 0, 1)
    check_both_modes(BCE, numpy_bce(x, t), x, t, layout=layout, rtol=1e-11)
    check(BCE, x, t, layout=layout)
    check_both_modes(lambda x: BCE(x, target), numpy_bce(x, float(target)), x, layout=layout, rtol=1e-11)
    check(lambda x: BCE(x, target), x, layout=layout)
    check_both_modes(lambda x, t: BCE(x, t, 2.5), 2.5 * numpy_bce(x, t), x, t, layout=layout, rtol=1e-11)
    check(lambda x, t: BCE(x, t, 2.5), x, t, layout=layout)


@pytest.mark.oracle
@pytest.mark.parametrize("shape", [(), (3,), (4, 1), (2, 3, 2)], ids=str)
def test_binary_cross_entropy_against_torch(device, shape):
    torch = pytest.importorskip("torch")
    theirs = torch.nn.functional.binary_cross_entropy_with_logits
    agree(BCE, theirs, values(0, shape, -4, 4), values(1, shape, 0, 1), device=device)
    for target in (0.0, 0.9, 1):
        agree(lambda x, target=target: BCE(x, target), lambda x, target=target: theirs(x, torch.full_like(x, target)),
              values(0, shape, -4, 4), device=device)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("logit, target, loss, slope", [
    (1e4, 1.0, 0.0, 0.0), (-1e4, 1.0, 1e4, -1.0), (1e4, 0.0, 1e4, 1.0), (-1e4, 0.0, 0.0, 0.0), (0.0, 0.5, np.log(2), 0.0),
    (-1e30, 1.0, 1e30, -1.0),
])
def test_binary_cross_entropy_is_finite(device, dtype, logit, target, loss, slope):
    for as_array in (False, True):
        x = tg.Tensor(to_device(np.array([logit], dtype), device), requires_grad=True)
        y = BCE(x, to_device(np.array([target], dtype), device) if as_array else target)
        np.testing.assert_allclose(to_numpy(y), loss, rtol=1e-6)
        g = tg.grad(y, x, create_graph=True)
        np.testing.assert_allclose(to_numpy(g), [slope], atol=1e-7)
        assert np.isfinite(to_numpy(tg.grad(g.sum(), x)))


SURE = np.array([3.0, 10, 17, 20, 40, 80, 100])
LOGITS = np.concatenate([-SURE, SURE])


def bce_in_float64(x, t):
    """Each logit's loss, slope and curvature, in terms whose tails are exact."""
    tail = np.exp(-np.abs(x))
    above, below = np.where(x < 0, tail, 1) / (1 + tail), np.where(x < 0, 1, tail) / (1 + tail)  # sigmoid of x and of -x
    return t * np.maximum(-x, 0) + (1 - t) * np.maximum(x, 0) + np.log1p(tail), (1 - t) * above - t * below, above * below


@pytest.mark.parametrize("dtype, rtol, tiny", [("float32", 3e-6, 1e-43), ("float64", 1e-13, 0)])
@pytest.mark.parametrize("target", [0, 1, 0.5, 0.9])
@pytest.mark.parametrize("size", [LOGITS.size, 10 * LOGITS.size, 400 * LOGITS.size])
def test_binary_cross_entropy_keeps_both_tails(device, dtype, rtol, tiny, target, size):
    if device == "emulated" and size > LOGITS.size:
        pytest.skip("large arrays take the emulator too long")
    x = np.resize(LOGITS, size).astype(dtype)
    loss, slope, curvature = bce_in_float64(x.astype(np.float64), float(np.dtype(dtype).type(target)))
    for as_array in (False, True):
        targets = to_device(np.full(size, target, dtype), device) if as_array else target
        leaf = tg.Tensor(to_device(x, device), requires_grad=True)
        y = BCE(leaf, targets, weight=float(size))
        g = tg.grad(y, leaf, create_graph=True)
        np.testing.assert_allclose(to_numpy(y), loss.sum(), rtol=rtol)
        np.testing.assert_allclose(to_numpy(g), slope, rtol=rtol, atol=tiny)
        np.testing.assert_allclose(to_numpy(tg.grad(g.sum(), leaf)), curvature, rtol=rtol, atol=tiny)


def test_the_slope_of_a_sure_logit_is_seen_at_second_order():
    """By the weight of the loss, whose gradient is the slope itself."""
    for x, target, slope in ((20.0, 1.0, -2.0611536e-09), (-20.0, 0.0, 2.0611536e-09)):
        leaf = tg.Tensor(np.array([x], np.float32), requires_grad=True)
        g = tg.Tensor(np.array(1, np.float32), requires_grad=True)
        first = tg.grad(BCE(leaf, target), leaf, g, create_graph=True)
        np.testing.assert_allclose(tg.grad(first.sum(), g).numpy(), slope, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("logit, target, loss, slope", [
    (-np.inf, 0, 0, 0), (np.inf, 1, 0, 0), (-np.inf, 1, np.inf, -1), (np.inf, 0, np.inf, 1), (-np.inf, 0.25, np.inf, -0.25),
    (np.inf, 0.25, np.inf, 0.75),
])
@pytest.mark.parametrize("others", [0, 500])
def test_binary_cross_entropy_of_infinite_logits(device, dtype, logit, target, loss, slope, others):
    """The limits."""
    x = np.array([logit] + [-30.0] * others, dtype)
    targets = to_device(np.array([target] + [0] * others, dtype), device)
    leaf = tg.Tensor(to_device(x, device), requires_grad=True)
    y = BCE(leaf, targets, weight=float(x.size))
    g = tg.grad(y, leaf, create_graph=True)
    np.testing.assert_allclose(to_numpy(y), loss, atol=1e-9)
    np.testing.assert_allclose(to_numpy(g)[0], slope, rtol=1e-6)
    assert to_numpy(tg.grad(g.sum(), leaf))[0] == 0
    if not others:
        np.testing.assert_allclose(to_numpy(BCE(leaf, target)), loss)


@pytest.mark.parametrize("target", [0.0, 1.0, 0.3])
def test_gradients_of_both_orders_in_the_tails(target):
    x, t = np.array([-9.0, -5, 0.1, 5, 9]), np.full(5, target)
    check(lambda x: BCE(x, target, 5.0), x)
    check(lambda x, t: BCE(x, t, 5.0), x, t)


def test_binary_cross_entropy_of_small_losses_is_exact():
    """log(1 + exp(-x)) for large x, not log(1)."""
    np.testing.assert_allclose(BCE(np.array([40.0]), 1.0), np.exp(-40), rtol=1e-12)


def numpy_cross_entropy(x, labels):
    p = np.exp(x) / np.exp(x).sum(1, keepdims=True)
    return -np.mean([np.log(p[i, label]) for i, label in enumerate(labels)])


@pytest.mark.parametrize("shape", [(1, 1), (3, 4), (5, 2), (4, 1)], ids=str)
@given(layout=layouts, seed=seeds)
def test_softmax_cross_entropy(shape, layout, seed):
    x = values(seed, shape)
    labels = np.random.default_rng(seed).integers(0, shape[1], shape[0])
    for given_as in (labels, labels.tolist(), tg.Tensor(labels), labels.astype(np.uint8)):
        check_both_modes(lambda x, y=given_as: tg.softmax_cross_entropy(x, y), numpy_cross_entropy(x, labels), x,
                         layout=layout)
    check(lambda x: tg.softmax_cross_entropy(x, labels), x, layout=layout)


@pytest.mark.oracle
def test_softmax_cross_entropy_against_torch(device):
    torch = pytest.importorskip("torch")
    labels = np.array([0, 3, 3, 1])
    agree(lambda x: tg.softmax_cross_entropy(x, labels),
          lambda x: torch.nn.functional.cross_entropy(x, torch.tensor(labels)),
          values(0, (4, 5), -3, 3), device=device)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("offset", [0, 1e4, 1e6, 1e8, 3e38, -1e8, -3e38, np.inf])
def test_softmax_cross_entropy_at_a_common_offset(device, dtype, offset):
    x = tg.Tensor(to_device(np.full((1, 2), offset, dtype), device), requires_grad=True)
    y = tg.softmax_cross_entropy(x, to_device(np.array([0]), device))
    g = tg.grad(y, x, create_graph=True)
    np.testing.assert_allclose(to_numpy(y), np.log(2), rtol=1e-6)
    np.testing.assert_allclose(to_numpy(g), [[-0.5, 0.5]], rtol=1e-6)
    second = tg.grad((g * to_device(np.array([[1, 0]], dtype), device)).sum(), x)
    np.testing.assert_allclose(to_numpy(second), [[0.25, -0.25]], rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("offset", [0, 1000])
def test_softmax_cross_entropy_keeps_a_small_loss(device, dtype, offset):
    """A sure and right row has a small loss, and gradients that sum to zero: as binary cross-entropy at that logit."""
    x = tg.Tensor(to_device(np.array([[20, 0, -1], [-20, 0, -21]], dtype) + np.dtype(dtype).type(offset), device),
                  requires_grad=True)
    y = tg.softmax_cross_entropy(x, to_device(np.array([0, 1]), device))
    others = np.exp([-20.0, -21])
    np.testing.assert_allclose(to_numpy(y), np.log1p(others.sum()), rtol=1e-6)
    p = others / (1 + others.sum()) / 2
    np.testing.assert_allclose(to_numpy(tg.grad(y, x)), [[-p.sum(), *p], [p[0], -p.sum(), p[1]]], rtol=1e-6)


def test_softmax_cross_entropy_of_infinite_logits(device):
    """One that is -inf takes no part; one that is inf takes all."""
    x = tg.Tensor(to_device(np.array([[1, -np.inf, 1], [np.inf, 1, 2]], np.float32), device), requires_grad=True)
    y = tg.softmax_cross_entropy(x, to_device(np.array([0, 0]), device))
    np.testing.assert_allclose(to_numpy(y), np.log(2) / 2, rtol=1e-6)
    np.testing.assert_allclose(to_numpy(tg.grad(y, x, retain_graph=True)), [[-0.25, 0, 0.25], [0, 0, 0]], atol=1e-7)
    y = tg.softmax_cross_entropy(x, to_device(np.array([1, 1]), device))
    assert to_numpy(y) == np.inf
    np.testing.assert_allclose(to_numpy(tg.grad(y, x)), [[0.25, -0.5, 0.25], [0.5, -0.5, 0]], atol=1e-7)


def test_softmax_cross_entropy_is_finite():
    x = tg.Tensor(np.array([[1e4, -1e4], [1e4, -1e4]], np.float32), requires_grad=True)
    y = tg.softmax_cross_entropy(x, [0, 1])
    assert y.item() == 1e4
    np.testing.assert_allclose(tg.grad(y, x).numpy(), [[0, 0], [0.5, -0.5]], atol=1e-7)


@pytest.mark.parametrize("name, formula", [("mean_squared_error", lambda d: np.mean(d**2)),
                                           ("mean_absolute_error", lambda d: np.mean(np.abs(d)))])
@given(shape=shapes(min_side=1), layout=layouts, seed=seeds)
def test_errors_of_predictions(name, formula, shape, layout, seed):
    loss = getattr(tg, name)
    x, t = values(seed, shape, -2, -0.1), values(seed + 1, shape, 0.1, 2)
    check_both_modes(loss, formula(x - t), x, t, layout=layout)
    check(loss, x, t, layout=layout)
    check_both_modes(lambda x: loss(x, 1.0), formula(x - 1.0), x, layout=layout)
    check(lambda x: loss(x, 1), x, layout=layout)


@pytest.mark.oracle
def test_errors_of_predictions_against_torch(device):
    functions = pytest.importorskip("torch").nn.functional
    x, t = values(0, (3, 4)), values(1, (3, 4))
    agree(tg.mean_squared_error, functions.mse_loss, x, t, device=device)
    agree(tg.mean_absolute_error, functions.l1_loss, x, t, device=device)


def test_mean_absolute_error_at_zero():
    np.testing.assert_array_equal(gradients(lambda x: tg.mean_absolute_error(x, np.zeros(2)), [0.0, 2.0])[0], [0, 0.5])


LOSSES = ["binary_cross_entropy_with_logits", "mean_squared_error", "mean_absolute_error"]


@pytest.mark.parametrize("name", LOSSES)
def test_shapes_are_not_broadcast(name):
    """(N, 1) against (N,) would silently become (N, N)."""
    loss = getattr(tg, name)
    for shapes_ in (((3, 1), (3,)), ((3,), ()), ((0,), (0,))):
        a, b = map(np.ones, shapes_)
        with pytest.raises(ValueError,
                           match=rf"{name}: expected two inputs of the same shape, not empty, got \({shapes_[0][0]},"):
            loss(tg.Tensor(a), b)
    with pytest.raises(ValueError, match="not empty"):
        loss(np.ones(0), 1.0)


@pytest.mark.parametrize("name", LOSSES)
def test_other_types_are_refused(name):
    loss = getattr(tg, name)
    for x, t in (([1.0], np.ones(1)), (np.ones(1), [1.0]), (np.ones(1), None), (1.0, 1.0)):
        with pytest.raises(TypeError, match=f"{name}: expected a Tensor or an array, got (list|NoneType|float)"):
            loss(x, t)
    with pytest.raises(TypeError, match="needs float32 or float64, got int64"):
        loss(np.ones(3), np.ones(3, int))
    with pytest.raises(TypeError, match="different precision"):
        loss(np.ones(3), np.ones(3, np.float32))


@pytest.mark.parametrize("logits, labels, error, message", [
    ((2, 3), [0, 3], ValueError, r"softmax_cross_entropy: labels from 0 to 3, expected 0 to 2 \(logits \(2, 3\)\)"),
    ((2, 3), [-1, 0], ValueError, "softmax_cross_entropy: labels from -1 to 0"),
    ((2, 3), [0.0, 1.0], TypeError, "softmax_cross_entropy: labels should be integers, got float64"),
    ((2, 3), np.eye(2, 3), ValueError, r"softmax_cross_entropy: logits \(N, classes\) .* got \(2, 3\) and \(2, 3\)"),
    ((2, 3), [0], ValueError, r"got \(2, 3\) and \(1,\)"),
    ((3,), [0, 1, 2], ValueError, r"got \(3,\) and \(3,\)"),
    ((0, 3), [], ValueError, r"got \(0, 3\)"),
    ((2, 0), [0, 0], ValueError, r"got \(2, 0\)"),
    ((2, 3), None, TypeError, "softmax_cross_entropy: expected a Tensor or an array, got NoneType"),
])
def test_softmax_cross_entropy_refuses(logits, labels, error, message):
    with pytest.raises(error, match=message):
        tg.softmax_cross_entropy(tg.Tensor(np.ones(logits)), labels)


# Reductions, weights, label smoothing


REDUCTIONS = ["mean", "sum", "none"]


@pytest.mark.oracle
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weight", [None, (), (3,), (4, 1), (4, 3)], ids=str)
@pytest.mark.parametrize("pos_weight", [None, (), (3,)], ids=str)
def test_weights_of_binary_cross_entropy_against_torch(device, reduction, weight, pos_weight):
    torch = pytest.importorskip("torch")
    extra = {name: values(i + 2, shape, 0.2, 3) for i, (name, shape) in enumerate((("weight", weight), ("pos_weight", pos_weight)))
             if shape is not None}
    x, t = values(0, (4, 3), -4, 4), values(1, (4, 3), 0.05, 0.95)
    for dtype in ("float64", "float32"):  # (PyTorch takes the weights as constants)
        ours = {name: to_device(a.astype(dtype), device) for name, a in extra.items()}
        theirs = {name: torch.tensor(a.astype(dtype)) for name, a in extra.items()}
        agree(lambda x, t, o=ours: BCE(x, t, reduction=reduction, **o),
              lambda x, t, o=theirs: torch.nn.functional.binary_cross_entropy_with_logits(x, t, reduction=reduction, **o), x, t,
              device=device, dtypes=[dtype])


def test_gradients_by_the_weights_of_binary_cross_entropy():
    x, t = values(0, (2, 3), -4, 4), values(1, (2, 3), 0.05, 0.95)
    for reduction in REDUCTIONS:
        check(lambda x, t, w, p, r=reduction: BCE(x, t, w, r, p), x, t, values(2, (2, 1), 0.2, 3), values(3, (3,), 0.2, 3))


@pytest.mark.parametrize("target", [0, 1.0, 0.9, np.float32(0.25)])
def test_numbers_as_targets_and_weights(device, target):
    x = values(0, (4, 3), -4, 4)
    p = 1 / (1 + np.exp(-x))
    pairs = -float(target) * np.log(p), -(1 - float(target)) * np.log(1 - p)
    for options, expected in (({}, sum(pairs)), ({"weight": 2.5}, 2.5 * sum(pairs)), ({"pos_weight": 3}, 3 * pairs[0] + pairs[1]),
                              ({"weight": 0.5, "pos_weight": 2.0}, pairs[0] + pairs[1] / 2)):
        for reduction, reduce in (("none", lambda a: a), ("sum", np.sum), ("mean", np.mean)):
            check_both_modes(lambda x, o=options, r=reduction: BCE(x, target, reduction=r, **o), reduce(expected), x, device=device, rtol=1e-11)


@pytest.mark.parametrize("logit, target, loss, slope", [
    (-np.inf, 0, 0, 0), (np.inf, 1, 0, 0), (-np.inf, 1, np.inf, -2), (np.inf, 0, np.inf, 1), (-np.inf, 0.25, np.inf, -0.5),
    (np.inf, 0.25, np.inf, 0.75), (1e30, 1, 0, 0), (40.0, 1, 2 * np.exp(-40.0), -2 * np.exp(-40.0)), (-40.0, 0, np.exp(-40.0), np.exp(-40.0)),
])
def test_infinite_and_sure_logits_with_weights(device, logit, target, loss, slope):
    """Their limits, as without weights."""
    x = tg.Tensor(to_device(np.array([logit], np.float32), device), requires_grad=True)
    y = BCE(x, target, reduction="none", pos_weight=2.0)
    np.testing.assert_allclose(to_numpy(y), [loss], rtol=1e-5)
    g = tg.grad(y, x, tg.Tensor(to_device(np.ones(1, np.float32), device)), create_graph=True)
    np.testing.assert_allclose(to_numpy(g), [slope], rtol=1e-5)
    assert np.isfinite(to_numpy(tg.grad(g.sum(), x))).all()


def test_a_nan_is_not_hidden_by_a_target_of_zero():
    assert np.isnan(BCE(np.array([np.nan]), 0.0, reduction="none")).all()


@pytest.mark.oracle
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_softmax_cross_entropy_with_weights_and_smoothing_against_torch(device, reduction, smoothing, weighted):
    torch = pytest.importorskip("torch")
    labels = np.array([0, 3, 3, 1])
    extra = [np.array([0.5, 2.0, 3.0, 0.1, 1.0])] * weighted
    # (PyTorch takes the weights as constants, so they get none here)
    for name, dtype in (("float64", torch.float64), ("float32", torch.float32)):
        ours = [to_device(a.astype(name), device) for a in extra]
        theirs = [torch.tensor(a, dtype=dtype) for a in extra]
        agree(lambda x, a=ours: tg.softmax_cross_entropy(x, labels, *a, reduction=reduction, label_smoothing=smoothing),
              lambda x, a=theirs: torch.nn.functional.cross_entropy(x, torch.tensor(labels), *a, reduction=reduction, label_smoothing=smoothing),
              values(0, (4, 5), -3, 3), device=device, dtypes=[name])


def test_gradients_by_the_weights_of_classes():
    labels = np.array([0, 3, 3, 1])
    for reduction in REDUCTIONS:
        check(lambda x, w, r=reduction: tg.softmax_cross_entropy(x, labels, w, r, 0.2), values(0, (4, 4)), values(1, (4,), 0.5, 2))


def test_a_class_without_weight_and_without_probability_costs_nothing():
    x = np.array([[0.0, 0.0, -np.inf]])
    np.testing.assert_allclose(tg.softmax_cross_entropy(x, [0], np.array([1.0, 1, 0]), label_smoothing=0.3), np.log(2) * (0.7 + 0.2))


@pytest.mark.parametrize("name", ["mean_squared_error", "mean_absolute_error"])
def test_reductions_of_errors(name):
    x, t = values(0, (3, 4)), values(1, (3, 4))
    loss, errors = getattr(tg, name), (x - t)**2 if "squared" in name else np.abs(x - t)
    for reduction, expected in (("none", errors), ("sum", errors.sum()), ("mean", errors.mean())):
        check_both_modes(lambda x, t, r=reduction: loss(x, t, r), expected, x, t)
        check(lambda x, t, r=reduction: loss(x, t, reduction=r), x, t)


@pytest.mark.parametrize("call, message", [
    (lambda x: BCE(x, 1.0, reduction="average"), "binary_cross_entropy_with_logits: unknown reduction 'average', expected one of mean, sum, none"),
    (lambda x: BCE(x, 1.0, np.ones(2)), r"binary_cross_entropy_with_logits: weight should broadcast to the logits, got \(2,\) \(logits \(2, 3\)\)"),
    (lambda x: BCE(x, 1.0, np.ones((1, 2, 3))), r"weight should broadcast to the logits, got \(1, 2, 3\)"),
    (lambda x: BCE(x, 1.0, pos_weight=np.ones((2, 2))), r"pos_weight should broadcast to the logits, got \(2, 2\)"),
    (lambda x: tg.mean_squared_error(x, x, "max"), "mean_squared_error: unknown reduction 'max'"),
    (lambda x: tg.mean_absolute_error(x, x, ""), "mean_absolute_error: unknown reduction ''"),
    (lambda x: tg.softmax_cross_entropy(x, [0, 1], reduction=None), "softmax_cross_entropy: unknown reduction None"),
    (lambda x: tg.softmax_cross_entropy(x, [0, 1], np.ones(2)), r"softmax_cross_entropy: weight should be of shape \(3,\), got \(2,\) \(logits \(2, 3\)\)"),
    (lambda x: tg.softmax_cross_entropy(x, [0, 1], label_smoothing=1.5), "softmax_cross_entropy: label_smoothing should be from 0 to 1, got 1.5"),
    (lambda x: tg.softmax_cross_entropy(x, [0, 1], label_smoothing=np.nan), "label_smoothing should be from 0 to 1, got nan"),
    (lambda x: tg.softmax_cross_entropy(x, [0, 1], np.array([0.0, 0, 1])), "softmax_cross_entropy: the weights of all labels are 0, so they have no mean"),
])
def test_options_that_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.ones((2, 3)))
