"""A game of the playground: its data, networks, costs and rates as one record, checked where it comes in from the page.

`FIELDS` is the one table: the form of the page, the state in a link and the checks are made from it.
"""
from __future__ import annotations

__all__ = ["EXTENT", "FIELDS", "PRESETS", "Field", "Game", "GameError", "Preset", "described", "read"]

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from tinygan import nn
from tinygan.data import Mixture, gaussian_grid, gaussian_ring
from tinygan.gans import UnrolledGAN, VanillaGAN
from tinygan.gans.costs import COSTS
from tinygan.gans.noises import NOISES
from tinygan.gans.penalties import PENALTIES
from tinygan.optim import SGD, Adam, Optimizer
from tinygan.random import Key

EXTENT = 3.5
"""The plane that the page shows reaches from -EXTENT to EXTENT."""
_REACH = 3.0  # of drawn points
_MOST_POINTS = 400
_ARC = 64  # centres along each moon
_KERNELS, _DIMENSIONS = 10, 4  # of minibatch discrimination


class GameError(ValueError):
    """Settings that make no game. The message is for the reader of the page."""


class Field(NamedTuple):
    """A setting: its name, the words beside it, the group in the form, and its default. kind: "choice", one of `choices`;
    "whole" or "number", from `low` to `high`; "switch"; or "points". about: one sentence."""

    name: str
    label: str
    group: str
    default: Any
    kind: str
    about: str
    choices: tuple[str, ...] = ()
    low: float = 0
    high: float = 0

    def checked(self, value: Any) -> Any:
        """The value as the game holds it. Raises GameError for any other."""
        return _CHECKS[self.kind](self, value)

    def wrong(self, expected: str, value: Any) -> GameError:
        given = repr(value)
        return GameError(f"{self.label}: expected {expected}, got {given if len(given) <= 60 else given[:57] + '...'}")


def _choice(field: Field, value: Any) -> str:
    if not isinstance(value, str) or value not in field.choices:
        raise field.wrong(f"one of {', '.join(field.choices)}", value)
    return value


def _within(field: Field, value: Any, what: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not field.low <= value <= field.high:
        raise field.wrong(f"{what} from {field.low:g} to {field.high:g}", value)  # (NaN is not between them either)


def _whole(field: Field, value: Any) -> int:
    _within(field, value, "a whole number")
    if value != int(value):
        raise field.wrong(f"a whole number from {field.low:g} to {field.high:g}", value)
    return int(value)


def _number(field: Field, value: Any) -> float:
    _within(field, value, "a number")
    return float(value)


def _switch(field: Field, value: Any) -> bool:
    if not isinstance(value, bool):
        raise field.wrong("true or false", value)
    return value


def _points(field: Field, value: Any) -> tuple[tuple[float, float], ...]:
    if not isinstance(value, list | tuple):
        raise field.wrong("a list of points [x, y]", value)
    if len(value) > _MOST_POINTS:
        raise GameError(f"{field.label}: at most {_MOST_POINTS} points, got {len(value)}")
    for point in value:
        pair = isinstance(point, list | tuple) and len(point) == 2
        if not (pair and all(isinstance(x, int | float) and not isinstance(x, bool) and abs(x) <= _REACH for x in point)):
            raise field.wrong(f"points [x, y] with numbers from {-_REACH:g} to {_REACH:g}", point)
    return tuple((float(x), float(y)) for x, y in value)


_CHECKS: dict[str, Callable[[Field, Any], Any]] = {
    "choice": _choice, "whole": _whole, "number": _number, "switch": _switch, "points": _points}

DATA, NETWORKS, PLAYING, OPTIMISERS = "The data", "The networks", "The game", "The updates"

FIELDS = (
    Field("data", "Data", DATA, "ring", "choice", "What the generator is to imitate.", ("ring", "grid", "moons", "points")),
    Field("modes", "Modes of the ring", DATA, 8, "whole", "Clouds on the circle.", low=1, high=16),
    Field("side", "Side of the grid", DATA, 4, "whole", "Clouds in a row and in a column.", low=2, high=6),
    Field("sigma", "Spread", DATA, 0.1, "number", "Standard deviation of the points around each centre.", low=0.01,
          high=0.5),
    Field("points", "Drawn points", DATA, (), "points", "Centres that the reader drew."),
    Field("latent", "Latent numbers", NETWORKS, 16, "whole", "What the generator is given for each point.", low=1, high=64),
    Field("noise", "Their distribution", NETWORKS, "normal", "choice", "Of the latent numbers.", tuple(NOISES)),
    Field("width", "Units in a layer", NETWORKS, 64, "whole", "In both networks.", low=2, high=128),
    Field("g_layers", "Hidden layers of G", NETWORKS, 2, "whole", "Of the generator.", low=1, high=3),
    Field("d_layers", "Hidden layers of D", NETWORKS, 2, "whole", "Of the discriminator.", low=1, high=3),
    Field("activation", "Activation", NETWORKS, "relu", "choice", "Of all hidden layers.", ("relu", "leaky_relu", "tanh")),
    Field("minibatch", "Minibatch discrimination", NETWORKS, False, "switch",
          "D also sees how close the points of a batch are."),
    Field("cost", "Cost", PLAYING, "non-saturating", "choice", "What the two players minimise.", tuple(COSTS)),
    Field("penalty", "Penalty", PLAYING, "none", "choice", "On D's gradient, added to its loss.", ("none", *PENALTIES)),
    Field("penalty_weight", "Its weight", PLAYING, 1.0, "number", "The penalty's factor.", low=0, high=100),
    Field("d_steps", "D updates in a round, k", PLAYING, 1, "whole", "Algorithm 1's k.", low=1, high=10),
    Field("unroll_steps", "Updates ahead, K", PLAYING, 0, "whole", "How many of D's updates G looks ahead.", low=0, high=10),
    Field("optimizer", "Optimiser", OPTIMISERS, "adam", "choice", "Of both players.", ("adam", "sgd")),
    Field("g_rate", "Learning rate of G", OPTIMISERS, 1e-3, "number", "", low=0, high=10),
    Field("d_rate", "Learning rate of D", OPTIMISERS, 1e-3, "number", "", low=0, high=10),
    Field("batch", "Batch", OPTIMISERS, 128, "whole", "Points in an update.", low=2, high=512),
    Field("seed", "Seed", OPTIMISERS, 1000, "whole", "All random numbers follow from it.", low=0, high=2**31 - 1),
)
"""All settings of a game, in the order of the form."""


class Game:
    """A game that can be played. Its settings are attributes with the names in `FIELDS`; `settings` has them all."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = dict(settings)

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["settings"][name]
        except KeyError:
            raise AttributeError(f"a game has no setting {name!r}") from None

    def mixture(self) -> Mixture:
        """The data, always equally weighted Gaussians: so their density and their modes are known."""
        if self.data == "ring":
            return gaussian_ring(self.modes, 2.0, self.sigma)
        if self.data == "grid":
            return gaussian_grid(self.side, 4.0 / (self.side - 1), self.sigma)
        centres = _moons() if self.data == "moons" else np.array(self.points, np.float32)
        return Mixture(centres, self.sigma)

    def networks(self) -> tuple[nn.Sequential, nn.Sequential]:
        """The generator and the discriminator."""
        generator = nn.Sequential(*self._hidden(self.latent, self.g_layers), nn.Dense(self.width, 2))
        judged = nn.MinibatchDiscrimination(self.width, _KERNELS, _DIMENSIONS, average=True)
        ends = [judged, nn.Dense(self.width + _KERNELS, 1)] if self.minibatch else [nn.Dense(self.width, 1)]
        return generator, nn.Sequential(*self._hidden(2, self.d_layers), *ends)

    def _hidden(self, inputs: int, layers: int) -> list[nn.Module]:
        activation = {"relu": nn.ReLU, "leaky_relu": lambda: nn.LeakyReLU(0.2), "tanh": nn.Tanh}[self.activation]
        return [part for i in range(layers) for part in (nn.Dense(self.width if i else inputs, self.width), activation())]

    def gan(self, key: Key) -> VanillaGAN:
        """The GAN, untrained, with its optimisers."""
        generator, discriminator = self.networks()
        settings: dict[str, Any] = {
            "cost": self.cost, "d_steps": self.d_steps, "noise": self.noise, "key": key,
            "penalties": {} if self.penalty == "none" else {self.penalty: self.penalty_weight},
            "g_optimizer": self._optimizer(self.g_rate), "d_optimizer": self._optimizer(self.d_rate)}
        if self.unroll_steps:
            return UnrolledGAN(generator, discriminator, self.latent, unroll_steps=self.unroll_steps, rematerialize=False,
                               **settings)
        return VanillaGAN(generator, discriminator, self.latent, **settings)

    def _optimizer(self, rate: float) -> Optimizer:
        return SGD(rate) if self.optimizer == "sgd" else Adam(rate, betas=(0.5, 0.999))


def read(settings: Any) -> Game:
    """The game of the settings that a page sent: {name: value}; a setting that is left out has its default. Raises GameError
    for a name that is no setting, for a value that is none of its own, and for settings that do not go together."""
    if not isinstance(settings, dict):
        raise GameError(f"settings: expected an object of names and values, got {type(settings).__name__}")
    known = {field.name for field in FIELDS}
    unknown = sorted(str(name) for name in settings if name not in known)
    if unknown:
        raise GameError(f"settings: there is no setting {unknown[0][:60]!r}")
    game = Game({field.name: field.checked(settings.get(field.name, field.default)) for field in FIELDS})
    if game.data == "points" and len(game.points) < 2:
        raise GameError(f"Drawn points: draw at least 2 points, got {len(game.points)}")
    if game.penalty != "none" and game.minibatch:
        raise GameError("Penalty: it is about D's output for each point alone, and with minibatch discrimination there is "
                        "no such output: choose one of the two")
    return game


def _moons() -> Any:
    """Centres on two half circles that reach into each other."""
    angle = np.pi * (np.arange(_ARC) + 0.5) / _ARC
    upper = np.stack([np.cos(angle) - 0.5, np.sin(angle) - 0.25], 1)
    return (1.5 * np.concatenate([upper, -upper])).astype(np.float32)


def described() -> list[dict[str, Any]]:
    """`FIELDS` as JSON, for the form of the page."""
    return [field._asdict() for field in FIELDS]


class Preset(NamedTuple):
    """A game worth seeing: its name, what differs from the defaults, how many rounds show it, and what to look at."""

    name: str
    settings: Mapping[str, Any]
    rounds: int
    about: str

    def game(self) -> Game:
        return read(dict(self.settings))


_FAST = {"g_rate": 3e-3, "d_rate": 3e-4}  # G learns ten times as fast as D: it runs to the best place of the moment

PRESETS = (
    Preset("saturates", {"cost": "minimax", "optimizer": "sgd", "g_rate": 0.03, "d_rate": 0.3, "d_steps": 5}, 150,
           "D gets five updates a round and is soon sure of itself. Under the minimax cost the gradient then has almost no "
           "length, and G's points stay where they are. Compare its line with the non-saturating cost's, on the same "
           "logits. With that cost, G's points reach the ring within 20 rounds."),
    Preset("collapses", _FAST, 600,
           "G puts all its points on one or two of the eight clouds, D learns to refuse them, and G moves on. The losses do "
           "not show it: look at the number of modes."),
    Preset("cured by unrolling", {**_FAST, "unroll_steps": 5}, 600,
           "The same game as the one that collapses, but G looks five of D's updates ahead. It counts on D's answer to a "
           "heap of points, so the arrows push the heap apart, and all eight clouds are reached."),
    Preset("cured by minibatch discrimination", {**_FAST, "minibatch": True}, 600,
           "The same game as the one that collapses, but D also sees how close the points of a batch are. A heap gives "
           "itself away, and its points hear of each other: all eight clouds are reached."),
)
"""The games that the page offers, each with the seed 1000."""
