"""The formulas of the ops, and one entry of each vjp worked out with numbers: they are those that `grad` computed."""
from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

import tinygan as tg
from tinygan.kernels.activations import BY_NAME
from tinygan.runs.variants import VARIANTS
from tinygan.teaching.formulas import FORMULAS, MINUS, formula_of, spoken, work_out
from tinygan.teaching.rounds import BATCH, trace_round
from tinygan.teaching.slopes import SLOPES
from tinygan.teaching.tape import trace

SHAPES = {"discogan": (4, 28, 28)}  # coloured digits: one channel and three
SMALL = {"width": 4, "hidden": 16, "classes": 10, "blocks": 1, "kernels": 3, "dimensions": 2, "bottleneck": 8}
GAMES = [(name, {}) for name in VARIANTS] + [
    ("vanilla", {"cost": cost}) for cost in ("minimax", "maximum-likelihood", "least-squares", "hinge", "relativistic")
] + [("vanilla", {"r1": 1.0, "r2": 0.5}), ("vanilla", {"cost": "wasserstein", "gradient_penalty": 10.0}),
     ("unrolled", {"networks": "dcgan"}), ("unrolled", {"gradient_penalty": 1.0}), ("conditional", {"conditioning": "projection"})]


def build(name, settings):
    variant = VARIANTS[name]
    known = {item.name for item in fields(variant.settings)}
    small = {setting: value for setting, value in SMALL.items() if setting in known}
    gan = variant.build(variant.settings(**{**small, **settings}), SHAPES.get(name, (1, 28, 28)))
    return gan, np.random.default_rng(0).uniform(-1, 1, (BATCH, *SHAPES.get(name, (1, 28, 28)))).astype(np.float32)


def signs(one):
    """The product of the numbers as they are written, with their signs, is the entry: nothing is moved between factors."""
    if one.products == 1 and (written := one.text.split(" = "))[3:]:
        product, numbers = 1.0, written[-2]
        if numbers.startswith(f"{MINUS}("):
            product, numbers = -1.0, numbers[1:]
        for number in numbers.split(" · "):
            product *= float(number.strip("()").replace(MINUS, "-"))
        np.testing.assert_allclose(product, one.total, rtol=3e-2, atol=1e-30)


def agree(traced, back, more=0):
    """Every visit of a pass back, worked out: the sums are the entries that the vjps returned. more: so many entries of
    each input beside the largest."""
    rng = np.random.default_rng(0)
    for visit in back.visits:
        entry = traced[visit.id]
        shapes = [np.shape(value) for value in traced.inputs_of(entry)]
        for places in [{}, *[{i: tuple(map(int, rng.integers(0, shape))) for i, shape in enumerate(shapes)} for _ in range(more)]]:
            worked = work_out(traced, visit, places)
            assert len(worked) == sum(part is not None for part in visit.parts), entry.name
            for one in worked:
                part, shape = visit.parts[one.input].astype(np.float64), shapes[one.input]
                new = part.ndim - len(shape)
                expected = part.sum(tuple(range(new)))
                expected = expected.sum(tuple(i for i, n in enumerate(shape) if n == 1 != expected.shape[i]), keepdims=True)
                if not places:
                    shown = np.abs(expected)
                    if entry.static.get("activation") == "leaky_relu" and entry.name == "activation":
                        bent = np.where(np.asarray(traced.inputs_of(entry)[0]) < 0, shown, 0)  # so that its second slope is seen
                        shown = bent if bent.any() else shown
                    assert shown[one.at] == shown.max()
                signs(one)
                largest = max(float(np.abs(visit.gradient).max()), float(np.abs(expected).max()))
                np.testing.assert_allclose(one.total, expected[one.at], rtol=2e-4, atol=2e-6 * largest, err_msg=entry.name)
                number = float(one.text.rpartition(" = ")[2].replace("\N{MINUS SIGN}", "-"))
                np.testing.assert_allclose(number, one.total, rtol=6e-3, atol=1e-30)


@pytest.mark.parametrize(("name", "settings"), GAMES, ids=[f"{name} {settings}" for name, settings in GAMES])
def test_every_op_of_a_round_has_formulas_and_they_compute_what_grad_computed(name, settings):
    gan, real = build(name, settings)
    rounds = trace_round(gan, real, np.arange(BATCH) if gan.takes_labels else None)
    assert [one.player for one in rounds] == ["discriminator", "generator"]
    for one in rounds:
        for entry in one.traced:
            if entry.kind == "op":
                formula = formula_of(entry)
                assert formula is not None, f"no formula for {entry.name}, {entry.source}"
                assert not set("{}@") & set(formula.forward + formula.vjp), (formula.forward, formula.vjp)
        for back in one.traced.passes:
            agree(one.traced, back)


def one_op(function, *values):
    """An op of some inputs (float64) and its trace, with random gradients of the result."""
    inputs = [tg.Tensor(np.asarray(value, np.float64), requires_grad=True) for value in values]

    def run(*inputs):
        y = function(*inputs)
        g = np.random.default_rng(1).normal(size=y.shape)
        return tg.grad(y, inputs, grad_outputs=g)

    return trace(run, *inputs)


RNG = np.random.default_rng(0)
A, B_, ROW = RNG.normal(size=(3, 4)), RNG.normal(size=(3, 4)) + 3, RNG.normal(size=(1, 4))
IMAGES = RNG.normal(size=(2, 4, 6, 5))
OPS = {
    "add with a row": (tg.add, A, ROW), "sub with a row": (tg.sub, ROW, A), "mul with a row": (tg.mul, A, ROW),
    "div by a row": (tg.div, A, ROW + 5), "mul with a number": (lambda x: tg.mul(x, 3.0), A), "a square": (lambda x: tg.mul(x, x), A),
    "abs": (tg.abs, A), "log1p": (tg.log1p, np.abs(A)), "sin": (tg.sin, A), "cos": (tg.cos, A), "log": (tg.log, B_),
    "transpose": (tg.transpose, A), "sum of rows": (lambda x: tg.sum(x, 0), A), "norm": (lambda x: tg.norm(x, 1), A),
    "norm of all": (lambda x: tg.norm(x, keepdims=True), A), "log_softmax": (lambda x: tg.log_softmax(x, 0), A),
    "where": (lambda a, b: tg.where(np.array([True, False, True, False]), a, b), A, ROW),
    "rows, one twice": (lambda x: tg.getitem(x, np.array([0, 2, 0])), A),
    "strided, dilated": (lambda x, w: tg.conv2d(x, w, stride=(2, 1), padding=(1, 2), dilation=(1, 2)), IMAGES, RNG.normal(size=(3, 4, 3, 2))),
    "grouped": (lambda x, w: tg.conv2d(x, w, padding=1, groups=2), IMAGES, RNG.normal(size=(6, 2, 3, 3))),
    "grouped, transposed": (lambda x, w: tg.conv_transpose2d(x, w, stride=2, padding=1, groups=2), IMAGES, RNG.normal(size=(4, 3, 4, 4))),
    "weight gradient": (lambda x, y: tg.conv2d_weight_grad(x, y, 3, padding=1, groups=2), IMAGES, RNG.normal(size=(2, 6, 6, 5))),
    "cross-entropy with targets": (lambda x, t: tg.binary_cross_entropy_with_logits(x, t, 2.0), A, np.abs(np.tanh(B_))),
    "similarity": (tg.minibatch_similarity, RNG.normal(size=(4, 3, 2))), "upsampled": (lambda x: tg.upsample(x, scale_factor=2, mode="bilinear"), IMAGES),
    "means": (lambda x: tg.avg_pool2d(x, 2), IMAGES),
}


@pytest.mark.parametrize("name", OPS)
def test_ops_in_float64_also_broadcast_grouped_and_strided(name):
    function, *values = OPS[name]
    traced = one_op(function, *values)
    agree(traced, traced.passes[0], more=30)
    assert traced.passes[0].visits


@pytest.mark.parametrize("name", BY_NAME)
def test_slopes_and_curvatures_are_those_of_the_engine(name):
    x = np.array([-2.3, -0.4, 0.3, 1.7])
    traced = one_op(lambda x: tg.activation(x, name, 0.3), x) if name != "identity" else None
    for value in x:
        slope = SLOPES[name].slope(value, 0.3)
        found = tg.Tensor(np.array([value]), requires_grad=True)
        first = tg.grad(tg.sum(tg.activation(found, name, 0.3)), found, create_graph=True)
        assert slope == pytest.approx(float(first.numpy()[0]), rel=1e-12)
        second = tg.grad(tg.sum(first), found).numpy()[0] if first.node is not found.node and first.node is not None else 0.0
        assert SLOPES[name].curvature(value, 0.3) == pytest.approx(float(second), rel=1e-9, abs=1e-12)
    if traced is not None:
        agree(traced, traced.passes[0])
        assert "@" not in formula_of(traced[1]).vjp


def test_the_second_derivative_of_an_activation_has_numbers_too():
    x = tg.Tensor(np.array([0.3, -1.2]), requires_grad=True)

    def penalty(x):
        g = tg.grad(tg.sum(tg.tanh(x)), x, create_graph=True)
        return tg.grad(tg.sum(tg.mul(g, g)), x)

    traced = trace(penalty, x)
    agree(traced, traced.passes[1])
    assert "activation_grad" in {traced[visit.id].name for visit in traced.passes[1].visits}


def test_the_text_shows_the_largest_products_and_what_remains():
    traced = one_op(tg.dense, [[1.0, 2.0, 3.0, 4.0, 5.0]], np.eye(5) + 1)
    visit, = traced.passes[0].visits
    x, w = work_out(traced, visit)
    g = visit.gradient
    j = int(np.abs(g @ (np.eye(5) + 1)).argmax())
    assert x.text.startswith(f"x\u0304[0, {j}] = y\u0304[0, ") and " + 3 more = " in x.text and x.products == 5
    assert (w.products, w.text.count(" = ")) == (1, 3)


def test_each_factor_keeps_its_own_sign():
    """A reader looks the numbers up in the arrays: y-bar 0.5 and x -2 must not be written as -0.5 and 2."""
    def text(function, values, gradient, i=0, at=None):
        traced = trace(lambda *x: tg.grad(function(*x), x, grad_outputs=np.array(gradient)),
                       *[tg.Tensor(np.array(value), requires_grad=True) for value in values])
        visit = traced.passes[0].visits[0]
        return work_out(traced, visit, {} if at is None else {i: at})[i].text.replace(MINUS, "-").replace("\u0304", "'")

    assert text(tg.mul, ([4.0], [-2.0]), [0.5]) == "a'[0] = y'[0] · b[0] = 0.5 · (-2) = -1"
    assert text(tg.mul, ([4.0], [-2.0]), [-0.5]) == "a'[0] = y'[0] · b[0] = -0.5 · (-2) = 1"
    assert text(tg.sub, ([4.0], [1.0]), [-0.5], 1) == "b'[0] = -y'[0] = -(-0.5) = 0.5"
    assert text(tg.dense, ([[1.0]], [[-2.0], [3.0]]), [[0.5, -0.25]]) == (
        "x'[0, 0] = y'[0, 0] · W[0, 0] + y'[0, 1] · W[1, 0] = 0.5 · (-2) + (-0.25) · 3 = -1.75")
    loss = text(lambda x: tg.binary_cross_entropy_with_logits(x, 1.0), ([0.0, 0.0],), 1.0, at=(0,))
    assert loss == "x'[0] = 0.5 · y' · (p[0] - t[0]) = 0.5 · 1 · (-0.5) = -0.25"
    many = text(tg.dense, ([[1.0]], [[-9.0], [8.0], [-1.0], [-1.0]]), [[1.0, 1.0, 1.0, 1.0]])
    assert many.endswith("+ 2 more = 1 · (-9) + 1 · 8 + (-2) = -3")


def test_a_leaky_slope_is_shown_where_the_input_is_negative():
    traced = one_op(lambda x: tg.leaky_relu(x, 0.2), [3.0, -1.0, -2.0, 4.0])
    visit, = traced.passes[0].visits
    assert work_out(traced, visit)[0].at == (1 + int(np.abs(visit.gradient[1:3]).argmax()),) and " · 0.2 = " in work_out(traced, visit)[0].text
    positive = one_op(lambda x: tg.leaky_relu(x, 0.2), [3.0, 4.0])
    assert " · 1 = " in work_out(positive, positive.passes[0].visits[0])[0].text


def test_the_example_of_a_leaky_slope():
    traced = one_op(lambda x: tg.leaky_relu(x, 0.2), [-1.0])
    visit, = traced.passes[0].visits
    g = float(visit.gradient[0])
    assert work_out(traced, visit)[0].text == f"x\u0304[0] = y\u0304[0] · slope = {g:.3g} · 0.2 = {0.2 * g:.3g}".replace("-", "\N{MINUS SIGN}")
    formula = formula_of(traced[1])
    assert (formula.forward, formula.vjp) == ("y = x if x > 0, else 0.2 x",
                                              "x\u0304 = y\u0304 · slope, slope = 1 if x > 0, else 0.2")


def test_spoken_formulas_have_no_bars():
    assert spoken(FORMULAS["linear"].vjp) == "gradient of X = gradient of Y W, gradient of W = gradient of Yᵀ X"
    assert all("\u0304" not in spoken(formula.vjp) for formula in FORMULAS.values())


def test_an_op_that_the_table_does_not_have():
    traced = one_op(lambda x: tg.cumsum(x, 0), A)
    assert formula_of(traced[1]) is None and work_out(traced, traced.passes[0].visits[0]) == []
