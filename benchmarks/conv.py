"""Convolution layers one by one: `python benchmarks/conv.py --layers dcgan28,dcgan64,dcgan5x5,grouped --against torch`.

Measures the forward pass and both gradients of each layer, on a batch in float32. GFLOP/s count the operations of the direct
computation, for every algorithm. The error is the largest one, relative to the largest element of the result in float64.
"""
import argparse
import sys
from contextlib import ExitStack
from typing import Any

import harness
import numpy as np
from conv_layers import LAYERS, MAPS, Layer
from harness import DifferentWorkError, Row, Worker, say

VARIANTS = {"tinygan": ["auto", "direct", "tiled"], "torch": ["contiguous", "channels-last"]}
PEERS = ["torch"]
PACKAGES = ["tinygan", "numpy", "numba", "torch"]
TOLERANCE = 1e-4  # relative to the largest element
COLUMNS = {
    "layer": "layer", "map": "map", "framework": "framework", "variant": "variant", "median_ms": "ms (median)",
    "min_ms": "min", "max_ms": "max", "gflops": "GFLOP/s", "error": "error", "ratio": "this / torch's best",
}  # fmt: skip
Entry = tuple[str, str]  # framework, variant


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = harness.flags(__doc__, PEERS, rounds=5, threads=len(harness.cores()))
    parser.add_argument("--layers", default=",".join(LAYERS), help=f"networks, out of {', '.join(LAYERS)}")
    parser.add_argument("--batch", type=harness.count, default=64, help="images in a batch")
    parser.add_argument("--seconds", type=float, default=0.2, help="time for each layer, map, variant and round")
    options = harness.parse(parser, argv, PEERS)
    options.layers = harness.words(options.layers)
    for name in options.layers:
        if name not in LAYERS:
            parser.error(f"--layers: no network {name!r}; there are {', '.join(LAYERS)}")
    if not options.layers:
        parser.error(f"--layers: name at least one of {', '.join(LAYERS)}")
    return options


def errors(workers: dict[Entry, Worker], layer: Layer, batch: int) -> dict[tuple[str, Entry], float]:
    """By map and entry, the largest error relative to the largest element. Raises DifferentWorkError if it is above
    TOLERANCE.

    The exact result is that of the last framework in float64: PyTorch if it is among them, otherwise tinygan's direct
    algorithm.
    """
    judge = next(entry for entry in reversed(workers) if entry in (("torch", "contiguous"), ("tinygan", "direct")))
    exact = workers[judge].call("ask", method="results", layer=layer, batch=batch, dtype="float64")
    found = {}
    for entry, worker in workers.items():
        results = worker.call("ask", method="results", layer=layer, batch=batch)
        for name in MAPS:
            what = f"{' '.join(entry)}, {layer.describe()}, {name}"
            if results[name].shape != exact[name].shape:
                raise DifferentWorkError(f"{what}: shape {results[name].shape}, expected {exact[name].shape}")
            error = float(np.abs(results[name] - exact[name]).max() / np.abs(exact[name]).max())
            if not error <= TOLERANCE:
                raise DifferentWorkError(f"{what}: an error of {error:.3g} of the largest element, allowed {TOLERANCE:g}")
            found[name, entry] = error
    return found


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Run the whole benchmark. Returns the content of the JSON file."""
    info = harness.machine(PACKAGES)
    harness.announce(info)
    layers = [layer for name in options.layers for layer in LAYERS[name]]
    rows: list[Row] = []
    with ExitStack() as stack:
        workers: dict[Entry, Worker] = {}
        for framework in ("tinygan", *options.against):
            for variant in harness.variants_of(VARIANTS, framework):
                worker = workers[framework, variant] = stack.enter_context(
                    harness.worker("conv", framework, options.threads, options.before))
                worker.call("create", variant=variant, threads=options.threads)
        reports = {entry: worker.call("report") for entry, worker in workers.items()}
        for layer in layers:
            say(layer.describe())
            error = errors(workers, layer, options.batch)
            turns = {
                (name, entry): (lambda layer=layer, worker=worker, name=name: worker.call(
                    "ask", method="milliseconds", layer=layer, batch=options.batch, name=name, seconds=options.seconds))
                for name in MAPS for entry, worker in workers.items()
            }  # fmt: skip
            for (name, entry), times in harness.take_turns(options.rounds, turns).items():
                spread = harness.spread(times)
                rows.append({
                    "layer": layer.describe(), "map": name, "framework": entry[0], "variant": entry[1], **spread,
                    "gflops": round(layer.gflop(options.batch) / spread["median_ms"] * 1e3, 1),
                    "error": float(f"{error[name, entry]:.2g}"), "threads": reports[entry]["threads"],
                    "blas": reports[entry]["blas"],
                })  # fmt: skip
    settings = {
        "layers": options.layers, "batch": options.batch, "dtype": "float32", "rounds": options.rounds,
        "seconds": options.seconds, "threads": options.threads, "removed_from_environment": harness.removed_overrides(),
    }  # fmt: skip
    return {"machine": info, "settings": settings, "rows": rows, "ratio": ratios(rows)}


def ratios(rows: list[Row]) -> dict[str, dict[str, dict[str, float]]]:
    """By peer, layer and map: the time of tinygan's "auto" over that of the peer's best variant. "all": the geometric
    means."""
    cells: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row["framework"] != "tinygan" or row["variant"] == "auto":
            cells.setdefault((row["layer"], row["map"]), []).append(row)
    return harness.ratio_table((layer, name, harness.ratios(of_map)) for (layer, name), of_map in cells.items())


def show(result: dict[str, Any]) -> str:
    """A text with the times, then the ratios to every peer."""
    best: dict[tuple[str, str], float] = {}
    for row in result["rows"]:
        if row["framework"] == "torch":
            key = row["layer"], row["map"]
            best[key] = min(row["median_ms"], best.get(key, float("inf")))
    rows = [
        {**row, "error": f"{row['error']:.0e}",
         "ratio": row["median_ms"] / best[row["layer"], row["map"]] if best else ""}
        for row in result["rows"]
    ]  # fmt: skip
    ratios = harness.ratio_markdown(result["ratio"], "tinygan (auto)")
    return "\n\n".join([harness.markdown(rows, COLUMNS), ratios]).rstrip()


def main(argv: list[str] | None = None) -> int:
    return harness.main(arguments(argv), run, show)


if __name__ == "__main__":
    sys.exit(main())
