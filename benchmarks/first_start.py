"""Seconds from the command to the first training step: `python benchmarks/first_start.py --data-dir DIR`.

The first start has an empty cache folder and compiles the kernels. The second one finds them there, as all later ones do.
The command's own `metrics.csv` shows when its first step was done. Runs on Linux only, where XDG_CACHE_HOME names the folder
for caches.
"""
import argparse
import csv
import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import harness
from harness import say

PACKAGES = ["tinygan", "numpy", "numba", "matplotlib"]
EXAMPLE = [sys.executable, str(harness.ROOT / "examples" / "vanilla_mnist.py")]
COLUMNS = {"start": "start", "median_s": "seconds to the first step (median)", "min_s": "min", "max_s": "max"}


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--command", type=shlex.split, default=EXAMPLE, help="default: examples/vanilla_mnist.py")
    parser.add_argument("--data-dir", default=os.environ.get("TINYGAN_DATA"), help="MNIST (default: TINYGAN_DATA)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--timeout", type=float, default=300, help="seconds after which a start has failed")
    parser.add_argument("--json", help="write the result here")
    options = parser.parse_args(argv)
    if sys.platform != "linux":
        parser.error("the caches can be moved on Linux only")
    if not options.data_dir:
        parser.error("--data-dir or TINYGAN_DATA must name the data: a download would be measured otherwise")
    return options


def environment(cache: Path) -> dict[str, str]:
    """The environment variables: caches are in `cache`, bytecode is saved as for a user, BLAS chooses its own kernels, and
    this checkout is imported."""
    kept = {k: v for k, v in os.environ.items() if k not in (*harness.OVERRIDES, "PYTHONDONTWRITEBYTECODE")}
    paths = [str(harness.ROOT), *filter(None, [kept.get("PYTHONPATH")])]
    return {**kept, "XDG_CACHE_HOME": str(cache), "PYTHONPATH": os.pathsep.join(paths)}


def seconds_to_first_step(command: list[str], cache: Path, timeout: float) -> float:
    """Start the command with a run folder of its own, wait for its first step, then end it. If it ends by itself before, or
    takes longer than `timeout`, raises a RuntimeError with the end of its output."""
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "output").open("w+", encoding="utf-8") as output:
        run = Path(folder) / "run"
        begin = time.perf_counter()
        process = subprocess.Popen(
            [*command, "--epochs", "1", "--run-dir", str(run)],
            env=environment(cache), cwd=folder, stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            while True:
                ended = process.poll() is not None
                times = step_times(run / "metrics.csv")
                now = time.perf_counter() - begin
                if times:
                    # The file is written with a delay. Its rows show how much later than the first step the last one was.
                    return now - (times[-1] - times[0])
                if ended or now > timeout:
                    output.seek(0)
                    reason = f"ended with exit status {process.returncode}" if ended else "was ended"
                    end = output.read()[-2000:]
                    raise RuntimeError(f"{shlex.join(command)}: {reason} before its first step\n{end}")
                time.sleep(0.005)
        finally:
            process.kill()
            process.wait()


def step_times(metrics: Path) -> list[float]:
    """The column `seconds` (training time after each step) of the complete lines of a metrics file; empty if there is no
    file yet."""
    try:
        text = metrics.read_text(encoding="utf-8")
    except OSError:
        return []
    rows = csv.DictReader(text[: text.rfind("\n") + 1].splitlines())
    return [float(row["seconds"]) for row in rows]


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Run the whole benchmark. Returns the content of the JSON file."""
    info = harness.machine(PACKAGES)
    harness.announce(info)
    command = [*options.command, "--data-dir", str(Path(options.data_dir).resolve())]
    figures: dict[str, list[float]] = {"first": [], "second": []}
    for repeat in range(options.repeats):
        with tempfile.TemporaryDirectory() as cache:
            for start, seconds in figures.items():
                seconds.append(seconds_to_first_step(command, Path(cache), options.timeout))
                say(f"{repeat + 1} of {options.repeats}: {start} start {seconds[-1]:.2f} s")
    rows = [{"start": start, **harness.spread(seconds, "s")} for start, seconds in figures.items()]
    settings = {
        "command": [part.replace(str(harness.ROOT) + os.sep, "") for part in options.command[1:]],
        "repeats": options.repeats, "removed_from_environment": harness.removed_overrides(),
    }  # fmt: skip
    return {"machine": info, "settings": settings, "rows": rows}


def main(argv: list[str] | None = None) -> int:
    return harness.main(arguments(argv), run, lambda result: harness.markdown(result["rows"], COLUMNS))


if __name__ == "__main__":
    sys.exit(main())
