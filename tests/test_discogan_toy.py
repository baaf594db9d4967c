"""The toy experiment of DiscoGAN: its measures, and its rows."""
import importlib
import json
from pathlib import Path

import numpy as np
import pytest

from tinygan.random import Key

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture
def toy(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("discogan_toy")


def test_measures_of_known_translations(toy):
    """Every mode of A to one mode of B of its own and home again; all modes to one; and home to the next mode."""
    class Sends:
        def __init__(self, there, home):
            self.there, self.home = np.array(there), np.array(home)

        def cycles(self, pairs):
            modes = toy.nearest(pairs[:, :2], toy.A)[0]
            there = toy.B.centres[self.there[modes]]
            return [pairs[:, :2], there, toy.A.centres[self.home[modes]], None, None, None]

    own = toy.measure(Sends([0, 2, 4, 6, 8], range(5)), Key(0))
    assert own == {"modes": 5, "high_quality": 100, "alone": 100, "home": 100}
    one = toy.measure(Sends([3] * 5, [1, 2, 3, 4, 4]), Key(0))
    assert one["modes"] == 1 and one["high_quality"] == 100
    assert one["alone"] == pytest.approx(20, abs=2) and one["home"] == pytest.approx(20, abs=2)


def test_pairs_lie_on_both_half_rings(toy):
    pairs = toy.pairs(2000, Key(0))
    assert toy.nearest(pairs[:, :2], toy.A)[1].mean() > 0.98 and toy.nearest(pairs[:, 2:], toy.B)[1].mean() > 0.98
    assert toy.A.centres[:, 1].min() > -1e-6 and toy.B.centres[:, 1].max() < 1e-6
    assert len(toy.A.centres) == 5 and len(toy.B.centres) == 10


def test_a_row_for_each_method_and_seed_is_made_once(toy, tmp_path, capsys):
    flags = ["--steps", "3", "--batch", "4", "--json", str(tmp_path / "rows.json"), "--figure", str(tmp_path / "points.png")]
    assert toy.main([*flags, "--seeds", "1", "--methods", "both"]) == 0
    first = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert toy.main([*flags, "--seeds", "2"]) == 0
    rows = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert rows[:1] == first
    assert sorted((row["method"], row["seed"]) for row in rows) == [
        (method, seed) for method in ("both", "none", "one-sided") for seed in (0, 1)]
    assert "| one-sided |" in capsys.readouterr().out and (tmp_path / "points.png").is_file()
