"""The table of all variants: what a row depends on, how often each variant passes over the images, and what the table shows."""
import importlib
import json
from pathlib import Path

import numpy as np
import pytest

from tinygan import training
from tinygan.data import Dataset
from tinygan.random import Key

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
MEASURED = {"frechet": 2.0, "precision": 0.5, "recall": 0.25, "kl": 0.1, "confidence": 0.9}


@pytest.fixture
def zoo(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("zoo")


def test_all_generators_are_updated_equally_often(zoo):
    options = zoo.arguments(["--json", "-", "--epochs", "3"])
    few = Dataset("few", np.zeros((600, 1, 28, 28), np.uint8), np.arange(600) % 10, "few")

    def images(settings):
        """How many images, or pairs of images, an epoch of MNIST has."""
        return 100 * len(settings.prepare(few))

    updates = {name: zoo.passes(name, options) * (images(variant.settings()) // (64 * variant.settings.d_steps))
               for name, variant in training.VARIANTS.items()}  # fmt: skip
    assert zoo.passes("wgan_gp", options) == 15 and zoo.passes("discogan", options) == 6
    assert max(updates.values()) / min(updates.values()) < 1.01


def test_complete_rows_are_not_made_again(zoo, tmp_path, monkeypatch, capsys):
    made = []

    def measure(variant, seed, options, examiner):
        made.append((variant, seed))
        if len(made) == 3:
            raise RuntimeError("stopped")
        found = {name: value * (1 + seed) for name, value in MEASURED.items()}
        return {"variant": variant, "settings": zoo.settings(variant, options), "seed": seed, "data": "mnist",
                "updates": 3748, **found, "floor": MEASURED, "classifier_version": 2, "seconds": 1.0}  # fmt: skip

    class Examiner:
        def __init__(self, *arguments):
            pass

        def prepare(self):
            return self

    monkeypatch.setattr(zoo, "measure", measure)
    monkeypatch.setattr(zoo, "Examiner", Examiner)
    monkeypatch.setattr(zoo.tg.data, "load", lambda *a, **k: None)
    flags = ["--json", str(tmp_path / "zoo.json"), "--variants", "vanilla", "wgan_gp", "--seeds", "2"]
    assert zoo.main(flags) == 1
    assert "stopped" in capsys.readouterr().err
    assert zoo.main(flags) == 0
    assert made == [("vanilla", 0), ("wgan_gp", 0), ("vanilla", 1), ("vanilla", 1), ("wgan_gp", 1)]
    table = capsys.readouterr().out
    assert "| vanilla | 2 | 3748 | 3 (2 to 4) |" in table and "| real images |  |  | 2 | 0.5 |" in table
    assert zoo.main([*flags, "--epochs", "1"]) == 0  # other settings have rows of their own
    assert len(json.loads((tmp_path / "zoo.json").read_text())["rows"]) == 8


def test_a_file_of_another_experiment_is_refused(zoo, tmp_path, capsys):
    path = tmp_path / "ring.json"
    path.write_text(json.dumps({"experiment": "ring", "rows": []}))
    assert zoo.main(["--json", str(path)]) == 1
    assert "rows of 'ring', not of 'zoo'" in capsys.readouterr().err


def test_translated_digits_are_samples(zoo):
    pairs = np.arange(5 * 4 * 2 * 2, dtype=np.float32).reshape(5, 4, 2, 2)

    class Pairs:
        def __len__(self):
            return len(pairs)

        def batch(self, places):
            return pairs[places]

    class Translator:
        def sample(self, z):
            return z + 1

    gan = zoo.Translated(Translator(), Pairs())
    z = gan.latent(5, Key(0))
    assert sorted(z[:, 0, 0, 0]) == list(pairs[:, 0, 0, 0])
    np.testing.assert_array_equal(gan.sample(z=z), z[:, :1] + 1)
