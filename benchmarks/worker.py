"""One subject in a process of its own: `worker.py MODULE CORES` imports MODULE, then answers calls over its pipes.

Requests and answers are pickles on the original standard input and output. Everything that a framework prints goes to
standard error. A worker first binds itself to the cores that all subjects use, then imports its framework, then notes how
much memory the import took.
"""
import ctypes
import importlib
import os
import pickle
import signal
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

MIB = 2**20


def status_mib(field: str) -> float | None:
    """A size from Linux's status of this process, in MiB. None on other systems."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) / 1024
    return None


def resident_mib() -> float:
    """Resident set of this process, MiB."""
    if (resident := status_mib("VmRSS")) is not None:
        return resident
    import psutil

    return float(psutil.Process().memory_info().rss) / MIB


def reset_peak() -> None:
    """Reset the high-water mark of the resident set. (Only on Linux; on other systems it counts from the process's
    start.)"""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_mib() -> float:
    """Highest resident set since `reset_peak`, MiB."""
    if (highest := status_mib("VmHWM")) is not None:
        return highest
    if sys.platform == "win32":
        import psutil

        return float(psutil.Process().memory_info().peak_wset) / MIB
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (MIB if sys.platform == "darwin" else 1024)


def die_with_parent() -> None:
    """Make this process end when its parent is killed, even while it is stopped. (Only on Linux.)"""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # 1: PR_SET_PDEATHSIG


class Served:
    """The calls for the parent: `create` the subject, `time` its steps, get a `report`, `ask` it for anything else."""

    def __init__(self, module: str) -> None:
        self.module = importlib.import_module(module)
        self.imported_mib = resident_mib()
        self.subject: Any = None
        reset_peak()

    def create(self, **arguments: Any) -> None:
        self.subject = self.module.Subject(**arguments)

    def ask(self, method: str, **arguments: Any) -> Any:
        return getattr(self.subject, method)(**arguments)

    def time(self, steps: int, warm_up: int) -> list[float]:
        """Milliseconds of each of `steps` whole training steps, after `warm_up` untimed ones."""
        step = self.subject.step
        for _ in range(warm_up):
            step()
        times = []
        for _ in range(steps):
            begin = time.perf_counter_ns()
            step()
            times.append((time.perf_counter_ns() - begin) / 1e6)
        return times

    def reset_peak(self) -> float:
        """The peak memory so far (building, compiling, first steps), in MiB more than after the imports. Resets the peak."""
        highest = peak_mib() - self.imported_mib
        reset_peak()
        return highest

    def report(self) -> dict[str, Any]:
        """The peak memory since `reset_peak` (more than after the imports), threads, and the BLAS libraries in use."""
        return {
            "peak_mib": peak_mib() - self.imported_mib,
            "imports_mib": self.imported_mib,
            "threads": self.subject.threads(),
            "blas": "; ".join(dict.fromkeys([*self.subject.blas(), *loaded_blas()])),
        }


def loaded_blas() -> list[str]:
    """Each BLAS that threadpoolctl finds in this process: name, version, the core type it chose, and whose it is."""
    from threadpoolctl import threadpool_info

    found = []
    for library in threadpool_info():
        if library["user_api"] == "blas":
            owner = Path(library["filepath"]).parent.name.removesuffix(".libs")
            core = library.get("architecture", "core type unknown")
            found.append(f"{library['internal_api']} {library['version']} {core} ({owner})")
    return found


def main() -> None:
    die_with_parent()
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    if sys.argv[2] and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, [int(core) for core in sys.argv[2].split(",")])
    served: Served | None = None
    while True:
        try:
            method, arguments = pickle.load(requests)
        except EOFError:
            return
        try:
            if served is None:
                served = Served(sys.argv[1])
            answer = (True, getattr(served, method)(**arguments))
        except Exception as error:
            answer = (False, (f"{type(error).__name__}: {error}", traceback.format_exc()))
        pickle.dump(answer, answers)
        answers.flush()


if __name__ == "__main__":
    main()
