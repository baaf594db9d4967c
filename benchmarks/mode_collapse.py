"""How many modes a GAN captures, and what the cures do for it:

    python benchmarks/mode_collapse.py --experiment ring --method unrolled --seeds 5 --json results/mode_collapse_ring.json

One row a seed, written as it comes; the same command again goes on with the seeds that are missing, whatever the method, and
another method's rows go into the same file. Then the table of all rows: mean and standard error, beside published figures.
Settings were chosen on seeds from 1000 on (`--first-seed 1000`).
"""
import argparse
import json
import math
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import harness
from harness import Row, say

import tinygan as tg
from tinygan import nn
from tinygan.data import Mixture
from tinygan.random import Key

METHODS = ("vanilla", "minibatch", "unrolled")
SAMPLES = 2500  # as VEEGAN and PacGAN have it
LATENT = 256
HIDDEN = 128
SCALE = 4.0  # what the discriminator divides points by (Metz et al.)
BATCH = 512
CHECKS = 20  # looks at the samples on the way


@dataclass(frozen=True)
class Experiment:
    """A mixture, how long to train on it, and what has been published for it: (who, modes, high quality %, reverse KL)."""

    mixture: Mixture
    steps: int
    published: tuple[tuple[str, str, str, str], ...]


EXPERIMENTS = {
    "ring": Experiment(tg.data.gaussian_ring(), 25_000, (
        ("GAN, VEEGAN's table (radius 1, sigma 0.01)", "1", "99.3", ""),
        ("unrolled, K = 5, VEEGAN's table", "7.6", "35.6", ""),
        ("VEEGAN", "8", "52.9", ""), ("GAN, PacGAN's table (radius 1, sigma 0.01)", "6.3 ± 0.5", "98.2 ± 0.2", "0.45"),
        ("PacGAN2", "7.9 ± 0.1", "95.6", "0.07"), ("GDPP", "8.0", "71.7", ""),
    )),
    "grid": Experiment(tg.data.gaussian_grid(), 25_000, (
        ("GAN, VEEGAN's table", "3.3", "0.5", ""), ("unrolled, K = 5, VEEGAN's table", "23.6", "16", ""),
        ("VEEGAN", "24.6", "40", ""), ("GAN, PacGAN's table", "17.3 ± 0.8", "94.8", "0.70"),
        ("PacGAN4", "24.8 ± 0.2", "93.6", "0.04"), ("GDPP", "24.8", "68.5", ""),
    )),
}  # fmt: skip
COLUMNS = {
    "method": "method", "settings": "settings", "modes": "modes", "high_quality": "high quality, %",
    "reverse_kl": "reverse KL", "seeds": "seeds", "steps": "steps", "seconds": "seconds a seed",
}  # fmt: skip


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiment", choices=EXPERIMENTS, required=True)
    parser.add_argument("--method", choices=METHODS, required=True)
    parser.add_argument("--seeds", type=harness.count, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--steps", type=harness.count, help="training steps (default: the experiment's)")
    parser.add_argument("--unroll-steps", type=int, default=10, help="K of the unrolled GAN")
    parser.add_argument("--generator-cost", choices=tg.gans.GENERATOR_COSTS, default="minimax")
    parser.add_argument("--learning-rate", type=float, default=1e-4, help="of both players' Adam at the start")
    parser.add_argument("--decay", action="store_true", help="take the learning rates down to 0 along half a cosine")
    parser.add_argument("--json", required=True, help="the rows: read if there, written after every seed")
    options = parser.parse_args(argv)
    options.steps = options.steps or EXPERIMENTS[options.experiment].steps
    return options


def players(method: str) -> tuple[nn.Module, nn.Module]:
    """The networks of Metz et al. 2017, section 3.1: 256-128-128-2 and 2-128-1, ReLU, orthogonal with gain 0.8."""
    start = nn.initializers.orthogonal(0.8)
    generator = nn.Sequential(
        nn.Dense(LATENT, HIDDEN, initializer=start), nn.ReLU(), nn.Dense(HIDDEN, HIDDEN, initializer=start), nn.ReLU(),
        nn.Dense(HIDDEN, 2, initializer=start),
    )  # fmt: skip
    pairs, features = [nn.MinibatchDiscrimination(HIDDEN, 20, 5)] * (method == "minibatch"), HIDDEN
    features += 20 * len(pairs)
    discriminator = nn.Sequential(
        Divide(SCALE), nn.Dense(2, HIDDEN, initializer=start), nn.ReLU(), *pairs, nn.Dense(features, 1, initializer=start)
    )
    return generator, discriminator


class Divide(nn.Module):
    """x / by."""

    couples_examples = False

    def __init__(self, by: float) -> None:
        self.by = by

    def forward(self, x: Any) -> Any:
        return tg.mul(x, 1 / self.by)


def settings(options: argparse.Namespace) -> dict[str, Any]:
    """What tells one configuration's rows from another's."""
    found = {"cost": options.generator_cost, "rate": options.learning_rate, "decay": options.decay}
    return {"K": options.unroll_steps, **found} if options.method == "unrolled" else found


def train(options: argparse.Namespace, seed: int) -> Row:
    """One row: train on one seed, and count."""
    mixture, key = EXPERIMENTS[options.experiment].mixture, Key(seed)
    rate: Any = options.learning_rate
    if options.decay:
        rate = tg.optim.cosine_decay(rate, 0.0, options.steps)
    common: dict[str, Any] = {
        "latent_dim": LATENT, "generator_cost": options.generator_cost, "key": key.fold("gan"),
        "g_optimizer": tg.optim.Adam(rate, betas=(0.5, 0.999)), "d_optimizer": tg.optim.Adam(rate, betas=(0.5, 0.999)),
    }  # fmt: skip
    gan: tg.gans.VanillaGAN
    if options.method == "unrolled":
        gan = tg.gans.UnrolledGAN(
            *players(options.method), unroll_steps=options.unroll_steps, rematerialize=False, **common)  # fmt: skip
    else:
        gan = tg.gans.VanillaGAN(*players(options.method), **common)
    begin, trace = time.perf_counter(), []
    every = max(1, options.steps // CHECKS)
    for step in range(options.steps):
        gan.step(mixture.sample(BATCH, key.fold("data").fold(step)))
        if (step + 1) % every == 0 or step + 1 == options.steps:
            samples = gan.sample(SAMPLES, key=key.fold("samples"))
            found = tg.metrics.mixture_coverage(samples, mixture.centres, mixture.sigma)
            trace.append([step + 1, found.modes, round(found.high_quality, 4)])
            say(f"seed {seed}, step {step + 1}: {found.modes} modes, {found.high_quality:.1%} of high quality")
    return {
        "method": options.method, "settings": settings(options), "steps": options.steps, "seed": seed,
        "modes": found.modes, "high_quality": round(found.high_quality, 4), "reverse_kl": round(found.reverse_kl, 4),
        "seconds": round(time.perf_counter() - begin, 1), "trace": trace,
    }  # fmt: skip


def same(row: Row, options: argparse.Namespace) -> bool:
    return (row["method"], row["settings"], row["steps"]) == (options.method, settings(options), options.steps)


def run(options: argparse.Namespace) -> dict[str, Any]:
    info = harness.machine(["tinygan", "numpy", "numba"])
    path = Path(options.json)
    result: dict[str, Any] = {"experiment": options.experiment, "rows": []}
    if path.exists():
        result = json.loads(path.read_text(encoding="utf-8"))
        if result["experiment"] != options.experiment:
            raise RuntimeError(f"{path} has rows of {result['experiment']!r}, not of {options.experiment!r}")
    done = {row["seed"] for row in result["rows"] if same(row, options)}
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        if seed not in done:
            row = {**train(options, seed), "commit": info["commit"]}
            result["rows"].append(row)
            harness.write_json(path, result)
    return result


def summary(rows: list[Row]) -> list[Row]:
    """A line for each configuration: mean and standard error over its seeds."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(json.dumps([row["method"], row["settings"], row["steps"]]), []).append(row)

    def spread(found: list[Row], name: str, factor: float = 1.0) -> str:
        values = [factor * row[name] for row in found]
        error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
        return f"{statistics.mean(values):.3g} ± {error:.2g}"

    return [
        {
            "method": found[0]["method"], "settings": ", ".join(f"{k} {v}" for k, v in found[0]["settings"].items()),
            "modes": spread(found, "modes"), "high_quality": spread(found, "high_quality", 100),
            "reverse_kl": spread(found, "reverse_kl"), "seeds": len(found), "steps": found[0]["steps"],
            "seconds": round(statistics.mean(row["seconds"] for row in found)),
        }
        for found in groups.values()
    ]  # fmt: skip


def show(result: dict[str, Any]) -> str:
    published = [
        {"method": who, "modes": modes, "high_quality": quality, "reverse_kl": divergence}
        for who, modes, quality, divergence in EXPERIMENTS[result["experiment"]].published
    ]  # fmt: skip
    return harness.markdown([*summary(result["rows"]), *published], COLUMNS)


def main(argv: list[str] | None = None) -> int:
    options = arguments(argv)
    try:
        result = run(options)
    except RuntimeError as error:
        say(str(error))
        return 1
    print(show(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
