"""The GANs. What they share is in `gan`; each variant's file has what makes it different, and nothing else."""
from tinygan.gans.dcgan import IMAGE_SIZES, dcgan_networks
from tinygan.gans.gan import GAN, Stats
from tinygan.gans.minibatch import minibatch_networks
from tinygan.gans.unrolled import ORDERS, UnrolledGAN
from tinygan.gans.vanilla import GENERATOR_COSTS, VanillaGAN, vanilla_networks

__all__ = ["GAN", "Stats", "VanillaGAN", "vanilla_networks", "GENERATOR_COSTS", "dcgan_networks", "IMAGE_SIZES",
           "minibatch_networks", "UnrolledGAN", "ORDERS"]
