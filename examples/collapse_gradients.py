"""Why a collapsed GAN stays collapsed, seen in its gradients, and what the two cures change.

    python examples/collapse_gradients.py                    a minute; writes collapse_gradients.png

A GAN is trained on a ring of eight Gaussians until its points lie in one place. Then the same points are shown to three
judges, and the arrows are where each one's gradient sends them:
  1. its own discriminator: all points of a heap get nearly the same arrow, so the heap moves as one and never splits;
  2. its own discriminator after K more of its updates (Metz et al. 2017): where the heap goes, that one will say no;
  3. a discriminator with minibatch discrimination (Salimans et al. 2016), trained on the same points: it sees that they are
     a heap, and sends them apart.
The number printed is the length of the mean of all arrows brought to length 1: 1 if all agree, near 0 if they point
everywhere.
"""
import argparse
import sys
from pathlib import Path

import numpy as np

import tinygan as tg
from tinygan import nn
from tinygan.plotting import save_pushes
from tinygan.random import Key
from tinygan.runs.settings import count, natural

LATENT, HIDDEN, POINTS, BETAS = 256, 128, 512, (0.5, 0.999)


def dense(inputs: int, outputs: int) -> nn.Dense:
    return nn.Dense(inputs, outputs, initializer=nn.initializers.orthogonal(0.8))


def discriminator(pairs: bool) -> nn.Sequential:
    extra = [nn.MinibatchDiscrimination(HIDDEN, 10, 4, average=True)] if pairs else []
    return nn.Sequential(dense(2, HIDDEN), nn.ReLU(), dense(HIDDEN, HIDDEN), nn.ReLU(), *extra,
                         dense(HIDDEN + 10 * pairs, 1))


def main(options: argparse.Namespace) -> None:
    key, mixture = Key(options.seed), tg.data.gaussian_ring()

    def real(step: int) -> np.ndarray:
        return mixture.sample(POINTS, key.fold("data").fold(step))

    # A plain GAN (K = 0), until it has collapsed.
    generator = nn.Sequential(dense(LATENT, HIDDEN), nn.ReLU(), dense(HIDDEN, HIDDEN), nn.ReLU(), dense(HIDDEN, 2))
    gan = tg.gans.UnrolledGAN(
        generator, discriminator(pairs=False), LATENT, unroll_steps=0, generator_cost="non-saturating", key=key,
        g_optimizer=tg.optim.Adam(1e-3, BETAS), d_optimizer=tg.optim.Adam(1e-3, BETAS))
    for step in range(options.steps):
        gan.step(real(step))
    points, data = gan.sample(POINTS), real(options.steps)

    # Another discriminator for the same points; the generator stands still.
    other = tg.gans.VanillaGAN(generator, discriminator(pairs=True), LATENT, key=key.fold("other"),
                               g_optimizer=tg.optim.Adam(1e-3, BETAS), d_optimizer=tg.optim.Adam(1e-3, BETAS))
    for step in range(500):
        _, gradients, *_ = other.d_gradients(real(step), other.latent(POINTS))
        other.d_optimizer.step(gradients)

    # What each judge's gradient does to every point: against the gradient of the generator's cost by the points.
    panels = {"its own discriminator": -by_points(lambda x: gan.g_loss(gan.discriminator(x)), points)}
    gan.unroll_steps = options.unroll_steps
    panels[f"the same, K = {options.unroll_steps} updates ahead"] = -gan.look_ahead(data).rematerialized(points)[1]
    panels["with minibatch discrimination"] = -by_points(lambda x: gan.g_loss(other.discriminator(x)), points)

    found = tg.metrics.mixture_coverage(gan.sample(2500), mixture.centres, mixture.sigma)
    print(f"after {options.steps} steps: {found.modes} of {len(mixture.centres)} modes, reverse KL {found.reverse_kl:.2f} "
          f"(one mode alone: {np.log(8):.2f})")
    for name, arrows in panels.items():
        lengths = np.linalg.norm(arrows, axis=1, keepdims=True)
        print(f"{name}: agreement of the arrows {np.linalg.norm((arrows / np.maximum(lengths, 1e-12)).mean(0)):.3f}")
    save_pushes(options.out, {name: (points, arrows) for name, arrows in panels.items()}, mixture.centres,
                title=f"Where the gradient sends a collapsed generator's points (seed {options.seed})")
    print(options.out)


def by_points(cost, points: np.ndarray) -> np.ndarray:
    """The gradient of a cost by the points."""
    x = tg.Tensor(points, requires_grad=True)
    return np.asarray(tg.grad(cost(x), x))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=count, default=3000, metavar="N", help="of the plain GAN (default: 3000)")
    parser.add_argument("--unroll-steps", type=natural, default=10, metavar="K", help="(default: 10)")
    parser.add_argument("--seed", type=natural, default=0, metavar="S", help="everything random follows from it")
    parser.add_argument("--out", type=Path, default=Path("collapse_gradients.png"), help="(default: collapse_gradients.png)")
    arguments = parser.parse_args()
    sys.exit(tg.training.guarded(lambda: main(arguments)))
