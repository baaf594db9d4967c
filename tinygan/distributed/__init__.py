"""Training on several processes at once, over MPI: each has a part of every batch (data parallelism).

    mpirun -n 4 tinygan train dcgan --run-dir runs/big

`--batch-size` is that of all processes together, and a step gives the result of one process, up to rounding. In a program of
your own, give a GAN the `World` of its processes:

    world = tg.distributed.join()      # None if mpirun has not started this program
    gan = tg.gans.VanillaGAN(generator, discriminator, 100, world=world)
    stats = gan.step(images)     # this process's part of the batch
"""
from .world import Part, World, join

__all__ = ["Part", "World", "join"]
