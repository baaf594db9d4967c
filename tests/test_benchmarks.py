"""The benchmarks' arithmetic and their equality check. Nothing here is about how fast anything is."""
import dataclasses
import importlib
import importlib.util
import json
import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import tinygan as tg
from tinygan import cli

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
MODULES = ("harness", "models", "equality", "train_step", "unrolled_step", "op_overhead", "ops", "conv", "conv_layers", "first_start",
           "floor", "floor_rates", "growth", "jax_flags")


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The benchmarks' modules by name."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return SimpleNamespace(**{name: importlib.import_module(name) for name in MODULES})


def needs(framework: str) -> None:
    """Skip where it is not installed. It is not imported here: the workers do that, and JAX objects to later forks."""
    if importlib.util.find_spec(framework) is None:
        pytest.skip(f"{framework} is not installed")


def tiny_model(models: Any) -> Any:
    return models.Model(
        "tiny", 3, (5,),
        generator=(models.Dense(3, 4), models.LeakyReLU(0.2), models.Dense(4, 5), models.Tanh()),
        discriminator=(models.Dense(5, 4), models.LeakyReLU(0.2), models.Dense(4, 1)),
    )  # fmt: skip


def numpy_gradients(models: Any, model: Any, start: Any) -> Any:
    """Both players' losses, and their gradients by central differences, for dense layers, in plain NumPy."""

    def network(layers: Any, weights: Any, x: np.ndarray) -> np.ndarray:
        for i, layer in enumerate(layers):
            if isinstance(layer, models.Dense):
                x = x @ weights[f"{i}.weight"].T + weights[f"{i}.bias"]
            else:
                x = np.where(x > 0, x, layer.slope * x) if isinstance(layer, models.LeakyReLU) else np.tanh(x)
        return x

    def d_loss(d: Any) -> float:
        fake = network(model.generator, start.generator, start.d_noise)
        real_logits, fake_logits = (network(model.discriminator, d, x) for x in (start.real, fake))
        return float(np.log1p(np.exp(-real_logits)).mean() + np.log1p(np.exp(fake_logits)).mean())

    def g_loss(g: Any) -> float:
        logits = network(model.discriminator, start.discriminator, network(model.generator, g, start.g_noise))
        return float(np.log1p(np.exp(-logits)).mean())

    def differences(loss: Any, weights: Any, h: float = 1e-6) -> dict[str, np.ndarray]:
        gradients = {name: np.zeros_like(value) for name, value in weights.items()}
        for name, value in weights.items():
            for index in np.ndindex(value.shape):
                ends = []
                for sign in (1, -1):
                    moved = value.copy()
                    moved[index] += sign * h
                    ends.append(loss({**weights, name: moved}))
                gradients[name][index] = (ends[0] - ends[1]) / (2 * h)
        return gradients

    return models.Gradients(
        d_loss(start.discriminator), g_loss(start.generator),
        differences(d_loss, start.discriminator), differences(g_loss, start.generator),
    )  # fmt: skip


def test_spread_is_median_minimum_and_maximum(bench: Any) -> None:
    assert bench.harness.spread([4.0, 1.0, 10.0, 2.0]) == {"median_ms": 3.0, "min_ms": 1.0, "max_ms": 10.0}


def test_ratio_is_ours_over_the_peers_best_variant(bench: Any) -> None:
    times = [("tinygan", 6.0), ("torch", 12.0), ("torch", 10.0), ("jax", 4.0)]
    rows = [{"framework": framework, "median_ms": time} for framework, time in times]
    assert bench.harness.ratios(rows) == {"torch": 0.6, "jax": 1.5}
    assert bench.harness.ratios(rows[1:]) == {}


def test_everybody_has_a_turn_in_every_round_and_another_begins_each(bench: Any, capsys: Any) -> None:
    order: list[str] = []
    turns = {name: (lambda name=name: order.append(name) or len(order)) for name in "abc"}
    results = bench.harness.take_turns(3, turns)
    assert "".join(order) == "abcbcacab"
    assert results == {"a": [1, 6, 8], "b": [2, 4, 9], "c": [3, 5, 7]}


def test_markdown(bench: Any) -> None:
    table = bench.harness.markdown([{"a": 1.23456, "b": "x"}, {"a": 123.4}], {"a": "A", "b": "B"})
    assert table.splitlines() == ["| A | B |", "| --- | --- |", "| 1.23 | x |", "| 123 |  |"]


def test_workers_do_not_inherit_what_overrides_the_choice_of_blas_kernels(bench: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    monkeypatch.setenv("OPENBLAS_L2_SIZE", "1")
    environment = bench.harness.worker_environment(2)
    assert not {"OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"} & set(environment)
    assert environment["OMP_NUM_THREADS"] == environment["NUMBA_NUM_THREADS"] == "2"
    assert bench.harness.removed_overrides() == {"OPENBLAS_CORETYPE": "Haswell", "OPENBLAS_L2_SIZE": "1"}


def test_a_worker_reports_an_error_with_its_traceback_and_works_on(bench: Any) -> None:
    with bench.harness.Worker("models", 1) as worker:  # any module will do: `create` needs a class Subject
        for _ in range(2):
            with pytest.raises(bench.harness.WorkerError, match=r"AttributeError: .*Subject") as caught:
                worker.call("create")
            assert "Traceback" in caught.value.details


def test_vanilla_has_the_networks_that_the_benchmark_promises(bench: Any) -> None:
    model = bench.models.MODELS["vanilla"]
    widths = [[layer.outputs for layer in layers if isinstance(layer, bench.models.Dense)]
              for layers in (model.generator, model.discriminator)]  # fmt: skip
    assert widths == [[256, 512, 1024, 784], [512, 256, 1]]
    assert model.optimiser == bench.models.Adam(2e-4, (0.5, 0.999), 1e-8)
    point = bench.models.start(model, 4)
    assert point.generator["0.weight"].shape == (256, 100)
    assert point.real.shape == (4, 784)
    again = point.astype("float32").astype("float64")  # both precisions start at the same point
    assert np.array_equal(point.discriminator["2.weight"], again.discriminator["2.weight"])


def evidence(bench: Any, **changes: Any) -> Any:
    model = tiny_model(bench.models)
    gradients = numpy_gradients(bench.models, model, bench.models.start(model, 2))
    parts = {"name": "x", "single": gradients, "double": gradients, "moves": {"generator.0.weight": 2e-4},
             "moments": {f"generator.{name}": 1e-3 * g**2 for name, g in gradients.generator.items()}}
    return bench.equality.Evidence(**{**parts, **changes})


def test_equality_check_accepts_the_same_work(bench: Any) -> None:
    assert set(bench.equality.compare(evidence(bench), evidence(bench)).values()) == {0.0}
    bench.equality.check_moves(evidence(bench), bench.models.Adam())


@pytest.mark.parametrize("factor", [1 + 1e-7, math.nan])
def test_equality_check_names_a_gradient_that_differs(bench: Any, factor: float) -> None:
    ours, theirs = evidence(bench), evidence(bench)
    theirs.double.generator["2.bias"][...] *= factor
    with pytest.raises(bench.harness.DifferentWorkError, match=r"generator gradients, most about 2\.bias"):
        bench.equality.compare(ours, theirs)


def test_equality_check_names_a_loss_that_differs_and_a_player_that_stands_still(bench: Any) -> None:
    ours = evidence(bench)
    other = bench.models.Gradients(ours.single.d_loss * 1.001, ours.single.g_loss, {}, {})
    with pytest.raises(bench.harness.DifferentWorkError, match="disagree about d_loss"):
        bench.equality.compare(ours, evidence(bench, single=other))
    with pytest.raises(bench.harness.DifferentWorkError, match=r"moved generator\.0\.weight by 0 "):
        bench.equality.check_moves(evidence(bench, moves={"generator.0.weight": 0.0}), bench.models.Adam())
    with pytest.raises(bench.harness.DifferentWorkError, match=r"moved generator\.0\.weight by 0\.000194 "):
        bench.equality.check_moves(evidence(bench, moves={"generator.0.weight": 0.97 * 2e-4}), bench.models.Adam())


def test_equality_check_knows_how_far_a_tiny_gradient_moves_a_weight(bench: Any) -> None:
    """A gradient of eps moves it by half of the learning rate, and neither by all of it nor by nothing."""
    tiny = evidence(bench)
    for gradient, moment in zip(tiny.double.generator.values(), tiny.moments.values(), strict=True):
        gradient[...], moment[...] = 1e-8, 1e-3 * 1e-8**2
    bench.equality.check_moves(evidence(bench, double=tiny.double, moments=tiny.moments, moves={"generator.0.weight": 1e-4}),
                               bench.models.Adam())
    for move in (0.0, 2e-4):
        with pytest.raises(bench.harness.DifferentWorkError, match=r"Adam moves it by 0\.0001$"):
            bench.equality.check_moves(
                evidence(bench, double=tiny.double, moments=tiny.moments, moves={"generator.0.weight": move}), bench.models.Adam())
    with pytest.raises(bench.harness.DifferentWorkError, match=r"gradient of generator\.0\.weight in its first .* norm 0; on"):
        still = {path: np.zeros_like(g) for path, g in tiny.moments.items()}
        bench.equality.check_moves(evidence(bench, moments=still, moves={"generator.0.weight": 0.0}), bench.models.Adam())
    with pytest.raises(bench.harness.DifferentWorkError, match=r"gradients of the generator in its first .*; on other noise"):
        larger = {path: 1e4 * g for path, g in tiny.moments.items()}
        bench.equality.check_moves(evidence(bench, double=tiny.double, moments=larger,
                                            moves={"generator.0.weight": 2e-4 * 100 / 101}), bench.models.Adam())


def test_equality_check_names_running_statistics_that_differ(bench: Any) -> None:
    ours, theirs = evidence(bench), evidence(bench)
    ours.double.statistics["generator.1.running_mean"] = np.ones(3)
    with pytest.raises(bench.harness.DifferentWorkError, match=r"different running statistics: \[\], \['generator"):
        bench.equality.compare(ours, theirs)
    theirs.double.statistics["generator.1.running_mean"] = np.array([1, 1, 1.1])
    with pytest.raises(bench.harness.DifferentWorkError, match=r"running statistics, most about generator\.1"):
        bench.equality.compare(ours, theirs)


def test_equality_check_judges_float32_by_the_subjects_own_float64(bench: Any) -> None:
    ours, rough = evidence(bench), evidence(bench).double
    assert bench.equality.check_rounding(ours) == 0
    rough.generator["2.bias"][...] *= 1.1
    with pytest.raises(bench.harness.DifferentWorkError, match=r"x: its gradients of generator\.2\.bias in float32"):
        bench.equality.check_rounding(evidence(bench, single=rough))


@pytest.mark.parametrize("framework", ["tinygan", pytest.param("torch", marks=pytest.mark.oracle), "jax"])
def test_subjects_compute_the_gradients_that_differences_give(bench: Any, framework: str) -> None:
    needs(framework)
    model = tiny_model(bench.models)
    start = bench.models.start(model, 4)
    variant = bench.train_step.DENSE[framework][0]
    with bench.harness.Worker(f"subject_{framework}", 1) as worker:
        found = bench.equality.collect(framework, worker, model, start, variant, 1)
    bench.equality.check_moves(found, model.optimiser)
    expected = numpy_gradients(bench.models, model, start)
    assert found.double.d_loss == pytest.approx(expected.d_loss, rel=1e-12)
    assert found.double.g_loss == pytest.approx(expected.g_loss, rel=1e-12)
    for player in ("discriminator", "generator"):
        for name, gradient in getattr(expected, player).items():
            np.testing.assert_allclose(getattr(found.double, player)[name], gradient, atol=1e-8, err_msg=name)


@pytest.mark.oracle
def test_vanilla_step_is_the_same_work_in_torch(bench: Any) -> None:
    needs("torch")
    chosen = [("tinygan", "captured"), ("torch", "eager joined")]
    model = bench.models.MODELS["vanilla"]
    results, failed = bench.train_step.check(model, bench.models.start(model, 4), chosen, 1)
    assert not failed
    assert set(results) == {"tinygan captured", "torch eager joined"}


def small_dcgan(models: Any, side: int) -> Any:
    return {28: lambda: models.dcgan28(1, 3, 2), 64: lambda: models.dcgan64(3, 3, 1), 128: lambda: models.dcgan128(3, 3, 1)}[side]()


def penalised(models: Any, name: str) -> Any:
    return {"wgan_gp": lambda: models.wgan_gp(1, 3, 2), "modern": lambda: models.modern(1, 3, 16)}[name]()


@pytest.mark.parametrize("name", [28, 64, "wgan_gp", "modern"])
def test_the_networks_that_are_compared_are_the_librarys(bench: Any, name: Any) -> None:
    model = small_dcgan(bench.models, name) if isinstance(name, int) else penalised(bench.models, name)
    point = bench.models.start(model, 1)
    networks = getattr(tg.gans, model.own)(model.image_shape, model.latent_dim, model.width)
    for network, weights in zip(networks, (point.generator, point.discriminator), strict=True):
        shapes = {name: parameter.shape for name, parameter in network.named_parameters()}
        assert shapes == {name: value.shape for name, value in weights.items()}


@pytest.mark.oracle
@pytest.mark.parametrize("side", [28, 64, 128])
def test_a_dcgan_step_is_the_same_work_in_torch(bench: Any, side: int) -> None:
    needs("torch")
    model = small_dcgan(bench.models, side)
    chosen = [("tinygan", "captured"), ("torch", "eager channels-last")]
    results, failed = bench.train_step.check(model, bench.models.start(model, 4), chosen, 1)
    assert not failed
    assert {"generator_gradients", "running_statistics"} < set(results["torch eager channels-last"])


@pytest.mark.oracle
@pytest.mark.parametrize("name", ["wgan_gp", "modern"])
def test_a_step_with_penalties_is_the_same_work_in_torch(bench: Any, name: str) -> None:
    needs("torch")
    model = penalised(bench.models, name)
    assert set(bench.train_step.entries(model, ["torch"], [])) >= {("torch", "eager joined"), ("torch", "compiled functional")}
    chosen = [("tinygan", "captured"), ("torch", "eager joined channels-last"), ("torch", "eager functional")]
    results, failed = bench.train_step.check(model, bench.models.start(model, 4), chosen, 1)
    assert not failed and len(results) == 3


def test_a_penalty_of_another_weight_is_other_work(bench: Any) -> None:
    subject_tinygan = importlib.import_module("subject_tinygan")
    model = penalised(bench.models, "wgan_gp")
    found = []
    for weight in (10.0, 10.001):
        other = dataclasses.replace(model, penalties=(("gradient-penalty", weight),))
        point = bench.models.start(other, 4)
        gradients = subject_tinygan.Subject(other, point, "eager", 1).gradients(point.d_noise, point.g_noise)
        found.append(bench.equality.Evidence("x", gradients, gradients, {}))
    with pytest.raises(bench.harness.DifferentWorkError, match="discriminator gradients"):
        bench.equality.compare(*found)


def test_a_gradient_that_vanishes_must_vanish_in_both_and_may_stand_still(bench: Any) -> None:
    ours, theirs = evidence(bench, moves={"generator.0.bias": 0.0}), evidence(bench)
    ours.double.generator["0.bias"][...] = 1e-17
    with pytest.raises(bench.harness.DifferentWorkError, match=r"generator gradients: zero is that of \[\] and of \['0.bias'\]"):
        bench.equality.compare(ours, theirs)
    theirs.double.generator["0.bias"][...] = 0
    assert bench.equality.compare(ours, theirs)["generator_gradients"] == 0
    bench.equality.check_moves(ours, bench.models.Adam())


@pytest.mark.parametrize("name, variant", [(28, "jit nhwc"), ("wgan_gp", "jit nchw"), ("modern", "jit joined nhwc")])
def test_a_step_is_the_same_work_in_jax(bench: Any, name: Any, variant: str) -> None:
    needs("jax")
    model = small_dcgan(bench.models, name) if isinstance(name, int) else penalised(bench.models, name)
    point, found = bench.models.start(model, 4), []
    for framework, way in (("tinygan", "captured"), ("jax", variant)):
        with bench.harness.Worker(f"subject_{framework}", 1) as worker:
            worker.call("create", model=model, start=point, variant=way, threads=1)
            gradients = worker.call("ask", method="gradients", d_noise=point.d_noise, g_noise=point.g_noise)
            found.append(bench.equality.Evidence(framework, gradients, gradients, {}))
    assert {"generator_gradients", "discriminator_gradients"} < set(bench.equality.compare(*found))


def test_jaxs_convolution_in_groups_is_xlas(bench: Any) -> None:
    """In a process beside: here JAX would object to later forks."""
    needs("jax")
    program = """
import jax, models, numpy, subject_jax
for stride, padding in ((1, 1), (2, 0)):
    layer, rng = models.Conv(6, 9, 3, stride, padding, groups=3), numpy.random.default_rng(0)
    x, w = rng.normal(size=(2, 6, 7, 5)).astype("f"), rng.normal(size=(9, 2, 3, 3)).astype("f")
    theirs = jax.lax.conv_general_dilated(x, w, (stride, stride), [(padding, padding)] * 2, feature_group_count=3)
    ours = subject_jax.convolve(layer, jax.numpy.array(w), jax.numpy.array(x), "NCHW")
    nhwc = subject_jax.convolve(layer, jax.numpy.array(w.transpose(2, 3, 1, 0)), jax.numpy.array(x.transpose(0, 2, 3, 1)), "NHWC")
    numpy.testing.assert_allclose(ours, theirs, atol=1e-4)
    numpy.testing.assert_allclose(nhwc, theirs.transpose(0, 2, 3, 1), atol=1e-4)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=BENCHMARKS, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name, variant", [("wgan_gp", "jit joined nhwc"), ("modern", "jit nchw")])
def test_a_step_with_penalties_passes_the_whole_check_in_jax(bench: Any, name: str, variant: str) -> None:
    """In float32 too: rounding, losses, and what the first whole step changes."""
    needs("jax")
    model = penalised(bench.models, name)
    assert {("jax", f"jit {joined}{layout}") for joined in ("", "joined ") for layout in ("nchw", "nhwc")} < set(
        bench.train_step.entries(model, ["jax"], []))
    chosen = [("tinygan", "captured"), ("jax", variant)]
    results, failed = bench.train_step.check(model, bench.models.start(model, 4), chosen, 1)
    assert not failed
    assert {"generator_gradients", "discriminator_gradients", "d_loss", "g_loss"} < set(results[f"jax {variant}"])


@pytest.fixture
def quick_floor(bench: Any, monkeypatch: Any) -> None:
    """Rates of tinygan only, in no time."""
    monkeypatch.setattr(bench.train_step, "LIBRARIES", ["tinygan"])
    monkeypatch.setattr(bench.train_step, "RATE_SECONDS", 0.0)


def test_train_step_end_to_end(bench: Any, quick_floor: None, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setattr(bench.train_step, "check", lambda *_: ({}, []))  # tested on its own
    path = tmp_path / "new folder" / "step.json"
    flags = ["--batch", "4", "--against", "", "--rounds", "1", "--steps", "2", "--warm-up", "1", "--json", str(path)]
    assert bench.train_step.main(flags) == 0
    result = json.loads(path.read_text())
    assert {"machine", "settings", "rows", "ratio"} <= set(result)
    assert [row["variant"] for row in result["rows"]] == ["captured", "eager"]
    for row in result["rows"]:
        assert {"framework", "variant", "median_ms", "min_ms", "max_ms", "peak_mib", "threads", "blas"} <= set(row)
        assert row["framework"] == "tinygan"
        assert 0 < row["min_ms"] <= row["median_ms"] <= row["max_ms"]
        assert row["threads"] == len(bench.harness.cores())
        assert row["over_floor"] == pytest.approx(row["median_ms"] / result["floor"]["ms"], abs=1e-3)
    assert result["ratio"] == {}
    assert result["floor"]["gflops_by_library"]["tinygan"] > 0 and result["floor"]["copy_gb_per_s"] > 0
    assert result["floor"]["gflop"] == pytest.approx(2.398 / 32, abs=1e-3)
    out = capsys.readouterr().out
    assert "| tinygan | captured |" in out and "the floor: 0.075 GFLOP" in out


def test_the_floors_products_are_those_of_the_passes(bench: Any) -> None:
    model = tiny_model(bench.models)  # generator 3-4-5: 12 and 20 weights, discriminator 5-4-1: 20 and 4
    forward, weight = 2 * 32 + 3 * 24, 32 + 2 * 24
    inputs = 20 + 2 * 4 + 24  # but none by the latent vectors, or by the images of the discriminator's own update
    assert bench.floor.operations(model, 2) == {"forward": 4 * forward, "input": 4 * inputs, "weight": 4 * weight}
    assert bench.floor.parameters(model) == 12 + 4 + 20 + 5 + 20 + 4 + 4 + 1
    vanilla = bench.models.MODELS["vanilla"]
    assert sum(bench.floor.operations(vanilla, 128).values()) / 1e9 == pytest.approx(2.40, abs=0.005)
    assert bench.floor.ADAM_BYTES * bench.floor.parameters(vanilla) / 1e6 == pytest.approx(56.6, abs=0.05)


@pytest.mark.parametrize("role", ["forward", "input", "weight"])
def test_the_floor_counts_products_by_tiles(bench: Any, role: str) -> None:
    """A tile of 7 x 7 outputs has 8 x 8 points. Stride 2 makes four phases."""
    models, counted = bench.models, bench.floor.Counted
    tiled = 2 * 64 * 8 * 8 * 4 * 64 * 128
    assert counted(models.Conv(64, 128, 4, 2, 1), 14).operations(64, role) == tiled
    assert counted(models.ConvTranspose(128, 64, 4, 2, 1), 7).operations(64, role) == tiled
    direct = 2 * 64 * 14 * 14 * 4 * 4 * 64  # one channel: as the definition says
    assert counted(models.Conv(1, 64, 4, 2, 1), 28).operations(64, role) == direct


@pytest.mark.parametrize("name", ["dense", 28, 64, "wgan_gp", "modern"])
def test_a_step_executes_the_products_that_the_floor_counts(bench: Any, name: Any, monkeypatch: Any) -> None:
    subject_tinygan = importlib.import_module("subject_tinygan")
    from tinygan.backends import cpu

    model = small_dcgan(bench.models, name) if isinstance(name, int) else (
        tiny_model(bench.models) if name == "dense" else penalised(bench.models, name))
    expected = bench.floor.operations(model, 3)
    subject = subject_tinygan.Subject(model, bench.models.start(model, 3).astype("float32"), "eager", 1)
    done = []
    sizes = {
        "matmul": lambda a, b, *_: a.size * b.shape[-1], "dense": lambda x, weight, *_: x.size * weight.shape[0],
        "dense_parameter_grads": lambda x, y: x.size * y.shape[1],
        "conv2d": lambda x, weight, g, *_: len(x) * math.prod(g.output) * weight.size,
        "conv2d_input_grad": lambda y, weight, g, *_: len(y) * math.prod(g.output) * weight.size,
        "conv2d_weight_grad": lambda x, y, g: y.size * x.shape[1] // g.groups * math.prod(g.kernel),
    }  # fmt: skip
    def counting(original: Any, size: Any) -> Any:
        def told(*args: Any, **options: Any) -> Any:
            done.append(2 * size(*args))
            return original(*args, **options)

        return told

    for function, size in sizes.items():
        monkeypatch.setattr(cpu, function, counting(getattr(cpu, function), size))
    subject.step()
    assert sum(done) == sum(expected.values())


def test_the_floor_is_the_products_at_the_best_rate_and_adam_at_the_copys(bench: Any) -> None:
    found = bench.floor.floor({"forward": 3_000_000_000, "weight": 1_000_000_000}, 1_000_000,
                              {"tinygan": [90.0, 100.0, 500.0], "numpy": [80.0]}, [14.0, 14.0, 7.0])
    assert (found["library"], found["products_ms"], found["adam_ms"], found["ms"]) == ("tinygan", 40.0, 2.0, 42.0)
    assert bench.floor.describe(found) == ("the floor: 4 GFLOP of products at 100 GFLOP/s (tinygan; numpy 80), 40 ms, + 28 MB "
                                           "of Adam's at 14 GB/s, 2 ms = 42 ms")


def test_rates_are_work_over_the_shortest_time(bench: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(bench.floor_rates, "COPIED", 1000)
    times = iter([0.0, 4.0, 0.0, 2.0, 0.0, 8.0])
    subject = bench.floor_rates.Subject("copy", 2)
    monkeypatch.setattr(bench.floor_rates.time, "perf_counter", lambda: next(times))
    assert subject.rate(0.0) == pytest.approx(2 * 1000 / 1e9 / 2.0)


class Drifting:
    """A worker whose captured step moves a weight by `captured` each time, the eager one by 1."""

    def __init__(self, captured: float) -> None:
        self.captured = captured

    def call(self, how: str, /, **arguments: Any) -> Any:
        if how == "create":
            self.move, self.weight = (1.0 if "eager" in arguments["variant"] else self.captured), np.zeros(2)
        elif arguments["method"] == "step":
            self.weight = self.weight + self.move
        return {"0.weight": np.ones(2)}, {"2.bias": self.weight}


def test_a_captured_step_must_train_to_the_bits_of_the_eager_one(bench: Any) -> None:
    bench.equality.check_replays("x", Drifting(1.0), "captured")
    with pytest.raises(bench.harness.DifferentWorkError, match=r"x: after 4 steps discriminator\.2\.bias is not what"):
        bench.equality.check_replays("x", Drifting(1.0 + 1e-15), "captured")


def test_only_a_captured_variant_is_replayed(bench: Any) -> None:
    subject_tinygan = importlib.import_module("subject_tinygan")
    model = tiny_model(bench.models)
    start = bench.models.start(model, 4).astype("float32")
    captured, eager = (subject_tinygan.Subject(model, start, variant, 1) for variant in ("captured", "eager"))
    for subject in (captured, eager):
        for _ in range(bench.train_step.LEAST_WARM_UP):
            subject.step()
    assert captured.train.program is not None
    assert eager.train == eager.gan.step


def test_jax_runs_with_and_without_a_flag_that_it_knows(bench: Any, monkeypatch: Any) -> None:
    flags = bench.jax_flags
    monkeypatch.setattr(flags, "FLAGS", {"odd": "--odd", "even": "--even"})
    monkeypatch.setattr(flags, "TRIAL", "import os; raise SystemExit(os.environ['XLA_FLAGS'] != '--odd')")
    assert flags.both_ways(["jit"]) == ["jit", "jit odd", "jit even"]
    assert flags.environment("jit", {"XLA_FLAGS": "--mine"}) == {}
    assert flags.environment("jit odd", {"XLA_FLAGS": "--mine"}) == {"XLA_FLAGS": "--mine --odd"}
    with pytest.raises(bench.harness.WorkerError, match="does not run with the flag --even"):
        bench.harness.worker("subject", "jax", 1, None, "jit even")
    flags.is_known.cache_clear()


def two_points(bench: Any) -> list[Any]:
    model = tiny_model(bench.models)
    return [bench.growth.Point("batch", "tiny", batch, model, batch) for batch in (4, 8)]


def test_growth_measures_each_point_once_and_draws(bench: Any, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setattr(bench.growth, "points", lambda: two_points(bench))
    monkeypatch.setattr(bench.train_step, "check", lambda *_: ({}, []))  # tested on its own
    path, figure = tmp_path / "growth.json", tmp_path / "growth.png"
    flags = ["--against", "", "--seconds", "0", "--json", str(path), "--figure", str(figure)]
    assert bench.growth.main([*flags, "--rounds", "1", "--at", "4"]) == 0
    (first,) = json.loads(path.read_text())["rows"]
    assert bench.growth.main([*flags, "--rounds", "1", "--only", "width"]) == 0
    assert bench.growth.main([*flags, "--rounds", "1", "--only", "batch"]) == 0
    rows = json.loads(path.read_text())["rows"]
    assert rows[0] == first
    assert [(row["value"], row["variant"]) for row in rows] == [(4, "captured"), (8, "captured")]
    assert all(row["us_per_image"] == pytest.approx(row["median_ms"] * 1e3 / row["batch"], rel=1e-3) for row in rows)
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert bench.growth.main([*flags, "--rounds", "2"]) == 1
    assert "was measured with other settings" in capsys.readouterr().err


def test_growth_leaves_out_a_point_of_different_work(bench: Any, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    def measured(point: Any, *_: Any) -> list[Any]:
        if point.value == 4:
            raise bench.growth.DifferentWorkError("tinygan captured: its gradients differ")
        return [{"framework": "tinygan", "variant": "captured", "median_ms": 1.0, "peak_mib": 1.0}]

    monkeypatch.setattr(bench.growth, "points", lambda: two_points(bench))
    monkeypatch.setattr(bench.growth, "measured", measured)
    path = tmp_path / "growth.json"
    assert bench.growth.main(["--json", str(path), "--figure", str(tmp_path / "growth.png")]) == 0
    assert [row["value"] for row in json.loads(path.read_text())["rows"]] == [8]
    assert "left out: batch 4: tinygan captured: its gradients differ" in capsys.readouterr().out


def test_growth_leaves_out_what_compiles_too_slowly_or_not_at_all(bench: Any, monkeypatch: Any) -> None:
    growth, asked = bench.growth, []
    options = growth.arguments(["--compile-seconds", "5"])
    point, dropped = two_points(bench)[0], {}

    def measure(model: Any, start: Any, chosen: list[Any], *rest: Any) -> tuple[list[Any], Any]:
        asked.append([variant for _, variant in chosen])
        if broken and ("torch", "compiled") in chosen:
            raise growth.WorkerError("no compiler")
        return [{"framework": framework, "variant": variant, "start_s": 9.0} for framework, variant in chosen], {}

    monkeypatch.setattr(bench.train_step, "measure", measure)
    broken = False
    assert len(growth.measured(point, options, dropped, {point.model})) == 5
    assert set(dropped) == {"torch compiled", "torch compiled joined"} and "9 s" in dropped["torch compiled"]
    assert len(growth.measured(point, options, dropped, {point.model})) == 3
    broken, dropped = True, {}
    growth.measured(point, options, dropped, {point.model})
    assert asked[-1] == ["captured", "eager", "eager joined"] and dropped["torch compiled joined"] == "no compiler"


def test_growth_reaches_from_small_to_large(bench: Any) -> None:
    values = {axis: sorted({point.value for point in bench.growth.points() if point.axis == axis}) for axis in bench.growth.AXES}
    assert values == {"batch": [16, 32, 64, 128, 256, 512, 1024], "width": [16, 32, 64, 128, 256], "size": [28, 64, 128]}
    for point in bench.growth.points():
        assert point.model.image_shape[-1] == (point.value if point.axis == "size" else point.model.image_shape[-1])
        assert point.batch == (point.value if point.axis == "batch" else bench.growth.BATCH)


def test_train_step_refuses_an_unknown_peer(bench: Any, capsys: Any) -> None:
    with pytest.raises(SystemExit):
        bench.train_step.main(["--against", "tenserflow"])
    assert "no peer 'tenserflow'" in capsys.readouterr().err


@pytest.mark.parametrize("name, flags", [
    ("train_step", ["--batch", "4", "--steps", "2"]), ("unrolled_step", ["--batch", "4", "--steps", "1", "--repeats", "2"]),
    ("op_overhead", ["--ops", "relu", "--seconds", "0.01"]),
])
def test_the_tinygan_of_another_checkout_is_a_peer(
        bench: Any, quick_floor: None, name: str, flags: list[str], tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setitem(bench.train_step.DENSE, "tinygan", ["captured"])
    monkeypatch.setitem(bench.unrolled_step.VARIANTS, "tinygan", ["recorded"])
    try:
        (tmp_path / "tinygan").symlink_to(bench.harness.ROOT / "tinygan")
    except OSError:
        pytest.skip("this user may make no symbolic links here")
    path = tmp_path / "result.json"
    benchmark = getattr(bench, name)
    assert benchmark.main([*flags, "--against", "", "--before", str(tmp_path), "--rounds", "1", "--json", str(path)]) == 0
    result = json.loads(path.read_text())
    variants = {framework: [row["variant"] for row in result["rows"] if row["framework"] == framework]
                for framework in ("tinygan", "before")}
    assert variants["tinygan"] == variants["before"] != []
    assert '"before"' in json.dumps(result["ratio"])
    with pytest.raises(SystemExit):
        benchmark.main(["--before", str(tmp_path / "tinygan")])
    assert "is no checkout of tinygan" in capsys.readouterr().err


def test_op_overhead_end_to_end(bench: Any, tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "ops.json"
    flags = ["--against", "", "--ops", "mul,network", "--rounds", "1", "--seconds", "0.01", "--json", str(path)]
    assert bench.op_overhead.main(flags) == 0
    rows = json.loads(path.read_text())["rows"]
    assert {row["op"] for row in rows} == {name for name in bench.ops.CASES if "mul" in name or "network" in name}
    for row in rows:
        figures = [figure for figure in bench.op_overhead.FIGURES if f"{figure}_us" in row]
        assert figures == (["forward_backward"] if "replayed" in row["op"] else list(bench.op_overhead.FIGURES))
        assert all(row[f"{figure}_us"] > 0 for figure in figures)


def test_the_replayed_network_is_the_network(bench: Any) -> None:
    subject = importlib.import_module("ops_tinygan").Subject("default", 1)
    (result, gradients), (expected, wanted) = (subject.values(f"network 64-64-64-10{more}") for more in (", replayed", ""))
    assert result == expected and len(gradients) == 7
    for got, want in zip(gradients, wanted, strict=True):
        np.testing.assert_array_equal(got, want)


def test_op_overhead_ratios_are_per_op_and_their_geometric_mean(bench: Any) -> None:
    figures = bench.op_overhead.FIGURES
    times = [("a", "tinygan", 1.0), ("a", "torch", 2.0), ("b", "tinygan", 4.0), ("b", "torch", 2.0)]
    rows = [{"op": op, "framework": framework, **dict.fromkeys((f"{figure}_us" for figure in figures), time)}
            for op, framework, time in times]  # fmt: skip
    rows += [{"op": "c, replayed", "framework": framework, "forward_backward_us": time}
             for framework, time in (("tinygan", 1.0), ("torch", 4.0))]  # fmt: skip
    ratios = bench.op_overhead.ratios(rows)["torch"]
    assert ratios["c, replayed"] == {"forward_backward": 0.25} and ratios["all"]["forward_backward"] == 1.0
    assert (ratios["a"]["single"], ratios["b"]["single"], ratios["all"]["single"]) == (0.5, 2.0, 1.0)


def test_conv_counts_direct_operations_and_knows_the_networks_layers(bench: Any) -> None:
    first, second = bench.conv_layers.LAYERS["dcgan28"]
    assert (first.output, second.output, second.conv.outputs) == (14, 7, 128)
    assert second.gflop(64) == pytest.approx(2 * 64 * 7 * 7 * 128 * 64 * 4 * 4 / 1e9)
    assert [layer.output for layer in bench.conv_layers.LAYERS["dcgan5x5"]] == [32, 16, 8, 4]
    grouped = bench.conv_layers.LAYERS["grouped"][0]
    assert grouped.gflop(64) == pytest.approx(2 * 64 * 32 * 32 * 96 * 16 * 3 * 3 / 1e9)
    assert [a.shape for a in grouped.inputs(2, "float32")] == [(2, 96, 32, 32), (96, 16, 3, 3), (2, 96, 32, 32)]


@pytest.mark.oracle
def test_conv_end_to_end(bench: Any, tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    needs("torch")
    layer = bench.conv_layers.Layer("odd", bench.models.Conv(2, 3, 4, 2, 1), 7)  # its stride passes over a row
    grouped = bench.conv_layers.Layer("in groups", bench.models.Conv(4, 6, 3, 1, 1), 5, 2)
    monkeypatch.setitem(bench.conv_layers.LAYERS, "dcgan28", [layer, grouped])
    path = tmp_path / "conv.json"
    flags = ["--layers", "dcgan28", "--batch", "2", "--rounds", "1", "--seconds", "0", "--json", str(path)]
    assert bench.conv.main(flags) == 0
    result = json.loads(path.read_text())
    assert len(result["rows"]) == 2 * 5 * len(bench.conv_layers.MAPS)
    assert all(row["median_ms"] > 0 and row["error"] < 1e-5 for row in result["rows"])
    assert set(result["ratio"]["torch"]) == {layer.describe(), grouped.describe(), "all"}
    assert "| forward | torch | channels-last |" in capsys.readouterr().out


@pytest.mark.oracle
def test_dcgan_quality_trains_what_tinygan_trains_and_resumes(tmp_path: Path, monkeypatch: Any) -> None:
    pytest.importorskip("torch")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    quality = importlib.import_module("dcgan_quality")
    images = tmp_path / "images.npy"
    np.save(images, np.random.default_rng(0).integers(0, 256, (12, 1, 28, 28), dtype=np.uint8))

    def flags(folder: str, epochs: int) -> list[str]:
        return ["--run-dir", str(tmp_path / folder), "--epochs", str(epochs), "--data-dir", str(images), "--quiet",
                "--batch-size", "4", "--width", "2", "--latent-dim", "3"]  # fmt: skip

    def losses(folder: str) -> np.ndarray:
        lines = (tmp_path / folder / "metrics.csv").read_text().splitlines()[1:]
        return np.array([[float(x) for x in line.split(",")[2:4]] for line in lines])

    assert cli.main(["train", "dcgan", *flags("ours", 2)]) == 0
    assert quality.main(flags("theirs", 2)) == 0
    np.testing.assert_allclose(losses("theirs"), losses("ours"), rtol=1e-4)
    assert quality.main(flags("halves", 1)) == 0
    assert quality.main([*flags("halves", 2), "--resume"]) == 0
    np.testing.assert_array_equal(losses("halves"), losses("theirs"))
    assert quality.main(["--run-dir", str(tmp_path / "theirs"), "--compare", str(tmp_path / "ours"), "--at", "1", "2"]) == 0
    assert {"compare_samples.png", "compare_losses.png"} <= {path.name for path in (tmp_path / "theirs").iterdir()}


def test_first_start_reads_only_whole_lines_and_allows_for_the_delay(bench: Any, tmp_path: Path) -> None:
    metrics = tmp_path / "metrics.csv"
    assert bench.first_start.step_times(metrics) == []
    metrics.write_text("epoch,step,seconds\n1,1,0.25\n1,2,1.5\n1,3,2")
    assert bench.first_start.step_times(metrics) == [0.25, 1.5]


@pytest.mark.skipif(sys.platform != "linux", reason="caches are moved on Linux only")
def test_first_start_measures_a_command_and_reports_one_that_fails(bench: Any, tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text(
        "import pathlib, sys, time\n"
        "run = pathlib.Path(sys.argv[sys.argv.index('--run-dir') + 1]); run.mkdir()\n"
        "time.sleep(0.2); (run / 'metrics.csv').write_text('seconds\\n0.1\\n'); time.sleep(60)\n"
    )
    seconds = bench.first_start.seconds_to_first_step([sys.executable, str(script)], tmp_path, 30)
    assert 0.2 < seconds < 30
    script.write_text("raise SystemExit('no data here')")
    with pytest.raises(RuntimeError, match=r"exit status 1(.|\n)*no data here"):
        bench.first_start.seconds_to_first_step([sys.executable, str(script)], tmp_path, 30)
