"""Convolutions on the device: by tiles if these take less time, else by the direct algorithm."""
from __future__ import annotations

from typing import Any

from tinygan.kernels.cuda.batchnorm import batch_norm_statistics
from tinygan.kernels.cuda.conv import direct, tiled
from tinygan.kernels.cuda.runtime.device import Array, Device
from tinygan.kernels.winograd import Tile

__all__ = ["conv2d", "conv2d_input_grad", "conv2d_weight_grad"]


def conv2d(device: Device, x: Array, weight: Array, g: Any, bias: Array | None = None,
           activation_name: str = "identity", slope: float = 0.0, statistics: Any = None) -> Array:
    """activation(x * weight + bias): (N, C, H, W), (K, C / groups, kH, kW), (K,) -> (N, K, OH, OW). statistics: None, or two
    arrays for the mean and the biased variance of each channel of the result. With statistics there is no activation."""
    tile = _tile(device, g, x.shape[0], x.shape[1], weight.shape[0], x.dtype)
    if tile is not None:
        return tiled.conv2d(device, tile, x, weight, g, bias, activation_name, slope, statistics)
    return _measured(device, direct.conv2d(device, x, weight, g, bias, activation_name, slope), statistics)


def conv2d_input_grad(device: Device, y: Array, weight: Array, g: Any, bias: Array | None = None,
                      activation_name: str = "identity", slope: float = 0.0, statistics: Any = None) -> Array:
    """The adjoint in x, with bias, activation and statistics: (N, K, OH, OW), (K, C / groups, kH, kW), (C,) ->
    (N, C, H, W)."""
    tile = _tile(device, g, y.shape[0], weight.shape[1], y.shape[1], y.dtype)
    if tile is not None:
        return tiled.conv2d_input_grad(device, tile, y, weight, g, bias, activation_name, slope, statistics)
    x = direct.conv2d_input_grad(device, y, weight, g, bias, activation_name, slope)
    return _measured(device, x, statistics)


def conv2d_weight_grad(device: Device, x: Array, y: Array, g: Any) -> Array:
    """The adjoint in weight: (N, C, H, W), (N, K, OH, OW) -> (K, C / groups, kH, kW)."""
    tile = _tile(device, g, x.shape[0], x.shape[1], y.shape[1], x.dtype)
    if tile is None:
        return direct.conv2d_weight_grad(device, x, y, g)
    return tiled.conv2d_weight_grad(device, tile, x, y, g)


def _measured(device: Device, y: Array, statistics: Any) -> Array:
    """Returns y, and writes its statistics if they are wanted."""
    if statistics is not None:
        batch_norm_statistics(device, y, *statistics)
    return y


def _tile(device: Device, g: Any, images: int, channels: int, kernels: int, dtype: Any) -> Tile | None:
    """The tile to use; None for the direct algorithm. If TF32 is asked for it is the direct algorithm, which can use tensor
    cores."""
    if g.algorithm == "auto" and dtype.itemsize == 4 and device.precision == "tf32":
        return None
    return tiled.cheapest_tile(device.sms, g, images, channels, kernels)
