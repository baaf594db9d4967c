"""The GANs that the command line knows. Each has a file with its settings and how to build it. `game` has what they
share."""
from __future__ import annotations

__all__ = ["ConditionalSettings", "DCGANSettings", "DiscoGANSettings", "GameSettings", "InfoGANSettings",
           "MinibatchSettings", "ModernSettings", "UnrolledSettings", "VARIANTS", "VanillaSettings", "Variant",
           "WGANGPSettings", "build_conditional", "build_dcgan", "build_discogan", "build_infogan", "build_minibatch",
           "build_modern", "build_unrolled", "build_vanilla", "build_wgan_gp", "find", "is_younger", "on_resume"]

from dataclasses import fields

from ..errors import RunError
from ..settings import Resume
from .conditional import ConditionalSettings, build_conditional
from .dcgan import DCGANSettings, build_dcgan
from .discogan import DiscoGANSettings, build_discogan
from .game import GameSettings, Variant
from .infogan import InfoGANSettings, build_infogan
from .minibatch import MinibatchSettings, build_minibatch
from .modern import ModernSettings, build_modern
from .unrolled import UnrolledSettings, build_unrolled
from .vanilla import VanillaSettings, build_vanilla
from .wgan_gp import WGANGPSettings, build_wgan_gp

VARIANTS = {variant.name: variant for variant in (
    Variant(VanillaSettings, build_vanilla, "the first GAN (Goodfellow et al. 2014)"),
    Variant(DCGANSettings, build_dcgan, "convolutional networks (Radford et al. 2016)"),
    Variant(MinibatchSettings, build_minibatch,
            "the discriminator sees how alike the images of a batch are (Salimans et al. 2016)"),
    Variant(UnrolledSettings, build_unrolled,
            "the generator foresees the discriminator's next updates (Metz et al. 2017)"),
    Variant(WGANGPSettings, build_wgan_gp,
            "a critic with a penalty measures a distance between two sets of images (Gulrajani et al. 2017)"),
    Variant(DiscoGANSettings, build_discogan,
            "translates images into another form and back (Kim et al. 2017)"),
    Variant(ModernSettings, build_modern,
            "R3GAN: residual networks, images compared in pairs, two penalties (Huang et al. 2024)"),
    Variant(InfoGANSettings, build_infogan,
            "finds categories without labels, such as which digit it is (Chen et al. 2016)"),
    Variant(ConditionalSettings, build_conditional,
            "makes images of the class that you ask for (Mirza, Osindero 2014; Miyato, Koyama 2018)"),
)}
"""The GANs that the command line knows, by name."""

_FIELDS = {item.name: item.metadata for variant in VARIANTS.values() for item in fields(variant.settings)}


def on_resume(setting: str) -> Resume:
    """Whether the setting with that name may change when a run is resumed. Settings of a user's program may not."""
    return _FIELDS[setting]["resume"] if setting in _FIELDS else Resume.FIXED


def is_younger(setting: str) -> bool:
    """Whether there are run folders that are older than the setting with that name."""
    return setting in _FIELDS and _FIELDS[setting]["younger"]


def find(name: str) -> Variant:
    """The variant called `name`."""
    if name not in VARIANTS:
        raise RunError(f"no variant is called {name!r}; there are {', '.join(sorted(VARIANTS))}")
    return VARIANTS[name]
