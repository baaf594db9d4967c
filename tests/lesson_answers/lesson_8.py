import numpy as np


def places(x_shape, w_shape, s):
    for i in range((x_shape[0] - w_shape[0]) // s + 1):
        for j in range((x_shape[1] - w_shape[1]) // s + 1):
            yield i, j, (slice(s * i, s * i + w_shape[0]), slice(s * j, s * j + w_shape[1]))


def forward(x, w, s):
    y = np.zeros([(n - k) // s + 1 for n, k in zip(x.shape, w.shape, strict=True)])
    for i, j, part in places(x.shape, w.shape, s):
        y[i, j] = (x[part] * w).sum()
    return y


def input_gradient(g, w, shape, s):
    x = np.zeros(shape)
    for i, j, part in places(shape, w.shape, s):
        x[part] += g[i, j] * w
    return x


def weight_gradient(x, g, shape, s):
    w = np.zeros(shape)
    for i, j, part in places(x.shape, shape, s):
        w += g[i, j] * x[part]
    return w
