"""How large the gradients of a step are, and how far it moves each parameter."""
from __future__ import annotations

__all__ = ["PLAYERS", "Updates", "observed", "unchanged"]

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from .players import host

Array = npt.NDArray[np.float32]

PLAYERS = {"d": "discriminator", "g": "generator"}
"""The letters by which a record knows the players."""


def norm(array: Any) -> float:
    """The square root of the sum of squares. It is computed in float64: the squares of tiny gradients are 0 in float32."""
    return float(np.sqrt(np.square(host(array), dtype=np.float64).sum()))


class Updates:
    """What one player's optimiser did in a step: an entry for every parameter, in the order of `names`.

    gradient_norm: |g|. update_ratio: |w after - w before| / |w before|. If the player makes several updates in a step, both
    are means over these. NaN: the optimiser made no update, or the parameter was 0. weight_norm: |w| after the step.
    """

    def __init__(self, network: Any) -> None:
        named = dict(network.named_parameters())
        self.names = list(named)
        self._parameters = list(named.values())
        self._found: list[tuple[list[float], list[float]]] = []

    def step(self, original: Any, gradients: Any) -> None:
        """Make an update by `original(gradients)`, and note it."""
        before = [np.array(host(p)) for p in self._parameters]
        sizes = [norm(g) for g in gradients]
        original(gradients)
        moved = [norm(host(p) - old) for p, old in zip(self._parameters, before, strict=True)]
        weights = [norm(old) for old in before]
        self._found.append((sizes, [step / w if w else np.nan for step, w in zip(moved, weights, strict=True)]))

    def arrays(self) -> dict[str, Array]:
        """The three arrays by name, float32 (parameters,)."""
        nothing = [np.nan] * len(self._parameters)
        sizes, ratios = zip(*self._found, strict=True) if self._found else ([nothing], [nothing])
        return {"gradient_norm": np.mean(sizes, 0).astype(np.float32), "update_ratio": np.mean(ratios, 0).astype(np.float32),
                "weight_norm": np.array([norm(p) for p in self._parameters], np.float32)}


@contextmanager
def observed(gan: Any) -> Iterator[dict[str, Updates]]:
    """In the body, both optimisers note their updates. They compute what they always do."""
    found = {letter: Updates(getattr(gan, player)) for letter, player in PLAYERS.items()}
    with ExitStack() as restoring, np.errstate(all="ignore"):
        for letter, updates in found.items():
            optimizer = getattr(gan, f"{letter}_optimizer", None)  # (a class of a user's own need not have it)
            if optimizer is not None:
                restoring.enter_context(_replaced(optimizer, updates))
        yield found


@contextmanager
def _replaced(optimizer: Any, updates: Updates) -> Iterator[None]:
    original, own = optimizer.step, vars(optimizer).get("step")
    optimizer.step = lambda gradients: updates.step(original, gradients)
    try:
        yield
    finally:
        if own is None:
            del optimizer.step
        else:
            optimizer.step = own


@contextmanager
def unchanged(gan: Any) -> Iterator[None]:
    """Whatever the body does to the GAN's state, it is restored afterwards: parameters, buffers, optimisers, keys and
    counts."""
    state = gan.state_dict()
    try:
        yield
    finally:
        gan.load_state_dict(state)
