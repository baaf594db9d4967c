"""The CPU backend: a table of the functions in `kernels/cpu`, NumPy as the array namespace, and the transfers.

Every function takes arrays of one floating-point dtype and returns a new array (or `out`). The ops have checked shapes and
dtypes before. A room uses NumPy for small arrays and its compiled kernels for large ones. The CUDA backend has the same
names with the same arguments.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from tinygan.kernels.cpu.activations import activation, activation_grad
from tinygan.kernels.cpu.arithmetic import add, multiply, subtract
from tinygan.kernels.cpu.batchnorm import (
    batch_norm,
    batch_norm_input_grad,
    batch_norm_input_grad_vjp,
    batch_norm_statistics,
    batch_norm_sums,
    batch_norm_sums_vjp,
)
from tinygan.kernels.cpu.conv import conv2d, conv2d_input_grad, conv2d_weight_grad
from tinygan.kernels.cpu.layout import channels_last, reshape
from tinygan.kernels.cpu.losses import bce_with_logits, bce_with_logits_curvature, bce_with_logits_grad
from tinygan.kernels.cpu.matmul import dense, dense_parameter_grads, matmul
from tinygan.kernels.cpu.minibatch import minibatch_similarity, minibatch_similarity_grad, minibatch_similarity_second
from tinygan.kernels.cpu.optimizers import adam, adam_grad, rmsprop, sgd
from tinygan.kernels.cpu.perceptron import mlp, mlp_grad, mlp_second
from tinygan.kernels.cpu.random import random_bits, random_normal, random_uniform
from tinygan.kernels.cpu.reductions import add_at, log_softmax, logsumexp, mean, softmax, sum, sums_along
from tinygan.kernels.cpu.runtime.feeding import feed
from tinygan.kernels.cpu.runtime.host import Host
from tinygan.kernels.cpu.runtime.namespace import Namespace
from tinygan.kernels.cpu.runtime.workspace import empty

name = "cpu"
array_type = np.ndarray
xp = Namespace()
device = Host()
Array = np.ndarray[Any, Any]

__all__ = [
    "array_type", "name", "xp",
    "asarray", "empty", "feed", "to_numpy",
    "add", "multiply", "subtract",
    "channels_last", "reshape",
    "add_at", "log_softmax", "logsumexp", "mean", "softmax", "sum", "sums_along",
    "dense", "dense_parameter_grads", "matmul",
    "mlp", "mlp_grad", "mlp_second",
    "conv2d", "conv2d_input_grad", "conv2d_weight_grad",
    "activation", "activation_grad",
    "bce_with_logits", "bce_with_logits_curvature", "bce_with_logits_grad",
    "batch_norm", "batch_norm_input_grad", "batch_norm_input_grad_vjp", "batch_norm_statistics", "batch_norm_sums",
    "batch_norm_sums_vjp",
    "minibatch_similarity", "minibatch_similarity_grad", "minibatch_similarity_second",
    "adam", "adam_grad", "rmsprop", "sgd",
    "random_bits", "random_normal", "random_uniform",
]


def to_numpy(array: Array) -> Array:
    """The array in the CPU's memory."""
    return np.asarray(array)


def asarray(array: Any) -> Array:
    """The array in this backend's memory."""
    return xp.asarray(array)

