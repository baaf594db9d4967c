"""Exported ONNX models compute what tinygan computes. onnxruntime is the judge; it shares no code with tinygan."""
from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exported_gans import GANS, give_weights, in_tinygan, networks_of, small_gan
from variant_runs import command, failure, grey_images

import tinygan as tg
from tinygan import nn, ops, saving, training
from tinygan.exporting.onnx_ops import RULES
from tinygan.graph import Op
from tinygan.random import Key

onnx = pytest.importorskip("onnx", reason="needs the extra `onnx`")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra `onnx`")


def session(path: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run(path: Path, *inputs: Any) -> list[Any]:
    model = session(path)
    return model.run(None, {given.name: x for given, x in zip(model.get_inputs(), inputs, strict=True)})


def close(got: Any, expected: Any) -> None:
    """Within 1e-5 of the largest element, and of the same shape and type."""
    expected = np.asarray(expected)
    assert got.shape == expected.shape and got.dtype == expected.dtype
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5 * max(1.0, float(np.abs(expected).max(initial=0))))


# -- every variant ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, case", GANS)
def test_every_network_of_every_variant(name: str, case: int, tmp_path: Path) -> None:
    gan = small_gan(name, case)
    for player, found, inputs in networks_of(gan):
        path = tmp_path / f"{player}.onnx"
        saving.export_onnx(found.network, path, *found.inputs.values(), input_names=list(found.inputs),
                           output_names=[found.output])
        made, = run(path, *inputs)
        expected = in_tinygan(found.network, inputs)
        assert 0.05 < np.abs(expected).max() < 100, player  # neither tiny nor saturated: so 1e-5 says something
        close(made, expected)
        if player == "generator":
            with tg.conv_algorithm("direct"):
                close(made, gan.sample(z=inputs[0]))
            np.testing.assert_allclose(made, gan.sample(z=inputs[0]), rtol=0, atol=1e-4)  # (tiled convolutions round more)
            assert np.abs(made - gan.sample(z=inputs[0], averaged=False)).max() > 0.01  # (the present weights are others)
        one, = run(path, *[x[:1] for x in inputs])
        if name != "minibatch" or player == "generator":
            close(one, made[:1])
        model = session(path)
        assert [x.name for x in model.get_inputs()] == list(found.inputs) and model.get_outputs()[0].name == found.output
        assert all(x.shape[0] == "batch" for x in (*model.get_inputs(), *model.get_outputs()))
        stored = onnx.load(path)
        assert [entry.version for entry in stored.opset_import] == [18]
        if name in ("vanilla", "dcgan"):  # (a graph that is no longer than it has to be)
            assert "Shape" not in {node.op_type for node in stored.graph.node}


@pytest.mark.parametrize("weights", ["averaged", "raw"])
def test_the_command(weights: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    raw = ["--raw"] if weights == "raw" else []
    data = grey_images(tmp_path / "grey.npy", 12)
    assert command("train", "vanilla", "--run-dir", "r", "--data-dir", data, "--epochs", 1, "--batch-size", 4, "--ema", 0.9,
                   "--learning-rate", 0.01) == 0
    capsys.readouterr()
    assert command("export", "r", "--to", "onnx", "generator.onnx", *raw) == 0
    told = capsys.readouterr()
    assert told.out == "generator.onnx: z (N, 100) -> images, for any number N, opset 18\n"
    assert f"the generator's {'present' if raw else 'averaged'} weights" in told.err
    gan = training.open_run("r").gan
    z = gan.latent(7, Key(4))
    made, = run(Path("generator.onnx"), z)
    close(made, gan.sample(z=z, averaged=not raw))  # type: ignore[call-arg]
    assert np.abs(made - gan.sample(z=z, averaged=bool(raw))).max() > 1e-3  # type: ignore[call-arg]
    notes = {entry.key: entry.value for entry in onnx.load("generator.onnx").metadata_props}
    assert notes == {"tinygan": tg.__version__, "variant": "vanilla", "network": "generator", "data": "array:grey.npy", "step": "3",
                     "noise": "normal", "weights": f"{'present' if raw else 'averaged'} weights"}


def test_the_command_writes_both_players_and_refuses_what_makes_no_sense(tmp_path: Path,
                                                                         capsys: pytest.CaptureFixture[str]) -> None:
    run_dir, data = tmp_path / "r", grey_images(tmp_path / "grey.npy", 8)
    assert command("train", "vanilla", "--run-dir", run_dir, "--data-dir", data, "--epochs", 1, "--batch-size", 4) == 0
    assert command("export", run_dir, "--to", "onnx", "--player", "both") == 0
    assert command("export", run_dir, "--to", "onnx", tmp_path / "there", "--player", "both") == 0
    images = np.random.default_rng(0).uniform(-1, 1, (3, 1, 28, 28)).astype(np.float32)
    gan = training.open_run(run_dir).gan
    for folder in (run_dir, tmp_path / "there"):
        z = gan.latent(3, Key(4))
        close(run(folder / "generator.onnx", z)[0], gan.sample(z=z))
        close(run(folder / "discriminator.onnx", images)[0], in_tinygan(gan.discriminator, [images]))
    told = failure(capsys, "export", run_dir, "--to", "onnx", tmp_path / "a.onnx", "--player", "both")
    assert "two networks need two files: give a folder" in told
    assert "expected a name that ends in .onnx, or a folder" in failure(capsys, "export", run_dir, "--to", "onnx", tmp_path / "a.pth")
    assert "--to: expected onnx or safetensors, and perhaps a file, got pth" in failure(capsys, "export", run_dir, "--to", "pth")
    assert "unknown network 'q', expected one of generator, discriminator, both" in failure(
        capsys, "export", run_dir, "--to", "onnx", "--player", "q")


# -- every op --------------------------------------------------------------------------------------------------------------

IMAGES, VECTORS, SIGNALS = (4, 3, 9, 8), (4, 6), (4, 3, 10)
DRAW = np.random.default_rng(0)


def weight(*shape: int) -> Any:
    return tg.Tensor(DRAW.standard_normal(shape).astype(np.float32) * 0.3)


W33, W43, MATRIX, ROW, BIAS3 = weight(4, 3, 3, 3), weight(3, 4, 4, 3), weight(5, 6), weight(6), weight(3)
CASES: dict[str, tuple[tuple[int, ...], Any]] = {
    "arithmetic": (VECTORS, lambda x: (x + ROW) * 2 - x / 3 + (1 - x) / (x * x + 2) - (-x)),
    "exp, log": (VECTORS, lambda x: tg.log(tg.exp(x) + 1) + tg.log1p(x * x) + tg.sqrt(x * x + 1)),
    "sin, cos": (VECTORS, lambda x: tg.sin(x) * tg.cos(x)),
    "steps": (VECTORS, lambda x: tg.sign(x) + tg.floor(x) + 2 * tg.ceil(3 * x) + tg.round(5 * x) + tg.abs(x)),
    "pow": (VECTORS, lambda x: (x * x + 1) ** 0.7 + 2.0 ** x + tg.pow(tg.abs(x) + 1, ROW)),
    "maximum, clip": (VECTORS, lambda x: tg.maximum(x, ROW) + tg.minimum(x, 0.2) + tg.clip(x, -0.5, None) + tg.clip(x, high=0.3)),
    "where": (VECTORS, lambda x: tg.where(x > ROW, x, 0.5) + tg.where(tg.isfinite(x), 0.1, x)),
    "masks": (VECTORS, lambda x: x * (x > 0) + (x <= 0.1) * (x - 2.0) + (x >= ROW) * x * (x < 1)),
    "comparisons": (VECTORS, lambda x: (x > 0, x >= ROW, x < 0.3, x <= ROW, tg.equal(tg.sign(x), 1.0), tg.not_equal(tg.sign(x), 1.0))),
    "any, all": (VECTORS, lambda x: ((x > 0).any(1), (x > -1).all(1, keepdims=True))),
    "astype": (VECTORS, lambda x: (tg.astype(x, np.float64), tg.astype(x * 3, np.int32), tg.astype(x > 0, np.float32))),
    "whole numbers": (VECTORS, lambda x: (tg.astype(x * 5, np.int64).sum(1), (x > 0).sum(1), tg.cumsum(x > 0, 1))),
    "activations": (VECTORS, lambda x: sum(tg.activation(x, name, 0.3) for name in (
        "relu", "leaky_relu", "elu", "tanh", "sigmoid", "softplus", "silu", "gelu", "gelu_tanh"))),
    "prelu": (IMAGES, lambda x: tg.prelu(x, BIAS3)),
    "dense": (VECTORS, lambda x: tg.dense(x, MATRIX, MATRIX[:, 0], "tanh")),
    "dense, three axes": ((4, 2, 6), lambda x: tg.dense(x, MATRIX)),
    "matmul": ((4, 2, 6), lambda x: x @ MATRIX.T + x @ tg.transpose(x, (0, 2, 1)) @ MATRIX[:2, :5] + (x @ ROW)[..., None]),
    "einsum": ((4, 2, 6), lambda x: tg.einsum("nij,kj->nik", x, MATRIX)),
    "conv2d": (IMAGES, lambda x: tg.conv2d(x, W33, weight_bias(4), stride=(2, 1), padding=(1, 2), dilation=(1, 2))),
    "conv2d, same": (IMAGES, lambda x: tg.conv2d(x, W43[:, :3].transpose((1, 0, 2, 3)), padding="same")),
    "conv2d, groups": ((4, 6, 9, 8), lambda x: tg.conv2d(x, W33[:, :2], groups=1) if x.shape[1] == 2 else tg.conv2d(
        x, tg.concatenate([W33, W33])[:6, :2], groups=3, padding=1)),
    "conv_transpose2d": (IMAGES, lambda x: tg.conv_transpose2d(x, W43, weight_bias(4), stride=(3, 2), padding=1, output_padding=(2, 1))),
    "conv_transpose2d, dilation": (IMAGES, lambda x: tg.conv_transpose2d(x, W43, stride=1, dilation=2, output_padding=1)),
    "conv_transpose2d, groups": ((4, 6, 5, 4), lambda x: tg.conv_transpose2d(x, tg.concatenate([W43, W43]), groups=3, stride=2)),
    "conv1d": (SIGNALS, lambda x: tg.conv1d(x, W33[:, :, 0], stride=2, padding=1)),
    "conv_transpose1d": (SIGNALS, lambda x: tg.conv_transpose1d(x, W43[:, :, 0], stride=2, output_padding=1)),
    "shapes": (IMAGES, lambda x: tg.transpose(tg.reshape(x, (x.shape[0], 9, 24)), (0, 2, 1))),
    "all examples in one axis": (IMAGES, lambda x: tg.flatten(x) * 2.0),
    "pairs of examples": (VECTORS, lambda x: tg.reshape(tg.abs(tg.expand_dims(x, 1) - x).sum(2), (x.shape[0], x.shape[0], 1))),
    "broadcast_to": (VECTORS, lambda x: tg.broadcast_to(x[:, None], (x.shape[0], 3, 6)) + tg.broadcast_to(
        tg.mean(x, 0, keepdims=True), x.shape)[:, None]),
    "sum_to": (VECTORS, lambda x: tg.sum_to(x, (x.shape[0], 1)) + tg.sum_to(x, (6,)).sum() + tg.sum_to(x, ())),
    "concatenate, split, stack": (VECTORS, lambda x: tg.concatenate([tg.stack(tg.split(x, [2, 2, 2], 1), 1), tg.reshape(x, (-1, 3, 2))], 2)),
    "slices": (IMAGES, lambda x: x[:, 1:, -4:-1, ::-2]),
    "integers, None, dots": (IMAGES, lambda x: (x[:, -1, ..., None, 2], x[..., 0], x[:, None, 1, 2:5, -2])),
    "one of the batch": (VECTORS, lambda x: x + x[0] + x[-1:]),
    "picked": (IMAGES, lambda x: x[:, :, [3, 0, 3]][:, :, ::2, 1:]),
    "flip, tril": (IMAGES, lambda x: tg.flip(tg.tril(x, 1), (2, 3)) + tg.triu(x, -1)),
    "gather": (VECTORS, lambda x: tg.gather(x, 1, tg.argmax(tg.concatenate([x[:, None], -x[:, None]], 1), 2))),
    "reductions": (IMAGES, lambda x: x.sum((1, 3)) + x.mean(1)[:, :, 0] + x.max((1, 3)) + x.min((1, 3)) + x.sum()),
    "reductions with axes": (IMAGES, lambda x: x.sum((2, 3), keepdims=True) * x.mean((1,), keepdims=True) + x.max() - x.min()),
    "var, std, norm": (IMAGES, lambda x: x.var((2, 3)) + x.std(3)[:, :, 0] + x.norm((2, 3)) + x.prod(2)[:, :, 0]),
    "softmax": (VECTORS, lambda x: tg.softmax(40 * x) + tg.log_softmax(40 * x, 1) + tg.logsumexp(40 * x, 1, keepdims=True)),
    "logsumexp of all": (VECTORS, lambda x: x * tg.logsumexp(x)),
    "cumsum": (VECTORS, lambda x: tg.cumsum(x, 1)),
    "argmax": (VECTORS, lambda x: (tg.argmax(x, 1), tg.argmin(x, 1), tg.argmax(x))),
    "mean of booleans": (VECTORS, lambda x: tg.mean(x > 0, 1)),
    "batch_norm of the batch": (IMAGES, lambda x: tg.batch_norm(x, BIAS3, BIAS3)),
    "batch_norm_inference": (VECTORS, lambda x: ops.batch_norm_inference(x, ROW, tg.abs(ROW) + 0.1, ROW, ROW, 0.1)),
    "layer, group, instance, pixel norm": (IMAGES, lambda x: tg.layer_norm(x, W33[0, 0, 0, :1] + weight_bias(8), weight_bias(8)) + tg.group_norm(
        x, 3) + tg.instance_norm(x, BIAS3, BIAS3) + tg.pixel_norm(x)),
    "minibatch_similarity": ((4, 3, 5), lambda x: tg.minibatch_similarity(0.2 * x)),
    "minibatch_std": (IMAGES, tg.minibatch_std),
    "minibatch_std, groups": (IMAGES, lambda x: tg.minibatch_std(x, 4)),
    "pixel_shuffle": ((4, 8, 3, 5), lambda x: tg.pixel_shuffle(x, 2)),
    "pixel_unshuffle": ((4, 2, 4, 6), lambda x: tg.pixel_unshuffle(x, 2)),
    "pad": (IMAGES, lambda x: tg.pad(x, ((0, 0), (0, 1), (2, 0), (1, 1)), 0.5)),
    **{f"pad, {mode}": (IMAGES, lambda x, mode=mode: tg.pad(x, ((0, 0), (0, 0), (2, 1), (1, 3)), mode=mode))
       for mode in ("reflect", "replicate", "circular")},
    "upsample": (IMAGES, lambda x: tg.upsample(x, scale_factor=2)),
    **{f"upsample, {mode} to {size}": (IMAGES, lambda x, mode=mode, size=size: tg.upsample(x, size=size, mode=mode))
       for mode in ("nearest", "bilinear") for size in ((18, 16), (4, 4), (9, 4), (13, 7))},
    "upsample, corners": (IMAGES, lambda x: tg.upsample(x, size=(13, 5), mode="bilinear", align_corners=True)),
    "avg_pool2d": (IMAGES, lambda x: tg.avg_pool2d(x, 2)),
    **{f"avg_pool2d, {ceil}, {count}": (IMAGES, lambda x, ceil=ceil, count=count: tg.avg_pool2d(
        x, (3, 4), (2, 3), (1, 2), ceil, count)) for ceil in (False, True) for count in (False, True)},
    "max_pool2d": (IMAGES, lambda x: tg.max_pool2d(x, 2)),
    "max_pool2d, all": (IMAGES, lambda x: tg.max_pool2d(x, (3, 2), (2, 1), (1, 0), (1, 2), True)),
    "losses": (VECTORS, lambda x: tg.mean_squared_error(x, ROW[None] + 0 * x) + tg.mean_absolute_error(x, 2 * x)),
}


def weight_bias(n: int) -> Any:
    return tg.Tensor(np.linspace(-1, 1, n, dtype=np.float32))


@pytest.mark.parametrize("name", CASES)
def test_ops(name: str, tmp_path: Path) -> None:
    shape, function = CASES[name]
    saving.export_onnx(function, tmp_path / "m.onnx", DRAW.standard_normal(shape).astype(np.float32))
    for n in (4, 12) if "groups" in name else (2, 5):
        x = DRAW.standard_normal((n, *shape[1:])).astype(np.float32)
        with tg.fusion(False):
            expected = function(tg.Tensor(x))
        for got, wanted in zip(run(tmp_path / "m.onnx", x), expected if isinstance(expected, tuple) else (expected,), strict=True):
            if wanted.dtype == np.float64:
                wanted = wanted.astype(np.float64)
            close(got, wanted)


NOT_FORWARD = {
    # gradients, and what only they use
    "activation_grad", "bce_curvature", "bce_grad", "conv2d_weight_grad", "first", "inside", "likeliest", "linear_weight_grad",
    "means_grad", "one_minus_exp", "placed", "power_and_log", "preference", "scatter_add", "scatter_along", "second", "share",
    "similarity_grad", "zeros",
    # losses, and parts of an optimiser's step
    "bce_with_logits", "weighed", "pack", "unpacked",
    # what several processes do in a step that they make together
    "mean_over_ranks", "of_all_ranks", "own_examples", "own_examples_of_sum",
}


def test_every_op_of_a_forward_pass_has_a_rule() -> None:
    found = {value.name for module in pkgutil.iter_modules(ops.__path__, "tinygan.ops.")
             for value in vars(importlib.import_module(module.name)).values() if isinstance(value, Op)}
    assert len(found) > 60
    assert found - NOT_FORWARD == RULES.keys() - {"alias"}


# -- whole networks, and what cannot be exported ---------------------------------------------------------------------------


def test_a_network_with_every_kind_of_layer(tmp_path: Path) -> None:
    network = nn.Sequential(
        nn.SpectralNorm(nn.Conv2d(2, 8, 3, padding="same")), nn.GELU(), nn.GroupNorm(2, 8), nn.MaxPool2d(2), nn.ReflectionPad2d(1),
        nn.SpectralNorm(nn.ConvTranspose2d(8, 6, 4, 2, 1, groups=2)), nn.PReLU(6), nn.InstanceNorm2d(6), nn.Upsample(scale_factor=1.5),
        nn.AvgPool2d(3, 2, 1), nn.MinibatchStd(), nn.Flatten(), nn.Dropout(0.5), nn.Dense(7 * 121, 12), nn.BatchNorm(12), nn.LayerNorm(12),
        nn.MinibatchDiscrimination(12, 3, 2), nn.Dense(15, 1)).initialize(Key(0))
    give_weights(network, 0)
    x = DRAW.standard_normal((6, 2, 10, 10)).astype(np.float32)
    saving.export_onnx(network, tmp_path / "m.onnx", x)
    for n in (1, 6):
        close(run(tmp_path / "m.onnx", x[:n])[0], in_tinygan(network, [x[:n]]))
    names = {constant.name for constant in onnx.load(tmp_path / "m.onnx").graph.initializer}
    assert {"13.weight", "14.running_mean", "17.weight"} <= names  # as in state_dict


def test_integers_several_inputs_and_several_outputs(tmp_path: Path) -> None:
    class Conditioned(nn.Module):
        def __init__(self) -> None:
            self.embedding = nn.Embedding(10, 4)
            self.dense = nn.Dense(8, 3)

        def forward(self, z: Any, labels: Any) -> Any:
            found = self.embedding(labels)
            return {"images": self.dense(tg.concatenate([z, found], 1)), "others": [found, z]}

    network = Conditioned().initialize(Key(0))
    z, labels = DRAW.standard_normal((5, 4)).astype(np.float32), np.array([0, 9, 3, 3, 1])
    saving.export_onnx(network, tmp_path / "m.onnx", z[:2], labels[:2], input_names=["z", "labels"])
    images, found, same = run(tmp_path / "m.onnx", z, labels)
    expected = network(z, labels)
    close(images, expected["images"])
    close(found, network.embedding.weight.numpy()[labels])
    close(same, z)
    assert [x.name for x in session(tmp_path / "m.onnx").get_outputs()] == ["output_0", "output_1", "output_2"]


def test_a_network_on_another_device(tmp_path: Path, other_device: str) -> None:
    network = nn.Sequential(nn.Dense(3, 18), nn.BatchNorm(18), nn.Reshape(2, 3, 3), nn.Upsample(scale_factor=2, mode="bilinear"),
                            nn.Conv2d(2, 1, 3), nn.Tanh()).initialize(Key(0))
    give_weights(network, 0)
    x = DRAW.standard_normal((4, 3)).astype(np.float32)
    expected = in_tinygan(network, [x])
    saving.export_onnx(network.to(other_device), tmp_path / "m.onnx", x)
    close(run(tmp_path / "m.onnx", x)[0], expected)


def test_float64_and_parameters_that_have_no_values_yet(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Dense(3, 4), nn.Tanh()).astype(np.float64)
    x = DRAW.standard_normal((2, 3))
    saving.export_onnx(network, tmp_path / "m.onnx", x)
    np.testing.assert_allclose(run(tmp_path / "m.onnx", x)[0], in_tinygan(network, [x]), rtol=1e-12)


def test_the_networks_state_and_mode_stay(tmp_path: Path) -> None:
    network = nn.Sequential(nn.SpectralNorm(nn.Dense(3, 4)), nn.BatchNorm(4)).initialize(Key(0))
    before = network.state_dict()
    saving.export_onnx(network, tmp_path / "m.onnx", np.ones((2, 3), np.float32))
    assert network.training
    for name, value in network.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


@tg.op(saves=(0,))
def cubed(B: Any, x: Any) -> Any:
    return x**3


@cubed.vjp
def _(needs: Any, g: Any, x: Any) -> Any:
    return (tg.mul(g, tg.mul(3.0, tg.mul(x, x))),)


def test_an_op_of_ones_own(tmp_path: Path) -> None:
    x = DRAW.standard_normal(VECTORS).astype(np.float32)
    with pytest.raises(ValueError, match=r"export_onnx: the op 'cubed' has no counterpart in ONNX here \(@tinygan.saving.onnx_rule"):
        saving.export_onnx(cubed, tmp_path / "m.onnx", x)
    assert not list(tmp_path.iterdir())

    @saving.onnx_rule(cubed)
    def _(graph: Any, step: Any, x: str) -> str:
        return graph.add("Mul", x, graph.add("Mul", x, x))

    saving.export_onnx(cubed, tmp_path / "m.onnx", x)
    close(run(tmp_path / "m.onnx", x)[0], x**3)


def test_a_users_op_with_the_name_of_another_is_not_taken_for_it(tmp_path: Path) -> None:
    mine = tg.op()(lambda B, x: B.xp.exp(x) + 1)
    mine.name = "exp"
    with pytest.raises(ValueError, match="the op 'exp' has no counterpart"):
        saving.export_onnx(mine, tmp_path / "m.onnx", np.ones((2, 3), np.float32))


@pytest.mark.parametrize("function, message", [
    (lambda x: tg.matmul(tg.conv2d_weight_grad(x[:, None, None], x[:, None, None], 1)[0, 0], x[:1, :1].T),
     "the op 'conv2d_weight_grad' has no counterpart in ONNX here$"),
    (lambda x: x * np.asarray(x), r"mul: takes an array \(4, 6\) that changes with the inputs or with every call"),
    (lambda x: x + np.asarray(x).mean(0), r"add: takes an array \(6,\) that changes with the inputs"),
    (lambda x: x * np.asarray(x).max(0), r"mul: takes an array \(6,\) that changes with the inputs"),
    (lambda x: x * float(x.numpy().sum()), "mul: .* a number that depends on the batch cannot be exported"),
    (lambda x: x / x.shape[0], "div: 4 for 4 examples becomes 8 for 8"),
    (lambda x: tg.dropout(x, 0.5), "mul: takes an array"),
    (lambda x: x * 2 if x.shape[0] == 4 else x + 2, "mul for 4 examples becomes add for 8"),
    (lambda x: tg.concatenate([x, x[:1]]), "concatenate: an axis of 5 for 4 examples becomes 9 for 8"),
    (lambda x: x[x > 0], "getitem: .*"),
    (lambda x: x[:x.shape[0] // 2], r"getitem: index: slice\(None, 2, None\) .*becomes"),
    (lambda x: None, "should return a Tensor"),
])
def test_what_cannot_be_exported(function: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"^export_onnx: .*{message}"):
        saving.export_onnx(function, tmp_path / "m.onnx", DRAW.standard_normal(VECTORS).astype(np.float32))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("example", [np.zeros, np.ones, lambda shape: np.eye(*shape)])
def test_usual_examples_show_it_too(example: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"takes an array \(6,\) that changes with the inputs"):
        saving.export_onnx(lambda x: x * np.asarray(x).max(0), tmp_path / "m.onnx", example((2, 6)).astype(np.float32))


@pytest.mark.parametrize("examples, options, message", [
    ((), {}, "the examples should have a common first axis, the batch, got shapes none"),
    ((np.ones((2, 3)), np.ones((3, 3))), {}, r"common first axis, the batch, got shapes \(2, 3\), \(3, 3\)"),
    ((np.float32(1),), {}, r"common first axis"),
    ((np.ones((2, 3)),), {"input_names": ["a", "b"]}, r"input_names should be 1 different names, got \['a', 'b'\]"),
    ((np.ones((2, 3)),), {"input_names": ["a"], "output_names": ["a"]}, "an input and an output have the same name, 'a'"),
])
def test_arguments_that_do_not_fit(examples: Any, options: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"^export_onnx: .*{message}"):
        saving.export_onnx(lambda *x: x[0] * 2, tmp_path / "m.onnx", *examples, **options)


def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run_dir, data = tmp_path / "r", grey_images(tmp_path / "grey.npy", 4)
    assert command("train", "vanilla", "--run-dir", run_dir, "--data-dir", data, "--epochs", 1, "--batch-size", 4) == 0
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(ImportError, match=r"export_onnx: needs the package onnx: in a copy of the repository, pip install '.\[onnx\]'"):
        saving.export_onnx(tg.exp, tmp_path / "m.onnx", np.ones((2, 3), np.float32))
    assert "pip install '.[onnx]'" in failure(capsys, "export", run_dir, "--to", "onnx")
