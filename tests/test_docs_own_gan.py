"""docs/how-to/own-gan.md: its code does what the text says, and is as short as it promises. (`test_docs_code.py` runs it.)"""
from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinygan as tg
from tinygan.random import Key

PAGE = Path(__file__).parents[1] / "docs" / "how-to" / "own-gan.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def page() -> Iterator[dict[str, Any]]:
    """The names that the page defines, after its code has run, without the block that trains on MNIST."""
    before = dict(tg.gans.COSTS)
    names: dict[str, Any] = {"__name__": "own_gan"}
    for block in BLOCKS[:2] + BLOCKS[3:]:
        exec(compile(block, PAGE.name, "exec"), names)
    yield names
    tg.gans.COSTS.clear()
    tg.gans.COSTS.update(before)


def test_a_cost_takes_15_lines_and_a_game_60() -> None:
    _, cost, _, game = BLOCKS
    assert 'COSTS["pearson"]' in cost and len(cost.splitlines()) <= 15
    assert "class FeatureMatchingGAN" in game and len(game.splitlines()) <= 60


def test_both_games_learn_the_data(page: dict[str, Any]) -> None:
    for name in ("gan", "matching"):
        samples = page[name].sample(1000)
        np.testing.assert_allclose(samples.mean(0), [1.0, -0.5], atol=0.3, err_msg=name)
        assert page[name].steps == 400


def test_the_cost_is_its_formulas_and_trains(page: dict[str, Any]) -> None:
    cost = tg.gans.COSTS["pearson"]
    r, f = np.array([[0.5], [2.0]]), np.array([[-1.5], [0.25]])
    logits = tg.gans.batches.Logits((tg.Tensor(r), tg.Tensor(f)))
    names = {"r": r, "f": f, "t": 0.9, "mean": np.mean}
    assert cost.d_loss(logits, 0.9).item() == pytest.approx(eval(cost.d_formula, {}, names))
    assert cost.g_loss(tg.Tensor(f), None).item() == pytest.approx(eval(cost.g_formula, {}, names))
    gan = tg.gans.VanillaGAN(page["generator"], page["discriminator"], 8, cost="pearson", label_smoothing=0.1, key=Key(0))
    first = [gan.step(real).d_loss for real in page["data"][:30]]
    assert np.isfinite(first).all()


def test_the_game_matches_features(page: dict[str, Any]) -> None:
    matching, real, z = page["matching"], page["data"][0], Key(3).normal((64, 8))
    loss, gradients = matching.g_gradients(z, real)
    means = [np.asarray(matching.features(x)).mean(0) for x in (real, np.asarray(matching.generator(z)))]
    assert loss.item() == pytest.approx(float(np.square(means[0] - means[1]).sum()), rel=1e-4)
    assert [g.shape for g in gradients] == [p.shape for p in matching.g_parameters]
