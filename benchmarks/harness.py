"""The common parts of the benchmarks: workers that take turns, medians and ratios, a description of the machine, output.

Each framework has a process of its own, because thread pools of several frameworks would disturb each other. Only one
process runs at a time: a worker is stopped (SIGSTOP) while it is not answering a call. So its idle threads cannot slow down
the others.
"""
import argparse
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

import jax_flags

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
OVERRIDES = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")  # they replace OpenBLAS's own choice of kernels
THREAD_VARIABLES = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "PJRT_NPROC", "NPROC",
)  # fmt: skip
BEFORE = "before"  # the peer that is tinygan of another checkout
Row = dict[str, Any]


def cores() -> list[int]:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def removed_overrides() -> dict[str, str]:
    """The environment variables that the workers do not get, with their values here."""
    return {name: os.environ[name] for name in OVERRIDES if name in os.environ}


def worker_environment(threads: int) -> dict[str, str]:
    """This environment without `OVERRIDES`, with the same number of threads for every framework, and with this checkout
    importable."""
    environment = {name: value for name, value in os.environ.items() if name not in OVERRIDES}
    environment.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    # torch.compile's pool of compiler processes would outlive the compilation.
    environment["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
    paths = [str(ROOT), str(HERE), *filter(None, [environment.get("PYTHONPATH")])]
    environment["PYTHONPATH"] = os.pathsep.join(paths)
    return environment


class DifferentWorkError(RuntimeError):
    """Two subjects do not compute the same. A benchmark of different work is void."""


class WorkerError(RuntimeError):
    """A call failed in the worker. The message is the worker's exception, and `details` is its traceback."""

    def __init__(self, message: str, details: str = "") -> None:
        super().__init__(message)
        self.details = details


class Worker:
    """A process with one subject. It runs only while it answers a call. checkout: a folder with the `tinygan` to import
    instead of the installed one. extra: variables for its environment."""

    def __init__(self, module: str, threads: int, checkout: str | None = None,
                 extra: Mapping[str, str] | None = None) -> None:
        self.module = module
        environment = {**worker_environment(threads), **(extra or {})}
        if checkout is not None:
            environment["PYTHONPATH"] = os.pathsep.join(filter(None, [checkout, environment.get("PYTHONPATH")]))
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "worker.py"), module, ",".join(map(str, cores()[:threads]))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def call(self, method: str, /, **arguments: Any) -> Any:
        """Call `Served.method(**arguments)` in the worker. Raises WorkerError, with the worker's traceback, if the call
        raises an error or the worker dies."""
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
        if hasattr(signal, name):  # (not on Windows: there idle workers only wait)
            self.process.send_signal(getattr(signal, name))


def flags(description: str | None, peers: Sequence[str], rounds: int, threads: int) -> argparse.ArgumentParser:
    """A parser with the flags of every benchmark that compares frameworks."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", default=",".join(peers), help="peers, separated by commas; '' for tinygan alone")
    parser.add_argument("--rounds", type=count, default=rounds)
    parser.add_argument("--threads", type=count, default=threads, help="cores for each framework")
    parser.add_argument("--before", metavar="DIR", help="a checkout of another version of tinygan, which becomes a peer")
    parser.add_argument("--json", help="write the result here")
    return parser


def parse(parser: argparse.ArgumentParser, argv: list[str] | None, peers: Sequence[str]) -> argparse.Namespace:
    """Parse the flags. `against` becomes a list of known peers. Ends with an error if there are fewer cores than asked
    for."""
    options = parser.parse_args(argv)
    if options.threads > len(cores()):
        parser.error(f"--threads {options.threads}: only {len(cores())} cores are available")
    options.against = words(options.against)
    for name in options.against:
        if name not in peers:
            parser.error(f"--against: no peer {name!r}; there are {', '.join(peers)}")
    if options.before is not None:
        if not Path(options.before, "tinygan", "__init__.py").is_file():
            parser.error(f"--before: {options.before} is no checkout of tinygan")
        options.before = str(Path(options.before).resolve())
        options.against.append(BEFORE)
    return options


def variants_of(variants: Mapping[str, list[str]], framework: str) -> list[str]:
    """The framework's variants. The tinygan of `--before` has the same variants as this one."""
    return variants["tinygan" if framework == BEFORE else framework]


def worker(subject: str, framework: str, threads: int, before: str | None = None, variant: str = "") -> Worker:
    """A process that runs the module `subject`_`framework`. before: the checkout for the framework "before". variant: it may
    have words of `jax_flags`. Raises WorkerError if JAX does not know such a flag."""
    if framework == BEFORE:
        return Worker(f"{subject}_tinygan", threads, before)
    try:
        extra = jax_flags.environment(variant)
    except ValueError as error:
        raise WorkerError(str(error)) from error
    return Worker(f"{subject}_{framework}", threads, extra=extra)


def count(text: str) -> int:
    """A whole number of at least 1, for argparse."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def words(text: str) -> list[str]:
    """"a,b" -> ["a", "b"]; "" -> []."""
    return [word for word in text.split(",") if word]


def main(options: argparse.Namespace, run: Callable[[Any], dict[str, Any]], show: Callable[[dict[str, Any]], str]) -> int:
    """Run the benchmark, write the JSON, and print the table. Returns the exit status. An error is printed as one line,
    after the worker's traceback if there is one."""
    try:
        result = run(options)
    except RuntimeError as error:
        say(f"{getattr(error, 'details', '')}\n{'void: ' * isinstance(error, DifferentWorkError)}{error}".strip())
        return 1
    if options.json:
        write_json(options.json, result)
    print(show(result))
    return 0


def take_turns(rounds: int, turns: Mapping[Any, Callable[[], Any]], progress: str = "round") -> dict[Any, list[Any]]:
    """Call all turns once in each round. Every round begins with another one. Returns the results by key."""
    results: dict[Any, list[Any]] = {key: [] for key in turns}
    keys = list(turns)
    for round_ in range(rounds):
        say(f"{progress} {round_ + 1} of {rounds}")
        shift = round_ % len(keys) if keys else 0
        for key in keys[shift:] + keys[:shift]:
            results[key].append(turns[key]())
    return results


def spread(figures: Iterable[float], unit: str = "ms") -> Row:
    """The median, minimum and maximum of figures, rounded to five digits. Their names end in the unit."""
    figures = list(figures)
    values = {"median": statistics.median(figures), "min": min(figures), "max": max(figures)}
    return {f"{name}_{unit}": float(f"{value:.5g}") for name, value in values.items()}


def ratios(rows: Sequence[Row], figure: str = "median_ms", ours: str = "tinygan") -> dict[str, float]:
    """By peer: the figure of our best variant over that of the peer's best variant. Below 1, we are faster."""
    best: dict[str, float] = {}
    for row in rows:
        best[row["framework"]] = min(row[figure], best.get(row["framework"], float("inf")))
    if ours not in best:
        return {}
    return {peer: float(f"{best[ours] / time:.4g}") for peer, time in best.items() if peer != ours}


def ratio_table(cells: Iterable[tuple[str, str, Mapping[str, float]]]) -> dict[str, dict[str, dict[str, float]]]:
    """Ratios by peer, row and column, from (row, column, ratio by peer). The row "all" has the geometric means."""
    table: dict[str, dict[str, dict[str, float]]] = {}
    for row, column, by_peer in cells:
        for peer, ratio in by_peer.items():
            table.setdefault(peer, {}).setdefault(row, {})[column] = ratio
    for rows in table.values():
        columns = list(next(iter(rows.values())))
        rows["all"] = {name: round(statistics.geometric_mean(row[name] for row in rows.values()), 3) for name in columns}
    return table


def ratio_markdown(table: Mapping[str, Mapping[str, Mapping[str, float]]], ours: str = "tinygan") -> str:
    """A Markdown table of ratios for each peer."""
    parts = []
    for peer, rows in table.items():
        columns = dict.fromkeys(column for figures in rows.values() for column in figures)
        names = {"row": f"{ours} / best of {peer}", **{column: column.replace("_", " and ") for column in columns}}
        parts.append(markdown([{"row": row, **figures} for row, figures in rows.items()], names))
    return "\n\n".join(parts)


def machine(packages: Sequence[str]) -> dict[str, Any]:
    """A description of the machine: processor, cores, caches, system, versions of `packages`, commit of this checkout."""
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
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
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
            level, kind, size = ((folder / name).read_text(encoding="ascii").strip() for name in ("level", "type", "size"))
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
    """A Markdown table of `rows`. `columns` maps the keys of a row to headings. Numbers are shown with three digits."""

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
    """Print the machine, the environment variables that the workers do not get, and a warning if the machine is busy."""
    say(describe(info))
    for name, value in removed_overrides().items():
        say(f"the workers do not get {name}={value}: it would override OpenBLAS's choice of kernels")
    if info["load_before"] and info["load_before"][0] > 0.5:
        say(f"the machine is busy (load {info['load_before'][0]}): the figures will be worth little")


def write_json(path: str | Path, result: Mapping[str, Any]) -> None:
    """Write the result, either completely or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    temporary.replace(path)


def read_rows(path: str | Path, experiment: str) -> dict[str, Any]:
    """The result of an experiment whose rows come one by one: {"experiment", "rows"}. Without a file there are no rows yet.
    Raises RuntimeError if the file belongs to another experiment."""
    path = Path(path)
    if not path.exists():
        return {"experiment": experiment, "rows": []}
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if result.get("experiment") != experiment:
        raise RuntimeError(f"{path} has rows of {result.get('experiment')!r}, not of {experiment!r}")
    return result


def add_row(path: str | Path, experiment: str, row: Row) -> None:
    """Add a row to the file. The file is read again, because another process may have added rows."""
    result = read_rows(path, experiment)
    result["rows"].append(row)
    write_json(path, result)


def say(text: str) -> None:
    """Progress goes to standard error, results to standard output."""
    print(text, file=sys.stderr, flush=True)
