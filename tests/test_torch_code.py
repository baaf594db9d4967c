"""The program that `torch_code` writes rebuilds a network in PyTorch: it runs here, and its outputs are compared."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exported_gans import GANS, give_weights, in_tinygan, networks_of, small_gan
from variant_runs import command, grey_images

import tinygan as tg
from tinygan import nn, saving, training
from tinygan.random import Key

torch = pytest.importorskip("torch", reason="needs PyTorch")
pytestmark = pytest.mark.oracle

DRAW = np.random.default_rng(0)


def rebuilt(code: str, name: str) -> Any:
    found: dict[str, Any] = {}
    exec(compile(code, name, "exec"), found)
    return found[name]


def compare(network: nn.Module, name: str, code: str, *inputs: Any) -> Any:
    """The network that the program makes, after its outputs were compared."""
    made = rebuilt(code, name)
    with torch.no_grad():
        found = made(*[torch.tensor(x) for x in inputs]).numpy()
    expected = in_tinygan(network, list(inputs))
    assert found.shape == expected.shape and 0.01 < np.abs(expected).max() < 1000
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * max(1.0, float(np.abs(expected).max())))
    theirs = made.state_dict()
    for path, value in network.state_dict().items():
        np.testing.assert_array_equal(theirs.pop(path).numpy(), value)
    assert not theirs
    return made


@pytest.mark.parametrize("name, case", GANS)
def test_every_network_of_every_variant(name: str, case: int, tmp_path: Path) -> None:
    gan = small_gan(name, case)
    for player, found, inputs in networks_of(gan):
        file = tmp_path / f"{player}.safetensors"
        saving.save_weights(found.network, file)
        code = saving.torch_code(found.network, *found.inputs.values(), name=player, file=str(file))
        compare(found.network, player, code, *inputs)


def test_the_command_prints_a_program(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = grey_images(tmp_path / "grey.npy", 8)
    assert command("train", "vanilla", "--run-dir", "r", "--data-dir", data, "--epochs", 1, "--batch-size", 4, "--ema", 0.5,
                   "--learning-rate", 0.01) == 0
    capsys.readouterr()
    assert command("export", "r", "--to", "safetensors", "--player", "both") == 0
    code = capsys.readouterr().out
    gan = training.open_run("r").gan
    assert "# r/generator.safetensors: the weights of the generator." in code
    z, images = gan.latent(3, Key(1)), DRAW.uniform(-1, 1, (3, 1, 28, 28)).astype(np.float32)
    with torch.no_grad():
        np.testing.assert_allclose(rebuilt(code, "generator")(torch.tensor(z)).numpy(), gan.sample(z=z), rtol=0, atol=1e-5)
        np.testing.assert_allclose(rebuilt(code, "discriminator")(torch.tensor(images)).numpy(),
                                   in_tinygan(gan.discriminator, [images]), rtol=0, atol=1e-5)
    assert command("export", "r", "--to", "safetensors", "raw.safetensors", "--raw") == 0
    z = gan.latent(3, Key(1))
    with torch.no_grad():
        found = rebuilt(capsys.readouterr().out, "generator")(torch.tensor(z)).numpy()
    np.testing.assert_allclose(found, gan.sample(z=z, averaged=False), rtol=0, atol=1e-5)  # type: ignore[call-arg]
    assert np.abs(found - gan.sample(z=z)).max() > 1e-3


IMAGES, SIGNALS, VECTORS = (4, 6, 9, 8), (4, 6, 11), (4, 6)
LAYERS: dict[str, tuple[tuple[int, ...], nn.Module]] = {
    "convolutions": (IMAGES, nn.Sequential(
        nn.Conv2d(6, 4, (3, 2), (2, 1), (1, 2), (1, 2), 2, False), nn.ELU(0.7), nn.ConvTranspose2d(4, 6, 4, 3, 1, 2, 2, dilation=2), nn.SiLU(),
        nn.Conv2d(6, 5, 3, padding="same"), nn.ReLU())),
    "signals": (SIGNALS, nn.Sequential(nn.Conv1d(6, 4, 3, 2, 1, groups=2), nn.BatchNorm(4), nn.Softplus(), nn.ConvTranspose1d(4, 3, 4, 2, 1),
                                       nn.ReflectionPad1d((2, 1)), nn.ConstantPad1d(1, 0.5), nn.Flatten())),
    "normalisation": (IMAGES, nn.Sequential(nn.BatchNorm(6, 1e-3, 0.2), nn.GroupNorm(3, 6, 1e-3), nn.InstanceNorm2d(6, affine=True),
                                            nn.GroupNorm(2, 6, affine=False), nn.InstanceNorm2d(6), nn.LayerNorm((9, 8), 1e-3), nn.PixelNorm())),
    "batch norm": (IMAGES, nn.Sequential(nn.BatchNorm(6, 1e-2), nn.ReLU())),
    "spectral norm": (IMAGES, nn.Sequential(nn.SpectralNorm(nn.Conv2d(6, 4, 3), 2), nn.LeakyReLU(0.3), nn.SpectralNorm(nn.ConvTranspose2d(4, 2, 3)),
                                            nn.Flatten(), nn.SpectralNorm(nn.Dense(144, 3)))),
    "sizes": (IMAGES, nn.Sequential(nn.MaxPool2d((3, 2), (2, 1), (1, 0), (1, 2), True), nn.Upsample((10, 12)), nn.AvgPool2d(3, 2, 1, True, False),
                                    nn.Upsample(scale_factor=1.5, mode="bilinear"), nn.Upsample((8, 8), None, "bilinear", True),
                                    nn.PixelUnshuffle(4), nn.PixelShuffle(2), nn.ZeroPad2d((1, 2, 0, 1)), nn.CircularPad2d(1))),
    "activations": (VECTORS, nn.Sequential(nn.GELU(), nn.GELU("tanh"), nn.Sigmoid(), nn.Tanh(), nn.PReLU(6), nn.Activation("elu", 0.4), nn.Dropout(0.3),
                                           nn.Reshape(3, 2), nn.Reshape(2, 3, 1), nn.Flatten(), nn.Dense(6, 2, bias=False))),
    "minibatch": (VECTORS, nn.Sequential(nn.MinibatchDiscrimination(6, 3, 2), nn.Reshape(3, 3, 1), nn.MinibatchStd())),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name: str, tmp_path: Path) -> None:
    shape, network = LAYERS[name]
    network.initialize(Key(0))
    give_weights(network, 1)
    x = DRAW.standard_normal(shape).astype(np.float32)
    saving.save_weights(network, tmp_path / "w.safetensors")
    compare(network, "network", saving.torch_code(network, x[:2], file=str(tmp_path / "w.safetensors")), x)


class Odd(nn.Module):
    """Lists, dicts, a buffer, a shared layer, constants, a layer called twice, and most ops that a `forward` may hold."""

    def __init__(self) -> None:
        self.layers = [nn.Dense(4, 4), nn.Sequential(nn.Dense(4, 4), nn.Tanh())]
        self.named = {"down": nn.Dense(4, 3), "up": nn.Dense(3, 4)}
        self.scales = [tg.Parameter(np.float32([1, 2, 3, 4])), tg.Parameter(np.float32([2.0]))]
        self.offset = tg.Buffer(np.float32([0.5, -0.5, 0, 1]))

    def forward(self, x: Any, others: Any) -> Any:
        y = self.layers[0](self.layers[0](x)) * self.scales[0] + self.offset / self.scales[1]
        y = self.named["up"](tg.relu(self.named["down"](y))) + nn.Sequential(*self.layers)(x)
        y = tg.where(y > 0.1, y, tg.exp(-y) - 1) + tg.maximum(y, -0.5) + tg.minimum(0.3, y) + tg.clip(y, -1, 1) ** 2
        y = y - tg.softmax(y) + tg.leaky_relu(y, 0.1) + np.float32([1, 2, 3, 4]) + 2 * tg.sign(others[:, 1:-1])
        y = tg.concatenate([y, tg.broadcast_to(y.mean(1, keepdims=True), (y.shape[0], 2))], 1)
        y = tg.transpose(tg.reshape(y, (y.shape[0], 3, 2)), (0, 2, 1)) @ tg.reshape(x[:, :3], (x.shape[0], 3, 1))
        return tg.pad(y[:, :, 0], ((0, 0), (1, 0))) + y.max() + y.norm((1, 2), keepdims=True)[..., 0]


def test_a_module_of_ones_own(tmp_path: Path) -> None:
    network = Odd().initialize(Key(0))
    x, others = DRAW.standard_normal((5, 4)).astype(np.float32), DRAW.standard_normal((5, 6)).astype(np.float32)
    saving.save_weights(network, tmp_path / "w.safetensors")
    code = saving.torch_code(network, x[:2], others[:2], name="odd", file=str(tmp_path / "w.safetensors"))
    made = compare(network, "odd", code, x, others)
    gradients = torch.autograd.grad(made(torch.tensor(x), torch.tensor(others)).sum(), list(made.parameters()))
    ours = tg.grad(network(x, others).sum(), network.parameters())
    for (path, _), theirs, own in zip(made.named_parameters(), gradients, [ours[i] for i in order_of(network, made)], strict=True):
        np.testing.assert_allclose(theirs.numpy(), own.numpy(), rtol=1e-4, atol=1e-4, err_msg=path)


def order_of(network: nn.Module, made: Any) -> list[int]:
    names = [path for path, _ in network.named_parameters()]
    return [names.index(path) for path, _ in made.named_parameters()]


class Inner(nn.Module):
    def __init__(self, unused: bool = False) -> None:
        self.dense = nn.Dense(3, 3)
        self.unused = [Inner()] if unused else []

    def forward(self, x: Any) -> Any:
        return self.dense(x) * 2.0


class Own(nn.Sequential):
    def forward(self, x: Any) -> Any:
        return self.layers[0](x)


def test_equal_classes_are_written_once(tmp_path: Path) -> None:
    network = nn.Sequential(Inner(), Inner(), nn.Dense(3, 3)).initialize(Key(0))
    code = saving.torch_code(network, np.ones((2, 3), np.float32), file=str(tmp_path / "w.safetensors"))
    assert code.count("class ") == 1 and code.count("Inner()") == 2


@pytest.mark.parametrize("network, message", [
    (lambda: Inner(True), "the network does not call its Inner, so what that computes is not known"),
    (lambda: Own(nn.Dense(3, 3)), "Own names its layers in its own way"),
    (lambda: Constant(), r"an array \(3, 7\) is neither computed nor a parameter or buffer"),
    (lambda: Sums(), "the op 'cumsum' has no counterpart in PyTorch here"),
])
def test_what_cannot_be_written(network: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^torch_code: {message}"):
        saving.torch_code(network().initialize(Key(0)), np.ones((2, 3), np.float32))
    with pytest.raises(TypeError, match="torch_code: expected a Module, got function"):
        saving.torch_code(lambda x: x, np.ones((2, 3)))  # type: ignore[arg-type]


class Constant(nn.Module):
    def forward(self, x: Any) -> Any:
        return x @ np.ones((3, 7), np.float32)


class Sums(nn.Module):
    def forward(self, x: Any) -> Any:
        return tg.cumsum(x, 1)
