"""What only some systems have: its absence is met with another way or a clear error. The others are imitated here on one."""
from __future__ import annotations

import ast
import errno
import importlib.util
import os
import subprocess
import sys
import types
from collections import Counter
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
import pytest

from tinygan import cache, devices, saving
from tinygan.runs import advice, guarding, lock
from tinygan.runs.errors import RunError
from tinygan.teaching.play import server

ROOT = Path(__file__).parents[1]
PROGRAMS = ("tinygan", "benchmarks", "examples", "docs")

POORER = """
import builtins, io, os, signal, sys

# A process on a system that lacks what is not in Python's portable part.
for module in ("fcntl", "grp", "pty", "pwd", "resource", "termios"):
    sys.modules[module] = None
for owner, names in ((os, "fork forkpty register_at_fork sched_getaffinity sched_setaffinity getloadavg getuid geteuid "
                          "chown nice link symlink mkfifo"), (signal, "SIGKILL SIGSTOP SIGCONT SIGALRM setitimer pthread_kill")):
    for name in names.split():
        if hasattr(owner, name):
            delattr(owner, name)
opened = builtins.open
def without_proc(file, *arguments, **options):
    if str(file).startswith(("/proc", "/sys", "/dev")):
        raise FileNotFoundError(2, "No such file or directory", file)
    return opened(file, *arguments, **options)
builtins.open = io.open = without_proc
"""

LOCK_OF_WINDOWS = """
import importlib.machinery, types

# ... and, when the folder's lock is imported, with the locks of Windows.
msvcrt = types.ModuleType("msvcrt")
used = []
msvcrt.LK_NBLCK, msvcrt.LK_UNLCK, msvcrt.locking = 2, 0, lambda descriptor, mode, count: used.append(mode)
class Loader(importlib.machinery.SourceFileLoader):
    def exec_module(self, module):
        before, sys.platform, sys.modules["msvcrt"] = sys.platform, "win32", msvcrt
        super().exec_module(module)
        sys.platform = before
        del sys.modules["msvcrt"]  # others take a module of this name for a sign of Windows
class Finder:
    def find_spec(self, name, path=None, target=None):
        spec = importlib.machinery.PathFinder.find_spec(name, path) if name == "tinygan.runs.lock" else None
        if spec is not None:
            spec.loader = Loader(name, spec.origin)
        return spec
sys.meta_path.insert(0, Finder())
"""


def in_a_poorer_process(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", POORER + code, *map(str, arguments)], capture_output=True, text=True,
                          timeout=300, check=False, env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])})


@pytest.fixture
def images(tmp_path: Path) -> Path:
    path = tmp_path / "images.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, (40, 1, 5, 4), dtype=np.uint8))
    return path


def test_a_run_needs_nothing_that_only_some_systems_have(tmp_path: Path, images: Path) -> None:
    code = LOCK_OF_WINDOWS + """
from tinygan import cli
flags = ["train", "vanilla", "--run-dir", sys.argv[1], "--data-dir", sys.argv[2], "--batch-size", "8", "--quiet"]
for command in ([*flags, "--epochs", "1"], [*flags, "--epochs", "2", "--resume", "--record"], ["info", sys.argv[1]],
                ["sample", sys.argv[1]], ["explain", sys.argv[1]]):
    assert cli.main(command) == 0, command
assert used.count(2) >= 2 and used[-1] == 0 and sys.modules["fcntl"] is None and not hasattr(os, "sched_getaffinity")
"""
    done = in_a_poorer_process(code, tmp_path / "run", images)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "sample.png").stat().st_size and (tmp_path / "run" / "explain.html").stat().st_size
    assert len((tmp_path / "run" / "metrics.csv").read_text(encoding="utf-8").splitlines()) == 11


def test_a_system_without_locks_says_so(tmp_path: Path, images: Path) -> None:
    code = """
from tinygan import cli
sys.exit(cli.main(["train", "vanilla", "--run-dir", sys.argv[1], "--data-dir", sys.argv[2], "--batch-size", "8"]))
"""
    done = in_a_poorer_process(code, tmp_path / "run", images)
    assert done.returncode == 2
    assert done.stderr.endswith(f"tinygan: error: cannot lock {tmp_path / 'run' / '.lock'}: this system has no file locks\n")
    assert "Traceback" not in done.stderr


def test_the_benchmarks_describe_a_machine_that_tells_nothing() -> None:
    code = """
sys.path.insert(0, sys.argv[1])
import harness, worker
info = harness.machine(["numpy"])
assert info["cores"] == os.cpu_count() and info["caches"] == {} and info["load_before"] is None
print(harness.describe(info))
"""
    done = in_a_poorer_process(code, ROOT / "benchmarks")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{info_on_the_processor()} (), ")


def info_on_the_processor() -> str:
    import platform

    return platform.processor() or platform.machine()


class Msvcrt(types.ModuleType):
    """`msvcrt` with locks of Linux that belong to the open file and to single bytes, as those of Windows do. A locked byte
    can also not be read there, so this one must be behind the text."""

    LK_NBLCK, LK_UNLCK = 2, 0

    def locking(self, descriptor: int, mode: int, count: int) -> None:
        import fcntl
        import struct

        place = os.lseek(descriptor, 0, os.SEEK_CUR)
        assert place > 1000 and count == 1
        kind = fcntl.F_WRLCK if mode == self.LK_NBLCK else fcntl.F_UNLCK
        fcntl.fcntl(descriptor, 37, struct.pack("hhqqi4x", kind, 0, place, count, 0))  # 37: F_OFD_SETLK


@pytest.fixture
def lock_of_windows(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    monkeypatch.setitem(sys.modules, "msvcrt", Msvcrt("msvcrt"))
    spec = importlib.util.find_spec("tinygan.runs.lock")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with monkeypatch.context() as while_it_is_imported:
        while_it_is_imported.setattr(sys, "platform", "win32")
        spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(sys.platform != "linux", reason="imitates the locks of Windows by those of Linux")
def test_the_lock_of_windows(lock_of_windows: Any, tmp_path: Path) -> None:
    assert not lock_of_windows.in_use(tmp_path)
    with lock_of_windows.FolderLock(tmp_path):
        assert lock_of_windows.in_use(tmp_path)
        with (pytest.raises(RunError, match=rf"in use by another run \(process {os.getpid()}\)"),
              lock_of_windows.FolderLock(tmp_path)):
            pass
        assert lock_of_windows.in_use(tmp_path)  # neither look took the lock away
    assert not lock_of_windows.in_use(tmp_path)
    with lock_of_windows.FolderLock(tmp_path):
        assert (tmp_path / ".lock").read_bytes() == f"{os.getpid()}\n".encode()


@pytest.mark.skipif(sys.platform != "linux", reason="imitates the locks of Windows by those of Linux")
def test_the_lock_of_windows_is_let_go_before_the_file_is_closed(lock_of_windows: Any, tmp_path: Path,
                                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[int] = []
    with lock_of_windows.FolderLock(tmp_path):
        monkeypatch.setattr(os, "close", kept.append)
    assert not lock_of_windows.in_use(tmp_path)
    assert not lock_of_windows.in_use(tmp_path)
    monkeypatch.undo()
    assert len(kept) == 3
    for descriptor in kept:
        os.close(descriptor)


def test_the_lock_of_this_system(tmp_path: Path) -> None:
    with lock.FolderLock(tmp_path):
        assert lock.in_use(tmp_path)
    assert not lock.in_use(tmp_path)


class Windows:
    """`os` as a module of tinygan sees it on Windows. (`os.name` itself cannot be changed: `pathlib` reads it, too.)"""

    name = "nt"

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)


def test_a_file_that_another_program_has_open_is_replaced_when_it_is_closed(tmp_path: Path,
                                                                            monkeypatch: pytest.MonkeyPatch) -> None:
    tries, naps = [], []
    replace = os.replace

    def refused_at_first(*paths: Any) -> None:
        tries.append(paths)
        if len(tries) < 4:
            raise PermissionError(errno.EACCES, "Access is denied")
        replace(*paths)

    monkeypatch.setattr(os, "replace", refused_at_first)
    monkeypatch.setattr(cache.time, "sleep", naps.append)
    path = tmp_path / "file"
    with pytest.raises(PermissionError):  # here it is an error at once
        saving.write_atomically(path, b"1")
    assert naps == [] and len(tries) == 1 and list(tmp_path.iterdir()) == []

    monkeypatch.setattr(cache, "os", Windows())
    saving.write_atomically(path, b"2")
    assert path.read_bytes() == b"2" and len(tries) == 4 and len(naps) == 2

    monkeypatch.setattr(os, "replace", lambda *paths: tries.append(paths) or refuse())
    naps.clear()
    with pytest.raises(PermissionError, match="the previous one is intact"):
        saving.write_atomically(path, b"3")
    assert path.read_bytes() == b"2" and list(tmp_path.iterdir()) == [path]
    assert 1.5 < sum(naps) < 3


def refuse() -> None:
    raise PermissionError(errno.EACCES, "Access is denied")


def test_a_closed_pipe_of_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    def write() -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(guarding, "_discard_output", lambda: None)
    assert guarding.guarded(write) == 2
    monkeypatch.setattr(guarding, "os", Windows())
    assert guarding.guarded(write) == 141

    def read() -> None:
        raise OSError(errno.EINVAL, "Invalid argument", "a:file")

    assert guarding.guarded(read) == 2


def test_names_that_the_encoding_of_the_output_lacks(tmp_path: Path) -> None:
    folder = tmp_path / "图"
    code = """
from tinygan.runs.guarding import guarded
def action():
    print(sys.argv[1])
    raise OSError(5, "bad", sys.argv[1])
sys.exit(guarded(action))
"""
    done = subprocess.run([sys.executable, "-c", "import sys\n" + code, str(folder)], capture_output=True, text=True, check=False,
                          env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "cp1252:strict"})
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert done.stdout == f"{tmp_path}{os.sep}\\u56fe\n"


def test_guarded_leaves_the_output_as_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout.errors
    inside = []
    assert guarding.guarded(lambda: inside.append(sys.stdout.errors)) == 0
    assert inside == ["backslashreplace"] and sys.stdout.errors == before == "strict"


def test_suggested_commands_are_quoted_for_the_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    assert advice.start_again("my runs/a", "vanilla", own=False).endswith(" train vanilla --run-dir 'my runs/a' --resume")
    monkeypatch.setattr(advice, "os", Windows())
    assert advice.start_again("my runs\\a", "vanilla", own=False).endswith(' train vanilla --run-dir "my runs\\a" --resume')


def test_the_emulated_gpu_says_where_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(devices.DeviceError, match=r"emulated GPU needs Linux and g\+\+, and this is darwin"):
        devices.device("emulated")


def test_one_port_has_one_server_on_windows() -> None:
    assert server.Playground.allow_reuse_address == (os.name != "nt")


TEXT = {"open": 1, "read_text": 0, "write_text": 1, "fdopen": 1}  # and the place of the mode, or of the encoding


def opened_without_encoding(source: str) -> list[int]:
    """The lines that open a text file in the encoding of whichever system it is."""
    found = []
    for call in ast.walk(ast.parse(source)):
        if not isinstance(call, ast.Call):
            continue
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        owner = ast.unparse(call.func).rpartition(".")[0]
        if name not in TEXT or (owner in ("os", "task", "PIL.Image", "Image", "webbrowser") and name == "open"):
            continue
        mode = next((word.value for word in call.keywords if word.arg == "mode"), None)
        if name in ("open", "fdopen"):
            place = 0 if name == "open" and owner else 1  # path.open(mode)
            mode = mode or (call.args[place] if len(call.args) > place else None)
        binary = isinstance(mode, ast.Constant) and "b" in str(mode.value)
        encoded = any(word.arg == "encoding" for word in call.keywords) or (name == "read_text" and call.args)
        if not binary and not encoded:
            found.append(call.lineno)
    return found


@pytest.mark.parametrize("program", PROGRAMS)
def test_text_files_have_an_encoding(program: str) -> None:
    found = {path.relative_to(ROOT).as_posix(): lines for path in sorted((ROOT / program).rglob("*.py"))
             if (lines := opened_without_encoding(path.read_text(encoding="utf-8")))}
    assert not found, "the system's encoding differs from machine to machine: say encoding=\"utf-8\""


@pytest.mark.parametrize(("source", "lines"), [
    ("open(p)", [1]), ("open(p, 'w')", [1]), ("p.open()", [1]), ("p.read_text()", [1]), ("p.write_text(t)", [1]),
    ("open(p, 'rb')", []), ("p.open('wb')", []), ("open(p, encoding='utf-8')", []), ("p.read_text('utf-8')", []),
    ("os.open(p, os.O_RDONLY)", []), ("os.fdopen(1, 'w')", [1]), ("open(p, mode='rb')", []),
])
def test_a_text_file_without_encoding_is_found(source: str, lines: list[int]) -> None:
    assert opened_without_encoding(source) == lines


def test_files_can_have_their_names_on_every_system() -> None:
    names = [path.relative_to(ROOT).as_posix() for program in (*PROGRAMS, "tests") for path in (ROOT / program).rglob("*")
             if "__pycache__" not in path.parts]
    assert len(names) > 500
    assert [name for name, count in Counter(name.lower() for name in names).items() if count > 1] == []
    assert [name for name in names if set(name) & set('<>:"\\|?*') or name.endswith((".", " "))] == []
    assert [name for name in names if any(PureWindowsPath(part).is_reserved() for part in name.split("/"))] == []
    assert max(map(len, names)) < 120  # Windows refuses paths of more than 260 characters, and they begin elsewhere
