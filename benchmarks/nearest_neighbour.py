"""DCGAN's test of a conditional generator (Radford, Metz, Chintala 2015, section 5.3 and Table 3): a nearest-neighbour
classifier learns from generated digits, labelled with what was asked for, and is tested on the 10,000 real test images.

    python benchmarks/nearest_neighbour.py runs/conditional --json benchmarks/results/nearest_neighbour.json

Distances are Euclidean, of pixels. Every class has as many generated images. Beside them stand as many real training images,
drawn at random. With 50,000 images the paper has an error of 3.1% with real images, 2.98% with those of a conditional DCGAN
and 6.28% with those of a conditional GAN. There is one row for each run, number of images and seed, written when it is
complete; the same command again makes the missing ones.
"""
import argparse
import sys
import time
from pathlib import Path
from typing import Any

import harness
import numpy as np
from harness import Row, say

import tinygan as tg
from tinygan.data import Dataset
from tinygan.random import Key
from tinygan.runs.errors import RunError
from tinygan.runs.labels import takes_labels
from tinygan.runs.trainable import sampler, weights_sampled

EXPERIMENT = "nearest_neighbour"
REAL = "real images"
CHUNK = 1000
KEPT = ("conditioning", "cost", "width", "batch_size", "latent_dim", "noise", "gradient_penalty", "r1", "r2", "ema", "seed")


class Source:
    """Labelled images of a run's generator, or real ones. about: what identifies them in the rows."""

    def __init__(self, run: str | None, train: Dataset, averaged: bool = True) -> None:
        self.train, self.gan, self.averaged = train, None, averaged
        self.about: dict[str, Any] = {"source": REAL, "data": train.name}
        if run is not None:
            opened = tg.training.open_run(run)
            gan: Any = opened.gan
            if not takes_labels(gan):
                raise RunError(f"{run}: a {opened.config['variant']} has no labels, and this test needs a conditional GAN")
            if opened.config["data"]["checksum"] != train.checksum:
                raise RunError(f"{run} was trained on {opened.config['data']['name']}, not on {train.name}")
            settings = opened.config["settings"]
            self.gan = gan
            kept = {name: settings[name] for name in KEPT if settings.get(name) is not None}
            self.about |= {"source": Path(run).resolve().name, "steps": len(opened.history["d_loss"]), "settings": kept}
            weights = weights_sampled(gan, averaged)
            if weights:
                self.about["weights"] = weights

    def images(self, n: int, key: Key) -> tuple[np.ndarray, np.ndarray]:
        """n images, and their labels."""
        if self.gan is None:
            places = key.permutation(len(self.train))[:n]
            assert self.train.labels is not None
            return self.train.batch(places), self.train.labels[places]
        z = self.gan.latent(n, key)
        sample = sampler(self.gan, self.averaged)
        parts = [sample(z=z[start : start + CHUNK]) for start in range(0, n, CHUNK)]
        return np.concatenate(parts), self.gan.labels_of(z)


def measure(source: Source, test: Dataset, n: int, seed: int) -> Row:
    begin = time.perf_counter()
    images, labels = source.images(n, Key(seed).fold("references"))
    assert test.labels is not None
    error = tg.metrics.nearest_neighbour_error(images, labels, test.batch(np.arange(len(test))), test.labels)
    say(f"{source.about['source']}, {n:,} images, seed {seed}: error {error:.2%}")
    return {**source.about, "images": n, "draw": seed, "error_percent": round(100 * error, 3),
            "seconds": round(time.perf_counter() - begin, 1)}  # fmt: skip


def made(row: Row, source: Source, n: int, seed: int) -> bool:
    about = {**source.about, "images": n, "draw": seed}
    return all(row.get(name) == value for name, value in about.items())


def run(options: argparse.Namespace) -> dict[str, Any]:
    path, commit = Path(options.json), harness.machine(["tinygan", "numpy"])["commit"]
    train, test = (tg.data.load(options.data_dir, split=split) for split in ("train", "test"))
    if train.labels is None or test.labels is None or test.name != train.name:
        raise RunError(f"expected labelled training and test images of one data set, got {train.name} and {test.name}")
    if max(options.images) > len(train):
        raise RunError(f"--images {max(options.images)}: {train.name} has only {len(train)} training images")
    for source in [Source(None, train), *(Source(run, train, not options.raw) for run in options.runs)]:
        for n in options.images:
            for seed in range(options.draws):
                if not any(made(row, source, n, seed) for row in harness.read_rows(path, EXPERIMENT)["rows"]):
                    harness.add_row(path, EXPERIMENT, {**measure(source, test, n, seed), "commit": commit})
    return harness.read_rows(path, EXPERIMENT)


def show(rows: list[Row]) -> str:
    """A line for each source, a column for each number of images: the mean error, and the range of the draws."""
    found: dict[str, dict[int, list[float]]] = {}
    for row in rows:
        name = row["source"] + (f" after {row['steps']:,} steps" if "steps" in row else "")
        name += f", {row['weights']}" if "weights" in row else ""
        found.setdefault(name, {}).setdefault(row["images"], []).append(row["error_percent"])
    sizes = sorted({row["images"] for row in rows})
    lines = [{"source": name, **{str(n): spread(errors.get(n, [])) for n in sizes}} for name, errors in found.items()]
    return harness.markdown(lines, {"source": "learnt from", **{str(n): f"{n:,} images, error in %" for n in sizes}})


def spread(errors: list[float]) -> str:
    several = f" ({min(errors):.2f} to {max(errors):.2f})" if len(errors) > 1 else ""
    return f"{np.mean(errors):.2f}{several}" if errors else ""


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="the folder of a run of a conditional GAN")
    parser.add_argument("--images", nargs="+", type=harness.count, default=[1_000, 10_000, 50_000], metavar="N")
    parser.add_argument("--draws", type=harness.count, default=1, help="how often the images are drawn (default: 1)")
    parser.add_argument("--raw", action="store_true", help="as for `tinygan sample`")
    parser.add_argument("--data-dir", help="the digits (default: as in training)")
    parser.add_argument("--json", required=True, help="the file of the rows; it is written after every row")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    try:
        result = run(arguments(argv))
    except (RuntimeError, ValueError, OSError) as error:
        say(f"nearest_neighbour: error: {error}")
        return 1
    print(show(result["rows"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
