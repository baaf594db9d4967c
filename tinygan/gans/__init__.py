"""The GANs. `gan` has what they share, and each variant has a file of its own. The choices that have names are tables in
`costs`, `noises` and `unrolled`."""
from tinygan.gans.costs import GENERATOR_COSTS
from tinygan.gans.dcgan import IMAGE_SIZES, dcgan_networks
from tinygan.gans.gan import GAN, Stats
from tinygan.gans.minibatch import minibatch_networks
from tinygan.gans.noises import NOISES
from tinygan.gans.unrolled import NETWORKS, ORDERS, UnrolledGAN
from tinygan.gans.vanilla import VanillaGAN, vanilla_networks

__all__ = ["GAN", "Stats", "VanillaGAN", "vanilla_networks", "GENERATOR_COSTS", "NOISES", "dcgan_networks", "IMAGE_SIZES",
           "minibatch_networks", "UnrolledGAN", "ORDERS", "NETWORKS"]
