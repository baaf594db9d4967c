"""The benchmarks' arithmetic and their equality check. Nothing here is about how fast anything is."""
import importlib
import importlib.util
import json
import math
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import tinygan as tg
from tinygan import cli

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
MODULES = ("harness", "models", "equality", "train_step", "unrolled_step", "op_overhead", "ops", "conv", "conv_layers", "first_start")


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
    parts = {"name": "x", "single": gradients, "double": gradients, "moves": {"generator.0.weight": 2e-4}}
    return bench.equality.Evidence(**{**parts, **changes})


def test_equality_check_accepts_the_same_work(bench: Any) -> None:
    assert set(bench.equality.compare(evidence(bench), evidence(bench)).values()) == {0.0}
    bench.equality.check_moves(evidence(bench), 2e-4)


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
        bench.equality.check_moves(evidence(bench, moves={"generator.0.weight": 0.0}), 2e-4)


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
    bench.equality.check_moves(found, model.optimiser.lr)
    expected = numpy_gradients(bench.models, model, start)
    assert found.double.d_loss == pytest.approx(expected.d_loss, rel=1e-12)
    assert found.double.g_loss == pytest.approx(expected.g_loss, rel=1e-12)
    for player in ("discriminator", "generator"):
        for name, gradient in getattr(expected, player).items():
            np.testing.assert_allclose(getattr(found.double, player)[name], gradient, atol=1e-8, err_msg=name)


@pytest.mark.oracle
def test_vanilla_step_is_the_same_work_in_torch(bench: Any) -> None:
    needs("torch")
    chosen = [("tinygan", "default"), ("torch", "eager joined")]
    model = bench.models.MODELS["vanilla"]
    results, failed = bench.train_step.check(model, bench.models.start(model, 4), chosen, 1)
    assert not failed
    assert set(results) == {"tinygan default", "torch eager joined"}


def small_dcgan(models: Any, side: int) -> Any:
    return models.dcgan28(1, 3, 2) if side == 28 else models.dcgan64(3, 3, 1)


@pytest.mark.parametrize("side", [28, 64])
def test_the_dcgan_that_is_compared_is_the_librarys(bench: Any, side: int) -> None:
    model = small_dcgan(bench.models, side)
    point = bench.models.start(model, 1)
    networks = tg.gans.dcgan_networks(model.image_shape, model.latent_dim, model.dcgan_width)
    for network, weights in zip(networks, (point.generator, point.discriminator), strict=True):
        shapes = {name: parameter.shape for name, parameter in network.named_parameters()}
        assert shapes == {name: value.shape for name, value in weights.items()}


@pytest.mark.oracle
@pytest.mark.parametrize("side", [28, 64])
def test_a_dcgan_step_is_the_same_work_in_torch(bench: Any, side: int) -> None:
    needs("torch")
    model = small_dcgan(bench.models, side)
    chosen = [("tinygan", "default"), ("torch", "eager channels-last")]
    results, failed = bench.train_step.check(model, bench.models.start(model, 4), chosen, 1)
    assert not failed
    assert {"generator_gradients", "running_statistics"} < set(results["torch eager channels-last"])


def test_a_dcgan_step_is_the_same_work_in_jax(bench: Any) -> None:
    needs("jax")
    model = small_dcgan(bench.models, 28)
    point, found = bench.models.start(model, 4), []
    for framework, variant in (("tinygan", "default"), ("jax", "jit nhwc")):
        with bench.harness.Worker(f"subject_{framework}", 1) as worker:
            worker.call("create", model=model, start=point, variant=variant, threads=1)
            gradients = worker.call("ask", method="gradients", d_noise=point.d_noise, g_noise=point.g_noise)
            found.append(bench.equality.Evidence(framework, gradients, gradients, {}))
    assert "running_statistics" in bench.equality.compare(*found)


def test_train_step_end_to_end(bench: Any, tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "new folder" / "step.json"
    flags = ["--batch", "4", "--against", "", "--rounds", "1", "--steps", "2", "--warm-up", "1", "--json", str(path)]
    assert bench.train_step.main(flags) == 0
    result = json.loads(path.read_text())
    assert {"machine", "settings", "rows", "ratio"} <= set(result)
    (row,) = result["rows"]
    assert {"framework", "variant", "median_ms", "min_ms", "max_ms", "peak_mib", "threads", "blas"} <= set(row)
    assert row["framework"] == "tinygan"
    assert 0 < row["min_ms"] <= row["median_ms"] <= row["max_ms"]
    assert row["threads"] == len(bench.harness.cores())
    assert result["ratio"] == {}
    assert "| tinygan | default |" in capsys.readouterr().out


def test_train_step_refuses_an_unknown_peer(bench: Any, capsys: Any) -> None:
    with pytest.raises(SystemExit):
        bench.train_step.main(["--against", "tenserflow"])
    assert "no peer 'tenserflow'" in capsys.readouterr().err


@pytest.mark.parametrize("name, flags", [
    ("train_step", ["--batch", "4", "--steps", "2"]), ("unrolled_step", ["--batch", "4", "--steps", "1", "--repeats", "2"]),
    ("op_overhead", ["--ops", "relu", "--seconds", "0.01"]),
])
def test_the_tinygan_of_another_checkout_is_a_peer(
        bench: Any, name: str, flags: list[str], tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "tinygan").symlink_to(bench.harness.ROOT / "tinygan")
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
    assert all(row[f"{figure}_us"] > 0 for row in rows for figure in bench.op_overhead.FIGURES)


def test_op_overhead_ratios_are_per_op_and_their_geometric_mean(bench: Any) -> None:
    figures = bench.op_overhead.FIGURES
    times = [("a", "tinygan", 1.0), ("a", "torch", 2.0), ("b", "tinygan", 4.0), ("b", "torch", 2.0)]
    rows = [{"op": op, "framework": framework, **dict.fromkeys((f"{figure}_us" for figure in figures), time)}
            for op, framework, time in times]  # fmt: skip
    ratios = bench.op_overhead.ratios(rows)["torch"]
    assert (ratios["a"]["single"], ratios["b"]["single"], ratios["all"]["single"]) == (0.5, 2.0, 1.0)


def test_conv_counts_direct_operations_and_knows_the_networks_layers(bench: Any) -> None:
    first, second = bench.conv_layers.LAYERS["dcgan28"]
    assert (first.output, second.output, second.conv.outputs) == (14, 7, 128)
    assert second.gflop(64) == pytest.approx(2 * 64 * 7 * 7 * 128 * 64 * 4 * 4 / 1e9)
    assert [layer.output for layer in bench.conv_layers.LAYERS["dcgan5x5"]] == [32, 16, 8, 4]


@pytest.mark.oracle
def test_conv_end_to_end(bench: Any, tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    needs("torch")
    layer = bench.conv_layers.Layer("odd", bench.models.Conv(2, 3, 4, 2, 1), 7)  # its stride passes over a row
    monkeypatch.setitem(bench.conv_layers.LAYERS, "dcgan28", [layer])
    path = tmp_path / "conv.json"
    flags = ["--layers", "dcgan28", "--batch", "2", "--rounds", "1", "--seconds", "0", "--json", str(path)]
    assert bench.conv.main(flags) == 0
    result = json.loads(path.read_text())
    assert len(result["rows"]) == 5 * len(bench.conv_layers.MAPS)
    assert all(row["median_ms"] > 0 and row["error"] < 1e-5 for row in result["rows"])
    assert set(result["ratio"]["torch"]) == {layer.describe(), "all"}
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
