"""Fused ops: functions that are defined by several ops but run as one.

`ops` and `nn` state the mathematics and do not import this package. They mark a definition as a `Composite`
(`ops.composite`), and a file here provides a faster function for it. `table` says which consecutive layers become which
fused op. `tinygan.fusion(False)` or TINYGAN_FUSION=0 in the environment turns all of it off. The results then differ only by
rounding.
"""
from __future__ import annotations

__all__ = ["MLPLayer", "TABLE", "Function", "Row", "as_function", "fusion", "mlp"]

from types import TracebackType
from typing import Self

from tinygan.context import CONTEXT
from tinygan.fusion import batch_norm, conv, dense, slopes  # noqa: F401  (they register the fused ops)
from tinygan.fusion.networks import Function, as_function
from tinygan.fusion.perceptron import MLPLayer, mlp
from tinygan.fusion.table import TABLE, Row


class fusion:  # noqa: N801  (it is called like a function)
    """`fusion(False)` turns fused ops off from here on, in this thread or task. `fusion(True)`, the default, turns them on.
    `with fusion(False):` applies to the body only.

    Results change only by rounding. Graphs that are already recorded keep their ops. Raises TypeError for a value that is
    not a boolean.
    """

    def __init__(self, on: bool) -> None:
        if not isinstance(on, bool):
            raise TypeError(f"fusion: expected True or False, got {on!r}")
        self._token = CONTEXT.set(CONTEXT.get()._replace(fusion=on))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        CONTEXT.reset(self._token)
