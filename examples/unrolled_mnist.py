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

    # The players: those of vanilla_mnist.py, or of dcgan_mnist.py.
    networks = tg.gans.NETWORKS[settings.networks]
    generator, discriminator = networks(data.image_shape, settings.latent_dim)
    betas = (settings.beta1, 0.999)

    # The game: before its own update the generator lets the discriminator make `unroll_steps` updates on trial, and takes
    # the gradient of its cost after them. The gradient goes back through all those updates, Adam included. To chase the one
    # image that fools the discriminator of this moment no longer pays: the discriminator's answer is part of the gradient.
    gan = tg.gans.UnrolledGAN(
        generator, discriminator, latent_dim=settings.latent_dim, unroll_steps=settings.unroll_steps,
        truncate=settings.truncate, order=settings.order, d_steps=settings.d_steps,
        generator_cost=settings.generator_cost, noise=settings.noise, label_smoothing=settings.label_smoothing,
        g_optimizer=tg.optim.Adam(settings.g_learning_rate or settings.learning_rate, betas=betas),
        d_optimizer=tg.optim.Adam(settings.learning_rate, betas=betas),
        key=tg.random.Key(settings.seed),
    )

    # The run: every epoch shuffles the data and takes one step a batch; losses, samples and a checkpoint are kept.
    tg.training.train(gan, data, settings)


if __name__ == "__main__":
    sys.exit(tg.training.main(main, "unrolled"))
