"""Measure how many modes a GAN captures, and how remedies against mode collapse change it:

    python benchmarks/mode_collapse.py --experiment ring --method unrolled --seeds 5 --json results/mode_collapse_ring.json

There is one row per seed, which is written when it is complete. The same command again continues: with the missing seeds,
and within a seed at the step where it was stopped. Rows of other methods go into the same file. `--method data` measures
real samples as if they were generated (for stacked MNIST, digits of the test set): no method can be better. At the end, a
table of all rows is printed: mean and standard error, together with published figures. The settings were chosen on seeds
from 1000 on (`--first-seed 1000`).

The methods rpgan, gan-r1-r2, rpgan-r1 and gan-r1 are those of R3GAN's table 1 (Huang et al. 2024): relativistic pairing or
the non-saturating cost, with the penalties R1 and R2, or R1 alone. A seed whose images are no longer numbers has diverged.
It ends at the next look, and its row says at which step.

The modes of stacked MNIST are counted by a classifier. Rows from different versions of it are kept apart: they have lines of
their own in the table, and the same command with a newer version trains its seeds again.
"""
import argparse
import json
import math
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import harness
import mode_collapse_tasks as tasks
import numpy as np
from harness import Row, say

import tinygan as tg
from tinygan import nn, saving
from tinygan.backends import backend_of
from tinygan.devices import moved
from tinygan.kernels.cpu.runtime.pool import core_count
from tinygan.random import Key

METHODS = ("vanilla", "minibatch", "unrolled", *tasks.GAMES, "data")
VERSION = "classifier_version"
SAVED_EVERY = 60.0  # at most so many seconds of training are lost if a seed is stopped


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiment", choices=tasks.TASKS, required=True)
    parser.add_argument("--method", choices=METHODS, required=True, help="data: measure real samples, without training")
    parser.add_argument("--networks", help="the pair of networks (default: the experiment's first): "
                        + "; ".join(f"{name}: {', '.join(task.networks)}" for name, task in tasks.TASKS.items()))
    parser.add_argument("--seeds", type=harness.count, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--steps", type=harness.count, help="training steps (default: the experiment's)")
    parser.add_argument("--batch", type=harness.count, help="(default: the experiment's)")
    parser.add_argument("--unroll-steps", type=int, default=10, help="K of the unrolled GAN")
    parser.add_argument("--cost", choices=tg.gans.COSTS, help="(default: the method's, or the experiment's)")
    parser.add_argument("--gamma", type=float, help="the weight of R1 and R2 (default: the experiment's)")
    parser.add_argument("--learning-rate", type=float, help="initial rate of both Adams (default: the networks')")
    parser.add_argument("--g-learning-rate", type=float, help="that of the generator, if another")
    parser.add_argument("--decay", choices=("both", "generator"), help="whose learning rate falls to 0 along half a cosine")
    parser.add_argument("--instance-noise", type=float, default=0.0, help="its standard deviation at the start. It falls by "
                        "the same factor at every step, down to --noise-end; after that there is no noise")
    parser.add_argument("--noise-end", type=float, help="(default: a hundredth of --instance-noise)")
    parser.add_argument("--noise-until", type=float, default=0.5, help="the share of the steps with noise")
    parser.add_argument("--average", type=float, default=0.0, help="make samples with a running average of the "
                        "generator's weights; each step keeps this share of it (Yazici et al. 2019)")
    parser.add_argument("--spread", type=float, default=1.0, help="latent vectors are multiplied by this. The "
                        "generator is steeper from the start, and makes fewer points between the modes")
    parser.add_argument("--data-dir", help="MNIST's files, for stacked MNIST")
    parser.add_argument("--device", default="cpu", help="where to train, such as cuda (default: cpu)")
    parser.add_argument("--json", required=True, help="the file of the rows; it is written after every seed")
    options = parser.parse_args(argv)
    task = tasks.TASKS[options.experiment]
    options.steps = 0 if options.method == "data" else options.steps or task.steps
    options.batch = options.batch or task.batch
    options.networks = options.networks or task.networks[0]
    game = tasks.GAMES.get(options.method)
    if game is None and options.gamma is not None:
        parser.error(f"--gamma {options.gamma}: {options.method} has no penalties")
    if game is not None and options.cost not in (None, game.cost):
        parser.error(f"--cost {options.cost}: the cost of {options.method} is {game.cost}")
    options.gamma = task.gamma if options.gamma is None else options.gamma
    options.cost = options.cost or (game.cost if game else task.cost)
    if options.networks not in task.networks:
        parser.error(f"--networks {options.networks}: {options.experiment} has {', '.join(task.networks)}")
    return options


def settings(options: argparse.Namespace) -> dict[str, Any]:
    """The settings, beside method and steps, that identify the configuration of a row."""
    if options.method == "data":
        return {}
    found = {"networks": options.networks, "cost": options.cost}
    if options.method == "unrolled":
        found["K"] = options.unroll_steps
    if options.method in tasks.GAMES:
        found["gamma"] = options.gamma
    if options.learning_rate:
        found["rate"] = options.learning_rate
    if options.g_learning_rate:
        found["g_rate"] = options.g_learning_rate
    if options.batch != tasks.TASKS[options.experiment].batch:
        found["batch"] = options.batch
    if options.decay:
        found["decay"] = options.decay
    if options.spread != 1:
        found["spread"] = options.spread
    if options.average:
        found["average"] = options.average
    if options.instance_noise:
        found["noise"] = options.instance_noise
        if options.noise_end is not None:
            found["noise_end"] = options.noise_end
        if options.noise_until != 0.5:
            found["noise_until"] = options.noise_until
    return found


def build(options: argparse.Namespace, key: Key) -> tg.gans.VanillaGAN:
    generator, discriminator, latent_dim, rates, noise = tasks.TASKS[options.experiment].players(
        options.networks, options.method)  # fmt: skip
    if options.spread != 1:
        generator = nn.Sequential(tasks.Divide(1 / options.spread), *generator)

    def adam(rate: float, falls: bool) -> tg.optim.Adam:
        falling: Any = tg.optim.cosine_decay(rate, 0.0, options.steps) if falls else rate
        return tg.optim.Adam(falling, betas=(rates.beta1, rates.beta2))

    def falling_noise(step: int) -> float:
        done = step / (options.steps * options.noise_until)
        if not options.instance_noise or done >= 1:
            return 0.0
        end = options.instance_noise / 100 if options.noise_end is None else options.noise_end
        return options.instance_noise * (end / options.instance_noise) ** done

    common: dict[str, Any] = {
        "latent_dim": latent_dim, "noise": noise, "cost": options.cost, "key": key,
        "instance_noise": falling_noise, "ema": options.average or None,
        "g_optimizer": adam(options.g_learning_rate or options.learning_rate or rates.g, options.decay is not None),
        "d_optimizer": adam(options.learning_rate or rates.d, options.decay == "both"),
    }  # fmt: skip
    if options.method in tasks.GAMES:
        common["penalties"] = dict.fromkeys(tasks.GAMES[options.method].penalties, options.gamma)
    if options.method == "unrolled":
        return tg.gans.UnrolledGAN(
            generator, discriminator, unroll_steps=options.unroll_steps, rematerialize=False,
            **common,
        )  # fmt: skip
    return tg.gans.VanillaGAN(generator, discriminator, **common)


def train(options: argparse.Namespace, seed: int) -> Row:
    """Train with one seed and measure the modes. Returns one row."""
    task, key = tasks.TASKS[options.experiment], Key(seed)
    version = {} if task.classifier is None else {VERSION: task.classifier}
    real, measure = task.open(options.batch, options.data_dir)
    if options.method == "data":
        unseen, _ = task.open(task.samples, options.data_dir, "test")
        found = rounded(measure(unseen(key.fold("data"))))
        return {"method": "data", "settings": {}, "steps": 0, "seed": seed, **version, **found, "seconds": 0.0, "trace": []}
    gan = build(options, key.fold("gan")).to(options.device)
    backend = backend_of(gan.g_parameters[0].array)
    path = unfinished(options, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    trace: list[dict[str, Any]] = []
    clock = Clock()
    if path.exists():
        state, notes = saving.load(path)
        gan.load_state_dict(state)
        trace = json.loads(notes["trace"])
        clock = Clock(float(notes["seconds"]), float(notes["cpu_seconds"]))
        say(f"seed {seed}: going on after step {gan.steps}")
    step = tg.capture(gan.step)  # (bit by bit the same as gan.step)
    every, saved = max(1, options.steps // task.looks), time.perf_counter()
    while gan.steps < options.steps and not diverged(trace):
        step(moved(real(key.fold("data").fold(gan.steps)), backend))
        looked = len(trace)
        if gan.steps % every == 0 or gan.steps == options.steps:
            trace.append(look(gan, options, measure, key.fold("samples"), clock))
            say(f"seed {seed}: {', '.join(f'{name} {value}' for name, value in trace[-1].items())}")
        if len(trace) > looked or time.perf_counter() - saved >= SAVED_EVERY:
            notes = {name: str(value) for name, value in clock.read().items()}
            saving.save(path, gan.state_dict(), {"trace": json.dumps(trace), **notes})
            saved = time.perf_counter()
    path.unlink(missing_ok=True)
    last = {name: value for name, value in trace[-1].items() if name not in ("step", "minutes")}
    parameters = {"generator": size(gan.generator), "discriminator": size(gan.discriminator)}
    return {
        "method": options.method, "settings": settings(options), "steps": options.steps, "seed": seed, **version,
        "parameters": parameters, "images": gan.steps * options.batch, "threads": core_count(), **last, **clock.read(),
        "trace": trace,
    }  # fmt: skip


class Clock:
    """The seconds of a seed, and the processor's seconds in it (of all cores), from the given ones on."""

    def __init__(self, seconds: float = 0.0, cpu_seconds: float = 0.0) -> None:
        self._begin, self._cpu_begin = time.perf_counter() - seconds, time.process_time() - cpu_seconds

    def read(self) -> dict[str, float]:
        seconds, cpu_seconds = time.perf_counter() - self._begin, time.process_time() - self._cpu_begin
        return {"seconds": round(seconds, 1), "cpu_seconds": round(cpu_seconds, 1)}


def look(gan: tg.gans.VanillaGAN, options: argparse.Namespace, measure: tasks.Measure, key: Key,
         clock: Clock) -> dict[str, Any]:
    """An entry of the trace: the measures of generated samples. If these are not numbers, the seed has diverged. The last
    entry of a seed with an average also has the measures without it, as "raw"."""
    samples = tasks.TASKS[options.experiment].samples

    def measured(averaged: bool) -> dict[str, Any]:
        latents = [gan.latent(500, key.fold(i)) for i in range(samples // 500)]
        images = np.concatenate([gan.sample(z=z, averaged=averaged) for z in latents])
        return rounded(measure(images)) if np.isfinite(images).all() else {"modes": 0, "diverged": gan.steps}

    entry = {"step": gan.steps, "minutes": round(clock.read()["seconds"] / 60, 2), **measured(averaged=True)}
    if gan.average is not None and gan.steps == options.steps:
        entry["raw"] = measured(averaged=False)
    return entry


def diverged(trace: list[dict[str, Any]]) -> bool:
    return bool(trace) and "diverged" in trace[-1]


def size(network: nn.Module) -> int:
    return sum(math.prod(parameter.shape) for parameter in network.parameters())


def rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: value if isinstance(value, int) else round(value, 4) for name, value in values.items()}


def unfinished(options: argparse.Namespace, seed: int) -> Path:
    """The file that holds the state of an unfinished seed."""
    version = tasks.TASKS[options.experiment].classifier
    told = "-".join([options.method, *(f"{name}={value}" for name, value in settings(options).items()),
                     str(options.steps), str(seed), *([] if version is None else [f"classifier={version}"])])  # fmt: skip
    return Path(options.json).with_suffix(f".{told}.safetensors")


def same(row: Row, options: argparse.Namespace) -> bool:
    """Whether the row has this configuration, and was counted by the present version of the classifier."""
    version = tasks.TASKS[options.experiment].classifier
    return identity(row) == (options.method, settings(options), options.steps, version)


def identity(row: Row) -> tuple[Any, ...]:
    """What the rows of one configuration have in common."""
    return row["method"], row["settings"], row["steps"], row.get(VERSION)


def run(options: argparse.Namespace) -> dict[str, Any]:
    info = harness.machine(["tinygan", "numpy", "numba"])
    path = Path(options.json)
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        if not any(row["seed"] == seed and same(row, options) for row in read(path, options.experiment)["rows"]):
            row = {**train(options, seed), "commit": info["commit"]}
            result = read(path, options.experiment)  # read again, because another process may have added rows
            result["rows"].append(row)
            harness.write_json(path, result)
    return read(path, options.experiment)


def read(path: Path, experiment: str) -> dict[str, Any]:
    result = harness.read_rows(path, experiment)
    if tasks.TASKS[experiment].classifier is not None:
        for row in result["rows"]:
            row.setdefault(VERSION, 1)  # the first version did not write its number
    return result


def summary(rows: list[Row], columns: list[str]) -> list[Row]:
    """A line for each configuration, with mean and standard error over its seeds."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(json.dumps(identity(row)), []).append(row)

    def spread(found: list[Row], name: str) -> str:
        values = [row[name] for row in found if name in row]
        if len(values) < sum("diverged" not in row for row in found) or not values:
            return ""  # a measure that did not exist when the rows were made
        if len(values) < 2:
            return f"{values[0]:.4g}"
        return f"{statistics.mean(values):.3g} ± {statistics.stdev(values) / math.sqrt(len(values)):.2g}"

    def seeds(found: list[Row]) -> int | str:
        count = sum("diverged" in row for row in found)
        return f"{len(found)}, {count} diverged" if count else len(found)

    return [
        {
            "method": found[0]["method"], "settings": ", ".join(f"{k} {v}" for k, v in found[0]["settings"].items()),
            **{name: spread(found, name) for name in columns}, VERSION: found[0].get(VERSION, ""), "seeds": seeds(found),
            "steps": found[0]["steps"], "seconds": round(statistics.mean(row["seconds"] for row in found)),
            "images": rough(max(row["images"] for row in found)) if all("images" in row for row in found) else "",
            "parameters": " + ".join(map(rough, found[0].get("parameters", {}).values())),
        }
        for found in groups.values()
    ]  # fmt: skip


def rough(count: int) -> str:
    """A count in thousands or millions."""
    for unit, name in ((1_000_000, "M"), (1000, "k")):
        if count >= unit:
            return f"{count / unit:.3g} {name}"
    return str(count)


def show(result: dict[str, Any]) -> str:
    task = tasks.TASKS[result["experiment"]]
    version = {} if task.classifier is None else {VERSION: "version of the classifier"}
    columns = {"method": "method", "settings": "settings", **task.columns, **version, "seeds": "seeds", "steps": "steps",
               "seconds": "seconds a seed", "images": "images seen", "parameters": "parameters, G + D"}
    return harness.markdown([*summary(result["rows"], list(task.columns)), *task.published], columns)


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
