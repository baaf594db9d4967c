"""Checks of a GAN's arguments: two networks, a batch of images in [-1, 1], latent vectors. Each error says what was expected
and what was given."""
from __future__ import annotations

__all__ = ["LIMIT", "as_batch", "as_count", "as_images", "as_latent", "check_ema", "check_players", "check_range",
           "check_shape", "finite_range"]

from typing import Any

import numpy as np

from tinygan import nn
from tinygan.backends import Array, backend_of
from tinygan.interop.foreign import as_numbers
from tinygan.optim import Optimizer

LIMIT = 10.0
"""The largest magnitude that a first batch may hold. Images from 0 to 255 exceed it; toy data around [-1, 1] do not."""


def check_players(generator: Any, discriminator: Any, latent_dim: Any, g_optimizer: Any, d_optimizer: Any,
                  translates: bool = False) -> None:
    """Raise ValueError or TypeError unless the arguments are two different networks with parameters, a positive whole
    number, and two optimisers or None. translates: the generator has no latent vectors, so that no number is needed."""
    whole = isinstance(latent_dim, int | np.integer) and not isinstance(latent_dim, bool)
    if not translates and not (whole and latent_dim >= 1):
        raise ValueError(f"GAN: latent_dim should be a whole number of at least 1, got {latent_dim!r}")
    for name, network in (("generator", generator), ("discriminator", discriminator)):
        if not isinstance(network, nn.Module):
            raise TypeError(f"GAN: {name} should be a Module, such as nn.Sequential(...), got {_kind(network)}")
    for name, optimizer in (("g_optimizer", g_optimizer), ("d_optimizer", d_optimizer)):
        if not isinstance(optimizer, Optimizer | None):
            raise TypeError(f"GAN: {name} should be an optimiser, such as Adam(2e-4), got {_kind(optimizer)}")
    if generator is discriminator:
        raise ValueError("GAN: generator and discriminator are the same network; they should be two different ones")
    if not generator.parameters() or not discriminator.parameters():
        raise ValueError("GAN: both networks should have parameters")


def check_ema(ema: Any) -> None:
    """Raise ValueError or TypeError unless `ema` is a decay in [0, 1), a schedule or None."""
    if ema is None or callable(ema):
        return
    if isinstance(ema, bool) or not isinstance(ema, float | int | np.floating):
        raise TypeError(f"GAN: ema should be a decay in [0, 1), a schedule of it, or None, got {_kind(ema)}")
    if not 0 <= ema < 1:
        raise ValueError(f"GAN: ema should be a decay in [0, 1), such as 0.999, got {ema}")


def _kind(value: Any) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__


def as_batch(real: Any, dtype: np.dtype[Any], d_steps: int) -> Array:
    """The images given to `step` as an array (d_steps * N, ...) in the weights' precision. Raises ValueError for another
    shape."""
    if not (type(real) is np.ndarray and real.dtype == dtype):
        real = as_images(real, dtype)
    if not real.shape or real.shape[0] % d_steps or not real.size:
        raise ValueError(f"step: expected d_steps * N images, got shape {real.shape} for d_steps={d_steps}")
    return real


def as_images(real: Any, dtype: np.dtype[Any]) -> Array:
    """A batch for `step` in the weights' precision. Raises TypeError for bytes and ValueError for other large whole numbers:
    they are images that have not been scaled to [-1, 1]."""
    array = as_numbers("step: real", real)
    if array.dtype == np.uint8:
        raise TypeError(f"step: expected images in [-1, 1] as an array of {dtype}, got uint8; scale bytes by "
                        f"real.astype(np.{dtype}) / 127.5 - 1")
    if array.dtype.kind in "iu" and isinstance(array, np.ndarray) and array.size:
        check_range(float(array.min()), float(array.max()))
    with np.errstate(over="ignore"):  # `finite_range` finds infinities and says where they are
        return array.astype(dtype, copy=False)


def check_shape(caller: str, real: Any, made: tuple[int, ...]) -> None:
    """Raise ValueError if real images (N, ...) have another shape than those that the generator makes."""
    if real.shape[1:] != made:
        raise ValueError(f"{caller}: the images have shape {real.shape[1:]}, the generator makes {made}")


def finite_range(real: Array) -> tuple[float, float]:
    """The smallest and the largest value of a batch (N, ...). If one is NaN or infinite, raises a ValueError that names the
    image."""
    low, high = float(real.min()), float(real.max())
    if not (-np.inf < low and high < np.inf):  # (both comparisons are False for NaN)
        array = backend_of(real).to_numpy(real)
        bad = np.flatnonzero(~np.isfinite(array.reshape(len(array), -1)).all(axis=1))
        raise ValueError(f"step: {len(bad)} of {len(array)} images hold NaN or infinity (in {array.dtype}), the first "
                         f"of them real[{bad[0]}]")
    return low, high


def check_range(low: float, high: float) -> None:
    """Raise ValueError for values that are far outside [-1, 1]."""
    if low < -LIMIT or high > LIMIT:
        whole = 65535 if high > 255 else 255
        raise ValueError(f"step: expected images in [-1, 1], got values from {low:g} to {high:g}; scale a byte x by "
                         "x / 127.5 - 1" + ("" if whole == 255 else ", and a number x up to 65535 by x / 32767.5 - 1"))


def as_count(n: Any) -> int:
    """How many images to sample. Raises TypeError for anything else than a whole number, such as an array of latent
    vectors."""
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 0:
        given = type(n).__name__ if np.ndim(n) else repr(n)
        raise TypeError(f"sample: n should be a number of images, got {given}; give latent vectors by name: sample(z=...)")
    return int(n)


def as_latent(z: Any, latent_dim: int, dtype: np.dtype[Any]) -> Array:
    """z (n, latent_dim) as an array in the generator's precision. Raises ValueError for another shape, NaN or infinity."""
    z = as_numbers("sample: z", z)
    if z.ndim != 2 or z.shape[1] != latent_dim:
        raise ValueError(f"sample: z should have shape (n, {latent_dim}), got {tuple(z.shape)}")
    with np.errstate(over="ignore"):
        z = z.astype(dtype, copy=False)
    finite = np.isfinite(backend_of(z).to_numpy(z)).all(axis=1)
    if not finite.all():
        raise ValueError(f"sample: z[{int(finite.argmin())}] holds NaN or infinity (in {z.dtype})")
    return z
