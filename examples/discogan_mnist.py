"""DiscoGAN (Kim et al. 2017) on MNIST: translate digits into coloured or rotated digits and back, learnt without pairs.

    python examples/discogan_mnist.py                          20 epochs, coloured digits; watch runs/discogan/samples
    python examples/discogan_mnist.py --domains rotated --run-dir runs/rotated
    python examples/discogan_mnist.py --resume --epochs 40     continue it
    python examples/discogan_mnist.py --help                   every flag
"""
import sys

import tinygan as tg


def main(settings: tg.training.DiscoGANSettings) -> None:
    # The data: half of the digits as they are, domain A, and the other half coloured or rotated, domain B. An image of A and
    # one of B are one image of more channels, (N, 1 + C_B, 28, 28) in [-1, 1]. They are different digits.
    data = settings.prepare(tg.data.load(settings.data_dir, **settings.reading()))
    channels, height, width = data.image_shape
    shape_a, shape_b = (1, height, width), (channels - 1, height, width)

    # The networks: two generators, A to B and B to A, of convolutions down to 7 x 7 and up again, and two discriminators.
    # To turn a digit, pixels have to move far: then there is a vector in the middle of a generator.
    # With --reconstruction one-sided there is no discriminator of A.
    networks = tg.gans.discogan_networks(shape_a, shape_b, settings.width, settings.reconstruction,
                                         d_norm=not settings.penalties, bottleneck=settings.middle)

    # The training step: both discriminators learn to tell real from translated images. Both generators learn to mislead
    # them, and to return each image when it is translated there and back.
    gan = tg.gans.DiscoGAN(
        *networks, shape_a=shape_a, shape_b=shape_b, reconstruction=settings.reconstruction, weight=settings.weight,
        d_steps=settings.d_steps, cost=settings.cost, penalties=settings.penalties,
        label_smoothing=settings.label_smoothing,
        g_optimizer=tg.optim.Adam(settings.g_learning_rate or settings.learning_rate, betas=settings.betas),
        d_optimizer=tg.optim.Adam(settings.learning_rate, betas=settings.betas),
        ema=settings.ema, key=tg.random.Key(settings.seed),
    )

    # The run: every epoch shuffles the data and makes one step per batch. Losses, samples and a checkpoint are saved.
    # `--evaluate 5` measures every fifth epoch how many translated test digits keep their class.
    tg.training.train(gan, data, settings)


if __name__ == "__main__":
    sys.exit(tg.training.main(main, "discogan"))
