"""The gradient that a collapsed generator gets from its discriminator, and how two remedies change it.

    python examples/collapse_gradients.py                    a minute; writes collapse_gradients.png

All generated points are in one heap, at one of the eight Gaussians of a ring. Four discriminators learn to tell that heap
from the data. The arrows show where the gradient of each discriminator moves the points:
  1. a plain discriminator. It judges each point by its place. The gradient moves the points to where the data are more
     likely, most of them to the same side, and nothing pushes them apart;
  2. the same discriminator after K more of its updates (Metz et al. 2017). The gradient takes into account that the
     discriminator will react, so moving the whole heap helps less;
  3. the same K updates treated as constants (truncate=0): the gradient does not go back through them;
  4. a discriminator with minibatch discrimination (Salimans et al. 2016). The arrow of each point depends on the others.
For each of them the script prints three numbers. The first says how much of the gradient differs from point to point: the
norm of the arrows minus their mean, divided by the norm of the arrows. The second is the correlation of that part with the
points' places in the heap (above 0: the points are pushed apart). The third is the length of the mean arrow, divided by that
of the first discriminator.
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

HIDDEN, POINTS, KERNELS = 128, 512, 10


def judge(key: Key, unroll_steps: int, truncate: int, pairs: bool) -> tg.gans.UnrolledGAN:
    """A GAN with a discriminator of two hidden layers. Its generator is not used: the points do not move."""
    extra = [nn.MinibatchDiscrimination(HIDDEN, KERNELS, 4, average=True)] if pairs else []
    discriminator = nn.Sequential(
        nn.Dense(2, HIDDEN), nn.ReLU(), nn.Dense(HIDDEN, HIDDEN), nn.ReLU(), *extra, nn.Dense(HIDDEN + KERNELS * pairs, 1))
    return tg.gans.UnrolledGAN(
        nn.Dense(2, 2), discriminator, latent_dim=2, unroll_steps=unroll_steps, truncate=truncate, key=key,
        cost="non-saturating", d_optimizer=tg.optim.Adam(1e-3, betas=(0.5, 0.999)))


def arrows_of(gan: tg.gans.UnrolledGAN, heap: np.ndarray, steps: int, mixture: tg.data.Mixture, key: Key) -> np.ndarray:
    """Train the discriminator on the data and the heap. Returns the points' arrows: the directions in which the generator's
    cost falls."""
    for step in range(steps):
        loss, *_ = gan.d_loss(gan.discriminator, gan.discriminator_batch(mixture.sample(POINTS, key.fold(step)), heap))
        gan.d_optimizer.step(tg.grad(loss, gan.d_parameters))
    _, by_points = gan.look_ahead(mixture.sample(POINTS, key.fold(steps))).rematerialized(heap)
    return -POINTS * by_points  # the cost is a mean over the points


def main(options: argparse.Namespace) -> None:
    key, mixture = Key(options.seed), tg.data.gaussian_ring()
    heap = mixture.centres[0] + np.float32(mixture.sigma) * key.fold("heap").normal((POINTS, 2))
    ahead = options.unroll_steps
    judges = {"a plain discriminator": (0, 0, False), f"the same, K = {ahead} updates ahead": (ahead, ahead, False),
              f"{ahead} updates as constants": (ahead, 0, False), "with minibatch discrimination": (0, 0, True)}
    panels, first = {}, None
    for name, settings in judges.items():
        arrows = arrows_of(judge(key, *settings), heap, options.steps, mixture, key.fold("data"))
        panels[name] = heap, arrows
        mean = arrows.mean(0)
        own, place = arrows - mean, heap - heap.mean(0)
        first = first or np.linalg.norm(mean)
        print(f"{name}: {np.linalg.norm(own) / np.linalg.norm(arrows):.2f} of the gradient differs from point to point, "
              f"correlation with their places {(own * place).sum() / np.linalg.norm(own) / np.linalg.norm(place):+.2f}, "
              f"mean arrow {np.linalg.norm(mean) / first:.2f} times the first's")
    save_pushes(options.out, panels, mixture.centres, title=f"Where the gradient sends a heap (seed {options.seed})")
    print(options.out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=count, default=2000, metavar="N", help="updates of each judge (default: 2000)")
    parser.add_argument("--unroll-steps", type=natural, default=10, metavar="K", help="(default: 10)")
    parser.add_argument("--seed", type=natural, default=0, metavar="S", help="seed of all random numbers")
    parser.add_argument("--out", type=Path, default=Path("collapse_gradients.png"), help="(default: collapse_gradients.png)")
    arguments = parser.parse_args()
    sys.exit(tg.training.guarded(lambda: main(arguments)))
