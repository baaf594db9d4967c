"""A run records its step by itself: with the same results as without, and with any GAN."""
import pytest
from tiny_run import content, tiny_data, tiny_gan, tiny_settings, tiny_train

from tinygan import cli, gans, nn, optim, training
from tinygan.capture import Captured
from tinygan.random import Key
from tinygan.runs.stepping import step_of


def test_a_run_without_capture_is_the_same_to_the_last_bit(tmp_path):
    tiny_train(tmp_path / "captured")
    tiny_train(tmp_path / "eager", capture=False)
    assert content(tmp_path / "captured") == content(tmp_path / "eager")


@pytest.mark.parametrize("capture", [True, False])
def test_a_run_may_go_on_the_other_way(tmp_path, capture):
    tiny_train(tmp_path / "whole")
    tiny_train(tmp_path / "halves", epochs=2, capture=capture)
    tiny_train(tmp_path / "halves", resume=True, capture=not capture)
    assert content(tmp_path / "halves") == content(tmp_path / "whole")


def test_a_run_replays(tmp_path, monkeypatch):
    recorded = []
    monkeypatch.setattr(Captured, "__call__", lambda self, *arrays, call=Captured.__call__:
                        (call(self, *arrays), recorded.append(self.program is not None))[0])
    tiny_train(tmp_path / "run", epochs=1)
    assert recorded == [False, True, True, True, True]
    recorded.clear()
    tiny_train(tmp_path / "eager", epochs=1, capture=False)
    assert recorded == []


class Own(gans.VanillaGAN):
    """A GAN of the user's own, whose step counts, collects and reads losses."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.count, self.losses = 0, []

    def step(self, real):
        stats = super().step(real)
        self.count += 1
        self.losses.append(float(stats.d_loss))
        if self.count > 3:
            self.g_optimizer.step([0.1 * parameter for parameter in self.g_parameters])
        return stats


class Scaled(nn.Module):
    """A layer of the user's own, with a count in Python."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return x * (1.0 + 0.01 * self.calls)


class Slower(optim.SGD):
    """An optimiser of the user's own."""

    def step(self, gradients):
        super().step([gradient * 0.5 for gradient in gradients])


def replaced(gan):
    """The GAN with a step that wraps its own."""
    gan.calls, original = [], gan.step

    def step(real):
        gan.calls.append(1)
        return original(real)

    gan.step = step
    return gan


def reweighted(gan):
    """The GAN with a loss that changes in Python."""
    gan.calls, original = [], gan.g_loss

    def g_loss(logits):
        gan.calls.append(1)
        return original(logits) * (1.0 + 0.1 * len(gan.calls))

    gan.g_loss = g_loss
    return gan


def players(extra=()):
    """The networks of `tiny_gan`."""
    gan = tiny_gan(tiny_settings("unused"))
    return nn.Sequential(*gan.generator[:3], *extra, *gan.generator[3:]), gan.discriminator


OWN = {
    "a GAN": lambda: Own(*players(), 3, key=Key(0)),
    "a layer": lambda: gans.VanillaGAN(*players([Scaled()]), 3, key=Key(0)),
    "an optimiser": lambda: gans.VanillaGAN(*players(), 3, key=Key(0), g_optimizer=Slower(0.1)),
    "a step": lambda: replaced(gans.VanillaGAN(*players(), 3, key=Key(0))),
    "a loss": lambda: reweighted(gans.VanillaGAN(*players(), 3, key=Key(0))),
}


@pytest.mark.parametrize("name", OWN)
def test_code_of_ones_own_runs_in_every_step(tmp_path, capsys, name):
    """Python that counts, reads or prints would not run in a replay."""
    results = []
    for capture in (True, False):
        folder, gan = tmp_path / str(capture), OWN[name]()
        training.train(gan, tiny_data(), tiny_settings(folder, capture=capture))
        results.append(content(folder))
        counts = [getattr(gan, "count", 20), len(getattr(gan, "calls", [0] * 20))]
        assert counts == [20, 20] and capsys.readouterr().err == ""
    assert results[0] == results[1]


@pytest.mark.parametrize("name", OWN)
def test_code_of_ones_own_is_captured_where_it_is_asked_for(name):
    gan = OWN[name]()
    assert not isinstance(step_of(gan, captured=True, on_cpu=True), Captured)
    assert isinstance(step_of(gan, captured=True, on_cpu=False), Captured)  # as on a GPU ever since


@pytest.mark.parametrize("make", [
    lambda: gans.VanillaGAN(*players(), 3, instance_noise=optim.linear_decay(0.1, 0.0, 5)),
    lambda: gans.UnrolledGAN(*players(), 3, unroll_steps=2), lambda: gans.VanillaGAN(*gans.dcgan_networks((1, 28, 28), 4, width=4), 4),
    lambda: gans.VanillaGAN(*gans.vanilla_networks(), 100)])
def test_what_is_tinygans_own_is_captured(make):
    assert isinstance(step_of(make(), captured=True, on_cpu=True), Captured)
    assert not isinstance(step_of(make(), captured=False, on_cpu=True), Captured)


@pytest.mark.parametrize("variant", training.VARIANTS)
def test_the_flag_is_explained(capsys, variant):
    with pytest.raises(SystemExit):
        cli.main(["train", variant, "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "--no-capture run every step in Python, instead of recording one and replaying it" in text
    assert "--capture" not in text and "(default: True)" not in text


def test_a_generator_with_dropout_and_batch_norm_is_a_fair_example():
    """What the tests above compare must have random numbers and running statistics."""
    gan = tiny_gan(tiny_settings("unused"))
    layers = {type(layer) for network in (gan.generator, gan.discriminator) for layer in network}
    assert {nn.BatchNorm, nn.Dropout} <= layers
