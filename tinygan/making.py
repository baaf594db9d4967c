"""How ops are made, and how `help` and a type checker see them.

The types say: Tensor in, Tensor out; array in, array out. `Unary` and `Binary` say it for elementwise ops. The type variable
`X` says it for functions of one Tensor or array, such as `def reshape(x: X, shape) -> X`, and `weighted` for functions of an
x and a weight.
"""
from __future__ import annotations

__all__ = ["Binary", "Number", "NumPyArray", "Operand", "Unary", "Weighted", "X", "binary", "op", "unary", "weighted"]

import contextlib
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, Self, TypeAlias, TypeVar, overload

import numpy as np

from tinygan.backends import Array
from tinygan.graph import Op
from tinygan.tensor import Tensor

NumPyArray = np.ndarray[Any, Any]  # (to a type checker, CuPy's arrays have the type Any)
Number = float | np.number[Any]
Operand: TypeAlias = Tensor | NumPyArray | Number
X = TypeVar("X", Tensor, NumPyArray)
OpType = TypeVar("OpType", bound=Op)

P = ParamSpec("P")

Saves = tuple[int, ...]
Forward = Callable[..., Array]


@overload
def op(saves: Forward) -> Op: ...


@overload
def op(saves: Saves = (), broadcasts: bool = False, view: bool = False,
       integers: bool = False) -> Callable[[Forward], Op]: ...


def op(saves: Any = (), broadcasts: bool = False, view: bool = False, integers: bool = False) -> Any:
    """Decorator that makes an op from a forward function: `@op`, or `@op(saves=(0, OUT))` with the arguments of `Op`. The
    op's vjp follows under `@name.vjp`. Without a vjp the op has no gradient."""
    if callable(saves):
        return op()(saves)
    return lambda forward: _made(Op, forward, saves, broadcasts, view, integers)


def unary(saves: Saves = (), integers: bool = False) -> Callable[[Forward], Unary]:
    """Decorator: as `op`, for an elementwise function of one array."""
    return lambda forward: _made(Unary, forward, saves, False, False, integers)


def binary(saves: Saves = ()) -> Callable[[Forward], Binary]:
    """Decorator: as `op`, for an elementwise function of two arrays, which broadcast."""
    return lambda forward: _made(Binary, forward, saves, True)


if TYPE_CHECKING:
    class Unary(Op):
        """An elementwise op of one array."""

        @overload
        def __call__(self, x: Tensor, /) -> Tensor: ...
        @overload
        def __call__(self, x: NumPyArray | Number, /) -> NumPyArray: ...
        def __call__(self, x: Any, /) -> Any: ...

        @overload
        def __get__(self, tensor: Tensor, kind: type | None = None) -> Callable[[], Tensor]: ...
        @overload
        def __get__(self, tensor: object, kind: type | None = None) -> Self: ...
        def __get__(self, tensor: Any, kind: Any = None) -> Any: ...

    class Binary(Op):
        """An elementwise op of two arrays, or of an array and a number."""

        @overload
        def __call__(self, a: Tensor, b: Operand, /) -> Tensor: ...
        @overload
        def __call__(self, a: Operand, b: Tensor, /) -> Tensor: ...
        @overload
        def __call__(self, a: NumPyArray | Number, b: NumPyArray | Number, /) -> NumPyArray: ...
        def __call__(self, a: Any, b: Any, /) -> Any: ...

        @overload
        def __get__(self, tensor: Tensor, kind: type | None = None) -> Callable[[Operand], Tensor]: ...
        @overload
        def __get__(self, tensor: object, kind: type | None = None) -> Self: ...
        def __get__(self, tensor: Any, kind: Any = None) -> Any: ...
else:
    Unary = Binary = Op  # all ops are of one class, because Python then reads their attributes faster


class Weighted(Protocol[P]):
    """A function of an x, a weight and further arguments, such as `dense`. It returns a Tensor if x or weight is one."""

    @overload
    def __call__(self, x: Tensor, weight: Tensor | NumPyArray, *args: P.args, **kwargs: P.kwargs) -> Tensor: ...
    @overload
    def __call__(self, x: NumPyArray, weight: Tensor, *args: P.args, **kwargs: P.kwargs) -> Tensor: ...
    @overload
    def __call__(self, x: NumPyArray, weight: NumPyArray, *args: P.args, **kwargs: P.kwargs) -> NumPyArray: ...


def weighted(function: Callable[Concatenate[Any, Any, P], Any]) -> Weighted[P]:
    """Decorator that tells a type checker that the function is `Weighted`. It does nothing at run time."""
    return function  # type: ignore[return-value]


def _made(kind: type[OpType], forward: Forward, *arguments: Any) -> OpType:
    """Make an op that `help` shows as a function, with its module and the forward's signature without the backend."""
    made = kind(forward.__name__.strip("_"), forward, *arguments)
    made.__module__ = getattr(forward, "__module__", None) or __name__
    if not forward.__name__.startswith("_"):  # (nobody calls `help` on a private op, and this takes time)
        with contextlib.suppress(ValueError):  # a forward without a signature
            parameters = list(inspect.signature(forward).parameters.values())[1:]
            made.__signature__ = inspect.Signature([p.replace(annotation=p.empty) for p in parameters])  # type: ignore[attr-defined]
    return made
