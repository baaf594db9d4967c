"""The Hypothesis profile and the devices that the tests run on."""
from __future__ import annotations

import importlib.util

import pytest
from hypothesis import settings

settings.register_profile("tinygan", deadline=None, derandomize=True, max_examples=12, database=None)
settings.load_profile("tinygan")


@pytest.fixture(scope="session", params=["cpu", "cuda"])
def device(request: pytest.FixtureRequest) -> str:
    """Every test that takes this runs on each device; on a GPU where there is one."""
    if request.param == "cuda":
        if importlib.util.find_spec("tinygan.backends.cuda") is None:
            pytest.skip("tinygan has no GPU backend here")
        cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
        try:
            cupy.cuda.runtime.getDeviceCount()
        except cupy.cuda.runtime.CUDARuntimeError as error:
            pytest.skip(f"no GPU: {error}")
    return request.param
