"""`tinygan.profile`: the table of what a step executes."""
import re

import numpy as np
import pytest

import tinygan as tg
from tinygan import nn
from tinygan.random import Key


def game(width=128):
    generator = nn.Sequential(nn.Dense(16, width), nn.LeakyReLU(0.2), nn.Dense(width, 196), nn.Tanh())
    return tg.gans.VanillaGAN(generator, nn.Sequential(nn.Dense(196, width), nn.LeakyReLU(0.2), nn.Dense(width, 1)), 16, key=Key(0))


REAL = Key(3).uniform((128, 196), -1.0, 1.0)


def test_every_kernel_and_function_of_a_step_is_counted():
    found = tg.profile(game().step, REAL, rounds=2)
    names = [part.name for part in found.program.steps]
    assert {row.name: row.calls for row in found.rows} == {name: names.count(name) for name in names}
    assert "matmul.gemm" in names and "random.normal" in names and any(name.startswith("numpy.") for name in names)
    assert [row.ms for row in found.rows] == sorted((row.ms for row in found.rows), reverse=True)
    assert all(row.ms > 0 for row in found.rows) and found.parts_ms == pytest.approx(sum(row.ms for row in found.rows))
    assert 0 < found.program_ms < found.step_ms and found.eager_ms > 0


def test_the_table_can_be_read():
    found = tg.profile(game().step, REAL, rounds=1)
    lines = str(found).splitlines()
    assert {len(line) for line in lines} == {50, 58}
    shares = [float(share) for share in re.findall(r"([\d.]+)%", "\n".join(lines[2:2 + len(found.rows)]))]
    assert sum(shares) == pytest.approx(100, abs=0.1 * len(shares))
    text = str(found)
    for row in found.rows:
        assert re.search(rf"^{re.escape(row.name)} +{row.calls} ", text, re.MULTILINE)
    for title in ("kernels", "functions of NumPy", "Python around it", "the step, replayed", "the step, not captured"):
        assert re.search(rf"^{title}  ", text, re.MULTILINE)


def test_times_are_in_milliseconds():
    """A product of 1024 x 1024 x 1024 takes 2 GFLOP: no core does it in half a millisecond, and every one in a second."""
    a = np.ones((1024, 1024), np.float32)
    found = tg.profile(lambda x: tg.matmul(x, x), a, rounds=2)
    assert 0.5 < found.rows[0].ms < 1000 and found.rows[0].name.startswith("matmul.")
    assert 0.5 < found.program_ms < 1000 and 0.5 < found.eager_ms < 1000


def test_profiling_is_training():
    """Every round is a step, with new noise and counts, and the times are taken on steps that are right."""
    profiled, alone = game(), game()
    tg.profile(profiled.step, REAL, rounds=3)
    while alone.steps < profiled.steps:
        alone.step(REAL)
    assert profiled.steps == 12
    for name, value in alone.state_dict().items():
        np.testing.assert_array_equal(profiled.state_dict()[name], value, err_msg=name)


def test_a_captured_step_is_profiled_and_goes_on():
    profiled, alone = game(), game()
    step = tg.capture(profiled.step)
    assert tg.profile(step, REAL, rounds=1).program is step.program
    step(REAL)
    while alone.steps < profiled.steps:
        alone.step(REAL)
    np.testing.assert_array_equal(profiled.sample(4), alone.sample(4))


@pytest.mark.parametrize("rounds", [0, -1, 1.5, True, "ten"])
def test_rounds_are_checked(rounds):
    with pytest.raises(ValueError, match="profile: rounds should be at least 1"):
        tg.profile(lambda x: x, REAL, rounds=rounds)


def test_a_gpu_has_profilers_of_its_own(other_device):
    x = tg.to_device(np.ones(3, np.float32), other_device)
    with pytest.raises(RuntimeError, match=r"CUDA's profiler \(`nsys profile python"):
        tg.profile(lambda x: tg.mul(x, 2.0), x)


def test_without_a_recording_there_is_nothing_to_time():
    with tg.detect_anomaly(), pytest.raises(RuntimeError, match="switch off detect_anomaly"):
        tg.profile(lambda x: tg.mul(x, 2.0), REAL)
    with pytest.raises(RuntimeError, match="not been recorded yet"), tg.capture(lambda x: x).launched_by(lambda: None):
        pass


def test_a_program_lists_what_is_done():
    step = tg.capture(game().step)
    for _ in range(2):
        step(REAL)
    head, *lines = str(step.program).splitlines()
    kernels = [part for part in step.program.steps if not part.name.startswith("numpy.")]
    assert head.startswith(f"{len(kernels)} kernels and {len(lines) - len(kernels)} functions of NumPy in ")
    assert [int(line.split()[0]) for line in lines] == list(range(1, len(lines) + 1))
    assert all(re.fullmatch(r" +\d+  (numpy(\.\w+)+, writes \(.*\)|[a-z_]+(\.[a-z_]+)+(, \d+ parts)?)", line) for line in lines)
    assert not any(re.search(r"\b(\w+)\.\1\b|compiled|kernels\.|\?", line) for line in lines)
