import numpy as np


def modes_covered(points, centres, sigma):
    distances = np.linalg.norm(points[:, None] - centres, axis=2)
    return int((distances <= 3 * sigma).any(0).sum())


def effective_modes(counts):
    p = counts[counts > 0] / counts.sum()
    return np.exp(-(p * np.log(p)).sum())


def best_response(f, c):
    if c == 0:
        q = np.zeros(len(f))
        q[f.argmax()] = 1
        return q
    q = (1 / (1 + np.exp(-f))) ** (1 / c)
    return q / q.sum()
