"""Modules and Parameters wherever a module holds them, and errors that name the layer in which they arose."""
from __future__ import annotations

import collections
import copy
import dataclasses
import pickle
import types

import numpy as np
import pytest

import tinygan as tg
from tinygan import nn
from tinygan.random import Key


def x(*shape):
    return Key(0).normal(shape)


class Nested(nn.Module):
    """Modules and Parameters in dicts, in lists of lists and in dicts of lists."""

    def __init__(self):
        self.branches = {"a": nn.Dense(3, 3), "b": [nn.Dense(3, 3), (nn.Dense(3, 3),)]}
        self.levels = [[nn.Dense(3, 3)], {7: nn.BatchNorm(3)}]
        self.scales = [tg.Parameter(np.ones(3, np.float32)), tg.Parameter(np.ones(3, np.float32))]
        self.named = {"shift": tg.Parameter(np.zeros(3, np.float32)), "seen": tg.Buffer(np.zeros(3, np.float32))}
        self.settings = {"numbers": [1, 2], "text": ("a", None)}

    def forward(self, x):
        for layer in (self.branches["a"], *self.branches["b"][1], self.branches["b"][0], self.levels[0][0], self.levels[1][7]):
            x = layer(x)
        return x * self.scales[0] * self.scales[1] + self.named["shift"]


PARAMETERS = ["scales.0", "scales.1", "named.shift", "branches.a.weight", "branches.a.bias", "branches.b.0.weight",
              "branches.b.0.bias", "branches.b.1.0.weight", "branches.b.1.0.bias", "levels.0.0.weight", "levels.0.0.bias",
              "levels.1.7.weight", "levels.1.7.bias"]


def test_modules_and_parameters_are_found_in_dicts_and_nested_lists_and_trained():
    model = Nested().initialize(Key(0))
    assert [path for path, _ in model.named_parameters()] == PARAMETERS
    assert set(model.state_dict()) - set(PARAMETERS) == {"named.seen", "levels.1.7.running_mean", "levels.1.7.running_var",
                                                         "levels.1.7.num_batches_tracked"}
    assert dict(model.named_modules())["branches.b.1.0"] is model.branches["b"][1][0]
    model.eval()
    assert not model.levels[1][7].training and not model.branches["b"][1][0].training
    before = model.state_dict()
    optimizer = tg.optim.SGD(0.1)
    optimizer.bind(model)
    optimizer.step(tg.grad(tg.sum(model(x(5, 3)) * x(5, 3)), model.parameters()))
    assert all((before[path] != model.state_dict()[path]).any() for path in PARAMETERS)
    assert model.astype(np.float64).levels[0][0].weight.dtype == np.float64


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_they_are_saved_copied_and_replaced_in_functional_calls(copied):
    model = Nested().initialize(Key(0)).astype(np.float64)
    twin = copied(model)
    for path, p in twin.named_parameters():
        p.assign(Key(1).fold(path).normal(p.shape, np.float64))
    inputs = Key(0).normal((5, 3), np.float64)
    given = {path: tg.Tensor(p.numpy(), dtype=np.float64) for path, p in twin.named_parameters()}
    before = model.state_dict()
    np.testing.assert_array_equal(nn.functional_call(model, given, inputs), twin(inputs))
    for path, value in model.named_parameters():
        np.testing.assert_array_equal(value.numpy(), before[path])
    twin.load_state_dict(model.state_dict())
    np.testing.assert_array_equal(twin.eval()(inputs), model.eval()(inputs))


@pytest.mark.oracle
def test_the_names_are_pytorchs():
    torch = pytest.importorskip("torch")

    class Theirs(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = torch.nn.ModuleDict({"a": torch.nn.Linear(2, 3), "b": torch.nn.ModuleList([torch.nn.Linear(3, 2)])})
            self.scales = torch.nn.ParameterList([torch.ones(2)])
            self.shifts = torch.nn.ParameterDict({"last": torch.ones(2)})

    class Ours(nn.Module):
        def __init__(self):
            self.blocks = {"a": nn.Dense(2, 3), "b": [nn.Dense(3, 2)]}
            self.scales = [tg.Parameter(np.ones(2, np.float32))]
            self.shifts = {"last": tg.Parameter(np.ones(2, np.float32))}

    assert set(Ours().state_dict()) == set(Theirs().state_dict())
    Ours().load_state_dict(Theirs().state_dict())


def test_kinds_of_containers():
    class Pair(collections.namedtuple("Pair", "first second")):
        pass

    class Net(nn.Module):
        def __init__(self):
            self.pair = Pair(nn.Dense(2, 2), 3)
            self.table = collections.OrderedDict(b=nn.Dense(2, 2, bias=False), a=nn.Dense(2, 2, bias=False))
            self.both = [shared := tg.Parameter(np.ones(2, np.float32)), shared]

        def forward(self, x):
            return self.table["a"](self.table["b"](self.pair.first(x))) * self.both[0] * self.both[1] * self.pair.second

    net = Net().initialize(Key(0))
    assert [path for path, _ in net.named_parameters()] == ["both.0", "pair.0.weight", "pair.0.bias", "table.b.weight", "table.a.weight"]
    assert "both.1" in net.state_dict() and len(net.parameters()) == 5  # shared: one parameter, as PyTorch has it
    doubled = nn.functional_call(net, {"both.0": tg.Tensor(np.full(2, 2, np.float32))}, x(3, 2))
    np.testing.assert_allclose(doubled, 4 * net(x(3, 2)).numpy(), rtol=1e-6)


@dataclasses.dataclass(slots=True)
class PairOfLayers:
    first: object
    second: object


@pytest.mark.parametrize("held, message", [
    (lambda: {nn.Dense(1, 1)}, "held: modules or parameters in a set are not found: use a list"),
    (lambda: [frozenset([nn.Dense(1, 1)])], "held.0: modules or parameters in a frozenset are not found"),
    (lambda: {"a": nn.Dense(1, 1)}.values(), "held: modules or parameters in a dict_values are not found"),
    (lambda: [collections.deque([nn.Dense(1, 1)])], "held.0: modules or parameters in a deque are not found"),
    (lambda: np.array([nn.Dense(1, 1)], object), "held: modules or parameters in a ndarray are not found"),
    (lambda: types.SimpleNamespace(layer=nn.Dense(1, 1)), "held: modules or parameters in a SimpleNamespace are not found"),
    (lambda: {"pair": PairOfLayers(nn.Dense(1, 1), 3)}, "held.pair: modules or parameters in a PairOfLayers are not found"),
    (lambda: {("a", 1): nn.Dense(1, 1)}, "keys of a dict of modules or parameters should be strings without dots"),
    (lambda: {"a.b": nn.Dense(1, 1)}, "keys of a dict .* got 'a.b'"),
    (lambda: {"": tg.Parameter(np.ones(1))}, "keys of a dict .* got ''"),
    (lambda: {1: nn.Dense(1, 1), "1": nn.Dense(1, 1)}, "differ as strings, got '1'"),
])
def test_what_has_no_name_is_refused(held, message):
    net = nn.Module()
    net.held = held()
    with pytest.raises(TypeError, match=message):
        net.parameters()


def test_other_containers_without_modules_are_anybodys():
    net = nn.Module()
    net.held = [collections.deque([1]), np.array([None, "a"], object), types.SimpleNamespace(n=1), PairOfLayers(1, nn.Dense), PairOfLayers,
                np.ones(2), nn.Dense]
    assert net.parameters() == [] and net.state_dict() == {}


def test_the_tree_is_shown_with_the_names_within_each_module():
    net = nn.Module()
    net.blocks = {"down": nn.Dense(1, 2), "up": [nn.Sequential(nn.Dense(2, 1)), nn.ReLU()]}
    net.end = nn.Tanh()
    assert repr(net) == (
        "Module()                  7 parameters\n"
        "  blocks.down: Dense(1 -> 2)  4\n"
        "  blocks.up.0: Sequential()   3\n"
        "    0: Dense(2 -> 1)          3\n"
        "  blocks.up.1: ReLU()\n"
        "  end: Tanh()").replace("Module()                  7", "Module()                      7")


def test_a_module_in_the_class_is_refused_where_it_has_parameters():
    with pytest.raises(TypeError, match=r"Net: layers\.0 is an attribute of the class, where it is not found: assign it in __init__"):
        class Net(nn.Module):
            layers = [nn.Dense(2, 2)]  # noqa: RUF012

    class Fine(nn.Module):
        activation = nn.ReLU()
        sizes = {"a": 1}  # noqa: RUF012

    assert not Fine().parameters()


def test_what_a_spectral_norm_wraps_keeps_its_other_parts():
    class Gated(nn.Module):
        def __init__(self):
            self.weight = tg.Parameter(shape=(3, 2), initializer=nn.initializers.normal(1.0))
            self.gate = nn.Dense(2, 3)
            self.scales = [tg.Parameter(np.ones(3, np.float32))]
            self.drop = nn.Dropout(0.5)

        def forward(self, x):
            return tg.dense(self.drop(x), self.weight) * self.gate(x) * self.scales[0]

    layer = nn.SpectralNorm(Gated()).initialize(Key(0))
    paths = {path for path, _ in layer.named_parameters()}
    assert paths == {"gate.weight", "gate.bias", "scales.0", "parametrizations.weight.original"}
    layer.eval()
    np.testing.assert_array_equal(layer(x(4, 2)), layer(x(4, 2)))  # no dropout
    gradients = tg.grad(tg.sum(layer(x(4, 2))), layer.parameters())
    assert all(g.numpy().any() for g in gradients)


# -- where an error arose ------------------------------------------------------------------------------------------------


def test_a_shape_error_names_the_layer_by_its_path():
    inner = nn.Sequential(nn.Dense(3, 2), nn.ReLU(), nn.Dense(5, 1)).initialize(Key(0))
    with pytest.raises(ValueError) as error:
        inner(x(4, 3))
    assert str(error.value).startswith("layer 2, Dense(5 -> 1), got 2 features (input (4, 2)): dense: ")
    with pytest.raises(ValueError, match=r"^layer 1\.2, Dense\(5 -> 1\), got 2 features \(input \(4, 2\)\): dense: "):
        nn.Sequential(nn.Flatten(), inner)(x(4, 3))
    with pytest.raises(ValueError, match=r"^Dense\(3 -> 5\), got 2 features \(input \(4, 2\)\): dense: "):
        nn.Dense(3, 5)(x(4, 2))


class Block(nn.Module):
    """An op of the user's own forward, between layers in a dict."""

    def __init__(self):
        self.stages = {"down": [nn.Dense(3, 4)], "matrix": tg.Parameter(np.ones((4, 2), np.float32)), "up": nn.Dense(3, 1)}

    def forward(self, x, other=None):
        y = self.stages["down"][0](x)
        return self.stages["up"](y @ self.stages["matrix"] + (0 if other is None else other))


@pytest.mark.parametrize("call, message", [
    (lambda net: net(x(5, 2)), r"^layer 1\.stages\.down\.0, Dense\(3 -> 4\), got 2 features \(input \(5, 2\)\): dense: "),
    (lambda net: net(x(5, 3)), r"^layer 1\.stages\.up, Dense\(3 -> 1\), got 2 features \(input \(5, 2\)\): dense: "),
    (lambda net: net[1](x(5, 3), other=x(5, 3)), r"^Block\(\), got inputs \(5, 3\), \(5, 3\): add: "),
    (lambda net: nn.functional_call(net, {"1.stages.up.bias": tg.Tensor(np.ones(1, np.float32))}, x(5, 3)), r"^layer 1\.stages\.up, "),
])
def test_errors_in_a_users_module(call, message):
    with pytest.raises(ValueError, match=message):
        call(nn.Sequential(nn.Sequential(), Block()).initialize(Key(0)))


@pytest.mark.parametrize("layer, shape, message", [
    (lambda: nn.Conv2d(3, 4, 3), (2, 1, 8, 8), r"^layer 0, Conv2d\(3 -> 4, 3x3\), got 1 channels \(input \(2, 1, 8, 8\)\): conv2d: "),
    (lambda: nn.ConvTranspose2d(3, 4, 3), (2, 1, 8, 8), r"^layer 0, ConvTranspose2d\(.*\), got 1 channels"),
    (lambda: nn.Conv2d(3, 4, 3), (3,), r"^layer 0, Conv2d\(.*\), got input \(3,\): conv2d: "),
    (lambda: nn.BatchNorm(3), (2, 1, 8, 8), r"^layer 0, BatchNorm\(3\), got 1 channels \(input \(2, 1, 8, 8\)\): batch_norm: "),
    (lambda: nn.LayerNorm(3), (2, 1), r"^layer 0, LayerNorm\(3\), got input \(2, 1\): layer_norm: "),
    (lambda: nn.SpectralNorm(nn.Dense(3, 2)), (2, 4), r"^layer 0, SpectralNorm\(Dense: 3 -> 2\), got 4 features \(input \(2, 4\)\): dense: "),
    (lambda: nn.MinibatchDiscrimination(3), (2, 4), r"^layer 0, MinibatchDiscrimination\(.*\), got 4 features"),
    (lambda: nn.Reshape(3, 5), (2, 4), r"^layer 0, Reshape\(3, 5\), got input \(2, 4\): reshape: "),
    (lambda: nn.MaxPool2d(2), (2, 4), r"^layer 0, MaxPool2d\(2\), got input \(2, 4\): max_pool2d: "),
])
def test_errors_of_the_layers(layer, shape, message):
    with pytest.raises(ValueError, match=message):
        nn.Sequential(layer()).initialize(Key(0))(x(*shape))


def test_other_kinds_of_errors():
    with pytest.raises(IndexError, match=r"^layer 0, Embedding\(3 -> 2\), got input \(1,\): embedding: indices from 5"):
        nn.Sequential(nn.Embedding(3, 2)).initialize(Key(0))(np.array([5]))
    with pytest.raises(TypeError, match=r"^layer 0, Dense\(2 -> 2\): dense: expected a Tensor or an array, got list"):
        nn.Sequential(nn.Dense(2, 2))([[1.0, 2.0]])

    class OwnError(ValueError):
        pass

    class Picky(nn.Module):
        def forward(self, x):
            raise OwnError("as it is")

    with pytest.raises(OwnError, match=r"^as it is$"):
        nn.Sequential(Picky())(x(1))

    class Made(nn.Module):
        def forward(self, x):
            return nn.Sequential(nn.Dense(9, 9))(x)

    with pytest.raises(ValueError, match=r"^layer 0\.Sequential\.0, Dense\(9 -> 9\), got 2 features"):
        nn.Sequential(Made())(x(1, 2))
