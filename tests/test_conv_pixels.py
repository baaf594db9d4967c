"""Convolutions whose kernels cover one pixel: one matrix product. Against sums in float64."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinygan as tg
from tinygan.kernels.cpu.conv import compiled, planner
from tinygan.random import Key

SIZES = {  # (images, channels, height, width), kernels: all large enough for the compiled kernels
    "many pixels": ((5, 19, 13, 11), 33), "whole blocks": ((4, 32, 12, 12), 64), "one pixel": ((3, 512, 1, 1), 300),
    "few rows": ((1, 300, 1, 5), 520), "few kernels": ((8, 64, 16, 16), 6), "many panels": ((2, 512, 4, 4), 640),
}


def drawn(shape: tuple[int, ...], seed: int, dtype: str) -> Any:
    return Key(seed).normal(shape, np.float64).astype(dtype)


def close(got: Any, expected: Any, dtype: str) -> None:
    np.testing.assert_allclose(got, expected, rtol=0, atol={"float64": 1e-12, "float32": 3e-6}[dtype] * np.abs(expected).max())


@pytest.fixture
def products(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Notes when such a product runs."""
    noted: list[str] = []

    def note(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *a, **k: (noted.append(name), function(*a, **k))[1]

    monkeypatch.setattr(compiled, "_convolve_pixels", note("pixels", compiled._convolve_pixels))
    return noted


@pytest.mark.parametrize("layout", ["channels first", "channels last"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("size", SIZES)
def test_a_convolution_and_its_gradients(size: str, dtype: str, layout: str, products: list[str]) -> None:
    (n, c, h, w), k = SIZES[size]
    x, weight, bias, g = (drawn(shape, i, dtype) for i, shape in enumerate([(n, c, h, w), (k, c, 1, 1), (k,), (n, k, h, w)]))
    if layout == "channels last":
        x = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    inputs = [tg.Tensor(a, requires_grad=True, dtype=dtype) for a in (x, weight, bias)]
    y = tg.conv2d(*inputs, activation="leaky_relu", slope=0.3)
    exact = np.einsum("nchw,kc->nkhw", x.astype("f8"), weight[..., 0, 0].astype("f8")) + bias.astype("f8")[:, None, None]
    mask = np.where(exact > 0, 1.0, 0.3)
    close(y, exact * mask, dtype)
    gx, gw, gb = tg.grad(y, inputs, g)
    masked = g.astype("f8") * np.where(y.numpy() > 0, 1.0, 0.3)
    close(gx, np.einsum("nkhw,kc->nchw", masked, weight[..., 0, 0].astype("f8")), dtype)
    close(gw, np.einsum("nkhw,nchw->kc", masked, x.astype("f8"))[..., None, None], dtype)
    close(gb, masked.sum((0, 2, 3)), dtype)
    plain = tg.conv2d(inputs[0], inputs[1])
    close(plain, exact - bias.astype("f8")[:, None, None], dtype)
    assert products == ["pixels"] * 3


def test_transposed_with_a_bias(products: list[str]) -> None:
    x, weight, bias = drawn((4, 48, 9, 10), 0, "float32"), drawn((48, 40, 1, 1), 1, "float32"), drawn((40,), 2, "float32")
    exact = np.einsum("nkhw,kc->nchw", x.astype("f8"), weight[..., 0, 0].astype("f8")) + bias[:, None, None]
    close(tg.conv_transpose2d(x, weight, bias), exact, "float32")
    assert products == ["pixels"]


@pytest.mark.parametrize("options", [
    {"stride": 2}, {"padding": 1}, {"stride": 2, "padding": 1}, {"groups": 2}], ids=str)
def test_what_is_no_such_product(options: dict[str, int], products: list[str]) -> None:
    """Strides, padding, groups. (With stride 2 and padding 1 a map of an image of 3 x 3 has the image's size.)"""
    groups, stride, padding = (options.get(name, default) for name, default in (("groups", 1), ("stride", 1), ("padding", 0)))
    x, weight = drawn((40, 64, 3, 3), 0, "float64"), drawn((64, 64 // groups, 1, 1), 1, "float64")
    inputs = [tg.Tensor(a, requires_grad=True) for a in (x, weight)]
    y = tg.conv2d(*inputs, **options)
    padded = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))[:, :, ::stride, ::stride]
    halves = padded.reshape(40, groups, 64 // groups, *padded.shape[2:])
    matrices = weight.reshape(groups, 64 // groups, 64 // groups)
    close(y, np.einsum("ngchw,gkc->ngkhw", halves, matrices).reshape(y.shape), "float64")
    g = drawn(y.shape, 2, "float64")
    by_weight = np.einsum("ngkhw,ngchw->gkc", g.reshape(40, groups, 64 // groups, *y.shape[2:]), halves)
    close(tg.grad(y, inputs, g)[1], by_weight.reshape(weight.shape), "float64")
    assert products == []


def test_the_geometry_is_that_of_one_matrix() -> None:
    def geometry(h: int, **options: Any) -> Any:
        return tg.ops.conv.conv2d_geometry(np.zeros((1, 2, h, h)), np.zeros((2, 2, 1, 1)), None, options.get("stride", 1),
                                           options.get("padding", 0), 1, 1)[1]

    assert planner.is_pixelwise(geometry(5))
    assert not planner.is_pixelwise(geometry(3, stride=2, padding=1)) and not planner.is_pixelwise(geometry(5, padding=1))
