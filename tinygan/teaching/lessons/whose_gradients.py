"""The checks of lesson 4: gradients as `VanillaGAN` has them, and probes in the networks that see how these are used."""
from __future__ import annotations

__all__ = ["EXERCISES"]

from typing import Any

import numpy as np

from tinygan import nn
from tinygan.context import is_recording
from tinygan.gans import VanillaGAN
from tinygan.graph import grad, op
from tinygan.random import Key
from tinygan.tensor import Tensor

from .judging import AnswerError, Exercise, array_of, close, function, listed


class _Watched(nn.Module):
    """A network that notes how often it runs, whether with a graph, and how often a backward pass comes to its result."""

    couples_examples = False

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.notes: dict[str, Any] = {"runs": 0, "recorded": 0, "visits": 0}

    def forward(self, x: Any) -> Any:
        self.notes["runs"] += 1
        self.notes["recorded"] += is_recording()
        return _noted(self.network(x), notes=self.notes)


@op
def _noted(B: Any, x: Any, notes: dict[str, Any]) -> Any:
    return x


@_noted.vjp
def _(needs: Any, g: Any, notes: dict[str, Any]) -> Any:
    notes["visits"] += 1
    return (g,)


def _game() -> tuple[_Watched, _Watched, VanillaGAN, Any, Any]:
    key = Key(4)
    g = _Watched(nn.Sequential(nn.Dense(3, 6), nn.Tanh(), nn.Dense(6, 2))).initialize(key.fold("g"))
    d = _Watched(nn.Sequential(nn.Dense(2, 5), nn.Tanh(), nn.Dense(5, 1))).initialize(key.fold("d"))
    gan = VanillaGAN(g, d, 3)
    return g, d, gan, key.fold("real").normal((8, 2)), key.fold("z").normal((8, 3))


def _compare(what: str, found: Any, network: nn.Module, expected: Any) -> None:
    names = [name.removeprefix("network.") for name, _ in network.named_parameters()]
    for name, ours, right in zip(names, listed(what, found, names), expected, strict=True):
        close(f"{what}: the gradient of {name}", ours, right, hint=_hint(f"{what}: the gradient of {name}", ours, right))


def _hint(what: str, found: Any, expected: Any) -> str:
    """What may be wrong with a gradient that is not as expected."""
    ours, right = array_of(what, found), array_of(what, expected)
    if ours.shape != right.shape:
        return "(Whose weights are these?)"
    if not ours.any():
        return "(It is 0 everywhere, as in pass 5 of the lesson: is G(z) a constant in your loss?)"
    if np.allclose(ours, -right, rtol=1e-4, atol=1e-6):
        return "(It has the opposite sign: which sign has the loss?)"
    return "(D(x) is a logit, not a probability.)"


def _untouched(*networks: nn.Module) -> None:
    if any(p.grad is not None for network in networks for p in network.parameters()):
        raise AnswerError("After the call, weights have a .grad. Use tg.grad, which returns gradients and stores nothing.")


def _generator_gradients(value: Any) -> None:
    answer = function("generator_gradients(G, D, z)", value)
    g, d, gan, _, z = _game()
    expected = gan.g_gradients(z)[1]
    points = Tensor(g(z).detach(), requires_grad=True)
    arrows = grad(gan.g_loss(d(points)), points)
    g.notes["runs"] = 0
    found = listed("generator_gradients", answer(g, d, z), ("arrows", "gradients"))
    _untouched(g, d)
    what = "generator_gradients: the arrows"
    close(what, found[0], arrows, hint=_hint(what, found[0], arrows))
    _compare("generator_gradients", found[1], g, expected)
    if g.notes["runs"] != 1:
        raise AnswerError(f"The gradients are right. But G ran {g.notes['runs']} times, and once is enough.")


def _discriminator_gradients(value: Any) -> None:
    answer = function("discriminator_gradients(G, D, real, z)", value)
    g, d, gan, real, z = _game()
    expected = gan.d_gradients(real, z)[1]
    g.notes["recorded"] = 0
    found = answer(g, d, real, z)
    _untouched(g, d)
    _compare("discriminator_gradients", found, d, expected)
    if g.notes["recorded"]:
        raise AnswerError("The gradients are right. But G ran with a graph, which nobody uses. How can it run without?")


def _both_players(value: Any) -> None:
    answer = function("both_players(G, D, real, z)", value)
    g, d, gan, real, z = _game()
    gan.cost = "minimax"
    for_d, for_g = gan.d_gradients(real, z)[1], gan.g_gradients(z)[1]
    g.notes.update(runs=0, visits=0)
    found = listed("both_players", answer(g, d, real, z), ("g_gradients", "d_gradients"))
    _untouched(g, d)
    _compare("both_players, for D", found[1], d, for_d)
    _compare("both_players, for G", found[0], g, for_g)
    if g.notes["runs"] != 1 or g.notes["visits"] != 1:
        raise AnswerError(f"The gradients are right. But G ran {g.notes['runs']} times, and the backward pass came to it "
                    f"{g.notes['visits']} times. Once is enough for both.")


EXERCISES = (Exercise("generator_gradients", "generator_gradients(G, D, z)", _generator_gradients),
             Exercise("discriminator_gradients", "discriminator_gradients(G, D, real, z)", _discriminator_gradients),
             Exercise("both_players", "both_players(G, D, real, z)", _both_players))
