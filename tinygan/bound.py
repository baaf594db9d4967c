"""The parameters that an optimiser or an average belongs to, and what becomes of them in a copy."""
from __future__ import annotations

__all__ = ["Bound"]

import weakref
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

from tinygan.tensor import Tensor

T = TypeVar("T", bound=Tensor)


class Bound(Generic[T]):
    """Tensors of a network by path, held by something that works on them but does not own them.

    A copy (`copy.deepcopy`, pickle) of that something together with the network, such as of a whole GAN, gets the copied
    network's tensors. In a copy of it alone there is no such network; whoever asks it for its tensors is told so. (So a
    copy holds them weakly until it is asked: a copied network keeps them alive, and nothing else does.)

    owner: what holds them, for errors; otherwise: what else can be done with a copy.
    """

    def __init__(self, owner: str, tensors: Mapping[str, T], otherwise: str = "") -> None:
        self._owner, self._otherwise = owner, otherwise
        self._tensors: dict[str, T] | None = dict(tensors)
        self._weak: dict[str, weakref.ref[T] | None] = {}

    @property
    def tensors(self) -> dict[str, T]:
        """The tensors by path. RuntimeError in a copy that was made without its network."""
        found = self.found()
        if found is None:
            raise RuntimeError(f"{self._owner}: this is a copy made without its network, so nobody would see what it does: "
                               f"copy both at once, copy.deepcopy((network, it)), or the whole GAN{self._otherwise}")
        return found

    def found(self) -> dict[str, T] | None:
        """The tensors, or None where they have gone."""
        if self._tensors is None:
            alive = {path: None if ref is None else ref() for path, ref in self._weak.items()}
            there = {path: tensor for path, tensor in alive.items() if tensor is not None}
            if len(there) < len(alive):
                return None
            self._tensors = there
        return self._tensors

    def __copy__(self) -> Bound[T]:
        raise TypeError(f"{self._owner}: a shallow copy would share what is remembered of each parameter, and count apart: "
                        "make a new one, or copy it with its network, copy.deepcopy((network, it))")

    def __getstate__(self) -> dict[str, Any]:
        return {"owner": self._owner, "otherwise": self._otherwise, "tensors": self.found() or dict.fromkeys(self._weak)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._owner, self._otherwise, self._tensors = state["owner"], state["otherwise"], None
        self._weak = {path: None if tensor is None else weakref.ref(tensor) for path, tensor in state["tensors"].items()}
