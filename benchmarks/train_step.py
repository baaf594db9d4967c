"""A whole training step of a GAN, side by side:

    python benchmarks/train_step.py --model vanilla --batch 128 --against torch,jax --json result.json

A step is one update of each network, with new noise for each; drawing the noise is included. Every variant of a framework
has a process of its own. They take turns, with a few dozen steps in each round. The result is the median over the rounds of
the median step in a round. Models: vanilla, dcgan28, dcgan64. See README.md in this folder.

    python benchmarks/train_step.py --model vanilla --against "" --before ../tinygan-of-yesterday

compares this tinygan with that of another checkout, in the same way.
"""
import argparse
import sys
from contextlib import ExitStack
from typing import Any

import equality
import harness
from harness import Row, Worker, WorkerError, say
from models import MODELS, Model, Start, start

DENSE = {
    "tinygan": ["default"],
    "torch": ["eager", "eager joined", "compiled", "compiled joined"],
    "jax": ["jit", "jit joined", "jit rbg", "jit joined rbg"],
}
CONVOLUTIONAL = {  # their batch norm couples examples, so real and generated ones are not joined
    "tinygan": ["default"],
    "torch": ["eager", "eager channels-last", "compiled", "compiled channels-last"],
    "jax": ["jit nchw", "jit nhwc"],
}
PEERS = ["torch", "jax"]
PACKAGES = ["tinygan", "numpy", "numba", "torch", "jax", "jaxlib"]
COLUMNS = {
    "framework": "framework", "variant": "variant", "median_ms": "step, ms (median)", "min_ms": "min", "max_ms": "max",
    "peak_mib": "peak memory, MiB", "threads": "threads", "ratio": "tinygan / this",
}  # fmt: skip
Entry = tuple[str, str]  # framework, variant


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = harness.flags(__doc__, PEERS, rounds=9, threads=len(harness.cores()))
    parser.add_argument("--model", choices=MODELS, default="vanilla")
    parser.add_argument("--batch", type=harness.count, default=128, help="examples in a batch")
    parser.add_argument("--only", default="", help="run these variants of the peers only, separated by commas")
    parser.add_argument("--steps", type=harness.count, default=40, help="timed steps a round")
    parser.add_argument("--warm-up", type=int, default=5, help="untimed steps before them, in every round")
    parser.add_argument("--check-batch", type=harness.count,
                        help="in the check for the same work (default: --batch, at most 64)")
    options = harness.parse(parser, argv, PEERS)
    options.only = harness.words(options.only)
    return options


def entries(model: Model, frameworks: list[str], only: list[str]) -> list[Entry]:
    """Every variant of every framework to run. tinygan's comes first, because the others are compared with it."""
    variants = CONVOLUTIONAL if model.convolutional else DENSE
    return [
        (framework, variant)
        for framework in frameworks
        for variant in harness.variants_of(variants, framework)
        if framework in ("tinygan", harness.BEFORE) or not only or variant in only
    ]


def check(model: Model, point: Start, chosen: list[Entry], threads: int,
          before: str | None = None) -> tuple[dict[str, Any], list[Row]]:
    """Compare every entry with the first one. Returns the results by entry, and the entries that could not run."""
    results: dict[str, Any] = {}
    failed: list[Row] = []
    reference = None
    for framework, variant in chosen:
        name = f"{framework} {variant}"
        say(f"checking {name}")
        try:
            with harness.worker("subject", framework, threads, before) as worker:
                evidence = equality.collect(name, worker, model, point, variant, threads)
        except WorkerError as error:
            if reference is None:
                raise
            say(f"{name} does not run here: {error}\n{error.details}")
            failed.append({"framework": framework, "variant": variant, "error": str(error)})
            continue
        equality.check_moves(evidence, model.optimiser.lr)
        results[name] = {"float32_gradients": equality.check_rounding(evidence)}
        if reference is None:
            reference = evidence
        else:
            results[name] |= equality.compare(reference, evidence)
    return results, failed


def measure(model: Model, point: Start, chosen: list[Entry], options: argparse.Namespace) -> list[Row]:
    """Time all entries. They take turns, each in its own process."""
    with ExitStack() as stack:
        workers, starts = {}, {}
        for framework, variant in chosen:
            say(f"starting {framework} {variant}")
            worker = stack.enter_context(harness.worker("subject", framework, options.threads, options.before))
            worker.call("create", model=model, start=point, variant=variant, threads=options.threads)
            worker.call("time", steps=1, warm_up=options.warm_up)  # compiles
            starts[framework, variant] = worker.call("reset_peak")
            workers[framework, variant] = worker

        def turn(worker: Worker) -> list[float]:
            return worker.call("time", steps=options.steps, warm_up=options.warm_up)

        turns = {entry: (lambda worker=worker: turn(worker)) for entry, worker in workers.items()}
        times = harness.take_turns(options.rounds, turns)
        rows = []
        for (framework, variant), worker in workers.items():
            medians = [harness.spread(steps)["median_ms"] for steps in times[framework, variant]]
            report = worker.call("report")
            rows.append({
                "framework": framework, "variant": variant, **harness.spread(medians),
                "peak_mib": round(report["peak_mib"], 1), "threads": report["threads"], "blas": report["blas"],
                "start_peak_mib": round(starts[framework, variant], 1), "rounds_ms": medians,
                "imports_mib": round(report["imports_mib"], 1),
            })  # fmt: skip
    return rows


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Run the whole benchmark. Returns the content of the JSON file."""
    info = harness.machine(PACKAGES)
    harness.announce(info)
    model = MODELS[options.model]
    chosen = entries(model, ["tinygan", *options.against], options.only)
    check_batch = options.check_batch or min(options.batch, 64)
    agreement, failed = check(model, start(model, check_batch), chosen, options.threads, options.before)
    broken = {(row["framework"], row["variant"]) for row in failed}
    point = start(model, options.batch).astype("float32")
    rows = measure(model, point, [entry for entry in chosen if entry not in broken], options)
    settings = {
        "model": options.model, "batch": options.batch, "dtype": "float32", "optimiser": vars(model.optimiser),
        "check_batch": check_batch, "rounds": options.rounds, "steps": options.steps, "warm_up": options.warm_up,
        "threads": options.threads,
        "removed_from_environment": harness.removed_overrides(),
    }  # fmt: skip
    return {
        "machine": info, "settings": settings, "rows": rows, "ratio": harness.ratios(rows), "check": agreement,
        "failed": failed,
    }  # fmt: skip


def show(result: dict[str, Any]) -> str:
    """A text with the table, the ratios, and what did not run."""
    ours = min((row["median_ms"] for row in result["rows"] if row["framework"] == "tinygan"), default=None)
    rows = [{**row, "ratio": ours / row["median_ms"] if ours else ""} for row in result["rows"]]
    lines = [harness.markdown(rows, COLUMNS), ""]
    lines += [f"tinygan / best of {peer}: {ratio:.3f}" for peer, ratio in result["ratio"].items()]
    lines += [f"{row['framework']} {row['variant']}: {row['blas']}" for row in result["rows"]]
    lines += [f"did not run: {row['framework']} {row['variant']}: {row['error']}" for row in result["failed"]]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    return harness.main(arguments(argv), run, show)


if __name__ == "__main__":
    sys.exit(main())
