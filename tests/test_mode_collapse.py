"""The experiments on mode collapse, and the benchmarks of the unrolled GAN: what they promise, on tiny runs."""
import dataclasses
import importlib
import importlib.util
import json
import math
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import tinygan as tg
from tinygan import nn, plotting
from tinygan.metrics import digits
from tinygan.random import Key

ROOT = Path(__file__).resolve().parent.parent
MODULES = ("mode_collapse", "mode_collapse_tasks", "unrolled_memory", "unrolled_ring", "unrolled_step", "unrolled_tinygan", "unrolled_truncation", "models")


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return SimpleNamespace(**{name: importlib.import_module(name) for name in MODULES})


def needs(framework):
    if importlib.util.find_spec(framework) is None:
        pytest.skip(f"{framework} is not installed")


# -- experiments -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("experiment", ["ring", "grid"])
@pytest.mark.parametrize("method", ["vanilla", "minibatch", "unrolled"])
def test_planar_players_are_those_of_the_paper(bench, experiment, method):
    generator, discriminator, latent, *_ = bench.mode_collapse_tasks.TASKS[experiment].players("metz", method)
    generator.initialize(Key(0))
    discriminator.initialize(Key(1))
    sizes = [p.shape for p in generator.parameters() if p.ndim == 2]
    assert (latent, sizes) == (256, [(128, 256), (128, 128), (2, 128)])
    first = discriminator.parameters()[0]
    np.testing.assert_allclose(first.T @ first, 0.64 * np.eye(2), atol=1e-6)  # orthogonal, gain 0.8
    x = Key(2).normal((4, 2))
    hidden = np.maximum(x / 4 @ np.asarray(first).T, 0)
    assert method == "minibatch" or np.allclose(discriminator(x).array, hidden @ np.asarray(discriminator.parameters()[2]).T, atol=1e-5)


@pytest.mark.parametrize("networks, norms, dimension, distribution", [
    ("normed", 3, 2, "normal"), ("leaky", 0, 2, "normal"), ("corners", 0, 16, "bernoulli")])
def test_planar_players_with_few_latent_numbers(bench, networks, norms, dimension, distribution):
    generator, discriminator, latent, _, noise = bench.mode_collapse_tasks.TASKS["grid"].players(networks, "minibatch")
    generator.initialize(Key(0))
    discriminator.initialize(Key(1))
    assert (latent, noise) == (dimension, distribution) and sum(isinstance(layer, nn.BatchNorm) for layer in generator) == norms
    z = Key(2).normal((6, latent))
    assert discriminator(generator(z)).shape == (6, 1)


def test_latent_vectors_of_a_wider_spread(bench, tmp_path):
    flags = ["--experiment", "grid", "--method", "vanilla", "--networks", "leaky", "--json", str(tmp_path / "rows.json")]
    plain, wide = (bench.mode_collapse.build(bench.mode_collapse.arguments([*flags, "--spread", spread]), Key(0)) for spread in "14")
    layers = nn.Sequential(*list(wide.generator)[1:])
    z = Key(2).normal((6, 2))
    np.testing.assert_allclose(wide.generator(z).array, layers(4 * z).array, rtol=1e-6)
    assert [p.shape for p in layers.parameters()] == [p.shape for p in plain.generator.parameters()]


@pytest.mark.parametrize("networks, channels", [("quarter", [2, 4, 8]), ("half", [4, 8, 16])])
def test_stacked_players_are_as_pacgan_rebuilt_them(bench, networks, channels):
    generator, discriminator, latent, *_ = bench.mode_collapse_tasks.TASKS["stacked_mnist"].players(networks, "unrolled")
    generator.initialize(Key(0))
    discriminator.initialize(Key(1))
    images = generator(Key(2).normal((2, latent)))
    assert images.shape == (2, 3, 28, 28) and discriminator(images).shape == (2, 1)
    outputs = [layer.weight.shape[0] for layer in discriminator if isinstance(layer, nn.Conv2d)]
    inputs = [layer.weight.shape[:2] for layer in generator if isinstance(layer, nn.ConvTranspose2d)]
    assert outputs == channels and inputs == [(64, 32), (32, 16), (16, 8)]


@pytest.mark.parametrize("networks", ["quarter", "dcgan16"])
@pytest.mark.parametrize("method", ["vanilla", "minibatch"])
def test_only_minibatch_discrimination_sees_the_other_images(bench, networks, method):
    generator, discriminator, latent, *_ = bench.mode_collapse_tasks.TASKS["stacked_mnist"].players(networks, method)
    generator.initialize(Key(0))
    discriminator.initialize(Key(1))
    assert any(isinstance(layer, nn.MinibatchDiscrimination) for layer in discriminator) == (method == "minibatch")
    images = np.asarray(generator(Key(2).normal((6, latent))))
    with nn.mode(discriminator, training=False):
        alone, together = discriminator(images[:2]), discriminator(images)[:2]
    assert np.allclose(alone.array, together.array, atol=1e-6) == (method == "vanilla")


def arguments(folder, *more, experiment="ring", method="vanilla", steps=40):
    return ["--experiment", experiment, "--method", method, "--seeds", "2", "--steps", str(steps), "--json", str(folder / "rows.json"), *more]


def rows(folder):
    return json.loads((folder / "rows.json").read_text())["rows"]


def without_times(row):
    trace = [{name: value for name, value in look.items() if name != "minutes"} for look in row["trace"]]
    return {**{name: value for name, value in row.items() if name not in ("seconds", "cpu_seconds")}, "trace": trace}


def test_rows_are_kept_and_only_missing_seeds_are_trained(bench, tmp_path, capsys, monkeypatch):
    command = bench.mode_collapse.main
    assert command(arguments(tmp_path)) == 0
    first = rows(tmp_path)
    assert [(row["seed"], row["method"], row["trace"][-1]["step"]) for row in first] == [(0, "vanilla", 40), (1, "vanilla", 40)]
    assert first[0]["modes"] == first[0]["trace"][-1]["modes"]
    assert command(arguments(tmp_path, "--unroll-steps", "1", method="unrolled")) == 0
    monkeypatch.setattr(bench.mode_collapse, "train", lambda *_: pytest.fail("trained again"))
    capsys.readouterr()
    assert command(arguments(tmp_path)) == 0
    assert rows(tmp_path)[:2] == first and len(rows(tmp_path)) == 4
    table = capsys.readouterr().out
    assert "| vanilla | networks metz, cost minimax |" in table and "PacGAN2" in table


def test_real_samples_are_the_floor(bench, tmp_path, capsys):
    bench.mode_collapse.main(["--experiment", "ring", "--method", "data", "--seeds", "3", "--json", str(tmp_path / "rows.json")])
    rows = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert [row["modes"] for row in rows] == [8] * 3 and len({row["high_quality"] for row in rows}) > 1
    within = 100 * (1 - math.exp(-4.5))  # 3 sigma, in the plane
    assert all(row["high_quality"] == pytest.approx(within, abs=0.8) for row in rows)
    assert "| data |" in capsys.readouterr().out


def test_a_seed_that_was_stopped_goes_on_where_it_was(bench, tmp_path, monkeypatch):
    task = bench.mode_collapse_tasks.TASKS["ring"]
    real, measure = task.open(task.batch, None)
    bench.mode_collapse.main(arguments(tmp_path / "whole"))
    whole = rows(tmp_path / "whole")

    looks = iter(range(5))

    def fails(samples):
        next(looks)
        return measure(samples)

    stopped = SimpleNamespace(**{**vars(task), "open": lambda *_: (real, fails)})
    with monkeypatch.context() as patch, pytest.raises(StopIteration):
        patch.setitem(bench.mode_collapse_tasks.TASKS, "ring", stopped)
        bench.mode_collapse.main(arguments(tmp_path / "halves"))
    (left,) = (tmp_path / "halves").glob("*.safetensors")
    assert "vanilla" in left.name
    bench.mode_collapse.main(arguments(tmp_path / "halves"))
    assert not list((tmp_path / "halves").glob("*.safetensors"))
    first, second = (sorted(map(without_times, found), key=str) for found in (whole, rows(tmp_path / "halves")))
    assert first == second


def test_a_seed_is_saved_between_the_looks_too(bench, tmp_path, monkeypatch):
    """Of a run of days all but the last minute is there."""
    task = bench.mode_collapse_tasks.TASKS["ring"]
    real, measure = task.open(task.batch, None)
    batches = iter(range(3))

    def fails(key):
        next(batches)
        return real(key)

    monkeypatch.setattr(bench.mode_collapse, "SAVED_EVERY", 0.0)
    stopped = SimpleNamespace(**{**vars(task), "open": lambda *_: (fails, measure), "looks": 1})
    monkeypatch.setitem(bench.mode_collapse_tasks.TASKS, "ring", stopped)
    with pytest.raises(StopIteration):
        bench.mode_collapse.main(arguments(tmp_path))
    (left,) = tmp_path.glob("*.safetensors")
    state, notes = tg.saving.load(left)
    assert state["steps"] == 3 and json.loads(notes["trace"]) == []


def test_mean_and_standard_error(bench):
    made = [{"method": "vanilla", "settings": {"K": 1}, "steps": 9, "modes": modes, "seconds": 2} for modes in (1, 2, 6)]
    (line,) = bench.mode_collapse.summary(made, ["modes"])
    assert line["modes"] == f"3 ± {math.sqrt(7 / 3):.2g}" and line["seeds"] == 3


@pytest.fixture
def stacked(bench, monkeypatch):
    """The experiment with stacked MNIST, without MNIST: its images are noise, and each look finds the same."""
    task = bench.mode_collapse_tasks.TASKS["stacked_mnist"]
    found = {"modes": 7, "kl": 1.5, "confidence": 0.42, "classifier": 99.1}

    def open_(batch, data_dir, split="train"):
        return lambda key: key.uniform((batch, 3, 28, 28), -1, 1), lambda samples: found

    small = dataclasses.replace(task, open=open_, samples=500, looks=1)
    monkeypatch.setitem(bench.mode_collapse_tasks.TASKS, "stacked_mnist", small)
    return lambda version: monkeypatch.setitem(
        bench.mode_collapse_tasks.TASKS, "stacked_mnist", dataclasses.replace(small, classifier=version))


def test_rows_of_another_version_of_the_classifier_are_kept_apart(bench, stacked, tmp_path, capsys, monkeypatch):
    command = arguments(tmp_path, "--batch", "4", experiment="stacked_mnist", steps=1)
    assert bench.mode_collapse.main(command) == 0
    first = rows(tmp_path)
    assert [row["classifier_version"] for row in first] == [digits.VERSION] * 2
    old = [{name: value for name, value in row.items() if name not in ("classifier_version", "confidence")} for row in first]
    (tmp_path / "rows.json").write_text(json.dumps({"experiment": "stacked_mnist", "rows": old}))
    capsys.readouterr()
    assert bench.mode_collapse.main(command) == 0  # the old rows are no reason not to train
    assert [(row["seed"], row["classifier_version"]) for row in rows(tmp_path)] == [(0, 1), (1, 1), (0, digits.VERSION), (1, digits.VERSION)]
    lines = [line for line in capsys.readouterr().out.splitlines() if "| vanilla |" in line]
    assert ["| 0.42 ± 0 | " in line for line in lines] == [False, True]
    assert [f"| {version} | 2 | 1 |" in line for version, line in zip((1, digits.VERSION), lines, strict=True)] == [True, True]
    monkeypatch.setattr(bench.mode_collapse, "train", lambda *_: pytest.fail("trained again"))
    assert bench.mode_collapse.main(command) == 0


def test_an_unfinished_seed_is_not_continued_with_another_classifier(bench, stacked, tmp_path):
    options = bench.mode_collapse.arguments(arguments(tmp_path, experiment="stacked_mnist"))
    names = set()
    for version in (1, 2):
        stacked(version)
        names.add(bench.mode_collapse.unfinished(options, 0).name)
    assert len(names) == 2


def test_the_published_rows_say_which_classifier_counted(bench):
    found = json.loads((ROOT / "benchmarks" / "results" / "mode_collapse_stacked_mnist.json").read_text())
    assert all("classifier_version" in row for row in found["rows"])
    assert "version of the classifier" in bench.mode_collapse.show(found).splitlines()[0]


def test_another_experiments_file_is_refused(bench, tmp_path, capsys):
    (tmp_path / "rows.json").write_text('{"experiment": "grid", "rows": []}')
    assert bench.mode_collapse.main(arguments(tmp_path)) == 1
    assert "has rows of 'grid', not of 'ring'" in capsys.readouterr().err


# -- the step and its memory -----------------------------------------------------------------------------------------


def test_memory_is_measured_and_judged(bench, tmp_path, capsys):
    assert bench.unrolled_memory.main(["--batch", "16", "--width", "2", "--steps", "0,1", "--json", str(tmp_path / "m.json"), "--figure", str(tmp_path / "m.png")]) == 0
    found = json.loads((tmp_path / "m.json").read_text())
    at = {(row["mode"], row["steps"]): row["live_mib"] for row in found["rows"]}
    assert 0 < at["rematerialized", 0] < at["rematerialized", 1] and 0 < at["recorded", 0] < at["recorded", 1]
    assert "1 over recorded 1" in capsys.readouterr().out
    assert (tmp_path / "m.png").read_bytes().startswith(b"\x89PNG")


def test_the_bars_of_memory(bench):
    made = [{"mode": mode, "steps": k, "live_mib": live, "beyond_sets_mib": live - k} for mode, k, live in
            [("rematerialized", 1, 101), ("rematerialized", 20, 125), ("recorded", 1, 80)]]
    assert bench.unrolled_memory.bars(made) == {"20 over 1, beyond the sets": 1.05, "1 over recorded 1": round(101 / 80, 3)}


@pytest.mark.parametrize("variant", ["recorded", "rematerialized"])
def test_the_timed_step_has_the_gradients_of_a_plain_gan_at_no_steps_ahead(bench, variant):
    start = bench.unrolled_ring.ring_start(8)
    subject = bench.unrolled_tinygan.Subject(start, 0, variant, 1)
    _, found = subject.gradients(start.d_noise, start.g_noise)
    expected = subject.gan.g_gradients(start.g_noise)[1]
    for ours, plain in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, plain, rtol=1e-10, atol=1e-14)


@pytest.mark.oracle
@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_unrolled_step_end_to_end(bench, tmp_path, framework):
    needs(framework)
    path = tmp_path / "u.json"
    assert bench.unrolled_step.main(["--steps", "2", "--batch", "16", "--against", framework, "--rounds", "1", "--repeats", "1", "--json", str(path)]) == 0
    found = json.loads(path.read_text())
    assert {row["framework"] for row in found["rows"]} == {"tinygan", framework} and found["ratio"]["2"][framework] > 0


def test_truncation_is_compared_with_the_exact_gradient(bench, tmp_path):
    path = tmp_path / "t.json"
    assert bench.unrolled_truncation.main(["--unroll-steps", "2", "--at", "0,1", "--batch", "8", "--json", str(path), "--figure", str(tmp_path / "t.png")]) == 0
    found = json.loads(path.read_text())["rows"]
    assert [(row["step"], row["truncate"]) for row in found] == [(step, k) for step in (0, 1) for k in (0, 1, 2)]
    for row in found:
        assert (row["error"] == 0) == (row["truncate"] == 2) and row["cosine"] <= 1 + 1e-12


# -- the example -----------------------------------------------------------------------------------------------------


def run_example(name, monkeypatch, *flags):
    import runpy

    monkeypatch.setattr(sys, "argv", [name, *flags])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ROOT / "examples" / name), run_name="__main__")
    assert end.value.code in (0, None)


def test_the_ring_example_draws_a_row_for_each_number_of_steps(tmp_path, monkeypatch, capsys):
    out = tmp_path / "ring.png"
    run_example("unrolled_ring.py", monkeypatch, "--unroll-steps", "0", "1", "--steps", "8", "--out", str(out), "--record", str(tmp_path / "ring"))
    assert all((tmp_path / "ring" / f"k{k}" / "explain.html").stat().st_size > 50_000 for k in (0, 1))
    printed = capsys.readouterr().out
    assert printed.count("K = 0, step") == printed.count("K = 1, step") == 8 and str(out) in printed
    assert out.read_bytes().startswith(b"\x89PNG")


def test_the_example_of_gradients_compares_four_judges(tmp_path, monkeypatch, capsys):
    out = tmp_path / "gradients.png"
    run_example("collapse_gradients.py", monkeypatch, "--steps", "3", "--unroll-steps", "2", "--out", str(out))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines[:4]] == ["a plain discriminator", "the same, K = 2 updates ahead", "2 updates as constants",
                                                              "with minibatch discrimination"]
    assert "mean arrow 1.00 times" in lines[0] and "mean arrow 1.00 times" not in lines[1]
    assert out.read_bytes().startswith(b"\x89PNG")


def test_looking_no_steps_ahead_gives_the_images_the_plain_gradient():
    gan = tg.gans.UnrolledGAN(nn.Dense(2, 2), nn.Sequential(nn.Dense(2, 5), nn.Tanh(), nn.Dense(5, 1)), 2, unroll_steps=0, key=Key(0))
    x = tg.Tensor(Key(1).normal((6, 2)), requires_grad=True)
    plain = tg.grad(gan.g_loss(gan.discriminator(x)), x)
    np.testing.assert_allclose(gan.look_ahead(Key(2).normal((6, 2))).rematerialized(x.array)[1], plain.array, rtol=1e-6)


@pytest.mark.parametrize("name", ["vanilla", "dcgan", "minibatch", "unrolled"])
def test_the_collapsing_preset_lets_the_generator_learn_faster(name):
    from tinygan.runs.settings import complete
    from tinygan.runs.variants import VARIANTS

    variant = VARIANTS[name]
    for given, rates in (({"preset": "collapsing"}, (4e-4, 2e-5)), ({}, (2e-4, 2e-4))):
        gan = variant.build(complete(variant.settings, given), (1, 28, 28))
        assert (gan.g_optimizer.learning_rate, gan.d_optimizer.learning_rate) == rates


def test_each_configuration_has_its_own_unfinished_file(bench, tmp_path):
    flags = ([], ["--learning-rate", "1e-3"], ["--g-learning-rate", "1e-3"], ["--decay", "both"], ["--batch", "100"], ["--average", "0.9"])
    names = {bench.mode_collapse.unfinished(bench.mode_collapse.arguments(arguments(tmp_path, *more)), 0) for more in flags}
    assert len(names) == len(flags)
    same = bench.mode_collapse.arguments(arguments(tmp_path, "--batch", "512"))
    assert bench.mode_collapse.unfinished(same, 0) in names


@pytest.mark.parametrize("decay, falls", [(None, (False, False)), ("generator", (True, False)), ("both", (True, True))])
def test_learning_rates_fall_as_they_are_told(bench, tmp_path, decay, falls):
    told = ["--g-learning-rate", "4e-3", "--learning-rate", "1e-3", *(["--decay", decay] if decay else [])]
    options = bench.mode_collapse.arguments(arguments(tmp_path, *told))
    gan = bench.mode_collapse.build(options, Key(0))
    for optimizer, start, does in zip((gan.g_optimizer, gan.d_optimizer), (4e-3, 1e-3), falls, strict=True):
        assert optimizer.learning_rate_at(0) == start
        assert (optimizer.learning_rate_at(options.steps) == pytest.approx(0)) == does


def test_densities_need_as_many_sets_as_columns(tmp_path):
    with pytest.raises(ValueError, match="expected 2 sets of points in each row"):
        plotting.save_densities(tmp_path / "a.png", {"a": [np.zeros((3, 2))]}, ["x", "y"], radius=1, title="")
