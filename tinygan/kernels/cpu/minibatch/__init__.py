"""Minibatch discrimination of m (N, B, C). For each of the B kernels, s_ij = exp(-sum over c of |m_ic - m_jc|) says how near
examples i and j are. `compiled` has the formulas of the derivatives."""
from __future__ import annotations

from typing import Any

import numpy as np

from tinygan.kernels.cpu.runtime.loading import loaded

__all__ = ["minibatch_similarity", "minibatch_similarity_grad", "minibatch_similarity_second"]

Array = np.ndarray[Any, Any]
COMPILED_ABOVE = 4096  # differences m_ic - m_jc, that is N * N * B * C: for more, compiled kernels are faster than NumPy


def _compiled(m: Array) -> Any:
    """The module of compiled kernels if m is large, else None."""
    return loaded("tinygan.kernels.cpu.minibatch.compiled") if m.size * len(m) > COMPILED_ABOVE else None


def _pairs(m: Array) -> tuple[Array, Array]:
    """The signs of m_i - m_j (N, N, B, C), and s_ij (N, N, B), which is set to 0 for i = j."""
    difference = m[:, None] - m
    nearness = np.exp(-np.abs(difference).sum(-1))
    nearness[np.arange(len(m)), np.arange(len(m))] = 0
    return np.sign(difference), nearness


def minibatch_similarity(m: Array) -> Array:
    """The sum of s_ij over all other examples j: (N, B)."""
    if compiled := _compiled(m):
        return compiled.similarity(m)
    return _pairs(m)[1].sum(1)


def minibatch_similarity_grad(g: Array, m: Array) -> Array:
    """The gradient by m, for g (N, B)."""
    if compiled := _compiled(m):
        return compiled.gradient(g, m)
    signs, nearness = _pairs(m)
    return -np.einsum("ijb,ijbc->ibc", (g[:, None] + g) * nearness, signs)


def minibatch_similarity_second(h: Array, g: Array, m: Array) -> tuple[Array, Array]:
    """The gradients of sum(h * minibatch_similarity_grad(g, m)), by g (N, B) and by m (N, B, C)."""
    if compiled := _compiled(m):
        return compiled.second(h, g, m)
    signs, nearness = _pairs(m)
    q = np.einsum("ijbc,ijbc->ijb", h[:, None] - h, signs) * nearness
    return -q.sum(1), np.einsum("ijb,ijbc->ibc", (g[:, None] + g) * q, signs)
