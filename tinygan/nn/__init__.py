"""Networks: modules with named parameters, the layers, and the initialisers of their weights."""
import typing as _typing

from tinygan.nn import initializers
from tinygan.nn.activations import ELU, Activation, LeakyReLU, ReLU, Sigmoid, Softplus, Tanh
from tinygan.nn.conv import Conv2d, ConvTranspose2d
from tinygan.nn.layers import Dense, Dropout, Embedding, Flatten, MinibatchDiscrimination, Reshape
from tinygan.nn.module import Module, functional_call, identities, mode, update_buffers_of, with_parameters
from tinygan.nn.normalization import BatchNorm, LayerNorm
from tinygan.nn.pooling import AvgPool2d, MaxPool2d, Upsample
from tinygan.nn.sequential import Sequential
from tinygan.nn.spectral import SpectralNorm

__all__ = [
    "Module", "Sequential", "functional_call", "with_parameters", "mode", "update_buffers_of", "identities",
    "initializers",
    "Dense", "BatchNorm", "LayerNorm", "Dropout", "Embedding", "Flatten", "Reshape", "MinibatchDiscrimination",
    "Conv2d", "ConvTranspose2d", "MaxPool2d", "AvgPool2d", "Upsample", "SpectralNorm",
    "Activation", "ReLU", "LeakyReLU", "ELU", "Tanh", "Sigmoid", "Softplus",
]

if not _typing.TYPE_CHECKING:  # (a type checker that saw this would accept every name)
    def __getattr__(name: str) -> None:
        """Raise the error for a name that does not exist. If PyTorch has it, the error gives its name here."""
        from tinygan.interop.torch_names import NN, missing

        raise missing(f"module {__name__!r}", name, NN, None)
