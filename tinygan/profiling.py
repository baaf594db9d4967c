"""What a training step executes on the CPU, and how long each kernel takes.

    print(tg.profile(gan.step, batch))

The step is captured, so that it is a list of kernels and of functions of NumPy, and nothing else (see `tinygan.capture`).
"""
from __future__ import annotations

__all__ = ["Profile", "Row", "profile"]

import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from tinygan.capture import Captured, capture


class Row(NamedTuple):
    """A kernel or a function of NumPy: its name, how often a step calls it, and the milliseconds that these calls take."""

    name: str
    calls: int
    ms: float


class Profile(NamedTuple):
    """What `profile` returns. `str` and `print` show it as a table.

    rows: the kernels and functions, those that take longest first. Their times were taken one by one. program_ms: the
    milliseconds of all of them in a replay, where consecutive kernels are one call. step_ms: the milliseconds of a whole
    replay. (The rest is what Python does around it: the arguments, keys, counts, schedules and the results.) eager_ms: the
    milliseconds of the step without a capture. program: the recorded `Program`; `print(program)` lists it in order.
    """

    rows: list[Row]
    program_ms: float
    step_ms: float
    eager_ms: float
    program: Any

    @property
    def parts_ms(self) -> float:
        """The sum of the rows, in milliseconds. It is not quite `program_ms`: here every call starts alone."""
        return sum(row.ms for row in self.rows)

    def __str__(self) -> str:
        total = self.parts_ms or 1.0
        names = [f"{row.name:<34}{row.calls:>6}{row.ms:>10.3f}{row.ms / total:>8.1%}" for row in self.rows]
        numpy = [row for row in self.rows if row.name.startswith("numpy.")]
        sums = [("kernels", [row for row in self.rows if row not in numpy]), ("functions of NumPy", numpy)]
        totals = [f"{title:<34}{sum(row.calls for row in part):>6}{sum(row.ms for row in part):>10.3f}"
                  f"{sum(row.ms for row in part) / total:>8.1%}" for title, part in sums]
        line = "-" * 58
        whole = [("all of it, one by one", self.parts_ms), ("all of it, in a replay", self.program_ms),
                 ("Python around it", self.step_ms - self.program_ms), ("the step, replayed", self.step_ms),
                 ("the step, not captured", self.eager_ms)]
        return "\n".join([f"{'kernel or function':<34}{'calls':>6}{'ms':>10}{'share':>8}", line, *names, line, *totals, line,
                          *[f"{title:<34}{ms:>16.3f}" for title, ms in whole]])


def profile(step: Callable[..., Any], *arguments: Any, rounds: int = 10) -> Profile:
    """What one call of `step(*arguments)` executes on the CPU, with times in milliseconds: medians over `rounds`.

    step: a function of arrays that `tinygan.capture` can record, such as `gan.step`, or what `capture` returned. It is
    called 3 * rounds + 3 times, and a GAN has made as many training steps afterwards. Raises RuntimeError on a GPU, where
    kernels run beside Python: CUDA's profilers show them.
    """
    if not isinstance(rounds, int) or isinstance(rounds, bool) or rounds < 1:
        raise ValueError(f"profile: rounds should be at least 1, got {rounds!r}")
    captured = step if isinstance(step, Captured) else capture(step)
    for _ in range(3):  # as usual, recorded, replayed
        captured(*arguments)
    program = captured.program
    if program is None:
        raise RuntimeError("profile: the step could not be recorded: switch off detect_anomaly (or what else watches it)")
    if not hasattr(program, "times"):  # a CUDA graph
        raise RuntimeError("profile: it times the CPU's kernels, and this step runs on a GPU: use CUDA's profiler (`nsys "
                           "profile python your_script.py`), or move the networks to the CPU: gan.to('cpu')")

    eager = [_milliseconds(lambda: captured.function(*arguments)) for _ in range(rounds)]
    inside: list[float] = []
    with captured.launched_by(lambda: inside.append(_milliseconds(program))):
        whole = [_milliseconds(lambda: captured(*arguments)) for _ in range(rounds)]
    times: list[list[float]] = []
    with captured.launched_by(lambda: times.append(program.times())):
        for _ in range(rounds):
            captured(*arguments)
    if captured.program is not program:
        raise RuntimeError("profile: the step was recorded again while it was timed: does it move or convert a network?")
    calls: dict[str, int] = {}
    ms: dict[str, float] = {}
    for part, seconds in zip(program.steps, zip(*times, strict=True), strict=True):
        calls[part.name] = calls.get(part.name, 0) + 1
        ms[part.name] = ms.get(part.name, 0.0) + statistics.median(seconds) * 1e3
    rows = sorted((Row(name, calls[name], ms[name]) for name in ms), key=lambda row: -row.ms)
    median = statistics.median
    return Profile(rows, median(inside), median(whole), median(eager), program)


def _milliseconds(function: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    function()
    return (time.perf_counter() - begin) * 1e3
