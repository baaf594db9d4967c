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
def packer(arguments: type[Arguments]) -> Callable[..., bytes]:
    """A function of the fields, by position or by name, that returns the record's bytes.

    It returns what `packed` does, without making a NamedTuple first, in a third of the time. Kernels that run for a
    microsecond need that.
    """
    kinds = _kinds(arguments)
    words = [_WORDS[kind][1] if kind in _WORDS else f"{dtype_of(kind).itemsize}s" for kind in kinds.values()]
    values = [name if kind in _WORDS else f"_packed_once({name})" for name, kind in kinds.items()]
    names = {"_pack": struct.Struct("=" + "".join(words)).pack, "_packed_once": _packed_once}
    function: Callable[..., bytes] = eval(f"lambda {', '.join(kinds)}: _pack({', '.join(values)})", names)
    return function


def packed(arguments: Arguments) -> bytes:
    """The record that a kernel reads."""
    return packer(type(arguments))(*arguments)


_packed_once = lru_cache(1024, typed=True)(packed)  # typed: records of other kinds may be equal as tuples


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
