"""Measure how the peak memory of the unrolled GAN's generator update depends on the number K of steps ahead:

    python benchmarks/unrolled_memory.py --json unrolled_memory.json --figure unrolled_memory.png

The networks are DCGAN's for 28x28 (width 64), with batch size 128 and Adam. "rematerialized" keeps the graph of one inner
step, and K sets of parameters and moments. "recorded" keeps the graphs of all K steps, as other frameworks do by default.
Live bytes are the size of all arrays at the worst moment of an update, minus those that existed before it. tracemalloc
counts them, in a process that does not use tinygan's store of used arrays. Resident memory is the high-water mark of a
second process, which runs like a user's, minus the memory of the imports.
"""
import argparse
import json
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from typing import Any

import harness
import worker
from harness import Row, say

STEPS = (0, 1, 2, 5, 10, 20, 50)
MODES = ("rematerialized", "recorded")
COLUMNS = {
    "mode": "mode", "steps": "K", "live_mib": "live arrays, MiB", "beyond_sets_mib": "less the sets, MiB",
    "resident_mib": "resident, MiB", "seconds": "seconds",
}  # fmt: skip
MOST_AT_20 = 1.05  # the limit for K = 20 relative to K = 1, without the sets
MOST_AT_1 = 1.4  # the limit for K = 1 relative to K = 1 recorded
UPDATES = 2  # in the second, all kernels are compiled and all workspaces made


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=harness.count, default=128)
    parser.add_argument("--width", type=harness.count, default=64, help="channels of the layers next to the image")
    parser.add_argument("--steps", default=",".join(map(str, STEPS)), help="values of K, separated by commas")
    parser.add_argument("--json", help="write the result here")
    parser.add_argument("--figure", help="draw the figure here (.png, .pdf, .svg)")
    parser.add_argument("--one", nargs=3, metavar=("MODE", "K", "FIGURE"), help=argparse.SUPPRESS)  # in a process of its own
    options = parser.parse_args(argv)
    options.steps = [int(k) for k in harness.words(options.steps)]
    return options


def measure_one(mode: str, steps: int, figure: str, batch: int, width: int) -> dict[str, float]:
    """Measure one configuration in this process."""
    import kernels_loaded  # noqa: F401
    import numpy as np

    import tinygan as tg
    from tinygan.kernels.cpu.runtime import workspace
    from tinygan.kernels.cpu.runtime.loading import loaded

    loaded("tinygan.kernels.cpu.conv.compiled")  # as a first step would, and all that every training needs
    if figure == "live":
        workspace.REUSED_FROM_BYTES = sys.maxsize  # type: ignore[misc]  # every array is made by NumPy, and its end is seen
    held = worker.resident_mib()
    worker.reset_peak()
    gan = tg.gans.UnrolledGAN(
        *tg.gans.dcgan_networks(width=width), latent_dim=100, unroll_steps=steps, rematerialize=mode == "rematerialized",
        key=tg.random.Key(0),
    )  # fmt: skip
    real = tg.random.Key(1).uniform((batch, 1, 28, 28), -1.0, 1.0)
    gan.step(real)
    if figure == "live":
        tracemalloc.start()
        base = tracemalloc.get_traced_memory()[0]
    for _ in range(UPDATES):
        z = gan.latent(batch)
        if figure == "live":
            tracemalloc.reset_peak()
        begin = time.perf_counter()
        gan.unrolled_gradients(real, z)
        seconds = time.perf_counter() - begin
    sets = sum(np.asarray(p).nbytes for p in gan.d_parameters) * (1 + len(gan.d_optimizer.rule.slots))
    peak = (tracemalloc.get_traced_memory()[1] - base) / worker.MIB if figure == "live" else worker.peak_mib() - held
    return {"peak_mib": peak, "set_mib": sets / worker.MIB, "seconds": seconds}


def measure(mode: str, steps: int, options: argparse.Namespace) -> Row:
    """One row of the table. A configuration that does not fit into memory has no figures."""
    found = {}
    for figure in ("live", "resident"):
        command = [sys.executable, __file__, "--one", mode, str(steps), figure, "--batch", str(options.batch),
                   "--width", str(options.width)]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, env=harness.worker_environment(len(harness.cores())))
        if done.returncode:
            reason = f"exit status {done.returncode}: {done.stderr.strip()[-200:]}"
            return {"mode": mode, "steps": steps, "error": reason}
        found[figure] = json.loads(done.stdout)
    live, sets = found["live"]["peak_mib"], found["live"]["set_mib"] * steps
    return {
        "mode": mode, "steps": steps, "live_mib": round(live, 1), "set_mib": found["live"]["set_mib"],
        "beyond_sets_mib": round(live - sets, 1), "resident_mib": round(found["resident"]["peak_mib"], 1),
        "seconds": round(found["resident"]["seconds"], 3),
    }  # fmt: skip


def run(options: argparse.Namespace) -> dict[str, Any]:
    info = harness.machine(["tinygan", "numpy", "numba"])
    harness.announce(info)
    rows = []
    for mode in MODES:
        for steps in options.steps:
            say(f"{mode}, K = {steps}")
            rows.append(measure(mode, steps, options))
    return {"machine": info, "settings": {"batch": options.batch, "width": options.width}, "rows": rows, "bars": bars(rows)}


def bars(rows: list[Row]) -> dict[str, float]:
    """The two ratios that have limits: K = 20 over K = 1 without the sets, and rematerialised over recorded for K = 1."""
    at = {(row["mode"], row["steps"]): row for row in rows if "error" not in row}
    found = {}
    if {("rematerialized", 1), ("rematerialized", 20)} <= at.keys():
        one, twenty = at["rematerialized", 1], at["rematerialized", 20]
        found["20 over 1, beyond the sets"] = round(twenty["beyond_sets_mib"] / one["beyond_sets_mib"], 3)
    if {("rematerialized", 1), ("recorded", 1)} <= at.keys():
        found["1 over recorded 1"] = round(at["rematerialized", 1]["live_mib"] / at["recorded", 1]["live_mib"], 3)
    return found


def draw(path: str, rows: list[Row]) -> None:
    from matplotlib.figure import Figure

    from tinygan.plotting.figures import write_figure

    figure = Figure(figsize=(6.5, 4.2), layout="constrained")
    axes = figure.subplots()
    for mode, colour in zip(MODES, ("#1f77b4", "#d62728"), strict=True):
        found = [row for row in rows if row["mode"] == mode and "error" not in row]
        axes.plot([row["steps"] for row in found], [row["live_mib"] for row in found], "o-", color=colour, label=mode)
    axes.set(xlabel="K, steps of the discriminator ahead", ylabel="live arrays at the worst moment, MiB", yscale="log",
             title="Memory of the unrolled generator's update")  # fmt: skip
    axes.grid(alpha=0.3, which="both")
    axes.legend(frameon=False)
    write_figure(path, figure, "Memory of the unrolled generator's update")


def show(result: dict[str, Any]) -> str:
    lines = [harness.markdown(result["rows"], COLUMNS), ""]
    most = {"20 over 1, beyond the sets": MOST_AT_20, "1 over recorded 1": MOST_AT_1}
    lines += [f"{name}: {value} (at most {most[name]})" for name, value in result["bars"].items()]
    lines += [f"{row['mode']}, K = {row['steps']}: {row['error']}" for row in result["rows"] if "error" in row]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    options = arguments(argv)
    if options.one:
        mode, steps, figure = options.one
        print(json.dumps(measure_one(mode, int(steps), figure, options.batch, options.width)))
        return 0

    def keep(options: argparse.Namespace) -> dict[str, Any]:
        result = run(options)
        if options.figure:
            draw(str(Path(options.figure)), result["rows"])
        return result

    return harness.main(options, keep, show)


if __name__ == "__main__":
    sys.exit(main())
