"""All that a training step of one's own may do, and networks that the compiled kernels compute: captured on the CPU, the same
to the last bit as eager."""
import numpy as np
import pytest

import tinygan as tg
from tinygan import nn
from tinygan.random import Key, KeyStream, use_key

STEPS = 5


def images(i, n, *shape):
    return Key(5).fold(i).uniform((n, *shape), -1.0, 1.0)


class Trainee:
    """A network with its optimiser, and a step of one's own."""

    def __init__(self, network, rate=1e-2, shape=(6,)):
        self.network, self.shape = network.initialize(Key(1)), shape
        self.optimizer = tg.optim.Adam(rate)
        self.optimizer.bind(self.network)
        self.weights = self.network.parameters()
        self.keys = KeyStream(Key(2))

    def update(self, loss):
        self.optimizer.step(tg.grad(loss, self.weights))
        return loss

    def state(self):
        return {**self.network.state_dict(), **{f"optimizer.{k}": v for k, v in self.optimizer.state_dict().items()}}


def dense(*extra):
    return nn.Sequential(nn.Dense(6, 8), nn.Tanh(), *extra, nn.Dense(8, 1))


def average():
    self, average = Trainee(dense(nn.BatchNorm(8))), None
    average = tg.optim.ExponentialMovingAverage(self.network, 0.9)

    def step(x):
        loss = self.update(tg.mean(tg.pow(self.network(x), 2.0)))
        average.update()
        return loss

    return self, step, lambda: {**self.state(), **{f"average.{k}": v for k, v in average.state_dict().items()}}


def spectral_average():
    self = Trainee(nn.Sequential(nn.SpectralNorm(nn.Dense(6, 8)), nn.Tanh(), nn.SpectralNorm(nn.Dense(8, 1))))
    average = tg.optim.ExponentialMovingAverage(self.network, 0.5)

    def step(x):
        loss = self.update(tg.mean(tg.pow(self.network(x) - 1.0, 2.0)))
        average.update()
        return loss

    return self, step, lambda: {**self.state(), **{f"average.{k}": v for k, v in average.state_dict().items()}}


def dropout_and_schedule():
    self = Trainee(dense(nn.Dropout(0.4)), tg.optim.cosine_decay(1e-2, 1e-3, 4))

    def step(x):
        with use_key(self.keys):
            return self.update(tg.mean(tg.pow(self.network(x), 2.0)))

    return self, step, self.state


def modes():
    self = Trainee(dense(nn.BatchNorm(8), nn.Dropout(0.4)))

    def step(x):
        with nn.mode(self.network, training=False):
            target = tg.detach(self.network(x[::-1]))
        with use_key(self.keys):
            return self.update(tg.mean(tg.pow(self.network(x) - target - 1.0, 2.0)))

    return self, step, self.state


def clipped(clip):
    def made():
        self = Trainee(dense())

        def step(x):
            loss = tg.mean(tg.pow(self.network(x) - 3.0, 2.0))
            gradients = clip(tg.grad(loss, self.weights))
            gradients, norm = gradients if isinstance(gradients, tuple) else (gradients, loss)
            self.optimizer.step(gradients)
            return loss, norm

        return self, step, self.state

    return made


def checkpointed():
    self = Trainee(dense(nn.Dropout(0.3)))

    def step(x):
        with use_key(self.keys):
            return self.update(tg.mean(tg.pow(tg.checkpoint(self.network, tg.Tensor(x)), 2.0)))

    return self, step, self.state


def forward_mode():
    self = Trainee(dense())

    def step(x):
        return tg.jvp(self.network, [tg.Tensor(x)], [tg.Tensor(x[::-1])]), self.update(tg.mean(tg.pow(self.network(x), 2.0)))

    return self, step, self.state


def second_order():
    self = Trainee(dense())

    def step(x):
        loss = tg.mean(tg.pow(self.network(x), 2.0))
        found = tg.hvp(lambda x: tg.mean(tg.pow(self.network(x), 2.0)), [tg.Tensor(x)], [tg.Tensor(np.ones_like(x))])
        self.update(loss)
        return loss, found

    return self, step, self.state


def penalty():
    """WGAN-GP's: the norm of the gradient by the images, through convolutions, is differentiated."""
    self = Trainee(nn.Sequential(nn.Conv2d(1, 4, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(4, 8, 4, 2, 1), nn.LeakyReLU(0.2),
                                 nn.Flatten(), nn.Dense(8 * 7 * 7, 1)), shape=(1, 28, 28))

    def step(real):
        half = len(real) // 2
        share = self.keys.next_key().uniform((half, 1, 1, 1))
        between = tg.Tensor(real[:half], requires_grad=True) * share + real[half:] * (1.0 - share)
        slope = tg.grad(tg.sum(self.network(between)), between, create_graph=True)
        norm = tg.sqrt(tg.sum(slope * slope, (1, 2, 3)) + 1e-12)
        critic = tg.mean(self.network(real[:half])) - tg.mean(self.network(real[half:]))
        return self.update(critic + 10.0 * tg.mean(tg.pow(norm - 1.0, 2.0)))

    return self, step, self.state


def optimizers(make):
    def made():
        self = Trainee(dense())
        self.optimizer = make()
        self.optimizer.bind(self.network)
        return self, lambda x: self.update(tg.mean(tg.pow(self.network(x), 2.0))), self.state

    return made


OWN = {
    "averages": average, "averages of spectral norms": spectral_average, "dropout and a schedule": dropout_and_schedule,
    "both modes": modes, "clipped by value": clipped(lambda g: tg.optim.clip_by_value(g, 0.01)),
    "clipped by norm": clipped(lambda g: tg.optim.clip_by_norm(g, 0.5)), "checkpoint": checkpointed, "jvp": forward_mode,
    "hvp": second_order, "gradient penalty": penalty, "SGD": optimizers(lambda: tg.optim.SGD(0.1, 0.9)),
    "RMSProp": optimizers(lambda: tg.optim.RMSProp(1e-2)),
    "AdamW": optimizers(lambda: tg.optim.AdamW(1e-2, weight_decay=0.1)),
}


def bits(x):
    if isinstance(x, tuple | list):
        return [part for inner in x for part in bits(inner)]
    array = x.numpy() if isinstance(x, tg.Tensor) else np.asarray(x)
    return [array.astype(np.float64).tobytes()]


@pytest.mark.parametrize("name", OWN)
def test_a_step_of_ones_own(name):
    (trainee, eager, state), (_, step, captured_state) = OWN[name](), OWN[name]()
    captured = tg.capture(step)
    before = state()
    for i in range(STEPS):
        x = images(i, 8, *trainee.shape)
        assert bits(captured(x)) == bits(eager(x)), f"step {i}"
    after, found = state(), captured_state()
    assert after.keys() == found.keys() and captured.program is not None
    for key, value in after.items():
        np.testing.assert_array_equal(found[key], value, err_msg=key)
    assert any((before[key] != after[key]).any() for key in before)


def wide():
    generator = nn.Sequential(nn.Dense(16, 128), nn.BatchNorm(128), nn.LeakyReLU(0.2), nn.Dense(128, 196), nn.Tanh())
    return generator, nn.Sequential(nn.Dense(196, 128), nn.LeakyReLU(0.2), nn.Dropout(0.3), nn.Dense(128, 1))


def pairs():
    generator, discriminator = wide()
    return generator, nn.Sequential(*discriminator[:-1], nn.MinibatchDiscrimination(128, 16, 8), nn.Dense(144, 1))


def normalised():
    """Batch norm of 16 * 28 * 28 images, on more than 4096 elements a channel."""
    generator = nn.Sequential(nn.Dense(8, 4 * 14 * 14), nn.Reshape(4, 14, 14), nn.Upsample(scale_factor=2), nn.BatchNorm(4),
                              nn.ReLU(), nn.Conv2d(4, 1, 3, padding=1), nn.Tanh())
    return generator, nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm(8), nn.LeakyReLU(0.2), nn.AvgPool2d(4),
                                    nn.Flatten(), nn.Dense(8 * 49, 1))


LARGE = {
    "dcgan": (lambda: tg.gans.VanillaGAN(*tg.gans.dcgan_networks((1, 28, 28), 16, width=8), 16, key=Key(0)), (16, 1, 28, 28)),
    "dense": (lambda: tg.gans.VanillaGAN(*wide(), 16, key=Key(0)), (128, 196)),
    "float64": (lambda: tg.gans.VanillaGAN(*(net.astype(np.float64) for net in wide()), 16, key=Key(0)), (128, 196)),
    "minibatch discrimination": (lambda: tg.gans.VanillaGAN(*pairs(), 16, key=Key(0)), (128, 196)),
    "unrolled": (lambda: tg.gans.UnrolledGAN(*wide(), 16, key=Key(0), unroll_steps=2), (128, 196)),
    "batch norm": (lambda: tg.gans.VanillaGAN(*normalised(), 8, key=Key(0)), (16, 1, 28, 28)),
    "instance noise": (lambda: tg.gans.VanillaGAN(*wide(), 16, key=Key(0), instance_noise=tg.optim.linear_decay(0.5, 0.0, 3),
                                                  label_smoothing=0.1), (128, 196)),
}


@pytest.mark.parametrize("name", LARGE)
def test_networks_large_enough_for_the_compiled_kernels(name):
    make, shape = LARGE[name]
    games = [make(), make()]
    step = tg.capture(games[0].step)
    for i in range(4):
        real = images(i, *shape)
        assert bits(step(real)) == bits(games[1].step(real)), f"step {i}"
    found, expected = games[0].state_dict(), games[1].state_dict()
    for key, value in expected.items():
        np.testing.assert_array_equal(found[key], value, err_msg=key)
    kernels = {part.name for part in step.program.steps if not part.name.startswith("numpy.")}
    assert any(name.startswith(("matmul.", "conv.")) for name in kernels) and "?" not in kernels, kernels
