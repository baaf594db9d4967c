"""InfoGAN (Chen et al. 2016) on MNIST: codes that come to mean the digit, its slant and its width, learnt without labels.

    python examples/infogan_mnist.py                           11 epochs; watch runs/infogan/samples and losses.png
    tinygan traverse runs/infogan                              one code varied at a time
    python examples/infogan_mnist.py --categorical 10,2 --continuous 3 --run-dir runs/codes
    python examples/infogan_mnist.py --resume --epochs 20      continue it
    python examples/infogan_mnist.py --help                    every flag
"""
import sys

import tinygan as tg


def main(settings: tg.training.InfoGANSettings) -> None:
    # The data: MNIST, or what --data-dir names. Float32 images (N, C, H, W) in [-1, 1]. The labels are not used.
    data = tg.data.load(settings.data_dir, **settings.reading())

    # The networks. A latent vector is 62 numbers of noise, a category (10 numbers, one of which is 1) and two numbers from
    # -1 to 1. The discriminator and Q share their first layers, `trunk`. `head` makes the discriminator's logit, and `q`
    # guesses the codes that an image was made from.
    codes = {"categorical": settings.codes.categorical, "continuous": settings.codes.continuous}
    generator, trunk, head, q = tg.gans.infogan_networks(
        data.image_shape, settings.latent_dim, **codes, width=settings.width, hidden=settings.hidden,
        d_norm=settings.d_norm and not settings.penalties)

    # The training step: Algorithm 1 of Goodfellow et al. 2014. Beside it, the generator learns to make images from which Q
    # can read the codes, and Q learns to read them. The bound of the information rises to log 10 = 2.30 for the category.
    gan = tg.gans.InfoGAN(
        generator, trunk, head, q, settings.latent_dim, **codes, weight=settings.information, noise=settings.noise,
        d_steps=settings.d_steps, cost=settings.cost, penalties=settings.penalties,
        label_smoothing=settings.label_smoothing,
        g_optimizer=tg.optim.Adam(settings.g_learning_rate or settings.learning_rate, betas=settings.betas),
        d_optimizer=tg.optim.Adam(settings.learning_rate, betas=settings.betas),
        ema=settings.ema, key=tg.random.Key(settings.seed),
    )

    # The run: every epoch shuffles the data and makes one step per batch. Losses, samples and a checkpoint are saved.
    # `--evaluate 5` measures every fifth epoch how often the category that Q reads off a test image is its digit.
    tg.training.train(gan, data, settings)


if __name__ == "__main__":
    sys.exit(tg.training.main(main, "infogan"))
