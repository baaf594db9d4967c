"""tinygan: a small reverse-mode autograd engine, and a fast way to train generative adversarial networks with it.

This file is the table of contents: every public name is here, or in one of the packages and modules named at the end.
"""
import typing as _typing

from tinygan.tensor import Tensor
from tinygan.parameters import Buffer, Parameter
from tinygan.context import enable_grad, is_recording, no_grad
from tinygan.graph import Op, grad, op
from tinygan.anomalies import detect_anomaly
from tinygan.higher_order import checkpoint, hvp, jvp
from tinygan.gradcheck import GradientError, check_gradients

from tinygan.ops import (
    abs, add, astype, ceil, clip, cos, detach, div, exp, floor, log, log1p, maximum, minimum, mul, neg, pow, round, sign,
    sin, sqrt, sub, where,
)
from tinygan.ops import equal, greater, greater_equal, isfinite, less, less_equal, not_equal
from tinygan.ops import activation, elu, gelu, leaky_relu, prelu, relu, sigmoid, silu, softplus, tanh
from tinygan.ops import all, any, argmax, argmin, log_softmax, logsumexp, max, mean, min, norm, prod, softmax, std, sum, var
from tinygan.ops import cumsum
from tinygan.ops import (
    broadcast_to, concatenate, expand_dims, flatten, flip, pad, reshape, split, squeeze, stack, sum_to, transpose, tril,
    triu,
)
from tinygan.ops import embedding, gather, getitem, scatter_add
from tinygan.ops import dense, einsum, matmul
from tinygan.ops import conv1d, conv2d, conv2d_weight_grad, conv_algorithm, conv_transpose1d, conv_transpose2d
from tinygan.ops import avg_pool2d, max_pool2d, pixel_shuffle, pixel_unshuffle, upsample
from tinygan.ops import batch_norm, batch_norm_inference, group_norm, instance_norm, layer_norm, pixel_norm
from tinygan.ops import dropout, minibatch_similarity, minibatch_std
from tinygan.ops import (
    binary_cross_entropy_with_logits, mean_absolute_error, mean_squared_error, softmax_cross_entropy,
)

from tinygan.devices import DeviceError, matmul_precision, to_device
from tinygan.capture import capture
from tinygan.profiling import profile
from tinygan.fusion import fusion

from tinygan import data, distributed, gans, metrics, nn, optim, random, saving, training

__version__ = "0.1.0"

__all__ = [
    "Buffer", "Parameter", "Tensor",
    "detect_anomaly", "enable_grad", "is_recording", "no_grad",
    "Op", "grad", "op",
    "checkpoint", "hvp", "jvp",
    "GradientError", "check_gradients",
    "abs", "add", "astype", "ceil", "clip", "cos", "detach", "div", "exp", "floor", "log", "log1p", "maximum", "minimum",
    "mul", "neg", "pow", "round", "sign", "sin", "sqrt", "sub", "where",
    "equal", "greater", "greater_equal", "isfinite", "less", "less_equal", "not_equal",
    "activation", "elu", "gelu", "leaky_relu", "prelu", "relu", "sigmoid", "silu", "softplus", "tanh",
    "all", "any", "argmax", "argmin", "log_softmax", "logsumexp", "max", "mean", "min", "norm", "prod", "softmax", "std",
    "sum", "var",
    "cumsum",
    "broadcast_to", "concatenate", "expand_dims", "flatten", "flip", "pad", "reshape", "split", "squeeze", "stack",
    "sum_to", "transpose", "tril", "triu",
    "embedding", "gather", "getitem", "scatter_add",
    "dense", "einsum", "matmul",
    "conv1d", "conv2d", "conv2d_weight_grad", "conv_algorithm", "conv_transpose1d", "conv_transpose2d",
    "avg_pool2d", "max_pool2d", "pixel_shuffle", "pixel_unshuffle", "upsample",
    "batch_norm", "batch_norm_inference", "group_norm", "instance_norm", "layer_norm", "pixel_norm",
    "dropout", "minibatch_similarity", "minibatch_std",
    "binary_cross_entropy_with_logits", "mean_absolute_error", "mean_squared_error", "softmax_cross_entropy",
    "DeviceError", "capture", "fusion", "matmul_precision", "profile", "to_device",
    "data", "distributed", "gans", "metrics", "nn", "optim", "random", "saving", "training",
]

if not _typing.TYPE_CHECKING:  # (a type checker that saw this would accept every name)
    import sys as _sys
    import types as _types

    class _Room(_types.ModuleType):
        """The module `tinygan.tensor`. Users of PyTorch may call it by mistake, so a call raises a helpful error."""

        def __call__(self, *args: object, **kwargs: object) -> None:
            raise TypeError("tinygan.tensor is a module: tinygan.Tensor(array) makes a Tensor")

    _sys.modules["tinygan.tensor"].__class__ = _Room

    def __getattr__(name: str) -> None:
        """Raise the error for a name that does not exist. If PyTorch has it, the error gives its name here."""
        from tinygan.interop.torch_names import TINYGAN, missing

        raise missing(f"module {__name__!r}", name, TINYGAN, None)
