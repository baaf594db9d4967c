"""Recording a training: it changes nothing, it is the same after every interruption, and its numbers are right."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_run import content, recorded, tiny_data, tiny_gan, tiny_settings, tiny_train, train_until

import tinygan as tg
from tinygan import cli, nn, optim, saving, training
from tinygan.data import Dataset
from tinygan.gans.conditional import InputDiscriminator
from tinygan.random import Key
from tinygan.runs.errors import Interrupted
from tinygan.teaching.activity import activities
from tinygan.teaching.messages import SIDE_BY_SIDE, message, surface
from tinygan.teaching.players import examples, host, players
from tinygan.teaching.recorder import Recorder, is_due
from tinygan.teaching.records import read_records
from tinygan.teaching.updates import observed, unchanged

KEY = Key(5)

# -- nothing changes ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recorded run of four epochs."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    tiny_train(folder, record=True)
    return folder


@pytest.mark.parametrize("capture", [True, False])
def test_a_recorded_run_is_the_same_to_the_last_bit(tmp_path, whole, capture):
    tiny_train(tmp_path / "plain", capture=capture)
    assert content(tmp_path / "plain") == content(whole)
    tiny_train(tmp_path / "again", record=True, capture=capture)
    assert content(tmp_path / "again") == content(whole) and recorded(tmp_path / "again") == recorded(whole)
    assert [record.step for record in read_records(whole / "recording")] == [0, 1, 2, 4, 8, 16]


def test_with_an_average_and_more_updates_too(tmp_path):
    for name, record in (("plain", False), ("recorded", True)):
        training.train(tiny_gan(tiny_settings(tmp_path / name, ema=0.9, d_steps=2)), tiny_data(),
                       tiny_settings(tmp_path / name, ema=0.9, d_steps=2, record=record))
    assert content(tmp_path / "plain") == content(tmp_path / "recorded")


def test_on_a_device_too(other_device, tmp_path):
    for name, record in (("plain", False), ("recorded", True)):
        tiny_train(tmp_path / name, epochs=2, device=other_device, record=record)
    assert content(tmp_path / "plain") == content(tmp_path / "recorded")
    assert len(read_records(tmp_path / "recorded" / "recording")) == 5


def test_a_captured_step_is_recorded_once(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(tg.capture.__globals__["_Graph"], "__init__", lambda self, *arguments, init=tg.capture.__globals__[
        "_Graph"].__init__: (init(self, *arguments), made.append(1))[0])
    tiny_train(tmp_path / "run", record=True)
    assert made == [1]


# -- the same records after every interruption ------------------------------------------------------------------------------


def test_two_halves_have_the_records_of_the_whole(tmp_path, whole):
    tiny_train(tmp_path, epochs=2, record=True)
    tiny_train(tmp_path, resume=True, record=True)
    assert content(tmp_path) == content(whole) and recorded(tmp_path) == recorded(whole)


def test_an_interrupted_run_has_them_too(tmp_path, whole):
    import signal

    with pytest.raises(Interrupted):
        train_until(tmp_path, 7, lambda stats: signal.raise_signal(signal.SIGTERM), record=True)
    assert [record.step for record in read_records(tmp_path / "recording")] == [0, 1, 2, 4]
    tiny_train(tmp_path, resume=True, record=True)
    assert content(tmp_path) == content(whole) and recorded(tmp_path) == recorded(whole)


def test_records_after_the_checkpoint_are_made_again(tmp_path, whole):
    """A crash between the record of step 8 and the checkpoint of step 10: the run goes on from step 5."""
    def crash(stats: Any) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train_until(tmp_path, 9, crash, record=True)
    assert [record.step for record in read_records(tmp_path / "recording")] == [0, 1, 2, 4, 8]
    (tmp_path / "recording" / ".step_0000009.safetensors.1.tmp").write_bytes(b"half a record")
    tiny_train(tmp_path, epochs=1, resume=True)  # (nothing is left to do, and not even recording is on)
    assert [record.step for record in read_records(tmp_path / "recording")] == [0, 1, 2, 4]
    assert not list(tmp_path.rglob("*.tmp"))
    tiny_train(tmp_path, resume=True, record=True)
    assert content(tmp_path) == content(whole) and recorded(tmp_path) == recorded(whole)


def test_a_run_that_is_killed_before_its_first_checkpoint_begins_again(tmp_path, whole):
    tiny_train(tmp_path / "run", epochs=1, record=True)
    for path in tmp_path.glob("run/*"):
        if path.name in ("checkpoint.safetensors", "losses.png", "samples.gif"):
            path.unlink()
    for record in read_records(tmp_path / "run" / "recording")[1:]:
        record.path.unlink()
    tiny_train(tmp_path / "run", resume=True, record=True)
    assert content(tmp_path / "run") == content(whole) and recorded(tmp_path / "run") == recorded(whole)


def test_recording_may_begin_later(tmp_path, whole):
    tiny_train(tmp_path, epochs=2)
    assert not (tmp_path / "recording").exists()
    tiny_train(tmp_path, resume=True, record=True)
    assert content(tmp_path) == content(whole)
    late, = read_records(tmp_path / "recording")
    assert late.step == 16
    first, *_, last = read_records(whole / "recording")
    assert late["images"].tobytes() == last["images"].tobytes() and late["z"].tobytes() == first["z"].tobytes()


def test_a_run_that_cannot_make_its_first_step_leaves_no_records(tmp_path):
    def fail(stats: Any) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train_until(tmp_path, 1, fail, record=True)
    assert not read_records(tmp_path / "recording")
    tiny_train(tmp_path, epochs=1, record=True)


# -- when a record is made, and how large it is -----------------------------------------------------------------------------


def test_a_record_is_due_at_powers_of_two_and_at_epochs():
    assert [step for step in range(1000) if is_due(step, 468)] == [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 468, 512, 936]
    assert [step for step in range(5000) if is_due(step, 2048, fewer=True)] == [0, 1, 4, 16, 64, 256, 1024, 2048, 4096]
    assert sum(is_due(step, 468) for step in range(1, 60 * 468 + 1)) <= 75


def test_short_epochs_are_not_all_recorded(tmp_path):
    tiny_train(tmp_path, epochs=41, record=True)  # 5 steps an epoch: every 20th epoch is recorded
    assert [r.step for r in read_records(tmp_path / "recording")] == [0, 1, 2, 4, 8, 16, 32, 64, 100, 128, 200]
    assert read_records(tmp_path / "recording")[-1].epoch == 40


def test_the_flag_is_kept_in_the_settings(tmp_path, whole):
    assert json.loads((whole / "config.json").read_text())["settings"]["record"] is True
    assert training.VanillaSettings(run_dir="x").record is False


def test_a_missing_g_loss_is_told(tmp_path, capsys):
    class Own:
        generator = discriminator = nn.Dense(1, 1)
        cost = "minimax"

        def step(self, real): ...

        def latent(self, n, key=None): ...

    with pytest.raises(TypeError, match=r"Recorder: gan should be a VanillaGAN or made from it.*a Own has no g_loss"):
        Recorder(tmp_path, Own())
    gan = tiny_gan(tiny_settings(tmp_path))
    with pytest.raises(ValueError, match="Recorder: every should be a whole number of at least 1, got 0"):
        Recorder(tmp_path, gan, every=0)
    with pytest.raises(TypeError, match="Recorder: key should be a Key, got 3"):
        Recorder(tmp_path, gan, key=3)


def test_the_command_has_the_flag(capsys):
    with pytest.raises(SystemExit):
        cli.main(["train", "vanilla", "--help"])
    assert "--record" in capsys.readouterr().out


# -- the numbers ------------------------------------------------------------------------------------------------------------


def points_gan(cost: str = "minimax", coupled: bool = False, **options: Any) -> tg.gans.VanillaGAN:
    """A GAN of float64 for points in the plane, of smooth functions; with `coupled`, D compares the points of a batch."""
    generator = nn.Sequential(nn.Dense(3, 5), nn.Tanh(), nn.Dense(5, 2))
    layers = [nn.MinibatchDiscrimination(6, 3, 2), nn.Dense(9, 1)] if coupled else [nn.Dense(6, 1)]
    discriminator = nn.Sequential(nn.Dense(2, 6), nn.Tanh(), *layers)
    gan = tg.gans.VanillaGAN(generator, discriminator, 3, cost=cost, key=Key(3), **options)
    generator.astype(np.float64)
    discriminator.astype(np.float64)
    return gan


LOSSES = {
    "minimax": lambda f, r: -np.log1p(np.exp(f)).mean(), "non-saturating": lambda f, r: np.log1p(np.exp(-f)).mean(),
    "maximum-likelihood": lambda f, r: -np.exp(f).mean(), "least-squares": lambda f, r: np.square(f - 1).mean() / 2,
    "hinge": lambda f, r: -f.mean(), "relativistic": lambda f, r: np.log1p(np.exp(r - f)).mean(),
}  # fmt: skip


def logits_by_loops(gan: tg.gans.VanillaGAN, x: np.ndarray) -> np.ndarray:
    """D's logits (N,) from NumPy alone."""
    first, _, *rest = gan.discriminator
    h = np.tanh(x @ first.weight.numpy().T + first.bias.numpy())
    if len(rest) == 2:
        projected = (h @ rest[0].weight.numpy().T).reshape(len(x), 3, 2)
        near = [[sum(np.exp(-np.abs(projected[i, k] - projected[j, k]).sum()) for j in range(len(x)) if j != i)
                 for k in range(3)] for i in range(len(x))]
        h = np.concatenate([h, near], 1)
    return (h @ rest[-1].weight.numpy().T + rest[-1].bias.numpy())[:, 0]


def by_differences(function: Any, x: np.ndarray, eps: float = 1e-6) -> np.ndarray:
    found = np.zeros(x.shape)
    for place in np.ndindex(x.shape):
        step = np.zeros(x.shape)
        step[place] = eps
        found[place] = (function(x + step) - function(x - step)) / (2 * eps)
    return found


@pytest.mark.parametrize("cost", LOSSES)
@pytest.mark.parametrize("coupled", [False, True])
def test_the_gradient_is_that_of_finite_differences(cost, coupled):
    gan = points_gan(cost, coupled)
    z, real = KEY.normal((7, 3), np.float64), KEY.fold("real").normal((7, 2), np.float64)
    found = message(gan, players(gan, z, real), KEY)
    x, r = host(gan.generator(z)), logits_by_loops(gan, real)
    np.testing.assert_allclose(found.images, x)
    np.testing.assert_allclose(found.logits, logits_by_loops(gan, x))
    expected = by_differences(lambda x: LOSSES[cost](logits_by_loops(gan, x), r), x)
    np.testing.assert_allclose(found.gradient, expected, atol=1e-8)
    if cost not in SIDE_BY_SIDE:
        assert found.slopes is None and found.norms is None
        return
    for name, slopes, norms in zip(SIDE_BY_SIDE, found.slopes, found.norms, strict=True):
        g = by_differences(lambda x, name=name: LOSSES[name](logits_by_loops(gan, x), None), x)
        np.testing.assert_allclose(norms, np.sqrt(np.square(g).sum(1)), atol=1e-8)
        np.testing.assert_allclose(slopes, by_differences(lambda f, name=name: LOSSES[name](f, None), found.logits), atol=1e-8)


def test_the_slopes_are_the_closed_forms():
    gan = points_gan()
    found = message(gan, players(gan, KEY.normal((9, 3), np.float64)), KEY)
    d = 1 / (1 + np.exp(-found.logits))
    np.testing.assert_allclose(found.slopes, np.array([-d, d - 1, -d / (1 - d)]) / 9, rtol=1e-12)


def test_the_gradient_is_that_of_the_generators_update():
    """Through the generator it gives what `g_gradients` gives, with batch norm in both players."""
    gan = tg.gans.VanillaGAN(nn.Sequential(nn.Dense(3, 8), nn.BatchNorm(8), nn.ReLU(), nn.Dense(8, 4)),
                             nn.Sequential(nn.Dense(4, 6), nn.BatchNorm(6), nn.LeakyReLU(0.2), nn.Dense(6, 1)), 3, key=Key(1))
    z = KEY.normal((8, 3))
    found = message(gan, players(gan, z), KEY)
    with unchanged(gan):
        _, expected = gan.g_gradients(z)
    with unchanged(gan):
        through = tg.grad(gan.generator(z), gan.g_parameters, found.gradient)
    for one, other in zip(through, expected, strict=True):
        np.testing.assert_allclose(host(one), host(other), rtol=1e-4, atol=1e-7)


def test_a_record_holds_the_message_to_its_precision(tmp_path):
    gan = points_gan("non-saturating")
    step = Recorder(tmp_path, gan, z=KEY.normal((4, 3), np.float64))
    step(KEY.normal((6, 2), np.float64))
    _, record = read_records(tmp_path)
    found = message(gan, players(gan, read_records(tmp_path)[0]["z"]), step._key.fold("message"))
    scale = np.abs(found.gradient).max(1)
    np.testing.assert_allclose(record["gradient"] * scale[:, None], found.gradient, atol=1e-3 * scale.max())
    np.testing.assert_allclose(record["gradient_scale"], scale, rtol=1e-6)
    for name in ("images", "logits", "slopes", "norms"):
        np.testing.assert_allclose(record[name], getattr(found, name), rtol=1e-6, err_msg=name)
    assert np.abs(record["gradient"]).max(1).tolist() == [1] * 4 and record["gradient"].dtype == np.float16


def test_images_are_bytes(tmp_path, whole):
    arrays, _ = saving.load(whole / "recording" / "step_0000016.safetensors")
    run = training.open_run(whole, tiny_gan(tiny_settings(whole)))
    assert arrays["images"].dtype == np.uint8 and arrays["images"].shape == (16, 1, 4, 4)
    assert "z" not in arrays and read_records(whole / "recording")[0]["z"].shape == (16, 3)
    assert run.config["settings"]["record"]


@pytest.mark.parametrize("d_steps", [1, 3])
def test_norms_and_ratios_are_those_of_the_real_step(tmp_path, d_steps):
    """With SGD the ratio is rate * |g| / |w|; the gradients are made once more, by a twin."""
    def made() -> tg.gans.VanillaGAN:
        return points_gan("non-saturating", d_steps=d_steps, d_optimizer=optim.SGD(0.1), g_optimizer=optim.SGD(0.3))

    gan, twin = made(), made()
    real = KEY.normal((4 * d_steps, 2), np.float64)
    Recorder(tmp_path, gan)(real)
    sizes: dict[str, list[Any]] = {"d": [], "g": []}
    ratios: dict[str, list[Any]] = {"d": [], "g": []}
    for letter, rate in (("d", 0.1), ("g", 0.3)):
        for i in range(d_steps if letter == "d" else 1):
            z, parameters = twin.latent(4), getattr(twin, f"{letter}_parameters")
            _, gradients, *_ = twin.d_gradients(real[4 * i:4 * i + 4], z) if letter == "d" else twin.g_gradients(z)
            sizes[letter].append([np.linalg.norm(g.numpy()) for g in gradients])
            before = [p.numpy().copy() for p in parameters]
            ratios[letter].append([rate * np.linalg.norm(g.numpy()) / np.linalg.norm(w) if w.any() else np.nan
                                   for g, w in zip(gradients, before, strict=True)])
            for p, g, w in zip(parameters, gradients, before, strict=True):
                p.assign(w - rate * g.numpy())
    _, record = read_records(tmp_path)
    for letter, player in (("d", "discriminator"), ("g", "generator")):
        parameters = dict(getattr(gan, player).named_parameters())
        assert record.about[player]["parameters"] == list(parameters)
        np.testing.assert_allclose(record[f"{letter}.gradient_norm"], np.mean(sizes[letter], 0), rtol=1e-5)
        np.testing.assert_allclose(record[f"{letter}.update_ratio"], np.mean(ratios[letter], 0), rtol=1e-5)
        weights = [np.linalg.norm(p.numpy()) for p in parameters.values()]
        np.testing.assert_allclose(record[f"{letter}.weight_norm"], weights, rtol=1e-5)
    assert np.isnan(read_records(tmp_path)[0]["d.gradient_norm"]).all()  # no step leads to the first record


def test_tiny_gradients_do_not_underflow():
    gan = points_gan()
    gan.generator.astype(np.float32)
    gan.discriminator.astype(np.float32)
    with observed(gan) as updates:
        gan.g_optimizer.step([np.full(p.shape, 1e-30, np.float32) for p in gan.g_parameters])
    np.testing.assert_allclose(updates["g"].arrays()["gradient_norm"], [1e-30 * p.size**0.5 for p in gan.g_parameters], rtol=1e-4)
    assert "step" not in vars(gan.g_optimizer)


def test_idle_and_saturated_units_are_counted():
    generator = nn.Sequential(nn.Dense(3, 8), nn.ReLU(), nn.Dense(8, 4), nn.Tanh())
    discriminator = nn.Sequential(nn.Reshape(1, 2, 2), nn.Conv2d(1, 6, 1), nn.ReLU(), nn.Flatten(), nn.Dense(24, 3),
                                  nn.Sigmoid(), nn.Dense(3, 1))
    gan = tg.gans.VanillaGAN(generator, discriminator, 3, key=Key(0))
    bias = np.array([-1e3] * 6 + [1.0] * 2, np.float32)  # 6 of 8 units are dead
    generator[0].bias.assign(bias)
    generator[2].bias.assign(np.array([-20, 0, 0, 0], np.float32))  # the first pixel is always -1, where all channels are 0,
    discriminator[1].weight.assign(np.ones((6, 1, 1, 1)))  # but only one channel is 0 everywhere
    discriminator[1].bias.assign(np.array([-1e3, 0.5, 0.5, 0.5, 0.5, 0.5], np.float32))
    generator[2].weight.assign(3 * generator[2].weight.numpy())
    discriminator[4].weight.assign(8 * discriminator[4].weight.numpy())
    z = KEY.normal((32, 3))
    found = activities(players(gan, z), KEY)
    h = np.maximum(z @ generator[0].weight.numpy().T + bias, 0)
    y = np.tanh(h @ generator[2].weight.numpy().T + generator[2].bias.numpy())
    inner = host(discriminator[:6](y))
    assert found["g"].layers == ["0 relu", "2 tanh"] and found["d"].layers == ["1 relu", "4 sigmoid"]
    g, d = found["g"].arrays(), found["d"].arrays()
    assert g["dead"].tolist() == [0.75, 0] and d["dead"].tolist() == pytest.approx([1 / 6, 0])
    np.testing.assert_allclose(g["saturated"], [0, (np.abs(y) > 0.97).mean()])
    np.testing.assert_allclose(d["saturated"], [0, (np.abs(2 * inner - 1) > 0.97).mean()])
    assert 0 < g["saturated"][1] < 1 and 0 < d["saturated"][1] < 1
    np.testing.assert_allclose(g["std"], [h.std(dtype=np.float64), y.std()], rtol=1e-5)


def test_the_surface_is_the_discriminators(tmp_path):
    gan = points_gan("non-saturating")
    ring = np.array([[0, 0], [2, 1], [1, 3]], np.float64)
    Recorder(tmp_path, gan)(ring)
    record, first = read_records(tmp_path)[1], read_records(tmp_path)[0]
    assert first["limits"].tolist() == [1 - 2.25, 1 + 2.25, 1.5 - 2.25, 1.5 + 2.25]  # the longer side is 3, and 1/4 around it
    x, y = np.linspace(-1.25, 3.25, 64)[10], np.linspace(-0.75, 3.75, 64)[50]
    assert record["surface"][50, 10] == pytest.approx(logits_by_loops(gan, np.array([[x, y]]))[0], abs=1e-3)
    assert surface(points_gan(coupled=True), first["limits"]) is None
    assert record["images"].dtype == np.float32 and record["images"].shape == (16, 2)


def test_any_loop_may_be_recorded_and_go_on(tmp_path):
    """A loop of 12 steps, and the same in two halves with a checkpoint; the second half begins with records too many."""
    batches = [KEY.fold(i).normal((6, 2), np.float64) for i in range(12)]

    def loop(folder: Path, gan: Any, batches: Any, **options: Any) -> Any:
        step = training.Recorder(folder, gan, every=5, **options)
        return [float(step(batch).d_loss) for batch in batches]

    plain = points_gan()
    losses = [float(plain.step(batch).d_loss) for batch in batches]
    gan = points_gan()
    assert loop(tmp_path / "whole", gan, batches, step=tg.capture(gan.step)) == losses
    assert {name: a.tobytes() for name, a in gan.state_dict().items()} == {
        name: a.tobytes() for name, a in plain.state_dict().items()}
    gan = points_gan()
    loop(tmp_path / "halves", gan, batches[:6])
    state = gan.state_dict()
    loop(tmp_path / "halves", gan, batches[6:9])
    gan = points_gan()
    gan.load_state_dict(state)
    assert loop(tmp_path / "halves", gan, batches[6:]) == losses[6:]
    whole, halves = read_records(tmp_path / "whole"), read_records(tmp_path / "halves")
    assert [r.step for r in whole] == [r.step for r in halves] == [0, 1, 4, 5, 10]
    assert whole[-1].epoch is None
    assert recorded(tmp_path, "whole") == recorded(tmp_path, "halves")


def test_unchanged_restores_all_state():
    gan = tiny_gan(tiny_settings(Path("x"), ema=0.9))
    gan.step(tiny_data().batch(np.arange(8)))
    before = gan.state_dict()
    with pytest.raises(ZeroDivisionError), unchanged(gan):
        gan.step(tiny_data().batch(np.arange(8)))
        raise ZeroDivisionError
    after = gan.state_dict()
    assert before.keys() == after.keys() and all(before[name].tobytes() == after[name].tobytes() for name in before)


# -- the fixed inputs -------------------------------------------------------------------------------------------------------


def test_large_images_have_fewer_inputs(tmp_path):
    generator = nn.Sequential(nn.Dense(3, 40 * 40), nn.Tanh(), nn.Reshape(1, 40, 40))
    gan = tg.gans.VanillaGAN(generator, nn.Sequential(nn.Flatten(), nn.Dense(1600, 1)), 3, key=KEY)
    images = np.zeros((20, 1, 40, 40), np.uint8)
    z, real, more = examples(gan, Dataset("large", images, None, "sha256:0"), KEY)
    assert z.shape == (8, 3) and real is None and more is None
    Recorder(tmp_path, gan)(np.zeros((4, 1, 40, 40), np.float32))
    assert read_records(tmp_path)[1]["images"].shape == (8, 1, 40, 40)


def test_real_images_have_the_classes_of_the_latent_vectors():
    """A cost that pairs images compares each generated one with a real one of its class."""
    data = Dataset("classes", np.repeat(np.arange(12, dtype=np.uint8) % 3 * 100, 16).reshape(12, 1, 4, 4), np.arange(12) % 3, "sha256:0")
    generator = nn.Sequential(nn.Dense(8, 16), nn.Tanh(), nn.Reshape(1, 4, 4))
    judge = InputDiscriminator(nn.Sequential(nn.Dense(19, 1)), planes=False)
    gan = tg.gans.ConditionalGAN(generator, judge, 5, 3, cost="relativistic", key=KEY)
    z, real, _ = examples(gan, data, KEY)
    assert gan.labels_of(z).tolist() == [i % 3 for i in range(16)]
    np.testing.assert_allclose((real[:, 0, 0, 0] + 1) * 127.5, [i % 3 * 100 for i in range(16)], atol=1e-4)
    assert np.isfinite(message(gan, players(gan, z, real), KEY).gradient).all()


def test_a_translating_gan_needs_images(tmp_path):
    networks = [nn.Sequential(nn.Dense(2, 2)) for _ in range(2)] + [nn.Sequential(nn.Dense(2, 1)) for _ in range(2)]
    gan = tg.gans.DiscoGAN(*networks, shape_a=(2,), shape_b=(2,), key=KEY)
    with pytest.raises(TypeError, match=r"Recorder: a DiscoGAN translates images: give it images, z="):
        Recorder(tmp_path, gan)
    pairs = KEY.normal((6, 4))
    Recorder(tmp_path / "pairs", gan, z=pairs, more=pairs)(pairs)
    record = read_records(tmp_path / "pairs")[1]
    np.testing.assert_allclose(record["logits"], host(networks[3](record["images"]))[:, 0], rtol=1e-5)  # D_B of G_AB(a)
