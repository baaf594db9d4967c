"""The unrolled GAN (Metz, Poole, Pfau, Sohl-Dickstein 2017) on MNIST.

    python examples/unrolled_mnist.py                           20 epochs; watch runs/unrolled/samples
    python examples/unrolled_mnist.py --unroll-steps 10         look further ahead
    python examples/unrolled_mnist.py --networks dcgan --run-dir runs/unrolled-dcgan
    python examples/unrolled_mnist.py --help                    every flag
"""
import sys

import tinygan as tg


def main(settings: tg.training.UnrolledSettings) -> None:
    # The data: MNIST, or what --data-dir names. Float32 images (N, 1, 28, 28) in [-1, 1].
    data = tg.data.load(settings.data_dir, **settings.reading())

    # The networks: those of vanilla_mnist.py, or of dcgan_mnist.py.
    networks = tg.gans.NETWORKS[settings.networks]
    generator, discriminator = networks(data.image_shape, settings.latent_dim)

    # The training step: before the generator's update, a copy of the discriminator makes `unroll_steps` updates. The
    # generator minimises its cost after them, and the gradient goes back through all these updates, Adam included. So the
    # gradient contains the discriminator's reaction. It no longer helps to make just the one image that fools it now.
    gan = tg.gans.UnrolledGAN(
        generator, discriminator, latent_dim=settings.latent_dim, unroll_steps=settings.unroll_steps,
        truncate=settings.truncate, order=settings.order, d_steps=settings.d_steps,
        cost=settings.cost, penalties=settings.penalties, noise=settings.noise, label_smoothing=settings.label_smoothing,
        g_optimizer=tg.optim.Adam(settings.g_learning_rate or settings.learning_rate, betas=settings.betas),
        d_optimizer=tg.optim.Adam(settings.learning_rate, betas=settings.betas),
        ema=settings.ema, key=tg.random.Key(settings.seed),
    )

    # The run: every epoch shuffles the data and makes one step per batch. Losses, samples and a checkpoint are saved.
    tg.training.train(gan, data, settings)


if __name__ == "__main__":
    sys.exit(tg.training.main(main, "unrolled"))
