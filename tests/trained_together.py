"""A program for `mpirun`: trains small GANs on the ranks together, and writes what came out of it.

    mpirun -n 3 python tests/trained_together.py FOLDER      # writes FOLDER/3.npz
    python tests/trained_together.py FOLDER                  # one process, without MPI: FOLDER/alone.npz

After it may come "few", for only some of the GANs, and after that a device.
"""
import itertools
import os
import sys
from pathlib import Path

import numpy as np

import tinygan as tg
from tinygan import nn
from tinygan.backends import backend_of
from tinygan.gans.conditional import InputDiscriminator
from tinygan.ops.ranks import means_over_ranks
from tinygan.random import Key

N = 12
STEPS = {"cpu": {np.float64: 20, np.float32: 50}, "emulated": {np.float64: 2, np.float32: 3},
         "cuda": {np.float64: 20, np.float32: 20}}
FEW = ("vanilla", "dcgan", "wgan-gp", "unrolled dcgan", "minibatch False")


# A bias whose gradient is exactly 0, as before batch norm, or of a critic's score, would learn from rounding errors alone. No
# network here has one.


def dense(*sizes, last=()):
    layers = [layer for a, b in itertools.pairwise(sizes)
              for layer in (nn.Dense(a, b, bias=b > 1), nn.LeakyReLU(0.2))]
    return nn.Sequential(*layers[:-1], *last)


def convolutional(norm_in_d=True):
    generator = nn.Sequential(nn.Dense(5, 8 * 4 * 4, bias=False), nn.Reshape(8, 4, 4), nn.BatchNorm(8), nn.ReLU(),
                              nn.ConvTranspose2d(8, 4, 4, 2, 1, bias=False), nn.BatchNorm(4), nn.ReLU(),
                              nn.Conv2d(4, 2, 3, 1, 1), nn.Tanh())
    norm = [nn.BatchNorm(6)] if norm_in_d else []
    discriminator = nn.Sequential(nn.Conv2d(2, 4, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(4, 6, 3, 1, 1, bias=not norm), *norm,
                                  nn.LeakyReLU(0.2), nn.Flatten(), nn.Dense(6 * 4 * 4, 1, bias=False))
    return generator, discriminator


def gans(world):
    """Each kind of coupling between the examples of a batch, in a small GAN: (GAN, the shape of an image)."""
    about = {"key": Key(3), "world": world}
    flat, image = (6,), (2, 8, 8)
    noisy = dense(6, 16, 16, 1)
    noisy = nn.Sequential(*list(noisy)[:2], nn.Dropout(0.3), *list(noisy)[2:])
    yield "vanilla", tg.gans.VanillaGAN(dense(5, 16, 6, last=[nn.Tanh()]), noisy, 5, d_steps=2, instance_noise=0.1,
                                        ema=0.9, **about), flat
    for noise in ("uniform", "bernoulli"):
        yield noise, tg.gans.VanillaGAN(dense(5, 16, 6), dense(6, 16, 1), 5, noise=noise, cost="least-squares", **about), flat
    yield "dcgan", tg.gans.VanillaGAN(*convolutional(), 5, **about), image
    for average in (False, True):
        judge = nn.Sequential(nn.Dense(6, 8), nn.LeakyReLU(0.2), nn.MinibatchDiscrimination(8, 4, 3, average=average),
                              nn.Dense(12, 1))
        yield f"minibatch {average}", tg.gans.VanillaGAN(dense(5, 16, 6), judge, 5, **about), flat
    judge = nn.Sequential(nn.Dense(6, 8), nn.LeakyReLU(0.2), nn.MinibatchStd(), nn.Dense(9, 1))
    yield "minibatch std", tg.gans.VanillaGAN(dense(5, 16, 6), judge, 5, **about), flat
    papers = [tg.optim.Adam(1e-4, betas=(0.0, 0.9)) for _ in range(2)]  # Gulrajani et al. 2017, Algorithm 1
    yield "wgan-gp", tg.gans.VanillaGAN(dense(5, 16, 6), dense(6, 16, 16, 1), 5, cost="wasserstein", d_steps=2,
                                        penalties={"gradient-penalty": 10.0}, g_optimizer=papers[0], d_optimizer=papers[1],
                                        **about), flat
    yield "r3gan", tg.gans.VanillaGAN(*convolutional(norm_in_d=False), 5, cost="relativistic",
                                      penalties={"r1": 1.0, "r2": 0.5}, **about), image
    yield "r1", tg.gans.VanillaGAN(dense(5, 16, 6), dense(6, 16, 1), 5, penalties={"r1": 1.0}, **about), flat
    for rematerialize in (False, True):
        yield f"unrolled {rematerialize}", tg.gans.UnrolledGAN(
            dense(5, 16, 6), dense(6, 16, 1), 5, unroll_steps=3, rematerialize=rematerialize, **about), flat
    yield "unrolled dcgan", tg.gans.UnrolledGAN(*convolutional(), 5, unroll_steps=2, **about), image
    judge = nn.Sequential(nn.Dense(6, 8), nn.LeakyReLU(0.2), nn.Dropout(0.2), nn.MinibatchDiscrimination(8, 4, 3),
                          nn.Dense(12, 1))
    yield "unrolled minibatch", tg.gans.UnrolledGAN(dense(5, 16, 6), judge, 5, unroll_steps=2, truncate=1, **about), flat
    trunk = nn.Sequential(nn.Dense(6, 12, bias=False), nn.BatchNorm(12), nn.LeakyReLU(0.1))
    yield "infogan", tg.gans.InfoGAN(dense(4 + 3 + 2, 16, 6, last=[nn.Tanh()]), trunk, nn.Dense(12, 1), nn.Dense(12, 5), 4, categorical=(3,),
                                     continuous=2, **about), flat
    conditional = InputDiscriminator(dense(6 + 3, 12, 1), planes=False)
    yield "conditional", tg.gans.ConditionalGAN(dense(5 + 3, 16, 6), conditional, 5, 3, **about), flat
    yield "discogan", tg.gans.DiscoGAN(dense(3, 12, 3), dense(3, 12, 3), dense(3, 12, 1), dense(3, 12, 1), shape_a=(3,),
                                       shape_b=(3,), **about), flat


def on_host(array):
    return backend_of(array).to_numpy(array)


def gradients(gan, real, conditions):
    """The gradients of both players in one array, as the ranks together take them."""
    with gan.in_step(len(real)):
        given = gan._inputs(real, *conditions)
        _, d, *_ = gan.d_gradients(real, given)
        if isinstance(gan, tg.gans.UnrolledGAN):
            _, g = gan.unrolled_gradients(real, given)
        else:
            _, g = gan.g_gradients(given, real)
        return np.concatenate([on_host(a.array).ravel() for a in means_over_ranks([*d, *g])])


def train(world, dtype, captured=False, few=False, device="cpu"):
    """Results by name: the gradients, the state after some steps and the last statistics of every GAN."""
    rank, size = (0, 1) if world is None else (world.rank, world.size)
    found = {}
    for name, gan, shape in gans(world):
        if few and name not in FEW:
            continue
        for network in (gan.generator, gan.discriminator, *([] if gan.average is None else [gan.average.module])):
            network.astype(dtype)
        gan.to(device)
        n, k = N // size, gan.d_steps
        labels = np.arange(k * N) % 3

        def part(a, n=n, k=k):
            return a.reshape(k, N, *a.shape[1:])[:, rank * n:(rank + 1) * n].reshape(k * n, *a.shape[1:])

        given = () if not gan.takes_labels else (part(labels),)
        real = part(Key(7).fold(0).uniform((k * N, *shape), -1, 1, np.float64)).astype(dtype)
        real = tg.devices.to_device(real, device)
        conditions = () if not given else (gan._one_hot("test", given[0], k * n)[:n],)
        found[f"{name}: gradients"] = gradients(gan, real[:n], conditions)
        step = tg.capture(gan.step) if captured else gan.step
        losses = []
        for i in range(STEPS[device][dtype]):
            batch = part(Key(7).fold(i).uniform((k * N, *shape), -1, 1, np.float64)).astype(dtype)
            stats = step(tg.devices.to_device(batch, device), *given)
            losses.append(np.array([float(value) for value in stats]))
        found[f"{name}: losses"] = np.array(losses)
        state = gan.state_dict()
        found |= {f"{name}: {path}": state[path] for path in state}
    return found


def main(folder, few="", device="cpu"):
    world = tg.distributed.World() if "PMI_RANK" in os.environ else None
    options = {"few": few == "few", "device": device}
    found = {f"exact {name}": a for name, a in train(world, np.float64, **options).items()}
    found |= {f"float32 {name}": a for name, a in train(world, np.float32, **options).items()}
    replayed = train(world, np.float32, captured=True, **options)
    for name, a in replayed.items():
        assert np.array_equal(a, found[f"float32 {name}"], equal_nan=True), f"captured: {name}"
    if world is not None:  # all ranks have the same weights, to the last bit
        for name, a in found.items():
            every = world.gather(np.atleast_1d(np.asarray(a)))
            assert all(np.array_equal(every[0], one, equal_nan=True) for one in every), f"the ranks differ: {name}"
    if world is None or world.rank == 0:
        np.savez(Path(folder) / f"{'alone' if world is None else world.size}.npz", **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
