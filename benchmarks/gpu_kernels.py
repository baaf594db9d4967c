"""Compare tinygan's kernels on a GPU, one by one, with the least time that the card needs: to move the bytes at the rate of
a large copy, and to multiply at the rate of a large product of cuBLAS. Also compare a whole vanilla step with the sum of its
kernels' least times.

A ratio may be below 1: a kernel's arrays may be in the card's cache, unlike those of a large copy, and a tiled convolution
needs fewer multiplications than its definition says.
"""
from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import gpu_steps
import numpy as np
from conv_layers import Layer, of_discriminator
from gpu_card import PARTS_PER_REPLAY, SHORT_TURN, Card, NotHereError
from gpu_steps import Precision
from models import BatchNorm, Conv, ConvTranspose, Dense

import tinygan as tg
from tinygan.random import Key

LAUNCH = 2.5e-6  # the least number of seconds that any kernel takes
RECORDED = 20  # steps that are profiled
Times = dict[str, float]


class Case(NamedTuple):
    """One kernel, or the few kernels of one op: the function that calls it, how many bytes it must read and write, and its
    multiplications and additions by the definition. peer: the same in PyTorch, if that is timed."""

    name: str
    sizes: str
    call: Callable[[], Any]
    bytes: int
    operations: int
    peer: Callable[[], Any] | None = None


def of_kernels(card: Card, group: str, batch: int, precision: str, rates: Times) -> dict[str, Any]:
    """Time one group of kernels: "convolutions" or "others" of a dcgan64 step, or the "products" of a vanilla step."""
    if precision not in rates:
        raise NotHereError(f"what this card reaches in {precision} is not known")
    rows, failed = [], []
    with Precision(card, precision):
        for case in GROUPS[group](card, batch):
            try:
                rows.append(measured(card, case, rates, precision))
            except Exception as error:
                failed.append({"name": case.name, "sizes": case.sizes, "error": f"{type(error).__name__}: {error}",
                               "traceback": traceback.format_exc()})
            card.free()
    return {"rows": [{"precision": precision, "batch": batch, **row} for row in rows], "failed": failed}


def measured(card: Card, case: Case, rates: Times, precision: str) -> dict[str, Any]:
    seconds = 1e-3 * card.of_one_call(case.call)
    moving, multiplying = case.bytes / rates["bytes"], case.operations / rates[precision]
    row = {"name": case.name, "sizes": case.sizes, "us": 1e6 * seconds, "bytes": case.bytes, "operations": case.operations,
           "floor_us": 1e6 * max(moving, multiplying), "bound": "bytes" if moving >= multiplying else "operations",
           "ratio": seconds / max(moving, multiplying)}
    if case.peer is not None and card.torch_device is not None:
        row["torch_us"] = 1e3 * (card.milliseconds(case.peer) if card.emulated else _of_one_torch_call(card, case.peer))
    return row


def _of_one_torch_call(card: Card, call: Callable[[], Any], calls: int = PARTS_PER_REPLAY) -> float:
    """The milliseconds of one call in PyTorch, without Python's time, as `Card.of_one_call` measures them."""
    import torch

    aside = torch.cuda.Stream()
    with torch.cuda.stream(aside):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(calls):
            call()
    repeats = card.repeats(graph.replay, SHORT_TURN)
    return sorted(card.milliseconds(graph.replay, repeats) / calls for _ in range(5))[2]


def _layers(card: Card) -> list[Layer]:
    """The convolutions of dcgan64's discriminator. Those of the generator are their transposes."""
    model = gpu_steps.model_of(card, "dcgan64")
    return of_discriminator("dcgan64", model.discriminator, model.image_shape[1])


def _images(card: Card, shape: tuple[int, ...], key: int) -> Any:
    """Images that are channels-last in memory, as in tinygan's layers."""
    n, c, h, w = shape
    return Key(key).normal((n, h, w, c), backend=card.backend).transpose(0, 3, 1, 2)


def convolutions(card: Card, batch: int) -> Iterator[Case]:
    """The convolutions of dcgan64, and the transposed one with which the generator begins."""
    generator = gpu_steps.model_of(card, "dcgan64").generator
    latent = next(layer for layer in generator if isinstance(layer, ConvTranspose))
    first = Layer("dcgan64 latent", Conv(latent.outputs, latent.inputs, latent.kernel), latent.kernel)
    for layer in [*_layers(card), first]:
        yield from _convolution(card, layer, batch)


def _convolution(card: Card, layer: Layer, batch: int) -> Iterator[Case]:
    """The three maps of a layer. They are also those of its transpose."""
    c = layer.conv
    x = _images(card, (batch, c.inputs, layer.size, layer.size), 0)
    y = _images(card, (batch, c.outputs, layer.output, layer.output), 1)
    weight = Key(2).normal((c.outputs, c.inputs, c.kernel, c.kernel), backend=card.backend)
    left_over = layer.size - ((layer.output - 1) * c.stride - 2 * c.padding + c.kernel)
    maps: dict[str, Callable[[], Any]] = {
        "forward": lambda: tg.conv2d(x, weight, None, c.stride, c.padding),
        "input gradient": lambda: tg.conv_transpose2d(y, weight, None, c.stride, c.padding, left_over),
        "weight gradient": lambda: tg.conv2d_weight_grad(x, y, c.kernel, c.stride, c.padding),
    }
    peers: dict[str, Callable[[], Any]] = {}
    if card.torch_device is not None:
        import conv_torch
        import torch

        torch_subject = conv_torch.Subject("channels-last", torch.get_num_threads())
        with torch.device(card.torch_device):
            peers = torch_subject.maps(layer, *map(torch_subject.array, layer.inputs(batch, "float32")))
    sizes = layer.describe().partition(": ")[2]
    for name, call in maps.items():
        operations = round(1e9 * layer.gflop(batch))
        yield Case(f"convolution, {name}", sizes, call, x.nbytes + y.nbytes + weight.nbytes, operations, peers.get(name))


def products(card: Card, batch: int) -> Iterator[Case]:
    """The dense layers of both networks. The discriminator gets real and generated examples as one batch."""
    vanilla = gpu_steps.model_of(card, "vanilla")
    for player, rows in ((vanilla.generator, batch), (vanilla.discriminator, 2 * batch)):
        for layer in player:
            if isinstance(layer, Dense):
                yield from _product(card, layer, rows)


def _product(card: Card, layer: Dense, rows: int) -> Iterator[Case]:
    """A dense layer with its bias, and its gradients."""
    backend = card.backend
    x = Key(0).normal((rows, layer.inputs), backend=backend)
    g = Key(1).normal((rows, layer.outputs), backend=backend)
    weight = Key(2).normal((layer.outputs, layer.inputs), backend=backend)
    bias = Key(3).normal((layer.outputs,), backend=backend)
    maps: dict[str, Callable[[], Any]] = {
        "forward": lambda: backend.dense(x, weight, bias, "leaky_relu", 0.2),
        "input gradient": lambda: backend.matmul(g, weight),
        "weight gradient": lambda: backend.dense_parameter_grads(x, g),
    }
    peers: dict[str, Callable[[], Any]] = {}
    if card.torch_device is not None:
        import torch

        tx, tg_, tw = (torch.zeros(a.shape, device=card.torch_device) for a in (x, g, weight))
        tb = torch.zeros(layer.outputs, device=card.torch_device)
        peers = {
            "forward": lambda: torch.nn.functional.leaky_relu(torch.addmm(tb, tx, tw.T), 0.2),
            "input gradient": lambda: tg_ @ tw,
            "weight gradient": lambda: (tg_.T @ tx, tg_.sum(0)),
        }
    for name, call in maps.items():
        size, operations = x.nbytes + g.nbytes + weight.nbytes, 2 * rows * layer.inputs * layer.outputs
        yield Case(f"dense, {name}", f"{rows} x {layer.inputs} to {layer.outputs}", call, size, operations, peers.get(name))


def others(card: Card, batch: int) -> Iterator[Case]:
    """Batch norm, an activation, Adam and noise. Memory limits their speed, so no operations are counted."""
    backend, dcgan, layers = card.backend, gpu_steps.model_of(card, "dcgan64"), _layers(card)
    following = dict(zip(dcgan.discriminator, dcgan.discriminator[1:], strict=False))
    for layer in layers:
        if isinstance(following.get(layer.conv), BatchNorm):
            yield from _batch_norms(card, (batch, layer.conv.outputs, layer.output, layer.output))
    first = layers[0]
    shape = (batch, first.conv.outputs, first.output, first.output)
    g, y = _images(card, shape, 0), _images(card, shape, 1)
    sizes = " x ".join(map(str, shape))
    yield Case("activation", sizes, lambda: backend.activation(y, "leaky_relu", 0.2), 2 * y.nbytes, 0)
    yield Case("activation, gradient", sizes, lambda: backend.activation_grad(g, y, "leaky_relu", 0.2), 3 * y.nbytes, 0)
    sides = [shape for layer in dcgan.generator if isinstance(layer, Conv | BatchNorm)
             for shape in layer.parameter_shapes().values()]
    p, gradient, m, v = ([backend.xp.ones(side, np.float32) for side in sides] for _ in range(4))
    settings = np.array([2e-4, 0.5, 0.999, 1e-8, 0.0, 0.0, 0.5, 1e-3])
    size = sum(a.nbytes for a in p)
    yield Case("Adam", f"{len(p)} arrays, {size // 4} numbers", lambda: backend.adam(p, gradient, m, v, settings),
               7 * size, 0)
    for drawn in ((batch, dcgan.latent_dim), (batch, *dcgan.image_shape)):
        out = backend.empty(drawn, np.dtype(np.float32))
        yield Case("normal noise", " x ".join(map(str, drawn)), lambda out=out: backend.random_normal(Key(0).data, out),
                   out.nbytes, 0)


def _batch_norms(card: Card, shape: tuple[int, ...]) -> Iterator[Case]:
    """Forward, x is read once for the statistics (unless a tiled convolution has measured them), and once to be normalised.
    Backward, both arrays are read twice."""
    backend, channels = card.backend, shape[1]
    x, g = _images(card, shape, 0), _images(card, shape, 1)
    weight, bias, mean, var = (backend.xp.ones(channels, np.float32) for _ in range(4))
    told = (weight, bias, 1e-5, mean, var, "leaky_relu", 0.2)
    sizes = " x ".join(map(str, shape))
    yield Case("batch norm, statistics", sizes, lambda: backend.batch_norm_statistics(x, mean, var), x.nbytes, 0)
    yield Case("batch norm, forward", sizes, lambda: backend.batch_norm(x, *told), 2 * x.nbytes, 0)
    yield Case("batch norm, gradient", sizes,
               lambda: backend.batch_norm_input_grad(g, x, backend.batch_norm_sums(g, x, *told), *told), 5 * x.nbytes, 0)


GROUPS = {"convolutions": convolutions, "products": products, "others": others}


class _Noting:
    """A launcher that notes every kernel, the bytes of its arrays, and its multiplications and additions."""

    def __init__(self, launcher: Any) -> None:
        self.launcher = launcher
        self.noted: list[tuple[str, int, int]] = []

    def launch(self, file: str, kernel: str, grid: Any, block: Any, arguments: Any, dtype: Any, *more: Any) -> None:
        arrays = {id(a): a.nbytes for a in arguments if hasattr(a, "nbytes") and getattr(a, "ndim", 0)}
        size, operations = sum(arrays.values()), 0
        if file == "matmul/products" and kernel.startswith("product_"):  # (a, b, out, bias, layout, ...)
            layout = arguments[4]
            operations = 2 * layout.batches * layout.rows * layout.columns * layout.depth
        elif kernel == "matrix_vector":  # (matrix, vector, out, bias, layout, ...)
            operations = 2 * arguments[4].rows * arguments[4].depth
        elif file == "optimizers":  # a table of addresses and sizes: seven arrays of each size are read or written
            size = 7 * int(arguments[0].get()[:, 4].sum()) * np.dtype(dtype).itemsize
        self.noted.append((f"{file}.{kernel}", size, operations))
        self.launcher.launch(file, kernel, grid, block, arguments, dtype, *more)


def of_a_step(card: Card, batch: int, rates: Times) -> dict[str, Any]:
    """Compare the captured vanilla step with the sum over its kernels of max(copy time, product time, `LAUNCH`). Kernels
    that CuPy starts (copies, zeros, sums of two losses) are not in the sum; the profile counts them."""
    point = gpu_steps.start_of(card, "vanilla", batch).astype("float32")
    plain = gpu_steps.subject(card, "vanilla", point, ("tinygan", "eager"))
    plain.step()
    device = card.backend.device
    noting = _Noting(device.launcher)
    device.launcher = noting
    try:
        plain.step()
    finally:
        device.launcher = noting.launcher
    floors: dict[str, list[float]] = {}
    for name, size, operations in noting.noted:
        floors.setdefault(name, []).append(1e6 * max(size / rates["bytes"], operations / rates["float32"], LAUNCH))
    captured = gpu_steps.subject(card, "vanilla", point, ("tinygan", "captured"))
    for _ in range(4):
        captured.step()
    repeats = card.repeats(captured.step)
    step_us = 1e3 * min(card.milliseconds(captured.step, repeats) for _ in range(1 if card.emulated else 5))
    whole = sum(sum(times) for times in floors.values())
    rows = [{"kernel": name, "calls": len(times), "floor_us": sum(times)} for name, times in floors.items()]
    return {"batch": batch, "step_us": step_us, "floor_us": whole, "ratio": step_us / whole, "kernels": len(noting.noted),
            "rows": sorted(rows, key=lambda row: -float(row["floor_us"]))}


def profile(card: Card, name: str, batch: int, precision: str) -> dict[str, Any]:
    """The time of every kernel in a captured step, also CuPy's, measured by CUDA's profiler (through PyTorch)."""
    if card.emulated or card.torch_device is None:
        raise NotHereError(card.no_torch or "nothing runs on the emulated device that CUDA's profiler could see")
    import torch
    from torch.profiler import ProfilerActivity

    point = gpu_steps.start_of(card, name, batch).astype("float32")
    with Precision(card, precision):
        captured = gpu_steps.subject(card, name, point, ("tinygan", "captured"))
        for _ in range(4):
            captured.step()
        card.used_mib()  # (waits)
        with torch.profiler.profile(activities=[ProfilerActivity.CUDA]) as profiler:
            for _ in range(RECORDED):
                captured.step()
            card.used_mib()
    times: Counter[str] = Counter()
    calls: Counter[str] = Counter()
    for event in profiler.events() or []:
        if event.device_type == torch.autograd.DeviceType.CUDA:
            times[event.name] += event.time_range.elapsed_us() / RECORDED
            calls[event.name] += 1
    rows = [{"kernel": kernel, "calls": calls[kernel] / RECORDED, "us": us} for kernel, us in times.most_common()]
    return {"model": name, "batch": batch, "precision": precision, "us": sum(times.values()), "rows": rows}
