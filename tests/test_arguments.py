"""Arguments of kernels by name: what a NamedTuple says in Python is what a record says in a kernel."""
from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
from numba import types

from tinygan.kernels.cpu.runtime.arguments import dtype_of, packed, packer, task
from tinygan.kernels.cpu.runtime.arrays import address, array_at
from tinygan.kernels.cpu.runtime.compiling import inline
from tinygan.kernels.cpu.runtime.pool import pool


class Point(NamedTuple):
    x: int
    y: int


class Range(NamedTuple):
    low: float
    high: float


class Places(NamedTuple):
    first: Point
    size: float
    range: Range
    last: Point


def test_records_within_records_lie_as_numpy_has_them():
    places = Places(first=Point(1, 2), size=0.5, range=Range(3.0, 4.0), last=Point(-5, 2**62))
    for _ in range(2):  # the second time what is packed once is not packed again
        found = np.frombuffer(packed(places), dtype_of(Places))
        assert found.tolist() == [((1, 2), 0.5, (3.0, 4.0), (-5, 2**62))]


def test_records_that_are_equal_as_tuples_are_told_apart():
    """Whole numbers and others are different words."""
    places = Places(Point(1, 2), 1.0, Range(1, 2), Point(1, 2))
    assert np.frombuffer(packed(places), dtype_of(Places)).tolist() == [((1, 2), 1.0, (1.0, 2.0), (1, 2))]


def test_values_without_a_tuple_make_the_same_record():
    places = Places(Point(1, 2), 0.5, Range(3.0, 4.0), Point(-5, 7))
    assert packer(Point)(1, 2) == packed(Point(1, 2)) == np.array([1, 2]).tobytes()
    assert packer(Places)(*places) == packed(places)
    assert packer(Point)(y=2, x=1) == packed(Point(1, 2))
    with pytest.raises(TypeError, match="'y'"):  # a value too few
        packer(Point)(1)


class Written(NamedTuple):
    places: Places
    out: int


def test_a_kernel_reads_fields_of_fields():
    at = array_at(types.float64)

    @inline
    def sum_of(point: Any) -> Any:
        return point.x + point.y

    @task(Written)
    def write(t: Any, part: Any, parts: Any) -> None:
        out, places = at(t.out, 4), t.places
        out[0], out[1], out[2], out[3] = sum_of(places.first), places.size, t.places.range.high, places.last.y

    out = np.zeros(4)
    places = Places(Point(1, 2), 0.5, Range(3.0, 4.0), Point(-5, 7))
    pool.run(write, Written(places, address(out)))
    assert out.tolist() == [3, 0.5, 4, 7]
    out[...] = 0
    pool.run(write, packer(Written)(places, address(out)))
    assert out.tolist() == [3, 0.5, 4, 7]
