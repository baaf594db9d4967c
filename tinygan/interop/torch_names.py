"""PyTorch's names and what they are called in tinygan. They are used only in errors about names that do not exist."""
from __future__ import annotations

__all__ = ["missing"]

from collections.abc import Mapping

_OPS = "the functions are tinygan's own: tg.relu, tg.softmax, tg.conv2d, tg.binary_cross_entropy_with_logits, ..."
_LISTS = "assign a list or a dict of modules to an attribute: the modules in it are found"
_NO_STEP = "tg.grad(loss, network.parameters()) returns the gradients, and optimizer.step(gradients) applies them"
_NUMPY = "make a NumPy array of float32 ({}), which every op takes; for gradients, tg.Tensor(array, requires_grad=True)"
_KEYS = "tg.random.Key(0).{}"

TINYGAN: Mapping[str, str] = {
    "as_tensor": "tg.Tensor", "asarray": "tg.Tensor", "from_numpy": "tg.Tensor", "array": "tg.Tensor",
    "FloatTensor": "tg.Tensor", "Variable": "tg.Tensor", "is_tensor": "isinstance(x, tg.Tensor)",
    "cat": "tg.concatenate", "concat": "tg.concatenate", "hstack": "tg.concatenate", "vstack": "tg.concatenate",
    "chunk": "tg.split", "unsqueeze": "tg.expand_dims", "view": "tg.reshape", "ravel": "tg.reshape",
    "permute": "tg.transpose", "swapaxes": "tg.transpose", "movedim": "tg.transpose", "t": "tg.transpose",
    "expand": "tg.broadcast_to", "tile": "tg.broadcast_to or tg.concatenate", "repeat": "tg.broadcast_to or tg.concatenate",
    "mm": "tg.matmul", "bmm": "tg.matmul", "mv": "tg.matmul", "dot": "tg.matmul", "inner": "tg.matmul", "addmm": "tg.dense",
    "outer": "tg.einsum", "tensordot": "tg.einsum", "linear": "tg.dense",
    "clamp": "tg.clip", "relu6": "tg.clip(x, 0, 6)", "absolute": "tg.abs", "negative": "tg.neg", "multiply": "tg.mul",
    "divide": "tg.div", "true_divide": "tg.div", "subtract": "tg.sub", "square": "x * x", "rsqrt": "1 / tg.sqrt(x)",
    "reciprocal": "1 / x", "eq": "tg.equal", "ne": "tg.not_equal", "lt": "tg.less", "le": "tg.less_equal",
    "gt": "tg.greater", "ge": "tg.greater_equal", "amax": "tg.max", "amin": "tg.min", "isnan": "tg.isfinite",
    "index_select": "tg.getitem", "take": "tg.getitem", "masked_fill": "tg.where", "scatter": "tg.scatter_add",
    "mse_loss": "tg.mean_squared_error", "l1_loss": "tg.mean_absolute_error", "cross_entropy": "tg.softmax_cross_entropy",
    "swish": "tg.silu", "interpolate": "tg.upsample",
    "nll_loss": "tg.softmax_cross_entropy", "binary_cross_entropy": "tg.binary_cross_entropy_with_logits",
    "zeros": _NUMPY.format("np.zeros"), "ones": _NUMPY.format("np.ones"), "full": _NUMPY.format("np.full"),
    "empty": _NUMPY.format("np.empty"), "eye": _NUMPY.format("np.eye"), "arange": _NUMPY.format("np.arange"),
    "linspace": _NUMPY.format("np.linspace"), "zeros_like": _NUMPY.format("np.zeros_like"),
    "ones_like": _NUMPY.format("np.ones_like"), "full_like": _NUMPY.format("np.full_like"),
    "randn": _KEYS.format("normal(shape)"), "rand": _KEYS.format("uniform(shape)"),
    "randint": _KEYS.format("integers(shape, low, high)"), "randperm": _KEYS.format("permutation(n)"),
    "normal": _KEYS.format("normal(shape)"), "randn_like": _KEYS.format("normal(x.shape)"),
    "rand_like": _KEYS.format("uniform(x.shape)"), "manual_seed": "tg.random.Key(seed), given to the GAN or to tg.random.use_key",
    "Generator": "tg.random.Key", "autograd": "tg.grad", "set_grad_enabled": "tg.no_grad or tg.enable_grad",
    "inference_mode": "tg.no_grad", "is_grad_enabled": "tg.is_recording", "func": "tg.grad, tg.jvp and tg.hvp",
    "vjp": "tg.grad", "value_and_grad": "tg.grad", "functional": _OPS, "F": _OPS, "Module": "tg.nn.Module",
    "Sequential": "tg.nn.Sequential", "device": 'a string: network.to("cuda")', "cuda": 'network.to("cuda"), or `tinygan info`',
    "save": "tg.saving.save_weights(network, path)", "load": "tg.saving.load_weights(network, path)",
    "compile": "tg.capture", "jit": "tg.capture", "utils": "tg.data and tg.optim", "float32": "np.float32",
    "float64": "np.float64", "double": "np.float64", "long": "np.int64", "int64": "np.int64", "float": "np.float32",
}
"""For `tinygan` itself."""

NN: Mapping[str, str] = {
    "Linear": "nn.Dense", "LazyLinear": "nn.Dense", "Identity": "nn.Sequential()", "Unflatten": "nn.Reshape",
    "BatchNorm1d": "nn.BatchNorm", "BatchNorm2d": "nn.BatchNorm", "BatchNorm3d": "nn.BatchNorm",
    "SyncBatchNorm": "nn.BatchNorm", "BatchNormalization": "nn.BatchNorm",
    "InstanceNorm1d": "nn.GroupNorm(channels, channels)", "InstanceNorm3d": "nn.GroupNorm(channels, channels)",
    "RMSNorm": "nn.LayerNorm, which is the nearest, or nn.PixelNorm", "Conv3d": "nn.Conv2d",
    "LocalResponseNorm": "nn.PixelNorm",
    "Dropout1d": "nn.Dropout", "Dropout2d": "nn.Dropout", "AlphaDropout": "nn.Dropout",
    "MaxPool1d": "nn.MaxPool2d on images of one row", "AvgPool1d": "nn.AvgPool2d on images of one row",
    "AdaptiveAvgPool2d": "tg.mean(x, (2, 3)), or nn.AvgPool2d", "AdaptiveMaxPool2d": "tg.max(x, (2, 3)), or nn.MaxPool2d",
    "UpsamplingNearest2d": "nn.Upsample", "UpsamplingBilinear2d": 'nn.Upsample(mode="bilinear")',
    "ReLU6": "tg.clip(x, 0, 6)", "Hardtanh": "tg.clip(x, -1, 1)",
    "RReLU": "nn.LeakyReLU or nn.PReLU", "SELU": "nn.ELU", "CELU": "nn.ELU", "Swish": "nn.SiLU", "Mish": "x * tg.tanh(tg.softplus(x))", "Softmax": "tg.softmax", "Softmax2d": "tg.softmax",
    "LogSoftmax": "tg.log_softmax", "LogSigmoid": "-tg.softplus(-x)", "Parameter": "tg.Parameter", "Buffer": "tg.Buffer",
    "ModuleList": _LISTS, "ModuleDict": _LISTS, "ParameterList": _LISTS.replace("modules", "Parameters"),
    "ParameterDict": _LISTS.replace("modules", "Parameters"),
    "functional": _OPS, "init": "nn.initializers", "parameter": "tg.Parameter", "utils": "nn.SpectralNorm and tg.optim.clip_by_norm",
    "spectral_norm": "nn.SpectralNorm", "weight_norm": "nn.SpectralNorm, which is the nearest",
    "BCEWithLogitsLoss": "tg.binary_cross_entropy_with_logits",
    "BCELoss": "tg.binary_cross_entropy_with_logits, of logits without a sigmoid",
    "MSELoss": "tg.mean_squared_error", "L1Loss": "tg.mean_absolute_error", "CrossEntropyLoss": "tg.softmax_cross_entropy",
    "NLLLoss": "tg.softmax_cross_entropy, of logits", "DataParallel": "one device: network.to(\"cuda\")",
}
"""For `tinygan.nn`."""

OPTIM: Mapping[str, str] = {
    "RMSprop": "optim.RMSProp", "Adagrad": "optim.RMSProp or optim.Adam", "Adadelta": "optim.RMSProp or optim.Adam",
    "Adamax": "optim.Adam", "NAdam": "optim.Adam", "RAdam": "optim.Adam", "SparseAdam": "optim.Adam",
    "lr_scheduler": "a schedule as learning_rate: optim.cosine_decay, step_decay, linear_decay, exponential_decay, warmup",
    "StepLR": "optim.step_decay", "MultiStepLR": "optim.step_decay", "ExponentialLR": "optim.exponential_decay",
    "LinearLR": "optim.linear_decay", "CosineAnnealingLR": "optim.cosine_decay", "LambdaLR": "any function of the update's index",
    "swa_utils": "optim.ExponentialMovingAverage", "EMA": "optim.ExponentialMovingAverage",
    "clip_grad_norm_": "optim.clip_by_norm", "clip_grad_norm": "optim.clip_by_norm", "clip_grad_value_": "optim.clip_by_value",
}
"""For `tinygan.optim`."""

MODULE: Mapping[str, str] = {
    "cuda": 'to("cuda")', "cpu": 'to("cpu")', "double": "astype(np.float64)", "float": "astype(np.float32)",
    "half": "astype(np.float32): there is no half precision", "children": "named_children()", "modules": "named_modules()",
    "buffers": "named_buffers()", "apply": "a loop over named_modules()", "zero_grad": _NO_STEP,
    "requires_grad_": "tg.grad with respect to the parameters that you choose, and an optimiser bound to them",
    "register_buffer": "an attribute: self.name = tg.Buffer(array)", "register_parameter": "an attribute: self.name = tg.Parameter(array)",
    "add_module": "an attribute: self.name = module", "append": "a new one: nn.Sequential(*network, layer)",
    "extend": "a new one: nn.Sequential(*network, *layers)", "get_parameter": "dict(named_parameters())[path]",
    "get_submodule": "dict(named_modules())[path]",
}
"""For modules."""

OPTIMIZER: Mapping[str, str] = {
    "zero_grad": _NO_STEP, "param_groups": "learning_rate and bind", "add_param_group": "bind",
}
"""For optimisers."""


_COPY = "tg.Tensor(x), a copy that is not recorded; no op writes to x, so a copy is rarely needed"

TENSOR: Mapping[str, str] = {
    "view": "reshape(shape)", "view_as": "reshape(y.shape)", "ravel": "flatten()", "unsqueeze": "tg.expand_dims(x, axis)",
    "permute": "transpose(axes)", "swapaxes": "transpose(axes)", "t": "T", "expand": "tg.broadcast_to(x, shape)",
    "repeat": "tg.broadcast_to or tg.concatenate", "chunk": "tg.split", "split": "tg.split", "numel": "size", "dim": "ndim",
    "clone": _COPY, "copy": _COPY, "contiguous": "x itself, of any layout", "data": "detach()", "cpu": 'to("cpu")',
    "cuda": 'to("cuda")', "float": "astype(np.float32)", "double": "astype(np.float64)", "type": "astype(dtype)",
    "mm": "x @ y", "bmm": "x @ y", "matmul": "x @ y", "dot": "x @ y", "clamp": "clip(low, high)", "square": "x * x",
    "masked_fill": "tg.where", "requires_grad_": "tg.Tensor(x, requires_grad=True)", "grad_fn": "node",
    "zero_": "assign, of a Parameter", "copy_": "assign, of a Parameter", "fill_": "assign, of a Parameter",
}
"""For Tensors."""


def missing(owner: str, name: str, names: Mapping[str, str], where: object) -> AttributeError:
    """The error for an attribute that does not exist: in Python's own words and, if PyTorch has it, with its name here."""
    ours = f"; in tinygan: {names[name]}" if name in names else ""
    return AttributeError(f"{owner} has no attribute {name!r}{ours}", name=name, obj=where)
