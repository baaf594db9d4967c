"""The CUDA kernels under the compiler's sanitizers, in separate processes. All their tests run with a check of addresses.
Every kernel whose threads wait for each other also runs on host threads, with a check for races. Run it with
`python -m pytest -m sanitizer`."""
import glob
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
HERE = {"test_cuda_compile.py", "test_cuda_emulator.py", Path(__file__).name}
pytestmark = [
    pytest.mark.sanitizer,
    pytest.mark.skipif(platform.system() != "Linux" or shutil.which("g++") is None,
                       reason="the sanitizers' libraries are preloaded as on Linux, and come with g++")]

BROKEN = """
#include "runtime/common.cuh"

extern "C" __global__ void past_array(const real* x, real* out, int from) {
    __syncthreads();
    out[threadIdx.x] = x[from + int(threadIdx.x)];
}
KERNEL(past_array)

extern "C" __global__ void past_shared(const real* x, real* out, int used) {
    __shared__ real numbers[64];
    if (int(threadIdx.x) < used) numbers[threadIdx.x % 64] = x[threadIdx.x % 64];
    __syncthreads();
    if (int(threadIdx.x) < used) out[threadIdx.x % 64] = numbers[threadIdx.x];
}
KERNEL(past_shared)

extern "C" __global__ void past_dynamic(const real* x, real* out, int from) {
    DYNAMIC_SHARED(real, numbers);
    numbers[from + int(threadIdx.x)] = x[threadIdx.x];
    __syncthreads();
    out[threadIdx.x] = numbers[from + int(threadIdx.x)];
}
KERNEL(past_dynamic)

extern "C" __global__ void past_local(const real* x, real* out, int from) {
    real numbers[4];
    for (int i = 0; i < 4; i++) numbers[i] = x[i];
    __syncthreads();
    out[threadIdx.x] = numbers[from + int(threadIdx.x % 4)];
}
KERNEL(past_local)

extern "C" __global__ void race_in_block(const real* x, real* out, int waits) {
    __shared__ real numbers[64];
    numbers[threadIdx.x] = x[threadIdx.x];
    if (waits) __syncthreads();
    out[threadIdx.x] = numbers[63 - threadIdx.x];
}
KERNEL(race_in_block)

extern "C" __global__ void race_in_warp(const real* x, real* out, int waits) {
    __shared__ real numbers[64];
    numbers[threadIdx.x] = x[threadIdx.x];
    if (waits) __syncwarp();
    out[threadIdx.x] = numbers[threadIdx.x ^ 31];
}
KERNEL(race_in_warp)
"""

LAUNCH = """
import sys
from pathlib import Path
import numpy as np
from tinygan.kernels.cuda.emulator.launcher import Emulator
folder, kernel, sanitizer, number, threads = sys.argv[1:]
x, out = np.ones(64, np.float32), np.zeros(64, np.float32)
for _ in range(2):  # the second launch runs on used stacks
    Emulator(sanitizer, Path(folder)).launch("broken", kernel, 2, int(threads), (x, out, int(number)), np.float32, shared=256)
print("came through")
"""


def run(sanitizer, *command):
    """Run Python with that sanitizer's library. It stops at the first error."""
    library = {"address": "libasan.so", "thread": "libtsan.so"}[sanitizer]
    found = subprocess.run(["g++", f"-print-file-name={library}"], capture_output=True, text=True, check=True).stdout.strip()
    if not os.path.isabs(found):
        pytest.skip(f"g++ here comes without {library}")
    environment = {**os.environ, "LD_PRELOAD": found, "TINYGAN_EMULATOR_SANITIZE": sanitizer, "TSAN_OPTIONS": "halt_on_error=1",
                   "ASAN_OPTIONS": "detect_leaks=0:quarantine_size_mb=16"}  # no leaks: Python itself never frees some memory
    return subprocess.run([sys.executable, *command], env=environment, cwd=TESTS.parent, capture_output=True, text=True,
                          check=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("kernels")
    (path / "broken.cu").write_text(BROKEN)
    return path


@pytest.mark.parametrize("kernel, sanitizer, good, bad, threads, told", [
    ("past_array", "address", 0, 1, 64, "heap-buffer-overflow"),
    ("past_array", "address", 0, -1, 64, "heap-buffer-overflow"),
    ("past_shared", "address", 64, 65, 96, "global-buffer-overflow"),
    ("past_dynamic", "address", 0, 1, 64, "heap-buffer-overflow"),
    ("past_local", "address", 0, 1, 64, "stack-buffer-overflow"),
    ("race_in_block", "thread", 1, 0, 64, "data race"),
    ("race_in_warp", "thread", 1, 0, 64, "data race"),
])
def test_what_is_wrong_is_found(folder, kernel, sanitizer, good, bad, threads, told):
    for number, fine in ((good, True), (bad, False)):
        done = run(sanitizer, "-c", LAUNCH, str(folder), kernel, sanitizer, str(number), str(threads))
        if fine:
            assert (done.returncode, done.stdout) == (0, "came through\n"), done.stderr
        else:
            assert done.returncode != 0
            assert f"Sanitizer: {told}" in done.stderr and f"in {kernel}" in done.stderr


def test_addresses():
    files = sorted(file for file in glob.glob(str(TESTS / "test_cuda_*.py")) if Path(file).name not in HERE)
    done = run("address", "-m", "pytest", "-x", "-p", "no:cacheprovider", *files)
    assert done.returncode == 0, (done.stdout + done.stderr)[-5000:]
    assert " passed" in done.stdout and " skipped" not in done.stdout


def test_races():
    done = run("thread", str(TESTS / "cuda_kernels_once.py"))
    assert done.returncode == 0, done.stderr[-5000:]
    launched = set(done.stdout.split())
    assert {name.split(".")[0] for name in launched} >= {"conv/direct", "losses", "minibatch", "batchnorm",
                                                        "matmul/products", "reductions"}
