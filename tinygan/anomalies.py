"""`detect_anomaly`: a watcher that finds the first NaN or infinity, and arrays that were overwritten too early."""
from __future__ import annotations

__all__ = ["AnomalyError", "detect_anomaly"]

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tinygan.backends import Array
from tinygan.checks import users_line
from tinygan.context import CONTEXT, override
from tinygan.staleness import checksums
from tinygan.tensor import FLOATS, Tensor, as_array
from tinygan.watching import Watcher, watching

if TYPE_CHECKING:
    from tinygan.graph import Node, Op


def detect_anomaly() -> Any:
    """`with detect_anomaly():` raises `FloatingPointError` at the first NaN or infinity, forward or backward.

    The error names the op and the line of the user's code that called it. If the op's vjp calls several ops, the error also
    names the one that failed. If an array is overwritten after an op saved it, `grad` raises a `RuntimeError` that names the
    op and the line. Every result is checked and every saved array is summed, so expect half the speed."""
    return watching(_Anomalies())


class _Anomalies(Watcher):

    def computed(self, op: Op, out: Array, arrays: list[Any], inputs: Any, static: Any) -> None:
        """Raises FloatingPointError if the result of an op is not finite although its inputs are."""
        if out.dtype in FLOATS and not np.isfinite(out).all() and all(bool(np.isfinite(a).all()) for a in arrays):
            raise AnomalyError(op)
        noted = CONTEXT.get().checkpoint_versions
        if noted is not None:
            noted.extend(checksums((inputs, static)))

    def recorded(self, node: Node, result: Tensor) -> None:
        """Notes the user's line, and a checksum of every saved array."""
        node.line = users_line()
        node.saved_versions += checksums((node.saved, node.static))

    def walked(self, node: Node, needs: list[bool], parts: Sequence[Any], g: Any, saved: Any,
               gradients: dict[Node, Any]) -> None:
        """Raises FloatingPointError if one of the gradients that a vjp returned is not finite, or becomes infinite when it
        is added to other gradients or summed over broadcast axes."""
        line = f"the op was called from {node.line or 'a line outside detect_anomaly'}"
        for i, need in enumerate(needs):
            part = parts[i] if need else None
            if part is not None and not np.isfinite(as_array(part)).all():
                inner = _inner_op(node, needs, g, saved)
                where = f" (in {inner}, which its vjp calls)" if inner else ""
                raise FloatingPointError(f"{node.op}: the gradient of input {i} is where the first NaN or infinity appears"
                                         f"{where}; {line}")
        for i, parent in enumerate(node.parents):
            if parent in gradients and not np.isfinite(as_array(gradients[parent])).all():
                raise FloatingPointError(f"{node.op}: the first NaN or infinity appears where the gradient of input {i} is "
                                         f"added up; {line}")


def _inner_op(node: Node, needs: list[bool], g: Any, saved: Any) -> str:
    """The op inside a vjp where its first NaN or infinity arises. To find it, the vjp runs again with every op checked."""
    with override(recording=False, watcher=_Anomalies()), np.errstate(all="ignore"):
        try:
            node.op.vjp_rule(needs, as_array(g), *map(as_array, saved), **node.static)  # type: ignore[union-attr, misc]
        except AnomalyError as anomaly:
            return anomaly.op.name
    return ""  # no op: a saved value was infinite already


class AnomalyError(FloatingPointError):
    """The first NaN or infinity of a computation, and the op that made it."""

    def __init__(self, op: Op) -> None:
        super().__init__(f"{op.name}: the first NaN or infinity appears here, called from {users_line()}")
        self.op = op
