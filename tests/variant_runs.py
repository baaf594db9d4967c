"""What the tests of every variant's runs share: small runs by `tinygan train NAME`, what must hold of each, and MNIST's data
sets in small, made up, for what a run measures."""
from __future__ import annotations

import json
import runpy
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_run import content

import tinygan as tg
from tinygan import cli, devices, saving, training
from tinygan.data import Dataset
from tinygan.random import Key

EXAMPLES = Path(__file__).parents[1] / "examples"
INTERRUPTED = 130  # the exit status after Ctrl-C


def command(*arguments: Any) -> int:
    """The exit status of `tinygan ARGUMENTS`."""
    return cli.main([str(argument) for argument in arguments])


def failure(capsys: pytest.CaptureFixture[str], *arguments: Any) -> str:
    """The one line that a command prints which fails because of what the user gave."""
    capsys.readouterr()
    assert command(*arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("tinygan: error: "), lines
    return lines[0]


def grey_images(path: Path, count: int, side: int = 28) -> Path:
    """A file of so many grey images of noise."""
    np.save(path, np.random.default_rng(0).integers(0, 256, (count, 1, side, side), dtype=np.uint8))
    return path


@dataclass(frozen=True)
class VariantRuns:
    """Runs of `tinygan train NAME` on the file `data`. flags: they make networks and batches small. steps: those of an
    epoch."""

    name: str
    data: Path
    flags: tuple[Any, ...]
    steps: int

    def start(self, folder: Path, *flags: Any, epochs: int = 2) -> int:
        """The exit status of a run in that folder."""
        return command("train", self.name, "--run-dir", folder, "--data-dir", self.data, "--epochs", epochs, *self.flags, *flags)

    def train(self, folder: Path, *flags: Any, epochs: int = 2) -> Path:
        """The folder of a run that has ended well."""
        assert self.start(folder, *flags, epochs=epochs) == 0
        return folder

    def resume(self, folder: Path, *flags: Any) -> Path:
        """The run in that folder after two epochs, with all other settings as they were."""
        assert command("train", self.name, "--run-dir", folder, "--resume", "--epochs", 2, "--quiet", *flags) == 0
        return folder

    def check_resuming(self, whole: Path, scratch: Path, *flags: Any, at: int = 3) -> None:
        """The run `whole`, of two epochs with these flags, has the bits of three others: one that ends after its first
        epoch, one that Ctrl-C ends after step `at`, each resumed, and one without capture."""
        expected = content(whole)
        assert len(expected[1]) == 1 + 2 * self.steps  # the rows of metrics.csv
        assert content(self.resume(self.train(scratch / "halves", *flags, epochs=1))) == expected
        with _ctrl_c_after(at):
            assert self.start(scratch / "interrupted", *flags) == INTERRUPTED
        assert int(saving.load(scratch / "interrupted" / "checkpoint.safetensors")[0]["history.d_loss"].size) == at
        assert content(self.resume(scratch / "interrupted")) == expected
        assert content(self.train(scratch / "eager", "--no-capture", *flags)) == expected

    def check_example(self, whole: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch, *flags: Any) -> Path:
        """The example of at most 60 lines, with these flags, makes the run `whole` of two epochs. Returns its folder."""
        example, folder = EXAMPLES / f"{self.name}_mnist.py", scratch / "example"
        words = ["--run-dir", folder, "--data-dir", self.data, "--epochs", 2, *self.flags, *flags]
        monkeypatch.setattr(sys, "argv", [str(example), *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(example), run_name="__main__")
        assert ended.value.code == 0
        assert content(folder) == content(whole)
        assert len(example.read_text().splitlines()) <= 60
        return folder

    def check_device(self, device: str, scratch: Path, *flags: Any) -> None:
        """A run of two epochs on the device is resumed bit for bit, and has the losses of the CPU's run."""
        there = self.train(scratch / "there", "--device", device, *flags)
        self.train(scratch / "halves", "--device", device, *flags, epochs=1)
        assert content(self.resume(scratch / "halves", "--device", device)) == content(there)
        assert json.loads((there / "config.json").read_text())["device"] == devices.device(device).name
        here = training.open_run(self.train(scratch / "here", *flags)).history
        for name in ("d_loss", "g_loss", "d_real", "d_fake"):
            np.testing.assert_allclose(training.open_run(there).history[name], here[name], rtol=1e-3, atol=1e-3)


@contextmanager
def _ctrl_c_after(step: int) -> Iterator[None]:
    """Inside `with`, a run gets SIGINT within its step of that number. The step itself is captured as in every run."""
    step_of = training.step_of

    def hooked(*arguments: Any, **options: Any) -> Callable[..., Any]:
        original, numbers = step_of(*arguments, **options), iter(range(1, 10_000))

        def interrupted(*batch: Any) -> Any:
            stats = original(*batch)
            if next(numbers) == step:
                signal.raise_signal(signal.SIGINT)
            return stats

        return interrupted

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "step_of", hooked)
        yield


# -- the other commands ----------------------------------------------------------------------------------------------------


def check_pictures_of_networks(run: Path, scratch: Path) -> None:
    for player in ("generator", "discriminator"):
        assert command("architecture", run, "--player", player, "--out", scratch / f"{player}.png") == 0
        assert (scratch / f"{player}.png").is_file()


def info(run: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What `tinygan info` prints."""
    capsys.readouterr()
    assert command("info", run) == 0
    return capsys.readouterr().out


def check_sample(run: Path, scratch: Path, *flags: Any, z: Callable[[Any, int], Any] = lambda gan, n: gan.latent(
        n, Key(0).fold("sample")), **options: Any) -> None:
    """`tinygan sample` with these flags draws what `gan.sample` makes of z(gan, n) with these options."""
    assert command("sample", run, "--n", 5, "--out", scratch / "five.npy", *flags) == 0
    gan = training.open_run(run).gan
    np.testing.assert_array_equal(np.load(scratch / "five.npy"), gan.sample(z=z(gan, 5), **options))


# -- what runs measure -----------------------------------------------------------------------------------------------------


def small_mnist(monkeypatch: pytest.MonkeyPatch, train: int = 40, test: int = 30) -> dict[str, Dataset]:
    """Both splits of "MNIST", images of noise with labels in turn; from now on all commands load them."""
    whole = {split: Dataset("mnist", np.random.default_rng(i).integers(0, 256, (n, 1, 28, 28), dtype=np.uint8),
                            np.arange(n) % 10, f"sha256:{split}") for i, (split, n) in enumerate((("train", train), ("test", test)))}
    for place in ("tinygan.data.load", "tinygan.runs.evaluation.load"):
        monkeypatch.setattr(place, lambda path=None, split="train", **_: whole[split])
    return whole


def simple_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on, all measures of images are how many there are, and no classifier is loaded."""
    class Knows:
        accuracy, version, confidence = 0.75, 2, 1.0

    class Judge:
        def __init__(self, *_: Any) -> None:
            pass

        def __call__(self, images: Any) -> tg.metrics.Quality:
            return tg.metrics.Quality(**dict.fromkeys(tg.metrics.Quality._fields, len(images)))

    monkeypatch.setattr(tg.metrics, "digit_classifier", lambda *_: Knows())
    monkeypatch.setattr(tg.metrics, "Judge", Judge)


def evaluated(name: str, folder: Path, capsys: pytest.CaptureFixture[str], *flags: Any) -> tuple[Any, str]:
    """Train for an epoch with `--evaluate`, then `tinygan evaluate`. Returns what quality.json holds, and what the command
    prints."""
    assert command("train", name, "--run-dir", folder, "--epochs", 1, "--evaluate", 1, *flags) == 0
    assert (folder / "quality.png").is_file()
    capsys.readouterr()
    assert command("evaluate", folder) == 0
    return json.loads((folder / "quality.json").read_text()), capsys.readouterr().out


def check_evaluation(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *flags: Any,
                     steps: int) -> None:
    """A run of one epoch, which has so many steps on the 40 images of `small_mnist`, is measured with as many images as
    there are test images."""
    small_mnist(monkeypatch)
    simple_judge(monkeypatch)
    record, told = evaluated(name, folder, capsys, *flags)
    measured = dict.fromkeys(tg.metrics.Quality._fields, 30)
    (row,) = record["epochs"]
    assert record["floor"] == measured and {**row, "d_loss": None} == {"epoch": 1, **measured, "d_loss": None}
    assert told.startswith("30 images") and f" after {steps} steps on mnist" in told
