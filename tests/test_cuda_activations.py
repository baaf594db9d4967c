"""Activations: the CUDA kernels, run by the emulator, against plain loops."""
import numpy as np
import pytest

from tinygan.kernels import reference
from tinygan.kernels.activations import KNOWN_FROM_RESULT
from tinygan.kernels.cuda import activations
from tinygan.kernels.cuda.emulator.device import emulated_device

DEVICE = emulated_device()
DTYPES = [np.float32, np.float64]


def upload(a):
    return DEVICE.xp.asarray(np.asarray(a))


def rand(*shape, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["identity", "relu", "leaky_relu", "tanh", "sigmoid", "softplus", "elu", "silu", "gelu", "gelu_tanh"])
def test_activations(name, dtype):
    x, g = rand(3, 5, 7, dtype=dtype), rand(3, 5, 7, dtype=dtype, seed=1)
    y = activations.activation(DEVICE, upload(x), name, 0.3)
    tolerance = 1e-6 if dtype == np.float32 else 1e-14
    np.testing.assert_allclose(y.get(), reference.activation(x, name, 0.3), rtol=tolerance, atol=tolerance)
    expected = reference.activation_grad(g, x, name, 0.3)
    grad = activations.activation_grad(DEVICE, upload(g), upload(x), name, 0.3)
    np.testing.assert_allclose(grad.get(), expected, rtol=tolerance, atol=tolerance)
    if name not in KNOWN_FROM_RESULT:
        return
    grad = activations.activation_grad_from_result(DEVICE, upload(g), y, name, 0.3)
    np.testing.assert_allclose(grad.get(), expected, rtol=10 * tolerance, atol=tolerance)
