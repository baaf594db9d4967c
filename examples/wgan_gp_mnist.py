"""WGAN-GP (Gulrajani, Ahmed, Arjovsky, Dumoulin, Courville 2017) on MNIST, or on your own images.

    python examples/wgan_gp_mnist.py                                          60 epochs; watch runs/wgan_gp/samples
    python examples/wgan_gp_mnist.py --resume --epochs 120                    continue it
    python examples/wgan_gp_mnist.py --d-steps 2 --run-dir runs/two           two updates of the critic instead of five
    python examples/wgan_gp_mnist.py --help                                   every flag
"""
import sys

import tinygan as tg


def main(settings: tg.training.WGANGPSettings) -> None:
    # The data: MNIST, or what --data-dir names. Float32 images (N, 1 or 3, S, S) in [-1, 1], S = 28 or 64.
    data = tg.data.load(settings.data_dir, **settings.reading())

    # The networks: those of dcgan_mnist.py, but without batch norm in the discriminator, which is called a critic here. It
    # gives each image a score, which is not a probability.
    generator, critic = tg.gans.wgan_gp_networks(data.image_shape, settings.latent_dim, settings.width)

    # The training step is Algorithm 1 with another cost. The critic increases mean(D(x)) - mean(D(G(z))): for the best D
    # whose slope is at most 1 everywhere, that is the Wasserstein distance between data and generated images. The penalty
    # keeps the slope near 1: its weight times mean((|grad D| - 1)^2), at random points between a real and a generated image.
    # The columns d_real and d_fake of metrics.csv are the critic's mean scores. Their difference should fall.
    gan = tg.gans.VanillaGAN(
        generator, critic, latent_dim=settings.latent_dim, d_steps=settings.d_steps,
        cost=settings.cost, penalties=settings.penalties, noise=settings.noise, label_smoothing=settings.label_smoothing,
        g_optimizer=tg.optim.Adam(settings.g_learning_rate or settings.learning_rate, betas=settings.betas),
        d_optimizer=tg.optim.Adam(settings.learning_rate, betas=settings.betas),
        ema=settings.ema, key=tg.random.Key(settings.seed),
    )

    # The run: every epoch shuffles the data and makes one step per batch. Losses, samples and a checkpoint are saved.
    tg.training.train(gan, data, settings)


if __name__ == "__main__":
    sys.exit(tg.training.main(main, "wgan_gp"))
