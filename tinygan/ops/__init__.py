"""The ops, each with its gradient beside it. With a Tensor among its inputs an op returns a Tensor, otherwise an array."""

__all__ = ["abs", "activation", "add", "all", "any", "argmax", "argmin", "astype", "avg_pool2d", "batch_norm",
           "batch_norm_inference", "batch_norm_with_statistics", "binary_cross_entropy_with_logits", "broadcast_to", "ceil",
           "clip", "concatenate", "conv1d", "conv2d", "conv2d_weight_grad", "conv_algorithm", "conv_transpose1d",
           "conv_transpose2d", "cos", "cumsum", "dense", "detach", "div", "dropout", "einsum", "elu", "embedding", "equal",
           "exp", "expand_dims", "flatten", "flip", "floor", "gather", "gelu", "getitem", "greater", "greater_equal",
           "group_norm", "instance_norm", "isfinite", "layer_norm", "leaky_relu", "less", "less_equal", "log", "log1p",
           "log_softmax", "logsumexp", "matmul", "max", "max_pool2d", "maximum", "mean", "mean_absolute_error",
           "mean_squared_error", "min", "minibatch_similarity", "minibatch_std", "minimum", "mul", "neg", "norm",
           "not_equal", "pack", "pad", "pixel_norm", "pixel_shuffle", "pixel_unshuffle", "pow", "prelu", "prod", "relu",
           "reshape", "round", "scatter_add", "sigmoid", "sign", "silu", "sin", "softmax", "softmax_cross_entropy",
           "softplus", "split", "sqrt", "squeeze", "stack", "std", "sub", "sum", "sum_to", "tanh", "transpose", "tril",
           "triu", "unpacked", "upsample", "var", "where"]

from tinygan.ops.activations import activation, elu, gelu, leaky_relu, relu, sigmoid, silu, softplus, tanh
from tinygan.ops.choosing import (
    clip,
    equal,
    greater,
    greater_equal,
    isfinite,
    less,
    less_equal,
    maximum,
    minimum,
    not_equal,
    where,
)
from tinygan.ops.conv import conv2d, conv2d_weight_grad, conv_algorithm, conv_transpose2d
from tinygan.ops.conv1d import conv1d, conv_transpose1d
from tinygan.ops.dropout import dropout
from tinygan.ops.einsum import einsum
from tinygan.ops.elementwise import (
    abs,
    add,
    astype,
    ceil,
    cos,
    detach,
    div,
    exp,
    floor,
    log,
    log1p,
    mul,
    neg,
    round,
    sign,
    sin,
    sqrt,
    sub,
)
from tinygan.ops.indexing import embedding, gather, getitem, scatter_add
from tinygan.ops.losses import (
    binary_cross_entropy_with_logits,
    mean_absolute_error,
    mean_squared_error,
    softmax_cross_entropy,
)
from tinygan.ops.matmul import dense, matmul
from tinygan.ops.minibatch import minibatch_similarity, minibatch_std
from tinygan.ops.normalization import (
    batch_norm,
    batch_norm_inference,
    batch_norm_with_statistics,
    group_norm,
    instance_norm,
    layer_norm,
    pixel_norm,
)
from tinygan.ops.norms import norm, std
from tinygan.ops.packing import pack, unpacked
from tinygan.ops.padding import pad
from tinygan.ops.pixels import pixel_shuffle, pixel_unshuffle
from tinygan.ops.pooling import avg_pool2d, max_pool2d
from tinygan.ops.power import pow
from tinygan.ops.prelu import prelu
from tinygan.ops.products import cumsum, prod
from tinygan.ops.reduce import (
    all,
    any,
    argmax,
    argmin,
    max,
    mean,
    min,
    sum,
    var,
)
from tinygan.ops.shape import (
    broadcast_to,
    concatenate,
    expand_dims,
    flatten,
    flip,
    reshape,
    split,
    squeeze,
    stack,
    sum_to,
    transpose,
    tril,
    triu,
)
from tinygan.ops.softmax import log_softmax, logsumexp, softmax
from tinygan.ops.upsample import upsample
