"""The matrices of fast convolution, and their documented rounding errors."""
from __future__ import annotations

import numpy as np
import pytest

from tinygan.backends import cpu
from tinygan.kernels.cpu.conv import im2col, planner
from tinygan.kernels.winograd import DIRECT, ERRORS, POINTS, Tile, fitting, matrices
from tinygan.ops.conv import Geometry


@pytest.mark.parametrize("m, r", POINTS)
def test_the_matrices_make_a_correlation(m, r):
    at, g, bt = map(np.array, matrices(m, r))
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal(m + r - 1), rng.standard_normal(r)
    np.testing.assert_allclose(at @ ((g @ w) * (bt @ x)), np.correlate(x, w, "valid"), atol=1e-13)


@pytest.mark.parametrize("m, r", POINTS)
def test_float32_errors_stay_within_what_is_documented(m, r, monkeypatch):
    monkeypatch.setattr(planner, "tile_on_cpu", lambda *_: Tile(m, r))
    kernel, padding = {1: (4, 1), 2: (4, 1), 3: (5, 2)}[r]
    side = max(m, 4)
    g = Geometry((2 * side, 2 * side), (kernel, kernel), (side, side), (2, 2), (padding, padding), (1, 1), 1)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((8, 64, *g.input)).astype(np.float32)
    y = rng.standard_normal((8, 64, *g.output)).astype(np.float32)
    w = rng.standard_normal((64, 64, kernel, kernel)).astype(np.float32)
    wide = [a.astype(np.float64) for a in (x, w, y)]
    for ours, exact in (
        (cpu.conv2d(x, w, g), im2col.conv2d(wide[0], wide[1], g)),
        (cpu.conv2d_input_grad(y, w, g), im2col.conv2d_input_grad(wide[2], wide[1], g)),
        (cpu.conv2d_weight_grad(x, y, g), im2col.conv2d_weight_grad(wide[0], wide[2], g)),
    ):
        assert np.abs(ours - exact).max() <= ERRORS[m, r] * np.abs(exact).max()


SQUARE = Geometry((16, 16), (4, 4), (8, 8), (2, 2), (1, 1), (1, 1), 1)


@pytest.mark.parametrize("change, taps", [
    ({}, 2), ({"kernel": (3, 3)}, 2), ({"kernel": (5, 5)}, 3), ({"kernel": (3, 4)}, 2), ({"kernel": (3, 3), "stride": (1, 1)}, 3),
    ({"kernel": (4, 5)}, None), ({"kernel": (2, 2)}, None), ({"kernel": (7, 7)}, None), ({"stride": (2, 1)}, None),
    ({"dilation": (1, 2)}, None), ({"groups": 2}, None), ({"algorithm": "direct"}, None),
], ids=str)
def test_which_tiles_fit(change, taps):
    """A phase of the kernel has kernel / stride taps, rounded up. The number must be the same in both dimensions."""
    expected = {Tile(m, r) for m, r in [(2, 2), (4, 2), (7, 2), (2, 3), (4, 3)] if r == taps}
    assert set(fitting(SQUARE._replace(**change))) == expected


def test_sizes_of_a_tile():
    assert (Tile(4, 3).n, Tile(4, 3).points, DIRECT.points) == (6, 36, 1)
    assert Tile(4, 2).grid(SQUARE._replace(output=(9, 8))) == (3, 2)
