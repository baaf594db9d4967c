"""TINYGAN_VECTORS: kernels compiled as another processor would have them."""
from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import llvmlite.binding as llvm
import numpy as np
import pytest

import tinygan
from tinygan.devices import DeviceError
from tinygan.kernels.cpu.runtime import processor, simd

OWN = processor._vector_bytes(llvm.get_host_cpu_features())
NAMES = {16: "x86-64-v2", 32: "x86-64-v3"}


def run(*command, folder, vectors):
    environment = {**os.environ, "PYTHONPATH": str(Path(tinygan.__file__).parents[1]), "XDG_CACHE_HOME": str(folder)}
    environment.pop(processor.SWITCH, None)
    if vectors is not None:
        environment[processor.SWITCH] = str(vectors)
    return subprocess.run([sys.executable, "-W", "error", *command], capture_output=True, text=True, timeout=300, env=environment)


COMPILE = """
import json, os, sys
before = dict(os.environ)
if "no activations" in sys.argv:  # most of the time goes into them, and the product does not call them
    sys.modules["tinygan.kernels.cpu.activations.compiled"] = type(sys)("stand-in")
    sys.modules["tinygan.kernels.cpu.activations.compiled"].activation_forward = None
import numba, numpy as np
from numba import types
from numba.core.registry import cpu_target
import tinygan
from tinygan.kernels.cpu.runtime import compiling
from tinygan.kernels.cpu.matmul import gemm
from tinygan.kernels.cpu.matmul import compiled as products
from tinygan.kernels.cpu.runtime import simd

@numba.njit
def add_up(x):  # a user's own
    total = np.float32(0)
    for value in x:
        total += value
    return total

a, b = (np.random.default_rng(i).integers(-9, 10, shape) for i, shape in enumerate([(70, 90), (90, 80)]))
product = products.product(a.astype(np.float32), b.astype(np.float32))
ours = [code for code in compiling._ALIVE]
add_up(np.ones(3, np.float32))
print(json.dumps({
    "bytes": simd.VECTOR_BYTES, "lanes": simd.lanes_of(types.float64),
    "targets": sorted({code._library.codegen.magic_tuple()[1] for code in ours}),
    "assembly": "" if "from the cache" in sys.argv else "".join(code._library.get_asm_str() for code in ours),
    "folder": compiling.cache_folder().name,
    "right": bool(np.array_equal(product, a @ b)),
    "users": [add_up.overloads[add_up.signatures[0]].library.codegen.magic_tuple()[1], numba.config.CPU_NAME],
    "environment": dict(os.environ) == before,
}))
"""


def compiled(folder, vectors, *parts):
    """(what COMPILE prints, the files in the cache and when they were written)."""
    done = run("-c", COMPILE, *parts, folder=folder, vectors=vectors)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.mark.cache
@pytest.mark.parametrize("vectors", [16, 32, None])
def test_kernels_are_compiled_for_it_and_the_users_functions_are_not(vectors, tmp_path):
    if vectors is not None and vectors > OWN:
        pytest.skip(f"this processor's vectors have {OWN} bytes")
    # With vectors of 16 bytes a multiply-add is not one instruction, so all kernels are searched for calls of the C library.
    found, files = compiled(tmp_path, vectors, *([] if vectors == 16 else ["no activations"]))
    size, own = vectors or OWN, llvm.get_host_cpu_name()
    assert (found["bytes"], found["lanes"]) == (size, size // 8) and found["right"] and found["environment"]
    assert found["targets"] == [own if size == OWN else NAMES[size]]
    assert found["users"] == [own, None]
    if platform.machine() == "x86_64":
        used = {name: bool(re.search(rf"%{name}mm\d", found["assembly"])) for name in "xyz"}
        assert used["x"] and used["z"] is (size == 64)
        if size > 16 or OWN > 16:  # (a processor of its own may have AVX, but not all that its longer vectors need)
            assert used["y"] is ("vfmadd" in found["assembly"]) is (size > 16)
        assert not re.search(r"\bfmaf?\b", found["assembly"])  # the C library's, for one element
    assert [path.name for path in (tmp_path / "tinygan" / "kernels").iterdir()] == [found["folder"]]
    assert (found["folder"] == folder_of_this_process()) is (size == simd.VECTOR_BYTES)
    if vectors is None:  # the processor's own size, when it is asked for, is no other target
        again, same = compiled(tmp_path, OWN, "no activations", "from the cache")
        names = ("bytes", "lanes", "targets", "folder", "right", "users", "environment")
        assert files and same == files and [again[name] for name in names] == [found[name] for name in names]


def folder_of_this_process():
    from tinygan.kernels.cpu.runtime.compiling import fingerprint

    return fingerprint()


def features(*names):
    return lambda: llvm.FeatureMap((name, True) for name in names)


@pytest.mark.parametrize("has, own", [
    (("sse4.2", "avx", "avx2", "fma", "avx512f"), 64), (("sse4.2", "avx", "avx2", "fma"), 32), (("sse4.2", "avx", "avx2"), 16),
    (("sse4.2", "avx"), 16), (("neon",), 16), ((), 16),
], ids=["AVX-512", "AVX2", "AVX2 without FMA", "AVX", "ARM", "nothing"])
def test_unset_it_is_what_the_processor_has(has, own, monkeypatch):
    monkeypatch.setattr(llvm, "get_host_cpu_features", features(*has))
    for chosen in ("", str(own)):
        monkeypatch.setenv(processor.SWITCH, chosen)
        found = processor.target.__wrapped__()
        assert found[:2] == (own, llvm.get_host_cpu_name()) and all(f"+{name}" in found.features for name in has)
    for less in {16, 32} & set(range(own)):
        monkeypatch.setenv(processor.SWITCH, str(less))
        assert processor.target.__wrapped__() == (less, NAMES[less], "")
    for more in {32, 64} - set(range(own + 1)):
        monkeypatch.setenv(processor.SWITCH, str(more))
        with pytest.raises(DeviceError, match=rf"^TINYGAN_VECTORS={more}: expected the bytes of a vector register, here .*{own}$"):
            processor.target.__wrapped__()


def test_features_that_llvm_does_not_know_are_none(monkeypatch):
    def unknown():
        raise RuntimeError("not for this processor")

    monkeypatch.setattr(llvm, "get_host_cpu_features", unknown)
    monkeypatch.delenv(processor.SWITCH, raising=False)
    assert processor.target.__wrapped__() == (16, llvm.get_host_cpu_name(), "")


@pytest.mark.parametrize("wrong", ["48", "0", "-16", "16.0", "avx2", "016", " "])
def test_other_values_are_refused(wrong, monkeypatch):
    monkeypatch.setenv(processor.SWITCH, wrong)
    with pytest.raises(DeviceError, match=rf"^TINYGAN_VECTORS={wrong}: expected the bytes of a vector register, here .*16"):
        processor.target.__wrapped__()


WRONG = """
import numpy as np, tinygan as tg
small, large = np.ones((2, 2), np.float32), np.ones((100, 100), np.float32)
assert tg.matmul(small, small)[0, 0] == 2  # needs no kernel
for _ in range(2):
    try:
        tg.matmul(large, large)
    except tg.devices.DeviceError as error:
        print(error)
"""


def test_a_wrong_value_is_said_when_kernels_are_needed(tmp_path):
    done = run("-c", WRONG, folder=tmp_path, vectors=48)
    assert (done.returncode, done.stderr) == (0, "") and len(done.stdout.splitlines()) == 2
    assert done.stdout.startswith("TINYGAN_VECTORS=48: expected") and not any(tmp_path.iterdir())
    done = run("-m", "tinygan.cli", "info", folder=tmp_path, vectors=48)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("tinygan: error: TINYGAN_VECTORS=48: expected") and done.stderr.count("\n") == 1


def test_info_shows_it(tmp_path):
    done = run("-m", "tinygan.cli", "info", folder=tmp_path, vectors=16)
    assert done.returncode == 0 and done.stderr == ""
    assert re.search(rf"^  numpy +{re.escape(np.__version__)}$", done.stdout, re.M)
    assert re.search("^  vectors +16 bytes, as TINYGAN_VECTORS says$", done.stdout, re.M)
    (folder,) = (tmp_path / "tinygan" / "kernels").iterdir()
    assert re.search(rf"^  folder +{re.escape(str(folder))}$", done.stdout, re.M)
