"""A round of the unrolled GAN on the ring, tinygan beside the frameworks:

    python benchmarks/unrolled_step.py --steps 5,10 --against torch,jax --json unrolled_step.json

G 256-128-128-2, D 2-128-1, ReLU, batch 512, Adam 1e-4 (beta1 0.5), the minimax cost; see `unrolled_ring.py`. Before the
timing, the generator's gradients after one update of the discriminator are compared: every variant must agree with tinygan
to 1e-8 in float64. And tinygan's captured steps must train to the same bits as its eager ones.
`--before ../tinygan-of-yesterday` compares with the tinygan of another checkout.
"""
import argparse
import sys
from contextlib import ExitStack
from typing import Any

import equality
import harness
import jax_flags
import numpy as np
from harness import DifferentWorkError, Row, WorkerError, say
from unrolled_ring import RingStart, ring_start

VARIANTS = {
    "tinygan": ["recorded", "rematerialized", "recorded eager", "rematerialized eager"],
    "torch": ["eager", "foreach"],
    "jax": jax_flags.both_ways(["jit"]),
}
PACKAGES = ["tinygan", "numpy", "numba", "torch", "jax", "jaxlib"]
TOLERANCE = 1e-8  # relative L2 over all of the generator's gradients, float64
COLUMNS = {
    "steps": "K", "framework": "framework", "variant": "variant", "median_ms": "round, ms (median)", "min_ms": "min",
    "max_ms": "max", "peak_mib": "peak memory, MiB", "ratio": "tinygan / this",
}  # fmt: skip
Entry = tuple[str, str]  # framework, variant


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    peers = [name for name in VARIANTS if name != "tinygan"]
    parser = harness.flags(__doc__, peers, rounds=7, threads=len(harness.cores()))
    parser.add_argument("--steps", default="5,10", help="updates ahead, K; several separated by commas")
    parser.add_argument("--batch", type=harness.count, default=512)
    parser.add_argument("--repeats", type=harness.count, default=40, help="timed training rounds in each of --rounds")
    options = harness.parse(parser, argv, peers)
    options.steps = [int(k) for k in harness.words(options.steps)]
    return options


def agreement(entry: Entry, steps: int, start: RingStart, options: argparse.Namespace) -> np.ndarray:
    """The generator's gradients in float64, joined, from a worker that is not timed."""
    framework, variant = entry
    with harness.worker("unrolled", framework, options.threads, options.before, variant) as worker:
        point = start.astype("float64")
        worker.call("create", start=point, steps=steps, variant=variant, threads=options.threads)
        _, gradients = worker.call("ask", method="gradients", d_noise=point.d_noise, g_noise=point.g_noise)
        if framework in ("tinygan", harness.BEFORE) and "eager" not in variant:
            equality.check_replays(f"K = {steps}: {' '.join(entry)}", worker, variant, start=start.astype("float32"),
                                   steps=steps, threads=options.threads)
    return np.concatenate([g.ravel() for g in gradients])


def check(steps: int, chosen: list[Entry], start: RingStart, options: argparse.Namespace) -> tuple[list[Entry], list[Row]]:
    """Compare every entry with the first one. Returns those that run, and rows about those that do not."""
    expected, running, failed = None, [], []
    for entry in chosen:
        try:
            found = agreement(entry, steps, start, options)
        except WorkerError as problem:
            if expected is None:
                raise
            say(f"{' '.join(entry)} does not run here: {problem}\n{problem.details}")
            failed.append({"steps": steps, "framework": entry[0], "variant": entry[1], "error": str(problem)})
            continue
        expected = found if expected is None else expected
        error = float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
        if not error <= TOLERANCE:
            raise DifferentWorkError(f"K = {steps}: {' '.join(entry)} differs from {' '.join(chosen[0])} by {error:.3g} "
                                     f"(relative L2, float64), allowed {TOLERANCE:g}")
        running.append(entry)
    return running, failed


def measure(steps: int, chosen: list[Entry], start: RingStart, options: argparse.Namespace) -> list[Row]:
    """Time all variants for one K. They take turns."""
    with ExitStack() as stack:
        workers = {}
        for framework, variant in chosen:
            worker = stack.enter_context(harness.worker("unrolled", framework, options.threads, options.before, variant))
            worker.call("create", start=start.astype("float32"), steps=steps, variant=variant, threads=options.threads)
            worker.call("time", steps=1, warm_up=3)  # compiles, and records
            worker.call("reset_peak")
            workers[framework, variant] = worker
        turns = {
            entry: (lambda worker=worker: worker.call("time", steps=options.repeats, warm_up=3))
            for entry, worker in workers.items()
        }  # fmt: skip
        times = harness.take_turns(options.rounds, turns, f"K = {steps}, round")
        rows = []
        for (framework, variant), worker in workers.items():
            medians = [harness.spread(some)["median_ms"] for some in times[framework, variant]]
            report = worker.call("report")
            rows.append({
                "steps": steps, "framework": framework, "variant": variant, **harness.spread(medians), "rounds_ms": medians,
                "peak_mib": round(report["peak_mib"], 1), "threads": report["threads"], "blas": report["blas"],
            })  # fmt: skip
    return rows


def run(options: argparse.Namespace) -> dict[str, Any]:
    info = harness.machine(PACKAGES)
    harness.announce(info)
    chosen = [(framework, variant) for framework in ["tinygan", *options.against]
              for variant in harness.variants_of(VARIANTS, framework)]
    start = ring_start(options.batch)
    rows, failed, ratio = [], [], {}
    for steps in options.steps:
        running, broken = check(steps, chosen, start, options)
        found = measure(steps, running, start, options)
        rows, failed = [*rows, *found], [*failed, *broken]
        ratio[str(steps)] = harness.ratios(found)
    settings = {"batch": options.batch, "rounds": options.rounds, "repeats": options.repeats, "threads": options.threads,
                "removed_from_environment": harness.removed_overrides()}  # fmt: skip
    return {"machine": info, "settings": settings, "rows": rows, "ratio": ratio, "failed": failed}


def show(result: dict[str, Any]) -> str:
    rows = []
    for row in result["rows"]:
        ours = min(r["median_ms"] for r in result["rows"] if r["steps"] == row["steps"] and r["framework"] == "tinygan")
        rows.append({**row, "ratio": ours / row["median_ms"]})
    lines = [harness.markdown(rows, COLUMNS), ""]
    lines += [f"K = {k}: tinygan / best of {peer}: {ratio}" for k, peers in result["ratio"].items()
              for peer, ratio in peers.items()]  # fmt: skip
    lines += [f"did not run: K = {row['steps']}: {row['framework']} {row['variant']}: {row['error']}"
              for row in result["failed"]]  # fmt: skip
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    return harness.main(arguments(argv), run, show)


if __name__ == "__main__":
    sys.exit(main())
