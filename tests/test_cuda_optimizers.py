"""The optimisers' CUDA kernels, run by the emulator, against plain loops: many arrays in one launch, odd sizes, any memory
order."""
from typing import NamedTuple

import numpy as np
import pytest

from tinygan.kernels import reference
from tinygan.kernels.cpu import optimizers as on_cpu
from tinygan.kernels.cpu.optimizers import compiled
from tinygan.kernels.cuda import optimizers
from tinygan.kernels.cuda.emulator.device import emulated_device
from tinygan.kernels.optimizer_settings import SETTINGS, AdamSettings, RMSPropSettings, SGDSettings, fields

DEVICE = emulated_device()
SHAPES = [(3,), (5000,), (2, 3, 4, 4), (1,), (0, 3), (2049,)]
RULES = {
    "adam": (2, [
        AdamSettings(learning_rate=1e-3, beta1=0.5, beta2=0.999, eps=1e-8, weight_decay=0.0, decoupled=False, correction1=0.5, correction2=0.001),
        AdamSettings(learning_rate=1e-2, beta1=0.9, beta2=0.99, eps=1e-6, weight_decay=0.1, decoupled=True, correction1=0.3, correction2=0.02),
        AdamSettings(learning_rate=1e-2, beta1=0.9, beta2=0.99, eps=1e-6, weight_decay=0.1, decoupled=False, correction1=0.3, correction2=0.02),
    ]),
    "rmsprop": (1, [
        RMSPropSettings(learning_rate=1e-3, decay=0.99, eps=1e-8, weight_decay=0.0),
        RMSPropSettings(learning_rate=1e-2, decay=0.9, eps=1e-6, weight_decay=0.1),
    ]),
    "sgd": (1, [
        SGDSettings(learning_rate=0.1, momentum=0.0, nesterov=False, weight_decay=0.0),
        SGDSettings(learning_rate=0.1, momentum=0.9, nesterov=False, weight_decay=0.1),
        SGDSettings(learning_rate=0.1, momentum=0.9, nesterov=True, weight_decay=0.0),
    ]),
}
PLAIN = SGDSettings(learning_rate=0.1, momentum=0.0, nesterov=False, weight_decay=0.0)
MOMENTUM = PLAIN._replace(momentum=0.9)


def upload(a):
    return DEVICE.xp.asarray(np.array(a))


@pytest.mark.parametrize("rule, settings", [(rule, s) for rule, (_, every) in RULES.items() for s in every])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_against_plain_loops(rule, settings, dtype):
    slots, rng = RULES[rule][0], np.random.default_rng(0)
    host = [[rng.standard_normal(shape).astype(dtype) for shape in SHAPES] for _ in range(2 + slots)]
    host[-1] = [np.abs(a) for a in host[-1]]  # means of squares cannot be negative
    there = [[upload(a) for a in arrays] for arrays in host]
    getattr(optimizers, rule)(DEVICE, *there, settings)
    tolerance = 1e-6 if dtype == np.float32 else 1e-13
    for i in range(len(SHAPES)):
        expected = getattr(reference, rule)(*[arrays[i] for arrays in host], settings)
        for k, value in zip((0, *range(2, 2 + slots)), expected, strict=True):
            np.testing.assert_allclose(there[k][i].get(), value, rtol=tolerance, atol=tolerance, err_msg=f"{SHAPES[i]}, {k}")
        np.testing.assert_array_equal(there[1][i].get(), host[1][i])  # gradients are only read


def test_a_gradient_in_another_order():
    rng = np.random.default_rng(1)
    p, g, v = (rng.standard_normal((2, 3, 4, 5)).astype(np.float32) for _ in range(3))
    for gradient in (upload(g.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2), upload(g[..., ::-1])[..., ::-1]):
        there = [upload(p), gradient, upload(v)]
        optimizers.sgd(DEVICE, *([a] for a in there), MOMENTUM)
        np.testing.assert_allclose(there[0].get(), reference.sgd(p, g, v, MOMENTUM)[0], rtol=1e-6, atol=1e-6)


def test_several_dtypes_at_once():
    there = [[upload(np.ones(3, kind)) for kind in (np.float32, np.float64)] for _ in range(3)]
    optimizers.sgd(DEVICE, *there, PLAIN._replace(learning_rate=0.5))
    for p in there[0]:
        np.testing.assert_array_equal(p.get(), np.full(3, 0.5))


def test_a_parameter_and_a_slot_in_different_orders_are_refused():
    p = upload(np.zeros((2, 3, 2, 2), np.float32))
    slot = upload(np.zeros((2, 2, 2, 3), np.float32)).transpose(0, 3, 1, 2)
    with pytest.raises(ValueError, match="sgd: a parameter of shape"):
        optimizers.sgd(DEVICE, [p], [p], [slot], PLAIN)


class Reordered(NamedTuple):
    """SGD's settings in another order."""

    weight_decay: float
    nesterov: bool
    momentum: float
    learning_rate: float


@pytest.fixture
def reordered(monkeypatch):
    """Kernels compiled while SETTINGS has that order."""
    monkeypatch.setitem(SETTINGS, "sgd", Reordered)
    monkeypatch.setattr(optimizers, "DEFINES", optimizers.defines())
    for made in (compiled.compile_step, compiled.arguments_of_step):
        made.cache_clear()
    yield
    for made in (compiled.compile_step, compiled.arguments_of_step):
        made.cache_clear()


def test_kernels_find_settings_by_name(reordered):
    p, g, v = (np.random.default_rng(2).standard_normal(7) for _ in range(3))
    expected = reference.sgd(p, g, v, SGDSettings(learning_rate=0.1, momentum=0.9, nesterov=True, weight_decay=0.01))
    settings = Reordered(learning_rate=0.1, momentum=0.9, nesterov=True, weight_decay=0.01)
    there, here = [upload(a) for a in (p, g, v)], [a.copy() for a in (p, g, v)]
    optimizers.sgd(DEVICE, *([a] for a in there), settings)
    on_cpu.sgd(*([a] for a in here), settings)
    for found in ([there[0].get(), there[2].get()], [here[0], here[2]]):
        for value, exact in zip(found, expected, strict=True):
            np.testing.assert_allclose(value, exact, rtol=1e-13)


def test_settings_of_an_unknown_kernel_are_an_error():
    with pytest.raises(ValueError, match="unknown kernel 'adagrad', expected one of sgd, rmsprop, adam"):
        fields("adagrad")
    with pytest.raises(ValueError, match="unknown kernel 'adagrad'"):
        compiled.compile_step("adagrad", np.dtype(np.float32))
