"""SIGKILL at any moment: whatever a run was doing, resuming it ends where an uninterrupted run ends, bit for bit.

This file is also the program that the test starts: it imports and compiles once, then forks real runs and kills them.
"""
from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from tiny_run import content, recorded, tiny_train

EPOCHS = 30
KILLS = 24


def start(folder: Path, fatal_call: int | None = None) -> int:
    """Fork a run in `folder` (resumed if the folder exists) that kills itself at its `fatal_call`-th flush or rename."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if fatal_call is not None:
            die_at(fatal_call)
        tiny_train(folder, epochs=EPOCHS, resume=folder.is_dir(), ema=0.9, record=True)
        status = 0
    finally:
        os._exit(status)


def die_at(fatal_call: int) -> None:
    calls = iter(range(1, 1 << 30))

    def fatal(original: Callable[..., None], *arguments: object) -> None:
        if next(calls) == fatal_call:
            os.kill(os.getpid(), signal.SIGKILL)
        original(*arguments)

    os.fsync, os.replace = partial(fatal, os.fsync), partial(fatal, os.replace)


def wait(child: int) -> bool:
    """Whether the child came to its end; False if it was killed. A run that fails fails the whole program."""
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL, status
        return False
    assert os.WEXITSTATUS(status) == 0, "a resumed run failed"
    return True


def grids(folder: Path) -> int:
    """How many epochs have drawn their samples."""
    return len(list(folder.glob("samples/epoch_*.png")))


def kill_at(folder: Path, epoch: int, chance: random.Random) -> bool:
    """Run in `folder`, and kill it a little after it has drawn `epoch`; False if it came to its end before.

    The moment goes by progress, not by the clock: machines may be slow or busy.
    """
    starting = grids(folder) == epoch
    child = start(folder)
    deadline = time.monotonic() + 60
    while grids(folder) < epoch and time.monotonic() < deadline:
        time.sleep(0.0005)
    time.sleep(chance.uniform(0, 0.3 if starting else 0.02))
    os.kill(child, signal.SIGKILL)
    return not wait(child)


def main(root: Path) -> None:
    import matplotlib.backends.backend_agg
    import matplotlib.figure  # noqa: F401 (once, not in every child)

    tiny_train(root / "warm", epochs=1)
    assert wait(start(root / "whole"))
    expected = content(root / "whole"), recorded(root / "whole")
    assert len(expected[1]) > 8
    chance = random.Random(0)
    moments: set[int] = set()
    runs = kills = 0

    def check(folder: Path) -> None:
        assert (content(folder), recorded(folder)) == expected, folder
        strays = list(folder.rglob("*.tmp"))
        assert not strays, strays

    while kills < KILLS:
        runs += 1
        folder = root / f"timed{runs}"
        while kills < KILLS and grids(folder) < EPOCHS:
            if not kill_at(folder, chance.randint(grids(folder), min(EPOCHS, grids(folder) + 10)), chance):
                break
            kills += 1
            moments.add(grids(folder))
        assert wait(start(folder))
        check(folder)

    aimed, folder = 0, root / "aimed"
    while not wait(start(folder, fatal_call=1 + aimed % 25)):
        aimed += 1
    check(folder)
    print(json.dumps({"timed": kills, "aimed": aimed, "moments": len(moments), "runs": runs}))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")
def test_killed_runs_resume_bit_for_bit(tmp_path):
    done = subprocess.run([sys.executable, __file__, str(tmp_path)], capture_output=True, text=True, timeout=300,
                          env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))})
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout.splitlines()[-1])
    assert counts["timed"] >= 20 and counts["aimed"] >= 20 and counts["moments"] >= 8, counts


if __name__ == "__main__":
    main(Path(sys.argv[1]))
