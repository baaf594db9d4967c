"""The arguments of a kernel, by name.

A NamedTuple lists the arguments of a kernel. Whole numbers (sizes, and addresses of arrays) are annotated `int`, other
numbers `float`. Python fills in the values; the kernel reads them under the same names from a record that Numba knows.
(`count` and `index` are methods of tuples, so they cannot be names of fields.) A field may itself be such a NamedTuple. It
is packed only once, so it is meant for arguments that stay the same from call to call.

    class Scaling(NamedTuple):
        x: int        # address of `size` elements
        size: int
        factor: float

    @task(Scaling)
    def scale(t, part, parts):          # t.x, t.size, t.factor
        ...

    pool.run(scale, Scaling(x=address(x), size=x.size, factor=0.5), parts=pool.size)
"""
from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from functools import cache, lru_cache
from typing import Any, get_type_hints

import numba
import numpy as np
from numba import types
from numba.extending import intrinsic

from tinygan.kernels.cpu.runtime.compiling import compiled

Arguments = tuple[Any, ...]
_INT64 = np.dtype(np.int64)
_WORDS = {int: (np.int64, "q"), float: (np.float64, "d")}


def _kinds(arguments: type[Arguments]) -> dict[str, Any]:
    """The type of each field by name: int, float, or a NamedTuple of such fields."""
    hints = get_type_hints(arguments)
    return {name: hints[name] for name in arguments._fields}  # type: ignore[attr-defined]  # a NamedTuple has them


@cache
def dtype_of(arguments: type[Arguments]) -> np.dtype[Any]:
    """The record for a NamedTuple. Its fields have the same names and order; each takes 8 bytes, or is itself a record."""
    return np.dtype([(name, _WORDS[kind][0] if kind in _WORDS else dtype_of(kind)) for name, kind in
                     _kinds(arguments).items()], align=True)


@cache
def _packer(arguments: type[Arguments]) -> tuple[Callable[..., bytes], tuple[int, ...]]:
    """(A function that packs the values of the fields, the indices of the fields that are NamedTuples). The function takes a
    NamedTuple as its packed bytes."""
    kinds = list(_kinds(arguments).values())
    words = [_WORDS[kind][1] if kind in _WORDS else f"{dtype_of(kind).itemsize}s" for kind in kinds]
    return struct.Struct("=" + "".join(words)).pack, tuple(i for i, kind in enumerate(kinds) if kind not in _WORDS)


def _bytes(arguments: Arguments) -> bytes:
    pack, places = _packer(type(arguments))
    if not places:
        return pack(*arguments)
    values = list(arguments)
    for place in places:
        values[place] = _packed_once(values[place])
    return pack(*values)


_packed_once = lru_cache(1024, typed=True)(_bytes)  # typed: records of different types may be equal as tuples


def packed(arguments: Arguments) -> np.ndarray[Any, Any]:
    """The arguments as the record that a kernel reads, in words of 8 bytes."""
    pack, places = _packer(type(arguments))
    return np.frombuffer(_bytes(arguments) if places else pack(*arguments), _INT64)


def task(arguments: type[Arguments], variant: str = "") -> Callable[[Callable[..., Any]], int]:
    """Decorator: compiles `function(t, part, parts)` and returns its address. t is a record of `arguments`. The pool calls
    the function once for each part of the work, with part = 0 .. parts - 1. variant: as for `compiled`."""
    return compiled(types.void(numba.from_dtype(dtype_of(arguments)), types.int64, types.int64), variant)


def records(arguments: Iterable[Arguments], kind: type[Arguments]) -> np.ndarray[Any, Any]:
    """Many records of one kind as a structured array. A kernel reads them with `record_at`."""
    return np.array(list(arguments), dtype_of(kind))


def record_at(arguments: type[Arguments]) -> Any:
    """A function for kernels, (address): the record of `arguments` at that address."""
    record = numba.from_dtype(dtype_of(arguments))

    @intrinsic
    def at(typing: Any, address: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.inttoptr(args[0], context.get_value_type(record))

        return record(types.int64), code

    return at
