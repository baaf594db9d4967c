"""A pytest plugin (`-p gpu_tests`). It keeps only the GPU versions of the tests that run on every device."""
from __future__ import annotations

from typing import Any


def pytest_collection_modifyitems(config: Any, items: list[Any]) -> None:
    """Keep the tests that are parametrised with the device "cuda"."""
    def is_for_gpu(item: Any) -> bool:
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        return any(isinstance(value, str) and value == "cuda" for value in parameters.values())

    chosen = [item for item in items if is_for_gpu(item)]
    config.hook.pytest_deselected(items=[item for item in items if item not in set(chosen)])
    items[:] = chosen
