"""R3GAN: the paper's networks and settings, a step against PyTorch's, and its runs."""
from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from variant_runs import (
    VariantRuns,
    check_evaluation,
    check_pictures_of_networks,
    check_sample,
    command,
    failure,
    grey_images,
    info,
)

import tinygan as tg
from tinygan import nn, training
from tinygan.gans.modern import Basis, Projection, Residual
from tinygan.random import Key

SMALL = {"batch_size": 4, "width": 4, "latent_dim": 5, "burn_in": 32, "half_life": 8}
FLAGS = [word for name, value in SMALL.items() for word in ("--" + name.replace("_", "-"), value)] + ["--quiet"]


def settings(**changes: Any) -> training.ModernSettings:
    return training.ModernSettings(**{**SMALL, **changes})


# -- the networks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size, sides", [(28, [7, 14, 28]), (32, [4, 8, 16, 32]), (64, [4, 8, 16, 32, 64])])
@pytest.mark.parametrize("blocks", [1, 2])
def test_blocks_at_every_size(size: int, sides: list[int], blocks: int) -> None:
    generator, discriminator = tg.gans.modern_networks((3, size, size), 5, 4, blocks)
    assert generator.initialize(Key(0))(np.zeros((2, 5), np.float32)).shape == (2, 3, size, size)
    images = np.zeros((2, 3, size, size), np.float32)
    assert discriminator.initialize(Key(1))(images).shape == (2, 1)
    for network, x, order in ((generator, np.zeros((2, 5), np.float32), sides), (discriminator, images, sides[::-1])):
        seen = []
        for layer in network:
            x = layer(x)
            if isinstance(layer, Residual):
                seen.append((x.shape[2], x.shape[1]))
        widths = dict(zip(sides[::-1], [4, 8, 16, 16, 16], strict=False))
        assert seen == [(side, widths[side]) for side in order for _ in range(blocks)]
        assert not any(module.couples_examples for _, module in network.named_modules())


def test_a_block_of_the_papers_width_has_its_groups_and_its_number_of_weights() -> None:
    """Table 9: eight blocks of 768 channels, in 96 groups, are nearly all of 20.7 million parameters."""
    block = Residual(768, 8)
    grouped = block.block[2]
    assert isinstance(grouped, nn.Conv2d) and (grouped.groups, grouped.weight.shape) == (96, (1536, 16, 3, 3))
    assert 8 * sum(math.prod(p.shape) for p in block.parameters()) == pytest.approx(20.7e6, rel=0.01)


@pytest.mark.parametrize("blocks", [1, 16])
def test_a_block_starts_as_the_identity_and_its_first_weights_are_scaled_by_the_number_of_blocks(blocks: int) -> None:
    block = Residual(64, blocks).initialize(Key(0))
    x = Key(1).normal((2, 64, 5, 5))
    np.testing.assert_array_equal(block(x).numpy(), x)
    gain = math.sqrt(2 / 1.04) / blocks**0.25
    for layer, fan_in in ((block.block[0], 64), (block.block[2], 9 * 16)):
        assert layer.weight.numpy().std() == pytest.approx(gain / math.sqrt(fan_in), rel=0.05)
        np.testing.assert_array_equal(layer.bias.numpy(), 0)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 64, 64)])
def test_images_and_scores_start_at_the_scale_of_one(shape: tuple[int, int, int]) -> None:
    generator, discriminator = tg.gans.modern_networks(shape, 64, 32)
    images = generator.initialize(Key(2))(Key(0).normal((16, 64)))
    assert 0.1 < images.numpy().std() < 3
    assert 0.05 < discriminator.initialize(Key(3))(Key(1).normal((16, *shape))).numpy().std() < 3


def test_the_end_mirrors_the_beginning() -> None:
    """The gradient of the projection's score by its input is what a basis of the same numbers makes of the score's weights."""
    projection = Projection(6, 4).initialize(Key(0))
    basis = Basis(6, 6, 4)
    basis.load_state_dict({"scales.weight": np.eye(6, dtype=np.float32), "image": projection.image.numpy()})
    x = tg.Tensor(Key(1).normal((1, 6, 4, 4)), requires_grad=True)
    gradient = tg.grad(tg.sum(projection(x)), x)
    np.testing.assert_allclose(gradient.numpy(), basis(projection.scores.weight.numpy()).numpy(), rtol=1e-6)


@pytest.mark.parametrize("arguments, message", [
    (((1, 30, 30),), "image_shape should be (channels, 28, 28) or (channels, 32, 32) or (channels, 64, 64), got (1, 30, 30)"),
    (((1, 28, 32),), "got (1, 28, 32)"), (((28, 28),), "got (28, 28)"),
    (((0, 28, 28),), "the number of channels should be a whole number of at least 1, got 0"),
    (((1, 28, 28), 5, 2.5), "width should be a whole number of at least 1, got 2.5"),
    (((1, 28, 28), 5, 4, 0), "blocks should be a whole number of at least 1, got 0")])
def test_bad_arguments(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        tg.gans.modern_networks(*arguments)
    assert str(caught.value).startswith("modern_networks: ") and message in str(caught.value)


# -- a step against PyTorch ----------------------------------------------------------------------------------------------


class Theirs:
    """Both networks, the losses and one update of each player in PyTorch, from the weights of a GAN of ours."""

    def __init__(self, torch: Any, gan: Any) -> None:
        self.torch, self.f, self.networks = torch, torch.nn.functional, {}
        for name in ("generator", "discriminator"):
            network = getattr(gan, name)
            weights = {path: torch.tensor(value, requires_grad=True) for path, value in network.state_dict().items()}
            self.networks[name] = ([type(layer) for layer in network], weights)

    def run(self, name: str, x: Any) -> Any:
        kinds, p = self.networks[name]
        f = self.f
        for i, kind in enumerate(kinds):
            if kind is Basis:
                x = f.linear(x, p[f"{i}.scales.weight"])[:, :, None, None] * p[f"{i}.image"]
            elif kind is Projection:
                x = f.linear(f.conv2d(x, p[f"{i}.image"][:, None], groups=x.shape[1])[:, :, 0, 0], p[f"{i}.scores.weight"])
            elif kind is Residual:
                inner = f"{i}.block"
                y = f.leaky_relu(f.conv2d(x, p[f"{inner}.0.weight"], p[f"{inner}.0.bias"]), 0.2)
                groups = y.shape[1] // p[f"{inner}.2.weight"].shape[1]
                y = f.leaky_relu(f.conv2d(y, p[f"{inner}.2.weight"], p[f"{inner}.2.bias"], padding=1, groups=groups), 0.2)
                x = x + f.conv2d(y, p[f"{inner}.4.weight"])
            elif kind is nn.Conv2d:
                x = f.conv2d(x, p[f"{i}.weight"])
            else:
                scale = 2 if kind is nn.Upsample else 0.5
                x = f.interpolate(x, scale_factor=scale, mode="bilinear", align_corners=False)
        return x

    def update(self, name: str, loss: Any, learning_rate: float, betas: tuple[float, float]) -> float:
        weights = list(self.networks[name][1].values())
        for weight, gradient in zip(weights, self.torch.autograd.grad(loss, weights), strict=True):
            weight.grad = gradient
        self.torch.optim.Adam(weights, learning_rate, betas).step()
        return float(loss.detach())

    def step(self, real: Any, d_z: Any, g_z: Any, gamma: float, learning_rate: float,
             betas: tuple[float, float]) -> tuple[float, float]:
        fake = self.run("generator", d_z).detach()
        x, y = real.clone().requires_grad_(), fake.requires_grad_()
        r, f = self.run("discriminator", x), self.run("discriminator", y)
        loss = self.f.softplus(f - r).mean()
        for score, image in ((r, x), (f, y)):
            slope, = self.torch.autograd.grad(score.sum(), image, create_graph=True)
            loss = loss + gamma / 2 * slope.square().sum((1, 2, 3)).mean()
        d_loss = self.update("discriminator", loss, learning_rate, betas)
        r, f = self.run("discriminator", real), self.run("discriminator", self.run("generator", g_z))
        return d_loss, self.update("generator", self.f.softplus(r - f).mean(), learning_rate, betas)


@pytest.mark.oracle
@pytest.mark.parametrize("shape, changes", [((1, 28, 28), {"width": 8}), ((3, 32, 32), {"blocks": 2, "r1": 2.0, "r2": 2.0})])
def test_a_step_is_pytorchs(shape: tuple[int, int, int], changes: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    gan: Any = training.find("modern").build(settings(learning_rate=1e-3, **changes), shape)
    for network in (gan.generator, gan.discriminator):
        network.astype(np.float64)
        for i, parameter in enumerate(network.parameters()):  # zeros would hide the blocks
            parameter.assign(parameter.numpy() + 0.1 * Key(i).normal(parameter.shape, np.float64))
    gan.average.reset()
    theirs = Theirs(torch, gan)
    real, *latent = (Key(9).fold(i).normal((4, *size), np.float64) for i, size in enumerate((shape, (5,), (5,))))
    noises = iter(latent)
    gan.latent = lambda n: next(noises)
    stats = gan.step(real.clip(-1, 1))
    losses = theirs.step(*map(torch.tensor, (real.clip(-1, 1), *latent)), changes.get("r1", 1.0), 1e-3, (0.0, 0.9))
    np.testing.assert_allclose((stats.d_loss, stats.g_loss), losses, rtol=1e-10)
    for name, (_, weights) in theirs.networks.items():
        for path, value in getattr(gan, name).state_dict().items():
            np.testing.assert_allclose(value, weights[path].detach().numpy(), rtol=0, atol=1e-8, err_msg=f"{name} {path}")


# -- settings and runs ---------------------------------------------------------------------------------------------------


def test_the_defaults_are_the_papers() -> None:
    chosen = training.ModernSettings()
    assert (chosen.cost, chosen.penalties, chosen.latent_dim) == ("relativistic", {"r1": 1.0, "r2": 1.0}, 64)
    images = chosen.epochs * 60_000
    assert (chosen.burn_in / images, chosen.half_life / images) == (2 / 10, 0.5 / 10)  # table 9, in millions
    gan: Any = training.find("modern").build(chosen, (1, 28, 28))
    steps = chosen.burn_in // chosen.batch_size
    for optimizer in (gan.d_optimizer, gan.g_optimizer):
        rate, (beta1, beta2) = optimizer.learning_rate, optimizer.betas
        assert [rate(0), rate(steps // 2), rate(steps)] == pytest.approx([2e-4] * 3) and beta1 == 0
        assert [beta2(0), beta2(steps // 2), beta2(steps), beta2(9 * steps)] == pytest.approx([0.9, 0.945, 0.99, 0.99])
    for gamma in gan.penalties.values():
        assert [gamma(0), gamma(steps // 2), gamma(steps)] == pytest.approx([1.0, 0.55, 0.1])
    decay = gan.average.decay
    assert decay(0) == 0 and decay(steps) == pytest.approx(0.5 ** (64 / 60_000))


def test_schedules_count_the_images_of_each_players_updates() -> None:
    gan: Any = training.find("modern").build(settings(d_steps=3, last_learning_rate=1e-5, g_learning_rate=1e-3), (1, 28, 28))
    for schedule, first, last, end in ((gan.d_optimizer.learning_rate, 2e-4, 1e-5, 8),  # 8 * 4 images,
                                       (gan.g_optimizer.learning_rate, 1e-3, 1e-5, 3),  # 3 * 3 * 4 images
                                       (gan.penalties["r1"], 1.0, 0.1, 3), (gan.penalties["r2"], 1.0, 0.1, 3)):
        assert (schedule(0), schedule(end)) == pytest.approx((first, last))
        assert schedule(end - 1) > 1.01 * last


def test_ema_replaces_the_half_life_and_penalties_of_0_are_left_out() -> None:
    build = training.find("modern").build
    gan: Any = build(settings(ema=0.5, r1=0.0), (1, 28, 28))
    assert gan.average.decay == 0.5 and list(gan.penalties) == ["r2"]
    gan = build(settings(half_life=0), (1, 28, 28))
    assert gan.average is None


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> VariantRuns:
    """Six steps an epoch, whose schedules end in the second epoch."""
    return VariantRuns("modern", grey_images(tmp_path_factory.mktemp("modern") / "images.npy", 25), tuple(FLAGS), 6)


@pytest.fixture(scope="module")
def run(runs: VariantRuns) -> Path:
    return runs.train(runs.data.parent / "run")


def test_a_run_is_resumed_bit_for_bit(runs: VariantRuns, run: Path, tmp_path: Path) -> None:
    runs.check_resuming(run, tmp_path, at=5)


def test_a_run_on_a_device_is_that_of_the_cpu(other_device: str, runs: VariantRuns, tmp_path: Path) -> None:
    runs.check_device(other_device, tmp_path, "--limit-train", 8)  # two steps an epoch


def test_the_example_and_the_command_are_the_same_run(runs: VariantRuns, run: Path, tmp_path: Path,
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    runs.check_example(run, tmp_path, monkeypatch)


def test_the_other_commands(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = info(run, capsys)
    assert ": modern on array:images.npy" in told and "burn_in" in told and "Residual(16 -> 32 -> 16, groups 2)" in told
    check_sample(run, tmp_path)
    check_pictures_of_networks(run, tmp_path)
    assert command("interpolate", run, "--out", tmp_path) == 0


def test_a_run_is_evaluated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    check_evaluation("modern", tmp_path / "run", monkeypatch, capsys, *FLAGS, steps=10)


def test_a_wrong_size_is_one_line_before_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = grey_images(tmp_path / "images.npy", 20, 30)
    assert "R3GAN makes images of 28 or 32 or 64 pixels per side, but the data are 30 x 30" in failure(
        capsys, "train", "modern", "--run-dir", tmp_path / "run", "--data-dir", images)
    assert not (tmp_path / "run").exists()
