"""How an optimiser or an average refers to the parameters of its network, and what a copy of it refers to."""
from __future__ import annotations

__all__ = ["Bound"]

import weakref
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

from tinygan.tensor import Tensor

T = TypeVar("T", bound=Tensor)


class Bound(Generic[T]):
    """The tensors of a network by path. The owner, an optimiser or an average, works on them; they belong to the network.

    If the owner is copied together with its network (`copy.deepcopy` or pickle, say of a whole GAN), the copy refers to the
    copied network's tensors. If the owner is copied alone, there is no copied network, and `tensors` raises an error. To
    find out, a copy holds its tensors by weak references at first: only a copied network keeps them alive.

    owner: its name in error messages. otherwise: what these suggest beside copying the network too.
    """

    def __init__(self, owner: str, tensors: Mapping[str, T], otherwise: str = "") -> None:
        self._owner, self._otherwise = owner, otherwise
        self._tensors: dict[str, T] | None = dict(tensors)
        self._weak: dict[str, weakref.ref[T] | None] = {}

    @property
    def tensors(self) -> dict[str, T]:
        """The tensors by path. Raises RuntimeError in a copy that was made without its network."""
        found = self.found()
        if found is None:
            raise RuntimeError(f"{self._owner}: this copy was made without its network, so it has no parameters to change: "
                               f"copy both at once, copy.deepcopy((network, it)), or the whole GAN{self._otherwise}")
        return found

    def found(self) -> dict[str, T] | None:
        """The tensors, or None if they no longer exist."""
        if self._tensors is None:
            alive = {path: None if ref is None else ref() for path, ref in self._weak.items()}
            there = {path: tensor for path, tensor in alive.items() if tensor is not None}
            if len(there) < len(alive):
                return None
            self._tensors = there
        return self._tensors

    def __copy__(self) -> Bound[T]:
        raise TypeError(f"{self._owner}: a shallow copy would share the state of each parameter but not the count: "
                        "make a new one, or copy it with its network, copy.deepcopy((network, it))")

    def __getstate__(self) -> dict[str, Any]:
        return {"owner": self._owner, "otherwise": self._otherwise, "tensors": self.found() or dict.fromkeys(self._weak)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._owner, self._otherwise, self._tensors = state["owner"], state["otherwise"], None
        self._weak = {path: None if tensor is None else weakref.ref(tensor) for path, tensor in state["tensors"].items()}
