"""A program as a user would write it, for a type checker; see test_typing.py. `assert_type` says what must be inferred."""
from collections.abc import Mapping
from typing import Any, assert_type

import numpy as np

import tinygan as tg
from tinygan import Tensor, nn

Array = np.ndarray[Any, Any]

values = np.ones((2, 3), np.float32)
x = Tensor(values, requires_grad=True)

assert_type(tg.exp(x), Tensor)
assert_type(tg.exp(values), Array)
assert_type(tg.exp(1.0), Array)
assert_type(tg.add(x, values), Tensor)
assert_type(tg.mul(values, x), Tensor)
assert_type(tg.maximum(values, 0.0), Array)
assert_type(x + 1, Tensor)
assert_type(2.0 * x, Tensor)
assert_type(x**2, Tensor)
assert_type(-x, Tensor)
assert_type(x > 0, Tensor)
assert_type(x[0, :2], Tensor)
assert_type(x @ tg.transpose(x), Tensor)

assert_type(tg.sum(x, axis=0, keepdims=True), Tensor)
assert_type(tg.mean(values), Array)
assert_type(tg.reshape(x, (3, 2)), Tensor)
assert_type(tg.concatenate([x, x], axis=1), Tensor)
assert_type(tg.split(values, 2), list[Array])
assert_type(tg.where(x > 0, x, 0.0), Tensor)
assert_type(tg.where(values > 0, values, 0.0), Array)
assert_type(tg.clip(x, 0.0, None), Tensor)
assert_type(tg.relu(x), Tensor)
assert_type(tg.leaky_relu(values, 0.1), Array)
assert_type(tg.softmax(x), Tensor)
assert_type(tg.mean_squared_error(x, values), Tensor)
assert_type(tg.binary_cross_entropy_with_logits(x, 1.0), Tensor)

assert_type(tg.dense(x, values), Tensor)
assert_type(tg.dense(values, weight=x, activation="relu"), Tensor)
assert_type(tg.dense(values, values), Array)
assert_type(tg.conv2d(values, x, None, stride=2), Tensor)
assert_type(tg.matmul(values, x), Tensor)
assert_type(tg.batch_norm(x, values, values), Tensor)
assert_type(tg.max_pool2d(values, 2), Array)

assert_type(x.exp(), Tensor)
assert_type(x.sum(axis=0), Tensor)
assert_type(x.reshape(3, 2), Tensor)
assert_type(x.clip(low=0.0), Tensor)
assert_type(x.pow(2), Tensor)
assert_type(x.T.shape, tuple[int, ...])
assert_type(float(x.mean()), float)


@tg.op(saves=(0,))
def cube(B: Any, a: Any) -> Any:
    return a * a * a


@cube.vjp
def _(needs: Any, g: Any, a: Any) -> Any:
    return (tg.mul(g, tg.mul(3.0, tg.mul(a, a))),)


class Wave(nn.Module):
    activation = tg.exp

    def forward(self, a: Tensor) -> Tensor:
        return self.activation(a)


weight = tg.Parameter(values)
assert_type(tg.mul(weight, x), Tensor)
assert_type(weight.exp(), Tensor)
loss = tg.sum(cube(x) + weight * x)
gradient = tg.grad(loss, x)
network = nn.Sequential(nn.Dense(3, 4), nn.ReLU(), nn.Dense(4, 1))
with tg.no_grad():
    logits = network(x)


class Writer(tg.training.Logger):
    def log(self, step: int, losses: Mapping[str, float], images: np.ndarray | None) -> None:
        print(step, losses["d_loss"], images)


def say(step: int, losses: Mapping[str, float], images: np.ndarray | None) -> None:
    print(step)


def run(gan: tg.gans.VanillaGAN, data: tg.data.Dataset) -> tg.training.History:
    settings = tg.training.VanillaSettings.from_toml("run.toml", epochs=2)
    assert_type(settings, tg.training.VanillaSettings)
    tg.training.train(gan, data, settings, log=say)
    return tg.training.train(gan, data, settings, show="notebook", log=[Writer(), say])
