"""Generative adversarial nets (Goodfellow et al. 2014, Algorithm 1) on MNIST.

    python examples/vanilla_mnist.py                          60 epochs; watch runs/vanilla/samples
    python examples/vanilla_mnist.py --resume --epochs 100    go on with it
    python examples/vanilla_mnist.py --help                   every flag
"""
import sys

import tinygan as tg


def main(settings: tg.training.VanillaSettings) -> None:
    # The data: MNIST, or what --data-dir names. Float32 images (N, 1, 28, 28) in [-1, 1].
    data = tg.data.load(settings.data_dir, **settings.reading())

    # The players: the generator makes an image of a latent vector, 100-256-512-1024-784, leaky ReLU and tanh; the
    # discriminator makes one logit of an image, 784-512-256-1. D(x) = sigmoid(logit): "how likely is x real?"
    generator, discriminator = tg.gans.vanilla_networks(data.image_shape, settings.latent_dim)
    betas = (settings.beta1, 0.999)

    # The game. Its step(real) is one round of Algorithm 1:
    #   d_steps times: on fresh data x and fresh noise z, make the discriminator better at log D(x) + log(1 - D(G(z)));
    #   then once: on fresh noise z, make the generator better at log D(G(z)) (the non-saturating cost, by default).
    gan = tg.gans.VanillaGAN(
        generator, discriminator, latent_dim=settings.latent_dim, d_steps=settings.d_steps,
        generator_cost=settings.generator_cost, noise=settings.noise, label_smoothing=settings.label_smoothing,
        g_optimizer=tg.optim.Adam(settings.g_learning_rate or settings.learning_rate, betas=betas),
        d_optimizer=tg.optim.Adam(settings.learning_rate, betas=betas),
        key=tg.random.Key(settings.seed),
    )

    # The run: every epoch shuffles the data and takes one step a batch; losses, samples and a checkpoint are kept.
    tg.training.train(gan, data, settings)


if __name__ == "__main__":
    sys.exit(tg.training.main(main, "vanilla"))
