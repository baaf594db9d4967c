"""How does training scale over processes?

    python benchmarks/scaling.py --json benchmarks/results/scaling.json --figure benchmarks/figures/scaling.png

For each model, the time of a training step with the same batch for each process: one process of one thread, two
processes of one thread each, and one process of two threads with the batch of both. They take turns, each in a launch
of its own. The benchmark also measures a reduction over two processes for arrays of many sizes, on this machine. And it
measures how much of a reduction of 8 MiB a matrix product can hide, without and with MPICH's thread for that.

From these it draws a model of more processes, each on a machine of its own. A step of p processes takes the time of a
step of one, plus that of its reductions:

    log2(p) * latency for each, and 2 (p - 1) / p * its bytes / bandwidth

This is what recursive doubling and a reduce-scatter with an all-gather need at least (Thakur, Rabenseifner, Gropp
2005, "Optimization of collective communication operations in MPICH"). Weak scaling: each process has the same batch.
Strong scaling: all have one batch of 1,024 together. The networks: 100 Gbit Ethernet, 12.5 GB/s, and InfiniBand HDR,
25 GB/s; NETWORKS says from where the latencies are. The model leaves out that processes wait for the slowest one, and
that they read images.
"""
from __future__ import annotations

import argparse
import json
import math
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import harness
from harness import Row, say

BATCHES = {"vanilla": 128, "dcgan28": 64, "dcgan64": 64}  # of each process
STEPS = {"vanilla": 20, "dcgan28": 6, "dcgan64": 2}
WHOLE = 1024  # the batch of strong scaling
MOST = 1024


class Network(NamedTuple):
    """A network between machines: seconds until the first byte, and bytes per second."""

    name: str
    latency: float
    bandwidth: float


NETWORKS = (
    Network("100 Gbit Ethernet", 2e-6, 12.5e9),  # (Squyres 2014, Cisco's blog "MPI over 40Gb Ethernet": 1.93 us)
    Network("InfiniBand HDR", 1e-6, 25e9),  # (NVIDIA's ConnectX-6 data sheet: 200 Gbit/s, and less than 1 us)
)


class Setup(NamedTuple):
    """Processes and their threads; batches: how many times the batch of one process."""

    name: str
    ranks: int
    threads: int
    batches: int


SETUPS = (Setup("1 process, 1 thread", 1, 1, 1), Setup("2 processes, 1 thread each", 2, 1, 2),
          Setup("1 process, 2 threads", 1, 2, 2))  # fmt: skip


def mpirun_found() -> str | None:
    """The `mpirun` of this Python's environment, or that in the PATH; None if there is none."""
    return shutil.which("mpirun", path=str(Path(sys.executable).parent)) or shutil.which("mpirun")


def launch(ranks: int, threads: int, *arguments: Any, settings: dict[str, str] | None = None) -> Any:
    """What the first process of `scaling_step.py` prints. settings: further environment variables. Raises RuntimeError with
    its message if it fails."""
    program = [sys.executable, str(harness.HERE / "scaling_step.py"), *map(str, arguments)]
    mpirun = mpirun_found() or "mpirun"
    command = program if ranks == 1 else [mpirun, "-n", str(ranks), *program]
    environment = {**harness.worker_environment(threads), **(settings or {})}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {ended.stderr.strip()[-2000:]}")
    return json.loads(ended.stdout.splitlines()[-1])


def measure(model: str, rounds: int) -> list[Row]:
    """A row for each setup."""
    batch, steps = BATCHES[model], STEPS[model]
    found = harness.take_turns(rounds, {
        setup: lambda setup=setup: launch(setup.ranks, setup.threads, model, setup.batches * batch, steps)
        for setup in SETUPS}, model)  # fmt: skip
    rows = []
    for setup, several in found.items():
        times = harness.spread([one["ms"] for one in several])
        rows.append({"model": model, "setup": setup.name, "ranks": setup.ranks, "threads": setup.threads,
                     "batch": setup.batches * batch, **times,
                     "images_per_s": round(1000 * setup.batches * batch / times["median_ms"]),
                     "reduction_ms": round(statistics.median(one["reduction_ms"] for one in several), 3),
                     "reductions": several[0]["reductions"], "bytes": round(several[0]["bytes"]),
                     "parameters": several[0]["parameters"]})  # fmt: skip
    for row in rows:
        row["over_one"] = round(row["batch"] / row["median_ms"] * rows[0]["median_ms"] / rows[0]["batch"], 3)
    return rows


def overlaps() -> Row:
    """The times of `scaling_step.overlap_times`, without and with a thread of MPICH that works on started reductions."""
    return {name: launch(2, 1, "overlap", settings={"MPIR_CVAR_ASYNC_PROGRESS": value})
            for name, value in (("without a thread", "0"), ("with a thread", "1"))}  # fmt: skip


def reductions(row: Row, ranks: int, network: Network) -> float:
    """The seconds that a step's reductions take in the model."""
    if ranks == 1:
        return 0.0
    return (row["reductions"] * math.log2(ranks) * network.latency
            + 2 * (ranks - 1) / ranks * row["bytes"] / network.bandwidth)  # fmt: skip


def draw(path: Path, rows: list[Row]) -> None:
    """The model's throughput per process, relative to one process: weak and strong scaling, for each network."""
    from matplotlib.figure import Figure

    from tinygan.plotting.figures import write_figure

    models = [name for name in BATCHES if any(row["model"] == name for row in rows)]
    ranks = [2**n for n in range(int(math.log2(MOST)) + 1)]
    figure = Figure(figsize=(9.5, 4.0), layout="constrained")
    titles = "weak scaling: the same batch for each process", f"strong scaling: one batch of {WHOLE:,} for all"
    for place, (axes, title) in enumerate(zip(figure.subplots(1, 2), titles, strict=True), 1):
        for colour, model in enumerate(models):
            one, two = (next(row for row in rows if row["model"] == model and row["ranks"] == n) for n in (1, 2))
            for network, style in zip(NETWORKS, ("-", "--"), strict=True):
                seconds = 1e-3 * one["median_ms"]
                alone = [seconds if place == 1 else seconds * WHOLE / one["batch"] / p for p in ranks]
                share = [t / (t + reductions(two, p, network)) for p, t in zip(ranks, alone, strict=True)]
                axes.plot(ranks, share, style, color=f"C{colour}", label=f"{model}, {network.name}")
        axes.set(xlabel="processes", ylabel="efficiency", ylim=(0, 1.05), title=title)
        axes.set_xscale("log", base=2)
        axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_figure(path, figure, "A model of training on many processes", dpi=110)


def table(result: dict[str, Any]) -> str:
    shown = [{**row, "bytes": f"{row['bytes'] / 2**20:.2f}", "reductions": f"{row['reductions']:g}"}
             for row in result["rows"]]
    return harness.markdown(shown, {
        "model": "model", "setup": "setup", "batch": "batch", "median_ms": "step, ms", "images_per_s": "images/s",
        "over_one": "over one process", "reduction_ms": "in reductions, ms", "reductions": "reductions per step",
        "bytes": "MiB per step"})


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=BATCHES, default=list(BATCHES))
    parser.add_argument("--rounds", type=harness.count, default=5)
    parser.add_argument("--json", help="write the result here")
    parser.add_argument("--figure", help="draw the model here (.png, .pdf, .svg)")
    options = parser.parse_args(argv)
    info = harness.machine(["tinygan", "numpy", "numba", "mpi4py", "mpich"])
    harness.announce(info)
    try:
        rows = [row for model in options.models for row in measure(model, options.rounds)]
        say("reductions over two processes")
        result = {"machine": info, "rows": rows, "reduction_s": launch(2, 1, "pingpong"), "overlap_ms": overlaps()}
    except RuntimeError as error:
        say(f"scaling: error: {error}")
        return 1
    if options.json:
        harness.write_json(options.json, result)
    if options.figure:
        draw(Path(options.figure), rows)
    print(table(result))
    small, large = (result["reduction_s"][size] for size in ("8", str(2**24)))
    print(f"\na reduction over two processes here: {1e6 * small:.1f} us for 8 bytes, {2**24 / large / 1e9:.2f} GB/s for "
          "16 MiB\n\na reduction of 8 MiB and a matrix product, ms:\n")
    print(harness.markdown([{"": name, **times} for name, times in result["overlap_ms"].items()],
                           {name: name for name in ("", "reduction", "product", "in turn", "at once")}))  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
