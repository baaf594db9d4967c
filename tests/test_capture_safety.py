"""A captured step under threads, forks, exceptions, Ctrl-C and bad batches: right, or refused with nothing changed."""
import os
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest

import tinygan as tg
from tinygan import nn
from tinygan.kernels.cpu.runtime.recorded import ACTIVE
from tinygan.random import Key

WAIT = 60  # seconds, for threads and children that hang


def make(seed=0, width=12, **options):
    generator = nn.Sequential(nn.Dense(3, width), nn.BatchNorm(width), nn.LeakyReLU(0.2), nn.Dense(width, 5), nn.Tanh())
    discriminator = nn.Sequential(nn.Dense(5, width), nn.LeakyReLU(0.2), nn.Dropout(0.2), nn.Dense(width, 1))
    return tg.gans.VanillaGAN(generator, discriminator, 3, key=Key(seed), **options)


def batch(i, n=8, device="cpu"):
    return tg.to_device(Key(9).fold(i).uniform((n, 5), -1.0, 1.0), device)


def same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def in_threads(*functions):
    """Run them at the same time. Raises the first exception of one."""
    start, errors = threading.Barrier(len(functions), timeout=WAIT), []

    def run(function):
        try:
            start.wait()
            function()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    assert not any(thread.is_alive() for thread in threads)
    if errors:
        raise errors[0]


def arrays_of(game):
    return [tensor.array for network in (game.generator, game.discriminator)
            for _, tensor in [*network.named_parameters(), *network.named_buffers()]]


def assert_usable(game, device="cpu"):
    """Nothing is recorded any more, the networks have ordinary arrays, and eager and captured steps work."""
    assert ACTIVE.recorder is None
    if device == "cpu":
        assert all(type(array) is np.ndarray for array in arrays_of(game))
    twin = make()
    twin.to(device).load_state_dict(game.state_dict())
    step = tg.capture(game.step)
    for i in range(4):
        step(batch(50 + i, device=device))
        twin.step(batch(50 + i, device=device))
    same(game.state_dict(), twin.state_dict())


# -- threads ----------------------------------------------------------------------------------------------------


def test_calls_from_two_threads_run_one_after_another(device):
    """All calls have the same batch, so their order does not matter."""
    alone, shared, real, steps = make().to(device), make().to(device), batch(0, device=device), 12
    expected = [[float(value) for value in alone.step(real)] for _ in range(2 * steps)]
    step, found = tg.capture(shared.step), []

    def work():
        for _ in range(steps):
            stats = step(real)
            found.append([float(value) for value in stats])

    in_threads(work, work)
    same(shared.state_dict(), alone.state_dict())
    assert sorted(found) == sorted(expected)


def test_two_batches_from_two_threads_give_one_of_the_two_orders():
    a, b = batch(1), batch(2)
    for attempt in range(5):
        games = [make(attempt) for _ in range(3)]
        step = tg.capture(games[0].step)
        for game in games[1:]:
            game.step(batch(0)), game.step(batch(0))
        step(batch(0)), step(batch(0))
        in_threads(lambda step=step: step(a), lambda step=step: step(b))
        for game, order in zip(games[1:], ((a, b), (b, a)), strict=True):
            for real in order:
                game.step(real)
        states = [{name: value.tobytes() for name, value in game.state_dict().items()} for game in games]
        assert states[0] in states[1:] and states[1] != states[2]


@pytest.mark.parametrize("width", [12, 300])  # 300: large enough for compiled kernels and their threads
def test_an_eager_step_beside_replays_is_as_alone(width):
    alone, games = [make(seed, width) for seed in (0, 1)], [make(seed, width) for seed in (0, 1)]
    for game in alone:
        for i in range(20):
            game.step(batch(i, 128))
    step = tg.capture(games[0].step)
    in_threads(lambda: [step(batch(i, 128)) for i in range(20)], lambda: [games[1].step(batch(i, 128)) for i in range(20)])
    for game, expected in zip(games, alone, strict=True):
        same(game.state_dict(), expected.state_dict())


def test_what_another_thread_does_is_not_recorded():
    """While one thread records, the other makes a whole eager step."""
    game, other, alone = make(0, 300), make(1, 300), make(1, 300)
    recording, done, seen, calls = threading.Event(), threading.Event(), [], []

    def step(x):
        calls.append(1)
        if len(calls) == 2:
            recording.set()
            assert done.wait(WAIT)
        return game.step(x)

    def beside():
        assert recording.wait(WAIT)
        try:
            seen.append(ACTIVE.recorder)
            for _ in range(2):
                other.step(batch(3, 128))
            seen.extend(arrays_of(other))
        finally:
            done.set()

    captured, undisturbed = tg.capture(step), tg.capture(make(0, 300).step)
    in_threads(lambda: [captured(batch(i, 128)) for i in range(3)], beside)
    for i in range(3):
        undisturbed(batch(i, 128))
    assert str(captured.program) == str(undisturbed.program)
    assert seen[0] is None and all(type(array) is np.ndarray for array in seen[1:])
    for _ in range(2):
        alone.step(batch(3, 128))
    same(other.state_dict(), alone.state_dict())


# -- forks and Ctrl-C, each in a process of its own ----------------------------------------------------------------


def run_python(code, timeout=120):
    head = f"import sys; sys.path.insert(0, {os.path.dirname(__file__)!r})\n"
    head += "import warnings; warnings.filterwarnings('ignore', category=DeprecationWarning, message='.*fork.*')\n"
    done = subprocess.run([sys.executable, "-c", head + textwrap.dedent(code)], capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


FORK = """
import os, signal, threading
import numpy as np
import tinygan as tg
from test_capture_safety import batch, make, same

alone, game = make(0, 300), make(0, 300)
step = tg.capture(game.step)
for i in range(8):
    alone.step(batch(i, 128))
for i in range(4):
    step(batch(i, 128))  # recorded before the fork
{meanwhile}
child = os.fork()
if child == 0:
    signal.alarm(60)  # a child that hangs should not outlive the test
code = 1
try:
    {ready}
    for i in range(4, 8):
        step(batch(i, 128))
    assert step.program is not None
    same(game.state_dict(), alone.state_dict())
    code = 0
finally:
    if child == 0:
        os._exit(code)
_, status = os.waitpid(child, 0)
assert status == 0, status
{afterwards}
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_replays_as_its_parent_does():
    run_python(FORK.format(meanwhile="", ready="pass", afterwards=""))


BUSY = """
stop = threading.Event()
other = tg.capture(make(5, 300).step)
def work():
    while not stop.is_set():
        other(batch(0, 128))
thread = threading.Thread(target=work)
thread.start()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_child_forked_while_another_thread_replays_can_replay_too():
    """The other thread holds the lock of its captured step, and does not exist in the child."""
    run_python(FORK.format(meanwhile=BUSY, ready="other(batch(0, 128))", afterwards="stop.set(); thread.join(20)"))


INTERRUPTS = """
import random, signal, time
import numpy as np
import tinygan as tg
from test_capture_safety import assert_usable, batch, make

game = make()
step = tg.capture(game.step)
for i in range(3):
    step(batch(i))
chance, caught = random.Random(0), 0

def interrupt(number, frame):
    raise KeyboardInterrupt

signal.signal(signal.SIGALRM, interrupt)
for attempt in range({attempts}):
    i = 0
    {fresh}
    try:
        # (Again after half a second: Python drops an exception that comes in the callback of a weak reference.)
        signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.0005, {longest}), 0.5)
        end = time.monotonic() + 20
        while time.monotonic() < end:
            {work}
            i += 1
    except KeyboardInterrupt:
        signal.setitimer(signal.ITIMER_REAL, 0)
        caught += 1
    stats = [float(value) for value in step(batch(attempt))]
    assert np.isfinite(stats).all(), stats
assert caught == {attempts}, caught
assert all(np.isfinite(value).all() for value in game.state_dict().values())
assert_usable(game)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs an interval timer")
@pytest.mark.parametrize("when", ["replaying", "recording"])
def test_ctrl_c_at_any_moment_leaves_the_engine_usable(when):
    replaying = {"fresh": "", "work": "step(batch(i))", "longest": 0.02, "attempts": 60}
    recording = {"fresh": "", "work": "fresh = tg.capture(game.step); fresh(batch(i)); fresh(batch(i)); fresh(batch(i))",
                 "longest": 0.03, "attempts": 60}
    run_python(INTERRUPTS.format(**(replaying if when == "replaying" else recording)))


# -- exceptions -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", ["before", "between", "after"])
def test_an_exception_while_recording_leaves_the_engine_usable(device, at):
    game, calls = make().to(device), []

    def step(x):
        calls.append(1)
        if at == "before" and len(calls) == 2:
            raise OSError("the disk is full")
        if at == "between" and len(calls) == 2:
            game._update_discriminator(x)
            raise OSError("the disk is full")
        stats = game.step(x)
        if at == "after" and len(calls) == 2:
            raise OSError("the disk is full")
        return stats

    captured = tg.capture(step)
    captured(batch(0, device=device))
    with pytest.raises(OSError, match="the disk is full"):
        captured(batch(1, device=device))
    assert captured.program is None
    assert_usable(game, device)
    for i in range(3):
        captured(batch(i, device=device))  # it can be recorded now
    assert captured.program is not None


@pytest.mark.parametrize("which", ["d_optimizer", "g_optimizer"])
def test_an_exception_before_a_replay_changes_no_weight(device, which):
    def rate(step):
        if step == 5 and broken:
            raise OverflowError("no rate for step 5")
        return 1e-2

    broken = True
    game = make(**{which: tg.optim.Adam(rate)}).to(device)
    step = tg.capture(game.step)
    for i in range(5):
        step(batch(i, device=device))
    before = {name: value for name, value in game.state_dict().items() if name.startswith(("generator", "discriminator"))}
    assert before
    with pytest.raises(OverflowError, match="no rate for step 5"):
        step(batch(5, device=device))
    after = game.state_dict()
    same(before, {name: after[name] for name in before})
    assert ACTIVE.recorder is None
    broken = False
    assert np.isfinite([float(value) for value in step(batch(5, device=device))]).all()
    make().step(batch(0))  # another model, eager


# -- bad batches ------------------------------------------------------------------------------------------------

BAD = {
    "NaN": (lambda x: np.where(np.arange(x.size).reshape(x.shape) == 7, np.float32(np.nan), x), "images hold NaN"),
    "infinity": (lambda x: np.where(np.arange(x.size).reshape(x.shape) == 7, np.float32(np.inf), x), "images hold NaN"),
    "another width": (lambda x: x[:, :4], "the images have shape"),
    "an odd number": (lambda x: x[:7], "d_steps"),
    "no images": (lambda x: x[:0], "expected d_steps"),
    "bytes": (lambda x: (x * 10).astype(np.uint8), "uint8"),
    "text": (lambda x: x.astype(str), "real numbers"),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_bad_batch_is_as_if_it_had_not_been(name, dtype, at):
    """Refused at the first call, while recording and at a replay: weights, counts and keys stay as they were."""
    spoil, message = BAD[name]
    games = [make(d_steps=2) for _ in range(2)]
    steps = [tg.capture(games[0].step), games[1].step]
    for i in range(6):
        if i == at:
            before = games[0].state_dict()
            with pytest.raises((ValueError, TypeError), match=message):
                steps[0](spoil(batch(i).astype(dtype)))
            same(games[0].state_dict(), before)
        for step in steps:
            step(batch(i).astype(dtype))
    same(games[0].state_dict(), games[1].state_dict())
    assert games[0].steps == 6 and steps[0].program is not None


# -- reading inside ---------------------------------------------------------------------------------------------

READS = {
    "float(x[0])": lambda x: float(x[0]), "float(loss)": lambda x: float(tg.Tensor(x).sum()),
    "int(loss)": lambda x: int(tg.Tensor(x).sum()), "int(x[0])": lambda x: int(x[0]), "complex": lambda x: complex(x[0]),
    "x.item": lambda x: x[0].item(), "loss.item": lambda x: tg.Tensor(x).sum().item(),
    "bool(x[0])": lambda x: bool(x[0]), "if x > 0": lambda x: 1 if x[0] > 0 else 2,
    "if loss > 0": lambda x: 1 if tg.Tensor(x).sum() > 0 else 2, "max": lambda x: max(x),
    "np.asarray(tensor)": lambda x: np.asarray(tg.Tensor(x)), "tensor.numpy": lambda x: tg.Tensor(x).numpy(),
    "x.tolist": lambda x: x.tolist(), "tensor.tolist": lambda x: tg.Tensor(x).tolist(), "list of floats": lambda x: [*x.flat],
    "x.tobytes": lambda x: x.tobytes(), "np.array_equal": lambda x: np.array_equal(x, x),
    "np.allclose": lambda x: np.allclose(x, 1.0), "if np.isnan(x).any()": lambda x: 1 if np.isnan(x).any() else 2,
    "format": lambda x: f"{x[0]:.2f}", "format loss": lambda x: f"{tg.Tensor(x).sum():.2f}", "str": lambda x: str(x),
    "repr": lambda x: repr(tg.Tensor(x)), "index": lambda x: "abcdefghij"[np.argmax(x)], "round": lambda x: round(x[0]),
    "x[x > 0]": lambda x: x[x > 0], "tensor[mask]": lambda x: tg.Tensor(x)[tg.Tensor(x) > 0],
    "x[0, mask]": lambda x: x[None][0, x > 0], "np.nonzero": np.nonzero, "x.nonzero": lambda x: x.nonzero(),
    "np.where(x > 0)": lambda x: np.where(x > 0), "np.unique": np.unique, "weight": lambda x: float(WEIGHT.sum()),
    "pickle": lambda x: __import__("pickle").dumps(x),
}
NAMED = {"float": r"^float\(\)", "int": r"^int\(\)", "complex": r"^complex\(\)", "x.item": r"^item\(\)", "loss.item": r"^item\(\)",
         "bool": r"^a truth value \(`if`", "if": r"^a truth value \(`if`", "max": r"`max`", "np.asarray": r"^np.asarray",
         "tensor.numpy": r"^numpy\(\)", "x.tolist": r"^tolist\(\)", "tensor.tolist": r"^tolist\(\)", "list": "^flat",
         "x.tobytes": r"^tobytes\(\)", "np.array_equal": "^numpy.array_equal", "np.allclose": "^numpy.allclose",
         "format": "^a number in a text", "str": r"^print or str\(\)", "repr": r"^print or repr\(\)",
         "index": "^an array as a Python index", "round": r"^round\(\)", "x[": r"^x\[mask\]", "tensor[": r"^x\[mask\]",
         "np.nonzero": "^numpy.nonzero", "x.nonzero": "^numpy.nonzero", "np.where": "^numpy.where", "np.unique": "^numpy.unique",
         "weight": r"^float\(\)", "pickle": "^pickle"}
WEIGHT = tg.Parameter(np.ones(3, np.float32))


@pytest.mark.parametrize("name", READS)
def test_reading_a_value_inside_is_an_error_that_names_the_call(name):
    captured, x = tg.capture(READS[name]), np.array([1.0, -2.0, 3.0], np.float32)
    captured(x)  # the first call runs as usual
    with pytest.raises(RuntimeError, match=NAMED[next(start for start in NAMED if name.startswith(start))]) as caught:
        captured(x)
    assert "inside a capture" in str(caught.value) and "after the step" in str(caught.value)
    assert ACTIVE.recorder is None and type(WEIGHT.array) is np.ndarray
    assert "captured" not in repr(x)


def _added_to_zeros(x):
    z = np.zeros(3, np.float32)
    z += x
    return z


@pytest.mark.parametrize("step", [
    _added_to_zeros, lambda x: np.add(x, 1, out=np.zeros(3, np.float32)), lambda x: np.copyto(np.zeros(3, np.float32), x)])
def test_writing_to_an_array_that_numpy_made_is_an_error(step):
    """Replays would add to what the last one left."""
    captured, x = tg.capture(step), np.ones(3, np.float32)
    captured(x)
    with pytest.raises(RuntimeError, match=r"numpy\.(add|copyto) inside a capture writes to an array that NumPy has made"):
        captured(x)
    assert ACTIVE.recorder is None


CHOICES = {
    "where": lambda x, labels: tg.where(x > 0, x, 0.0),
    "rows by labels": lambda x, labels: tg.Tensor(np.arange(12.0, dtype=np.float32).reshape(4, 3))[labels],
    "one-hot rows": lambda x, labels: tg.matmul(tg.embedding(np.eye(4, dtype=np.float32), labels), x.reshape(4, 2)),
    "gather": lambda x, labels: tg.gather(tg.Tensor(x).reshape(4, 2), 0, labels[:, None]),
    "a scalar at a mask": lambda x, labels: tg.mul(_clipped(x.copy()), 2.0),
    "logits": lambda x, labels: tg.softmax_cross_entropy(x.reshape(2, 4), labels[:2]),
    "a constant made inside": lambda x, labels: tg.matmul(x.reshape(1, 8), np.full((8, 256), 0.5, np.float32)),
    "a double": lambda x, labels: tg.mul(tg.astype(x.astype(np.float64), np.float32), 2.0),
    "added in place": lambda x, labels: _added(np.zeros_like(x), x),
    "rolled by a slice": lambda x, labels: tg.concatenate([x[3:], x[:3]]),
    "sorted": lambda x, labels: np.sort(x), "argmax": lambda x, labels: tg.argmax(x),
}


def _added(z, x):
    z[1:] += x[:-1]
    return z


def _clipped(x):
    x[x > 0.5] = 0.5
    return x


@pytest.mark.parametrize("name", CHOICES)
def test_what_depends_on_the_arguments_is_computed_anew(name):
    function, rng = CHOICES[name], np.random.default_rng(0)
    captured, results = tg.capture(function), set()
    for _ in range(5):
        x, labels = rng.normal(size=8).astype(np.float32), rng.integers(0, 4, 4)
        found, expected = (np.asarray(run(x, labels)) for run in (captured, function))
        np.testing.assert_array_equal(found, expected)
        results.add(found.tobytes())
    assert len(results) > 1 and captured.program is not None


def test_a_constant_that_the_step_makes_lives_as_long_as_the_recording():
    """A compiled kernel reads it at its address."""
    step = tg.capture(lambda x: tg.matmul(x, np.full((256, 256), 0.5, np.float32)))
    x = np.ones((256, 256), np.float32)
    for _ in range(6):
        others = [np.full((256, 256), 7.0, np.float32) for _ in range(20)]
        np.testing.assert_array_equal(step(x), 128.0)
        del others
