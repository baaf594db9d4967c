"""The activations by number, as kernels on the CPU and the GPU are told of them (`Activation` in cuda/common.cuh)."""
from __future__ import annotations

IDENTITY, RELU, LEAKY_RELU, TANH, SIGMOID, SOFTPLUS, ELU = range(7)
CODES = {"identity": IDENTITY, "relu": RELU, "leaky_relu": LEAKY_RELU, "tanh": TANH, "sigmoid": SIGMOID,
         "softplus": SOFTPLUS, "elu": ELU}
FUSED = {name: CODES[name] for name in ("identity", "relu", "leaky_relu")}
"""What products, convolutions and batch normalisation apply themselves: those in whose result its slope can be seen."""
