"""Where a training step of tinygan spends its time: `python benchmarks/profile_step.py --model dcgan28 --batch 64`. The
model "ring" is the round of `unrolled_step.py` with K = 10, recorded.

The step is captured, as in training, and each kernel of its program is timed (`tg.profile`). With `--eager`, the step runs
without a capture and each function of the CPU backend is timed. What is left then is recording the graph, walking back, and
other Python. `--layers` is the same with a row for every layer's convolutions.
"""
import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import harness
from models import MODELS, start
from unrolled_ring import ring_start

PACKAGES = ["tinygan", "numpy", "numba"]
RING, STEPS_AHEAD = "ring", 10
SMALL = 0.01  # of the step
AROUND = "Python around the program: arguments, keys, counts, schedules, results"
COLUMNS = {"part": "part", "calls": "calls", "ms": "ms", "share": "share of the step"}
PARTS = {
    "conv2d": "convolutions", "conv2d_input_grad": "transposed convolutions, gradients by the input",
    "conv2d_weight_grad": "gradients by the weight", "batch_norm": "batch normalisation",
    "batch_norm_sums": "batch normalisation", "batch_norm_input_grad": "batch normalisation",
    "batch_norm_sums_vjp": "batch normalisation", "batch_norm_input_grad_vjp": "batch normalisation",
    "matmul": "dense layers", "dense": "dense layers", "dense_parameter_grads": "dense layers", "mlp": "perceptrons",
    "mlp_grad": "perceptrons", "mlp_second": "perceptrons", "adam_grad": "Adam",
    "add": "sums and products of elements", "subtract": "sums and products of elements",
    "multiply": "sums and products of elements", "activation": "activations", "activation_grad": "activations",
    "adam": "Adam", "random_normal": "noise and losses", "random_uniform": "noise and losses",
    "bce_with_logits": "noise and losses", "bce_with_logits_grad": "noise and losses", "reshape": "orders of memory",
    "sum": "sums, gradients of biases",
}  # fmt: skip


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=[*MODELS, RING], default="dcgan28")
    parser.add_argument("--batch", type=harness.count, default=64, help="examples in a batch")
    parser.add_argument("--steps", type=harness.count, default=20, help="timed steps")
    parser.add_argument("--eager", action="store_true", help="profile the step without a capture")
    parser.add_argument("--layers", action="store_true", help="as --eager, with a row for every layer's convolutions")
    parser.add_argument("--json", help="write the result here")
    return parser.parse_args(argv)


class Clock:
    """Replaces the functions of a module by timed ones, and counts calls and seconds by part."""

    def __init__(self, module: Any, describe: Callable[[str, tuple[Any, ...]], str]) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.calls: defaultdict[str, int] = defaultdict(int)
        self._inside = False
        for name in PARTS:
            setattr(module, name, self._timed(getattr(module, name), name, describe))

    def _timed(self, function: Callable[..., Any], name: str, describe: Callable[[str, tuple[Any, ...]], str]) -> Any:
        def timed(*positional: Any, **named: Any) -> Any:
            if self._inside:  # called by another timed function
                return function(*positional, **named)
            self._inside = True
            begin = time.perf_counter()
            try:
                return function(*positional, **named)
            finally:
                part = describe(name, positional)
                self.seconds[part] += time.perf_counter() - begin
                self.calls[part] += 1
                self._inside = False

        return timed


def build(options: argparse.Namespace) -> Any:
    """The object whose step is profiled."""
    if options.model == RING:
        import unrolled_tinygan

        return unrolled_tinygan.Subject(ring_start(options.batch).astype("float32"), STEPS_AHEAD, "recorded eager", 0)
    import subject_tinygan

    model = MODELS[options.model]
    return subject_tinygan.Subject(model, start(model, options.batch).astype("float32"), "eager", 0)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Run the whole measurement. Returns the content of the JSON file."""
    info = harness.machine(PACKAGES)
    harness.announce(info)
    eager = options.eager or options.layers
    rows, total = (eager_rows if eager else captured_rows)(options)
    settings = {"model": options.model, "batch": options.batch, "steps": options.steps, "step_ms": round(total, 2),
                "captured": not eager}  # fmt: skip
    return {"machine": info, "settings": settings, "rows": rows}


def captured_rows(options: argparse.Namespace) -> tuple[list[harness.Row], float]:
    """The kernels of the recorded step, and the milliseconds of a replay. Kernels that take less than a hundredth of the
    step are one row."""
    import tinygan as tg

    subject = build(options)
    profile = tg.profile(subject.gan.step, subject.real, rounds=options.steps)
    large = [row for row in profile.rows if row.ms >= SMALL * profile.step_ms]
    parts = [(row.name, row.calls, row.ms) for row in large]
    for title, small in (
        ("other kernels", [row for row in profile.rows if row not in large and not row.name.startswith("numpy.")]),
        ("other functions of NumPy", [row for row in profile.rows if row not in large and row.name.startswith("numpy.")]),
    ):
        parts.append((title, sum(row.calls for row in small), sum(row.ms for row in small)))
    around = profile.step_ms - profile.program_ms
    whole = profile.parts_ms + around
    parts.append((AROUND, "", around))
    return [
        {"part": part, "calls": calls, "ms": round(ms, 3), "share": f"{ms / whole:.0%}"}
        for part, calls, ms in parts
    ], profile.step_ms  # fmt: skip


def eager_rows(options: argparse.Namespace) -> tuple[list[harness.Row], float]:
    """The functions of the CPU backend in a step without a capture, and the step's milliseconds."""
    from tinygan.backends import cpu
    from tinygan.kernels.cpu.conv import planner
    from tinygan.kernels.winograd import DIRECT

    def describe(name: str, positional: tuple[Any, ...]) -> str:
        part = PARTS[name]
        if not name.startswith("conv2d"):
            return part
        g = positional[2]
        kernels, channels = (
            (positional[1].shape[1], positional[0].shape[1]) if name == "conv2d_weight_grad" else positional[1].shape[:2]
        )
        if options.layers:
            return f"{part}: {channels} channels of {g.input[0]}x{g.input[1]}, {kernels} of {g.output[0]}x{g.output[1]}"
        if g.output == (1, 1) or g.input == (1, 1):
            return f"{part}: on 1x1"
        tiled = planner.tile_on_cpu(g, channels, kernels) != DIRECT
        return f"{part}: tiled" if tiled else f"{part}: direct (1 or 3 channels)"

    subject = build(options)
    for _ in range(3):
        subject.step()
    clock = Clock(cpu, describe)
    begin = time.perf_counter()
    for _ in range(options.steps):
        subject.step()
    total = (time.perf_counter() - begin) / options.steps * 1e3
    milliseconds = {part: seconds / options.steps * 1e3 for part, seconds in clock.seconds.items()}
    calls = {part: count // options.steps for part, count in clock.calls.items()}
    milliseconds["recording, walking back and other Python"] = total - sum(milliseconds.values())
    rows = [
        {"part": part, "calls": calls.get(part, ""), "ms": round(ms, 2), "share": f"{ms / total:.0%}"}
        for part, ms in sorted(milliseconds.items(), key=lambda item: -item[1])
    ]  # fmt: skip
    return rows, total


def show(result: dict[str, Any]) -> str:
    return f"{harness.markdown(result['rows'], COLUMNS)}\n\nthe step: {result['settings']['step_ms']} ms"


def main(argv: list[str] | None = None) -> int:
    return harness.main(arguments(argv), run, show)


if __name__ == "__main__":
    sys.exit(main())
