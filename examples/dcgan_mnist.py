"""DCGAN (Radford, Metz, Chintala 2015) on MNIST, or on your own images.

    python examples/dcgan_mnist.py                                            20 epochs; watch runs/dcgan/samples
    python examples/dcgan_mnist.py --resume --epochs 40                       continue it
    python examples/dcgan_mnist.py --data-dir PHOTOS --image-size 64 --run-dir runs/photos
    python examples/dcgan_mnist.py --help                                     every flag
"""
import sys

import tinygan as tg


def main(settings: tg.training.DCGANSettings) -> None:
    # The data: MNIST, or what --data-dir names. Float32 images (N, 1 or 3, S, S) in [-1, 1], S = 28 or 64.
    data = tg.data.load(settings.data_dir, **settings.reading())

    # The networks. The generator projects a latent vector to many small feature maps (128 of 7 x 7). Transposed convolutions
    # of stride 2 make them fewer and larger, up to the image. It uses batch norm, ReLU, and tanh at the end. The
    # discriminator goes the opposite way, with strided convolutions and leaky ReLU, to one logit. There is no pooling.
    generator, discriminator = tg.gans.dcgan_networks(data.image_shape, settings.latent_dim, settings.width)

    # The training step is the same as in vanilla_mnist.py: Algorithm 1 of Goodfellow et al. 2014, with other networks.
    gan = tg.gans.VanillaGAN(
        generator, discriminator, latent_dim=settings.latent_dim, d_steps=settings.d_steps,
        cost=settings.cost, penalties=settings.penalties, noise=settings.noise, label_smoothing=settings.label_smoothing,
        g_optimizer=tg.optim.Adam(settings.g_learning_rate or settings.learning_rate, betas=settings.betas),
        d_optimizer=tg.optim.Adam(settings.learning_rate, betas=settings.betas),
        ema=settings.ema, key=tg.random.Key(settings.seed),
    )

    # The run: every epoch shuffles the data and makes one step per batch. Losses, samples and a checkpoint are saved.
    tg.training.train(gan, data, settings)


if __name__ == "__main__":
    sys.exit(tg.training.main(main, "dcgan"))
