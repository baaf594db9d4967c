"""DiscoGAN's toy experiment (Kim et al. 2017): translate between two mixtures of Gaussians in the plane, with
all of its reconstruction, one side of it, or none:

    python benchmarks/discogan_toy.py --json benchmarks/results/discogan_toy.json --figure docs/figures/discogan_toy.png

As in the paper, A has 5 Gaussians and B has 10, here on half rings of radius 2 with sigma 0.1: A on the upper half, B on the
lower half. (With 10 and 10, all three methods found all modes at once, because a reflection solves it.) There is one row for
each method and seed, written when it is complete; the same command again makes the missing ones. The settings were chosen
on seeds from 1000 on (`--first-seed 1000`). `--figure` draws the translated points of the first seed, one panel for each
method.

- modes: how many modes of B have a translated point G_AB(a) within 3 sigma. high quality: the share of such points.
- alone: the share of points whose mode of B gets most of its points from their mode of A. Where a generator sends several
  modes to one, it is lower.
- home: the share of cycles a -> G_AB -> G_BA that end within 3 sigma of the mode where they began.
"""
import argparse
import sys
import time
from pathlib import Path
from typing import Any

import harness
import numpy as np
from harness import Row, say
from mode_collapse import rounded, summary

import tinygan as tg
from tinygan import nn
from tinygan.data import Mixture
from tinygan.plotting import save_translations
from tinygan.random import Key

EXPERIMENT = "discogan_toy"
MODES_A, MODES_B, RADIUS, SIGMA = 5, 10, 2.0, 0.1
POINTS, DRAWN = 5000, 600  # how many points are measured, and how many are drawn
COLUMNS = {"modes": "modes of B, of 10", "high_quality": "high quality, %", "alone": "alone, %", "home": "home, %"}


def half_ring(modes: int, begin: float) -> Mixture:
    """Centres at equal distances on half a circle, from the angle `begin` (in radians) on, both ends included."""
    angles = begin + np.linspace(0, np.pi, modes)
    return Mixture((RADIUS * np.stack([np.cos(angles), np.sin(angles)], 1)).astype(np.float32), SIGMA)


A, B = half_ring(MODES_A, 0.0), half_ring(MODES_B, np.pi)


def perceptron(hidden: int, outputs: int) -> nn.Sequential:
    """`hidden` layers of 128 units, on points."""
    layers: list[nn.Module] = []
    for inputs in [2, *[128] * (hidden - 1)]:
        layers += [nn.Dense(inputs, 128), nn.ReLU()]
    return nn.Sequential(*layers, nn.Dense(128, outputs))


def build(method: str, rate: float, weight: float, key: Key) -> tg.gans.DiscoGAN:
    d_a = None if "a" not in tg.gans.RECONSTRUCTIONS[method].judged else perceptron(5, 1)
    return tg.gans.DiscoGAN(
        perceptron(3, 2), perceptron(3, 2), d_a, perceptron(5, 1), shape_a=(2,), shape_b=(2,), reconstruction=method,
        weight=weight, g_optimizer=tg.optim.Adam(rate, betas=(0.5, 0.999)),
        d_optimizer=tg.optim.Adam(rate, betas=(0.5, 0.999)), key=key,
    )  # fmt: skip


def pairs(n: int, key: Key) -> np.ndarray:
    """n points of A and n of B, (n, 4)."""
    return np.concatenate([A.sample(n, key.fold("a")), B.sample(n, key.fold("b"))], axis=1)


def nearest(points: np.ndarray, mixture: Mixture) -> tuple[np.ndarray, np.ndarray]:
    """The nearest centre of each point, and whether it is within 3 sigma."""
    distances = np.linalg.norm(points[:, None] - mixture.centres, axis=-1)
    return distances.argmin(1), distances.min(1) <= 3 * mixture.sigma


def measure(gan: tg.gans.DiscoGAN, key: Key) -> dict[str, float]:
    a, there, home, *_ = gan.cycles(pairs(POINTS, key))
    found = tg.metrics.mixture_coverage(there, B.centres, SIGMA)
    (begin, _), (middle, _), (end, good) = nearest(a, A), nearest(there, B), nearest(home, A)
    table = np.zeros((MODES_B, MODES_A), int)
    np.add.at(table, (middle, begin), 1)
    return rounded({
        "modes": found.modes, "high_quality": 100 * found.high_quality, "alone": 100 * float(table.max(1).sum() / POINTS),
        "home": 100 * float(((end == begin) & good).mean()),
    })  # fmt: skip


def train(options: argparse.Namespace, method: str, seed: int) -> Row:
    """Train with one seed and measure. Returns one row."""
    key = Key(seed)
    gan = build(method, options.learning_rate, options.weight, key.fold("gan"))
    step, begin = tg.capture(gan.step), time.perf_counter()
    trace: list[dict[str, float]] = []
    every = max(1, options.steps // 10)
    while gan.steps < options.steps:
        step(pairs(options.batch, key.fold("data").fold(gan.steps)))
        if gan.steps % every == 0 or gan.steps == options.steps:
            trace.append({"step": gan.steps, **measure(gan, key.fold("measure").fold(gan.steps))})
    seconds = round(time.perf_counter() - begin, 1)
    last = {name: value for name, value in trace[-1].items() if name != "step"}
    say(f"{method}, seed {seed}: {', '.join(f'{name} {value}' for name, value in last.items())}, {seconds} s")
    drawn = {}
    if seed == options.first_seed:
        a, there, *_ = gan.cycles(pairs(DRAWN, key.fold("figure")))
        table = np.column_stack([nearest(a, A)[0], (100 * there).round()]).astype(int)
        drawn = {"points": "; ".join(" ".join(map(str, row)) for row in table)}  # the mode of A, x and y in hundredths
    return {"method": method, "settings": settings(options), "steps": options.steps, "seed": seed, **last,
            "seconds": seconds, "trace": trace, **drawn}  # fmt: skip


def settings(options: argparse.Namespace) -> dict[str, Any]:
    return {"rate": options.learning_rate, "batch": options.batch, "weight": options.weight}


def made(row: Row, options: argparse.Namespace) -> bool:
    return bool(row["settings"] == settings(options) and row["steps"] == options.steps)


def run(options: argparse.Namespace) -> dict[str, Any]:
    path, info = Path(options.json), harness.machine(["tinygan", "numpy", "numba"])
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        for method in options.methods:
            rows = harness.read_rows(path, EXPERIMENT)["rows"]
            if not any((row["method"], row["seed"]) == (method, seed) and made(row, options) for row in rows):
                harness.add_row(path, EXPERIMENT, {**train(options, method, seed), "commit": info["commit"]})
    return harness.read_rows(path, EXPERIMENT)


def draw(path: str, rows: list[Row], seed: int) -> None:
    """A panel for each method: the translated points of one seed, in the colours of their modes of A."""
    panels = {}
    for row in rows:
        if row["seed"] == seed:
            table = np.array([line.split() for line in row["points"].split(";")], int)
            panels[f"reconstruction: {row['method']}"] = (table[:, 1:] / 100, table[:, 0])
    save_translations(path, panels, B.centres, title="G_AB(a), in the colour of a's mode; crosses: the modes of B")


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", choices=tg.gans.RECONSTRUCTIONS, default=list(tg.gans.RECONSTRUCTIONS))
    parser.add_argument("--seeds", type=harness.count, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--steps", type=harness.count, default=3000)
    parser.add_argument("--batch", type=harness.count, default=200)
    parser.add_argument("--learning-rate", type=float, default=2e-4, help="of both players' Adam")
    parser.add_argument("--weight", type=float, default=1.0, help="of the reconstruction errors")
    parser.add_argument("--json", required=True, help="the file of the rows; it is written after every seed")
    parser.add_argument("--figure", help="a .png of the first seed's points")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    options = arguments(argv)
    try:
        rows = run(options)["rows"]
    except RuntimeError as error:
        say(str(error))
        return 1
    columns = {"method": "reconstruction", "settings": "settings", **COLUMNS, "seeds": "seeds", "steps": "steps",
               "seconds": "seconds a seed"}  # fmt: skip
    print(harness.markdown(summary(rows, list(COLUMNS)), columns))
    if options.figure:
        draw(options.figure, [row for row in rows if made(row, options)], options.first_seed)
        print(options.figure)
    return 0


if __name__ == "__main__":
    sys.exit(main())
