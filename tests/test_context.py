"""Modes: each thread and each asyncio task has its own, and they end with their block of code."""
import asyncio
import threading

import numpy as np
import pytest

import tinygan as tg
from tinygan import nn
from tinygan.context import CONTEXT
from tinygan.random import Key, use_key


def records():
    x = tg.Tensor(np.ones(1), requires_grad=True)
    return (x * 2.0).requires_grad


class Probe(nn.Module):
    """Its output says in which mode it ran: (training, buffers move)."""

    def forward(self, x):
        return self.training, self.updates_buffers


def in_two_threads(first, second):
    """Run two generators in a thread each, one stretch up to a `yield` at a time in turn, until both end."""
    barrier, errors = threading.Barrier(2, timeout=20), []

    def run(body):
        try:
            for _ in body():
                barrier.wait()
        except BaseException as error:
            errors.append(error)
            barrier.abort()

    threads = [threading.Thread(target=run, args=(body,)) for body in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not errors, errors


def test_two_threads_do_not_see_each_others_modes():
    probe, key = Probe(), Key(1)

    def quiet():
        with tg.no_grad(), nn.mode(probe, training=False), nn.update_buffers_of(), use_key(key), tg.detect_anomaly():
            yield
            assert not records() and not tg.is_recording()
            assert probe(None) == (False, False)
            yield
            assert CONTEXT.get().watcher and CONTEXT.get().keys.key == key

    def default():
        yield
        assert records() and probe(None) == (True, True)
        assert CONTEXT.get().keys is None and CONTEXT.get().watcher is None
        with nn.mode(probe, training=True), nn.update_buffers_of(probe):
            yield
            assert records() and probe(None) == (True, True)

    in_two_threads(quiet, default)
    assert records() and probe(None) == (True, True)


def test_a_new_thread_starts_from_the_default():
    seen = []
    with tg.no_grad():
        thread = threading.Thread(target=lambda: seen.append(records()))
        thread.start()
        thread.join(10)
    assert seen == [True]


def test_two_asyncio_tasks_do_not_see_each_others_modes():
    probe = Probe()

    async def quiet(mine, other):
        with tg.no_grad(), nn.mode(probe, training=False), nn.update_buffers_of():
            mine.set()
            await other.wait()  # the other task runs while these modes are on
            assert not records() and probe(None) == (False, False)

    async def default(mine, other):
        await other.wait()
        assert records() and probe(None) == (True, True)
        with nn.mode(probe, training=True):
            mine.set()
            await asyncio.sleep(0)
            assert records() and probe(None) == (True, True)

    async def both():
        a, b = asyncio.Event(), asyncio.Event()
        await asyncio.wait_for(asyncio.gather(quiet(a, b), default(b, a)), 20)

    asyncio.run(both())


def test_no_grad_and_enable_grad_nest_and_end_with_their_block():
    with tg.no_grad():
        assert not records()
        with tg.enable_grad():
            assert records()
        assert not records()
        with pytest.raises(KeyError), tg.enable_grad():
            raise KeyError
        assert not records()
    assert records()


def test_no_grad_decorates_a_function_however_often_it_is_called():
    @tg.no_grad()
    def countdown(n):
        return [records(), *(countdown(n - 1) if n else [])]

    assert countdown(2) == [False, False, False]
    assert countdown(1) == [False, False]
    assert records()


def test_a_leaf_made_under_no_grad_still_requires_a_gradient():
    with tg.no_grad():
        x = tg.Tensor(np.ones(1), requires_grad=True)
    assert tg.grad(x * 2.0, x).item() == 2.0


def test_mode_reaches_everything_below_the_named_modules_and_nothing_else():
    inner, outer, other = Probe(), nn.Sequential(nn.Sequential(Probe())), Probe()
    with nn.mode(outer, inner, training=False):
        assert inner(None)[0] is False and outer(None)[0] is False and other(None)[0] is True
        with nn.mode(inner, training=True):
            assert inner(None)[0] is True and outer(None)[0] is False
        assert inner(None)[0] is False
        outer.train()  # what is set for all threads stays behind what is set for this block
        assert outer(None)[0] is False
    other.eval()
    with nn.mode(other, training=True):
        assert other(None)[0] is True
    assert other(None)[0] is False


def test_update_buffers_of_names_the_only_modules_whose_running_statistics_move():
    first, second = (nn.Sequential(nn.BatchNorm(2)).initialize(Key(0)) for _ in range(2))
    x = np.array([[0.0, 2.0], [4.0, 6.0]], np.float32)

    def moved():
        before = [m.state_dict() for m in (first, second)]
        first(x), second(x)
        return [any((a != b).any() for a, b in zip(old.values(), m.state_dict().values(), strict=True))
                for old, m in zip(before, (first, second), strict=True)]

    assert moved() == [True, True]
    with nn.update_buffers_of(first):
        assert moved() == [True, False]
        with nn.update_buffers_of(second):
            assert moved() == [False, True]
    with nn.update_buffers_of():
        assert moved() == [False, False]
        y = first(x)  # the statistics of the batch are used nevertheless
        np.testing.assert_allclose(np.asarray(y).mean(0), 0.0, atol=1e-6)
    with nn.mode(first, training=False):
        assert moved() == [False, True]


def test_a_checkpoint_runs_again_in_the_modes_of_its_first_run():
    norm, dropout = nn.BatchNorm(3), nn.Dropout(0.5)
    x = tg.Tensor(np.random.default_rng(0).normal(size=(8, 3)), requires_grad=True)
    norm.initialize(Key(0)).astype(np.float64)
    with nn.mode(norm, dropout, training=False):
        y = tg.checkpoint(lambda a: dropout(norm(a)), x)
    g = tg.grad(tg.sum(y * y), x).numpy()  # in training mode by now
    np.testing.assert_allclose(g, 2 * x.numpy() / (1 + norm.eps), rtol=1e-12)


def test_a_checkpoint_moves_the_running_statistics_once():
    norm = nn.BatchNorm(3).initialize(Key(0)).astype(np.float64)
    x = tg.Tensor(np.random.default_rng(0).normal(size=(8, 3)), requires_grad=True)
    y = tg.checkpoint(norm, x)
    after = norm.state_dict()
    assert after["num_batches_tracked"] == 1
    tg.grad(tg.sum(y * y * y), x)
    for name, value in norm.state_dict().items():
        np.testing.assert_array_equal(value, after[name])
