"""What decides the last bits of a result, besides the settings: versions, processor, SIMD vectors, threads."""
from __future__ import annotations

__all__ = ["describe", "differences"]

import os
import platform
import re
from importlib import metadata
from typing import Any

from tinygan.launched import size

PACKAGES = ("tinygan", "numpy", "numba")


def describe() -> dict[str, Any]:
    """The versions and the processor of this process, as `config.json` records them."""
    return {"versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
            "machine": {"system": platform.system(), "processor": _processor(), "vectors": _vectors(),
                        "threads": _threads(), "processes": size()}}


def kernels() -> dict[str, str]:
    """For which processor the CPU's kernels are compiled here, and where they are cached."""
    from tinygan.kernels.cpu.runtime.compiling import cache_folder
    from tinygan.kernels.cpu.runtime.processor import SWITCH, target

    chosen = f", as {SWITCH} says" if os.environ.get(SWITCH) else ""
    return {"vectors": f"{_vectors()}{chosen}", "processor": target().name,
            "folder": str(cache_folder() or "none: nowhere can be written, so they are compiled at every start")}


def packages() -> dict[str, str]:
    """The installed versions of the other packages that tinygan or one of its extras can use, by name."""
    names = {re.match(r"[\w.-]+", line)[0] for line in metadata.requires("tinygan") or ()}  # type: ignore[index]
    found = {name: _version(name) for name in sorted(names.difference(PACKAGES))}
    return {name: version for name, version in found.items() if version != "absent"}


def gpu() -> str:
    """What `--device cuda` would run on: the GPU's name, its memory, and the versions of CUDA. Or why there is no GPU."""
    from tinygan.devices import DeviceError, device

    try:
        runtime = device("cuda").xp.cuda.runtime
    except DeviceError as error:
        return f"none: {str(error).removeprefix('device cuda: ')}"
    found = runtime.getDeviceProperties(0)
    driver, own = (f"{version // 1000}.{version % 1000 // 10}"
                   for version in (runtime.driverGetVersion(), runtime.runtimeGetVersion()))
    return f"{found['name'].decode()}, {found['totalGlobalMem'] / 2**30:.0f} GiB, CUDA {own} (driver {driver})"


def differences(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """The changes between two descriptions, as phrases ("numpy 2.3.1 -> 2.4.0"). An entry that an older tinygan did not
    record counts as unchanged."""
    return [f"{name} {then[group][name]} -> {value}"
            for group in ("versions", "machine") for name, value in now[group].items()
            if then.get(group, {}).get(name, value) != value]


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:  # running from a source tree
        from tinygan import __version__

        return __version__ if name == "tinygan" else "absent"


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _vectors() -> str:
    from tinygan.kernels.cpu.runtime.processor import target

    return f"{target().vector_bytes} bytes"


def _threads() -> int:
    from tinygan.kernels.cpu.runtime.pool import pool

    return pool.size
