"""The experiments with relativistic pairing, R1 and R2: their settings, what a row tells, and that captured steps change
nothing."""
import dataclasses
import importlib
import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import tinygan as tg
from tinygan import nn
from tinygan.kernels.cpu.runtime.pool import core_count
from tinygan.random import Key

ROOT = Path(__file__).resolve().parent.parent
TIMES = ("seconds", "cpu_seconds", "minutes")


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return SimpleNamespace(run=importlib.import_module("mode_collapse"), tasks=importlib.import_module("mode_collapse_tasks"))


def flags(folder, method="rpgan", networks="r3gan", *more, experiment="ring", steps=6, batch=16):
    return ["--experiment", experiment, "--method", method, "--networks", networks, "--batch", str(batch), "--seeds", "1",
            "--steps", str(steps), *more, "--json", str(folder / "rows.json")]


def only_row(folder):
    (row,) = json.loads((folder / "rows.json").read_text())["rows"]
    return row


def without_times(row):
    kept = {name: value for name, value in row.items() if name not in TIMES}
    return {**kept, "trace": [{name: value for name, value in look.items() if name not in TIMES} for look in row["trace"]]}


@pytest.mark.parametrize("method, cost, penalties", [
    ("rpgan", "relativistic", {"r1": 3.0, "r2": 3.0}), ("gan-r1-r2", "non-saturating", {"r1": 3.0, "r2": 3.0}),
    ("rpgan-r1", "relativistic", {"r1": 3.0}), ("gan-r1", "non-saturating", {"r1": 3.0}),
    ("vanilla", "minimax", {})])
def test_the_four_games_of_table_1(bench, tmp_path, method, cost, penalties):
    weight = ["--gamma", "3"] if penalties else []
    gan = bench.run.build(bench.run.arguments(flags(tmp_path, method, "r3gan", *weight)), Key(0))
    assert (gan.cost, gan.penalties) == (cost, penalties)
    for optimizer in (gan.g_optimizer, gan.d_optimizer):
        assert (optimizer.learning_rate_at(0), optimizer.betas) == (2e-4, (0.0, 0.99))


@pytest.mark.parametrize("method, more, reason", [
    ("rpgan", ["--cost", "hinge"], "--cost hinge: the cost of rpgan is relativistic"),
    ("vanilla", ["--gamma", "1"], "--gamma 1.0: vanilla has no penalties")])
def test_what_a_method_does_not_have_is_refused(bench, tmp_path, capsys, method, more, reason):
    with pytest.raises(SystemExit):
        bench.run.arguments(flags(tmp_path, method, "r3gan", *more))
    assert reason in capsys.readouterr().err


def test_another_gamma_is_another_configuration(bench, tmp_path):
    options = [bench.run.arguments(flags(tmp_path, "rpgan", "r3gan", *more)) for more in ([], ["--gamma", "0.5"])]
    assert [bench.run.settings(each)["gamma"] for each in options] == [1.0, 0.5]
    assert len({bench.run.unfinished(each, 0) for each in options}) == 2


def test_the_networks_are_r3gans(bench):
    generator, discriminator, latent, *_ = bench.tasks.TASKS["grid"].players("r3gan", "rpgan")
    shapes = [[layer.weight.shape for layer in network if isinstance(layer, nn.Dense)] for network in (generator, discriminator)]
    assert shapes == [[(256, 64), (256, 256), (2, 256)], [(256, 2), (256, 256), (1, 256)]] and latent == 64
    kinds = [{type(layer) for layer in network} - {nn.Dense} for network in (generator, discriminator)]
    assert kinds == [{nn.ReLU}, {nn.LeakyReLU}]


@pytest.mark.parametrize("width, sizes", [(32, (856_931, 837_729)), (256, (8_573_955, 8_533_249))])
def test_plain_networks_make_stacked_digits(bench, width, sizes):
    generator, discriminator, latent, *_ = bench.tasks.TASKS["stacked_mnist"].players(f"plain{width}", "rpgan")
    generator.initialize(Key(0))
    discriminator.initialize(Key(1))
    images = generator(Key(2).normal((2, latent)))
    assert images.shape == (2, 3, 28, 28) and discriminator(images).shape == (2, 1)
    assert (bench.run.size(generator), bench.run.size(discriminator)) == sizes


@pytest.mark.parametrize("method, networks, more", [
    ("vanilla", "normed", ["--instance-noise", "0.5", "--decay", "both"]), ("minibatch", "leaky", []),
    ("unrolled", "metz", ["--unroll-steps", "2"]), ("rpgan", "r3gan", ["--average", "0.5"]), ("gan-r1", "r3gan", [])])
def test_captured_steps_give_the_same_row(bench, tmp_path, monkeypatch, method, networks, more):
    found = {}
    for name in ("captured", "eager"):
        if name == "eager":
            monkeypatch.setattr(tg, "capture", lambda function: function)
        bench.run.main(flags(tmp_path / name, method, networks, *more))
        found[name] = without_times(only_row(tmp_path / name))
    assert found["captured"] == found["eager"]


def test_an_average_makes_other_samples_and_is_resumed(bench, tmp_path, monkeypatch):
    more = ["--average", "0.9"]
    for name, given in (("plain", []), ("whole", more)):
        bench.run.main(flags(tmp_path / name, "rpgan", "r3gan", *given))
    monkeypatch.setattr(bench.run, "SAVED_EVERY", 0.0)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        task = bench.tasks.TASKS["ring"]
        real, measure = task.open(16, None)
        asked = iter(range(4))

        def stops(key):
            if next(asked, None) is None:
                raise KeyboardInterrupt
            return real(key)

        patch.setitem(bench.tasks.TASKS, "ring", SimpleNamespace(**{**vars(task), "open": lambda *_: (stops, measure)}))
        bench.run.main(flags(tmp_path / "halves", "rpgan", "r3gan", *more))
    (left,) = (tmp_path / "halves").glob("*.safetensors")
    state, _ = tg.saving.load(left)
    assert state["steps"] == 4 and any(name.startswith("average.") for name in state)
    bench.run.main(flags(tmp_path / "halves", "rpgan", "r3gan", *more))
    whole, halves = (without_times(only_row(tmp_path / name)) for name in ("whole", "halves"))
    assert whole == halves
    plain = only_row(tmp_path / "plain")["trace"][-1]
    assert whole["raw"] == {name: plain[name] for name in whole["raw"]} and "raw" not in whole["trace"][0]
    assert whole["reverse_kl"] != whole["raw"]["reverse_kl"] or whole["high_quality"] != whole["raw"]["high_quality"]


def test_a_row_tells_parameters_images_and_minutes(bench, tmp_path, capsys):
    bench.run.main(flags(tmp_path, steps=6, batch=200))
    row = only_row(tmp_path)
    assert row["parameters"] == {"generator": 82_946, "discriminator": 66_817} and row["images"] == 1200
    assert row["threads"] == core_count()
    minutes = [look["minutes"] for look in row["trace"]]
    assert minutes == sorted(minutes) and 60 * minutes[-1] <= row["seconds"] + 1 and row["cpu_seconds"] > 0
    assert "| 1.2 k | 82.9 k + 66.8 k |" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")
def test_a_diverged_seed_ends_and_is_counted(bench, tmp_path, capsys):
    command = flags(tmp_path, "gan-r1", "r3gan", "--learning-rate", "1e30", steps=40)
    bench.run.main(command)
    row = only_row(tmp_path)
    assert row["diverged"] == row["trace"][-1]["step"] < 40 and row["modes"] == 0 and "reverse_kl" not in row
    assert row["images"] == 16 * row["diverged"] and not list(tmp_path.glob("*.safetensors"))
    assert "| 1, 1 diverged | 40 |" in capsys.readouterr().out
    well = {**row, "seed": 1, "modes": 8, "high_quality": 90.0, "reverse_kl": 0.25}
    del well["diverged"]
    (line,) = bench.run.summary([row, well], ["modes", "reverse_kl"])
    assert line["modes"] == f"4 ± {math.sqrt(16):.2g}" and line["reverse_kl"] == "0.25"


def test_it_trains_on_another_device(bench, tmp_path, monkeypatch, other_device):
    small = dataclasses.replace(bench.tasks.TASKS["ring"], samples=500, looks=1)
    monkeypatch.setitem(bench.tasks.TASKS, "ring", small)
    for device in ("cpu", other_device):
        bench.run.main(flags(tmp_path / device, "rpgan", "r3gan", "--device", device, steps=4))
    here, there = (only_row(tmp_path / device) for device in ("cpu", other_device))
    np.testing.assert_allclose([here[name] for name in ("high_quality", "reverse_kl")],
                               [there[name] for name in ("high_quality", "reverse_kl")], atol=1.0)
    assert here["parameters"] == there["parameters"] and there["images"] == 64
