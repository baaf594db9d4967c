"""Minibatch discrimination of m (N, B, C) on the device. For each of the B kernels, s_ij = exp(-sum over c of |m_ic - m_jc|)
says how near examples i and j are."""
from __future__ import annotations

from typing import Any

from tinygan.kernels.cuda.runtime.arrays import contiguous
from tinygan.kernels.cuda.runtime.device import THREADS, Array, Device

__all__ = ["minibatch_similarity", "minibatch_similarity_grad", "minibatch_similarity_second"]

EXAMPLES, DIMENSIONS = 32, 16
"""How many examples and dimensions a block has, as in minibatch.cu."""


def _launch(device: Device, kernel: str, shape: tuple[int, ...], pieces: int, *arrays: Any) -> None:
    examples, kernels, _ = shape
    if examples * kernels:
        grid = (-(-examples // EXAMPLES) * kernels, max(pieces, 1))
        device.launch("minibatch", kernel, grid, THREADS, *arrays, *shape, dtype=arrays[0].dtype)


def minibatch_similarity(device: Device, m: Array) -> Array:
    """The sum of s_ij over all other examples j: (N, B)."""
    m = contiguous(device, m)
    out = device.empty(m.shape[:2], m.dtype)
    _launch(device, "similarity", m.shape, 1, m, out)
    return out


def minibatch_similarity_grad(device: Device, g: Array, m: Array) -> Array:
    """The gradient by m, for g (N, B)."""
    m, g = contiguous(device, m), contiguous(device, g)
    out = device.empty(m.shape, m.dtype)
    _launch(device, "gradient", m.shape, -(-m.shape[2] // DIMENSIONS), m, g, out)
    return out


def minibatch_similarity_second(device: Device, h: Array, g: Array, m: Array) -> tuple[Array, Array]:
    """The gradients of sum(h * minibatch_similarity_grad(g, m)), by g (N, B) and by m (N, B, C)."""
    m, g, h = (contiguous(device, a) for a in (m, g, h))
    by_g, by_m = device.empty(g.shape, m.dtype), device.empty(m.shape, m.dtype)
    _launch(device, "second", m.shape, -(-m.shape[2] // DIMENSIONS), m, g, h, by_g, by_m)
    return by_g, by_m
