"""Error messages of networks begin with the layer in which the error arose: its path, its sizes and its input."""
from __future__ import annotations

__all__ = ["is_located", "locate"]

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from tinygan.tensor import Tensor

if TYPE_CHECKING:
    from tinygan.nn.module import Module


class _Place(NamedTuple):
    """How far up the tree an error has come: the outermost module so far, and the path from it to the layer."""

    module: Module
    path: str
    message: str


def locate(error: Exception, module: Module, inputs: Sequence[Any]) -> None:
    """Put the layer's place before the error's message: "layer 2, Dense(5 -> 1), got 2 features (input (4, 2)): ...". Every
    module that the error passes on its way up calls this, the innermost first. Errors of other classes than ValueError,
    TypeError and IndexError stay as they are."""
    place: _Place | None = getattr(error, "_place", None)
    if place is None:
        if type(error) not in (ValueError, TypeError, IndexError) or len(error.args) != 1:
            return
        place = _Place(module, "", f"{_described(module)}{_got(module, inputs)}: {error.args[0]}")
    else:
        path = f"{_name(module, place.module)}{'.' if place.path else ''}{place.path}"
        place = _Place(module, path, place.message)
        error.args = (f"layer {path}, {place.message}",)
    if not place.path:
        error.args = (place.message,)
    error._place = place  # type: ignore[attr-defined]


def is_located(error: Exception) -> bool:
    """Whether the message already names a layer."""
    return hasattr(error, "_place")


def _name(module: Module, child: Module) -> str:
    """The name that `module` has for `child`, or the child's class if `child` is not one of its children."""
    return next((name for name, value in module.named_children() if value is child), type(child).__name__)


def _described(module: Module) -> str:
    return f"{type(module).__name__}({module.describe()})"


def _got(module: Module, inputs: Sequence[Any]) -> str:
    shapes = [tuple(x.shape) for x in inputs if isinstance(x, Tensor) or (hasattr(x, "dtype") and hasattr(x, "shape"))]
    if not shapes:
        return ""
    named = f"input{'s' * (len(shapes) > 1)} {', '.join(map(str, shapes))}"
    if module.taken is None:
        return f", got {named}"
    axis, what = module.taken
    shape = shapes[0]
    return f", got {shape[axis]} {what} ({named})" if len(shape) > max(axis, 0) else f", got {named}"
