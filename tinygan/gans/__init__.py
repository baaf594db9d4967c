"""The GANs. `gan` has what they share, and each variant has a file of its own. The choices that have names are tables in
`costs`, `penalties`, `noises` and `unrolled`."""
from tinygan.gans.codes import Codes
from tinygan.gans.conditional import CONDITIONINGS, ConditionalGAN, conditional_networks
from tinygan.gans.costs import COSTS, Cost
from tinygan.gans.dcgan import IMAGE_SIZES, dcgan_networks
from tinygan.gans.discogan import RECONSTRUCTIONS, DiscoGAN, discogan_networks
from tinygan.gans.gan import GAN, Stats
from tinygan.gans.infogan import InfoGAN, InfoStats, infogan_networks
from tinygan.gans.minibatch import minibatch_networks
from tinygan.gans.modern import MODERN_SIZES, modern_networks
from tinygan.gans.noises import NOISES
from tinygan.gans.penalties import PENALTIES, Penalty
from tinygan.gans.unrolled import NETWORKS, ORDERS, UnrolledGAN
from tinygan.gans.vanilla import VanillaGAN, vanilla_networks
from tinygan.gans.wgan_gp import wgan_gp_networks

__all__ = ["GAN", "Stats", "VanillaGAN", "vanilla_networks", "COSTS", "Cost", "PENALTIES", "Penalty", "NOISES",
           "dcgan_networks", "IMAGE_SIZES", "minibatch_networks", "wgan_gp_networks", "modern_networks",
           "MODERN_SIZES", "UnrolledGAN", "ORDERS", "NETWORKS", "DiscoGAN", "RECONSTRUCTIONS", "discogan_networks",
           "InfoGAN", "InfoStats", "Codes", "infogan_networks", "ConditionalGAN", "CONDITIONINGS", "conditional_networks"]
