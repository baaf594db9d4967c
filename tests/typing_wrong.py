"""Wrong calls that a type checker must find, each in the line that says so; see test_typing.py."""
from typing import Any

import numpy as np

import tinygan as tg
from tinygan import Tensor

values = np.ones((2, 3), np.float32)
x = Tensor(values, requires_grad=True)

tg.exp("x")  # wrong
tg.exp(x, 2.0)  # wrong
tg.exp(x, axis=0)  # wrong
tg.exp()  # wrong
tg.add(x)  # wrong
tg.add(x, [1.0])  # wrong
tg.add(x, "y")  # wrong
tg.sum(x, axs=0)  # wrong
tg.sum([1.0, 2.0])  # wrong
tg.mean(x, axis="rows")  # wrong
tg.reshape(x)  # wrong
tg.reshape("x", (2, 3))  # wrong
tg.concatenate(x, dim=1)  # wrong
tg.where(x > 0, x)  # wrong
tg.clip(x, "low")  # wrong
tg.relu(None)  # wrong
tg.leaky_relu(x, slop=0.1)  # wrong
tg.softmax(x, dim=1)  # wrong
tg.mean_squared_error(x)  # wrong
tg.exponential(x)  # wrong
x.exq()  # wrong
x.exp(2)  # wrong
x.sum(axs=0)  # wrong
x.add_(1)  # wrong
x + "1"  # wrong
number: float = tg.exp(x)  # wrong
array: np.ndarray[Any, Any] = x.exp()  # wrong
tg.dense("x", x)  # wrong
tg.dense(x, x, activaton="relu")  # wrong
tg.conv2d(x)  # wrong
tg.conv2d(x, x, stride="2")  # wrong
tg.max_pool2d(x, 2, strid=2)  # wrong
tg.matmul(x, 2.0)  # wrong
