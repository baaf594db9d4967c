"""GANs that keep an average of their generator: what they average, sample and save, and that sampling leaves training alone."""
import copy
import pickle

import numpy as np
import pytest

import tinygan as tg
from tinygan import nn, optim
from tinygan.random import Key

HALF = {"a number": 0.8, "a schedule": lambda count: min(0.9, count / 4)}


def players():
    """(No bias before batch norm: its gradient is rounding, which Adam makes a whole step of.)"""
    generator = nn.Sequential(nn.Dense(3, 8, bias=False), nn.BatchNorm(8), nn.LeakyReLU(0.2), nn.SpectralNorm(nn.Dense(8, 8)), nn.Tanh(),
                              nn.Dense(8, 5))
    return generator, nn.Sequential(nn.Dense(5, 7), nn.LeakyReLU(0.2), nn.Dense(7, 1))


KINDS = {"vanilla": tg.gans.VanillaGAN,
         **{order: lambda *given, order=order, **more: tg.gans.UnrolledGAN(*given, unroll_steps=2, order=order, **more)
            for order in ("discriminator-first", "generator-first", "simultaneous")}}


def make(ema=0.8, kind="vanilla"):
    return KINDS[kind](*players(), 3, key=Key(0), ema=ema, g_optimizer=optim.Adam(0.03))


def batch(i, device="cpu"):
    return tg.to_device(Key(7).fold(i).uniform((6, 5), -1.0, 1.0), device)


def train(gan, steps, step=None, start=0):
    device = gan.g_parameters[0].device
    for i in range(start, start + steps):
        (step or gan.step)(batch(i, device))
    return gan


def same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ema", HALF.values(), ids=HALF)
def test_the_average_follows_every_step(kind, ema):
    """By a plain loop in float64."""
    gan = make(ema, kind)
    expected = {path: value.astype(np.float64) for path, value in gan.generator.state_dict().items()}
    for i in range(7):
        gan.step(batch(i))
        decay = ema(i) if callable(ema) else ema
        for path, value in gan.generator.state_dict().items():
            expected[path] = decay * expected[path] + (1 - decay) * value
    averages = gan.average.module.state_dict()
    for path, value in expected.items():
        if not path.endswith(("_u", "_v", "num_batches_tracked")):
            np.testing.assert_allclose(averages[path], value, rtol=1e-4, atol=1e-6, err_msg=path)
            assert np.abs(averages[path] - gan.generator.state_dict()[path]).max() > 1e-4, path
    assert gan.average.count == gan.steps == 7
    same(train(make(None, kind), 7).state_dict(),  # and the average does not change the training
         {name: value for name, value in gan.state_dict().items() if not name.startswith("average.")})


@pytest.mark.oracle
def test_the_average_is_pytorchs():
    """Weights and running statistics of 20 steps. (PyTorch also averages the vectors of spectral norm, so there are none.)"""
    torch = pytest.importorskip("torch")
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

    generator = nn.Sequential(nn.Dense(3, 8), nn.BatchNorm(8), nn.ReLU(), nn.Dense(8, 5))
    gan = tg.gans.VanillaGAN(generator, players()[1], 3, key=Key(0), ema=0.9, g_optimizer=optim.Adam(0.03))
    theirs = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.BatchNorm1d(8), torch.nn.ReLU(), torch.nn.Linear(8, 5))

    def load():
        theirs.load_state_dict({name: torch.tensor(value) for name, value in gan.generator.state_dict().items()})

    load()
    average = AveragedModel(theirs, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    average.update_parameters(theirs)  # the first update copies
    for i in range(20):
        gan.step(batch(i))
        load()
        average.update_parameters(theirs)
    ours = gan.average.module.state_dict()
    for path, value in average.module.state_dict().items():
        if path != "1.num_batches_tracked":
            np.testing.assert_allclose(ours[path], value.numpy(), rtol=1e-4, atol=1e-6, err_msg=path)
    z = gan.latent(9, Key(3))
    images = average.module.eval()(torch.tensor(np.array(z))).detach().numpy()
    np.testing.assert_allclose(gan.sample(z=z), images, rtol=1e-3, atol=1e-5)


def test_samples_come_from_the_average_unless_asked_for_otherwise():
    gan = train(make(), 5)
    z = gan.latent(4, Key(1))
    for averaged, weights in ((True, gan.average.state_dict()), (False, gan.generator.state_dict())):
        twin = players()[0].load_state_dict(weights).eval()
        np.testing.assert_array_equal(gan.sample(z=z, averaged=averaged), twin(z))
    assert gan.sampled_generator is gan.average.module is not gan.generator
    assert np.abs(gan.sample(z=z) - gan.sample(z=z, averaged=False)).max() > 1e-3
    plain = train(make(None), 5)
    assert plain.sampled_generator is plain.generator
    np.testing.assert_array_equal(plain.sample(z=z), plain.sample(z=z, averaged=False))


@pytest.mark.parametrize("ema", HALF.values(), ids=HALF)
@pytest.mark.parametrize("captured", [False, True])
def test_sampling_leaves_training_alone(device, ema, captured):
    """The same to the last bit, and a captured step is not recorded again."""
    results = []
    for samples in (False, True):
        gan = make(ema).to(device)
        step = tg.capture(gan.step) if captured else gan.step
        train(gan, 3, step)
        program = step.program if captured else None
        for i in range(3, 7):
            if samples:
                assert np.isfinite(gan.sample(5)).all() and np.isfinite(gan.sample(5, averaged=False)).all()
            train(gan, 1, step, start=i)
        assert not captured or step.program is program is not None
        results.append((gan.state_dict(), gan.sample(3)))
    same(results[0][0], results[1][0])
    np.testing.assert_array_equal(results[0][1], results[1][1])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ema", HALF.values(), ids=HALF)
def test_a_captured_step_averages_the_same(device, kind, ema):
    plain, captured = make(ema, kind).to(device), make(ema, kind).to(device)
    train(plain, 6)
    train(captured, 6, tg.capture(captured.step))
    same(captured.state_dict(), plain.state_dict())
    np.testing.assert_array_equal(captured.sample(4), plain.sample(4))


def test_what_kernels_keep_of_an_averaged_weight_is_renewed_by_replays():
    """Transformed tiles of a weight are kept until it changes."""
    def game():
        generator = nn.Sequential(nn.Dense(3, 16), nn.Reshape(4, 2, 2), nn.ConvTranspose2d(4, 3, 4, 2, 1), nn.Tanh())
        return tg.gans.VanillaGAN(generator, nn.Sequential(nn.Flatten(), nn.Dense(48, 1)), 3, key=Key(0), ema=0.5,
                                  g_optimizer=optim.Adam(0.1))

    def images(gan, step):
        found = []
        for i in range(6):
            step(Key(i).uniform((4, 3, 4, 4), -1.0, 1.0))
            found.append(gan.sample(2))
        return found

    with tg.conv_algorithm("tiled"):
        plain, captured = game(), game()
        for a, b in zip(images(plain, plain.step), images(captured, tg.capture(captured.step)), strict=True):
            np.testing.assert_array_equal(a, b)


def test_it_moves_and_is_converted_with_the_gan(device):
    gan = train(make(lambda count: 0.7).to(device), 3)
    before = gan.state_dict()
    gan.to("cpu")
    assert {p.device for p in gan.average._averages.values()} == {"cpu"}
    same(before, gan.state_dict())
    gan.to(device).sample(2)
    same(before, gan.state_dict())
    gan.generator.astype(np.float64), gan.discriminator.astype(np.float64)
    assert gan.sample(2).dtype == gan.sample(2, averaged=False).dtype == np.float64
    gan.step(batch(3, gan.g_parameters[0].device))
    assert gan.state_dict()["average.0.weight"].dtype == np.float64


def test_the_emulated_device_averages_like_the_cpu(other_device):
    here, there = (train(make(HALF["a schedule"]).to(name), 4).state_dict() for name in ("cpu", other_device))
    for name, value in here.items():
        np.testing.assert_allclose(there[name], value, rtol=1e-3, atol=1e-4, err_msg=name)


# -- saving --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("captured", [False, True])
@pytest.mark.parametrize("ema", HALF.values(), ids=HALF)
def test_a_restored_gan_goes_on_to_the_last_bit(ema, captured):
    whole = train(make(ema), 8)
    half, other = train(make(ema), 4), make(ema)
    other.load_state_dict(half.state_dict())
    train(other, 4, tg.capture(other.step) if captured else None, start=4)
    same(other.state_dict(), whole.state_dict())


@pytest.mark.parametrize("ema", HALF.values(), ids=HALF)
def test_a_state_without_an_average_starts_one(ema):
    old = train(make(None), 3)
    gan = train(make(ema), 2)
    gan.load_state_dict(old.state_dict())
    same(gan.average.module.state_dict(), old.generator.state_dict())
    assert gan.steps == gan.average.count == 3
    gan.step(batch(3))
    now, before = gan.generator.state_dict()["0.weight"], old.generator.state_dict()["0.weight"]
    decay = ema(3) if callable(ema) else ema
    np.testing.assert_allclose(gan.average.module.state_dict()["0.weight"], decay * before + (1 - decay) * now, rtol=1e-5,
                               atol=1e-7)


def test_a_state_that_does_not_fit_changes_nothing():
    gan, with_average = train(make(None), 1), train(make(), 2)
    with pytest.raises(ValueError, match=r"load_state_dict of VanillaGAN: unexpected 'average\.0\.weight'"):
        gan.load_state_dict(with_average.state_dict())
    before, state = with_average.state_dict(), train(make(), 3).state_dict()
    del state["average.1.running_mean"]
    with pytest.raises(ValueError, match=r"missing 'average\.1\.running_mean'"):
        with_average.load_state_dict(state)
    bare = train(make(None), 1).state_dict()
    del bare["generator.5.bias"]
    with pytest.raises(ValueError, match=r"VanillaGAN: missing 'generator\.5\.bias'$"):
        with_average.load_state_dict(bare)
    same(with_average.state_dict(), before)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["deepcopy", "pickle"])
def test_a_copied_gan_averages_its_own_generator(copied):
    gan = train(make(), 2)
    twin = copied(gan)
    before = gan.state_dict()
    train(twin, 2, start=2)
    same(gan.state_dict(), before)
    same(train(gan, 2, start=2).state_dict(), twin.state_dict())
    np.testing.assert_array_equal(gan.sample(3), twin.sample(3))


def test_reset_starts_from_the_weights_that_were_loaded():
    gan, other = make(), train(make(), 3)
    gan.generator.load_state_dict(other.generator.state_dict())
    gan.average.reset()
    np.testing.assert_array_equal(gan.sample(3), other.sample(3, averaged=False))


# -- an average on its own, with a schedule --------------------------------------------------------------------------------


def test_a_scheduled_average_saves_its_count():
    model = nn.Dense(2, 3).initialize(Key(0))
    average, other = (optim.ExponentialMovingAverage(model, lambda count: count / 10) for _ in range(2))
    for i in range(3):
        model.weight.assign(Key(i).normal((3, 2)))
        average.update()
    assert average.state_dict()["count"] == 3
    other.load_state_dict(average.state_dict())
    model.weight.assign(Key(9).normal((3, 2)))
    before = average.state_dict()["weight"]
    average.update(), other.update()
    same(average.state_dict(), other.state_dict())
    np.testing.assert_allclose(average.state_dict()["weight"], 0.3 * before + 0.7 * model.weight.numpy(), rtol=1e-5)
    assert "count" not in optim.ExponentialMovingAverage(model, 0.5).state_dict()
    with pytest.raises(ValueError, match="missing 'count'"):
        other.load_state_dict(model.state_dict())


def test_the_copy_is_in_evaluation_mode_and_stays_the_same_object():
    model = nn.Sequential(nn.Dense(2, 3), nn.BatchNorm(3)).initialize(Key(0))
    average = optim.ExponentialMovingAverage(model, 0.5)
    found = average.module
    found(Key(1).normal((4, 2)))
    assert not found.training and model.training and found[1].num_batches_tracked.item() == 0
    model[0].weight.assign(np.ones((3, 2)))
    average.update()
    assert average.module is found and np.abs(found[0].weight.numpy() - model[0].weight.numpy()).max() > 0


def test_parameters_without_values_are_drawn_once():
    model = nn.Dense(2, 3)
    average = optim.ExponentialMovingAverage(model)
    np.testing.assert_array_equal(average.module.weight, model.weight)


# -- errors --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ema, error, message", [
    (1.0, ValueError, r"GAN: ema should be a decay in \[0, 1\), such as 0.999, got 1.0"),
    (-0.1, ValueError, r"GAN: ema should be a decay in \[0, 1\), such as 0.999, got -0.1"),
    (float("nan"), ValueError, "got nan"),
    (True, TypeError, "GAN: ema should be a decay in .*, a schedule of it, or None, got bool"),
    ("0.9", TypeError, "GAN: ema should be .* got str")])
@pytest.mark.parametrize("kind", KINDS)
def test_a_decay_without_sense_is_refused_at_once(kind, ema, error, message):
    with pytest.raises(error, match=message):
        make(ema, kind)


def test_a_schedule_that_leaves_its_range_is_an_error_that_says_where():
    gan = make(lambda count: 0.5 + count / 4)
    train(gan, 2)
    with pytest.raises(ValueError, match=r"ExponentialMovingAverage: decay should be in \[0, 1\), got 1.0 at update 2"):
        gan.step(batch(2))


def test_a_parameter_called_count_is_refused_with_a_schedule():
    class Counting(nn.Module):
        def __init__(self):
            self.count = tg.Parameter(np.zeros(1))

    optim.ExponentialMovingAverage(Counting(), 0.5)
    with pytest.raises(ValueError, match="ExponentialMovingAverage: a parameter or buffer of the module is called 'count'"):
        optim.ExponentialMovingAverage(Counting(), lambda count: 0.5)
