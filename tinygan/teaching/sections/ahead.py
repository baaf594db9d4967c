"""Section (d): looking ahead. The discriminator after 0 to K more updates, and the generator's gradient there."""
from __future__ import annotations

__all__ = ["Ahead", "build", "look_ahead", "section"]

from copy import copy
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tinygan import nn
from tinygan.context import no_grad, override
from tinygan.fusion import as_function
from tinygan.gans import UnrolledGAN, VanillaGAN
from tinygan.graph import Leaf, grad
from tinygan.random import Key, KeyStream, use_key
from tinygan.runs.labels import takes_labels
from tinygan.tensor import as_array, wrap

from ..arrays import numbers, packed
from ..messages import SURFACE, couples_in_evaluation
from ..players import host, on_device
from ..recorder import as_bytes
from ..records import Absent, Run
from ..updates import unchanged
from .positions import fixed_inputs, short

Array = npt.NDArray[Any]

_ALIKE = 0.05  # lengths that differ by less are called the same

AHEAD = 5
"""How many updates a GAN that does not look ahead is shown to look ahead."""


class Ahead(NamedTuple):
    """The discriminator after k = 0 to K updates ahead, and the generator's gradient at its images x.

    images (N, ...). logits (K + 1, N): those of x after k updates. with_updates, without (N, ...): dL_G/dx, where L_G is the
    generator's cost at the discriminator after K updates, a mean over N images. with_updates counts that these updates
    depend on x too; without takes the K-th discriminator as a constant. surface (K + 1, 64, 64): the logits on a square of
    the plane, rows from the lower y; None for images."""

    images: Array
    logits: Array
    with_updates: Array
    without: Array
    surface: Array | None


def looking(gan: VanillaGAN) -> Any:
    """The GAN itself if it is unrolled; otherwise the same players, in a GAN that looks `AHEAD` updates ahead."""
    if isinstance(gan, UnrolledGAN) and gan.unroll_steps:
        return gan
    found: Any = copy(gan)
    found.unroll_steps, found.truncate = AHEAD, None
    return found


def look_ahead(gan: Any, real: Any, z: Any, key: Key, limits: Any = None) -> Ahead:
    """Look ahead as the next step of `gan` would on these real images and latent vectors. Nothing of the GAN changes.

    gan: an UnrolledGAN, or what `looking` returns.
    limits: (x from, x to, y from, y to), for data in the plane. key: for dropout and instance noise."""
    real, z = on_device(gan, real), on_device(gan, z)
    with unchanged(gan), use_key(KeyStream(key)), override(updating=frozenset()), np.errstate(all="ignore"):
        with no_grad():
            fake = as_array(gan.generator(z))
        ahead = UnrolledGAN.look_ahead(gan, real)
        points, batch = [ahead.optimizer.pack()], ahead.d_batch(fake)
        for step in range(ahead.steps):
            points.append(ahead.advance_array(points[-1], batch, step))
        network = as_function(gan.discriminator)
        logits, surfaces = [], []
        grid = None
        if limits is not None and not couples_in_evaluation(gan.discriminator):
            x, y = np.linspace(limits[0], limits[1], SURFACE), np.linspace(limits[2], limits[3], SURFACE)
            grid = on_device(gan, np.stack(np.meshgrid(x, y), -1).reshape(-1, 2))
        for point in points:
            judge = network([wrap(values, Leaf()) for values in ahead.parameters(point)])
            with no_grad():
                logits.append(host(judge(fake)).reshape(-1))
                if grid is not None:
                    with nn.mode(gan.discriminator, training=False):
                        surfaces.append(host(judge(grid)).reshape(SURFACE, SURFACE))
        images = wrap(fake, Leaf())
        last = [wrap(values, Leaf()) for values in ahead.parameters(points[-1])]
        without = host(grad(ahead.g_loss(last, images), images))
        with_updates = host(ahead.rematerialized(fake)[1])
    return Ahead(host(fake), np.array(logits), with_updates, without, np.array(surfaces) if surfaces else None)


def build(run: Run) -> dict[str, Any] | Absent:
    """The section's JSON: the present state of an unrolled run, or of any run in the plane."""
    gan = run.gan
    planar = len(run.config["data"]["image_shape"]) == 1
    if not isinstance(gan, UnrolledGAN) and not (planar and isinstance(gan, VanillaGAN) and not takes_labels(gan)):
        return Absent("The generator of this run does not look ahead: it plays against the discriminator as it is. A run of "
                      "tinygan train unrolled shows what looking ahead adds.")
    if not planar and not run.gan.unroll_steps:
        return Absent("This run looks 0 updates ahead (--unroll-steps 0), so there is nothing to add.")
    fixed = fixed_inputs(run)
    if isinstance(fixed, Absent):
        return fixed
    settings = run.config["settings"]
    key = Key(settings.get("seed", 0)).fold("recording").fold("ahead")
    shown = len(fixed["z"])
    n = max(settings.get("batch_size") or shown, shown)
    real = run.batch(n)
    if isinstance(real, Absent):
        return Absent(f"The updates ahead need the run's data: {real.reason}.")
    z = np.concatenate([fixed["z"], host(gan.latent(n, key.fold("z")))])[:n]
    ahead = looking(gan)
    found = look_ahead(ahead, real, z, key, fixed.get("limits"))
    return section(ahead, found, shown, fixed.get("limits"), supposed=ahead is not gan)


def section(gan: Any, found: Ahead, shown: int, limits: Any = None,
            supposed: bool = False) -> dict[str, Any]:
    """The section's JSON, with the first `shown` images. supposed: the run itself did not look ahead."""
    lengths, cosines = compared(found)
    return {"k": list(range(gan.unroll_steps + 1)), "truncate": gan.truncate, "batch": len(found.images),
            "logits": packed(found.logits[:, :shown], "f32"), "points": packed(*_stored(found.images[:shown])),
            "gradient_with": packed(found.with_updates[:shown], "f32"),
            "gradient_without": packed(found.without[:shown], "f32"), "lengths": packed(lengths[:, :shown], "f32"),
            "cosines": packed(cosines[:shown], "f32"),
            "surface": None if found.surface is None else packed(found.surface, "f16"),
            "limits": None if limits is None else numbers(limits), "mean": _mean(len(found.images), shown),
            "text": _text(gan, found, shown, supposed), "alt": _alt(found, shown)}


def _stored(images: Array) -> tuple[Array, str]:
    return (as_bytes(images), "u8") if images.ndim == 4 else (images, "f32")


def compared(found: Ahead) -> tuple[Array, Array]:
    """lengths (2, N): of the gradient of each image, with the updates and without. cosines (N,): of the angles between the
    two; 0 if one of them is 0."""
    one, other = (gradient.reshape(len(gradient), -1).astype(np.float64) for gradient in (found.with_updates, found.without))
    lengths = np.stack([np.linalg.norm(one, axis=1), np.linalg.norm(other, axis=1)])
    products = lengths.prod(0)
    return lengths, np.where(products > 0, (one * other).sum(1) / np.where(products > 0, products, 1), 0.0)


def _mean(batch: int, shown: int) -> str:
    """Over how many images the cost is a mean: in section (a) these are others, and the lengths differ for it."""
    if batch == shown:
        return f"The cost is a mean over these {shown} images."
    return (f"The cost is a mean over a batch of {batch} images, of which {shown} are shown. In section (a) it is a mean "
            f"over the {shown} alone: for that reason lengths are {short(batch / shown)} times as large there.")


def _text(gan: Any, found: Ahead, shown: int, supposed: bool) -> str:
    """What to see in this run, in at most 60 words."""
    first, last = (float(found.logits[k, :shown].mean(dtype=np.float64)) for k in (0, -1))
    lengths, cosines = compared(found)
    angle = float(np.degrees(np.arccos(np.clip(np.median(cosines[:shown]), -1, 1))))
    ratio = float(np.median(lengths[0, :shown] / np.maximum(lengths[1, :shown], 1e-300)))
    k = gan.unroll_steps
    short_of = "" if gan.truncate in (None, k) else f" (in the last {gan.truncate} of them)"
    moves = f"the mean logit of these {shown} images moves from {short(first)} to {short(last)}"
    longer = f"{'make' if supposed else 'makes'} it {short(ratio)} times as long"
    if abs(ratio - 1) < _ALIKE:
        longer = f"hardly {'change' if supposed else 'changes'} its length"
    turned = f"{angle:.0f}° and {longer} (medians)."
    if supposed:
        return (f"This generator does not look ahead. In the discriminator's next {k} updates, {moves}. These updates "
                "depend on the generated images. A generator that took this into account would turn its gradient by "
                f"{turned}")
    return (f"Within {k} updates ahead, {moves}. These updates depend on the generated images. The generator takes "
            f"this into account{short_of}, which turns its gradient by {turned}")


def _alt(found: Ahead, shown: int) -> str:
    lengths, cosines = compared(found)
    logits = ", ".join(f"k = {k}: {values[:shown].mean():.3g}" for k, values in enumerate(found.logits))
    return (f"Mean logits of {shown} images after k updates ahead: {logits}. Cosines of the gradients with and without the "
            f"path through the updates go from {cosines[:shown].min():.2g} to {cosines[:shown].max():.2g}; the median "
            f"length is {np.median(lengths[0, :shown]):.2g} with it and {np.median(lengths[1, :shown]):.2g} without.")
