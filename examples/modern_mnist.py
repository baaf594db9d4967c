"""R3GAN (Huang et al. 2024, "The GAN is dead; long live the GAN!") at small size, on MNIST or on your own images.

    python examples/modern_mnist.py                                          20 epochs; watch runs/modern/samples
    python examples/modern_mnist.py --resume --epochs 40                     continue it
    python examples/modern_mnist.py --width 64 --blocks 2 --run-dir runs/wide
    python examples/modern_mnist.py --help                                   every flag
"""
import sys

import tinygan as tg


def main(settings: tg.training.ModernSettings) -> None:
    # The data: MNIST, or what --data-dir names. Float32 images (N, 1 or 3, S, S) in [-1, 1], S = 28, 32 or 64.
    data = tg.data.load(settings.data_dir, **settings.reading())

    # The networks: residual blocks of convolutions with biases and leaky ReLU, and bilinear interpolation between the sizes.
    # There is no normalisation, so the gradient of each image's score can be penalised.
    generator, discriminator = tg.gans.modern_networks(data.image_shape, settings.latent_dim, settings.width,
                                                       settings.blocks)

    # The game (RpGAN + R1 + R2): each real image should get a higher score than the generated image that it is compared
    # with. The discriminator minimises softplus(D(G(z)) - D(x)), the generator softplus(D(x) - D(G(z))). The penalties, the
    # squared norms of D's gradient at real images (R1) and at generated ones (R2), are in every update.
    #
    # The schedules: learning rate, beta2, the penalties' weights and the half-life of the generator's average all go from
    # their first value to their last one over the burn-in, along half a cosine. They count images.
    images = settings.batch_size * settings.d_steps  # in one step: one update of the generator
    half_life = tg.optim.cosine_decay(0, settings.half_life, settings.burn_in)
    average = tg.optim.half_life(half_life, images) if settings.half_life else None
    gan = tg.gans.VanillaGAN(
        generator, discriminator, latent_dim=settings.latent_dim, d_steps=settings.d_steps,
        cost=settings.cost, noise=settings.noise, label_smoothing=settings.label_smoothing,
        penalties={name: settings.along(weight, settings.last_penalty * weight, images)
                   for name, weight in settings.penalties.items() if weight},
        d_optimizer=settings.adam(settings.learning_rate, settings.batch_size),
        g_optimizer=settings.adam(settings.g_learning_rate or settings.learning_rate, images),
        ema=average if settings.ema is None else settings.ema,
        key=tg.random.Key(settings.seed),
    )

    # The run: every epoch shuffles the data and makes one step per batch. Losses, samples and a checkpoint are saved.
    tg.training.train(gan, data, settings)


if __name__ == "__main__":
    sys.exit(tg.training.main(main, "modern"))
