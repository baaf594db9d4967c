"""The checks of lesson 3: losses in closed form, a round of Algorithm 1 by `VanillaGAN`, and a minimum found by search."""
from __future__ import annotations

__all__ = ["EXERCISES"]

from typing import Any

import numpy as np

from tinygan import nn
from tinygan.gans import VanillaGAN
from tinygan.graph import grad
from tinygan.optim import SGD
from tinygan.random import Key
from tinygan.tensor import Tensor

from .judging import AnswerError, Exercise, close, function, tensor


def _smoothed_loss(value: Any) -> None:
    answer = function("smoothed_loss(real_logits, fake_logits, target)", value)
    for real, fake, t in (([0.5, -1.0], [0.3, -2.0, 1.0], 1.0), ([0.5, -1.0], [0.3, -2.0, 1.0], 0.9),
                          ([-1000.0, 1000.0], [1000.0, -1000.0], 0.9)):
        r, f = np.array(real), np.array(fake)
        expected = np.mean(np.logaddexp(0, r) - t * r) + np.mean(np.logaddexp(0, f))
        leaves = [Tensor(r, requires_grad=True), Tensor(f, requires_grad=True)]
        call = f"smoothed_loss({real}, {fake}, {t})"
        with np.errstate(all="ignore"):
            loss = tensor(call, answer(*leaves, t))
            close(call, loss, expected, rtol=1e-9)
            slopes = (1 / (1 + np.exp(-r)) - t) / len(r), 1 / (1 + np.exp(-f)) / len(f)
            for name, ours, right in zip(("real_logits", "fake_logits"), grad(loss, leaves), slopes, strict=True):
                close(f"The gradient of {call} with respect to {name}", ours, right, rtol=1e-9)


def _players(key: Key) -> tuple[nn.Sequential, nn.Sequential, list[SGD]]:
    g = nn.Sequential(nn.Dense(1, 4), nn.Tanh(), nn.Dense(4, 1)).initialize(key.fold("g"))
    d = nn.Sequential(nn.Dense(1, 5), nn.Tanh(), nn.Dense(5, 1)).initialize(key.fold("d"))
    return g, d, [SGD(0.5), SGD(0.3)]


def _one_round(value: Any) -> None:
    answer, key = function("one_round(G, D, g_optimizer, d_optimizer, reals, d_noises, g_noise)", value), Key(3)
    for d_steps in (1, 3):
        reals, noises = key.fold("x").normal((d_steps, 16, 1)), key.fold("z").normal((d_steps + 1, 16, 1))
        g, d, optimizers = _players(key)
        gan = VanillaGAN(g, d, 1, g_optimizer=optimizers[0], d_optimizer=optimizers[1])
        states = [[np.array(p.array) for p in network.parameters()] for network in (g, d)]
        for real, z in zip(reals, noises, strict=False):
            gan.d_optimizer.step(gan.d_gradients(real, z)[1])
        gan.g_optimizer.step(gan.g_gradients(noises[-1])[1])
        expected = [[np.array(p.array) for p in network.parameters()] for network in (g, d)]

        g, d, optimizers = _players(key)
        optimizers[0].bind(g)
        optimizers[1].bind(d)
        answer(g, d, *optimizers, list(reals), list(noises[:-1]), noises[-1])
        found = [[np.array(p.array) for p in network.parameters()] for network in (g, d)]
        when = f"After a round with {d_steps} update{'s' * (d_steps > 1)} of D"
        for name, before, ours in zip("GD", states, found, strict=True):
            if all(np.array_equal(a, b) for a, b in zip(before, ours, strict=True)):
                raise AnswerError(f"{when}, the weights of {name} are as before. They should have changed.")
        for name, network, ours, right in zip("DG", (d, g), found[::-1], expected[::-1], strict=True):
            for path, a, b in zip(dict(network.named_parameters()), ours, right, strict=True):
                close(f"{when}, {name}'s {path}", a, b, rtol=1e-4, atol=1e-5)


def _best_discriminator(value: Any) -> None:
    answer = function("best_discriminator(p, q, n_real, n_fake)", value)
    p, q = np.array([0.2, 0.5, 0.9]), np.array([0.7, 0.5, 0.1])
    candidates = np.linspace(0.0005, 0.9995, 1999)[:, None]  # the formula is not needed: a search finds the minimum
    for real, fake in ((64, 64), (128, 32)):
        losses = -real * p * np.log(candidates) - fake * q * np.log(1 - candidates)
        close(f"best_discriminator({p.tolist()}, {q.tolist()}, {real}, {fake})", answer(p, q, real, fake),
              candidates[losses.argmin(0), 0], rtol=1e-3)


EXERCISES = (Exercise("smoothed_loss", "smoothed_loss(real_logits, fake_logits, target)", _smoothed_loss),
             Exercise("one_round", "one_round(G, D, g_optimizer, d_optimizer, reals, d_noises, g_noise)", _one_round),
             Exercise("best_discriminator", "best_discriminator(p, q, n_real, n_fake)", _best_discriminator))
