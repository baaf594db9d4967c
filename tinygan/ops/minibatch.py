"""What a discriminator may know of the other examples of a batch. Minibatch discrimination (Salimans et al. 2016, "Improved
techniques for training GANs", section 3.2): how near each is to the others. The minibatch standard deviation (Karras et al.
2018, "Progressive growing of GANs", section 3): how far they differ on average."""
from __future__ import annotations

__all__ = ["minibatch_similarity", "minibatch_std"]

from typing import Any

from tinygan.backends import backend_of
from tinygan.graph import op
from tinygan.making import X
from tinygan.ops.elementwise import add, exp, mul, neg, sign, sub
from tinygan.ops.indexing import getitem
from tinygan.ops.normalization import root_mean_square
from tinygan.ops.reduce import centred, mean
from tinygan.ops.reduce import sum as sum_over
from tinygan.ops.shape import broadcast_to, concatenate, expand_dims, reshape
from tinygan.ops.windows import is_whole
from tinygan.pullback import pullback
from tinygan.tensor import as_array, shape_of


@op(saves=(0,))
def _similarity(B: Any, m: Any) -> Any:
    return B.minibatch_similarity(m)


@_similarity.vjp
def _(needs: Any, g: Any, m: Any) -> Any:
    return (_similarity_grad(g, m),)


@op(saves=(0, 1))
def _similarity_grad(B: Any, g: Any, m: Any) -> Any:
    return B.minibatch_similarity_grad(g, m)


@_similarity_grad.vjp
def _(needs: Any, h: Any, g: Any, m: Any) -> Any:
    both = _second(h, g, m)
    return needs[0] and getitem(both, (..., 0)), needs[1] and getitem(both, (..., slice(1, None)))


@op(saves=(0, 1, 2))
def _second(B: Any, h: Any, g: Any, m: Any) -> Any:
    """The gradients of sum(h * _similarity_grad(g, m)) with respect to g and m, joined on the last axis: (N, B, 1 + C)."""
    by_g, by_m = B.minibatch_similarity_second(h, g, m)
    return B.xp.concatenate([by_g[..., None], by_m], axis=-1)


@_second.vjp
def _(needs: Any, k: Any, h: Any, g: Any, m: Any) -> Any:
    """Derivatives beyond the second order come from the definition, with all pairs of examples in memory."""
    def definition(h: Any, g: Any, m: Any) -> Any:
        signs = sign(sub(expand_dims(m, 1), m))
        nearness = mul(exp(neg(sum_over(mul(sub(expand_dims(m, 1), m), signs), -1))), _others(m))
        q = mul(sum_over(mul(sub(expand_dims(h, 1), h), signs), -1), nearness)
        by_m = sum_over(mul(expand_dims(mul(add(expand_dims(g, 1), g), q), -1), signs), 1)
        return concatenate([expand_dims(neg(sum_over(q, 1)), -1), by_m], -1)

    return pullback(definition, (h, g, m), k, needs)


def _others(m: Any) -> Any:
    """(N, N, 1): 0 where an example is compared with itself, else 1."""
    array = as_array(m)
    return (1 - backend_of(array).xp.eye(array.shape[0], dtype=array.dtype))[..., None]


def minibatch_similarity(m: X) -> X:
    """o_ib = the sum over the other examples j of exp(-sum over c of |m_ibc - m_jbc|): m (N, B, C) -> o (N, B), for N
    examples and B kernels of C dimensions each."""
    shape = shape_of("minibatch_similarity", m)
    if len(shape) != 3:
        raise ValueError(f"minibatch_similarity: expected three axes, (examples, kernels, dimensions), got {shape}")
    return _similarity(m)


EPS = 1e-8  # of the paper's own code; the root has a derivative also where all examples are equal


def minibatch_std(x: X, group_size: int | None = None) -> X:
    """x with one more channel, which holds one number: the standard deviation over the examples, averaged over channels and
    pixels. x (N, C, ...) -> (N, C + 1, ...).

    group_size: the number of examples in each of the groups that the batch is split into, of which each has its own number.
    None: the whole batch, as in the paper. Its authors' code has groups of 4, and example i is in group i % (N / 4). A batch
    that is smaller is one group. Raises ValueError if group_size does not divide N."""
    shape: tuple[int, ...] = shape_of("minibatch_std", x)
    if len(shape) < 2 or not all(shape):
        raise ValueError(f"minibatch_std: expected input (N, C, ...) that is not empty, got {shape}")
    if group_size is not None and (not is_whole(group_size) or group_size < 1):
        raise ValueError(f"minibatch_std: group_size should be a whole number, 1 or more, or None, got {group_size!r}")
    size = min(group_size or shape[0], shape[0])
    if shape[0] % size:
        raise ValueError(f"minibatch_std: group_size should divide the batch, got {group_size} (input {shape})")
    groups = shape[0] // size
    split = reshape(x, (size, groups, *shape[1:]))
    _, root, scale = root_mean_square(centred("minibatch_std", split, (0,)), (0,), EPS)
    others = tuple(range(2, len(shape) + 1))
    deviation = mean(mul(root, scale), others, keepdims=True)  # (1, groups, 1, ...)
    channel = broadcast_to(deviation, (size, groups, 1, *shape[2:]))
    return concatenate([x, reshape(channel, (shape[0], 1, *shape[2:]))], 1)
