"""One game that is being played: moves forward, one update or one round at a time, and back to any earlier move."""
from __future__ import annotations

__all__ = ["MOST_MOVES", "MOVES", "Engine", "MoveError", "StoppedError"]

from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt

from tinygan.errors import SettingsError
from tinygan.gans import UnrolledGAN
from tinygan.gans.costs import COSTS
from tinygan.gans.stats import Stats
from tinygan.ops import mean, sigmoid
from tinygan.random import Key, use_key
from tinygan.tensor import as_array

from ..arrays import numbers, packed
from ..rounds import trace_round
from ..sections.tape import described as tape_of
from . import frames
from .games import EXTENT, Game, GameError

MOVES = "round", "d", "g"
"""What a player can do: a round of Algorithm 1, one update of D, one update of G."""

MOST_MOVES = 200_000
_MOST_KEPT = 64
"""How many states an engine keeps. When there are more, every second one goes."""

Batch = npt.NDArray[np.float32]


class MoveError(Exception):
    """A move that cannot be made. The message is for the reader of the page."""


class StoppedError(Exception):
    """The engine was stopped."""


class Engine:
    """A GAN in the plane, with all moves that were made.

    All random numbers follow from the game's seed and from the moves. So to go back to a move, an earlier state is loaded
    and the moves after it are made again: this gives the same weights to the last bit. Update number u of the discriminator
    sees batch number u of the data, in a round as in single updates.
    """

    def __init__(self, game: Game) -> None:
        self.game = game
        self.key = Key(game.seed)
        self.mixture = game.mixture()
        try:
            self.gan = game.gan(self.key)
        except (ValueError, TypeError, SettingsError) as error:
            raise GameError(f"These settings make no game: {error}") from error
        self.z = self.gan.latent(frames.SAMPLES, self.key.fold("shown"))
        self.real = self.mixture.sample(frames.SAMPLES, self.key.fold("shown real"))
        self.moves = bytearray()
        self.at = 0
        """How many of the moves are made now: fewer than all, after going back."""
        self.updates = {"d": 0, "g": 0}
        self.stats: Stats | None = None
        self.stopped = False
        """Set it, from any thread, and the next move raises StoppedError."""
        self._every = 8
        self._kept: dict[int, tuple[dict[str, Any], dict[str, int], Stats | None]] = {}
        self._keep()

    # -- moves -----------------------------------------------------------------------------------------------------------

    def move(self, name: str) -> None:
        """Make a move after the present one; moves that were undone are forgotten. Raises MoveError if the weights are no
        longer finite, or if there were too many moves."""
        if len(self.moves) >= MOST_MOVES:
            raise MoveError(f"This game has had {MOST_MOVES:,} moves, which is as many as are kept: start it again.")
        if self.stats is not None and not self._finite():
            raise MoveError("A loss is no longer a finite number: the game has diverged. Go back to an earlier step, or "
                            "start again with smaller learning rates.")
        del self.moves[self.at:]
        for later in [place for place in self._kept if place > self.at]:
            del self._kept[later]
        number = MOVES.index(name)
        self._make(number)
        self.moves.append(number)
        if self.at % self._every == 0:
            self._keep()

    def go(self, to: int) -> None:
        """Go to the state after so many moves, back or forward. Raises MoveError for moves that were not made."""
        if not 0 <= to <= len(self.moves):
            raise MoveError(f"There are moves 0 to {len(self.moves):,} to go to, not {to:,}.")
        start = max(place for place in self._kept if place <= to)
        if not start <= self.at <= to:
            state, updates, self.stats = self._kept[start]
            self.gan.load_state_dict(state)
            self.updates, self.at = dict(updates), start
        while self.at < to:
            self._make(self.moves[self.at])

    def _make(self, number: int) -> None:
        if self.stopped:
            raise StoppedError
        try:
            with np.errstate(all="ignore"):
                self.stats = (self._round, self._update_d, self._update_g)[number]()
        except (ValueError, ArithmeticError) as error:  # (such as points that are not finite)
            here, self.at = self.at, -1  # the state may be half changed: it is made again
            self.go(here)
            raise MoveError(f"The update could not be made: {error}") from error
        self.at += 1

    def _round(self) -> Stats:
        k = self.gan.d_steps
        real = np.concatenate([self._batch(self.updates["d"] + i) for i in range(k)])
        stats = self.gan.step(real)
        self.updates["d"] += k
        self.updates["g"] += 1
        return stats

    def _update_d(self) -> Stats:
        """One update of the discriminator, as in `VanillaGAN.step`."""
        gan = self.gan
        with use_key(gan.keys):
            real = self._batch(self.updates["d"])
            loss, gradients, *logits = gan.d_gradients(real, gan.latent(len(real)))
            gan.d_optimizer.step(gradients)
        log_odds = COSTS[gan.cost].log_odds
        outputs = [float(as_array(mean(sigmoid(as_array(f)) if log_odds else as_array(f)))) for f in logits]
        self.updates["d"] += 1
        return Stats(float(as_array(loss)), self.stats.g_loss if self.stats else 0.0, *outputs)

    def _update_g(self) -> Stats:
        """The update of the generator that ends a round, as in the `step` of the GAN."""
        gan = self.gan
        real = self._batch(max(self.updates["d"] - 1, 0))
        with use_key(gan.keys):
            z = gan.latent(len(real))
            if isinstance(gan, UnrolledGAN):
                loss, gradients = gan.unrolled_gradients(real, z)
            else:
                loss, gradients = gan.g_gradients(z, *((real,) if gan.compares_images else ()))
            gan.g_optimizer.step(gradients)
        gan.end_step()
        self.updates["g"] += 1
        return (self.stats or Stats(0.0, 0.0, 0.5, 0.5))._replace(g_loss=float(as_array(loss)))

    def _batch(self, number: int) -> Batch:
        return self.mixture.sample(self.game.batch, self.key.fold("data").fold(number))

    def _finite(self) -> bool:
        return self.stats is None or bool(np.isfinite([float(x) for x in self.stats]).all())

    def _keep(self) -> None:
        self._kept[self.at] = self.gan.state_dict(), dict(self.updates), self.stats
        if len(self._kept) > _MOST_KEPT:
            self._every *= 2
            self._kept = {place: state for place, state in self._kept.items() if place % self._every == 0}

    # -- what the page is told -------------------------------------------------------------------------------------------

    def opening(self) -> dict[str, Any]:
        """What is fixed in this game."""
        return {"settings": self.game.settings, "extent": EXTENT, "centres": len(self.mixture.centres),
                "density": packed(frames.density(self.mixture), "f16"), "real": packed(self.real, "f32"),
                "coupled": self.gan.couples_examples, "log_odds": COSTS[self.gan.cost].log_odds,
                "weights": {player: sum(p.size for p in getattr(self.gan, player).parameters())
                            for player in ("generator", "discriminator")}}

    def frame(self, layers: Collection[str] = frames.LAYERS) -> dict[str, Any]:
        """The present state as JSON. See `frames.readings`."""
        stats = {} if self.stats is None else {name: numbers(float(x)) for name, x in self.stats._asdict().items()}
        return {"move": self.at, "moves": len(self.moves), "d_updates": self.updates["d"], "g_updates": self.updates["g"],
                "finite": self._finite(), "stats": stats,
                **frames.readings(self.gan, self.z, self.real, self.mixture, layers)}

    def ops(self) -> dict[str, Any]:
        """The ops of the next round, on its first 2 points: the JSON of the page's section (c). Nothing changes."""
        if not self._finite():
            raise MoveError("A loss is no longer a finite number, so there is nothing to follow. Go back to an earlier "
                            "step.")
        with np.errstate(all="ignore"):
            return tape_of(trace_round(self.gan, self._batch(self.updates["d"])))
