"""docs/how-to/own-kernel.md: its CUDA kernel compiles for every GPU, and computes softsign. (`test_docs_code.py` runs the page.)"""
from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from test_cuda_compile import ARCHITECTURES, compiled, nvrtc  # noqa: F401  (nvrtc is a fixture)

PAGE = (Path(__file__).parents[1] / "docs" / "how-to" / "own-kernel.md").read_text(encoding="utf-8")
SOURCE = re.search(r'CUDA = r"""\n(.*?)"""', PAGE, re.DOTALL)[1]
THREADS = """
#include <cmath>
using std::fabs;
struct Index { long long x; };
static Index blockIdx, blockDim, threadIdx;
#define __device__
#define __global__
"""
START = """
extern "C" void start(const float* x, float* out, long long size, long long blocks, long long threads) {
    blockDim.x = threads;
    for (blockIdx.x = 0; blockIdx.x < blocks; ++blockIdx.x)
        for (threadIdx.x = 0; threadIdx.x < threads; ++threadIdx.x) softsign_float32(x, out, size);
}
"""


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_it_compiles(nvrtc, architecture):  # noqa: F811
    messages, ptx, _ = compiled(nvrtc, SOURCE, architecture)
    assert messages == "" and "softsign_float32" in ptx and "softsign_float64" in ptx


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
def test_its_threads_compute_softsign_and_stay_inside(tmp_path):
    (tmp_path / "kernel.cpp").write_text(THREADS + SOURCE + START)
    subprocess.run(["g++", "-O1", "-shared", "-fPIC", "kernel.cpp", "-o", "kernel.so"], cwd=tmp_path, check=True)
    start = ctypes.CDLL(str(tmp_path / "kernel.so")).start
    x, out = np.linspace(-5, 5, 300, dtype=np.float32), np.full(512, 7, np.float32)
    pointers = [array.ctypes.data_as(ctypes.c_void_p) for array in (x, out)]
    start(*pointers, *(ctypes.c_longlong(n) for n in (300, 2, 256)))  # as the page starts it: blocks of 256 threads
    np.testing.assert_allclose(out[:300], x / (1 + np.abs(x)), rtol=1e-6)
    assert (out[300:] == 7).all()
