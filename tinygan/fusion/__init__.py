"""What runs as one op though it is stated as several.

`ops` and `nn` state the mathematics and know nothing of this package. Where they mark a definition (`ops.composite`), a file
here gives the faster function for it. `table` says which layers in a row become which fused op. `tinygan.fusion(False)`
turns all of it off, and so does TINYGAN_FUSION=0 in the environment. Results then differ by rounding only.
"""
from __future__ import annotations

__all__ = ["MLPLayer", "TABLE", "Function", "Row", "as_function", "fusion", "mlp"]

from types import TracebackType
from typing import Self

from tinygan.context import CONTEXT
from tinygan.fusion import batch_norm, conv, dense  # noqa: F401  (they register the fused ops)
from tinygan.fusion.networks import Function, as_function
from tinygan.fusion.perceptron import MLPLayer, mlp
from tinygan.fusion.table import TABLE, Row


class fusion:  # noqa: N801  (it is called like a function)
    """`fusion(False)` runs every op for itself from here on, in this thread or task; `fusion(True)`, the default, runs some
    ops and layers in a row as one. `with fusion(False):` does it for the body only.

    It changes no result beyond rounding. What was recorded before keeps its ops. Raises TypeError for what is not a boolean.
    """

    def __init__(self, on: bool) -> None:
        if not isinstance(on, bool):
            raise TypeError(f"fusion: expected True or False, got {on!r}")
        self._token = CONTEXT.set(CONTEXT.get()._replace(fusion=on))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        CONTEXT.reset(self._token)
