"""Names and habits of PyTorch: each error says what it is here."""
from __future__ import annotations

import re

import numpy as np
import pytest

import tinygan as tg
from tinygan import nn, optim
from tinygan.gans import latent
from tinygan.interop import numpy_functions as interop
from tinygan.interop import torch_names
from tinygan.random import Key

ROOMS = {"tinygan": (tg, torch_names.TINYGAN), "nn": (nn, torch_names.NN), "optim": (optim, torch_names.OPTIM)}


@pytest.mark.parametrize("room, name, ours", [
    (nn, "Linear", "nn.Dense"), (nn, "BatchNorm1d", "nn.BatchNorm"), (nn, "BatchNorm2d", "nn.BatchNorm"), (nn, "InstanceNorm1d", "nn.GroupNorm"),
    (nn, "ReLU6", "tg.clip"), (nn, "functional", "tg.relu"), (nn, "Identity", "nn.Sequential"), (nn, "ModuleList", "a list or a dict"),
    (nn, "BCEWithLogitsLoss", "tg.binary_cross_entropy_with_logits"), (nn, "Parameter", "tg.Parameter"),
    (tg, "cat", "tg.concatenate"), (tg, "unsqueeze", "tg.expand_dims"), (tg, "from_numpy", "tg.Tensor"), (tg, "zeros", "np.zeros"),
    (tg, "randn", "tg.random.Key"), (tg, "manual_seed", "tg.random.Key"), (tg, "bmm", "tg.matmul"),
    (optim, "RMSprop", "optim.RMSProp"), (optim, "lr_scheduler", "cosine_decay"), (optim, "clip_grad_norm_", "clip_by_norm"),
    (nn.Dense(1, 1), "cuda", 'to("cuda")'), (nn.ReLU(), "zero_grad", "tg.grad"), (nn.ReLU(), "register_buffer", "tg.Buffer"),
    (tg.Tensor([1.0]), "view", "reshape"), (tg.Tensor([1.0]) * 2, "numel", "size"), (tg.Parameter(np.ones(1)), "unsqueeze", "tg.expand_dims"),
    (tg.Buffer(np.ones(1)), "cpu", 'to("cpu")'), (tg.Tensor(1.0), "clone", "tg.Tensor(x)"),
    (optim.Adam(), "zero_grad", "tg.grad"), (optim.Adam(), "param_groups", "bind"),
])
def test_what_is_missing_is_named(room, name, ours):
    with pytest.raises(AttributeError, match=rf"has no attribute '{name}'; in tinygan: .*{re.escape(ours)}") as error:
        getattr(room, name)
    assert error.value.name == name
    assert not hasattr(room, name) and getattr(room, name, 3) == 3


@pytest.mark.parametrize("room", [tg, nn, optim, nn.ReLU(), optim.Adam(), tg.Tensor(1.0), tg.Parameter(np.ones(1))],
                         ids=["tinygan", "nn", "optim", "a module", "an optimiser", "a Tensor", "a Parameter"])
def test_other_names_are_missing_as_ever(room):
    with pytest.raises(AttributeError, match=r"has no attribute 'nothing'$"):
        room.nothing  # noqa: B018


@pytest.mark.parametrize("room", ROOMS)
def test_every_name_that_is_suggested_is_there(room):
    names = ROOMS[room][1]
    for text in [*names.values(), *torch_names.MODULE.values(), *torch_names.OPTIMIZER.values(), *torch_names.TENSOR.values()]:
        for path in re.findall(r"\b((?:tg|nn|optim)(?:\.\w+)+)", text):
            value = {"tg": tg, "nn": nn, "optim": optim}[path.partition(".")[0]]
            for part in path.split(".")[1:]:
                value = getattr(value, part)


def test_an_error_in_a_property_is_shown_as_it_is():
    class Net(nn.Module):
        @property
        def width(self):
            return self.units

    class Rule(optim.SGD):
        @property
        def rate(self):
            return self.speed

    for value, name, cause in ((Net(), "width", "'Net' object has no attribute 'units'$"), (Rule(0.1), "rate", "has no attribute 'speed'$")):
        with pytest.raises(AttributeError, match=cause):
            getattr(value, name)
        assert getattr(value, name, 3) == 3


def test_names_that_are_here_need_no_advice():
    rooms = [*ROOMS.values(), (nn.Dense(1, 1), torch_names.MODULE), (optim.Adam(), torch_names.OPTIMIZER), (tg, interop.OTHER_NAMES),
             (tg.Parameter(np.ones(1)), torch_names.TENSOR)]
    for room, names in rooms:
        assert [name for name in names if hasattr(room, name)] == []
    assert [ours for ours in interop.OTHER_NAMES.values() if not hasattr(tg, ours)] == []


def test_the_module_tensor_is_not_called():
    with pytest.raises(TypeError, match=r"tinygan\.tensor is a module: tinygan\.Tensor\(array\) makes a Tensor"):
        tg.tensor([1.0])


@pytest.mark.parametrize("make, message", [
    (lambda net: optim.Adam(net.parameters(), 1e-3), r"Adam: learning_rate should be a number or a schedule, got list: .*bind\(network\)"),
    (lambda net: optim.Adam(net.parameters(), lr=1e-3), r"Adam: 'lr' is learning_rate here: .*bind\(network\)"),
    (lambda net: optim.Adam(params=net.parameters()), r"Adam: takes no 'params': .*bind\(network\)"),
    (lambda net: optim.SGD(params=net.parameters(), learning_rate=0.1), r"SGD: takes no 'params': .*bind\(network\)"),
    (lambda net: optim.SGD(net, 0.1), "SGD: learning_rate should be a number or a schedule, got Sequential"),
    (lambda net: optim.RMSProp(net.named_parameters()), "RMSProp: learning_rate .* got generator"),
    (lambda net: optim.AdamW(net[0].weight), "AdamW: learning_rate .* got Parameter"),
    (lambda net: optim.ExponentialMovingAverage(net.parameters()), "ExponentialMovingAverage: module should be a Module, got list"),
    (lambda net: optim.SGD("0.1"), "SGD: learning_rate .* got str"),
    (lambda net: optim.Adam().bind(net.parameters()), "Adam: bind expects a module, or a mapping from names to Parameters, got list"),
    (lambda net: optim.Adam().bind({"a": np.ones(3)}), "Adam: bind expects Parameters, got ndarray under 'a'"),
])
def test_parameters_go_to_bind(make, message):
    with pytest.raises(TypeError, match=message):
        make(nn.Sequential(nn.Dense(2, 2)))


def test_learning_rates_that_are_numbers_or_schedules():
    for rate in (0.1, 1, np.float32(0.1), np.array(0.1), optim.linear_decay(0.1, 0.0, 5)):
        assert optim.SGD(rate).learning_rate_at(0) > 0

    class Own(optim.SGD):
        def __init__(self, lr):
            super().__init__(2 * lr)

    assert Own(lr=0.5).learning_rate == 1.0


def game(**settings):
    return tg.gans.VanillaGAN(nn.Sequential(nn.Dense(2, 3)), nn.Sequential(nn.Dense(3, 1)), 2, **settings)


@pytest.mark.parametrize("call", [
    lambda key: game(key=key), lambda key: game().sample(2, key=key), lambda key: game().latent(2, key),
    lambda key: nn.Dense(2, 2).initialize(key), lambda key: tg.random.use_key(key).__enter__(),
    lambda key: tg.dropout(np.ones(3, np.float32), 0.5, key), lambda key: tg.data.gaussian_ring().sample(3, key),
    lambda key: latent.neighbourhood(np.ones(3, np.float32), key),
    lambda key: tg.metrics.fit_bins(np.ones((4, 3), np.float32), 2, key),
    lambda key: tg.metrics.linear.balanced_subset(np.array([0, 1]), 2, key),
], ids=["GAN", "sample", "latent", "initialize", "use_key", "dropout", "Mixture", "neighbourhood", "fit_bins", "balanced_subset"])
@pytest.mark.parametrize("key", [1, 0, np.int64(3)])
def test_a_number_is_no_key(call, key):
    with pytest.raises(TypeError, match=rf"key should be a Key, got .*: write tinygan\.random\.Key\({key}\)"):
        call(key)


def test_other_things_are_no_keys_either():
    with pytest.raises(TypeError, match="GAN: key should be a Key, got Generator"):
        game(key=np.random.default_rng(0))
    assert game().sample(1).shape == game(key=Key(3)).sample(1).shape == (1, 3)
