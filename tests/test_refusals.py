"""Errors at places that no other test reaches."""
from __future__ import annotations

import errno
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinygan as tg
from tinygan import nn, optim
from tinygan.capture import FEED_BYTES
from tinygan.data.files import Found, about_left_out
from tinygan.kernels.cuda.conv import direct
from tinygan.kernels.cuda.emulator.device import emulated_device
from tinygan.kernels.cuda.optimizers import sgd
from tinygan.kernels.optimizer_settings import SGDSettings
from tinygan.ops.conv import Geometry
from tinygan.plotting import animate, save_losses
from tinygan.runs import lock
from tinygan.runs.errors import RunError
from tinygan.runs.folder import refuse_occupied
from tinygan.runs.settings import read_config
from tinygan.runs.variants import find
from tinygan.teaching.lessons import judging


def test_a_captured_step_takes_arrays() -> None:
    with pytest.raises(TypeError, match="capture: arguments should be arrays, got dict"):
        tg.capture(lambda x: x)({})


def test_a_captured_step_inside_another_one() -> None:
    inner = tg.capture(lambda x: tg.mul(x, 2.0))
    outer = tg.capture(lambda x: inner(x))
    x = np.ones(3, np.float32)
    with pytest.raises(RuntimeError, match="a captured step cannot run inside another captured step"):
        for _ in range(3):
            outer(x)


class OwnRule(optim.Optimizer):
    """Forgets to say its settings."""

    rule = optim.rules.SGD


def test_an_own_optimiser_and_an_own_gan_have_to_say_what_they_do() -> None:
    with pytest.raises(TypeError, match="OwnRule does not define settings_at"):
        OwnRule(0.1).settings_at(0)
    networks = nn.Dense(2, 2), nn.Dense(2, 1)
    with pytest.raises(TypeError, match="GAN does not define step"):
        tg.gans.GAN(*networks, 2, key=tg.random.Key(0)).step(np.zeros((4, 2), np.float32))


def test_parameters_of_two_precisions_are_not_packed() -> None:
    parameters = {"a": tg.Parameter(np.zeros(3, np.float32)), "b": tg.Parameter(np.zeros(2))}
    optimizer = optim.SGD(0.1)
    optimizer.bind(parameters)
    with pytest.raises(TypeError, match=r"SGD\.pack: the parameters should have one dtype, got float32, float64"):
        optimizer.pack()


def test_a_spectral_norm_without_a_scale() -> None:
    layer = nn.SpectralNorm(nn.Dense(3, 2))
    layer.initialize(tg.random.Key(0))
    original = next(tensor for name, tensor in layer.named_parameters() if name.endswith("original"))
    original.assign(np.zeros(original.shape, np.float32))
    with pytest.raises(ValueError, match=r"u\^T W v is 0, and the weight \(of shape \(2, 3\)\) cannot be divided by it"):
        layer.eval()(np.ones((4, 3), np.float32))


@pytest.mark.parametrize(("d_loss", "g_loss"), [([1.0], [1.0, 2.0]), ([[1.0]], [[1.0]]), ([], [])])
def test_losses_that_are_not_one_row(d_loss: Any, g_loss: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must be one axis, not empty, of the same length"):
        save_losses(tmp_path / "losses.png", d_loss, g_loss, steps_per_epoch=1, title="")


def test_an_animation_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="animate: no pictures"):
        animate(tmp_path / "a.gif", [])


# Runs and data

def test_a_run_without_a_folder() -> None:
    with pytest.raises(RunError, match="a run needs a folder: --run-dir DIR"):
        refuse_occupied(tg.training.VanillaSettings(run_dir=""))


def test_a_variant_that_there_is_not() -> None:
    with pytest.raises(RunError, match="no variant is called 'vanila'; there are conditional, "):
        find("vanila")


@pytest.mark.parametrize("content", ["[]", "{}", '{"settings": {}, "data": {}}'])
def test_a_configuration_of_something_else(content: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(content, encoding="utf-8")
    with pytest.raises(RunError, match=r"config\.json is not the configuration of a tinygan run"):
        read_config(tmp_path)


def test_a_folder_that_cannot_be_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(lock, "_lock", refuse)
    with (pytest.raises(OSError, match=r"cannot lock .*\.lock: Operation not supported; put the run on a local disk \(--run-dir\)"),
          lock.FolderLock(tmp_path)):
        pass
    assert not lock.in_use(tmp_path)


def test_more_steps_back_than_ahead() -> None:
    settings = tg.training.UnrolledSettings(run_dir="runs/a", unroll_steps=2, truncate=5)
    with pytest.raises(RunError, match="--truncate 5 is more than --unroll-steps 2"):
        find("unrolled").build(settings, (1, 28, 28))


def test_a_folder_with_files_of_very_many_kinds(tmp_path: Path) -> None:
    left_out = [tmp_path / f"{number}.kind{number:02}" for number in range(12)] + [tmp_path / "more.kind00"]
    told = about_left_out(tmp_path, Found(left_out=left_out))
    assert told.startswith("13 files: 2 .kind00 (0.kind00, more.kind00), 1 .kind01 (1.kind01), ")
    assert told.endswith(", 1 .kind09 (9.kind09), 2 of other kinds")


@pytest.mark.parametrize(("value", "words"), [(None, "nothing (None)"), (0.5, "0.5"), ("a", "'a'"), ([1], "a value of type list")])
def test_how_a_lesson_names_what_an_answer_returned(value: Any, words: str) -> None:
    assert judging._in_words(value) == words


# On a GPU, which is emulated here

needs_emulator = pytest.mark.skipif(sys.platform != "linux" or shutil.which("g++") is None, reason="needs Linux and g++")


def captured_on_the_device(function: Any) -> None:
    """Call `function` while a step on the emulated device is recorded."""
    x = tg.to_device(np.ones(3, np.float32), "emulated")
    step = tg.capture(lambda x: (function(), x)[1])
    for _ in range(3):
        step(x)


@needs_emulator
def test_a_step_that_reads_too_much_from_the_host() -> None:
    large = np.zeros(FEED_BYTES + 1, np.uint8)
    with pytest.raises(RuntimeError, match="a step can read at most 1048576 bytes from the host, and this one reads more"):
        captured_on_the_device(lambda: emulated_device().feed(large))


@needs_emulator
def test_numbers_that_are_drawn_on_another_device_than_the_step() -> None:
    with pytest.raises(RuntimeError, match="random numbers drawn on cpu inside a capture on emulated would be the same"):
        captured_on_the_device(lambda: tg.random.Key(0).normal((3,)))


def test_an_array_that_an_int_cannot_index() -> None:
    g = Geometry((1024, 1024), (3, 3), (1024, 1024), (1, 1), (1, 1), (1, 1), 1)
    with pytest.raises(ValueError, match=rf"conv2d: an array of {2**31} elements, expected at most 2\^31 - 1"):
        direct._convolution(g, 32, 64, 1, 0)
    assert direct._convolution(g, 31, 64, 1, 0).images == 31


@needs_emulator
def test_slots_in_another_memory_order_than_their_parameter() -> None:
    device = emulated_device()
    a = device.xp.asarray(np.ones((2, 3), np.float32))
    settings = SGDSettings(learning_rate=0.1, momentum=0.9, nesterov=False, weight_decay=0.0)
    with pytest.raises(ValueError, match=r"sgd: a parameter of shape \(2, 3\) and its slots differ in memory order or have gaps"):
        sgd(device, [a], [a.copy()], [device.xp.asarray(np.ones((3, 2), np.float32)).T], settings)
