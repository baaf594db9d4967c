"""Modules and layers: names, shapes and values as PyTorch's, saving, copying, modes, functional calls."""
import copy
import pickle
import threading

import numpy as np
import pytest
from helpers import to_device

import tinygan as tg
from tinygan import nn
from tinygan.fusion import table
from tinygan.nn import initializers
from tinygan.random import Key, use_key


def mixed():
    return nn.Sequential(
        nn.Dense(6, 8), nn.BatchNorm(8), nn.LeakyReLU(0.2), nn.Dense(8, 12, bias=False), nn.LayerNorm(12), nn.ELU(0.7),
        nn.Sequential(nn.Dense(12, 10), nn.Softplus(), nn.Dropout(0.3)), nn.Dense(10, 4), nn.Tanh(), nn.Dense(4, 3),
        nn.Sigmoid(), nn.Dense(3, 5), nn.ReLU(), nn.Reshape(5, 1), nn.Flatten())


def torch_mixed(torch):
    t = torch.nn
    return t.Sequential(
        t.Linear(6, 8), t.BatchNorm1d(8), t.LeakyReLU(0.2), t.Linear(8, 12, bias=False), t.LayerNorm(12), t.ELU(0.7),
        t.Sequential(t.Linear(12, 10), t.Softplus(), t.Dropout(0.3)), t.Linear(10, 4), t.Tanh(), t.Linear(4, 3),
        t.Sigmoid(), t.Linear(3, 5), t.ReLU(), t.Unflatten(1, (5, 1)), t.Flatten())


def batch(seed, *shape):
    return Key(seed).normal(shape)


def randomised(model, seed=0):
    """The model with running statistics and scales that are not those it starts with."""
    model.initialize(Key(seed))
    state = {name: Key(seed).fold(name).uniform(value.shape, 0.5, 2.0) if "running_var" in name or "4." in name else value
             for name, value in model.state_dict().items()}
    return model.load_state_dict(state)


# -- against PyTorch -------------------------------------------------------------------------------------------------


@pytest.mark.oracle
def test_state_dict_has_pytorchs_names_shapes_and_types():
    torch = pytest.importorskip("torch")
    ours, theirs = mixed().initialize(Key(0)).state_dict(), torch_mixed(torch).state_dict()
    assert {k: (v.shape, str(v.dtype)) for k, v in ours.items()} == {
        k: (tuple(v.shape), str(v.dtype).removeprefix("torch.")) for k, v in theirs.items()}
    assert all(v.flags.c_contiguous for v in ours.values())


@pytest.mark.oracle
def test_weights_load_into_pytorch_and_give_the_same_outputs():
    torch = pytest.importorskip("torch")
    ours, theirs = randomised(mixed()).eval(), torch_mixed(torch).eval()
    theirs.load_state_dict({k: torch.from_numpy(v) for k, v in ours.state_dict().items()})
    x = batch(1, 7, 6)
    with torch.no_grad():
        expected = theirs(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(ours(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.oracle
def test_pytorchs_weights_load_and_give_the_same_outputs():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    theirs = torch_mixed(torch)
    for _ in range(3):
        theirs(torch.randn(16, 6) * 2 + 1)  # moves the running statistics
    theirs.eval()
    ours = mixed().load_state_dict(theirs.state_dict()).eval()
    x = batch(2, 7, 6)
    with torch.no_grad():
        expected = theirs(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(ours(x), expected, rtol=1e-5, atol=1e-5)
    assert ours.state_dict()["1.num_batches_tracked"] == 3


@pytest.mark.oracle
@pytest.mark.parametrize("shape", [(6, 3), (5, 3, 7), (4, 3, 5, 2)])
def test_batch_norm_trains_as_pytorchs(shape):
    torch = pytest.importorskip("torch")
    ours = nn.BatchNorm(3, eps=1e-3, momentum=0.3).initialize(Key(0)).astype(np.float64)
    kind = {2: torch.nn.BatchNorm1d, 3: torch.nn.BatchNorm1d, 4: torch.nn.BatchNorm2d}[len(shape)]
    theirs = kind(3, eps=1e-3, momentum=0.3).double()
    for i in range(3):
        values = Key(i).normal(shape, np.float64) * (i + 1) + i
        weights = Key(i).fold("weights").normal(shape, np.float64)
        x, tx = tg.Tensor(values, requires_grad=True), torch.tensor(values, requires_grad=True)
        y, ty = ours(x), theirs(tx)
        gradients = tg.grad(tg.sum(y * weights), [x, *ours.parameters()])
        expected = torch.autograd.grad((ty * torch.tensor(weights)).sum(), [tx, *theirs.parameters()])
        np.testing.assert_allclose(y, ty.detach().numpy(), rtol=1e-9, atol=1e-9)
        for g, e in zip(gradients, expected, strict=True):
            np.testing.assert_allclose(g, e.numpy(), rtol=1e-8, atol=1e-9)
    for name, value in ours.state_dict().items():
        np.testing.assert_allclose(value, theirs.state_dict()[name].numpy(), rtol=1e-9, err_msg=name)
    ours.eval(), theirs.eval()
    np.testing.assert_allclose(ours(values), theirs(torch.tensor(values)).detach().numpy(), rtol=1e-9, atol=1e-9)


@pytest.mark.oracle
@pytest.mark.parametrize("normalised", [5, (4, 5)])
def test_layer_norm_and_its_gradients_as_pytorchs(normalised):
    torch = pytest.importorskip("torch")
    ours = nn.LayerNorm(normalised).initialize(Key(0)).astype(np.float64)
    theirs = torch.nn.LayerNorm(normalised).double()
    for i, parameter in enumerate(ours.parameters()):
        parameter.assign(Key(i).normal(parameter.shape, np.float64))
    theirs.load_state_dict({k: torch.from_numpy(v) for k, v in ours.state_dict().items()})
    values, weights = Key(5).normal((3, 4, 5), np.float64), Key(6).normal((3, 4, 5), np.float64)
    x, tx = tg.Tensor(values, requires_grad=True), torch.tensor(values, requires_grad=True)
    y, ty = ours(x), theirs(tx)
    np.testing.assert_allclose(y, ty.detach().numpy(), rtol=1e-10, atol=1e-12)
    for g, e in zip(tg.grad(tg.sum(y * weights), [x, *ours.parameters()]),
                    torch.autograd.grad((ty * torch.tensor(weights)).sum(), [tx, *theirs.parameters()]), strict=True):
        np.testing.assert_allclose(g, e.numpy(), rtol=1e-9, atol=1e-11)


@pytest.mark.oracle
def test_embedding_and_its_gradient_as_pytorchs():
    torch = pytest.importorskip("torch")
    ours, theirs = nn.Embedding(7, 3).initialize(Key(0)), torch.nn.Embedding(7, 3)
    theirs.load_state_dict({k: torch.from_numpy(v) for k, v in ours.state_dict().items()})
    indices = np.array([[1, 1, 6], [0, 1, 2]])
    y, ty = ours(indices), theirs(torch.from_numpy(indices))
    np.testing.assert_array_equal(y, ty.detach().numpy())
    g = tg.grad(tg.sum(y * y), ours.weight)
    np.testing.assert_allclose(g, torch.autograd.grad((ty * ty).sum(), theirs.weight)[0].numpy(), rtol=1e-6)
    with pytest.raises(IndexError, match=r"embedding: indices from 0 to 7, expected 0 to 6"):
        ours(np.array([0, 7]))


@pytest.mark.oracle
def test_shared_parameters_stand_in_the_state_as_pytorchs_do():
    torch = pytest.importorskip("torch")
    first = nn.Dense(3, 3)
    ours = nn.Sequential(first, nn.Tanh(), first).initialize(Key(0))
    linear = torch.nn.Linear(3, 3)
    theirs = torch.nn.Sequential(linear, torch.nn.Tanh(), linear)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    x = batch(0, 2, 3)
    np.testing.assert_allclose(ours(x), theirs(torch.from_numpy(x)).detach().numpy(), rtol=1e-5, atol=1e-6)


# -- the tree --------------------------------------------------------------------------------------------------------


class Residual(nn.Module):
    """Modules as attributes and in a list, a parameter and a buffer of its own."""

    def __init__(self, shared=None):
        self.scale = tg.Parameter(np.full(2, 2.0, np.float32))
        self.blocks = [nn.Dense(2, 2), nn.Dense(2, 2)]
        self.last = shared or nn.Dense(2, 2)
        self.seen = tg.Buffer(np.zeros(1, np.float32))
        self.settings = (1, "text", None)

    def forward(self, x):
        for block in self.blocks:
            x = x + tg.tanh(block(x))
        return self.last(x) * self.scale


def test_names_lead_through_attributes_and_lists():
    model = Residual().initialize(Key(0))
    parameters = ["scale", "blocks.0.weight", "blocks.0.bias", "blocks.1.weight", "blocks.1.bias", "last.weight",
                  "last.bias"]
    assert [name for name, _ in model.named_parameters()] == parameters
    assert [name for name, _ in model.named_buffers()] == ["seen"]
    assert set(model.state_dict()) == {*parameters, "seen"}
    assert dict(nn.Sequential(model).named_parameters())["0.blocks.1.bias"] is model.blocks[1].bias


def test_repr_shows_the_tree_with_its_parameter_counts():
    last = nn.Sequential(nn.Dense(512, 1, bias=False))
    network = nn.Sequential(nn.Dense(784, 512), nn.LeakyReLU(0.2), last, nn.BatchNorm(1))
    lines = repr(network).splitlines()
    assert [line.split() for line in lines] == [
        ["Sequential()", f"{784 * 512 + 512 + 512 + 2:,}", "parameters"],
        ["0:", "Dense(784", "->", "512)", f"{784 * 512 + 512:,}"],
        ["1:", "LeakyReLU(0.2)"],
        ["2:", "Sequential()", "512"],
        ["0:", "Dense(512", "->", "1,", "no", "bias)", "512"],
        ["3:", "BatchNorm(1)", "2"],
    ]
    assert lines[4].startswith("    0: ") and lines[1].startswith("  0: ")
    assert len({len(line) for line in (lines[1], lines[3], lines[4], lines[5])}) == 1  # the counts end in one column
    assert repr(nn.ReLU()) == "ReLU()"


def test_train_and_eval_reach_every_layer():
    model = nn.Sequential(nn.Sequential(nn.Dropout(0.5)), nn.BatchNorm(3)).initialize(Key(0))
    x = batch(0, 50, 3) + 5
    assert model.eval() is model and not model.layers[0].layers[0].training
    np.testing.assert_allclose(model(x), x / np.sqrt(1 + 1e-5), rtol=1e-6)
    assert model.train().training and model.layers[0].layers[0].training
    assert (np.asarray(model.layers[0](x)) == 0).mean() > 0.3
    np.testing.assert_allclose(np.asarray(model(x)).mean(0), 0.0, atol=1e-6)


def test_a_batch_of_one_value_a_channel_is_refused_in_training():
    norm = nn.BatchNorm(3).initialize(Key(0))
    with pytest.raises(ValueError, match=r"batch_norm: expected more than one value per channel .* \(1, 3\)"):
        norm(batch(0, 1, 3))
    assert norm.state_dict()["num_batches_tracked"] == 0
    norm.eval()(batch(0, 1, 3))


def test_shared_parameters_are_one():
    first = nn.Dense(2, 2)
    model = nn.Sequential(first, nn.Tanh(), first).initialize(Key(0))
    assert len(model.parameters()) == 2
    x = batch(0, 4, 2)

    def separately(weight):
        return tg.sum(tg.dense(tg.tanh(tg.dense(x.astype(np.float64), weight)), weight))

    tg.check_gradients(separately, first.weight.numpy())
    with tg.no_grad():
        first.bias.assign(np.zeros(2))
    weight = tg.Tensor(first.weight, requires_grad=True, dtype=np.float64)
    np.testing.assert_allclose(tg.grad(tg.sum(model(x)), first.weight), tg.grad(separately(weight), weight), rtol=1e-4)
    twin = copy.deepcopy(model)
    assert len(twin.parameters()) == 2 and twin.layers[0].weight is twin.layers[2].weight is not first.weight


def test_layers_refuse_what_they_cannot_do():
    with pytest.raises(TypeError, match="Sequential: layer 1 should be a Module, got function"):
        nn.Sequential(nn.Dense(1, 1), tg.tanh)
    with pytest.raises(ValueError, match=r"Dropout: rate should be in \[0, 1\), got 1.0"):
        nn.Dropout(1.0)
    with pytest.raises(ValueError, match=r"slope .*, got -0.1"):
        nn.LeakyReLU(-0.1)
    with pytest.raises(ValueError, match=r"dense: the last axis .* \(input \(2, 4\), weight \(5, 3\)\)"):
        nn.Dense(3, 5)(batch(0, 2, 4))
    with pytest.raises(TypeError, match="Module does not define forward"):
        nn.Module()(1)


# -- fusing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.LeakyReLU(0.1), nn.ELU(0.5), nn.Tanh(), nn.Sigmoid(), nn.Softplus()])
@pytest.mark.parametrize("size", [5, 300])
def test_a_fused_activation_gives_what_the_two_layers_give(activation, size):
    dense = nn.Dense(size, size).initialize(Key(0)).astype(np.float64)
    x = tg.Tensor(Key(1).normal((size, size), np.float64), requires_grad=True)
    weights = Key(2).normal((size, size), np.float64)
    with tg.fusion(True):
        fused = nn.Sequential(dense, activation)(x)
        apart = activation(dense(x))
    # It was fused, unless its slope cannot be read off its result.
    assert (fused.node.op is not apart.node.op) == (activation.name in ("relu", "leaky_relu"))
    np.testing.assert_allclose(fused, apart, rtol=1e-12, atol=1e-12)
    inputs = [x, dense.weight, dense.bias]
    for a, b in zip(tg.grad(tg.sum(fused * weights), inputs), tg.grad(tg.sum(apart * weights), inputs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)


def test_what_follows_an_activation_or_another_layer_is_not_swallowed():
    x = batch(0, 3, 4)
    dense = nn.Dense(4, 4).initialize(Key(0))
    y = np.asarray(dense(x))
    np.testing.assert_allclose(nn.Sequential(dense, nn.ReLU(), nn.Tanh())(x), np.tanh(np.maximum(y, 0)), rtol=1e-5)
    np.testing.assert_allclose(nn.Sequential(nn.ReLU(), nn.Flatten(), nn.ReLU())(x), np.maximum(x, 0))
    assert nn.Sequential()(x) is x
    assert [type(layer) for layer in nn.Sequential(dense, nn.ReLU(), nn.Tanh())[1:]] == [nn.ReLU, nn.Tanh]


# -- saving and copying ----------------------------------------------------------------------------------------------


def test_load_state_dict_names_every_entry_that_does_not_fit_and_changes_nothing():
    model = nn.Sequential(nn.Dense(2, 3), nn.BatchNorm(3)).initialize(Key(0))
    before = model.state_dict()
    state = {**{k: v + 1 for k, v in before.items()}, "2.weight": np.ones(1), "0.bias": np.ones((3, 1), np.float32)}
    del state["1.running_var"]
    with pytest.raises(ValueError) as error:
        model.load_state_dict(state)
    for part in ("missing '1.running_var'", "unexpected '2.weight'", "'0.bias' has shape (3, 1), expected (3,)"):
        assert part in str(error.value)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


def test_a_state_is_a_copy():
    model = nn.Dense(2, 3).initialize(Key(0))
    state = model.state_dict()
    state["weight"][...] = 0
    assert model.weight.numpy().all()
    model.load_state_dict(state)
    state["weight"][...] = 1
    assert not model.weight.numpy().any()


def test_loading_makes_live_graphs_stale():
    model = nn.Dense(2, 3).initialize(Key(0))
    x = tg.Tensor(batch(0, 4, 2), requires_grad=True)
    y = tg.sum(model(x))
    model.load_state_dict(model.state_dict())
    with pytest.raises(RuntimeError, match="overwritten"):
        tg.grad(y, x)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_are_whole_and_apart(copied):
    model = mixed().initialize(Key(0)).train()
    x = batch(0, 9, 6)
    model(x)
    twin = copied(model)
    with use_key(Key(1)):
        y = np.asarray(model(x))
    with use_key(Key(1)):
        np.testing.assert_array_equal(twin(x), y)
    before = model.state_dict()
    for name, value in twin.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    with nn.mode(twin, training=False):
        assert model.training and not twin.training  # each is known by itself
    for parameter in twin.parameters():
        parameter.assign(np.zeros(parameter.shape))
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    loss = tg.sum(twin(x))
    assert all(g.shape == p.shape for g, p in zip(tg.grad(loss, twin.parameters()), twin.parameters(), strict=True))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
@pytest.mark.parametrize("initializer", [
    None, initializers.constant(2.0), initializers.normal(0.1, 1.0), initializers.uniform(0.0, 1.0), initializers.dcgan,
    initializers.glorot_uniform(), initializers.glorot_normal(), initializers.he_uniform(0.1), initializers.he_normal(),
    initializers.orthogonal(),
])
def test_a_copy_before_initialisation_draws_the_same_values(copied, initializer):
    model = nn.Sequential(nn.Dense(3, 4, initializer=initializer), nn.BatchNorm(4))
    twin = copied(model)
    a, b = model.initialize(Key(0)).state_dict(), twin.initialize(Key(0)).state_dict()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))])
def test_parameters_and_buffers_are_copied_with_their_kind(copied):
    for original in (tg.Parameter(np.arange(3.0)), tg.Buffer(np.array(4, np.int64)), nn.Dense(2, 2).initialize(Key(0)).bias):
        twin = copied(original)
        assert type(twin) is type(original) and twin.dtype == original.dtype and twin.shape == original.shape
        assert twin.requires_grad == original.requires_grad
        twin.assign(np.full(original.shape, 7))
        assert (twin.numpy() == 7).all() and not (original.numpy() == 7).any()
        x = tg.Tensor(np.ones(3), requires_grad=True)
        if original.shape == (3,):
            y = tg.sum(x * twin)
            twin.assign(np.zeros(3))
            with pytest.raises(RuntimeError, match="overwritten"):
                tg.grad(y, x)


def test_astype_converts_parameters_and_floating_buffers():
    model = mixed().astype(np.float64).initialize(Key(0))
    assert {str(v.dtype) for v in model.state_dict().values()} == {"float64", "int64"}
    assert np.asarray(model(Key(0).normal((4, 6), np.float64))).dtype == np.float64
    model.astype(np.float32)
    assert model.state_dict()["1.running_mean"].dtype == np.float32
    with pytest.raises(TypeError, match="expected float32 or float64, got float16"):
        model.astype(np.float16)


# -- functional_call -------------------------------------------------------------------------------------------------


def test_functional_call_gives_gradients_to_the_given_values_and_leaves_the_module_alone():
    model = Residual().initialize(Key(0)).astype(np.float64)
    before = model.state_dict()
    x = Key(1).normal((3, 2), np.float64)
    names = ["blocks.1.weight", "last.bias", "scale"]
    values = [Key(i).normal(before[name].shape, np.float64) for i, name in enumerate(names)]

    def fn(*given):
        return tg.sum(nn.functional_call(model, dict(zip(names, given, strict=True)), x))

    tg.check_gradients(fn, *values)
    expected = copy.deepcopy(model).load_state_dict({**before, **dict(zip(names, values, strict=True))})
    np.testing.assert_allclose(nn.functional_call(model, dict(zip(names, values, strict=True)), x), expected(x))
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    leaves = [tg.Tensor(v, requires_grad=True) for v in values]
    own = tg.grad(fn(*leaves), [*leaves, model.last.weight, model.last.bias])
    assert own[-2].numpy().any() and not own[-1].numpy().any()  # what was not given is the module's own


def test_functional_call_reaches_every_place_of_a_shared_layer():
    first = nn.Dense(2, 2)
    model = nn.Sequential(first, first).initialize(Key(0))
    x = batch(0, 3, 2)
    given = {"0.weight": tg.Tensor(np.float32([[1, 2], [3, 4]])), "0.bias": tg.Tensor(np.zeros(2, np.float32))}
    matrix = np.float32([[1, 2], [3, 4]])
    np.testing.assert_allclose(nn.functional_call(model, given, x), x @ matrix.T @ matrix.T, rtol=1e-5)


def test_functional_call_refuses_what_does_not_fit():
    model = nn.Dense(2, 3).initialize(Key(0))
    with pytest.raises(ValueError, match="with_parameters: the module has no parameter 'wieght'"):
        nn.functional_call(model, {"wieght": tg.Tensor(np.ones((3, 2)))}, batch(0, 1, 2))
    with pytest.raises(ValueError, match=r"with_parameters: 'weight' has shape \(3, 2\), got \(2, 3\)"):
        nn.functional_call(model, {"weight": tg.Tensor(np.ones((2, 3)))}, batch(0, 1, 2))


def test_functional_call_follows_the_modules_mode():
    model = nn.Sequential(nn.Dense(3, 3), nn.BatchNorm(3)).initialize(Key(0))
    given = {"0.bias": tg.Tensor(np.ones(3, np.float32))}
    x = batch(0, 6, 3)
    with nn.mode(model, training=False), nn.update_buffers_of():
        y = np.asarray(nn.functional_call(model, given, x))
    expected = (x @ model[0].weight.numpy().T + 1) / np.sqrt(np.float32(1 + 1e-5))
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)


def test_functional_calls_in_two_threads_do_not_meet():
    model = nn.Sequential(nn.Dense(3, 3, bias=False), nn.Dense(3, 3, bias=False)).initialize(Key(0))
    x = batch(0, 4, 3)
    wrong = []

    def run(scale):
        one = np.eye(3, dtype=np.float32)
        given = {"0.weight": tg.Tensor(scale * one), "1.weight": tg.Tensor(one)}
        outputs = [np.asarray(nn.functional_call(model, given, x)) for _ in range(200)]
        wrong.extend(y for y in outputs if not np.allclose(y, scale * x, rtol=1e-5))

    threads = [threading.Thread(target=run, args=(float(i + 1),)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not wrong and not any(thread.is_alive() for thread in threads)


def test_an_initializer_gives_values_of_the_parameters_own_in_its_dtype_or_is_refused():
    shared = np.zeros(4)
    first, second = (tg.Parameter(shape=(4,), initializer=lambda key, shape, dtype: shared) for _ in range(2))
    first.initialize(Key(0))
    second.initialize(Key(0))
    assert first.array.dtype == np.float32
    first.assign(np.ones(4))
    assert second.tolist() == [0, 0, 0, 0] == shared.tolist()
    with pytest.raises(ValueError, match=r"the initializer made shape \(3,\), expected \(4,\)"):
        tg.Parameter(shape=(4,), initializer=lambda key, shape, dtype: np.zeros(3)).initialize(Key(0))


@pytest.mark.parametrize("algorithm", ["direct", "tiled"])
@pytest.mark.parametrize("make", [lambda: nn.Conv2d(3, 4, 4, 2, 1), lambda: nn.ConvTranspose2d(3, 4, 4, 2, 1, bias=False),
                                  lambda: nn.Conv2d(3, 6, 3)], ids=["Conv2d", "ConvTranspose2d", "another number of channels"])
def test_a_convolution_measures_for_the_batch_norm_behind_it(device, make, algorithm, monkeypatch):
    """As if each stood alone; a BatchNorm that is not in training, or does not fit, is nobody's business."""
    x = tg.Tensor(to_device(Key(5).normal((2, 3, 10, 8)), device))
    measured = []
    monkeypatch.setattr(table, "measured_batch_norm", lambda *a, run=table.measured_batch_norm: (measured.append(1), run(*a))[1])
    norms = [nn.BatchNorm(4) for _ in range(2)]
    conv, (fused, apart) = make(), norms
    network = nn.Sequential(conv, fused, nn.ReLU()).initialize(Key(1)).to(device)
    apart.initialize(Key(2)).to(device)
    if conv.weight.shape[0] == 6:
        with pytest.raises(ValueError, match=r"batch_norm: .*input \(2, 6, 8, 6\)"):
            network(x)
        return
    with tg.fusion(True), tg.conv_algorithm(algorithm):
        y = network(x)
        expected = tg.relu(apart(conv(x)))
    assert measured == [1]
    np.testing.assert_allclose(y.numpy(), expected.numpy(), rtol=0, atol=1e-5)
    for name, value in apart.state_dict().items():
        np.testing.assert_allclose(fused.state_dict()[name], value, rtol=1e-5, atol=1e-6, err_msg=name)
    network.eval()
    with tg.fusion(True):
        network(x)
    assert measured == [1]


def test_subclasses_are_asked_for_nothing_that_they_do_not_know():
    class Conv(nn.Conv2d):
        def forward(self, x):
            return super().forward(x) * 2.0

    class Norm(nn.BatchNorm):
        def forward(self, x):
            return super().forward(x + 1.0)

    class Doubled(nn.Conv2d):
        def forward(self, x, scale=2.0):
            return super().forward(x) * scale

    x = Key(5).normal((2, 3, 10, 8))
    for layers in ((Conv(3, 4, 3), nn.BatchNorm(4)), (nn.Conv2d(3, 4, 3), Norm(4)), (Doubled(3, 4, 3), nn.BatchNorm(4))):
        y = nn.Sequential(*layers).initialize(Key(1))(x).numpy()
        np.testing.assert_allclose(y.var((0, 2, 3)), 1, rtol=1e-3)
    assert (nn.Sequential(Doubled(3, 4, 3), nn.ReLU()).initialize(Key(1))(x).numpy() >= 0).all()


def test_large_parameters_and_their_slots_are_aligned():
    """As vector instructions like it, wherever the values came from."""
    layer, optimizer = nn.Dense(200, 300), tg.optim.Adam()
    layer.weight.assign(np.ones(60_001, np.float32)[1:].reshape(300, 200))
    optimizer.bind({"weight": layer.weight})
    optimizer.step([np.ones((300, 200), np.float32)])
    arrays = [layer.weight.array, *(array for slot in optimizer.state().slots.values() for array in slot)]
    assert len(arrays) == 3 and not any(array.ctypes.data % 64 for array in arrays)
