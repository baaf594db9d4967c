"""What a recorded step is told and tells: the points at which the engine speaks to the context's listener."""
from __future__ import annotations

import gc
import itertools
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinygan as tg
from tinygan.context import override
from tinygan.counting import Count
from tinygan.listening import advanced, is_recording_step, read_by_host, relies_on
from tinygan.random import Key, KeyStream
from tinygan.versions import _VERSIONS, Derived, Version, derived


class Tape:
    """A listener that writes everything down."""

    def __init__(self) -> None:
        self.used: list[Any] = []
        self.constants: list[Any] = []
        self.actions: list[Callable[[], None]] = []
        self.conditions: list[Callable[[], bool]] = []
        self.kept: dict[Version, Derived] = {}

    def uses(self, tensor: Any) -> None:
        self.used.append(tensor)

    def constant(self, array: Any) -> Any:
        self.constants.append(array)
        return array

    def feed(self, value: Any) -> Any:
        return np.asarray(value() if callable(value) else value)

    def advanced(self, action: Callable[[], None]) -> None:
        self.actions.append(action)

    def relies_on(self, predicate: Callable[[], bool]) -> None:
        self.conditions.append(predicate)

    def derived(self, version: Version) -> Derived:
        return self.kept.setdefault(version, Derived())

    def read_by_host(self, caller: str) -> None:
        raise RuntimeError(f"{caller} while recording")

    def replay(self) -> None:
        for action in self.actions:
            action()


def test_without_a_listener_nothing_is_kept_or_refused() -> None:
    calls: list[int] = []
    advanced(lambda: calls.append(1))
    relies_on(lambda: calls.append(2) or True)  # type: ignore[func-returns-value]
    read_by_host("item")
    assert calls == [] and not is_recording_step()


def test_a_count_advances_at_every_replay() -> None:
    count, tape = Count(5), Tape()
    count.advance()
    assert count.value == 6 and not tape.actions
    with override(listener=tape):
        assert is_recording_step()
        count.advance()
        count.advance()
    assert count.value == 8
    tape.replay()
    assert count.value == 10 and len(tape.actions) == 2  # a replay notes nothing itself
    count.value = 100
    tape.replay()
    assert count.value == 102


def test_what_a_recording_relies_on() -> None:
    tape, good = Tape(), [True]
    with override(listener=tape):
        relies_on(lambda: good[0])
    assert [holds() for holds in tape.conditions] == [True]
    good[0] = False
    assert [holds() for holds in tape.conditions] == [False]


def test_parameters_and_buffers_that_are_read_or_written() -> None:
    weight, buffer, data = tg.Parameter(np.ones(3)), tg.nn.BatchNorm(3), tg.Tensor(np.ones(3), requires_grad=True)
    tape = Tape()
    with override(listener=tape):
        y = weight * data
        tg.reshape(weight, (3, 1))
        buffer.running_mean.assign(np.zeros(3))
    assert all(
        a is b for a, b in zip(tape.used, [weight, weight, buffer.running_mean], strict=True))
    assert y.tolist() == [1, 1, 1]
    before = buffer.running_mean.version.count
    tape.replay()
    assert buffer.running_mean.version.count == before + 1  # a graph that saved the old values refuses the new ones


def test_keys_of_a_replay_are_the_ones_of_the_next_step() -> None:
    """The same keys as a step that runs without being recorded: fold, split, a stream from outside, one from inside."""
    def step(stream: KeyStream) -> list[Key]:
        key = stream.next_key()
        inner = KeyStream(key)
        return [key, key.fold("noise"), *key.split(2), inner.next_key(), inner.next_key(), stream.next_key()]

    plain, recorded, tape = KeyStream(Key(1)), KeyStream(Key(1)), Tape()
    expected = [step(plain) for _ in range(3)]
    with override(listener=tape):
        keys = step(recorded)
    for wanted in expected[:1]:
        assert keys == wanted
    for wanted in expected[1:]:
        tape.replay()
        assert keys == wanted
    assert recorded.count == plain.count


@pytest.mark.parametrize("read", [float, int, bool, np.asarray, repr, lambda x: x.item(), lambda x: x.tolist()])
def test_values_cannot_be_read(read: Callable[[Any], Any]) -> None:
    x = tg.exp(tg.Tensor([0.0]))
    read(x)
    with override(listener=Tape()), pytest.raises(RuntimeError, match="while recording"):
        read(x)


def test_indices_are_not_checked_while_a_step_is_recorded() -> None:
    table = tg.Tensor(np.ones((2, 3), np.float32))
    with pytest.raises(IndexError, match="embedding: indices from -1 to 0"):
        tg.embedding(table, np.array([-1, 0]))
    with override(listener=Tape()):
        assert tg.embedding(table, np.array([-1, 0])).shape == (2, 3)


class Maker:
    """Makes the sum of an array, and counts how often."""

    def __init__(self, array: Any) -> None:
        self.array, self.calls = array, 0

    def __call__(self) -> float:
        self.calls += 1
        return float(self.array.sum())


def test_what_is_made_of_a_weight_is_kept_until_the_next_write() -> None:
    weight = tg.Parameter(np.ones((2, 2), np.float32))
    make = Maker(weight.array)
    assert [derived(weight.array, "sum", make) for _ in range(3)] == [4, 4, 4] and make.calls == 1
    assert derived(weight.array, "other", lambda: "else") == "else" and make.calls == 1
    weight.assign(np.full((2, 2), 2.0))
    assert [derived(weight.array, "sum", make) for _ in range(3)] == [8, 8, 8] and make.calls == 2


def test_a_buffer_a_view_and_what_was_drawn_late_count_as_weights() -> None:
    late = tg.Parameter(shape=(2, 3), initializer=lambda key, shape, dtype: key.normal(shape, dtype))
    buffer = tg.Buffer(np.ones(4))
    for weight in (late, buffer):
        for key, array in enumerate((weight.array, weight.detach().array, tg.reshape(weight, -1).array)):
            make = Maker(array)
            assert derived(array, key, make) == derived(array, key, make) and make.calls == 1
            weight.assign(np.zeros(weight.shape))
            assert derived(array, key, make) == 0 and make.calls == 2


def test_of_any_other_array_it_is_made_every_time() -> None:
    for array in (np.ones(3), tg.exp(tg.Parameter(np.ones(3))).array, tg.Parameter(np.ones(3)).array[:2]):
        make = Maker(array)
        derived(array, "sum", make), derived(array, "sum", make)
        assert make.calls == 2


def test_converted_weights_are_found_by_their_new_array() -> None:
    weight = tg.Parameter(np.ones(3, np.float32))
    old = weight.array
    assert derived(old, "dtype", lambda: "old") == "old"
    weight.convert(np.dtype(np.float64))
    assert derived(weight.array, "dtype", lambda: "new") == derived(weight.array, "dtype", lambda: "newer") == "new"


def test_the_register_forgets_an_array_that_is_gone() -> None:
    gc.collect()
    before = len(_VERSIONS)
    weights = [tg.Parameter(np.ones(3)) for _ in range(10)]
    views = [tg.reshape(weight, (3, 1)) for weight in weights]
    assert len(_VERSIONS) == before + 20
    del views
    gc.collect()
    assert len(_VERSIONS) == before + 10
    del weights
    gc.collect()
    assert len(_VERSIONS) == before


def test_threads_may_make_things_of_one_weight_at_once() -> None:
    weight, errors, end = tg.Parameter(np.ones(3)), [], time.monotonic() + 0.5

    def use(thread: int) -> None:
        try:
            for i in itertools.takewhile(lambda _: time.monotonic() < end, itertools.count()):
                assert derived(weight.array, (thread, i % 50), lambda i=i: i % 50) == i % 50  # type: ignore[misc]
                if i % 40 == 0:
                    weight.assign(np.ones(3))
        except Exception as error:
            errors.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=use, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert errors == []


def test_a_recording_makes_its_own_of_a_weight() -> None:
    weight = tg.Parameter(np.ones(3))
    make = Maker(weight.array)
    derived(weight.array, "sum", make)
    for tape in (Tape(), Tape()):
        with override(listener=tape):
            derived(weight.array, "sum", make)
            derived(weight.array, "sum", make)
    assert make.calls == 3
    derived(weight.array, "sum", make)
    assert make.calls == 3


def test_what_was_made_of_older_values_is_freed_before_the_new_is_made() -> None:
    """Else the memory of the old results could not be used for the new ones."""
    class Made:
        pass

    kept, alive = Derived(), []
    old = weakref.ref(kept.get("key", 0, Made))
    kept.get("key", 1, lambda: alive.append(old() is not None) or Made())
    assert alive == [False]
