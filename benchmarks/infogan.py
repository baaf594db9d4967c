"""Does an InfoGAN learn what a digit is? (Chen et al. 2016, section 7.2.) Train it on MNIST without labels, read the
category off the test images, match categories with digits, and count the errors:

    python benchmarks/infogan.py --seeds 5 --json benchmarks/results/infogan.json

There is one row for each seed, written when it is complete. The same command again makes the missing ones: a seed is a run
of `tinygan train infogan` in --run-dir, saved after every epoch, and resumed from there. Its folder also has the samples and
the figure of the information, and `tinygan traverse` draws its codes. The settings are those of the paper (appendix C.1);
none was chosen on these seeds. The paper makes 5,000 updates; the 11 epochs here are 5,148.

- error: the share of test images whose most probable category is not the one that is matched with their digit; the matching
  has the fewest errors (the Hungarian method), and uses the labels of the same test images. The paper has 5 %.
- categorical, continuous: the bound of the information in nats, the mean of the last epoch. The first is at most log 10.
- pairs: which digit each category is matched with.
"""
import argparse
import math
import statistics
import sys
from pathlib import Path
from typing import Any

import harness
from harness import Row, say

import tinygan as tg
from tinygan import cli, metrics, training

EXPERIMENT = "infogan"
PAPER = 5.0  # % of errors
NATS = ("categorical_nats", "continuous_nats")


def settings(options: argparse.Namespace) -> dict[str, Any]:
    """What a row depends on, besides its seed."""
    return {"epochs": options.epochs, "batch": options.batch_size, "information": options.information,
            "width": options.width, "hidden": options.hidden, "d_norm": options.d_norm,
            "limit_train": options.limit_train}  # fmt: skip


def test_error(run: Path, options: argparse.Namespace) -> tuple[float, tuple[int, ...], training.OpenedRun]:
    """The error (in %) of a run's categories on the test images, the digits they are matched with, and the run."""
    opened = training.open_run(run)
    test = tg.data.load(options.data_dir, split="test")
    gan: Any = opened.gan
    probabilities = gan.read(test.batch(range(len(test))))[0][0]
    found = metrics.match_categories(probabilities.argmax(1), test.labels, probabilities.shape[1])
    return 100 * found.error, found.classes, opened


def train(options: argparse.Namespace, seed: int) -> Row:
    """Train with one seed, or resume it, and measure. Returns one row."""
    run = Path(options.run_dir) / f"seed-{seed}"
    flags = ["--run-dir", str(run), "--seed", str(seed), "--epochs", str(options.epochs), "--quiet",
             "--batch-size", str(options.batch_size), "--information", str(options.information),
             "--width", str(options.width), "--hidden", str(options.hidden),
             *([] if options.data_dir is None else ["--data-dir", options.data_dir]),
             *([] if options.limit_train is None else ["--limit-train", str(options.limit_train)]),
             *([] if options.d_norm else ["--no-d-norm"]),
             *(["--resume"] if (run / "config.json").exists() else [])]  # fmt: skip
    if cli.main(["train", "infogan", *flags]):
        raise RuntimeError(f"seed {seed}: the run in {run} has failed")
    error, classes, opened = test_error(run, options)
    history = opened.history
    epoch = opened.config["steps_per_epoch"]
    nats = {name: round(float(history[name][-epoch:].mean(dtype="float64")), 4) for name in NATS}
    say(f"seed {seed}: {error:.2f} % errors, {', '.join(f'{name} {value}' for name, value in nats.items())}")
    return {"settings": settings(options), "data": opened.config["data"]["name"], "seed": seed, "error": round(error, 3),
            **nats, "pairs": list(classes), "steps": len(history["seconds"]),
            "seconds": round(float(history["seconds"][-1]), 1)}  # fmt: skip


def run(options: argparse.Namespace) -> list[Row]:
    path, info = Path(options.json), harness.machine(["tinygan", "numpy", "numba"])

    def rows() -> list[Row]:
        return [row for row in harness.read_rows(path, EXPERIMENT)["rows"] if row["settings"] == settings(options)]

    for seed in range(options.first_seed, options.first_seed + options.seeds):
        if not any(row["seed"] == seed for row in rows()):
            harness.add_row(path, EXPERIMENT, {**train(options, seed), "commit": info["commit"]})
    return rows()


def table(rows: list[Row]) -> str:
    """A line for each seed, their mean, and the paper's figure."""
    lines: list[Row] = [{"seed": row["seed"], "error": f"{row['error']:.2f}", **{name: f"{row[name]:.3f}" for name in NATS},
                         "steps": row["steps"], "seconds": round(row["seconds"])} for row in rows]  # fmt: skip
    if len(rows) > 1:
        spread = {name: f"{statistics.mean(v):.3g} ± {statistics.stdev(v) / math.sqrt(len(v)):.2g}"
                  for name in ("error", *NATS) for v in [[row[name] for row in rows]]}  # fmt: skip
        lines.append({"seed": f"mean of {len(rows)}", **spread, "steps": "", "seconds": ""})
    lines.append({"seed": "the paper", "error": f"{PAPER:.0f}", "categorical_nats": "about 2.30", "continuous_nats": "",
                  "steps": 5000, "seconds": ""})  # fmt: skip
    return harness.markdown(lines, {"seed": "seed", "error": "errors, %", "categorical_nats": "category, nats",
                                    "continuous_nats": "continuous codes, nats", "steps": "updates",
                                    "seconds": "seconds"})  # fmt: skip


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    defaults = training.InfoGANSettings()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=harness.count, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--epochs", type=harness.count, default=defaults.epochs)
    parser.add_argument("--batch-size", type=harness.count, default=defaults.batch_size)
    parser.add_argument("--information", type=float, default=defaults.information, help="weight of the information")
    parser.add_argument("--width", type=harness.count, default=defaults.width)
    parser.add_argument("--hidden", type=harness.count, default=defaults.hidden)
    parser.add_argument("--no-d-norm", dest="d_norm", action="store_false", help="no batch norm in the discriminator and Q")
    parser.add_argument("--limit-train", type=harness.count, help="use only the first N images")
    parser.add_argument("--data-dir", help="the folder of MNIST (default: as in training)")
    parser.add_argument("--run-dir", default="runs/infogan-seeds", help="where the folders of the runs go")
    parser.add_argument("--json", required=True, help="the file of the rows; it is written after every seed")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    options = arguments(argv)
    try:
        rows = run(options)
    except RuntimeError as error:
        say(str(error))
        return 1
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
