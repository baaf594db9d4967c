"""The optimisers: `step` against PyTorch and against the pure `update`, derivatives through updates, schedules, clipping."""
import inspect
import math

import numpy as np
import pytest

import tinygan as tg
from tinygan import nn, optim
from tinygan.backends import cpu
from tinygan.context import override
from tinygan.kernels.optimizer_settings import SETTINGS
from tinygan.nn import initializers
from tinygan.optim.rules import RULES as RECORDS
from tinygan.random import Key

SHAPES = [(3, 4), (5,), (), (2, 1, 3), (0, 3), (300, 200)]  # the last one is large enough to be shared among threads

RULES = {
    "sgd": lambda: optim.SGD(0.1),
    "sgd with momentum": lambda: optim.SGD(0.1, momentum=0.9, weight_decay=0.01),
    "sgd with nesterov": lambda: optim.SGD(0.1, momentum=0.8, nesterov=True, weight_decay=0.1),
    "rmsprop": lambda: optim.RMSProp(0.01),
    "rmsprop with decay": lambda: optim.RMSProp(0.01, decay=0.9, eps=1e-3, weight_decay=0.1),
    "adam": lambda: optim.Adam(0.01),
    "adam with decay": lambda: optim.Adam(0.01, betas=(0.9, 0.99), eps=1e-3, weight_decay=0.1),
    "adamw": lambda: optim.AdamW(0.01, betas=(0.8, 0.95), weight_decay=0.1),
    "adam with a schedule": lambda: optim.Adam(optim.exponential_decay(0.01, 0.7)),
    "sgd with a schedule": lambda: optim.SGD(optim.linear_decay(0.1, 0.02, 4), momentum=0.5),
}


def theirs(torch, rule, parameters):
    o = torch.optim
    optimizer = {
        "sgd": lambda p: o.SGD(p, 0.1),
        "sgd with momentum": lambda p: o.SGD(p, 0.1, momentum=0.9, weight_decay=0.01),
        "sgd with nesterov": lambda p: o.SGD(p, 0.1, momentum=0.8, nesterov=True, weight_decay=0.1),
        "rmsprop": lambda p: o.RMSprop(p, 0.01),
        "rmsprop with decay": lambda p: o.RMSprop(p, 0.01, alpha=0.9, eps=1e-3, weight_decay=0.1),
        "adam": lambda p: o.Adam(p, 0.01, betas=(0.5, 0.999)),
        "adam with decay": lambda p: o.Adam(p, 0.01, betas=(0.9, 0.99), eps=1e-3, weight_decay=0.1),
        "adamw": lambda p: o.AdamW(p, 0.01, betas=(0.8, 0.95), weight_decay=0.1),
        "adam with a schedule": lambda p: o.Adam(p, 0.01, betas=(0.5, 0.999)),
        "sgd with a schedule": lambda p: o.SGD(p, 0.1, momentum=0.5),
    }[rule](parameters)
    if rule == "adam with a schedule":
        return optimizer, o.lr_scheduler.ExponentialLR(optimizer, 0.7)
    if rule == "sgd with a schedule":
        return optimizer, o.lr_scheduler.LinearLR(optimizer, 1.0, 0.2, 4)
    return optimizer, None


def draw(name, dtype, shapes=SHAPES):
    return [Key(0).fold(name).fold(i).normal(shape, dtype) for i, shape in enumerate(shapes)]


def bound(optimizer, arrays):
    parameters = {str(i): tg.Parameter(a) for i, a in enumerate(arrays)}
    optimizer.bind(parameters)
    return list(parameters.values())


def assert_close(ours, others, rtol, atol):
    for a, b in zip(ours, others, strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=rtol, atol=atol)


# -- step and update -------------------------------------------------------------------------------------------------


@pytest.mark.oracle
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_step_does_what_pytorch_does(rule, dtype):
    torch = pytest.importorskip("torch")
    optimizer = RULES[rule]()
    start = draw("start", dtype)
    parameters = bound(optimizer, start)
    others = [torch.tensor(a, requires_grad=True) for a in start]
    other, schedule = theirs(torch, rule, others)
    for i in range(7):
        gradients = draw(f"gradients {i}", dtype)
        optimizer.step(gradients)
        for p, g in zip(others, gradients, strict=True):
            p.grad = torch.tensor(g)
        other.step()
        if schedule:
            schedule.step()
    rtol, atol = (1e-11, 1e-13) if dtype == np.float64 else (2e-5, 2e-6)
    assert_close(parameters, [p.detach().numpy() for p in others], rtol, atol)


@pytest.mark.parametrize("rule", RULES)
def test_step_does_what_the_pure_update_does(rule):
    optimizer, pure = RULES[rule](), RULES[rule]()
    values = draw("start", np.float64)
    parameters = bound(optimizer, values)
    state = pure.initial_state(values)
    for i in range(6):
        gradients = draw(f"gradients {i}", np.float64)
        optimizer.step([tg.Tensor(g) for g in gradients])
        given = [v.copy() for v in values]
        values, state = pure.update(values, gradients, state)
        assert_close(draw(f"gradients {i}", np.float64), gradients, 0, 0)  # nothing was written to
        assert all(a is not b for a, b in zip(given, values, strict=True))
    assert_close(parameters, values, 1e-12, 1e-14)
    assert optimizer.count == state.updates == 6
    for slot, arrays in optimizer.state().slots.items():
        assert_close(arrays, state.slots[slot], 1e-12, 1e-14)


@pytest.mark.parametrize("rule", RULES)
def test_update_is_differentiable_through_several_updates(rule):
    # A loss of the parameters after four updates, whose gradients depend on the parameters, as an unrolled GAN has it.
    pure = RULES[rule]()

    def unrolled(w, b, target):
        parameters, state = [w, b], pure.initial_state([w, b])
        for _ in range(4):
            y = tg.tanh(parameters[0] * target) + parameters[1]
            gradients = tg.grad(tg.sum(y * y), parameters, create_graph=True)
            parameters, state = pure.update(parameters, gradients, state)
        return tg.sum(tg.exp(parameters[0])) + tg.sum(parameters[1] * parameters[1])

    def recorded(w, b, target):  # the inner gradients need leaves or recorded Tensors, also where nothing is recorded
        given = [t if t.requires_grad else tg.Tensor(t, requires_grad=True) for t in (w, b)]
        return unrolled(*given, target)

    w, b, target = np.array([0.5, -0.8, 1.2]), np.array([0.3, 0.9, -0.4]), np.array([1.1, 0.7, -0.6])
    tg.check_gradients(recorded, w, b, target, order=2, rtol=1e-4)


def test_derivatives_through_adam_are_finite_and_right_at_a_zero_second_moment():
    pure = optim.Adam(0.01)

    def after(g, w):
        new, _ = pure.update([w], [g], pure.initial_state([w]))
        return tg.sum(new[0] * new[0])

    g = tg.Tensor(np.array([0.0, 0.3]), requires_grad=True)  # the first unit is dead
    w = tg.Tensor(np.array([1.0, 2.0]), requires_grad=True)
    for order in (1, 2):
        gradients = tg.grad(after(g, w), [g, w], create_graph=True)
        total = tg.sum(gradients[0]) + tg.sum(gradients[1])
        if order == 2:
            gradients = tg.grad(total, [g, w])
        assert all(np.isfinite(x.numpy()).all() for x in gradients)
    # With g = 0 and v = 0 the update is w - rate * g / eps: its derivative with respect to g is -rate / eps.
    expected = 2 * 1.0 * -0.01 / pure.eps
    np.testing.assert_allclose(tg.grad(after(g, w), g).numpy()[0], expected, rtol=1e-6)
    for rule in (optim.RMSProp(0.01), optim.AdamW(0.01)):
        new, _ = rule.update([w], [g], rule.initial_state([w]))
        assert np.isfinite(tg.grad(tg.sum(new[0]), g).numpy()).all()


@pytest.mark.parametrize("rule", RULES)
def test_step_takes_gradients_and_parameters_of_any_layout(rule):
    shape = (6, 4)
    values = draw("start", np.float64, [shape])[0]
    gradient = draw("gradient", np.float64, [shape])[0]
    layouts = [gradient, np.asfortranarray(gradient), np.repeat(gradient, 2, 1)[:, ::2], gradient[::-1].copy()[::-1]]
    starts = [values, np.asfortranarray(values), np.repeat(values, 2, 0)[::2]]
    results = []
    for start in starts:
        for layout in layouts:
            optimizer = RULES[rule]()
            parameters = bound(optimizer, [start])
            for _ in range(2):
                optimizer.step([layout])
            results.append(parameters[0].numpy())
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


def test_step_takes_a_gradient_that_is_a_broadcast():
    optimizer = optim.SGD(0.5)
    parameters = bound(optimizer, [np.ones((3, 2))])
    optimizer.step(tg.grad(tg.sum(parameters[0]), parameters))
    np.testing.assert_array_equal(parameters[0], np.full((3, 2), 0.5))


@pytest.mark.parametrize("shape", [(3, 8), (8, 3)])
def test_step_updates_orthogonal_weights(shape):
    layer = nn.Dense(shape[1], shape[0], bias=False, initializer=initializers.orthogonal()).initialize(Key(0))
    before, gradient = layer.weight.numpy().copy(), Key(1).normal(shape)
    optimizer = optim.SGD(0.1)
    optimizer.bind(layer)
    optimizer.step([gradient])
    np.testing.assert_allclose(layer.weight, before - np.float32(0.1) * gradient, rtol=1e-5, atol=1e-7)


def test_step_after_a_change_of_precision():
    layer = nn.Dense(2, 3).initialize(Key(0))
    optimizer, twin = optim.Adam(0.1), optim.Adam(0.1)
    optimizer.bind(layer)
    start = [p.numpy().astype(np.float64) for p in layer.parameters()]
    optimizer.step([np.ones(p.shape, np.float32) for p in layer.parameters()])
    layer.astype(np.float64)
    optimizer.step([np.full(p.shape, 2.0) for p in layer.parameters()])
    state = twin.initial_state(start)
    for value in (1.0, 2.0):
        start, state = twin.update(start, [np.full(p.shape, value) for p in start], state)
    assert_close(layer.parameters(), start, 1e-6, 1e-7)


def test_step_makes_live_graphs_stale_and_needs_no_gradient_recording():
    parameters = bound(optimizer := optim.SGD(0.1), [np.ones(2)])
    y = tg.sum(parameters[0] * parameters[0])
    with tg.no_grad():
        optimizer.step([np.ones(2)])
    with pytest.raises(RuntimeError, match="overwritten"):
        tg.grad(y, parameters)


def test_an_optimizer_trains():
    model = nn.Sequential(nn.Dense(2, 16), nn.Tanh(), nn.Dense(16, 1)).initialize(Key(0))
    optimizer = optim.Adam(0.02, betas=(0.9, 0.999))
    optimizer.bind(model)
    x = Key(1).uniform((256, 2), -1.0, 1.0)
    target = (x[:, :1] * x[:, 1:])
    losses = []
    for _ in range(400):
        loss = tg.mean_squared_error(model(x), target)
        optimizer.step(tg.grad(loss, model.parameters()))
        losses.append(loss.item())
    assert losses[-1] < 0.02 * np.var(target) < losses[0]


# -- state and errors ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES)
def test_a_restored_optimizer_continues_bit_for_bit(rule):
    optimizer = RULES[rule]()
    parameters = bound(optimizer, draw("start", np.float32))
    for i in range(3):
        optimizer.step(draw(i, np.float32))
    state, values = optimizer.state_dict(), [p.numpy().copy() for p in parameters]
    assert state["count"] == 3 and {name.rpartition(".")[0] for name in state} - {""} == {str(i) for i in range(len(SHAPES))}
    other = RULES[rule]()
    others = bound(other, values)
    other.load_state_dict(state)
    for array in state.values():
        array[...] = 0  # both have copies
    for i in range(3, 6):
        optimizer.step(draw(i, np.float32))
        other.step(draw(i, np.float32))
    for a, b in zip(parameters, others, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_a_state_that_does_not_fit_is_refused_and_changes_nothing():
    optimizer = optim.Adam()
    bound(optimizer, [np.ones(2), np.ones(3)])
    optimizer.step([np.ones(2), np.ones(3)])
    state = {**optimizer.state_dict(), "2.m": np.ones(1), "0.v": np.ones((2, 1))}
    del state["1.m"]
    before = optimizer.state_dict()
    with pytest.raises(ValueError) as error:
        optimizer.load_state_dict(state)
    for part in ("Adam", "missing '1.m'", "unexpected '2.m'", "'0.v' has shape (2, 1), expected (2,)"):
        assert part in str(error.value)
    for name, value in optimizer.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


def test_errors_name_what_is_wrong():
    optimizer = optim.Adam()
    with pytest.raises(ValueError, match=r"Adam: not bound to parameters yet"):
        optimizer.step([])
    parameters = bound(optimizer, [np.ones(2, np.float32), np.ones((2, 3), np.float32)])
    with pytest.raises(ValueError, match="already bound"):
        optimizer.bind({})
    ones = [np.ones(p.shape, np.float32) for p in parameters]
    with pytest.raises(ValueError, match="Adam: 2 parameters but 1 gradients"):
        optimizer.step(ones[:1])
    with pytest.raises(ValueError, match=r"Adam: gradient 1 is \(3, 2\) float32, its parameter \(2, 3\) float32"):
        optimizer.step([ones[0], ones[1].T])
    with pytest.raises(ValueError, match=r"gradient 0 is \(2,\) float64, its parameter \(2,\) float32"):
        optimizer.step([ones[0].astype(np.float64), ones[1]])
    assert optimizer.count == 0 and all((p.numpy() == 1).all() for p in parameters)
    mixed = optim.SGD(0.1)
    bound(mixed, [np.ones(2, np.float32), np.ones(2)])
    with pytest.raises(ValueError, match=r"SGD: .*float32.*float64"):
        mixed.step([np.ones(2, np.float32), np.ones(2)])


@pytest.mark.parametrize("make, message", [
    (lambda: optim.Adam(0.0), "Adam: learning_rate should be positive, got 0.0"),
    (lambda: optim.SGD(float("nan")), "learning_rate should be positive, got nan"),
    (lambda: optim.Adam(betas=(1.0, 0.9)), "betas should be two numbers in"),
    (lambda: optim.Adam(1e-3, 0.9), "betas should be two numbers in"),
    (lambda: optim.Adam(betas=(0.9,)), "betas should be two numbers in"),
    (lambda: optim.SGD(0.1, momentum=1.0), "momentum should be in"),
    (lambda: optim.SGD(0.1, nesterov=True), "momentum should be in"),
    (lambda: optim.AdamW(weight_decay=-1.0), "AdamW: weight_decay should not be negative, got -1.0"),
    (lambda: optim.RMSProp(0.1, decay=1.5), "RMSProp: decay should be in"),
    (lambda: optim.Adam(eps=0.0), "Adam: eps should be positive, got 0.0"),
    (lambda: optim.RMSProp(0.1, eps=-1.0), "RMSProp: eps should be positive, got -1.0"),
    (lambda: optim.ExponentialMovingAverage(nn.Dense(1, 1), 1.0), "decay should be in"),
    (lambda: optim.clip_by_norm([np.ones(2)], 0.0), "clip_by_norm: limit should be positive, got 0.0"),
    (lambda: optim.clip_by_value([np.ones(2)], -1.0), "clip_by_value: limit should be positive, got -1.0"),
    (lambda: optim.step_decay(1.0, 0.5, 0), "step_decay: every should be at least 1, got 0"),
    (lambda: optim.linear_decay(1.0, 0.0, -1), "linear_decay: updates should be at least 1, got -1"),
    (lambda: optim.cosine_decay(1.0, 0.0, 0), "cosine_decay: updates should be at least 1, got 0"),
    (lambda: optim.warmup(1.0, 0), "warmup: updates should be at least 1, got 0"),
])
def test_settings_without_sense_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_repr_shows_the_settings():
    assert repr(optim.Adam(0.1)) == "Adam(learning_rate=0.1, weight_decay=0.0, betas=(0.5, 0.999), eps=1e-08)"


# -- the table of rules ----------------------------------------------------------------------------------------------

CLASSES = {"sgd": optim.SGD, "rmsprop": optim.RMSProp, "adam": optim.Adam, "adamw": optim.AdamW}
PAPERS = {
    "sgd": {"momentum": 0.0, "nesterov": False, "weight_decay": 0.0},
    "rmsprop": {"decay": 0.99, "eps": 1e-8, "weight_decay": 0.0},
    "adam": {"learning_rate": 2e-4, "betas": (0.5, 0.999), "eps": 1e-8, "weight_decay": 0.0},
    "adamw": {"learning_rate": 2e-4, "betas": (0.5, 0.999), "eps": 1e-8, "weight_decay": 0.01},
}


def test_each_optimiser_has_its_rules_record():
    assert RECORDS.keys() == CLASSES.keys() and {record.kernel for record in RECORDS.values()} == SETTINGS.keys()
    for name, kind in CLASSES.items():
        record, parameters = RECORDS[name], inspect.signature(kind).parameters
        assert kind.rule is record
        defaults = {key: p.default for key, p in parameters.items() if p.default is not inspect.Parameter.empty}
        assert defaults == record.defaults == PAPERS[name]
        assert callable(getattr(cpu, record.kernel)) and (record.grad_kernel is None or callable(getattr(cpu, record.grad_kernel)))


@pytest.mark.parametrize("name", CLASSES)
def test_the_kernels_settings_are_those_of_the_rule(name):
    optimizer = CLASSES[name](lambda count: 0.1 * (count + 1))
    settings = optimizer.settings_at(2)
    assert type(settings) is SETTINGS[optimizer.rule.kernel] and settings.learning_rate == pytest.approx(0.3)
    if "betas" in optimizer.rule.defaults:
        assert (settings.beta1, settings.beta2, settings.eps) == (*optimizer.betas, optimizer.eps)
        assert settings.correction1 == 1 - 0.5**3 and settings.correction2 == 1 - 0.999**3
        assert settings.decoupled == (name == "adamw")


def test_an_optimizer_of_ones_own_may_have_a_step_alone():
    class SignDescent(optim.Optimizer):
        def step(self, gradients):
            for parameter, g in zip(self._bound(), gradients, strict=True):
                parameter.assign(parameter.numpy() - self.learning_rate_at(self.count) * np.sign(g.numpy()))
            self.count += 1

    network = nn.Dense(2, 1).initialize(Key(0))
    before, optimizer = network.state_dict(), SignDescent(0.1)
    optimizer.bind(network)
    optimizer.step([tg.Tensor(np.full(p.shape, -3.0, np.float32)) for p in network.parameters()])
    for path, array in network.state_dict().items():
        np.testing.assert_allclose(array, before[path] + 0.1, rtol=1e-6)
    state = optimizer.state_dict()
    assert list(state) == ["count"] and state["count"] == 1
    optimizer.load_state_dict({"count": np.array(5)})
    assert optimizer.count == 5


def test_an_optimiser_without_a_rule_is_refused():
    with pytest.raises(TypeError, match="Mine: its class has no rule"):
        type("Mine", (optim.Optimizer,), {})(0.1)


def test_an_update_whose_settings_change_is_no_part_of_a_recorded_step():
    class Recorder:
        def constant(self, array):
            return array

    ones = [np.ones(2)]
    with override(listener=Recorder()):  # somebody records
        optim.SGD(0.1).update(ones, ones, optim.State(0, {"velocity": ones}))
        for optimizer in (optim.SGD(optim.step_decay(0.1, 0.5, 10)), optim.Adam(0.1)):
            state = optim.State(0, dict.fromkeys(optimizer.rule.slots, ones))
            with pytest.raises(RuntimeError, match=r"update inside a capture: its settings change"):
                optimizer.update(ones, ones, state)


# -- schedules, averages, clipping -----------------------------------------------------------------------------------


def test_schedules():
    def values(schedule, n=6):
        return [schedule(i) for i in range(n)]

    np.testing.assert_allclose(values(optim.step_decay(1.0, 0.5, 2)), [1, 1, 0.5, 0.5, 0.25, 0.25])
    np.testing.assert_allclose(values(optim.exponential_decay(2.0, 0.1), 3), [2, 0.2, 0.02])
    np.testing.assert_allclose(values(optim.linear_decay(1.0, 0.2, 4)), [1, 0.8, 0.6, 0.4, 0.2, 0.2])
    for start, end in ((1.0, 1e-17), (0.7, 0.1), (1e-9, 2.0)):  # the ends themselves, not what rounding leaves of them
        for decay in (optim.linear_decay, optim.cosine_decay):
            assert decay(start, end, 3)(0) == start and decay(start, end, 3)(3) == end
    half = math.sqrt(0.5)
    np.testing.assert_allclose(values(optim.cosine_decay(3.0, 1.0, 4)), [3, 2 + half, 2, 2 - half, 1, 1], rtol=1e-12)
    np.testing.assert_allclose(values(optim.warmup(0.8, 4)), [0.2, 0.4, 0.6, 0.8, 0.8, 0.8])
    np.testing.assert_allclose(values(optim.warmup(optim.linear_decay(1.0, 0.0, 4), 2), 4), [0.5, 0.75, 0.5, 0.25])


def test_the_learning_rate_of_each_update_is_the_schedules():
    optimizer = optim.SGD(lambda count: [1.0, 10.0, 100.0][count])
    parameters = bound(optimizer, [np.zeros(1)])
    seen = []
    for _ in range(3):
        optimizer.step([np.ones(1)])
        seen.append(parameters[0].item())
    assert seen == [-1.0, -11.0, -111.0]


@pytest.mark.oracle
@pytest.mark.parametrize("limit", [0.5, 1e3])
def test_clipping_does_what_pytorch_does(limit):
    torch = pytest.importorskip("torch")
    gradients = draw("gradients", np.float64, [(3, 4), (5,), ()])
    others = [torch.zeros(g.shape, dtype=torch.float64) for g in gradients]
    for other, g in zip(others, gradients, strict=True):
        other.grad = torch.tensor(g)
    norm = torch.nn.utils.clip_grad_norm_(others, limit)
    clipped, ours = optim.clip_by_norm(gradients, limit)
    np.testing.assert_allclose(ours, norm.item(), rtol=1e-12)
    assert_close(clipped, [o.grad.numpy() for o in others], 1e-5, 0)  # PyTorch adds 1e-6 to the norm
    for other, g in zip(others, gradients, strict=True):
        other.grad = torch.tensor(g)
    torch.nn.utils.clip_grad_value_(others, limit)
    assert_close(optim.clip_by_value(gradients, limit), [o.grad.numpy() for o in others], 0, 0)


def test_clipping_is_differentiable_and_takes_zeros():
    def clipped(a, b):
        (x, y), norm = optim.clip_by_norm([a, b], 0.7)
        return tg.sum(tg.sin(x)) + tg.sum(y * y) + norm

    tg.check_gradients(clipped, np.array([0.5, -0.9]), np.array([[1.3]]))
    tg.check_gradients(clipped, np.array([0.1, -0.2]), np.array([[0.3]]))
    zeros = tg.Tensor(np.zeros(3), requires_grad=True)
    (same,), norm = optim.clip_by_norm([zeros], 1.0)
    assert norm.item() == 0 and not same.numpy().any()
    assert np.isfinite(tg.grad(tg.sum(same) + norm, zeros).numpy()).all()
    assert optim.clip_by_norm([], 1.0) == ([], 0.0)


def test_an_exponential_moving_average():
    model = nn.Sequential(nn.Dense(2, 2), nn.BatchNorm(2)).initialize(Key(0))
    average = optim.ExponentialMovingAverage(model, 0.9)
    expected = model[0].weight.numpy().astype(np.float64)
    for i in range(5):
        model[0].weight.assign(Key(i).normal((2, 2)))
        expected = 0.9 * expected + 0.1 * model[0].weight.numpy()
        average.update()
    own = model.state_dict()
    x = tg.Tensor(np.ones((1, 2), np.float32), requires_grad=True)
    y = tg.sum(model[0](x))
    with pytest.raises(KeyError), average.applied():
        np.testing.assert_allclose(model[0].weight, expected, rtol=1e-5)
        raise KeyError
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, own[name])
    with pytest.raises(RuntimeError, match="overwritten"):
        tg.grad(y, x)
    state = average.state_dict()
    other = optim.ExponentialMovingAverage(model, 0.9)
    other.load_state_dict(state)
    for array in state.values():
        array[...] = 0
    for a, b in zip(average.state_dict().values(), other.state_dict().values(), strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match=r"'0.bias' has shape \(1,\), expected \(2,\)"):
        other.load_state_dict({**other.state_dict(), "0.bias": np.ones(1)})
    with pytest.raises(ValueError, match=r"missing .0\.bias."):
        other.load_state_dict({})
