import numpy as np

import tinygan as tg


def slopes(f):
    odds = np.exp(-np.abs(f))
    d = np.where(f > 0, 1, odds) / (1 + odds)
    rest = np.where(f > 0, odds, 1) / (1 + odds)
    return -d, -rest, -np.exp(f)


def logit_for_ratio(r):
    return -np.log(r)


def saturation(cost):
    def size(f):
        leaf = tg.Tensor([f], requires_grad=True)
        return abs(tg.grad(tg.sum(cost(leaf)), leaf).item())

    return size(-10.0) / size(0.0)
