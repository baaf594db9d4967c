"""Explicit, counter-based random numbers: they depend on a Key and on nothing else.

`key.fold(x)` makes another Key from a Key and a name or number. The random numbers come from Philox4x32-10 (Salmon et al.
2011, "Parallel random numbers: as easy as 1, 2, 3"). They are the same on every device and for every number of threads.
NumPy's and CuPy's global generators are never used.
"""
from __future__ import annotations

__all__ = ["Key", "KeyStream", "as_key", "draw_examples", "next_key", "stream", "use_key"]

import hashlib
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from tinygan.backends import Backend, backend_of, cpu
from tinygan.context import CONTEXT, Context, override
from tinygan.listening import advanced

Shape = int | Sequence[int]


class Key:
    """A source of random numbers. It is immutable: the same draw from the same Key always gives the same numbers.

    seed: a non-negative integer below 2**64. Draws take a shape (an integer or a sequence) and return NumPy arrays. start:
    the place of their first number in a longer draw. So `key.normal(60, start=40)` is `key.normal(100)[40:]`.
    """

    __slots__ = ("_word",)
    _word: int

    def __init__(self, seed: int) -> None:
        if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**64:
            raise ValueError(f"Key: seed should be an integer from 0 to 2**64 - 1, got {seed!r}")
        object.__setattr__(self, "_word", int(seed))

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError("a Key cannot be changed: fold it into another one")

    def __repr__(self) -> str:
        return f"Key({self._word:#x})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Key) and other._word == self._word

    def __hash__(self) -> int:
        return hash(("Key", self._word))

    def __reduce__(self) -> Any:
        return Key, (self._word,)

    @property
    def data(self) -> np.ndarray[Any, Any]:
        """The Key as two uint32 words, for a checkpoint."""
        return np.array([self._word & 0xFFFFFFFF, self._word >> 32], dtype=np.uint32)

    @classmethod
    def from_data(cls, data: Any) -> Key:
        """The Key with these two words."""
        low, high = np.asarray(data, dtype=np.uint32)
        return cls(int(low) | int(high) << 32)

    def fold(self, data: int | str) -> Key:
        """Another Key, a hash of this Key and data. It is independent of this Key, and of those folded with other data."""
        return _made_again(lambda: Key(self._folded(data)))

    def _folded(self, data: int | str) -> int:
        text = f"{self._word}:{'i' if isinstance(data, int | np.integer) else 's'}:{data}"
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")

    def _told(self, backend: Backend) -> Any:
        """The Key's words for a kernel. While a step is recorded, this is a function that returns them, because the Key
        changes at each replay."""
        listener = CONTEXT.get().listener
        if listener is None:
            return self.data
        if listener.backend is not backend:
            raise RuntimeError(f"random numbers drawn on {backend.name} inside a capture on {listener.backend.name} would "
                               "be the same at every replay: draw them with the device's backend, or before the step")
        return lambda: self.data

    def split(self, n: int) -> list[Key]:
        """n Keys, independent of each other and of this one."""
        return [self.fold(i) for i in range(n)]

    def bits(self, shape: Shape, *, start: int = 0, backend: Backend = cpu) -> Any:
        """Uniform uint32."""
        return self._drawn(backend.random_bits, shape, np.uint32, start, backend)

    def uniform(self, shape: Shape, low: float = 0.0, high: float = 1.0, dtype: Any = np.float32, *, start: int = 0,
                backend: Backend = cpu) -> Any:
        """Uniform in [low, high)."""
        return self._drawn(backend.random_uniform, shape, dtype, start, backend, low, high)

    def normal(self, shape: Shape, dtype: Any = np.float32, *, start: int = 0, backend: Backend = cpu) -> Any:
        """Normal with mean 0 and variance 1 (Box, Muller 1958)."""
        return self._drawn(backend.random_normal, shape, dtype, start, backend)

    def _drawn(self, fill: Callable[..., Any], shape: Shape, dtype: Any, start: int, backend: Backend, *more: float) -> Any:
        """The numbers of a draw from number `start` on. They are made in blocks of four words."""
        dtype, shape = np.dtype(dtype), _shape(shape)
        if not start:
            return fill(self._told(backend), backend.empty(shape, dtype), *more)
        of_a_block = 16 // max(dtype.itemsize, 4)
        block, skipped = divmod(start, of_a_block)
        numbers = backend.empty((skipped + math.prod(shape),), dtype)
        return fill(self._told(backend), numbers, *more, first=block)[skipped:].reshape(shape)

    def integers(self, shape: Shape, low: int, high: int) -> np.ndarray[Any, Any]:
        """Uniform int64 from low to high - 1, with a relative error of the probabilities of about (high - low) / 2**64."""
        if not low < high:
            raise ValueError(f"Key.integers: low {low} should be below high {high}")
        words = self.bits((*_shape(shape), 2)).astype(np.uint64)
        return low + ((words[..., 0] << np.uint64(32) | words[..., 1]) % np.uint64(high - low)).astype(np.int64)

    def permutation(self, n: int) -> np.ndarray[Any, Any]:
        """The integers 0 to n - 1 in random order, int64."""
        words = self.bits((n, 2)).astype(np.uint64)
        return np.argsort(words[:, 0] << np.uint64(32) | words[:, 1], kind="stable")


def as_key(caller: str, key: Any, default: Key | None = None) -> Key:
    """`key`, or `default` if key is None. Raises a TypeError that names the caller if it is not a Key."""
    if isinstance(key, Key):
        return key
    if key is None and default is not None:
        return default
    whole = isinstance(key, int | np.integer) and not isinstance(key, bool)
    advice = f": write tinygan.random.Key({key})" if whole else ""
    raise TypeError(f"{caller}: key should be a Key, got {key!r}{advice}")


def _shape(shape: Shape) -> tuple[int, ...]:
    return (int(shape),) if isinstance(shape, int | np.integer) else tuple(shape)


def _made_again(make: Callable[[], Key]) -> Key:
    """The Key that `make` returns. In a recorded step, `make` is called again before each replay, and this Key changes to
    the new one."""
    key = make()
    advanced(lambda: object.__setattr__(key, "_word", make()._word))
    return key


class KeyStream:
    """A stream of Keys: each call of `next_key` folds `key` with the next of 0, 1, 2, ... Its state is (key, count)."""

    def __init__(self, key: Key, count: int = 0) -> None:
        self.key = key
        self.count = count
        self._lock = threading.Lock()
        advanced(lambda: self.restore(key, count))  # if a recorded step makes a stream, each replay restarts it

    def next_key(self) -> Key:
        return _made_again(lambda: Key(self._next_word()))

    def _next_word(self) -> int:
        with self._lock:
            self.count += 1
            return self.key._folded(self.count - 1)

    def restore(self, key: Key, count: int) -> None:
        """Set the state. (It is set in place, because a recorded step draws from this object.)"""
        with self._lock:
            self.key, self.count = key, count

    def __deepcopy__(self, memo: Any) -> KeyStream:
        return KeyStream(self.key, self.count)

    def __reduce__(self) -> Any:
        return KeyStream, (self.key, self.count)


_DEFAULT = KeyStream(Key(0))


def stream(context: Context | None = None) -> KeyStream:
    """The stream from which dropout and parameters at first use draw: that of `use_key`, or by default the process's own,
    which starts from Key(0)."""
    return (context or CONTEXT.get()).keys or _DEFAULT


def next_key() -> Key:
    """The next Key of the context's stream."""
    return stream().next_key()


def draw_examples(draw: Callable[..., Any], shape: Sequence[int], **options: Any) -> Any:
    """draw(shape), for numbers of which each example of a batch has its own: shape (n, ...). draw: a method of a Key, such
    as `key.normal`. If several processes train together, this is their part of what is drawn for all examples. So the
    numbers do not depend on the number of processes."""
    part = CONTEXT.get().part
    if part is None:
        return draw(shape, **options)
    n, *rest = shape
    size = math.prod(rest)  # of an example
    drawn = [draw((part.examples, *rest), start=first * size, **options) for first in part.places(n)]
    return drawn[0] if len(drawn) == 1 else backend_of(drawn[0]).xp.concatenate(drawn)


@contextmanager
def use_key(key: Key | KeyStream) -> Iterator[KeyStream]:
    """`with use_key(Key(1)):` makes dropout, and parameters that are drawn at first use, draw from this key in the body."""
    keys = key if isinstance(key, KeyStream) else KeyStream(as_key("use_key", key))
    with override(keys=keys):
        yield keys
