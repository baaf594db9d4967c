"""What the tests of the ops share: arrays to try, and the comparison with an oracle, forward, first and second order."""
from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import strategies as st

import tinygan as tg
from tinygan.backends import backend_of


def smallest(device: str, dtype: Any) -> float:
    """Below this a number of that type may count as 0. CuPy compiles all kernels with -ftz=true: on a GPU it is the smallest
    normal float32."""
    found = np.finfo(np.dtype(dtype))
    return float(found.tiny if device == "cuda" and found.dtype == np.float32 else found.smallest_subnormal)


TOLERANCES = {"float64": 1e-10, "float32": 2e-4}  # relative to the largest element


class Layout(NamedTuple):
    """A way to lay an array out in memory: `view(store(a))` has the values of a, in other strides."""

    store: Callable[[np.ndarray], np.ndarray]
    view: Callable[[Any], Any]


def _last(step: slice) -> Callable[[Any], Any]:
    return lambda x: x[(..., step)] if x.shape else x


LAYOUTS = {
    "contiguous": Layout(lambda a: a, lambda x: x),
    "transposed": Layout(lambda a: np.array(a.T, order="C"), tg.transpose),
    "reversed": Layout(_last(slice(None, None, -1)), _last(slice(None, None, -1))),
    "strided": Layout(lambda a: np.repeat(a, 2, -1) if a.shape else a, _last(slice(None, None, 2))),
}
layouts = st.sampled_from(list(LAYOUTS.values()))
seeds = st.integers(0, 2**32 - 1)
CONTIGUOUS = LAYOUTS["contiguous"]


def shapes(min_dims: int = 0, max_dims: int = 3, min_side: int = 0, max_side: int = 3) -> st.SearchStrategy[tuple[int, ...]]:
    return st.lists(st.integers(min_side, max_side), min_size=min_dims, max_size=max_dims).map(tuple)


@st.composite
def broadcastable(draw: Any, count: int = 2, min_side: int = 0) -> list[tuple[int, ...]]:
    """Shapes that broadcast against each other: axes of size 1 and missing leading axes."""
    full = draw(shapes(min_side=min_side))
    return [tuple(1 if draw(st.booleans()) and draw(st.booleans()) else n for n in full[draw(st.integers(0, len(full))):])
            for _ in range(count)]


def values(seed: int, shape: Sequence[int], low: float = -2.0, high: float = 2.0) -> np.ndarray:
    """Distinct values between low and high, far enough from each other and from 0 for a finite difference."""
    rng = np.random.default_rng(seed)
    size = int(np.prod(shape, dtype=int))
    grid = (np.arange(size) + rng.uniform(0.25, 0.75, size)) / max(size, 1)
    a = low + (high - low) * rng.permutation(grid)
    return np.where(np.abs(a) < 1e-3, 1e-3, a).reshape(shape)


def check(fn: Callable[..., Any], *arrays: np.ndarray, layout: Layout = CONTIGUOUS) -> None:
    """Gradients of first and second order against finite differences, the inputs laid out as `layout` says."""
    tg.check_gradients(lambda *stored: fn(*map(layout.view, stored)), *map(layout.store, arrays), order=2)


def check_both_modes(fn: Callable[..., Any], expected: Any, *arrays: np.ndarray, device: str = "cpu",
                     layout: Layout = CONTIGUOUS, rtol: float = 1e-12) -> None:
    """Bare arrays give a bare array, Tensors a Tensor, and both hold `expected`."""
    expected = np.asarray(expected)
    stored = [to_device(layout.store(a), device) for a in arrays]
    bare = fn(*map(layout.view, stored))
    assert type(bare) is type(stored[0])
    tensor = fn(*[layout.view(tg.Tensor(a)) for a in stored])
    assert isinstance(tensor, tg.Tensor)
    for result in (bare, tensor):
        assert result.shape == expected.shape
        assert result.dtype == expected.dtype
        close(to_numpy(result), expected, rtol)


def to_device(array: np.ndarray, device: str) -> Any:
    return tg.to_device(array, device)


def to_numpy(x: Any) -> np.ndarray:
    if isinstance(x, tg.Tensor):
        return x.numpy()
    return backend_of(x).to_numpy(x)


def close(ours: Any, expected: Any, rtol: float, what: str = "the result") -> None:
    """Equal up to rtol times the largest element."""
    ours, expected = np.asarray(ours), np.asarray(expected)
    assert ours.shape == expected.shape, what
    scale = max(1.0, float(np.max(np.abs(expected[np.isfinite(expected)]), initial=0.0)))
    np.testing.assert_allclose(ours, expected, rtol=0, atol=rtol * scale, err_msg=what)


def agree(ours: Callable[..., Any], theirs: Callable[..., Any], *arrays: np.ndarray, device: str = "cpu",
          layout: Layout = CONTIGUOUS, dtypes: Sequence[str] = ("float64", "float32"), second: bool = True,
          tolerances: Mapping[str, float] = TOLERANCES) -> None:
    """`ours` against `theirs`, the same function in PyTorch: values of bare arrays and of Tensors, the gradient with
    respect to every array, and the gradient of that gradient with respect to every array and the output's weights."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    for dtype in dtypes:
        rtol = tolerances[dtype]
        inputs = [a.astype(dtype) for a in arrays]
        t_leaves = [torch.tensor(a, requires_grad=True) for a in inputs]
        t_y = theirs(*t_leaves)
        check_both_modes(ours, t_y.detach().numpy(), *inputs, device=device, layout=layout, rtol=rtol)

        leaves = [tg.Tensor(to_device(layout.store(a), device), requires_grad=True) for a in inputs]
        seen = [layout.view(leaf) for leaf in leaves]  # gradients are taken here, beyond the layout
        y = ours(*seen)
        weights = rng.standard_normal(y.shape).astype(dtype)
        g = tg.Tensor(to_device(weights, device), requires_grad=True)
        t_g = torch.tensor(weights, requires_grad=True)
        t_first = torch.autograd.grad(t_y, t_leaves, t_g, create_graph=True, materialize_grads=True)
        plain = tg.grad(y, seen, g, retain_graph=True)
        first = tg.grad(y, seen, g, create_graph=True)
        for i, (a, b, c) in enumerate(zip(plain, first, t_first, strict=True)):
            assert a.dtype == b.dtype == dtype and not a.requires_grad
            close(to_numpy(a), c.numpy(force=True), rtol, f"the gradient of input {i} in {dtype}")
            close(to_numpy(b), c.numpy(force=True), rtol, f"the gradient of input {i} in {dtype} under create_graph")
        if not second:
            continue
        directions = [rng.standard_normal(a.shape).astype(dtype) for a in inputs]
        pairs = [(b, tg.Tensor(to_device(v, device))) for b, v in zip(first, directions, strict=True) if b.requires_grad]
        t_pairs = [(c, torch.tensor(v)) for c, v in zip(t_first, directions, strict=True) if c.requires_grad]
        assert bool(pairs) == bool(t_pairs)
        if pairs:
            again = tg.grad([b for b, _ in pairs], [*seen, g], [v for _, v in pairs])
            t_again = torch.autograd.grad([c for c, _ in t_pairs], [*t_leaves, t_g], [v for _, v in t_pairs],
                                          materialize_grads=True)
            for i, (a, c) in enumerate(zip(again, t_again, strict=True)):
                close(to_numpy(a), c.numpy(force=True), 10 * rtol,
                      f"the second gradient, with respect to input {i} in {dtype}")


def gradients(fn: Callable[..., Any], *arrays: Any) -> list[np.ndarray]:
    """The gradient of the sum of fn with respect to each array, as NumPy arrays."""
    leaves = [tg.Tensor(a, requires_grad=True, dtype=np.float64) for a in arrays]
    return [np.array(g.numpy()) for g in tg.grad(fn(*leaves).sum(), leaves)]


def rooms() -> list[ModuleType]:
    """The modules of the CPU's kernels that are loaded."""
    return [module for name, module in sys.modules.items() if name.startswith("tinygan.kernels.cpu.")]


def use_compiled_kernels(patch: pytest.MonkeyPatch, compiled: bool = True) -> None:
    """Have arrays of all sizes computed by the compiled kernels, or by NumPy: set all thresholds between the two."""
    for room in rooms():
        for name in vars(room):
            if name.startswith("COMPILED_ABOVE"):
                patch.setattr(room, name, 0 if compiled else 10**12)


def share_all_tasks(patch: pytest.MonkeyPatch) -> None:
    """Have tasks of all sizes shared by the threads."""
    for room in rooms():
        for name in vars(room):
            if name.startswith("SHARED_FROM"):
                patch.setattr(room, name, 0)


def use_pool(patch: pytest.MonkeyPatch, pool: Any) -> None:
    """Have all tasks run by another pool of threads."""
    for room in rooms():
        if hasattr(room, "pool") and isinstance(room.pool, type(pool)):
            patch.setattr(room, "pool", pool)
