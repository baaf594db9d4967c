"""The arguments of a kernel, by name.

A NamedTuple says what a kernel is told: whole numbers (sizes, and addresses of arrays) are annotated `int`, other
numbers `float`. Python fills it in; the kernel reads the same names from a record that Numba knows. (`count` and `index`
are methods of tuples and cannot be fields.) A field may be such a NamedTuple itself; it is meant for what stays the same
from call to call, and is packed once.

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
    """The fields by name, each int, float or a NamedTuple of such fields."""
    hints = get_type_hints(arguments)
    return {name: hints[name] for name in arguments._fields}  # type: ignore[attr-defined]  # a NamedTuple has them


@cache
def dtype_of(arguments: type[Arguments]) -> np.dtype[Any]:
    """The record of a NamedTuple: fields of 8 bytes, or records of their own, in the same order under the same names."""
    return np.dtype([(name, _WORDS[kind][0] if kind in _WORDS else dtype_of(kind)) for name, kind in
                     _kinds(arguments).items()], align=True)


@cache
def packer(arguments: type[Arguments]) -> Callable[..., bytes]:
    """A function (*values) -> the record's bytes, of the values of all fields in their order.

    It does the same as `packed` without a NamedTuple in between, which takes a third of the time: for kernels that run a
    microsecond.
    """
    kinds = list(_kinds(arguments).values())
    words = [_WORDS[kind][1] if kind in _WORDS else f"{dtype_of(kind).itemsize}s" for kind in kinds]
    pack, places = struct.Struct("=" + "".join(words)).pack, [i for i, kind in enumerate(kinds) if kind not in _WORDS]
    if not places:
        return pack

    def pack_with_records(*values: Any) -> bytes:
        flat = list(values)
        for place in places:
            flat[place] = _packed_once(flat[place])
        return pack(*flat)

    return pack_with_records


def packed(arguments: Arguments) -> bytes:
    """The record that a kernel reads."""
    return packer(type(arguments))(*arguments)


_packed_once = lru_cache(1024, typed=True)(packed)  # typed: records of other kinds may be equal as tuples


def task(arguments: type[Arguments], variant: str = "") -> Callable[[Callable[..., Any]], int]:
    """Decorator: the address of `function(t, part, parts)`, which the pool calls for each of `parts` shares of the work
    that the record t of `arguments` describes. variant: as for `compiled`."""
    return compiled(types.void(numba.from_dtype(dtype_of(arguments)), types.int64, types.int64), variant)


def records(arguments: Iterable[Arguments], kind: type[Arguments]) -> np.ndarray[Any, Any]:
    """Many records of one kind as a structured array, for a kernel to read by `record_at`."""
    return np.array(list(arguments), dtype_of(kind))


def record_at(arguments: type[Arguments]) -> Any:
    """A function for kernels: from an address to the record of `arguments` that lies there."""
    record = numba.from_dtype(dtype_of(arguments))

    @intrinsic
    def at(typing: Any, address: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.inttoptr(args[0], context.get_value_type(record))

        return record(types.int64), code

    return at
