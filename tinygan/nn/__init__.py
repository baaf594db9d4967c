"""Networks: modules with named parameters, the layers, and the initialisers of their weights."""
import typing as _typing

from tinygan.nn import initializers
from tinygan.nn.activations import ELU, GELU, Activation, LeakyReLU, PReLU, ReLU, Sigmoid, SiLU, Softplus, Tanh
from tinygan.nn.conv import Conv2d, ConvTranspose2d
from tinygan.nn.conv1d import Conv1d, ConvTranspose1d
from tinygan.nn.layers import Dense, Dropout, Embedding, Flatten, Reshape
from tinygan.nn.minibatch import MinibatchDiscrimination, MinibatchStd
from tinygan.nn.module import Module, functional_call, identities, mode, update_buffers_of, with_parameters
from tinygan.nn.normalization import BatchNorm, GroupNorm, InstanceNorm2d, LayerNorm, PixelNorm
from tinygan.nn.padding import (
    CircularPad1d,
    CircularPad2d,
    ConstantPad1d,
    ConstantPad2d,
    ReflectionPad1d,
    ReflectionPad2d,
    ReplicationPad1d,
    ReplicationPad2d,
    ZeroPad1d,
    ZeroPad2d,
)
from tinygan.nn.pixels import PixelShuffle, PixelUnshuffle
from tinygan.nn.pooling import AvgPool2d, MaxPool2d, Upsample
from tinygan.nn.sequential import Sequential
from tinygan.nn.spectral import SpectralNorm

__all__ = [
    "Module", "Sequential", "functional_call", "with_parameters", "mode", "update_buffers_of", "identities",
    "initializers",
    "Dense", "Dropout", "Embedding", "Flatten", "Reshape", "MinibatchDiscrimination", "MinibatchStd",
    "BatchNorm", "GroupNorm", "InstanceNorm2d", "LayerNorm", "PixelNorm", "SpectralNorm",
    "Conv1d", "Conv2d", "ConvTranspose1d", "ConvTranspose2d",
    "MaxPool2d", "AvgPool2d", "Upsample", "PixelShuffle", "PixelUnshuffle",
    "CircularPad1d", "CircularPad2d", "ConstantPad1d", "ConstantPad2d", "ReflectionPad1d", "ReflectionPad2d",
    "ReplicationPad1d", "ReplicationPad2d", "ZeroPad1d", "ZeroPad2d",
    "Activation", "ReLU", "LeakyReLU", "PReLU", "ELU", "SiLU", "GELU", "Tanh", "Sigmoid", "Softplus",
]

if not _typing.TYPE_CHECKING:  # (a type checker that saw this would accept every name)
    def __getattr__(name: str) -> None:
        """Raise the error for a name that does not exist. If PyTorch has it, the error gives its name here."""
        from tinygan.interop.torch_names import NN, missing

        raise missing(f"module {__name__!r}", name, NN, None)
