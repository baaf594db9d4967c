"""Importing this module loads tinygan's compiled kernels, as a first step would. So their memory counts for the imports and
not for the step.

It calls only ops, so that it works with other versions of tinygan too (`--before`).
"""
import numpy as np

import tinygan as tg
from tinygan.runs.machine import describe

THREADS = int(describe()["machine"]["threads"])
"""How many cores the kernels share."""

_MATRIX, _IMAGES, _KERNELS = (np.ones(shape, np.float32) for shape in ((128, 128), (8, 32, 16, 16), (32, 32, 4, 4)))
tg.matmul(_MATRIX, _MATRIX)
tg.conv2d(_IMAGES, _KERNELS, stride=2, padding=1)
