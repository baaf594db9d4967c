import numpy as np


def sigmoid_vjp(g, y):
    return g * y * (1 - y)


def neuron_gradients(w, x, b, t):
    y = 1 / (1 + np.exp(-(w @ x + b)))
    g = (y - t) * y * (1 - y)
    return g * x, g * w, g


def twice(w, x):
    inner = np.tanh(w * x)
    g = 1 - np.tanh(w * inner) ** 2
    return g * inner + g * w * (1 - inner**2) * x
