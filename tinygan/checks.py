"""The checks of the engine and their error messages: inputs of one precision, finite values, and what a user's op
returns."""
from __future__ import annotations

__all__ = ["as_output", "as_seed", "backend_for", "check_saves", "checked_gradients", "explained", "explained_rule",
           "freed", "is_user_defined", "nodes", "note_inputs", "of_one_precision", "refuse_constant", "seeds",
           "two_devices", "users_line"]

import inspect
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tinygan.backends import Array, backend_of
from tinygan.tensor import FLOATS, Tensor, as_array, wrap

if TYPE_CHECKING:
    from tinygan.graph import Node, Op

_NUMBERS = (np.generic, int, float)
_BOOL, _FLOAT32 = np.dtype(bool), FLOATS[0]
_PACKAGE = __name__.partition(".")[0]

# -- ops from outside tinygan ------------------------------------------------------------------------------------------


def is_user_defined(forward: Callable[..., Any]) -> bool:
    """Whether a user defined this forward function. Tests check tinygan's ops; a user's op is checked at every use."""
    return (getattr(forward, "__module__", None) or "").partition(".")[0] != _PACKAGE


def check_saves(name: str, forward: Callable[..., Any], saves: Any) -> None:
    """Raise an error unless `saves` is a tuple of positions of the forward's inputs, or OUT."""
    if not isinstance(saves, tuple) or not all(isinstance(i, int) and i >= -1 for i in saves):
        raise TypeError(f"op {name}: saves should be a tuple of positions of inputs, or OUT (-1), got {saves!r}")
    try:
        parameters = list(inspect.signature(forward).parameters.values())
    except ValueError:  # a function without a signature
        return
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return
    if max(saves, default=-1) >= len(parameters) - 1:
        raise ValueError(f"op {name}: saves={saves} names an input that the forward does not take; it takes "
                         f"{[p.name for p in parameters[1:]]}, counted from 0")


def note_inputs(node: Node, arrays: list[Any]) -> None:
    """Note the shapes and dtypes of the inputs. Later, `checked_gradients` compares the gradients with them."""
    node.shapes = tuple([getattr(a, "shape", None) for a in arrays])
    node.dtypes = tuple([getattr(a, "dtype", None) for a in arrays])


def explained_rule(op: Op, rule: Callable[..., Any]) -> Callable[..., Any]:
    """The vjp of a user's op, with a better TypeError if its parameters do not fit: the error lists the arguments."""
    def explaining(*arguments: Any, **static: Any) -> Any:
        try:
            return rule(*arguments, **static)
        except TypeError:
            try:
                inspect.signature(rule).bind(*arguments, **static)
            except TypeError as error:
                given = ["needs", "g", *("the output" if i < 0 else f"input {i}" for i in op.saves), *static]
                raise TypeError(f"{op.name}.vjp: is called with ({', '.join(given)}), as saves={op.saves} says: "
                                f"{error}") from None
            raise

    return explaining


def checked_gradients(node: Node, needs: list[bool], g: Any, parts: Any) -> list[Any]:
    """The gradients that the vjp of a user's op has returned. Raises TypeError or ValueError if one that is needed does not
    fit its input."""
    op: Any = node.op
    shapes: Any = node.shapes
    name, count = f"{op.name}.vjp", len(node.parents)
    if not isinstance(parts, tuple | list):
        raise TypeError(f"{name}: should return a tuple, one gradient for each of the {count} inputs, got "
                        f"{type(parts).__name__}{' (write return (gradient,))' if count == 1 else ''}")
    if len(parts) != count:
        raise ValueError(f"{name}: should return {count} gradients, one for each input, got {len(parts)}")
    checked: list[Any] = [None] * count
    for i, part in enumerate(parts):
        if not needs[i] or part is None:
            continue
        if isinstance(part, np.generic):
            part = np.asarray(part)
        if isinstance(g, Tensor) and not isinstance(part, Tensor):
            raise TypeError(f"{name}: the gradient of input {i} should be a Tensor under create_graph=True, got "
                            f"{type(part).__name__}: write the vjp in tinygan's ops, so that it can be differentiated")
        if isinstance(part, Tensor) and not isinstance(g, Tensor):
            part = part.array
        shape, dtype = shapes[i], node.dtypes[i]
        got = getattr(part, "shape", None)
        if got is None:
            raise TypeError(f"{name}: the gradient of input {i} should be an array or None, got {type(part).__name__}")
        wider = _reaches(shape, got) and _reaches(got, g.shape)  # broadcast to the result's shape, or to one between
        if got != shape and not (op.broadcasts and wider):
            hint = "; an op whose inputs broadcast is made with op(broadcasts=True)" if wider else ""
            raise ValueError(f"{name}: the gradient of input {i} has shape {got}, but the input has {shape}{hint}")
        if part.dtype != dtype:
            raise TypeError(f"{name}: the gradient of input {i} is {part.dtype}, but the input is {dtype}")
        checked[i] = part
    return checked


def refuse_constant(op: Op, out: Array) -> None:
    """Raise TypeError for a user's op that has no vjp and gets an input that requires a gradient."""
    if out.dtype in FLOATS:
        raise TypeError(f"{op.name}: has no vjp, so grad would treat its result as a constant: write a vjp under "
                        f"@{op.name}.vjp, or call the op with tinygan.detach(x)")


def _reaches(shape: tuple[int, ...], wide: tuple[int, ...]) -> bool:
    """Whether an array of this shape broadcasts to the shape `wide`."""
    return len(shape) <= len(wide) and all(n in (1, m) for n, m in zip(shape[::-1], wide[::-1], strict=False))


# -- every op ----------------------------------------------------------------------------------------------------------


def backend_for(op: Op, x: Any) -> Any:
    """The backend of an input. If it is not an array, raises a TypeError that names the op."""
    try:
        return backend_of(x)
    except TypeError as error:
        raise TypeError(f"{op.name}: {error}") from None


def two_devices(op: Op, one: Any, other: Any) -> TypeError:
    """The error for inputs on different devices."""
    return TypeError(f"{op.name}: inputs on {one.name} and on {other.name}: move them to one device, with "
                     "tinygan.to_device(array, name) or network.to(name)")


def as_output(op: Op, backend: Any, out: Any) -> Array:
    """The result of a forward function as an array of the backend. (NumPy's reductions, say, return scalars.)"""
    if not isinstance(out, _NUMBERS):
        try:
            if backend_of(out) is not backend:
                raise TypeError
        except TypeError:
            raise TypeError(f"{op.name}: its forward should return an array of {backend.name}, got "
                            f"{type(out).__name__}") from None
    return backend.xp.asarray(out)


def explained(op: Op, arrays: list[Any], error: Exception) -> Exception:
    """NumPy's error, with the op's name and the shapes of its inputs."""
    if str(error).startswith(op.name + ":"):
        return error
    shapes = ", ".join(str(a.shape) if hasattr(a, "shape") else str(a) for a in arrays)
    kind = ValueError if isinstance(error, ValueError) else IndexError
    return kind(f"{op.name}: input{'s' * (len(arrays) > 1)} of shape {shapes}: {error}")


def of_one_precision(op: Op, arrays: list[Any]) -> list[Any]:
    """The inputs, all float32 or all float64. A mask (an array of booleans) becomes 0 and 1."""
    dtypes = [a.dtype for a in arrays if hasattr(a, "dtype")]
    masks = dtypes.count(_BOOL)
    if masks and masks < len(arrays):
        dtypes = [dtype for dtype in dtypes if dtype != _BOOL] or [_FLOAT32]
    for dtype in dtypes:
        if dtype not in FLOATS and not (op.integers and dtype.kind in "iub"):
            raise TypeError(f"{op.name}: needs float32 or float64, got {dtype}; convert with tinygan.astype first")
    if len(set(dtypes)) > 1:
        raise TypeError(f"{op.name}: inputs of different precision ({', '.join(map(str, dtypes))}); convert one with "
                        "tinygan.astype first")
    return [a.astype(dtypes[0]) if getattr(a, "dtype", None) == _BOOL else a for a in arrays] if masks else arrays


def users_line() -> str:
    """The innermost line on the stack that is not tinygan's own."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == _PACKAGE:
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


# -- what `grad` is given ------------------------------------------------------------------------------------------------


def nodes(caller: str, kind: str, tensors: Sequence[Any]) -> list[Node]:
    """The nodes of the tensors. Raises TypeError if one is not a Tensor, and ValueError if one has no node. kind: what error
    messages call them ("outputs"), or "" for a single Tensor."""
    found = []
    for i, tensor in enumerate(tensors):
        label = f"{kind}[{i}]"
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{caller}: {label} should be a Tensor, got {type(tensor).__name__}")
        if tensor.node is None:
            label = f"{label} {tensor.shape}" if kind else "this Tensor"
            raise ValueError(f"{caller}: {label} does not require a gradient (made without requires_grad=True, detached, "
                             "computed under no_grad, or made of integers or booleans, as comparisons are)")
        found.append(tensor.node)
    return found


def freed(node: Node) -> RuntimeError:
    """The error for a node that an earlier `grad` has freed."""
    return RuntimeError(f"grad: the graph was freed by an earlier grad (at {node.op}); pass retain_graph=True to the first "
                        "one to walk it twice")


def seeds(caller: str, outputs: list[Tensor], gradients: Any, create_graph: bool) -> list[Any]:
    """The gradients that `walk` starts from: the given ones, or 1 for an output of one element. They are Tensors with
    `create_graph`, and bare arrays otherwise."""
    if gradients is None:
        gradients = [None] * len(outputs)
    elif not isinstance(gradients, list | tuple):
        gradients = [gradients]
    if len(gradients) != len(outputs):
        raise ValueError(f"{caller}: {len(outputs)} outputs but {len(gradients)} gradients for them")
    found: list[Any] = []
    for tensor, g in zip(outputs, gradients, strict=True):
        if g is None:
            if tensor.size != 1:
                raise ValueError(f"{caller}: an output of shape {tensor.shape} needs a gradient to start from; only "
                                 "one of a single element starts from 1")
            g = backend_of(tensor.array).xp.ones(tensor.shape, tensor.dtype)
        elif isinstance(g, Tensor | int | float | np.generic):
            g = as_seed(caller, tensor, g)
        else:
            g = as_seed(caller, tensor, g).copy()  # it may be returned as a gradient, and written to
        if create_graph:
            found.append(g if isinstance(g, Tensor) else wrap(g))
        else:
            found.append(as_array(g))
    return found


def as_seed(caller: str, output: Tensor, g: Any) -> Any:
    """g as the gradient of an output: it must have the output's shape, dtype and device. A number counts as an array without
    axes, of the output's dtype."""
    backend = backend_of(output.array)
    if isinstance(g, _NUMBERS) and np.asarray(g).dtype.kind in "fiub":
        shape: Any = ()
        dtype = output.dtype
    else:
        try:
            there = backend_of(as_array(g))
        except TypeError:
            there = None
        if there is None or isinstance(g, np.generic):
            kind = f"{type(g).__module__}.{type(g).__qualname__}".removeprefix("builtins.")
            raise TypeError(f"{caller}: the gradient of an output should be a Tensor, an array or a number, got {kind}")
        if there.name != backend.name:
            raise TypeError(f"{caller}: the gradient of an output is on {there.name}, but the output is on {backend.name}")
        shape, dtype = g.shape, g.dtype
    if shape != output.shape or dtype != output.dtype:
        raise ValueError(f"{caller}: the gradient of an output has shape {shape} and dtype {dtype}, expected "
                         f"{output.shape} and {output.dtype}")
    return backend.xp.full((), g, dtype) if isinstance(g, _NUMBERS) else g
