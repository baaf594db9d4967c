"""One training step of a variant of `tinygan train`, with the settings of the command line, on MNIST or its stand-in."""
from typing import Any

from kernels_loaded import THREADS

import tinygan as tg
from tinygan import training
from tinygan.random import Key
from tinygan.runs.labels import takes_labels


class Subject:
    def __init__(self, variant: str, batch: int, data_dir: str | None) -> None:
        chosen = training.VARIANTS[variant]
        settings: Any = chosen.settings()
        data = settings.prepare(tg.data.load(data_dir))
        self.gan: Any = chosen.build(settings.suited(data), data.image_shape)
        self.images = batch * self.gan.d_steps
        picked = Key(0).integers(self.images, 0, len(data))
        self.arguments = [data.batch(picked), *([data.labels[picked]] if takes_labels(self.gan) else [])]
        self.train = tg.capture(self.gan.step)

    def step(self) -> None:
        self.train(*self.arguments)

    def about(self) -> dict[str, Any]:
        """The images of a step, and the parameters of both players."""
        sizes = {name: sum(p.size for p in player.parameters())
                 for name, player in (("generator", self.gan.generator), ("discriminator", self.gan.discriminator))}
        return {"images": self.images, "parameters": sizes}

    def threads(self) -> int:
        return THREADS

    def blas(self) -> list[str]:
        return ["tinygan's own kernels"]
