"""A conditional GAN (Mirza and Osindero 2014) on MNIST: it makes the digit that is asked for.

    python examples/conditional_mnist.py                            20 epochs; watch runs/conditional/samples
    python examples/conditional_mnist.py --conditioning projection --cost hinge --run-dir runs/projection
    python examples/conditional_mnist.py --resume --epochs 40       continue it
    python examples/conditional_mnist.py --help                     every flag
    tinygan sample runs/conditional --label 7                       sevens
"""
import sys

import tinygan as tg


def main(settings: tg.training.ConditionalSettings) -> None:
    # The data: MNIST, or what --data-dir names. Float32 images (N, 1 or 3, S, S) in [-1, 1], S = 28 or 64, with
    # labels. In a folder of images, each sub-folder is a class. `suited` fills in how many classes there are.
    data = tg.data.load(settings.data_dir, **settings.reading())
    settings = settings.suited(data)

    # The networks are DCGAN's. The generator's input is a latent vector and the class, as a vector of 0 and 1. The
    # discriminator sees the class as further channels of the image ("input"), or projects the image's features onto a vector
    # that it has learnt for the class ("projection").
    generator, discriminator = tg.gans.conditional_networks(
        data.image_shape, settings.latent_dim, settings.classes, settings.width, settings.conditioning,
        d_norm=not settings.penalties)

    # The training step: Algorithm 1, with the labels of the real images for the generated ones too.
    gan = tg.gans.ConditionalGAN(
        generator, discriminator, latent_dim=settings.latent_dim, classes=settings.classes, d_steps=settings.d_steps,
        cost=settings.cost, penalties=settings.penalties, noise=settings.noise, label_smoothing=settings.label_smoothing,
        g_optimizer=tg.optim.Adam(settings.g_learning_rate or settings.learning_rate, betas=settings.betas),
        d_optimizer=tg.optim.Adam(settings.learning_rate, betas=settings.betas),
        ema=settings.ema, key=tg.random.Key(settings.seed),
    )

    # The run: every epoch shuffles the data and makes one step per batch. Losses, samples and a checkpoint are saved; a
    # picture of samples has a row for each class. `--evaluate 5` measures how many digits are those that were asked for.
    tg.training.train(gan, data, settings)


if __name__ == "__main__":
    sys.exit(tg.training.main(main, "conditional"))
