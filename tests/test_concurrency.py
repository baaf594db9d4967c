"""Several threads, and forked children: training gives the same weights, bit for bit, as training alone."""
import os
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest
from helpers import use_pool

import tinygan as tg
from tinygan import nn
from tinygan.kernels.cpu.runtime.loading import loaded
from tinygan.random import Key

LARGE = 128  # a batch and layers that are large enough for the compiled kernels and their threads


def make(seed):
    generator = nn.Sequential(nn.Dense(16, LARGE), nn.LeakyReLU(0.2), nn.BatchNorm(LARGE), nn.Dense(LARGE, 64), nn.Tanh())
    discriminator = nn.Sequential(nn.Dense(64, LARGE), nn.LeakyReLU(0.2), nn.Dropout(0.3), nn.Dense(LARGE, 1))
    return tg.gans.VanillaGAN(generator, discriminator, latent_dim=16, d_steps=2, key=Key(seed))


def train(gan, steps, seed):
    for i in range(steps):
        gan.step(Key(seed).fold(i).uniform((2 * LARGE, 64), -1.0, 1.0))
    return gan.state_dict()


def same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_two_threads_train_two_gans_at_once():
    alone = [train(make(seed), 12, seed) for seed in (1, 2)]
    gans, states = [make(1), make(2)], {}
    start = threading.Barrier(2, timeout=20)

    def run(i):
        start.wait()
        states[i] = train(gans[i], 12, i + 1)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    for i in range(2):
        same(states[i], alone[i])


def test_threads_share_one_network():
    model = nn.Sequential(nn.Dense(32, 256), nn.Tanh(), nn.Dense(256, 8)).initialize(Key(0))
    inputs = [Key(i).normal((64, 32)) for i in range(4)]

    def gradients(x):
        y = model(x)
        return [g.numpy().copy() for g in tg.grad(tg.sum(y * y), model.parameters())]

    expected = [gradients(x) for x in inputs]
    results = [[] for _ in inputs]

    def run(i):
        for _ in range(5):
            results[i].append(gradients(inputs[i]))

    threads = [threading.Thread(target=run, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for result, right in zip(results, expected, strict=True):
        assert len(result) == 5
        for gs in result:
            for g, r in zip(gs, right, strict=True):
                np.testing.assert_array_equal(g, r)


FORK = """
import io, os, signal, sys, threading, warnings
sys.path.insert(0, {tests!r})
# Python 3.12 warns of any fork of a process with threads; that it goes well is what this shows.
warnings.filterwarnings("ignore", category=DeprecationWarning, message=".*fork.*")
import numpy as np
from test_concurrency import make, same, train

gan = make(3)
train(gan, 3, 3)
{meanwhile}
read, write = os.pipe()
child = os.fork()
if child == 0:
    signal.alarm(60)  # a child that hangs should not outlive the test
    code = 1
    try:
        os.close(read)
        state = train(gan, 3, 4)
        with os.fdopen(write, "wb") as pipe:
            np.savez(pipe, **state)
        code = 0
    finally:
        os._exit(code)
os.close(write)
with os.fdopen(read, "rb") as pipe:
    content = pipe.read()
_, status = os.waitpid(child, 0)
assert status == 0, status
same(train(gan, 3, 4), dict(np.load(io.BytesIO(content))))
{afterwards}
print("same")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize("busy", [False, True])
def test_a_forked_child_trains_on_as_its_parent_does(busy):
    # busy: another thread trains, and so holds locks, at the moment of the fork.
    meanwhile = afterwards = ""
    if busy:
        meanwhile = """
        stop = threading.Event()
        other = make(5)
        def work():
            while not stop.is_set():
                train(other, 1, 5)
        thread = threading.Thread(target=work)
        thread.start()
        """
        afterwards = "stop.set(); thread.join(20)"
    code = FORK.format(tests=os.path.dirname(__file__), meanwhile=textwrap.dedent(meanwhile), afterwards=afterwards)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert result.stdout == "same\n" and result.returncode == 0, result.stderr


def test_a_process_with_running_workers_ends_at_once():
    code = f"import sys; sys.path.insert(0, {os.path.dirname(__file__)!r})\n" + textwrap.dedent("""
        from test_concurrency import make, train
        train(make(1), 2, 1)
        print("trained")
    """)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert result.stdout == "trained\n" and result.returncode == 0, result.stderr


FORK_WHILE_LOADING = """
import os, threading, time
import numpy as np
import tinygan as tg
a = np.ones((256, 256), np.float32)
threads = [threading.Thread(target=tg.matmul, args=(a, a)) for _ in range(2)]
for thread in threads:
    thread.start()
child = os.fork()
if child == 0:
    os._exit(0 if tg.matmul(a, a)[0, 0] == 256 else 1)
for _ in range(600):
    done, status = os.waitpid(child, os.WNOHANG)
    if done:
        break
    time.sleep(0.1)
else:
    os.kill(child, 9)
    raise SystemExit("the child hangs")
for thread in threads:
    thread.join()
raise SystemExit(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_fork_waits_for_kernels_that_are_being_loaded():
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", FORK_WHILE_LOADING], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_a_process_that_gets_no_more_threads_computes_alone(monkeypatch):
    from tinygan.kernels.cpu.runtime import pool

    def refuse(thread):
        raise RuntimeError("can't start new thread")

    alone = pool.Pool(4)
    loaded("tinygan.kernels.cpu.matmul.compiled")
    use_pool(monkeypatch, alone)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    a = np.random.default_rng(0).normal(size=(200, 200)).astype(np.float32)
    np.testing.assert_allclose(tg.matmul(a, a), a.astype(np.float64) @ a, atol=1e-3)
    assert alone.size == 1
