import numpy as np

import tinygan as tg


def similarity(m):
    near = np.exp(-np.abs(m[:, None] - m).sum(-1))
    return near.sum(1) - 1


def cross_talk_share(D, x):
    leaf = tg.Tensor(x, requires_grad=True)
    logits = D(leaf)
    rows = [tg.grad(logits[i], leaf, retain_graph=True).numpy() for i in range(len(x))]
    matrix = np.linalg.norm(np.stack(rows), axis=2)
    return 1 - np.trace(matrix) / matrix.sum()


def look_ahead(d_loss, g_loss, theta, fake, rate, K):
    fake = tg.Tensor(fake, requires_grad=True)
    theta = tg.Tensor(theta, requires_grad=True)
    for _ in range(K):
        theta = theta - rate * tg.grad(d_loss(theta, fake), theta, create_graph=True)
    return tg.grad(g_loss(theta, fake), fake)
