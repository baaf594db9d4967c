"""What a GAN takes for images and latent vectors, and games that cannot work, told before training."""
from __future__ import annotations

import copy
import math
import warnings

import numpy as np
import pytest

import tinygan as tg
from tinygan import nn
from tinygan.data import glyphs
from tinygan.devices import to_device
from tinygan.random import Key

REAL = Key(0).uniform((8, 5), -1.0, 1.0)
SHADES = (REAL + 1) / 2


TANH = nn.Tanh()


def generator(*end):
    return nn.Sequential(nn.Dense(3, 8), nn.ReLU(), nn.Dense(8, 5), *end)


def discriminator(*end):
    return nn.Sequential(nn.Dense(5, 8), nn.LeakyReLU(0.2), nn.Dense(8, 1), *end)


def make(g=(TANH,), d=(), kind=tg.gans.VanillaGAN, **settings):
    return kind(generator(*g), discriminator(*d), 3, **{"key": Key(0), **settings})


def same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


# -- batches -------------------------------------------------------------------------------------------------------------


def torch_tensor(x):
    return pytest.importorskip("torch").tensor(x, requires_grad=True)


@pytest.mark.parametrize("given", [
    np.ndarray.tolist, lambda x: tuple(map(tuple, x.tolist())), lambda x: list(x), tg.Tensor, lambda x: [tg.Tensor(row) for row in x],
    lambda x: np.asfortranarray(x), lambda x: x.astype(">f4"), lambda x: x.astype(np.float64), torch_tensor,
    lambda x: torch_tensor(x).double(), lambda x: np.ma.masked_array(x), lambda x: x.copy().view(np.recarray),
], ids=["list", "tuple", "list of arrays", "Tensor", "list of Tensors", "Fortran order", "big-endian", "float64", "torch",
        "torch float64", "masked", "subclass"])
@pytest.mark.parametrize("kind", [tg.gans.VanillaGAN, tg.gans.UnrolledGAN])
def test_a_step_takes_whatever_asarray_takes(given, kind):
    gan, twin = make(kind=kind), make(kind=kind)
    assert gan.step(given(REAL)) == twin.step(REAL)
    same(gan.state_dict(), twin.state_dict())


@pytest.mark.parametrize("given, values", [
    (lambda: REAL.astype(np.float16), REAL.astype(np.float16).astype(np.float32)),
    (lambda: (REAL > 0), (REAL > 0).astype(np.float32)),
    (lambda: np.sign(REAL).astype(np.int64), np.sign(REAL)),
    (lambda: np.sign(REAL).astype(np.int8).tolist(), np.sign(REAL)),
    (lambda: torch_tensor(np.sign(REAL)).bfloat16(), np.sign(REAL)),
], ids=["float16", "bool", "int64", "list of int", "torch bfloat16"])
def test_other_types_are_converted_to_the_weights(given, values):
    gan, twin = make((nn.Tanh(), nn.Dense(5, 5))), make((nn.Tanh(), nn.Dense(5, 5)))
    assert gan.step(given()) == twin.step(values)
    double = make()
    double.generator.astype(np.float64), double.discriminator.astype(np.float64)
    assert math.isfinite(double.step(REAL).d_loss)


def test_a_batch_of_the_right_type_is_not_copied():
    gan, seen = make(), []
    gan._update_discriminator = lambda real: (seen.append(real), tg.gans.Stats(0, 0, 0, 0))[1]
    gan.step(REAL)
    assert seen[0] is REAL


BYTES = np.arange(40, dtype=np.uint8).reshape(8, 5)


@pytest.mark.parametrize("real, error, message", [
    (BYTES, TypeError, r"step: expected images in \[-1, 1\] .* got uint8; scale bytes by real.astype\(np.float32\) / 127.5 - 1"),
    (np.zeros((8, 5), np.uint8), TypeError, "got uint8"),
    (tg.Tensor(BYTES), TypeError, "got uint8"),
    (BYTES.astype(np.int64), ValueError, r"step: expected images in \[-1, 1\], got values from 0 to 39; scale a byte x by x / 127.5 - 1"),
    (BYTES.astype(np.uint16) * 1000, ValueError, "got values from 0 to 39000; .* and a number x up to 65535 by x / 32767.5 - 1"),
    (BYTES.tolist(), ValueError, "got values from 0 to 39"),
    ([["a"]], TypeError, "step: real should be real numbers, got list of <U1"),
    ([[1.0], [2.0, 3.0]], TypeError, "step: real should be an array of real numbers, got list: .*inhomogeneous"),
    (None, TypeError, "step: real should be real numbers, got NoneType of object"),
    (REAL.astype(complex), TypeError, "step: real should be real numbers, got ndarray of complex128"),
    (1.0, ValueError, r"step: expected d_steps \* N images, got shape \(\)"),
])
def test_what_are_no_images_is_refused(real, error, message):
    gan = make()
    before = gan.state_dict()
    with pytest.raises(error, match=message):
        gan.step(real)
    same(gan.state_dict(), before)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("kind", [tg.gans.VanillaGAN, tg.gans.UnrolledGAN])
def test_nan_and_infinity_are_refused_before_anything_changes(value, later, kind):
    gan = make(kind=kind)
    if later:
        gan.step(REAL)
    before = gan.state_dict()
    bad = REAL.copy()
    bad[3, 2] = bad[6, 0] = value
    for given in (bad, bad.astype(np.float64), bad.tolist()):
        with pytest.raises(ValueError, match=r"step: 2 of 8 images hold NaN or infinity \(in float32\), the first of them real\[3\]"):
            gan.step(given)
    same(gan.state_dict(), before)
    with pytest.raises(ValueError, match="step: 8 of 8 images hold NaN or infinity"):
        gan.step(np.full((8, 5), 1e300))  # infinite in the weights' precision


def test_on_another_device_the_first_batch_is_looked_at_and_no_later_one(other_device, monkeypatch):
    bad = REAL.copy()
    bad[0, 0] = np.nan
    gan = make().to(other_device)
    with pytest.raises(ValueError, match=r"step: 1 of 8 images hold NaN or infinity \(in float32\), the first of them real\[0\]"):
        gan.step(to_device(bad, other_device))
    for given in (REAL, REAL.astype(np.float64), REAL.tolist(), tg.Tensor(REAL)):
        assert math.isfinite(float(gan.step(given).d_loss))
    monkeypatch.setattr(tg.gans.checks, "finite_range", None)  # it would have to be waited for
    gan.step(to_device(REAL, other_device))
    monkeypatch.undo()
    with pytest.raises(ValueError, match="NaN"):
        gan.step(bad)  # one that lies on the CPU costs no waiting
    on_cpu = make()
    assert on_cpu.step(to_device(REAL, other_device)) == make().step(REAL)
    step = tg.capture(gan.step)
    assert all(math.isfinite(float(step(to_device(REAL, other_device)).d_loss)) for _ in range(3))


def test_a_captured_step_looks_at_the_first_batch_that_is_good(other_device):
    gan, twin = make().to(other_device), make().to(other_device)
    step = tg.capture(gan.step)
    for bad in (np.full_like(REAL, np.nan), 100 * np.ones_like(REAL)):
        with pytest.raises(ValueError, match=r"step: .* NaN|step: expected images"):
            step(to_device(bad, other_device))
    for _ in range(4):  # once as it is, once recorded, twice replayed
        assert float(step(to_device(REAL, other_device)).d_loss) == float(twin.step(REAL).d_loss)
    assert gan.steps == 4


def test_a_first_step_that_is_recorded_cannot_look_at_its_batch(other_device):
    gan, calls = make().to(other_device), []
    gan.g_optimizer.state(), gan.d_optimizer.state()

    def step(real):
        calls.append(1)
        return gan.step(real) if len(calls) > 1 else tg.mul(real, 1.0)

    captured, real = tg.capture(step), to_device(REAL, other_device)
    captured(real)
    assert all(math.isfinite(float(captured(real).d_loss)) for _ in range(3))


# -- latent vectors ------------------------------------------------------------------------------------------------------

Z = np.array([[1, -2, 0], [0, 3, 1]], np.float32)


@pytest.mark.parametrize("given", [
    np.ndarray.tolist, lambda z: z.astype(np.float64), lambda z: z.astype(np.int64), lambda z: z.astype(int).tolist(), tg.Tensor,
    torch_tensor, lambda z: torch_tensor(z).bfloat16(), lambda z: z.astype(np.float16), lambda z: to_device(z, "cpu"),
], ids=["list", "float64", "int64", "list of int", "Tensor", "torch", "torch bfloat16", "float16", "array"])
def test_latent_vectors_of_any_kind(given):
    gan = make()
    expected = gan.sample(z=Z)
    samples = gan.sample(z=given(Z))
    assert samples.dtype == np.float32
    np.testing.assert_array_equal(samples, expected)


def test_latent_vectors_of_either_device(other_device):
    gan = make()
    expected = gan.sample(z=Z)
    np.testing.assert_array_equal(gan.sample(z=to_device(Z, other_device)), expected)
    gan.to(other_device)
    for z in (Z, Z.tolist(), Z.astype(np.float64), to_device(Z, other_device), tg.Tensor(Z), tg.Tensor(Z).to(other_device)):
        np.testing.assert_allclose(gan.sample(z=z), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("z, error, message", [
    ([1, 2, 3], ValueError, r"sample: z should have shape \(n, 3\), got \(3,\)"),
    ([[1, 2]], ValueError, r"sample: z should have shape \(n, 3\), got \(1, 2\)"),
    (1.0, ValueError, r"sample: z should have shape \(n, 3\), got \(\)"),
    ([["a", "b", "c"]], TypeError, "sample: z should be real numbers, got list of <U1"),
    ([[1, 2, 3], [4]], TypeError, "sample: z should be an array of real numbers, got list"),
    (object(), TypeError, "sample: z should be real numbers, got object of object"),
    (Z * 1j, TypeError, "sample: z should be real numbers, got ndarray of complex64"),
    ([[0, 0, 0], [0, np.nan, 0]], ValueError, r"sample: z\[1\] holds NaN or infinity"),
    (np.full((1, 3), 1e300), ValueError, r"sample: z\[0\] holds NaN or infinity"),
])
def test_an_error_about_latent_vectors_names_them(z, error, message):
    with pytest.raises(error, match=message):
        make().sample(z=z)


@pytest.mark.parametrize("n", [Z, Z.tolist(), -1, 2.5, "3", True])
def test_the_number_of_samples(n):
    with pytest.raises(TypeError, match=r"sample: n should be a number of images, got .*sample\(z=...\)"):
        make().sample(n)


# -- games that cannot work ----------------------------------------------------------------------------------------------


class Judge(nn.Module):
    """A discriminator whose end nobody can read off its modules."""

    couples_examples = False

    def __init__(self, end):
        self.layers = {"first": nn.Dense(5, 8), "last": nn.Dense(8, 1)}
        self.end = end

    def forward(self, x):
        return self.end(self.layers["last"](tg.tanh(self.layers["first"](x))))


@pytest.mark.parametrize("end", [
    [nn.Sigmoid()], [nn.Activation("sigmoid")], [nn.Sequential(nn.Sequential(nn.Sigmoid()))], [nn.Sigmoid(), nn.Flatten()],
    [nn.Sigmoid(), nn.Sequential(nn.Reshape(1))],
])
@pytest.mark.parametrize("kind", [tg.gans.VanillaGAN, tg.gans.UnrolledGAN])
def test_a_discriminator_that_ends_in_a_sigmoid_is_refused(end, kind):
    with pytest.raises(ValueError, match=rf"{kind.__name__}: the discriminator ends in a sigmoid, but the losses take logits"):
        make(d=end, kind=kind)


@pytest.mark.parametrize("end", [tg.sigmoid, lambda y: tg.reshape(tg.sigmoid(y), (-1, 1)), lambda y: tg.softmax(y, 1), nn.Sigmoid(),
                                 lambda y: tg.clip(tg.sigmoid(y), 1e-7, 1 - 1e-7), lambda y: tg.astype(tg.sigmoid(y), np.float32)],
                         ids=["sigmoid", "reshaped", "softmax", "a module", "clipped", "converted"])
@pytest.mark.parametrize("kind", [tg.gans.VanillaGAN, tg.gans.UnrolledGAN])
def test_so_is_one_in_a_users_module_before_any_weight_changes(end, kind):
    gan = kind(generator(nn.Tanh()), Judge(end), 3)
    before = gan.state_dict()
    with pytest.raises(ValueError, match=r"the discriminator ends in a (sigmoid|softmax), but the losses take logits"):
        gan.step(REAL)
    after = gan.state_dict()
    same({k: v for k, v in after.items() if k != "key_count"}, {k: v for k, v in before.items() if k != "key_count"})


@pytest.mark.parametrize("changed, error, message", [
    ({"generator": tg.relu}, TypeError, "generator should be a Module, such as .*, got function"),
    ({"discriminator": [nn.Dense(4, 1)]}, TypeError, "discriminator should be a Module, such as .*, got list"),
    ({"generator": nn.Sequential}, TypeError, "generator should be a Module, such as .*, got the class Sequential"),
    ({"d_optimizer": 1e-3}, TypeError, "d_optimizer should be an optimiser, such as .*, got float"),
    ({"g_optimizer": tg.optim.Adam}, TypeError, "g_optimizer should be an optimiser, such as .*, got the class Adam"),
    ({"latent_dim": "3"}, ValueError, "latent_dim should be a whole number of at least 1, got '3'"),
    ({"latent_dim": 3.0}, ValueError, "latent_dim should be a whole number of at least 1, got 3.0"),
    ({"key": 1}, TypeError, r"key should be a Key, got 1: write tinygan\.random\.Key\(1\)"),
])
def test_what_is_no_part_of_a_game_is_named(changed, error, message):
    parts = {"generator": nn.Sequential(nn.Dense(3, 4)), "discriminator": nn.Sequential(nn.Dense(4, 1)), "latent_dim": 3}
    with pytest.raises(error, match=f"GAN: {message}"):
        tg.gans.VanillaGAN(**{**parts, **changed})


def test_one_network_cannot_play_against_itself():
    network = nn.Sequential(nn.Dense(3, 3))
    with pytest.raises(ValueError, match="generator and discriminator are the same network"):
        tg.gans.VanillaGAN(network, network, 3)


def test_the_loss_of_such_a_game_never_falls_below_1_006():
    """What is told: -log(sigmoid(1)) - log(1 - sigmoid(0)), the best that probabilities for logits can do."""
    best = tg.binary_cross_entropy_with_logits(np.ones(1), 1.0) + tg.binary_cross_entropy_with_logits(np.zeros(1), 0.0)
    assert float(best) == pytest.approx(math.log1p(math.exp(-1)) + math.log(2)) == pytest.approx(1.0064, abs=1e-4)


@pytest.mark.parametrize("end", [nn.ReLU(), nn.Tanh(), nn.Softplus(), nn.ELU()])
def test_other_bounds_of_logits_are_warned_of_once(end):
    with pytest.warns(UserWarning, match=rf"VanillaGAN: the discriminator ends in {end.name}, so its logits are") as caught:
        gan = make(d=[end])
    assert caught[0].filename == __file__
    gan.step(REAL)  # a warning is an error in these tests
    gan = tg.gans.VanillaGAN(generator(nn.Tanh()), Judge(end), 3)
    with pytest.warns(UserWarning, match="the discriminator ends in") as caught:
        gan.step(REAL)
    assert caught[0].filename == __file__
    gan.step(REAL)


@pytest.mark.parametrize("fusion", [True, False])
def test_so_are_those_of_an_activation_that_a_norm_applies(fusion):
    end = nn.Sequential(nn.BatchNorm(1), nn.ReLU()).initialize(Key(0))
    gan = tg.gans.VanillaGAN(generator(nn.Tanh()), Judge(end), 3)
    with tg.fusion(fusion), pytest.warns(UserWarning, match="the discriminator ends in relu"):
        gan.step(REAL)


def test_losses_of_ones_own_may_take_probabilities():
    class LeastSquares(tg.gans.VanillaGAN):
        def d_loss(self, discriminator, images):
            p = discriminator(images)
            n = p.shape[0] // 2
            return tg.mean((p[:n] - 1.0) ** 2.0) + tg.mean(p[n:] ** 2.0), p[:n], p[n:]

        def g_loss(self, p):
            return tg.mean((p - 1.0) ** 2.0)

    for judge in (discriminator(nn.Sigmoid()), Judge(tg.sigmoid)):
        assert math.isfinite(LeastSquares(generator(nn.Tanh()), judge, 3).step(REAL).d_loss)


class Painter(nn.Module):
    """A generator that works in its own forward."""

    def __init__(self, end):
        self.first, self.last, self.end = nn.Dense(3, 8), nn.Dense(8, 5), end

    def forward(self, z):
        return tg.reshape(self.end(self.last(tg.tanh(self.first(z)))), (-1, 5))


TOO_BRIGHT = r"the images are in \[0, 1\] .* the generator ends in tanh, which makes \[-1, 1\]: give step images of 2 \* x - 1, or end"
TOO_DARK = r"the images have values below 0 .* the generator ends in {}, which makes values {}: .*end the generator in tanh"


@pytest.mark.parametrize("end, real, message", [
    (nn.Tanh(), SHADES, TOO_BRIGHT), (nn.Tanh(), (SHADES > 0.5).astype(np.float32), TOO_BRIGHT), (nn.Tanh(), SHADES > 0.5, TOO_BRIGHT),
    (nn.Sigmoid(), REAL, TOO_DARK.format("sigmoid", "from 0 to 1")), (nn.ReLU(), REAL, TOO_DARK.format("relu", "from 0 up")),
    (nn.Softplus(), -np.ones_like(REAL), TOO_DARK.format("softplus", "from 0 up")),
])
@pytest.mark.parametrize("make", [lambda end, **how: make([end], **how), lambda end, **how: make([nn.Sequential(end), nn.Reshape(5)], **how),
                                  lambda end, **how: how.get("kind", tg.gans.VanillaGAN)(Painter(end), discriminator(), 3)],
                         ids=["Sequential", "nested", "a user's"])
@pytest.mark.parametrize("kind", [tg.gans.VanillaGAN, tg.gans.UnrolledGAN])
def test_images_that_the_generator_cannot_make_are_warned_of_once(end, real, message, make, kind):
    gan = make(end, kind=kind)
    with pytest.warns(UserWarning, match=message) as caught:
        gan.step(real)
    assert len(caught) == 1 and caught[0].filename == __file__
    gan.step(real)
    make(end, kind=kind).step(SHADES if end.name != "tanh" else REAL)  # these it can make


@pytest.mark.parametrize("end, real", [
    (nn.Tanh(), REAL), (nn.Tanh(), np.ones_like(REAL)), (nn.Tanh(), np.zeros_like(REAL)), (nn.Tanh(), np.full_like(REAL, 0.5)),
    (nn.Tanh(), -np.ones_like(REAL)), (nn.Tanh(), 3 * REAL), (nn.Tanh(), 3 * SHADES), (nn.Tanh(), 0.1 * SHADES),
    (nn.Sigmoid(), SHADES), (nn.Sigmoid(), SHADES - 0.001), (nn.Sigmoid(), np.ones_like(REAL)), (nn.ReLU(), 5 * SHADES),
    (nn.ELU(), REAL), (nn.LeakyReLU(), REAL), (nn.Dense(5, 5), SHADES), (nn.Dense(5, 5), REAL),
])
def test_what_may_well_be_is_not_warned_of(end, real):
    gan = make([end])
    gan.step(real)
    gan.step(SHADES)
    gan.step(REAL)  # and only the first batch is asked


def test_digits_are_not_warned_of():
    images, _ = glyphs.draw("train", 16)
    tg.gans.VanillaGAN(*tg.gans.vanilla_networks(), 100).step(images.reshape(16, 1, 28, 28).astype(np.float32) / 127.5 - 1)


def test_a_scaled_generator_is_not_known():
    """(tanh + 1) / 2 makes [0, 1]: what stands behind an activation is another op."""
    tg.gans.VanillaGAN(Painter(lambda y: (tg.tanh(y) + 1.0) / 2.0), discriminator(), 3).step(SHADES)


def test_the_warning_of_a_captured_step_comes_at_its_first_call(other_device):
    gan = make().to(other_device)
    step = tg.capture(gan.step)
    with pytest.warns(UserWarning, match=TOO_BRIGHT):
        step(to_device(SHADES, other_device))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            step(to_device(SHADES, other_device))


def test_the_state_of_the_checks_is_no_part_of_the_gan():
    gan = make()
    gan.step(REAL)
    twin = copy.deepcopy(gan)
    twin.step(SHADES)
    assert gan.steps == 1 and twin.steps == 2
