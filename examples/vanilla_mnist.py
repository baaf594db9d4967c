"""Generative adversarial nets (Goodfellow et al. 2014, Algorithm 1) on MNIST.

    python examples/vanilla_mnist.py                          60 epochs; watch runs/vanilla/samples
    python examples/vanilla_mnist.py --resume --epochs 100    continue it
    python examples/vanilla_mnist.py --help                   every flag
"""
import sys

import tinygan as tg


def main(settings: tg.training.VanillaSettings) -> None:
    # The data: MNIST, or what --data-dir names. Float32 images (N, 1, 28, 28) in [-1, 1].
    data = tg.data.load(settings.data_dir, **settings.reading())

    # The networks. The generator turns a latent vector into an image: 100-256-512-1024-784, with leaky ReLU and tanh. The
    # discriminator turns an image into one logit: 784-512-256-1. D(x) = sigmoid(logit): "how likely is x real?"
    generator, discriminator = tg.gans.vanilla_networks(data.image_shape, settings.latent_dim)

    # The GAN. gan.step(real) is one round of Algorithm 1:
    #   d_steps times: on new data x and new noise z, update the discriminator to increase log D(x) + log(1 - D(G(z)));
    #   then once: on new noise z, update the generator to increase log D(G(z)) (by default, the non-saturating cost).
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
    sys.exit(tg.training.main(main, "vanilla"))
