"""Microseconds per small op: `python benchmarks/op_overhead.py --against torch,autograd,mygrad`.

forward: the time per op of a chain of ops, recorded for a gradient. forward_backward: the same with the gradients with
respect to all inputs. single: one op and its gradients. The arrays are small, so most of the time goes into recording and
walking the graph. In the row "replayed" tinygan replays a captured function, as in training; the others do what they
always do. `--before ../tinygan-of-yesterday` compares with the tinygan of another checkout.
"""
import argparse
import sys
from contextlib import ExitStack
from typing import Any

import harness
import numpy as np
from harness import DifferentWorkError, Row, say
from ops import CASES, CHAIN

VARIANTS = {"tinygan": ["default"], "torch": ["eager"], "autograd": ["default"], "mygrad": ["default", "unguarded"]}
PACKAGES = ["tinygan", "numpy", "numba", "torch", "autograd", "mygrad"]
FIGURES = ("forward", "forward_backward", "single")
TOLERANCE = 1e-4  # relative to the largest element, float32
COLUMNS = {
    "op": "op", "framework": "framework", "variant": "variant", "forward_us": "forward, us",
    "forward_backward_us": "forward and backward, us", "single_us": "single op, both, us",
}  # fmt: skip
Values = tuple[np.ndarray, list[np.ndarray]]


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    peers = [name for name in VARIANTS if name != "tinygan"]
    parser = harness.flags(__doc__, peers, rounds=5, threads=1)  # small ops use only one core
    parser.add_argument("--ops", default="", help="only the ops whose names contain one of these, separated by commas")
    parser.add_argument("--seconds", type=float, default=0.6, help="time for each op, framework and round")
    options = harness.parse(parser, argv, peers)
    words = harness.words(options.ops)
    options.ops = [name for name in CASES if not words or any(word in name for word in words)]
    if not options.ops:
        parser.error(f"--ops: no op contains any of {words}; there are {', '.join(CASES)}")
    return options


def disagreement(op: str, name: str, got: Values, expected: Values) -> str | None:
    """A message that says where the results or gradients of two subjects for an op differ. None if they agree."""
    pairs = [("result", got[0], expected[0])]
    pairs += [(f"gradient {i}", a, b) for i, (a, b) in enumerate(zip(got[1], expected[1], strict=True))]
    for what, a, b in pairs:
        if a.shape != b.shape:
            return f"{name}, {op}: {what} has shape {a.shape}, expected {b.shape}"
        if not np.abs(a - b).max() <= TOLERANCE * max(np.abs(b).max(), 1e-30):
            return f"{name}, {op}: {what} differs by {np.abs(a - b).max():.3g}"
    return None


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Run the whole benchmark. Returns the content of the JSON file. Raises DifferentWorkError if two subjects differ."""
    info = harness.machine(PACKAGES)
    harness.announce(info)
    chosen = [(f, variant) for f in ["tinygan", *options.against] for variant in harness.variants_of(VARIANTS, f)]
    with ExitStack() as stack:
        workers = {}
        for framework, variant in chosen:
            say(f"starting {framework} {variant}")
            worker = stack.enter_context(harness.worker("ops", framework, options.threads, options.before))
            worker.call("create", variant=variant, threads=options.threads)
            workers[framework, variant] = worker
        reports = {entry: worker.call("report") for entry, worker in workers.items()}
        for op in options.ops:
            values = {entry: worker.call("ask", method="values", name=op) for entry, worker in workers.items()}
            for entry, value in values.items():
                if problem := disagreement(op, " ".join(entry), value, values[chosen[0]]):
                    raise DifferentWorkError(f"{problem} (compared with {' '.join(chosen[0])})")
        turns = {
            (op, entry): (lambda op=op, worker=worker: worker.call(
                "ask", method="microseconds", name=op, seconds=options.seconds))
            for op in options.ops for entry, worker in workers.items()
        }  # fmt: skip
        times = harness.take_turns(options.rounds, turns)
    rows: list[Row] = []
    for (op, (framework, variant)), rounds in times.items():
        report = reports[framework, variant]
        row: Row = {"op": op, "framework": framework, "variant": variant}
        for figure in rounds[0]:
            spread = harness.spread((round_[figure] for round_ in rounds), "us")
            row[f"{figure}_us"] = spread["median_us"]
            row[f"{figure}_min_us"], row[f"{figure}_max_us"] = spread["min_us"], spread["max_us"]
        rows.append({**row, "threads": report["threads"], "blas": report["blas"]})
    settings = {
        "ops": options.ops, "chain": CHAIN, "dtype": "float32", "rounds": options.rounds, "seconds": options.seconds,
        "threads": options.threads, "removed_from_environment": harness.removed_overrides(),
    }  # fmt: skip
    return {"machine": info, "settings": settings, "rows": rows, "ratio": ratios(rows)}


def ratios(rows: list[Row]) -> dict[str, dict[str, dict[str, float]]]:
    """By peer and op: tinygan's figure over that of the peer's best variant. "all": the geometric mean of the ops that have
    all figures, which the replayed one has not."""
    by_op: dict[str, list[Row]] = {}
    for row in rows:
        by_op.setdefault(row["op"], []).append(row)
    found = [(op, figure, harness.ratios(of_op, f"{figure}_us")) for op, of_op in by_op.items() for figure in FIGURES
             if f"{figure}_us" in of_op[0]]  # fmt: skip
    whole = {op for op, of_op in by_op.items() if all(f"{figure}_us" in of_op[0] for figure in FIGURES)}
    table = harness.ratio_table(cell for cell in found if cell[0] in whole)
    for op, figure, by_peer in found:
        for peer, ratio in by_peer.items():
            table.setdefault(peer, {}).setdefault(op, {})[figure] = ratio
    return table


def show(result: dict[str, Any]) -> str:
    """A text with the times, then the ratios to every peer."""
    rows = sorted(result["rows"], key=lambda row: list(CASES).index(row["op"]))
    return "\n\n".join([harness.markdown(rows, COLUMNS), harness.ratio_markdown(result["ratio"])]).rstrip()


def main(argv: list[str] | None = None) -> int:
    return harness.main(arguments(argv), run, show)


if __name__ == "__main__":
    sys.exit(main())
