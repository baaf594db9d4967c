"""All checks and measurements of tinygan on a GPU, in one command and within some minutes:

    python benchmarks/gpu.py --out gpu-results --minutes 9

It runs the tests on the GPU, checks that tinygan does the same work as PyTorch, times training steps of both, compares
kernels with what the card can do, and checks that resuming is exact to the last bit. It needs CuPy, and PyTorch with CUDA
for the comparison. It writes gpu.json and gpu.md into the folder after every part. Parts that do not fit into the minutes
are skipped and listed. See README.md in this folder.
"""
from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import gpu_tables
import harness
from gpu_worker import Here, Outcome, Worker
from harness import say

from tinygan.devices import DeviceError

BEGIN = time.monotonic()
PACKAGES = ["tinygan", "numpy", "numba", "cupy-cuda12x", "cupy-cuda13x", "torch"]
RING = "unrolled ring"
MODELS = ("dcgan64", "dcgan28", "vanilla")
PATIENCE, PATIENT = 4, 180  # a part hangs if it takes PATIENCE times the expected time, and at least PATIENT seconds
GRACE = 10  # so many seconds more than --minutes are allowed


class Part(NamedTuple):
    """One entry of the plan. kind: what it measures, and so which table it belongs to. seconds: the expected time on an
    H100."""

    name: str
    kind: str
    module: str
    function: str
    arguments: dict[str, Any]
    seconds: float


def plan(emulated: bool) -> list[Part]:
    """All parts, the most important first."""
    batch, ring_batch = (2, 4) if emulated else (128, 512)
    parts = [Part("tests", "tests", "", "", {}, 60)]

    def steps(name: str, size: int, precision: str, seconds: float, compiled: bool = False) -> Part:
        title = f"steps: {name}, batch {size}, {precision}{', compiled' if compiled else ''}"
        arguments = {"name": name, "batch": size, "precision": precision, "compiled": compiled}
        return Part(title, "steps", "gpu_steps", "steps", arguments, seconds)

    for name in (*MODELS, RING):
        parts.append(Part(f"equality: {name}", "equality", "gpu_steps", "same_work", {"name": name}, 25))
        size = ring_batch if name == RING else batch
        parts += [steps(name, size, precision, 20) for precision in _precisions(emulated, name)]
    parts.append(Part("floor: vanilla", "floor", "gpu_kernels", "of_a_step", {"batch": batch}, 8))
    for precision in _precisions(emulated, ""):
        parts += [
            Part(f"kernels: {group}, {precision}", "kernels", "gpu_kernels", "of_kernels",
                 {"group": group, "batch": batch, "precision": precision}, 15)
            for group in ("convolutions", "products", "others") if (group, precision) != ("others", "tf32")
        ]  # fmt: skip
    parts += [Part(f"processes: {name}", "processes", "gpu_processes", "two", {"name": name, "batch": batch}, 30)
              for name in reversed(MODELS)]  # fmt: skip
    for name in ("vanilla", "dcgan28"):
        parts.append(Part(f"resume: {name}", "resume", "gpu_steps", "resume", {"name": name}, 10))
    parts += [
        Part(f"profile: {name}, {precision}", "profile", "gpu_kernels", "profile",
             {"name": name, "batch": batch, "precision": precision}, 12)
        for name, precision in (("vanilla", "float32"), ("dcgan64", "float32"), ("dcgan64", "tf32"), ("dcgan28", "float32"))
    ]  # fmt: skip
    compiling = {"vanilla": 70.0, "dcgan28": 120.0, "dcgan64": 180.0}
    parts += [steps(name, batch, "float32", seconds, compiled=True) for name, seconds in compiling.items()]
    if not emulated:
        parts += [steps(name, size, precision, 15) for size in (64, 512) for precision in ("float32", "tf32")
                  for name in MODELS]
    return [part._replace(seconds=1) for part in parts] if emulated else parts


def _precisions(emulated: bool, name: str) -> list[str]:
    """The precisions to measure. On the emulated device TF32 is the same as float32, so it is left out."""
    return ["float32", "tf32"] if not emulated or name == "vanilla" else ["float32"]


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for gpu.json and gpu.md")
    parser.add_argument("--minutes", type=float, default=9.0, help="from the start of the command; parts that would take "
                        "longer are skipped")  # fmt: skip
    parser.add_argument("--device", default="cuda", help="cuda or cuda:N")
    parser.add_argument("--only", default="", metavar="TEXT", help="parts whose name contains it (one of several, separated "
                        "by semicolons), and the checks that they need")  # fmt: skip
    parser.add_argument("--emulate", action="store_true", help="run through all of it without a GPU, on tiny sizes")
    parser.add_argument("--tests", action=argparse.BooleanOptionalAction, default=True)
    return parser.parse_args(argv)


def chosen(parts: list[Part], only: str) -> list[Part]:
    """The parts that `--only` asks for, and the checks of the models that they time."""
    if not only:
        return parts
    wanted = [part for part in parts if any(text in part.name for text in only.split(";"))]
    models = {part.arguments["name"] for part in wanted if part.kind == "steps"}
    return [part for part in parts if part in wanted or (part.kind == "equality" and part.arguments["name"] in models)]


def run_tests(device: str, seconds: float) -> Outcome:
    """Run, in a process of their own, the GPU versions of the tests that exist for every device."""
    if importlib.util.find_spec("pytest") is None:
        return Outcome("skipped", {}, "pytest is not installed")
    paths = [str(harness.HERE), str(harness.ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    # Other installed plugins are turned off, because their warnings would count as errors.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    if ":" in device:
        environment["CUDA_VISIBLE_DEVICES"] = device.partition(":")[2]
    command = [sys.executable, "-m", "pytest", "-p", "gpu_tests", "-p", "no:cacheprovider", "--tb=short", "-rf"]
    if importlib.util.find_spec("xdist") is not None:  # most of the time is compilation, which uses one core per process
        command += ["-p", "xdist.plugin", "-n", str(max(1, min(12, (os.cpu_count() or 1) - 2))), "--dist", "worksteal"]
    try:
        done = subprocess.run(command, cwd=harness.ROOT, env=environment, capture_output=True, text=True, timeout=seconds,
                              check=False)
    except subprocess.TimeoutExpired as error:
        output = error.stdout.decode(errors="replace") if isinstance(error.stdout, bytes) else error.stdout or ""
        return Outcome("failed", {}, f"not finished within {seconds:.0f} s: {output[-300:]}", output[-20_000:])
    lines = done.stdout.splitlines()
    failures = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    summary = lines[-1].strip("= ") if lines else done.stderr[-300:]
    return Outcome("done", {"status": done.returncode, "summary": summary, "failures": failures,
                            "output": (done.stdout + done.stderr)[-50_000:]})  # fmt: skip


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Run all parts in order. The results are written after each."""
    device = "emulated" if options.emulate else options.device
    parts = chosen(plan(options.emulate), options.only)
    rows: list[dict[str, Any]] = [
        {"name": part.name, "kind": part.kind, "status": "waiting", "seconds": "", "expected": part.seconds, "error": ""}
        for part in parts
    ]
    settings = {"device": device, "minutes": options.minutes, "emulated": options.emulate, "tests": options.tests,
                "only": options.only}  # fmt: skip
    result: dict[str, Any] = {
        "machine": harness.machine(PACKAGES), "settings": settings, "card": {}, "parts": rows, "rows": [], "ratio": [],
    }  # fmt: skip
    runner = Here(device) if options.emulate else Worker(device)

    def left() -> float:
        return 60 * options.minutes - (time.monotonic() - options.begin)

    try:
        if left() > 0:
            outcome = runner.call("gpu_card", "looked_at", {}, max(left() / 3, 60))
            if outcome.status != "done":
                raise DeviceError(f"{outcome.error}\n{outcome.traceback}".strip())
            result["card"] = outcome.result
        for part, row in zip(parts, rows, strict=True):
            begin = time.monotonic()
            _perform(part, row, rows, runner, result, left())
            if "result" in row:
                row["seconds"] = round(time.monotonic() - begin, 1)
            result["rows"] = [step for done in gpu_tables.of_kind(rows, "steps") for step in done["result"]["rows"]]
            result["ratio"] = gpu_tables.ratios(rows)
            say(f"{row['status']}: {part.name} {row['seconds']} {row['error']}")
            write(Path(options.out), result)
    finally:
        runner.stop()
    return result


def _perform(part: Part, row: dict[str, Any], rows: list[dict[str, Any]], runner: Here | Worker, result: dict[str, Any],
             left: float) -> None:
    """Run one part and add its result to `row`, or the reason why it was not run."""
    if part.kind == "steps":
        check = f"equality: {part.arguments['name']}"
        status = next(other["status"] for other in rows if other["name"] == check)
        if status != "done":
            row |= {"status": "skipped", "error": f"without its check for the same work ({status})"}
            return
    if part.kind == "tests" and (result["settings"]["emulated"] or not result["settings"]["tests"]):
        row |= {"status": "skipped", "error": "not asked for (--no-tests), or without a GPU"}
        return
    if part.seconds > left:
        row |= {"status": "skipped", "error": f"would take about {part.seconds:.0f} s, {max(left, 0):.0f} s are left"}
        return
    say(f"{part.name}: about {part.seconds:.0f} s, {left:.0f} s left")
    seconds = min(max(PATIENCE * part.seconds, PATIENT), left + GRACE)
    if part.kind == "tests":
        outcome = run_tests(result["settings"]["device"], min(seconds, max(left / 3, part.seconds)))
    else:
        rates = {"rates": result["card"]["rates"]} if part.kind in ("kernels", "floor") else {}
        outcome = runner.call(part.module, part.function, {**part.arguments, **rates}, seconds)
    row |= outcome._asdict()


def write(folder: Path, result: dict[str, Any]) -> None:
    """Write gpu.json and gpu.md."""
    harness.write_json(folder / "gpu.json", result)
    (folder / "gpu.md").write_text(gpu_tables.show(result) + "\n", encoding="utf-8")


def main(argv: list[str] | None = None) -> int:
    """Returns 0 if everything that ran is right, 1 if something failed or was refused, 2 if there is no such device."""
    options = arguments(argv)
    options.begin = BEGIN if argv is None else time.monotonic()
    try:
        result = run(options)
    except DeviceError as error:
        say(f"gpu.py: {error}")
        return 2
    print(gpu_tables.show(result))
    return int(any(map(is_bad, result["parts"])))


def is_bad(row: dict[str, Any]) -> bool:
    """Whether the row shows an error of tinygan."""
    if row["status"] != "done":
        return row["status"] in ("failed", "refused")
    found = row["result"]
    failed = [part for part in found.get("failed", []) if part.get("framework") != "torch"]
    return bool(failed or found.get("resumed_differs") or found.get("eager_differs") or found.get("status"))


if __name__ == "__main__":
    sys.exit(main())
