"""What the benchmarks share: workers that take turns, medians and ratios, a description of the machine, output.

Frameworks never share a process: their thread pools would fight. They never run at the same time either: a worker is
stopped (SIGSTOP) whenever it is not answering a call, so an idle pool that spins cannot slow the subject at work.
"""
import json
import os
import pickle
import platform
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
OVERRIDES = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")  # they replace OpenBLAS's own choice of kernels
THREAD_VARIABLES = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "PJRT_NPROC", "NPROC",
)  # fmt: skip
Row = dict[str, Any]


def cores() -> list[int]:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def removed_overrides() -> dict[str, str]:
    """The variables that are kept from the workers, with the values that they have here."""
    return {name: os.environ[name] for name in OVERRIDES if name in os.environ}


def worker_environment(threads: int) -> dict[str, str]:
    """This environment without `OVERRIDES`; the same number of threads for everybody; this checkout importable."""
    environment = {name: value for name, value in os.environ.items() if name not in OVERRIDES}
    environment.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    # torch.compile's pool of compiler processes would outlive the compilation.
    environment["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
    paths = [str(ROOT), str(HERE), *filter(None, [environment.get("PYTHONPATH")])]
    environment["PYTHONPATH"] = os.pathsep.join(paths)
    return environment


class WorkerError(RuntimeError):
    """A call failed in the worker: the message is its exception, `details` the worker's traceback."""

    def __init__(self, message: str, details: str = "") -> None:
        super().__init__(message)
        self.details = details


class Worker:
    """A process with one subject. It runs only while it answers a call."""

    def __init__(self, module: str, threads: int) -> None:
        self.module = module
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "worker.py"), module, ",".join(map(str, cores()[:threads]))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=worker_environment(threads),
        )

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def call(self, method: str, /, **arguments: Any) -> Any:
        """`Served.method(**arguments)` in the worker. WorkerError, with its traceback, if that raises or it dies."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self._signal("SIGCONT")
        try:
            pickle.dump((method, arguments), self.process.stdin)
            self.process.stdin.flush()
            succeeded, answer = pickle.load(self.process.stdout)
        except (EOFError, BrokenPipeError) as error:
            raise WorkerError(f"{self.module}: the worker died in {method} (exit {self.process.wait()})") from error
        self._signal("SIGSTOP")
        if not succeeded:
            raise WorkerError(*answer)
        return answer

    def close(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.kill()  # works on a stopped process too; there is nothing to save
        self.process.wait()
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.stdout.close()

    def _signal(self, name: str) -> None:
        if hasattr(signal, name):  # not on Windows, where idle workers merely wait
            self.process.send_signal(getattr(signal, name))


def take_turns(rounds: int, turns: Mapping[Any, Callable[[], Any]], progress: str = "round") -> dict[Any, list[Any]]:
    """Call every turn once a round, one after the other, each round beginning with the next; results by key."""
    results: dict[Any, list[Any]] = {key: [] for key in turns}
    keys = list(turns)
    for round_ in range(rounds):
        say(f"{progress} {round_ + 1} of {rounds}")
        shift = round_ % len(keys) if keys else 0
        for key in keys[shift:] + keys[:shift]:
            results[key].append(turns[key]())
    return results


def spread(figures: Iterable[float], unit: str = "ms") -> Row:
    """Median, minimum and maximum of figures, rounded to five digits, under names that end in the unit."""
    figures = list(figures)
    values = {"median": statistics.median(figures), "min": min(figures), "max": max(figures)}
    return {f"{name}_{unit}": float(f"{value:.5g}") for name, value in values.items()}


def ratios(rows: Sequence[Row], figure: str = "median_ms", ours: str = "tinygan") -> dict[str, float]:
    """By peer: our best variant's figure over that of the peer's best variant. Below 1 we are faster."""
    best: dict[str, float] = {}
    for row in rows:
        best[row["framework"]] = min(row[figure], best.get(row["framework"], float("inf")))
    if ours not in best:
        return {}
    return {peer: round(best[ours] / time, 3) for peer, time in best.items() if peer != ours}


def machine(packages: Sequence[str]) -> dict[str, Any]:
    """Processor, cores, caches, system, versions of `packages`, and the commit of this checkout."""
    model, flags = _processor()
    versions = {}
    for name in packages:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "processor": model,
        "flags": [flag for flag in ("avx2", "fma", "avx512f", "avx512_vnni", "amx_tile") if flag in flags],
        "cores": len(cores()),
        "caches": _caches(),
        "load_before": [round(load, 2) for load in os.getloadavg()] if hasattr(os, "getloadavg") else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": versions,
        "commit": _commit(),
    }


def _processor() -> tuple[str, list[str]]:
    model, flags = platform.processor() or platform.machine(), []
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                model = value.strip()
            elif name.strip() == "flags":
                return model, value.split()
    except OSError:
        pass
    return model, flags


def _caches() -> dict[str, str]:
    """The first core's caches, by level and kind, as Linux reports them."""
    caches = {}
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            level, kind, size = ((folder / name).read_text().strip() for name in ("level", "type", "size"))
        except OSError:
            continue
        caches[f"L{level} {kind.lower()}"] = size
    return caches


def _commit() -> str | None:
    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True).stdout

    try:
        return git("rev-parse", "HEAD").strip() + (" with changes" if git("status", "--porcelain").strip() else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def markdown(rows: Sequence[Row], columns: Mapping[str, str]) -> str:
    """A Markdown table of `rows`; `columns` maps a row's keys to the headings. Numbers get three digits."""

    def cell(value: Any) -> str:
        return f"{value:.3g}" if isinstance(value, float) and abs(value) < 100 else (
            f"{value:.0f}" if isinstance(value, float) else str(value)
        )  # fmt: skip

    lines = [list(columns.values()), ["---"] * len(columns)]
    lines += [[cell(row.get(key, "")) for key in columns] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def describe(machine: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    flags = " ".join(machine["flags"])
    return f"{machine['processor']} ({flags}), {machine['cores']} cores; Python {machine['python']}; {versions}"


def announce(info: Mapping[str, Any]) -> None:
    """Say on which machine this runs, what is kept from the workers, and whether something else is busy here."""
    say(describe(info))
    for name, value in removed_overrides().items():
        say(f"{name}={value} is kept from the workers: it would override OpenBLAS's choice of kernels")
    if info["load_before"] and info["load_before"][0] > 0.5:
        say(f"the machine is busy (load {info['load_before'][0]}): the figures will be worth little")


def write_json(path: str | Path, result: Mapping[str, Any]) -> None:
    """Write the result whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    temporary.replace(path)


def say(text: str) -> None:
    """Progress goes to standard error, results to standard output."""
    print(text, file=sys.stderr, flush=True)
