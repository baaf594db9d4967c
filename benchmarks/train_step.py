"""A whole training step of a GAN, side by side:

    python benchmarks/train_step.py --model vanilla --batch 128 --against torch,jax --json result.json

A step is one update of each network, with new noise for each, and with the penalties of the model in the discriminator's;
drawing the noise is included. Every variant of a framework has a process of its own. They take turns, with a few dozen steps
in each round. The result is the median over the rounds of the median step in a round. Models: vanilla, dcgan28, dcgan64, and
with second derivatives wgan_gp and modern; PyTorch and JAX have all of them. See README.md in this folder.

    python benchmarks/train_step.py --model vanilla --against "" --before ../tinygan-of-yesterday

compares this tinygan with that of another checkout, in the same way.

Below the table stands the floor: the least time that this machine needs for the products and Adam's pass (see `floor.py`).
"""
import argparse
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from importlib.util import find_spec
from typing import Any

import equality
import floor
import harness
import jax_flags
from harness import Row, Worker, WorkerError, say
from models import MODELS, Model, Start, start

DENSE = {
    "tinygan": ["captured", "eager"],
    "torch": ["eager", "eager joined", "compiled", "compiled joined"],
    "jax": jax_flags.both_ways(["jit", "jit joined", "jit rbg", "jit joined rbg"]),
}
PENALISED = {  # convolutional, and nothing couples the examples of a batch
    "tinygan": ["captured", "eager"],
    "torch": [
        "eager", "eager channels-last", "eager joined", "eager joined channels-last", "compiled joined",
        "compiled functional", "compiled functional channels-last", "compiled functional joined",
        "compiled functional joined channels-last",
    ],
    "jax": jax_flags.both_ways(["jit nchw", "jit nhwc", "jit joined nchw", "jit joined nhwc"]),
}
CONVOLUTIONAL = {  # their batch norm couples examples, so real and generated ones are not joined
    "tinygan": ["captured", "eager"],
    "torch": ["eager", "eager channels-last", "compiled", "compiled channels-last"],
    "jax": jax_flags.both_ways(["jit nchw", "jit nhwc"]),
}
PEERS = ["torch", "jax"]
PACKAGES = ["tinygan", "numpy", "numba", "torch", "jax", "jaxlib"]
COLUMNS = {
    "framework": "framework", "variant": "variant", "median_ms": "step, ms (median)", "min_ms": "min", "max_ms": "max",
    "peak_mib": "peak memory, MiB", "threads": "threads", "ratio": "tinygan / this", "over_floor": "step / floor",
}  # fmt: skip
LIBRARIES = ["tinygan", "numpy", "torch"]  # whose products are timed for the floor
COPY = "copy"
RATE_SECONDS = 0.2  # for each library and round
LEAST_WARM_UP = 2  # tinygan's second step is recorded
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
    variants = DENSE if not model.convolutional else CONVOLUTIONAL if model.couples_examples else PENALISED
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
            with harness.worker("subject", framework, threads, before, variant) as worker:
                evidence = equality.collect(name, worker, model, point, variant, threads)
                if framework in ("tinygan", harness.BEFORE) and "eager" not in variant:
                    equality.check_replays(name, worker, variant, model=model, start=point.astype("float32"),
                                           threads=threads)
        except WorkerError as error:
            if reference is None:
                raise
            say(f"{name} does not run here: {error}\n{error.details}")
            failed.append({"framework": framework, "variant": variant, "error": str(error)})
            continue
        equality.check_moves(evidence, model.optimiser)
        results[name] = {"float32_gradients": equality.check_rounding(evidence)}
        if reference is None:
            reference = evidence
        else:
            results[name] |= equality.compare(reference, evidence)
    return results, failed


def measure(model: Model, point: Start, chosen: list[Entry], options: argparse.Namespace,
            steps_for: Callable[[Worker], int] | None = None, beside: Mapping[str, Callable[[], float]] | None = None,
            ) -> tuple[list[Row], dict[str, list[float]]]:
    """Time all entries. They take turns, each in its own process.

    steps_for: how many steps a worker makes in a round, `options.steps` by default. beside: what else is measured in every
    round. Returns the rows of the table, and the results of `beside`."""
    warm_up = max(options.warm_up, LEAST_WARM_UP)
    with ExitStack() as stack:
        workers, starts, steps, seconds = {}, {}, {}, {}
        for entry in chosen:
            say(f"starting {' '.join(entry)}")
            begin = time.perf_counter()
            worker = stack.enter_context(harness.worker("subject", entry[0], options.threads, options.before, entry[1]))
            worker.call("create", model=model, start=point, variant=entry[1], threads=options.threads)
            worker.call("time", steps=1, warm_up=warm_up)  # compiles, and records
            seconds[entry] = time.perf_counter() - begin
            steps[entry] = steps_for(worker) if steps_for else options.steps
            starts[entry] = worker.call("reset_peak")
            workers[entry] = worker
        turns: dict[Any, Callable[[], Any]] = {
            entry: (lambda entry=entry, worker=worker: worker.call("time", steps=steps[entry], warm_up=warm_up))
            for entry, worker in workers.items()
        }  # fmt: skip
        times = harness.take_turns(options.rounds, {**turns, **(beside or {})})
        rows = []
        for entry, worker in workers.items():
            medians = [harness.spread(some)["median_ms"] for some in times[entry]]
            report = worker.call("report")
            rows.append({
                "framework": entry[0], "variant": entry[1], **harness.spread(medians),
                "peak_mib": round(report["peak_mib"], 1), "threads": report["threads"], "blas": report["blas"],
                "start_peak_mib": round(starts[entry], 1), "start_s": round(seconds[entry], 2), "rounds_ms": medians,
                "imports_mib": round(report["imports_mib"], 1),
            })  # fmt: skip
    return rows, {name: times[name] for name in beside or {}}


def rate_workers(stack: ExitStack, threads: int) -> dict[str, Worker]:
    """A process for each library whose products are timed, and one that copies."""
    found = {}
    for library in (*(name for name in LIBRARIES if name == "tinygan" or find_spec(name)), COPY):
        found[library] = stack.enter_context(Worker("floor_rates", threads))
        found[library].call("create", library=library, threads=threads)
    return found


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
    with ExitStack() as stack:
        rating = rate_workers(stack, options.threads)
        counts = rating["tinygan"].call("ask", method="operations", model=model, batch=options.batch)
        beside = {
            name: (lambda worker=worker: worker.call("ask", method="rate", seconds=RATE_SECONDS))
            for name, worker in rating.items()
        }  # fmt: skip
        rows, rates = measure(model, point, [entry for entry in chosen if entry not in broken], options, beside=beside)
    copies = rates.pop(COPY)
    least = floor.floor(counts, floor.parameters(model), rates, copies)
    for row in rows:
        row["over_floor"] = round(row["median_ms"] / least["ms"], 3)
    settings = {
        "model": options.model, "batch": options.batch, "dtype": "float32", "optimiser": vars(model.optimiser),
        "check_batch": check_batch, "rounds": options.rounds, "steps": options.steps, "warm_up": options.warm_up,
        "threads": options.threads,
        "removed_from_environment": harness.removed_overrides(),
    }  # fmt: skip
    return {
        "machine": info, "settings": settings, "rows": rows, "ratio": harness.ratios(rows), "floor": least,
        "check": agreement, "failed": failed,
    }  # fmt: skip


def show(result: dict[str, Any]) -> str:
    """A text with the table, the ratios, and what did not run."""
    ours = min((row["median_ms"] for row in result["rows"] if row["framework"] == "tinygan"), default=None)
    rows = [{**row, "ratio": ours / row["median_ms"] if ours else ""} for row in result["rows"]]
    lines = [harness.markdown(rows, COLUMNS), "", floor.describe(result["floor"])]
    lines += [f"tinygan / best of {peer}: {ratio:.3f}" for peer, ratio in result["ratio"].items()]
    lines += [f"{row['framework']} {row['variant']}: {row['blas']}" for row in result["rows"]]
    lines += [f"did not run: {row['framework']} {row['variant']}: {row['error']}" for row in result["failed"]]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    return harness.main(arguments(argv), run, show)


if __name__ == "__main__":
    sys.exit(main())
