"""Every check of this repository, by name: `nox --list` shows them, `nox -s lint` runs one, `nox` runs the usual ones.

Each session makes an environment of its own. With `--no-venv` all use the environment that is active, and install into it:
`.ci/run` does that. The workflow on GitHub holds nothing but calls of nox. So a command stands in one place, and it is here.
"""
from __future__ import annotations

import shutil
from pathlib import Path

import nox
from nox.command import CommandFailed

ROOT = Path(__file__).parent
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
PYTEST = ("python", "-m", "pytest")
IN_PARALLEL = ("-n", "2", "--dist", "worksteal")
BY_FILE = ("-n", "2", "--dist", "loadfile")
KERNEL_TESTS = [f"tests/test_{name}.py" for name in (  # those of compiled kernels
    "activations", "concurrency", "conv", "conv_grouped", "conv_lanes", "conv_pixels", "conv_thin", "dcgan", "kernels",
    "losses", "matmul", "minibatch", "mlp", "nn", "normalization", "optim", "random", "reduce", "slopes", "spectral_norm",
    "tiles", "unrolled", "upsample")]

nox.needs_version = ">=2024.10"
nox.options.default_venv_backend = "venv"
nox.options.error_on_missing_interpreters = False  # a Python that the machine lacks is skipped, and named
nox.options.sessions = ["tests", "oracle", "docs", "lint", "wheel"]


def install(session: nox.Session, *requirements: str) -> None:
    """Install into the session's environment, or into the active one."""
    session.run("python", "-m", "pip", "install", "--quiet", *requirements)


def install_torch(session: nox.Session) -> None:
    """A pinned version where it is to be had (some machines keep a CPU build of it), or else that of the extra."""
    try:
        install(session, "torch==2.13.0")
    except CommandFailed:
        install(session, ".[oracle]")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """The tests, as README.md has them. What follows `--` goes to pytest."""
    install(session, ".[test]")
    session.run(*PYTEST, *(session.posargs or IN_PARALLEL))


@nox.session
def vectors(session: nox.Session) -> None:
    """The tests of compiled kernels, again: as processors with shorter vectors than this one's have them."""
    install(session, ".[test]")
    ask = "from tinygan.kernels.cpu.runtime.processor import target; print(target().vector_bytes)"
    own = int(str(session.run("python", "-c", ask, silent=True, env={"TINYGAN_VECTORS": None})))
    for shorter in (32, 16):
        if shorter < own:
            session.run(*PYTEST, *BY_FILE, "-k", "not emulated", *KERNEL_TESTS, env={"TINYGAN_VECTORS": str(shorter)})


@nox.session
def cache(session: nox.Session) -> None:
    """What kernels compute, just compiled and from the cache: the same, to the last bit. And their machine code."""
    install(session, ".[test]")
    session.run(*PYTEST, "-m", "cache", *IN_PARALLEL)


@nox.session
def gpu_benchmark(session: nox.Session) -> None:
    """`benchmarks/gpu.py` from beginning to end, on the emulated device."""
    install(session, ".[test]")
    session.run(*PYTEST, "-m", "gpu_benchmark")


@nox.session
def oracle(session: nox.Session) -> None:
    """The tests that compare with PyTorch."""
    install(session, ".[test]")
    install_torch(session)
    session.run(*PYTEST, "-m", "oracle", *IN_PARALLEL)


@nox.session
def exports(session: nox.Session) -> None:
    """ONNX models run by onnxruntime, and PyTorch's networks rebuilt from programs."""
    install(session, ".[test,onnx]")
    install_torch(session)
    session.run(*PYTEST, *IN_PARALLEL, "tests/test_onnx.py", "tests/test_exchange_page.py")


@nox.session
def notebooks(session: nox.Session) -> None:
    """The quickstart and runs inside a Jupyter kernel, and what TensorBoard reads."""
    install(session, ".[test,notebook,tensorboard]")
    session.run(*PYTEST, "tests/test_notebook.py", "tests/test_loggers.py")


@nox.session
def processes(session: nox.Session) -> None:
    """Training on several processes, over MPI."""
    install(session, ".[test,mpi]")
    session.run(*PYTEST, "tests/test_distributed.py")


@nox.session
def pages(session: nox.Session) -> None:
    """The page of a run and the playground, in the Chromium that is in the PATH. (Playwright downloads nothing.)"""
    install(session, ".[test]")
    try:
        install(session, "playwright")
    except CommandFailed:
        session.warn("no Playwright here, so the pages are not opened")
    session.run(*PYTEST, *BY_FILE, "tests/test_explain_page.py", "tests/test_play_page.py")


@nox.session
def lessons(session: nox.Session) -> None:
    """Every lesson's script runs, and its claims hold; an installed tinygan checks answers."""
    install(session, ".[test]")
    session.run(*PYTEST, "-m", "lessons", "-n", "2")
    answers = ROOT / "tests" / "lesson_answers" / "lesson_1.py"
    session.chdir(session.create_tmp())  # away from the checkout
    session.run("tinygan", "lesson", "check", "1", str(answers), env={"PYTHONPATH": None})


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation site, into docs/_build/html. A warning is an error."""
    install(session, ".[docs]")
    session.run("python", "-m", "sphinx", "-W", "--keep-going", "-b", "html", "docs", "docs/_build/html")


@nox.session
def lint(session: nox.Session) -> None:
    """ruff and mypy."""
    install(session, ".[dev]")
    session.run("ruff", "check", ".")
    session.run("mypy")


@nox.session
def coverage(session: nox.Session) -> None:
    """Lines of tinygan/ that no test runs. Takes longer than the tests, and sees nothing of what Numba compiles."""
    install(session, ".[dev]")
    session.run(*PYTEST, "--cov", "--cov-report=term-missing:skip-covered", *(session.posargs or IN_PARALLEL))


@nox.session
def build(session: nox.Session) -> None:
    """The sdist and the wheel, into dist/, checked."""
    install(session, "build", "twine", "check-sdist")
    shutil.rmtree(ROOT / "dist", ignore_errors=True)
    session.run("python", "-m", "build", silent=True)
    session.run("twine", "check", "--strict", *map(str, sorted((ROOT / "dist").iterdir())))
    session.run("check-sdist", silent=True)


@nox.session(python=PYTHONS)
def wheel(session: nox.Session) -> None:
    """The wheel alone in a new environment: every example runs in an empty folder. `-- --quick` runs one of them."""
    install(session, "build")
    folder = Path(session.create_tmp())
    shutil.rmtree(folder)
    folder.mkdir()
    session.run("python", "-m", "build", "--outdir", str(folder), silent=True)  # from the sdist: nothing of an older build
    session.run("python", "-m", "venv", str(folder / "alone"))
    python = str(next(folder.glob("alone/bin/python"), folder / "alone" / "Scripts" / "python.exe"))
    session.run(python, "-m", "pip", "install", "--quiet", *map(str, folder.glob("*.whl")), external=True)
    elsewhere = {"PYTHONPATH": None, "TMPDIR": None}  # (nox's TMPDIR is in the checkout)
    session.run(python, "tests/installed_alone.py", *session.posargs, env=elsewhere, external=True)
