"""The graph: what `grad` gives and refuses, stale values, exceptions in backward, anomalies."""
import inspect

import numpy as np
import pytest

import tinygan as tg
from tinygan import nn
from tinygan.context import CONTEXT
from tinygan.random import Key


def leaf(*values, dtype=np.float64):
    return tg.Tensor(np.array(values, dtype), requires_grad=True)


def matrix(seed, *shape):
    return tg.Tensor(np.random.default_rng(seed).normal(size=shape), requires_grad=True)


def counting(name):
    """An identity op, and the list into which its vjp writes one entry a call."""
    calls = []

    def forward(B, x):
        return x + 0

    forward.__name__ = name
    identity = tg.op()(forward)

    @identity.vjp
    def _(needs, g):
        calls.append(name)
        return (g,)

    return identity, calls


# -- what grad takes and gives ---------------------------------------------------------------------------------------


def test_one_input_gives_a_tensor_and_an_iterable_a_list():
    x, y = leaf(2.0), leaf(5.0)
    single = tg.grad(x * y, x, retain_graph=True)
    assert isinstance(single, tg.Tensor) and single.item() == 5.0
    assert isinstance(tg.grad(x * y, [x]), list)
    assert [g.item() for g in tg.grad(x * y, (t for t in (x, y)))] == [5.0, 2.0]
    assert [g.item() for g in tg.grad(x * y, [x, y, x])] == [5.0, 2.0, 5.0]
    assert tg.grad(x * y, []) == []


def test_gradients_of_computed_tensors():
    x = leaf(3.0)
    y = x * x
    z = y * y * x  # x^5, but y^2 x as a function of y
    gy, gx = tg.grad(z, [y, x])
    assert gy.item() == 2 * 9 * 3
    assert gx.item() == 5 * 81
    assert tg.grad(y, y).item() == 1


def test_unused_inputs_give_zeros_of_their_shape_and_dtype():
    x, unused = leaf(1.0), tg.Tensor(np.ones((2, 3), np.float32), requires_grad=True)
    g = tg.grad(x * 2.0, [unused, x])[0]
    assert g.shape == (2, 3) and g.dtype == np.float32 and not g.numpy().any()
    younger = unused * 2.0
    assert not tg.grad(x * 2.0, younger).numpy().any()


def test_an_output_or_input_that_was_not_recorded_is_a_clear_error():
    x = leaf(1.0)
    with tg.no_grad():
        constant = x * 2.0
    with pytest.raises(ValueError, match=r"grad: outputs\[0\] \(1,\) does not require a gradient"):
        tg.grad(constant, x)
    with pytest.raises(ValueError, match=r"grad: outputs\[1\]"):
        tg.grad([x * 2.0, x.detach()], x)
    with pytest.raises(ValueError, match=r"grad: inputs\[0\] \(3,\)"):
        tg.grad(x * 2.0, tg.Tensor(np.ones(3)))
    with pytest.raises(TypeError, match=r"grad: inputs\[0\] should be a Tensor, got ndarray"):
        tg.grad(x * 2.0, [np.ones(1)])
    with pytest.raises(ValueError, match="backward: this Tensor does not require a gradient"):
        constant.backward()


def test_grad_outputs_weigh_the_elements():
    x = matrix(0, 3, 2)
    weights = np.random.default_rng(1).normal(size=(3, 2))
    y = tg.sin(x)
    expected = np.cos(x.numpy()) * weights
    for given in (weights, tg.Tensor(weights), [weights], [tg.Tensor(weights)]):
        np.testing.assert_allclose(tg.grad(y, x, given, retain_graph=True).numpy(), expected, rtol=1e-14)
    several = tg.grad([y, tg.sum(x)], x, [weights, None])
    np.testing.assert_allclose(several.numpy(), expected + 1, rtol=1e-14)


def test_grad_outputs_that_do_not_fit_are_refused():
    x = matrix(0, 3, 2)
    y = x * 2.0
    with pytest.raises(ValueError, match=r"grad: an output of shape \(3, 2\) needs a gradient"):
        tg.grad(y, x)
    with pytest.raises(ValueError, match=r"shape \(2, 3\) and dtype float64, expected \(3, 2\) and float64"):
        tg.grad(y, x, np.ones((2, 3)))
    with pytest.raises(ValueError, match="dtype float32, expected"):
        tg.grad(y, x, np.ones((3, 2), np.float32))
    with pytest.raises(ValueError, match="1 outputs but 2 gradients"):
        tg.grad(y, x, [np.ones((3, 2)), np.ones((3, 2))])
    with pytest.raises(TypeError, match="grad: the gradient of an output should be a Tensor, an array or a number, got str"):
        tg.grad(tg.sum(y), x, "1")


def test_grad_outputs_are_differentiated_through_too():
    x, v = leaf(0.7), leaf(1.3)
    g = tg.grad(tg.sin(x), x, v, create_graph=True)  # v cos(x)
    gx, gv = tg.grad(g, [x, v])
    np.testing.assert_allclose([gx.item(), gv.item()], [-1.3 * np.sin(0.7), np.cos(0.7)], rtol=1e-14)


def test_create_graph_to_the_third_order():
    x = leaf(0.3, -1.2, 2.0)
    derivative = tg.sin(x) * x  # x sin x
    expected = [np.sin(x.numpy()) + x.numpy() * np.cos(x.numpy()),
                2 * np.cos(x.numpy()) - x.numpy() * np.sin(x.numpy()),
                -3 * np.sin(x.numpy()) - x.numpy() * np.cos(x.numpy())]
    for order in range(3):
        derivative = tg.grad(tg.sum(derivative), x, create_graph=True)
        np.testing.assert_allclose(derivative.numpy(), expected[order], rtol=1e-13)


def test_a_gradient_is_a_constant_without_create_graph():
    x = leaf(2.0)
    assert not tg.grad(x * x, x).requires_grad
    assert tg.grad(x * x, x, create_graph=True).requires_grad


def test_grad_writes_nothing():
    x = leaf(2.0)
    y = x * x
    tg.grad(y, x)
    assert x.grad is None


def test_a_second_backward_needs_retain_graph():
    x = leaf(2.0)
    y = tg.exp(x) * x
    first = tg.grad(y, x, retain_graph=True)
    assert tg.grad(y, x).item() == first.item()
    with pytest.raises(RuntimeError, match=r"freed by an earlier grad .*retain_graph=True"):
        tg.grad(y, x)
    z = tg.exp(x)
    z.backward()
    with pytest.raises(RuntimeError, match="freed by an earlier grad"):
        z.backward()
    kept = tg.exp(x)
    tg.grad(kept, x, create_graph=True)
    tg.grad(kept, x)  # create_graph retains by default
    dropped = tg.exp(x)
    tg.grad(dropped, x, create_graph=True, retain_graph=False)
    with pytest.raises(RuntimeError, match="freed"):
        tg.grad(dropped, x)


def test_a_freed_part_below_a_new_output_is_refused_and_never_counted_as_zero():
    x = leaf(2.0)
    y = x * x
    z = y * 3.0
    tg.grad(y, x)
    with pytest.raises(RuntimeError, match="freed"):
        tg.grad(z, x)
    with pytest.raises(RuntimeError, match="freed"):
        tg.grad(z, [y, x])


def test_only_what_was_walked_is_freed():
    x = leaf(2.0)
    y = x * x
    z = y * y
    assert tg.grad(z, y).item() == 8.0  # the walk ends at y: y's own graph is untouched
    assert tg.grad(y, x).item() == 4.0
    w = y * 3.0  # and needs nothing of what lies below y, freed by now
    assert tg.grad(w, y).item() == 3.0


def test_only_what_lies_between_outputs_and_inputs_is_visited():
    before, calls_before = counting("before")
    aside, calls_aside = counting("aside")
    between, calls_between = counting("between")
    x, w = leaf(2.0), leaf(3.0)
    y = before(x)
    z = between(y) * aside(w)
    assert tg.grad(z, y).item() == 3.0
    assert (len(calls_before), len(calls_aside), len(calls_between)) == (0, 0, 1)


def test_a_vjp_is_told_what_needs_a_gradient():
    seen = []

    @tg.op(saves=(0, 1))
    def product(B, a, b):
        return a * b

    @product.vjp
    def _(needs, g, a, b):
        seen.append(tuple(needs))
        return tg.mul(g, b), tg.mul(g, a)

    a, b = leaf(2.0), leaf(3.0)
    y = product(a, b)
    for inputs in (a, b, [a, b]):
        tg.grad(y, inputs, retain_graph=True)
    assert seen == [(True, False), (False, True), (True, True)]


def test_a_shared_subgraph_is_walked_once_and_its_gradients_add_up():
    shared, calls = counting("shared")
    x = leaf(1.5)
    y = shared(x)
    for _ in range(20):
        y = y + y  # a million paths
    assert tg.grad(y, x).item() == 2.0**20
    assert len(calls) == 1
    p = leaf(3.0)
    assert tg.grad(p * p * p + p, p).item() == 28.0


def test_backward_accumulates_into_the_leaves():
    x, y = leaf(2.0, 3.0), leaf(4.0, 5.0)
    product = x * y
    tg.sum(product).backward()
    assert x.grad.tolist() == [4.0, 5.0] and y.grad.tolist() == [2.0, 3.0]
    (x * 2.0).backward(np.array([1.0, 10.0]))
    assert x.grad.tolist() == [6.0, 25.0] and y.grad.tolist() == [2.0, 3.0]
    assert product.grad is None and not x.grad.requires_grad
    kept = tg.sum(x)
    kept.backward(retain_graph=True)
    kept.backward()
    assert x.grad.tolist() == [8.0, 27.0]
    x.grad = None
    assert x.grad is None
    with pytest.raises(AttributeError, match="only a leaf"):
        product.grad = None


def test_backward_to_two_leaves_of_one_gradient_does_not_tie_them():
    x, y = leaf(1.0), leaf(1.0)
    (x + y).backward()
    (x * 3.0).backward()
    assert (x.grad.item(), y.grad.item()) == (4.0, 1.0)


# -- stale values ----------------------------------------------------------------------------------------------------


VIEWS = {
    "itself": lambda p: p,
    "reshape": lambda p: tg.reshape(p, (2, 3)),
    "transpose": lambda p: p.reshape(2, 3).T,
    "getitem": lambda p: p[1:],
    "detach": lambda p: p.detach(),
    "view of a view": lambda p: p.detach().reshape(3, 2)[1],
    "broadcast": lambda p: tg.broadcast_to(p, (2, 6)),
}


@pytest.mark.parametrize("kind", [tg.Parameter, tg.Buffer])
@pytest.mark.parametrize("view", VIEWS)
def test_a_saved_value_that_was_overwritten_is_refused(kind, view):
    value = kind(np.arange(1.0, 7.0))
    saved = VIEWS[view](value)
    x = tg.Tensor(np.ones(saved.shape), requires_grad=True)
    y = tg.sum(tg.mul(x, saved))
    value.assign(np.zeros(6))
    with pytest.raises(RuntimeError, match=r"<op mul> needs the values that a Parameter or Buffer of shape .* overwritten"):
        tg.grad(y, x)
    np.testing.assert_array_equal(tg.grad(tg.sum(tg.mul(x, VIEWS[view](value))), x).numpy(), 0.0)


@pytest.mark.parametrize("create_graph", [False, True])
def test_an_optimisers_step_under_a_live_graph_is_refused(create_graph):
    model = nn.Sequential(nn.Dense(3, 4), nn.Tanh(), nn.Dense(4, 1)).initialize(Key(0))
    optimizer = tg.optim.Adam(0.1)
    optimizer.bind(model)
    x = tg.Tensor(np.ones((2, 3), np.float32), requires_grad=True)
    loss = tg.sum(model(x))
    optimizer.step(tg.grad(loss, model.parameters(), retain_graph=True))
    with pytest.raises(RuntimeError, match="overwritten"):
        tg.grad(loss, x, create_graph=create_graph)
    assert CONTEXT.get().recording
    tg.grad(tg.sum(model(x)), x)  # a new graph is fine


def test_overwriting_what_was_not_saved_is_fine():
    p = tg.Parameter(np.ones(3))
    y = tg.sum(p + 1.0)  # the sum's gradient does not depend on p
    p.assign(np.zeros(3))
    assert tg.grad(y, p).tolist() == [1.0, 1.0, 1.0]


def test_a_copy_of_a_parameter_does_not_go_stale():
    p = tg.Parameter(np.full(3, 2.0))
    copies = [tg.Tensor(p), p[np.array([0, 1, 2])].detach(), (p + 0.0).detach()]
    x = leaf(1.0, 1.0, 1.0)
    ys = [tg.sum(x * c) for c in copies]
    p.assign(np.zeros(3))
    for y in ys:
        assert tg.grad(y, x).tolist() == [2.0, 2.0, 2.0]


@pytest.mark.parametrize("view", ["itself", "reshape", "detach"])
@pytest.mark.parametrize("kind", [tg.Parameter, tg.Buffer])
def test_a_value_overwritten_under_a_checkpoint_is_refused(kind, view):
    value, x = kind(np.arange(1.0, 7.0)), matrix(0, 6)

    def fn(a):
        return tg.sum(a.reshape(-1) * VIEWS[view](value).reshape(-1))

    for y in (tg.checkpoint(fn, x), tg.checkpoint(lambda a: tg.checkpoint(fn, a), x)):
        value.assign(np.zeros(6))
        with pytest.raises(RuntimeError, match="<op checkpoint> needs the values"):
            tg.grad(y, x)
    argument = tg.checkpoint(lambda a, b: tg.sum(a * b), x, value)
    value.assign(np.ones(6))
    with pytest.raises(RuntimeError, match="<op checkpoint> needs the values"):
        tg.grad(argument, x)


# -- exceptions and anomalies ----------------------------------------------------------------------------------------


@tg.op()
def broken(B, x):
    """An op whose vjp fails."""
    return x + 0


@broken.vjp
def _(needs, g):
    raise ZeroDivisionError("in the vjp")


@pytest.mark.parametrize("create_graph", [False, True])
def test_an_exception_in_a_vjp_leaves_the_engine_usable(create_graph):
    x = leaf(2.0)
    before = CONTEXT.get()
    with pytest.raises(ZeroDivisionError):
        tg.grad(tg.exp(broken(x)), x, create_graph=create_graph)
    with pytest.raises(ZeroDivisionError):
        tg.exp(broken(x)).backward()
    assert x.grad is None
    with pytest.raises(ZeroDivisionError):
        tg.grad(tg.checkpoint(broken, x), x)
    with tg.no_grad(), pytest.raises(ZeroDivisionError):
        with tg.enable_grad():
            y = broken(x)
        tg.grad(y, x)
    assert CONTEXT.get() is before
    assert tg.grad(x * x, x).item() == 4.0


def here():
    """The caller's line, as an anomaly's message has it."""
    frame = inspect.currentframe().f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def test_detect_anomaly_names_the_op_and_the_line_forward():
    x = leaf(1000.0)
    doubling = nn.Sequential(nn.Dense(1, 1)).astype(np.float64).load_state_dict({"0.weight": [[2.0]], "0.bias": [0.0]})
    with np.errstate(over="ignore", invalid="ignore"), tg.detect_anomaly():
        with pytest.raises(FloatingPointError) as error:
            line = here(); tg.exp(x)  # noqa: E702
        assert str(error.value).startswith("exp: ") and line in str(error.value)
        with pytest.raises(FloatingPointError, match=r"^log: "):
            tg.log(x - 2000.0)
        with pytest.raises(FloatingPointError, match=r"^dense: .*test_graph\.py:"), tg.fusion(True):
            doubling(tg.Tensor(np.full((1, 1), 1e308)))
        passed_on = tg.Tensor(np.array([np.inf]), requires_grad=True)
        assert tg.mul(passed_on, 2.0).item() == np.inf  # not where it first appears
    with np.errstate(over="ignore"):
        assert tg.exp(x).item() == np.inf


def test_detect_anomaly_names_the_op_and_the_line_backward():
    x = leaf(0.0, 1.0)
    with tg.detect_anomaly():
        y = tg.exp(x * 2.0)
        line = here(); root = tg.sqrt(x)  # noqa: E702
        with np.errstate(divide="ignore", invalid="ignore"), pytest.raises(FloatingPointError) as error:
            tg.grad(tg.sum(root) + tg.sum(y), x)
        assert "sqrt" in str(error.value) and "gradient of input 0" in str(error.value) and line in str(error.value)
        root = tg.sqrt(x)
        with np.errstate(divide="ignore", invalid="ignore"), pytest.raises(FloatingPointError, match="sqrt"):
            tg.sum(root).backward()
    with np.errstate(divide="ignore"):
        assert tg.grad(tg.sum(tg.sqrt(x)), x).numpy()[0] == np.inf


@tg.op(saves=(0,))
def composite(B, x):
    """x, whose vjp goes wrong where x is 2: in `log`, or in a division."""
    return x + 0


@composite.vjp
def _(needs, g, x):
    return (tg.mul(tg.div(g, tg.sub(x, 2.0)), tg.log(tg.exp(x))),)


@pytest.mark.parametrize("how", ["grad", "create_graph", "backward"])
@pytest.mark.parametrize("build, outer, inner", [
    (lambda x: composite(x), "composite", "div"),
    (lambda x: tg.sqrt(x - 2.0), "sqrt", "div"),
    (lambda x: tg.exp(composite(x)) * 2.0, "composite", "div"),
    (lambda x: (x - 2.0) * 1e200 * 1e200, "mul", "mul"),
    (lambda x: tg.checkpoint(lambda x: tg.sqrt(x - 2.0), x), "checkpoint", "div"),
])
def test_detect_anomaly_names_the_op_inside_a_vjp(build, outer, inner, how):
    x = leaf(2.0, 2.0)
    with np.errstate(all="ignore"), tg.detect_anomaly():
        y = build(x).sum()
        with pytest.raises(FloatingPointError, match=outer) as error:
            y.backward() if how == "backward" else tg.grad(y, x, create_graph=how == "create_graph")
    assert f"(in {inner}, which its vjp calls)" in str(error.value) and "test_graph.py:" in str(error.value)


@pytest.mark.parametrize("build", [lambda x: x * 1e308 + x * 1e308, lambda x: (x * np.full(3, 1e308)).sum()])
def test_detect_anomaly_in_a_sum_of_gradients(build):
    x = leaf(0.0)
    message = r"mul>: the first NaN or infinity appears where the gradient of input 0 is added up.* from .*test_graph\.py:"
    with np.errstate(over="ignore"), tg.detect_anomaly(), pytest.raises(FloatingPointError, match=message):
        tg.grad(build(x), x)


def test_detect_anomaly_without_an_inner_op():
    x, y = leaf(0.0), leaf(1.0)
    with np.errstate(all="ignore"):
        z = tg.mul(x, tg.exp(y * 1000.0))  # infinite before anybody looks
        with tg.detect_anomaly(), pytest.raises(FloatingPointError) as error:
            tg.grad(z * 0.0, x)
    assert "mul" in str(error.value) and "which its vjp calls" not in str(error.value)


OVERWRITTEN = {
    "mul": lambda x, a: x * a,
    "mul from the left": lambda x, a: a * x,
    "div": lambda x, a: x / a,
    "matmul": lambda x, a: x.reshape(1, 4) @ a.reshape(4, 1),
    "view": lambda x, a: x[:2] * a[1:3],
    "view by an op": lambda x, a: x.reshape(2, 2) * tg.reshape(a, (2, 2)),
    "mask": lambda x, a: x * (a > 0)[:] * a,
    "index": lambda x, a: x[a.view(np.int64)] * 2.0,
    "condition": lambda x, a: tg.where(a.view(bool)[::8], x, 0.0),
    "loss": lambda x, a: tg.mean_squared_error(x * x, a) * tg.sum(x * a),
    "einsum": lambda x, a: tg.einsum("i,i->", x, a),
    "einsum of both": lambda x, a: tg.einsum("i,j->ij", a, x),
    "checkpoint": lambda x, a: tg.checkpoint(lambda x, a: tg.exp(x * a), x, a),
    "closed over by a checkpoint": lambda x, a: tg.checkpoint(lambda x: tg.exp(x + a), x),
    "nested checkpoints": lambda x, a: tg.checkpoint(lambda x: tg.checkpoint(lambda x: tg.exp(x * a), x), x),
}


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("name", OVERWRITTEN)
def test_detect_anomaly_notices_an_array_that_was_overwritten(name, inside):
    x, a = leaf(1.0, 2.0, 3.0, 4.0), np.array([0.5, 1.5, 2.5, 3.5])
    if name in ("index", "condition"):
        a = np.array([0, 1, 2, 3]).view(np.float64)
    with tg.detect_anomaly():
        y = tg.sum(OVERWRITTEN[name](x, a))
        tg.grad(y, x, retain_graph=True)  # nothing was written yet
        a[1:] = a[0]
        if inside:
            with pytest.raises(RuntimeError, match=r"an array of shape .* overwritten since"):
                tg.grad(y, x)
    if not inside:  # what was noted is looked at wherever the gradient is computed
        for create_graph in (True, False):
            with pytest.raises(RuntimeError, match=r"an array of shape .* overwritten since"):
                tg.grad(y, x, create_graph=create_graph)


def test_an_overwritten_array_is_named_with_the_line():
    x, a = leaf(1.0, 2.0), np.array([3.0, 4.0])
    with tg.detect_anomaly():
        line = here(); y = x * a  # noqa: E702
        a[:] = 0
        with pytest.raises(RuntimeError, match=r"<op mul> needs the values that an array of shape \(2,\)") as error:
            tg.sum(y).backward()
    assert line in str(error.value)
    a[:] = [3.0, 4.0]
    y = x * a  # outside, nobody looks: the docstring of Tensor says it
    a[:] = 0
    assert tg.grad(tg.sum(y), x).tolist() == [0, 0]


def test_an_overwritten_array_on_a_device(other_device):
    x = tg.Tensor(tg.to_device(np.ones(3, np.float32), other_device), requires_grad=True)
    a = tg.to_device(np.arange(3, dtype=np.float32), other_device)
    with tg.detect_anomaly():
        y = tg.sum(x * a)
        a[:] = 0
        with pytest.raises(RuntimeError, match=r"an array of shape .* overwritten since"):
            tg.grad(y, x)


@pytest.mark.parametrize("hidden", [16, 300])
def test_training_under_detect_anomaly_computes_the_same(hidden):
    """Nothing that tinygan itself writes to between forward and backward is taken for an array of the user's."""
    weights = []
    for checked in (False, True):
        generator = nn.Sequential(nn.Dense(8, hidden), nn.BatchNorm(hidden), nn.ReLU(), nn.Dense(hidden, 12), nn.Tanh())
        discriminator = nn.Sequential(nn.Dense(12, hidden), nn.LeakyReLU(0.2), nn.Dropout(0.1), nn.Dense(hidden, 1))
        gan = tg.gans.VanillaGAN(generator, discriminator, latent_dim=8, key=Key(0))
        real = np.random.default_rng(0).uniform(-1, 1, (32, 12)).astype(np.float32)
        with tg.detect_anomaly() if checked else tg.enable_grad():
            for _ in range(3):
                gan.step(real)
        weights.append([p.numpy().copy() for p in [*generator.parameters(), *discriminator.parameters()]])
    for a, b in zip(*weights, strict=True):
        np.testing.assert_array_equal(a, b)


# -- numbers to start from -------------------------------------------------------------------------------------------

UNARY = {"tanh": tg.tanh, "sigmoid": tg.sigmoid, "relu": tg.relu, "neg": tg.neg, "exp": tg.exp, "sqrt": tg.sqrt, "abs": tg.abs,
         "sum": tg.sum, "mean": tg.mean, "reshape": lambda x: tg.reshape(x, ()), "logsumexp": tg.logsumexp, "max": tg.max,
         "mul": lambda x: x * 2.0, "clip": lambda x: tg.clip(x, 0, 9), "getitem": lambda x: x[...],
         "transpose": tg.transpose, "itself": lambda x: x, "softplus": tg.softplus, "leaky_relu": tg.leaky_relu,
         "pow": lambda x: x**3, "where": lambda x: tg.where(True, x, 0.0), "astype": lambda x: tg.astype(x, np.float64)}
NUMBERS = [2, 2.0, np.float64(2), np.float32(2), np.int64(2), np.float16(2)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", UNARY)
def test_a_number_is_a_gradient_without_axes(name, dtype):
    x = tg.Tensor(np.asarray(0.7, dtype), requires_grad=True)
    y = UNARY[name](x)
    expected = 2 * tg.grad(UNARY[name](x), x).item()
    for number in NUMBERS:
        for given in (number, [number]):
            for create_graph in (False, True):
                g = tg.grad(y, x, given, create_graph=create_graph, retain_graph=True)
                assert g.dtype == dtype and g.shape == () and isinstance(g, tg.Tensor)
                np.testing.assert_allclose(g.item(), expected, rtol=1e-6)
        x.grad = None
        y.backward(number, retain_graph=True)
        assert x.grad.dtype == dtype and x.grad.shape == ()
        np.testing.assert_allclose(x.grad.item(), expected, rtol=1e-6)


def test_a_number_for_an_output_with_axes_and_strange_gradients_are_refused():
    x = tg.Tensor([1.0, 2.0], requires_grad=True)
    for number in NUMBERS:
        with pytest.raises(ValueError, match=r"shape \(\) and dtype float32, expected \(2,\) and float32"):
            tg.grad(x * 2.0, x, number)
        with pytest.raises(ValueError, match="backward: the gradient of an output has shape"):
            (x * 2.0).backward(number)
    for strange, name in (("1", "str"), ({}, "dict"), (1j, "complex"), (np.complex64(1), "numpy.complex64"), (object(), "object")):
        with pytest.raises(TypeError, match=f"should be a Tensor, an array or a number, got {name}"):
            tg.grad(tg.sum(x), x, strange)
    with pytest.raises(ValueError, match="dtype float64, expected"):
        tg.grad(tg.sum(x), x, np.asarray(1.0))  # an array keeps its precision, and is not cast
    with pytest.raises(ValueError, match="dtype bool, expected"):
        tg.grad(x * 1.0, x, np.array([True, False]))


def test_a_gradient_on_another_device_is_refused(other_device):
    x = tg.Tensor(tg.to_device(np.ones(2, np.float32), other_device), requires_grad=True)
    with pytest.raises(TypeError, match="grad: the gradient of an output is on cpu, but the output is on"):
        tg.grad(x * 2.0, x, np.ones(2, np.float32))
    g = tg.grad(tg.sum(x), x, np.float64(3))
    assert g.device == x.device and g.tolist() == [3, 3]


def test_the_grad_of_a_leaf_is_set_to_none_or_to_a_tensor_like_it():
    x = leaf(1.0, 2.0)
    for wrong in (np.ones(2), 0, tg.Tensor(np.ones(3)), tg.Tensor(np.ones(2, np.float32))):
        with pytest.raises(TypeError, match=r"grad: expected None or a Tensor of shape \(2,\) and float64, got"):
            x.grad = wrong
    x.grad = tg.Tensor(np.zeros(2))
    tg.sum(x).backward()
    assert x.grad.tolist() == [1, 1]


def test_a_gradient_does_not_share_the_memory_of_the_array_that_it_started_from():
    x, seed = tg.Tensor(np.ones(3), requires_grad=True), np.ones(3)
    (x + 0.0).backward(seed)
    g = tg.grad(x + 0.0, x, seed)
    seed[:] = 99
    assert x.grad.tolist() == g.tolist() == [1, 1, 1]
