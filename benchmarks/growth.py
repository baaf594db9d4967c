"""How the cost of a training step grows, with the batch, with the networks' width and with the size of the images:

    python benchmarks/growth.py

measures whole training steps as `train_step.py` does, tinygan's captured one beside PyTorch's variants, and draws the time
per image. Every point is written to the JSON file as soon as it is there. The same command goes on where it was stopped.

    python benchmarks/growth.py --only width --at 16,32 --rounds 2 --seconds 0.5 --json some.json --figure some.png
"""
import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import harness
import numpy as np
import train_step
from harness import DifferentWorkError, Row, Worker, WorkerError, say
from models import MODELS, Model, dcgan28, dcgan64, dcgan128, start

PACKAGES = ["tinygan", "numpy", "numba", "torch"]
PEERS = ["torch"]
BATCHES = (16, 32, 64, 128, 256, 512, 1024)
WIDTHS = (16, 32, 64, 128, 256)
SIZES = {28: dcgan28, 64: dcgan64, 128: dcgan128}
WIDTH_FOR_SIZES, BATCH = 32, 64
CHECKED = 16  # examples in the check for the same work
MOST_STEPS = 1000  # in a turn
AXES = {"batch": "images in a batch", "width": "channels next to the image", "size": "pixels per side"}
COLUMNS = {
    "axis": "by", "line": "networks", "value": "value", "batch": "batch", "ours": "tinygan, us per image",
    "ours_mib": "MiB", "theirs": "best of torch, us per image", "theirs_mib": "MiB", "variant": "which is", "ratio": "ratio",
}  # fmt: skip
COLOURS = {"tinygan": "#1f77b4", "torch": "#d62728", harness.BEFORE: "#7f7f7f"}
NAMES = {"torch": "PyTorch"}
Entry = train_step.Entry


class Point(NamedTuple):
    """One value of what grows, on the line of some networks."""

    axis: str
    line: str
    value: int
    model: Model
    batch: int

    def matches(self, row: Row) -> bool:
        return bool((row["axis"], row["line"], row["value"]) == self[:3])


def points() -> Iterator[Point]:
    for name in ("vanilla", "dcgan28"):
        yield from (Point("batch", name, batch, MODELS[name], batch) for batch in BATCHES)
    yield from (Point("width", f"dcgan28, batch {BATCH}", width, dcgan28(width=width), BATCH) for width in WIDTHS)
    line = f"dcgan, width {WIDTH_FOR_SIZES}, batch {BATCH}"
    for size, make in SIZES.items():
        yield Point("size", line, size, make(channels=3, width=WIDTH_FOR_SIZES), BATCH)


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = harness.flags(__doc__, PEERS, rounds=5, threads=len(harness.cores()))
    parser.set_defaults(json=str(harness.HERE / "results" / "growth.json"))
    parser.add_argument("--figure", default=str(harness.HERE / "figures" / "growth.png"), help="draw the figure here")
    parser.add_argument("--only", default="", help=f"out of {', '.join(AXES)}, separated by commas")
    parser.add_argument("--at", default="", help="only these values of what grows, separated by commas")
    parser.add_argument("--seconds", type=float, default=1.0, help="time for each variant in a round")
    parser.add_argument("--compile-seconds", type=float, default=60.0,
                        help="PyTorch's compiled variants are left out once one took longer to start; 0: never tried")
    options = harness.parse(parser, argv, PEERS)
    options.only, options.at = harness.words(options.only), [int(value) for value in harness.words(options.at)]
    if unknown := set(options.only) - set(AXES):
        parser.error(f"--only: expected some of {', '.join(AXES)}, got {', '.join(sorted(unknown))}")
    options.warm_up = 1
    return options


def opened(options: argparse.Namespace) -> dict[str, Any]:
    """The result so far: that of the JSON file, if there is one. Raises RuntimeError if it cannot be continued."""
    settings = {"dtype": "float32", "rounds": options.rounds, "seconds": options.seconds, "threads": options.threads}
    info = harness.machine(PACKAGES)
    if not Path(options.json).exists():
        return {"machine": info, "settings": settings, "rows": [], "dropped": {}}
    result: dict[str, Any] = json.loads(Path(options.json).read_text(encoding="utf-8"))
    for what, before, now in (("with other settings", result["settings"], settings),
                              ("on another processor", result["machine"]["processor"], info["processor"])):
        if before != now:
            raise RuntimeError(f"{options.json} was measured {what} ({before}, now {now}): give another --json, or move it")
    return result


def steps_for(worker: Worker, seconds: float) -> int:
    """How many steps fit into that time."""
    once = float(np.median(worker.call("time", steps=3, warm_up=0)))
    return int(min(max(1, seconds * 1e3 / once), MOST_STEPS))


def measured(point: Point, options: argparse.Namespace, dropped: dict[str, str], known: set[Model]) -> list[Row]:
    """The rows of a point. PyTorch's compiled variants are not checked here for the same work (`train_step.py` does), since
    that would compile them twice more. `dropped` gets those that will not be tried again, `known` the models that were
    checked."""
    ours_eager = {("tinygan", "eager"), (harness.BEFORE, "eager")}
    chosen = [entry for entry in train_step.entries(point.model, ["tinygan", *options.against], [])
              if entry not in ours_eager and " ".join(entry) not in dropped]  # fmt: skip
    compiled = [entry for entry in chosen if "compiled" in entry[1].split()]
    if not options.compile_seconds:
        chosen, compiled = [entry for entry in chosen if entry not in compiled], []
    if point.model not in known:
        plain = [entry for entry in chosen if entry not in compiled]
        _, failed = train_step.check(point.model, start(point.model, CHECKED), plain, options.threads, options.before)
        for row in failed:
            dropped[f"{row['framework']} {row['variant']}"] = row["error"]
        known.add(point.model)
    begin = start(point.model, point.batch).astype("float32")

    def timed(entries: list[Entry]) -> list[Row]:
        running = [entry for entry in entries if " ".join(entry) not in dropped]
        return train_step.measure(point.model, begin, running, options,
                                  lambda worker: steps_for(worker, options.seconds))[0]

    try:
        rows = timed(chosen)
    except WorkerError as error:
        if not compiled:
            raise
        say(f"without the compiled variants, since one does not run here: {error}")
        dropped.update(dict.fromkeys((" ".join(entry) for entry in compiled), str(error)))
        rows = timed(chosen)
    for row in rows:
        if "compiled" in row["variant"].split() and row["start_s"] > options.compile_seconds:
            dropped[f"{row['framework']} {row['variant']}"] = f"took {row['start_s']:.0f} s to start"
    return rows


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure what is not in the JSON file yet. Returns its content."""
    result = opened(options)
    harness.announce(result["machine"])
    known: set[Model] = set()
    for point in points():
        left_out = (options.only and point.axis not in options.only) or (options.at and point.value not in options.at)
        if left_out or any(point.matches(row) for row in result["rows"]):
            continue
        say(f"{point.axis} {point.value}, {point.line}, batch {point.batch}")
        try:
            rows = measured(point, options, result["dropped"], known)
        except DifferentWorkError as error:  # nobody's time counts at this point
            say(f"left out: {error}")
            result["dropped"][f"{point.axis} {point.value}"] = str(error)
            continue
        for row in rows:
            per_image = float(f"{row['median_ms'] * 1e3 / point.batch:.5g}")
            result["rows"].append({"axis": point.axis, "line": point.line, "value": point.value, "batch": point.batch,
                                   **row, "us_per_image": per_image})
        harness.write_json(options.json, result)
    if result["rows"]:
        draw(options.figure, result["rows"])
    return result


def best(rows: list[Row]) -> dict[str, Row]:
    """By framework, its fastest row."""
    found: dict[str, Row] = {}
    for row in rows:
        if row["us_per_image"] < found.get(row["framework"], {}).get("us_per_image", float("inf")):
            found[row["framework"]] = row
    return found


def by_point(rows: list[Row]) -> dict[Point, dict[str, Row]]:
    """The fastest row of each framework, at every point that was measured."""
    found = {point: best([row for row in rows if point.matches(row)]) for point in points()}
    return {point: fastest for point, fastest in found.items() if fastest}


def draw(path: str, rows: list[Row]) -> None:
    """A panel for each axis that was measured: the time per image of each framework's best variant."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, NullLocator

    from tinygan.plotting.figures import write_figure

    fastest = by_point(rows)
    measured = [axis for axis in AXES if any(point.axis == axis for point in fastest)]
    figure = Figure(figsize=(4 * len(measured), 4.2), layout="constrained")
    for axis, panel in zip(measured, figure.subplots(1, len(measured), squeeze=False)[0], strict=True):
        here = [(point, found) for point, found in fastest.items() if point.axis == axis]
        lines = list(dict.fromkeys(point.line for point, _ in here))
        for line, style in zip(lines, ("-o", "--s"), strict=False):
            for framework, colour in COLOURS.items():
                places = [(point.value, found[framework]["us_per_image"]) for point, found in here
                          if point.line == line and framework in found]
                if places:
                    panel.plot(*zip(*places, strict=True), style, color=colour, markersize=4,
                               label=f"{NAMES.get(framework, framework)}, {line}")
        values = sorted({point.value for point, _ in here})
        panel.set(xscale="log", yscale="log", xlabel=AXES[axis])
        panel.set_xticks(values, [f"{value:,}" for value in values])
        panel.xaxis.set_minor_locator(NullLocator())
        for formatter in (panel.yaxis.set_major_formatter, panel.yaxis.set_minor_formatter):
            formatter(FuncFormatter(lambda value, _: f"{value:,g}" if f"{value:e}"[0] in "125" else ""))
        panel.grid(alpha=0.3, which="both")
        panel.legend(frameon=False, fontsize=8)
    figure.axes[0].set_ylabel("microseconds per image")
    title = "The time of a training step per image"
    figure.suptitle(title)
    write_figure(path, figure, title, dpi=110)


def show(result: dict[str, Any]) -> str:
    """A text with a row for each point, then what was left out."""
    rows = []
    for point, found in by_point(result["rows"]).items():
        ours, theirs = found["tinygan"], found.get("torch")
        row = {"axis": point.axis, "line": point.line, "value": point.value, "batch": point.batch,
               "ours": ours["us_per_image"], "ours_mib": ours["peak_mib"]}
        if theirs:
            row |= {"theirs": theirs["us_per_image"], "theirs_mib": theirs["peak_mib"], "variant": theirs["variant"],
                    "ratio": ours["us_per_image"] / theirs["us_per_image"]}
        rows.append(row)
    lines = [harness.markdown(rows, COLUMNS), ""]
    lines += [f"left out: {name}: {reason}" for name, reason in result["dropped"].items()]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    return harness.main(arguments(argv), run, show)


if __name__ == "__main__":
    sys.exit(main())
