"""A GAN with minibatch discrimination (Salimans et al. 2016, section 3.2) on MNIST.

    python examples/minibatch_mnist.py                          90 epochs; watch runs/minibatch/samples
    python examples/minibatch_mnist.py --resume --epochs 120    continue it
    python examples/minibatch_mnist.py --help                   every flag
"""
import sys

import tinygan as tg


def main(settings: tg.training.MinibatchSettings) -> None:
    # The data: MNIST, or what --data-dir names. Float32 images (N, 1, 28, 28) in [-1, 1].
    data = tg.data.load(settings.data_dir, **settings.reading())

    # The networks: those of vanilla_mnist.py, with one more layer in the discriminator. For each image, this layer sums
    # exp(-distance) over the other images of the batch, in `kernels` learnt projections, and appends the sums to the
    # features. If the generator makes the same image again and again, the sums are large, and the discriminator notices.
    generator, discriminator = tg.gans.minibatch_networks(
        data.image_shape, settings.latent_dim, settings.kernels, settings.dimensions)

    # The training step is Algorithm 1 of Goodfellow et al. 2014, as in vanilla_mnist.py. Real and generated images go
    # through the discriminator as two batches.
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
    sys.exit(tg.training.main(main, "minibatch"))
