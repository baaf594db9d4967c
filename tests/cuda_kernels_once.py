"""Launches every kernel whose threads wait for each other, on small arrays, and prints their names: what
test_cuda_sanitizers.py runs in a process of its own, where each of a block's threads is a thread of the host."""
import numpy as np

from tinygan.context import override
from tinygan.kernels.cuda import batchnorm, losses, matmul, minibatch, reductions
from tinygan.kernels.cuda.conv import direct, tiled
from tinygan.kernels.cuda.emulator.device import emulated_device
from tinygan.kernels.cuda.matmul import products
from tinygan.kernels.cuda.runtime.device import Device
from tinygan.kernels.winograd import Tile
from tinygan.ops.conv import Geometry


def launch_all(device: Device) -> None:
    """None of it is compared with anything."""
    def rand(*shape, dtype=np.float32):
        return device.xp.asarray(np.random.default_rng(0).standard_normal(shape).astype(dtype))

    x, weight, bias, mean, var, sums = rand(1100, 3), rand(3), rand(3), rand(3), rand(3) ** 2, rand(2, 3)
    reductions.column_sums(device, x)
    reductions.softmax(device, rand(2, 300), (1,))
    losses.bce_with_logits(device, x, 1.0)
    told = (weight, bias, 1e-5, mean, var, "relu", 0.0)
    batchnorm.batch_norm_statistics(device, x, mean, var)
    batchnorm.batch_norm(device, x, *told)
    batchnorm.batch_norm_sums(device, x, x, *told)
    batchnorm.batch_norm_input_grad(device, x, x, sums, *told)
    batchnorm.batch_norm_sums_vjp(device, sums, x, x, sums, *told)
    batchnorm.batch_norm_input_grad_vjp(device, x, x, x, sums, *told)
    m, g = rand(34, 1, 18), rand(34, 1)
    minibatch.minibatch_similarity(device, m)
    minibatch.minibatch_similarity_grad(device, g, m)
    minibatch.minibatch_similarity_second(device, m, g, m)
    matmul.matmul(device, rand(3, 100), rand(100, 1))
    products.column_sums(device, x)
    geometry = Geometry((4, 4), (3, 3), (2, 2), (2, 2), (1, 1), (1, 1), 1)
    image, kernel, maps, tile = rand(2, 2, 4, 4), rand(2, 2, 3, 3), rand(2, 2, 2, 2), Tile(2, 2)
    tiled.conv2d(device, tile, image, kernel, geometry, statistics=(rand(2), rand(2)))
    tiled.conv2d_input_grad(device, tile, maps, kernel, geometry, statistics=(rand(2), rand(2)))
    geometry = Geometry((4, 4), (3, 3), (2, 2), (2, 2), (1, 1), (1, 1), 2)
    products.MOST_BLOCKS_ALONG_Z = direct.MOST_BLOCKS_ALONG_Z = 1  # so that a block computes several products
    for tile in products.TILES:
        for precision, dtype, parts in (("float32", np.float32, 1), ("tf32", np.float32, 2), ("float32", np.float64, 2)):
            def plan(device, dtype, batch, rows, columns, depth, tile=tile, parts=parts):
                height, width = products.TILES[tile]
                return products.Plan(tile, -(-rows // height) * -(-columns // width), parts)

            products.plan = direct.plan = plan
            with override(matmul_precision=precision):
                matmul.matmul(device, rand(2, 20, 40, dtype=dtype), rand(2, 40, 20, dtype=dtype))
                image, kernel, maps = rand(2, 8, 4, 4, dtype=dtype), rand(8, 4, 3, 3, dtype=dtype), rand(2, 8, 2, 2, dtype=dtype)
                direct.conv2d(device, image, kernel, geometry)
                direct.conv2d_input_grad(device, maps, kernel, geometry)
                direct.conv2d_weight_grad(device, image, maps, geometry)


if __name__ == "__main__":
    device = emulated_device()
    launch_all(device)
    print(*sorted(f"{file}.{kernel}" for file, kernel in device.launcher.launched))
