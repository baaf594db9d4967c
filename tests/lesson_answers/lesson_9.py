import tinygan as tg


def slopes(D, x):
    leaf = tg.Tensor(x, requires_grad=True)
    return tg.grad(tg.sum(D(leaf)), leaf, create_graph=True)


def r1(D, real):
    g = slopes(D, real)
    return tg.mean(tg.sum(g * g, axis=1)) / 2


def gradient_penalty(D, real, fake, e):
    off = tg.norm(slopes(D, e * real + (1 - e) * fake), axis=1) - 1
    return tg.mean(off * off)


def unrolled_gradients(psi, theta, rate, K):
    return -psi + K * rate * theta, -psi + 2 * K * rate * theta
