"""All GANs of `tinygan train` in one table. Each has the settings of the command line, and as many updates of the generator.

    python benchmarks/zoo.py --json benchmarks/results/zoo.json --figures docs/figures
    python benchmarks/zoo.py --json benchmarks/results/zoo.json --speed

The first command trains every variant with every seed, and measures its images. There is one row for each variant and seed,
written when it is complete; the same command again makes the missing ones. A row is a run of `tinygan train` in --run-dir,
which goes on from its last complete epoch. `--figures` draws a grid of the first seed's images for each variant. The second
command measures speed and memory, and needs a machine that does nothing else. Both print the whole table.

--epochs counts passes over the images for a variant with one update of the discriminator in each step. A variant with k such
updates makes k times as many passes, and DiscoGAN, whose pairs are half as many as the images, twice as many. So all
generators are updated equally often.

- Fréchet distance, precision, recall, class KL: of 10,000 images, compared with the training images (see `tinygan.metrics`);
  the row "real images" has the 10,000 test images. Class KL is in nats: 0 if all digits are equally frequent.
- confidence: the classifier's mean confidence in its reading of the images.
- images/s: real images that the discriminator takes in a second of training. Updates/s: updates of the generator.
- peak memory: more than after the imports, in a step after the first ones.

DiscoGAN has no latent vectors. Its digits are made from coloured test images, so its row cannot be compared with the others.
"""
import argparse
import statistics
import sys
from pathlib import Path
from typing import Any

import harness
import numpy as np
from harness import Row, say

import tinygan as tg
from tinygan import cli, training
from tinygan.plotting import save_grid
from tinygan.random import Key
from tinygan.runs.evaluation import Examiner
from tinygan.runs.previews import translates

EXPERIMENT = "zoo"
MEASURES = {"frechet": "Fréchet distance", "precision": "precision", "recall": "recall", "kl": "class KL",
            "confidence": "confidence"}  # fmt: skip
REAL = "real images"
SPEED_ROUNDS, SPEED_STEPS, SPEED_WARM_UP = 5, 4, 3
SHOWN = 60


class Translated:
    """The digits that a DiscoGAN makes from images of the other domain, as samples of a GAN with latent vectors."""

    average = None

    def __init__(self, gan: Any, pairs: Any) -> None:
        self._gan, self._pairs = gan, pairs

    def latent(self, n: int, key: Key) -> Any:
        """n pairs of images."""
        return self._pairs.batch(key.permutation(len(self._pairs))[:n])

    def sample(self, n: int = 64, z: Any = None) -> np.ndarray:
        """The digits that are made from the images of B of the pairs z."""
        images: np.ndarray = self._gan.sample(z=z)
        return images[:, :1]


def passes(variant: str, options: argparse.Namespace) -> int:
    """How often a variant passes over its data. DiscoGAN's pairs are half as many as the images."""
    settings: Any = training.VARIANTS[variant].settings
    return int(options.epochs * settings.d_steps * (2 if hasattr(settings, "domains") else 1))


def settings(variant: str, options: argparse.Namespace) -> dict[str, Any]:
    """What a row depends on, besides its variant and its seed."""
    return {"epochs": passes(variant, options), "batch": options.batch_size, "limit_train": options.limit_train}


def train(variant: str, seed: int, options: argparse.Namespace) -> Path:
    """The folder of the variant's run with that seed, trained to its end."""
    run = Path(options.run_dir) / f"{variant}-{seed}"
    flags = ["--run-dir", str(run), "--seed", str(seed), "--epochs", str(passes(variant, options)), "--quiet",
             "--batch-size", str(options.batch_size),
             *([] if options.data_dir is None else ["--data-dir", options.data_dir]),
             *([] if options.limit_train is None else ["--limit-train", str(options.limit_train)]),
             *(["--resume"] if (run / "config.json").exists() else [])]  # fmt: skip
    if cli.main(["train", variant, *flags]):
        raise RuntimeError(f"{variant}, seed {seed}: the run in {run} has failed")
    return run


def samples(opened: training.OpenedRun, options: argparse.Namespace) -> Any:
    """The run's GAN as something that makes grey digits."""
    if not translates(opened.gan):
        return opened.gan
    test = tg.data.load(options.data_dir, split="test")
    return Translated(opened.gan, tg.data.two_domains(test, opened.config["settings"]["domains"], Key(0)))


def measure(variant: str, seed: int, options: argparse.Namespace, examiner: Examiner) -> Row:
    opened = training.open_run(train(variant, seed, options))
    found = examiner.examine(samples(opened, options), Key(seed).fold("zoo"))
    say(f"{variant}, seed {seed}: {', '.join(f'{name} {found[name]}' for name in MEASURES)}")
    return {"variant": variant, "settings": settings(variant, options), "seed": seed, "data": opened.config["data"]["name"],
            "updates": len(opened.history["seconds"]), **{name: found[name] for name in MEASURES},
            "floor": {name: examiner.floor[name] for name in MEASURES},
            "classifier_version": examiner.about["classifier_version"],
            "seconds": round(float(opened.history["seconds"][-1]), 1)}  # fmt: skip


def quality(options: argparse.Namespace) -> None:
    """Train and measure what is missing."""
    info = harness.machine(["tinygan", "numpy", "numba"])
    examiner = None
    for seed in range(options.seeds):
        for variant in options.variants:
            if not rows_of(options, variant, seed):
                examiner = examiner or Examiner(tg.data.load(options.data_dir), options.data_dir).prepare()
                row = measure(variant, seed, options, examiner)
                harness.add_row(options.json, EXPERIMENT, {**row, "commit": info["commit"]})


def rows_of(options: argparse.Namespace, variant: str, seed: int | None = None) -> list[Row]:
    """The rows of a variant with these options: of one seed, or of all."""
    about = {"variant": variant, "settings": settings(variant, options), **({} if seed is None else {"seed": seed})}
    rows = harness.read_rows(options.json, EXPERIMENT)["rows"]
    return [row for row in rows if all(row[name] == value for name, value in about.items())]


def speed(options: argparse.Namespace) -> None:
    """Measure the speed and memory of all variants, in turn, and write them beside the rows."""
    info = harness.machine(["tinygan", "numpy", "numba"])
    harness.announce(info)
    workers = {variant: harness.worker("zoo", "tinygan", options.threads) for variant in options.variants}
    try:
        for variant, worker in workers.items():
            worker.call("create", variant=variant, batch=options.batch_size, data_dir=options.data_dir)
            worker.call("time", steps=1, warm_up=SPEED_WARM_UP)
            worker.call("reset_peak")
        times = harness.take_turns(SPEED_ROUNDS, {
            variant: lambda worker=worker: statistics.median(worker.call("time", steps=SPEED_STEPS, warm_up=1))
            for variant, worker in workers.items()})  # fmt: skip
        found = {}
        for variant, worker in workers.items():
            spread, about = harness.spread(times[variant]), worker.call("ask", method="about")
            found[variant] = {**spread, **about, "batch": options.batch_size, "threads": options.threads,
                              "images_per_s": round(1000 * about["images"] / spread["median_ms"]),
                              "updates_per_s": float(f"{1000 / spread['median_ms']:.4g}"),
                              "peak_mib": round(worker.call("report")["peak_mib"], 1)}
    finally:
        for worker in workers.values():
            worker.close()
    result = harness.read_rows(options.json, EXPERIMENT)
    harness.write_json(options.json, {**result, "speed": {**result.get("speed", {}), **found}, "speed_machine": info})


def draw(options: argparse.Namespace) -> None:
    """A grid of the first seed's images for each variant."""
    for variant in options.variants:
        run = Path(options.run_dir) / f"{variant}-0"
        if not (rows_of(options, variant, 0) and (run / "config.json").exists()):
            continue
        opened = training.open_run(run)
        gan, config = samples(opened, options), opened.config
        images = gan.sample(z=gan.latent(SHOWN, Key(0).fold("zoo")))
        path = Path(options.figures) / f"zoo_{variant}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        save_grid(path, images, columns=12, title=f"{variant} on {config['data']['name']}, "
                  f"{len(opened.history['seconds']):,} updates of the generator, seed 0")
        say(str(path))


def table(options: argparse.Namespace) -> str:
    """A line for each variant: the mean of its seeds, and its speed."""
    result = harness.read_rows(options.json, EXPERIMENT)
    lines: list[Row] = []
    floor: dict[str, float] = {}
    for variant in options.variants:
        rows = rows_of(options, variant)
        fast = result.get("speed", {}).get(variant, {})
        if not rows and not fast:
            continue
        floor = rows[0]["floor"] if rows else floor
        updates = statistics.median(row["updates"] for row in rows) if rows else ""
        lines.append({"variant": variant, "seeds": len(rows), "updates": updates,
                      **{name: spread([row[name] for row in rows]) for name in MEASURES},
                      **{name: fast.get(name, "") for name in ("images_per_s", "updates_per_s", "peak_mib")}})
    lines.append({"variant": REAL, "seeds": "", "updates": "", **{name: f"{value:.3g}" for name, value in floor.items()}})
    return harness.markdown(lines, {"variant": "variant", "seeds": "seeds", "updates": "updates of G", **MEASURES,
                                    "images_per_s": "images/s", "updates_per_s": "updates/s", "peak_mib": "peak MiB"})


def spread(values: list[float]) -> str:
    """The mean, and the lowest and highest of several values."""
    if not values:
        return ""
    several = f" ({min(values):.3g} to {max(values):.3g})" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3g}{several}"


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", nargs="+", choices=training.VARIANTS, default=list(training.VARIANTS))
    parser.add_argument("--seeds", type=harness.count, default=3)
    parser.add_argument("--epochs", type=harness.count, default=4, help="passes over the images, see above (default: 4)")
    parser.add_argument("--batch-size", type=harness.count, default=64)
    parser.add_argument("--limit-train", type=harness.count, help="use only the first N images")
    parser.add_argument("--speed", action="store_true", help="measure speed and memory instead of training")
    parser.add_argument("--threads", type=harness.count, default=len(harness.cores()), help="cores, for --speed")
    parser.add_argument("--figures", help="the folder for a grid of each variant")
    parser.add_argument("--data-dir", help="the folder of MNIST (default: as in training)")
    parser.add_argument("--run-dir", default="runs/zoo", help="where the folders of the runs go")
    parser.add_argument("--json", required=True, help="the file of the rows; it is written after every row")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    options = arguments(argv)
    try:
        if options.speed:
            speed(options)
        else:
            quality(options)
        if options.figures:
            draw(options)
    except (RuntimeError, OSError) as error:
        say(f"zoo: error: {error}")
        return 1
    print(table(options))
    return 0


if __name__ == "__main__":
    sys.exit(main())
