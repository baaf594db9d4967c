"""A type checker finds the mistakes of a program that trains a GAN, and none where there is none."""
from __future__ import annotations

import re
from pathlib import Path

import pytest

PROGRAM = '''
import numpy as np
import tinygan as tg
from tinygan import nn

generator = nn.Sequential(nn.Dense(3, 8), nn.Tanh())
discriminator = nn.Sequential(nn.Dense(8, 1))
images = np.zeros((4, 8), np.float32)
gan = tg.gans.VanillaGAN(generator, discriminator, 3, cost="minimax", key=tg.random.Key(0)).to("cpu")
loss: float = gan.step(images).d_loss
gan.step(tg.Tensor(images)), gan.step([[0.0] * 8])
mean: float = float(gan.sample(4).mean()) + gan.steps
d_loss, gradients, real, fake = gan.d_gradients(images, gan.latent(4))
total: float = d_loss.item() + sum(g.sum().item() for g in gradients)
ahead = tg.gans.UnrolledGAN(generator, discriminator, 3, unroll_steps=2, instance_noise=tg.optim.linear_decay(0.1, 0.0, 9))

gan.step(None)  # wrong: arg-type
gan.sample("4")  # wrong: arg-type
gan.latent(3, 4)  # wrong: arg-type
gan.step(images).loss  # wrong: attr-defined
gan.to("cpu").unroll_steps  # wrong: attr-defined
tg.gans.VanillaGAN(generator, discriminator)  # wrong: call-arg
tg.gans.UnrolledGAN(generator, discriminator, 3, costs="minimax")  # wrong: call-arg
tg.gans.UnrolledGAN(generator, discriminator, 3, d_steps="2")  # wrong: arg-type
tg.training.VanillaSettings(epoch=3)  # wrong: call-arg
'''


def test_mypy_finds_what_is_wrong_and_nothing_else(tmp_path: Path) -> None:
    api = pytest.importorskip("mypy.api")
    (tmp_path / "program.py").write_text(PROGRAM)
    told, errors, _ = api.run(["--strict", "--follow-imports=silent", "--config-file=", "--cache-dir", str(tmp_path / "cache"),
                               str(tmp_path / "program.py")])
    assert not errors
    found = {(int(line), code) for line, code in re.findall(r"program\.py:(\d+): error: .*\[([a-z-]+)\]", told)}
    expected = {(number, line.rpartition("wrong: ")[2]) for number, line in enumerate(PROGRAM.splitlines(), 1) if "wrong: " in line}
    assert found == expected, told
