"""The Hypothesis profile, the devices that the tests run on, and a browser."""
from __future__ import annotations

import gc
import shutil
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings

from tinygan import devices

settings.register_profile("tinygan", deadline=None, derandomize=True, max_examples=12, database=None)
settings.load_profile("tinygan")

# The emulated GPU runs on Linux only, and these files ask for nothing else.
collect_ignore_glob = [] if sys.platform == "linux" else ["test_cuda_*.py", "test_gpu_benchmark.py"]

BROWSER_FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                 "--disable-background-networking", "--disable-component-update", "--disable-sync"]


# Markers of tests that take minutes. They run in sessions of their own (see noxfile.py), when they are asked for.
ON_REQUEST = ("cache", "gpu_benchmark", "lessons", "sanitizer")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip the tests that were not asked for."""
    for name in ON_REQUEST:
        if name not in config.option.markexpr:
            skip = pytest.mark.skip(reason=f"runs only when asked for: python -m pytest -m {name}")
            for item in items:
                if item.get_closest_marker(name):
                    item.add_marker(skip)


def pytest_collection_finish() -> None:
    """Hide what exists now, ten thousand tests among it, from the garbage collector: looking at it takes a second each time."""
    gc.collect()
    gc.freeze()


def usable(name: str) -> str:
    """The device's name; the test is skipped, with the reason, where it is not there."""
    if name == "emulated" and sys.platform == "linux" and shutil.which("g++") is None:
        pytest.skip("the emulated device needs g++")
    try:
        devices.device(name)
    except devices.DeviceError as error:
        pytest.skip(str(error))
    return name


@pytest.fixture(scope="session", params=["cpu", "cuda", "emulated"])
def device(request: pytest.FixtureRequest) -> str:
    """Every test that takes this runs on each device: on the CPU, on a GPU where there is one, and with the CUDA kernels run
    by the emulator."""
    return usable(request.param)


@pytest.fixture(scope="session", params=["cpu", "cuda"])
def fast_device(request: pytest.FixtureRequest) -> str:
    """For tests of large arrays, which the emulator takes too long for; `test_cuda_*.py` cover their kernels there."""
    return usable(request.param)


@pytest.fixture(scope="session", params=["cuda", "emulated"])
def other_device(request: pytest.FixtureRequest) -> str:
    """A device that is not the CPU."""
    return usable(request.param)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Debian's Chromium, or another one, under Playwright. A test that takes it is skipped where one of both is missing."""
    api = pytest.importorskip("playwright.sync_api", reason="needs Playwright")
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("needs Chromium")
    with api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=path, args=BROWSER_FLAGS)
        yield found
        found.close()
