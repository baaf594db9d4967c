"""Eight Gaussians on a ring: a GAN moves from one to the next, and an unrolled GAN covers all of them (Metz et al. 2017).

    python examples/unrolled_ring.py                              K = 0 beside K = 10; minutes
    python examples/unrolled_ring.py --unroll-steps 0 1 5 --steps 10000 --out few.png
    python examples/unrolled_ring.py --record ring                and pages that explain them: ring/k0/explain.html, ...

trains the same networks from the same weights on the same data. The generator looks ahead over K of the discriminator's
updates. The figure shows the generated points during training: a row for each K, a column for each moment, the data last.
"""
import argparse
import sys
from pathlib import Path

import tinygan as tg
from tinygan import nn
from tinygan.plotting import save_densities
from tinygan.random import Key
from tinygan.runs.settings import count, natural

COLUMNS, POINTS, LATENT, HIDDEN = 9, 4096, 256, 128


class Quarter(nn.Module):
    """x / 4, because the data are on a circle of radius 2."""

    couples_examples = False

    def forward(self, x):
        return tg.mul(x, 0.25)


def train(unroll_steps: int, steps: int, learning_rate: float, seed: int, mixture: tg.data.Mixture,
          record: Path | None) -> list:
    """Train a GAN. Returns the generator's points before training, and at equal intervals during it. record: a folder for a
    recording and its page."""
    # The networks of the paper's section 3.1.
    start = nn.initializers.orthogonal(0.8)
    generator = nn.Sequential(
        nn.Dense(LATENT, HIDDEN, initializer=start), nn.ReLU(), nn.Dense(HIDDEN, HIDDEN, initializer=start), nn.ReLU(),
        nn.Dense(HIDDEN, 2, initializer=start))
    discriminator = nn.Sequential(
        Quarter(), nn.Dense(2, HIDDEN, initializer=start), nn.ReLU(), nn.Dense(HIDDEN, 1, initializer=start))
    key = Key(seed)

    # The generator minimises the minimax cost against the discriminator after its next K updates. The graph of all K updates
    # is small here, so it is recorded. For images, rematerialize=True keeps the graph of only one update at a time.
    gan = tg.gans.UnrolledGAN(
        generator, discriminator, latent_dim=LATENT, unroll_steps=unroll_steps, rematerialize=False, key=key,
        g_optimizer=tg.optim.Adam(learning_rate, betas=(0.5, 0.999)),
        d_optimizer=tg.optim.Adam(learning_rate, betas=(0.5, 0.999)))
    make_step = gan.step if record is None else tg.training.Recorder(record, gan)
    seen = [gan.sample(POINTS)]
    for step in range(1, steps + 1):
        make_step(mixture.sample(512, key.fold("data").fold(step)))
        if step * (COLUMNS - 1) // steps > (step - 1) * (COLUMNS - 1) // steps:
            seen.append(gan.sample(POINTS))
            found = tg.metrics.mixture_coverage(seen[-1], mixture.centres, mixture.sigma)
            print(f"K = {unroll_steps}, step {step}: {found.modes} of {len(mixture.centres)} modes, "
                  f"{found.high_quality:.1%} of the points within 3 sigma", flush=True)
    if record is not None:
        print(tg.teaching.explain(record, gan=gan))
    return seen


def main(options: argparse.Namespace) -> None:
    mixture = tg.data.gaussian_ring()
    data = mixture.sample(POINTS, Key(options.seed).fold("shown"))
    rows = {}
    for k in options.unroll_steps:
        record = options.record and options.record / f"k{k}"
        rows[f"K = {k}"] = [*train(k, options.steps, options.learning_rate, options.seed, mixture, record), data]
    columns = [f"step {options.steps * i // (COLUMNS - 1):,}" for i in range(COLUMNS)]
    save_densities(options.out, rows, [*columns, "data"], radius=3,
                   title=f"The generator's points: ring of eight Gaussians, seed {options.seed}")
    print(options.out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--unroll-steps", type=natural, nargs="+", default=[0, 10], metavar="K", help="(default: 0 10)")
    parser.add_argument("--steps", type=count, default=8000, metavar="N", help="updates of each (default: 8000)")
    parser.add_argument("--learning-rate", type=float, default=1e-3, metavar="R", help="(default: 1e-3; the paper's: 1e-4)")
    parser.add_argument("--seed", type=natural, default=0, metavar="S", help="seed of all random numbers")
    parser.add_argument("--record", type=Path, metavar="DIR", help="record what the players tell each other (default: no)")
    parser.add_argument("--out", type=Path, default=Path("unrolled_ring.png"), help="(default: unrolled_ring.png)")
    arguments = parser.parse_args()
    sys.exit(tg.training.guarded(lambda: main(arguments)))
