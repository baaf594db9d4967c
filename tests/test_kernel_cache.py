"""The bits that kernels compute do not depend on where their code comes from: a run that was killed in the process that compiled
its kernels, and goes on in one that takes them from the cache, must be the run that was never interrupted."""
from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import use_compiled_kernels

import tinygan
from tinygan.backends import cpu
from tinygan.fusion.perceptron import MLPLayer
from tinygan.kernels.activations import BY_NAME, FUSED, PIECEWISE_LINEAR
from tinygan.kernels.optimizer_settings import AdamSettings, RMSPropSettings, SGDSettings
from tinygan.ops.conv import Geometry

pytestmark = pytest.mark.cache

ROOMS = sorted(path.parent.name for path in (Path(tinygan.__file__).parent / "kernels" / "cpu").glob("*/compiled.py"))
SLOW_TO_COMPILE = ("conv2d", "mlp")  # in float64 they are left out; their helpers are those of float32
STRIDED = Geometry((16, 16), (4, 4), (8, 8), (2, 2), (1, 1), (1, 1), 1)
CONVOLUTIONS = {  # (images, channels, kernels) and the geometry
    "in lanes": ((32, 3, 8), STRIDED),
    "tiled": ((4, 64, 64), STRIDED._replace(algorithm="tiled")),
    "direct": ((4, 32, 40), STRIDED._replace(algorithm="direct")),
    "direct, groups": ((4, 80, 80), STRIDED._replace(groups=2)),
    "grouped": ((4, 32, 32), STRIDED._replace(groups=4)),
    "grouped 3x3": ((4, 32, 32), Geometry((8, 8), (3, 3), (8, 8), (1, 1), (1, 1), (1, 1), 2)),
    "direct, few tiles": ((1, 64, 256), Geometry((4, 4), (4, 4), (2, 2), (2, 2), (1, 1), (1, 1), 1, "direct")),
}


def calls(dtype: Any) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Calls of all functions that have kernels, by name, each with arrays of its own."""
    def draw(*shape: int, seed: int = 0) -> Any:
        return np.random.default_rng(seed).standard_normal(shape).astype(dtype)

    def updated(update: Any, settings: Any, states: int) -> list[Any]:
        weights, state = [draw(300, 40), draw(7)], [[np.zeros((300, 40), dtype), np.zeros(7, dtype)] for _ in range(states)]
        for _ in range(3):
            update(weights, [draw(300, 40, seed=1), draw(7, seed=1)], *state, settings)
        return [weights, state]

    a, b, x = draw(130, 300), draw(300, 90, seed=1), draw(200, 96)
    yield "matmul", partial(cpu.matmul, a, b)
    yield "matmul of transposes", lambda: cpu.matmul(b.T, a.T)
    yield "thin matmul", lambda: cpu.matmul(draw(500, 2), draw(2, 96))
    for name, slope in [(name, 0.2) for name in FUSED]:
        yield f"dense {name}", partial(cpu.dense, a, b.T, draw(90), name, slope)
        yield f"thin dense {name}", partial(cpu.dense, draw(500, 2), draw(96, 2), draw(96), name, slope)
    yield "parameters of dense", lambda: cpu.dense_parameter_grads(draw(200, 70), x)
    yield "parameters of thin dense", lambda: cpu.dense_parameter_grads(draw(200, 2), x)
    for name in BY_NAME:
        yield f"activation {name}", partial(cpu.activation, x, name, 0.2)
        yield f"slope {name}", partial(cpu.activation_grad, draw(200, 96, seed=1), x, name, 0.2)
    for name, ((n, channels, kernels), g) in CONVOLUTIONS.items():
        image, weight = draw(n, channels, *g.input), draw(kernels, channels // g.groups, *g.kernel)
        y = draw(n, kernels, *g.output)
        for fused in FUSED:
            yield f"conv2d {name}, {fused}", partial(cpu.conv2d, image, weight, g, draw(kernels), fused, 0.2)
        yield f"conv2d {name}", partial(cpu.conv2d, image, weight, g)
        yield f"image of conv2d {name}", partial(cpu.conv2d_input_grad, y, weight, g)
        yield f"weight of conv2d {name}", partial(cpu.conv2d_weight_grad, image, y, g)
    images, g_images = draw(16, 24, 8, 8), draw(16, 24, 8, 8, seed=1)
    mean, var, sums, sums_h = draw(24), draw(24) ** 2, draw(2, 24), draw(2, 24, seed=1)
    yield "statistics", lambda: (found := np.empty((2, 24), dtype), cpu.batch_norm_statistics(images, *found))[0]
    for name in PIECEWISE_LINEAR:
        told = (draw(24, seed=2), draw(24, seed=3), 1e-5, mean, var, name, 0.2)
        yield f"batch_norm {name}", partial(cpu.batch_norm, images, *told)
        yield f"batch_norm_sums {name}", partial(cpu.batch_norm_sums, g_images, images, *told)
        yield f"batch_norm_input_grad {name}", partial(cpu.batch_norm_input_grad, g_images, images, sums, *told)
        yield f"batch_norm_sums_vjp {name}", partial(cpu.batch_norm_sums_vjp, sums_h, g_images, images, sums, *told)
        yield f"batch_norm_input_grad_vjp {name}", partial(
            cpu.batch_norm_input_grad_vjp, draw(16, 24, 8, 8, seed=4), g_images, images, sums, *told)
    m, g, h = draw(64, 20, 5), draw(64, 20), draw(64, 20, 5, seed=1)
    yield "minibatch", partial(cpu.minibatch_similarity, m)
    yield "gradient of minibatch", partial(cpu.minibatch_similarity_grad, g, m)
    yield "second of minibatch", partial(cpu.minibatch_similarity_second, h, g, m)
    for name in FUSED:
        layers = (MLPLayer(2, 32, name, 0.2), MLPLayer(32, 33, name, 0.2), MLPLayer(33, 3))
        size = sum(layer.size for layer in layers)
        points, weights, by = draw(150, 2), draw(size) / 4, (True, True)
        yield f"mlp {name}", partial(cpu.mlp, points, weights, layers)
        yield f"mlp_grad {name}", partial(cpu.mlp_grad, draw(150, 3), points, weights, layers, by)
        yield f"mlp_second {name}", partial(cpu.mlp_second, draw(300 + size), draw(150, 3), points, weights, layers, by)
    logits, targets, one = draw(1000), draw(1000, seed=1) > 0, dtype(0.7)
    for name, target in {"an array": targets.astype(dtype), "a number": 0.9}.items():
        yield f"bce_with_logits of {name}", partial(cpu.bce_with_logits, logits, target)
        yield f"gradient of bce_with_logits of {name}", partial(cpu.bce_with_logits_grad, one, logits, target)
    yield "curvature of bce_with_logits", partial(cpu.bce_with_logits_curvature, draw(1000, seed=2), one, logits)
    adam = AdamSettings(learning_rate=2e-3, beta1=0.5, beta2=0.999, eps=1e-8, weight_decay=0.1, decoupled=False,
                        correction1=0.5, correction2=1e-3)
    yield "adam", partial(updated, cpu.adam, adam, 2)
    yield "adam, decoupled", partial(updated, cpu.adam, adam._replace(decoupled=True), 2)
    yield "rmsprop", partial(updated, cpu.rmsprop, RMSPropSettings(0.01, 0.9, 1e-6, 0.1), 1)
    for nesterov in (False, True):
        yield f"sgd, {nesterov}", partial(updated, cpu.sgd, SGDSettings(0.1, 0.9, nesterov, 0.01), 1)
    yield "adam_grad", lambda: cpu.adam_grad(draw(3, 5000), np.abs(draw(3, 5000, seed=1)), draw(5000, seed=2), adam)
    key = np.array([3, 4], np.uint32)
    yield "bits", lambda: cpu.random_bits(key, np.empty(5001, np.uint32))
    yield "normal", lambda: cpu.random_normal(key, np.empty(5001, dtype))
    yield "uniform", lambda: cpu.random_uniform(key, np.empty(5001, dtype), -1.0, 2.0)
    for axes in (None, (0,), (1,), (0, 2, 3)):
        yield f"sum over {axes}", partial(cpu.sum, images, axes, False)
    yield "channels_last", partial(cpu.channels_last, images)
    yield "reshape", lambda: cpu.reshape(draw(16, 24 * 64), (16, 24, 8, 8))


def digest(value: Any) -> str:
    arrays = value if isinstance(value, tuple | list) else [value]
    told = "".join(digest(a) if isinstance(a, tuple | list) else np.ascontiguousarray(a).tobytes().hex() for a in arrays)
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def play(dtypes: list[str], backwards: bool) -> None:
    """Print what is computed, by name, and the rooms whose kernels were used."""
    digests = {}
    with np.errstate(all="ignore"), pytest.MonkeyPatch.context() as patch:
        use_compiled_kernels(patch)
        everything = [(f"{name} of {dtype}", call) for dtype in dtypes for name, call in calls(np.dtype(dtype).type)]
        for name, call in everything[::-1 if backwards else 1]:
            if not (name.endswith("float64") and any(slow in name for slow in SLOW_TO_COMPILE)):
                digests[name] = digest(call())
    rooms = sorted(name.split(".")[3] for name in sys.modules
                   if name.startswith("tinygan.kernels.cpu.") and name.endswith(".compiled"))
    print(json.dumps([digests, rooms]))


def start(folder: Path, dtypes: list[str], backwards: bool = False) -> subprocess.Popen[str]:
    """Play in another process, whose cache lies in that folder."""
    path = os.pathsep.join((str(Path(tinygan.__file__).parents[1]), str(Path(__file__).parent)))
    code = f"import test_kernel_cache; test_kernel_cache.play({dtypes}, {backwards})"
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=folder,
                            env={**os.environ, "PYTHONPATH": path, "XDG_CACHE_HOME": str(folder)})


def end(process: subprocess.Popen[str]) -> tuple[dict[str, str], list[str]]:
    out, _ = process.communicate(timeout=900)
    assert process.returncode == 0
    digests, rooms = json.loads(out)
    return digests, rooms


def test_kernels_from_the_cache_compute_the_bits_of_those_just_compiled(tmp_path: Path) -> None:
    compiled = {}
    for process in [start(tmp_path, [dtype]) for dtype in ("float32", "float64")]:  # at once, to save time
        compiled |= end(process)[0]
    for backwards in (False, True):  # whichever kernel is loaded first
        loaded, rooms = end(start(tmp_path, ["float32", "float64"], backwards))
        assert rooms == ROOMS  # the calls reach every room
        assert {name for name in compiled if loaded[name] != compiled[name]} == set()
