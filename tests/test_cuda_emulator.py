"""The emulator runs kernels like a GPU: indices, shared memory, shuffles, barriers, arguments."""
import subprocess
import sys
from typing import NamedTuple

import numpy as np
import pytest

import tinygan as tg
from tinygan.kernels.cuda.emulator.launcher import Emulator, EmulatorError
from tinygan.kernels.cuda.runtime.launcher import converted, dims

KERNELS = """
#include "runtime/common.cuh"

// Each thread notes its indices (6 numbers) where its number among all threads of the grid says.
extern "C" __global__ void places(int* out) {
    int block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
    int thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
    int* o = out + 6 * (block * blockDim.x * blockDim.y * blockDim.z + thread);
    o[0] = blockIdx.z, o[1] = blockIdx.y, o[2] = blockIdx.x, o[3] = threadIdx.z, o[4] = threadIdx.y, o[5] = threadIdx.x;
}
KERNEL(places)

// Reverses each block's numbers.
extern "C" __global__ void reversed(const real* x, real* out) {
    DYNAMIC_SHARED(real, numbers);
    int i = threadIdx.x, n = blockDim.x, first = blockIdx.x * n;
    numbers[i] = x[first + i];
    __syncthreads();
    out[first + i] = numbers[n - 1 - i];
}
KERNEL(reversed)

extern "C" __global__ void unwritten(real* out) {
    DYNAMIC_SHARED(real, numbers);
    out[threadIdx.x] = numbers[threadIdx.x];
}
KERNEL(unwritten)

extern "C" __global__ void shuffles(const real* x, real* out) {
    int i = threadIdx.x, n = blockDim.x;
    real mine = x[i];
    out[i] = __shfl_xor_sync(WHOLE_WARP, mine, 5);
    out[n + i] = __shfl_down_sync(WHOLE_WARP, mine, 3);
    out[2 * n + i] = __shfl_sync(WHOLE_WARP, mine, 7);
    out[3 * n + i] = block_sum(mine);
}
KERNEL(shuffles)

// Threads that have returned are waited for neither by the block nor by their warp.
extern "C" __global__ void early(int* out) {
    __shared__ int seen[64];
    int i = threadIdx.x;
    if (i >= 40) return;
    seen[i] = i;
    __syncthreads();
    out[i] = seen[39 - i];
}
KERNEL(early)

// Where a warp is not of one mind, it waits for ever.
extern "C" __global__ void diverging(int limit) {
    if (int(threadIdx.x) < limit) {
        __syncthreads();
    } else {
        __syncwarp();
    }
}
KERNEL(diverging)

extern "C" __global__ void mixed(const real* x, int n, double scale, const real* none, real* out) {
    if (threadIdx.x == 0) out[0] = x[n] * real(scale) + (none ? real(1000) : real(0));
}
KERNEL(mixed)

struct Sizes {
    int rows, columns;
};
extern "C" __global__ void by_value(const __grid_constant__ Sizes sizes, int last, int* out) {
    out[0] = sizes.rows;
    out[1] = sizes.columns;
    out[2] = last;
}
KERNEL(by_value)
"""


class Sizes(NamedTuple):
    """The same fields as the struct above."""

    rows: int
    columns: int


class Fewer(NamedTuple):
    """Fewer fields than the struct above."""

    rows: int


@pytest.fixture(scope="module")
def emulator(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kernels")
    (folder / "kernels.cu").write_text(KERNELS)
    (folder / "wrong.cu").write_text('#include "runtime/common.cuh"\nmissing f;')
    return Emulator(folder=folder)


def test_indices(emulator):
    grid, block = (2, 3, 2), (4, 2, 3)
    out = np.full((*grid[::-1], *block[::-1], 6), -1, np.int32)
    emulator.launch("kernels", "places", grid, block, (out,), np.float32)
    np.testing.assert_array_equal(out, np.moveaxis(np.indices(out.shape[:-1]), 0, -1))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_shared_memory(emulator, dtype):
    x = np.arange(3 * 70, dtype=dtype)
    out = np.empty_like(x)
    emulator.launch("kernels", "reversed", 3, 70, (x, out), dtype, shared=70 * x.itemsize)
    np.testing.assert_array_equal(out.reshape(3, 70), x.reshape(3, 70)[:, ::-1])
    emulator.launch("kernels", "unwritten", 1, 64, (out,), dtype, shared=64 * x.itemsize)
    assert np.isnan(out[:64]).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_shuffles(emulator, dtype):
    x = np.arange(64, dtype=dtype)
    out = np.empty((4, 64), dtype)
    emulator.launch("kernels", "shuffles", 1, 64, (x, out), dtype)
    lane, first = np.arange(64) % 32, np.arange(64) // 32 * 32
    np.testing.assert_array_equal(out[0], first + (lane ^ 5))
    np.testing.assert_array_equal(out[1], first + np.where(lane + 3 < 32, lane + 3, lane))
    np.testing.assert_array_equal(out[2], first + 7)
    np.testing.assert_array_equal(out[3], x.sum())


def test_threads_that_return_early(emulator):
    out = np.empty(40, np.int32)
    emulator.launch("kernels", "early", 1, 64, (out,), np.float32)
    np.testing.assert_array_equal(out, np.arange(40)[::-1])


def test_arguments(emulator):
    x, out = np.arange(5, dtype=np.float64), np.zeros(1)
    emulator.launch("kernels", "mixed", 1, 1, (x, 3, 0.5, None, out), np.float64)
    assert out == 1.5
    emulator.launch("kernels", "mixed", 1, 1, (x, np.int64(4), np.float32(2), x, out), np.float64)
    assert out == 1008
    with pytest.raises(TypeError, match="mixed: got 4 arguments, expected 5"):
        emulator.launch("kernels", "mixed", 1, 1, (x, 3, 0.5, out), np.float64)


def test_structs(emulator):
    out = np.zeros(3, np.int32)
    emulator.launch("kernels", "by_value", 1, 1, (Sizes(np.int64(-2), 2**31 - 1), 5, out), np.float32)
    assert out.tolist() == [-2, 2**31 - 1, 5]
    with pytest.raises(TypeError, match="by_value: argument 0 has 4 bytes, expected 8"):
        emulator.launch("kernels", "by_value", 1, 1, (Fewer(1), 5, out), np.float32)
    with pytest.raises(TypeError, match="by_value: argument 1 has 8 bytes, expected 4"):
        emulator.launch("kernels", "by_value", 1, 1, (Sizes(1, 2), 5.0, out), np.float32)
    assert converted("by_value", Sizes(1, 2)).shape == (1,)  # CuPy passes an array of one element by value
    with pytest.raises(ValueError, match=r"by_value: .*columns=2147483648.* does not fit into an int"):
        converted("by_value", Sizes(0, 2**31))


def test_what_cannot_be_launched(emulator):
    with pytest.raises(ValueError, match="does not fit into an int"):
        converted("kernel", 2**31)
    for size in (0, -1, (1, 2**31)):
        with pytest.raises(ValueError, match="a grid or block of"):
            dims(size)
    with pytest.raises(EmulatorError, match=r"wrong\.cu as float:[\s\S]*missing"):
        emulator.launch("wrong", "f", 1, 1, (), np.float32)


DIVERGE = """
import sys
from pathlib import Path
import numpy as np
from tinygan.kernels.cuda.emulator.launcher import Emulator
Emulator(folder=Path(sys.argv[1])).launch("kernels", "diverging", (1, 2), 64, (int(sys.argv[2]),), np.float32)
print("came through")
"""


@pytest.mark.parametrize("limit, comes", [(64, True), (32, True), (63, False), (1, False)])
def test_a_barrier_that_some_threads_miss_is_told(emulator, limit, comes):
    done = subprocess.run([sys.executable, "-c", DIVERGE, str(emulator.folder), str(limit)], capture_output=True, text=True,
                          timeout=60, check=False)
    if comes:
        assert (done.returncode, done.stdout) == (0, "came through\n")
    else:
        assert done.returncode < 0
        assert "a barrier that not all threads of the block (or warp) reach (block 0, 0, 0)" in done.stderr


def captured(function):
    """Call `function` with the namespace and an array of the emulated device, inside a capture."""
    step = tg.capture(function)
    x = tg.to_device(np.arange(9, dtype=np.float32).reshape(3, 3), "emulated")
    step(x)  # the first call runs as usual
    step(x)  # the second call is recorded
    return step(x)


@pytest.mark.parametrize("name, function", [
    ("matmul", lambda xp, x: xp.matmul(x, x)),
    ("@", lambda xp, x: x @ x),
    ("dot", lambda xp, x: x.dot(x)),
    ("np.dot", lambda xp, x: np.dot(x, x)),
    ("inner", lambda xp, x: xp.inner(x, x)),
    ("tensordot", lambda xp, x: xp.tensordot(x, x, 1)),
    ("einsum", lambda xp, x: xp.einsum("ij,jk->ik", x, x)),
    ("svd", lambda xp, x: np.linalg.svd(x)),
    ("norm", lambda xp, x: xp.linalg.norm(x)),
    ("random", lambda xp, x: xp.random.random(3)),
    ("sort", lambda xp, x: xp.sort(x)),
    ("x.argsort", lambda xp, x: x.argsort()),
    ("percentile", lambda xp, x: xp.percentile(x, 50)),
    ("unique", lambda xp, x: xp.unique(x)),
    ("nonzero", lambda xp, x: xp.nonzero(x)),
    ("where", lambda xp, x: xp.where(x > 1)),
    ("mask", lambda xp, x: x[x > 1]),
    ("list", lambda xp, x: x[[0, 1]]),
    ("host index", lambda xp, x: x[:, np.array([0, 1])]),
    ("bincount", lambda xp, x: xp.bincount(x.astype(np.int64).reshape(-1))),
    ("index", lambda xp, x: list(range(9))[xp.argmax(x)]),
    ("bool", lambda xp, x: bool(xp.any(x > 1))),
    ("get", lambda xp, x: x.get()),
    ("upload", lambda xp, x: xp.asarray(np.ones(3))),
])
def test_what_cupy_refuses_in_a_capture_is_refused(name, function):
    xp = tg.devices.device("emulated").xp
    with pytest.raises(RuntimeError, match="inside a capture"):
        captured(lambda x: (function(xp, x), x)[1])
    function(xp, tg.to_device(np.eye(3, dtype=np.float32), "emulated"))  # outside of a capture it works


@pytest.mark.parametrize("function", [
    lambda xp, x: xp.where(x > 1, x, 0), lambda xp, x: xp.sum(x, 0), lambda xp, x: x[:, 1:], lambda xp, x: xp.cumsum(x, 1),
    lambda xp, x: x[xp.argmax(x, 1)], lambda xp, x: xp.concatenate([x, x]),
])
def test_what_cupy_captures_is_captured(function):
    xp, x = tg.devices.device("emulated").xp, np.arange(9, dtype=np.float32).reshape(3, 3)
    np.testing.assert_array_equal(captured(lambda x: function(xp, x)).get(), function(np, x))
