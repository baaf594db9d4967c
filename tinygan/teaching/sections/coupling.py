"""Section (e): who talks to whom. How much each image of a batch moves the logits of the others."""
from __future__ import annotations

__all__ = ["build", "coupling", "uncoupled"]

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from tinygan import nn
from tinygan.context import override
from tinygan.gans.batches import couples_examples
from tinygan.graph import Leaf, grad
from tinygan.ops import batch_norm_inference, concatenate
from tinygan.random import Key
from tinygan.tensor import as_array, wrap

from ..arrays import packed
from ..messages import lengths
from ..players import Players, as_update, host, players
from ..recorder import as_bytes
from ..records import Absent, Run
from .positions import fixed_inputs, percent, short

Array = npt.NDArray[Any]

_ALIKE = 0.05  # lengths that differ by less are called the same
_NAMES = {nn.MinibatchDiscrimination: "minibatch discrimination", nn.MinibatchStd: "minibatch standard deviation",
          nn.BatchNorm: "batch norm"}
"""The layers that couple a batch, in words."""


def build(run: Run) -> dict[str, Any] | Absent:
    """The section's JSON. matrix: |d logit_i / d x_j| of a batch of generated images, as in the generator's update. without:
    the same if what a layer takes from the other images counts as a constant; None if a layer of the user's own couples
    them. layers: the layers that do, in words."""
    fixed = fixed_inputs(run)
    if isinstance(fixed, Absent):
        return fixed
    shown = players(run.gan, fixed["z"], fixed.get("real"))
    if not couples_examples(shown.discriminator):
        return Absent("The discriminator of this run judges every image by itself, so no image's score depends on another "
                      "image. Minibatch discrimination (tinygan train minibatch) and batch norm (dcgan) compare the images "
                      "of a batch.")
    key = Key(run.config["settings"].get("seed", 0)).fold("recording").fold("coupling")
    matrix, images = coupling(shown, key)
    layers = _coupling_layers(shown.discriminator)
    without = None
    if all(type(layer) in _NAMES for layer in layers):
        with uncoupled(layers):
            without = coupling(shown, key)[0]
    names = list(dict.fromkeys(_NAMES.get(type(layer), type(layer).__name__) for layer in layers))
    return {"matrix": packed(matrix, "f32"), "without": None if without is None else packed(without, "f32"),
            "images": packed(as_bytes(images), "u8" if images.ndim == 4 else "f32"), "layers": names,
            "diagonal": _diagonal(matrix, without, " and ".join(names)),
            "text": _text(matrix, without, " and ".join(names)), "alt": _alt(matrix, without)}


def coupling(shown: Players, key: Key) -> tuple[Array, Array]:
    """The matrix (N, N) of |d logit_i / d x_j|, and the images x (N, ...) that the generator makes, as in its update.
    Nothing of the GAN changes."""
    with as_update(key), override(fusion=False):
        images = wrap(shown.images(), Leaf())
        logits = shown.judge(images)
        rows = []
        for i in range(len(images.array)):
            one = np.zeros(logits.shape, logits.dtype)
            one[i] = 1
            rows.append(lengths(host(grad(logits, images, one, retain_graph=True))))
    return np.array(rows), host(images)


def _coupling_layers(discriminator: nn.Module) -> list[nn.Module]:
    return [module for _, module in discriminator.named_modules() if module.couples_examples]


@contextmanager
def uncoupled(layers: list[nn.Module]) -> Iterator[None]:
    """In the body, the layers compute what they always do, but to `grad` everything that they take from the whole batch is
    a constant: batch norm's mean and variance, the similarities of minibatch discrimination."""
    with ExitStack() as restoring:
        for layer in layers:
            layer.forward = _constant_statistics(layer)  # type: ignore[method-assign]
            restoring.callback(vars(layer).pop, "forward")
        yield


def _constant_statistics(layer: Any) -> Any:
    def normalised(x: Any) -> Any:
        values = as_array(x)
        axes = (0, *range(2, values.ndim))
        return batch_norm_inference(x, values.mean(axes), values.var(axes), layer.weight, layer.bias, layer.eps)

    def appended(x: Any) -> Any:
        made = as_array(type(layer).forward(layer, x))
        return concatenate([x, made[:, x.shape[1]:]], 1)

    return normalised if isinstance(layer, nn.BatchNorm) else appended


def _share(matrix: Array) -> float:
    """Of all that moves a logit, the share that comes from other images than its own, on average."""
    total = matrix.sum(1)
    return float(1 - (np.diag(matrix) / np.where(total > 0, total, 1)).mean())


def _diagonal(matrix: Array, without: Array | None, layers: str) -> str:
    """Why the diagonals of the two matrices differ."""
    if without is None:
        return ""
    ratio = float(np.diag(matrix).mean() / max(np.diag(without).mean(), 1e-300))
    how = "about as strong as" if abs(ratio - 1) < _ALIKE else "stronger than" if ratio > 1 else "weaker than"
    return (f"\"Without the path\" means: what {layers} computes from the batch counts as fixed numbers. An image moves "
            f"its own logit through {layers}, too: so the diagonal is not the same. With the path it is {how} without it "
            f"(mean lengths {short(np.diag(matrix).mean())} and {short(np.diag(without).mean())}).")


def _text(matrix: Array, without: Array | None, layers: str) -> str:
    """What to see in this run, in at most 60 words."""
    apart = matrix * (1 - np.eye(len(matrix)))
    i, j = np.unravel_index(apart.argmax(), apart.shape)
    told = "" if without is None else " Without that path, only the diagonal is left."
    means = ("So the discriminator notices images that are alike, and its gradient tells the generator."
             if "minibatch" in layers else "So an image's gradient depends on the batch that it happens to be in.")
    return (f"Row i shows which images move logit i. Through {layers}, {percent(_share(matrix))} of a row's sum, on "
            f"average, comes from the other images; the strongest of these links leads from image {j + 1} to logit {i + 1}. "
            f"{means}{told}")


def _alt(matrix: Array, without: Array | None) -> str:
    n = len(matrix)
    own, other = np.diag(matrix).mean(), matrix[~np.eye(n, dtype=bool)].mean()
    told = "" if without is None else f" Without the layer, they are {np.diag(without).mean():.3g} and 0."
    return (f"A matrix of {n} by {n} gradients. Those of a logit with respect to its own image have a mean length of "
            f"{own:.3g}, those with respect to other images {other:.3g}.{told}")
