"""Measure the bias of the gradient that goes back through only the last steps.

    python benchmarks/unrolled_truncation.py --json unrolled_truncation.json --figure unrolled_truncation.png

It uses the ring of `mode_collapse.py` with K = 10 and Adam 1e-3. A GAN is trained with the exact gradient. At several
moments, the generator's gradient is computed with `truncate` = 0, 1, ..., K, from the same points and noise, in float64.
Measured are its distance from the exact gradient, relative to the length of that, and the cosine of the angle between the
two. With truncate = 0, the K updates of the discriminator count as constants.
"""
import argparse
import sys
from typing import Any

import harness
import mode_collapse_tasks as tasks
import numpy as np
from harness import Row, say

import tinygan as tg
from tinygan.random import Key

COLUMNS = {"step": "after step", "truncate": "truncate", "error": "distance from the exact gradient", "cosine": "cosine"}


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--unroll-steps", type=harness.count, default=10, help="K")
    parser.add_argument("--at", default="0,1000,3000", help="training steps, separated by commas")
    parser.add_argument("--batch", type=harness.count, default=512)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", help="write the result here")
    parser.add_argument("--figure", help="draw the figure here (.png, .pdf, .svg)")
    options = parser.parse_args(argv)
    options.at = sorted(int(step) for step in harness.words(options.at))
    return options


def game(key: Key, unroll_steps: int) -> tg.gans.UnrolledGAN:
    generator, discriminator, latent_dim, rates, _ = tasks.TASKS["ring"].players("metz", "unrolled")
    players = [network.initialize(key.fold(name)).astype(np.float64)
               for name, network in (("generator", generator), ("discriminator", discriminator))]  # fmt: skip
    optimisers = {name: tg.optim.Adam(1e-3, betas=(rates.beta1, rates.beta2)) for name in ("g_optimizer", "d_optimizer")}
    return tg.gans.UnrolledGAN(*players, latent_dim, unroll_steps=unroll_steps, key=key, **optimisers)


def compare(gan: tg.gans.UnrolledGAN, real: np.ndarray, z: np.ndarray) -> list[Row]:
    """Compare the gradient for each `truncate` with the exact one. Returns a row for each."""

    def gradient(truncate: int) -> np.ndarray:
        gan.truncate = truncate
        return np.concatenate([np.asarray(g).ravel() for g in gan.unrolled_gradients(real, z)[1]])

    exact = gradient(gan.unroll_steps)
    rows = []
    for truncate in range(gan.unroll_steps + 1):
        found = gradient(truncate)
        lengths = np.linalg.norm(found) * np.linalg.norm(exact)
        rows.append({"truncate": truncate, "error": float(np.linalg.norm(found - exact) / np.linalg.norm(exact)),
                     "cosine": float(found @ exact / lengths)})
    gan.truncate = None
    return rows


def run(options: argparse.Namespace) -> dict[str, Any]:
    key, mixture = Key(options.seed), tg.data.gaussian_ring()
    gan = game(key, options.unroll_steps)

    def real(step: int) -> np.ndarray:
        return mixture.sample(options.batch, key.fold("data").fold(step)).astype(np.float64)

    rows = []
    for step in range(options.at[-1] + 1):
        if step in options.at:
            say(f"after step {step}")
            z = gan.latent(options.batch, key.fold("noise").fold(step))
            rows += [{"step": step, **row} for row in compare(gan, real(step), z)]
        gan.step(real(step))
    result = {"machine": harness.machine(["tinygan", "numpy"]), "rows": rows,
              "settings": {"K": options.unroll_steps, "batch": options.batch, "seed": options.seed}}
    if options.figure:
        draw(options.figure, rows, options.unroll_steps)
    return result


def draw(path: str, rows: list[Row], unroll_steps: int) -> None:
    from matplotlib.figure import Figure

    from tinygan.plotting.figures import write_figure

    title = f"The bias of a truncated gradient, K = {unroll_steps}"
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    panels = figure.subplots(1, 2)
    for step in dict.fromkeys(row["step"] for row in rows):
        found = [row for row in rows if row["step"] == step]
        for axes, name in zip(panels, ("error", "cosine"), strict=True):
            axes.plot([row["truncate"] for row in found], [row[name] for row in found], "o-", markersize=3,
                      label=f"after step {step:,}")
    labels = ("distance from the exact gradient, relative", "cosine of the angle between them")
    for axes, label in zip(panels, labels, strict=True):
        axes.set(xlabel="steps that the gradient goes back through", title=label)
        axes.grid(alpha=0.3)
    panels[0].legend(frameon=False)
    figure.suptitle(title)
    write_figure(path, figure, title, dpi=110)


def show(result: dict[str, Any]) -> str:
    return harness.markdown(result["rows"], COLUMNS)


def main(argv: list[str] | None = None) -> int:
    return harness.main(arguments(argv), run, show)


if __name__ == "__main__":
    sys.exit(main())
