"""Section (c) of the page: its JSON holds the numbers that `grad` computes."""
from __future__ import annotations

import json
from importlib.resources import files

import numpy as np
import pytest

import tinygan as tg
from tinygan import nn
from tinygan.gans import vanilla_networks
from tinygan.teaching.arrays import unpacked
from tinygan.teaching.records import Absent
from tinygan.teaching.rounds import BATCH
from tinygan.teaching.sections.tape import build, shown

SHAPE = (1, 8, 8)


class Images:
    """Images as a run's data."""

    labels = None

    def __init__(self, shape=SHAPE):
        self.images = np.random.default_rng(0).uniform(-1, 1, (5, *shape)).astype(np.float32)

    def __len__(self):
        return len(self.images)

    def batch(self, places):
        return self.images[places]


class Played:
    """What a section gets of a run."""

    def __init__(self, gan, data=None):
        self.gan, self._data = gan, data or Images()
        self.records, self.config = [{"z": np.zeros((16, 3))}], {"settings": {}}

    def dataset(self):
        return self._data


def game():
    generator = nn.Sequential(nn.Dense(3, 6), nn.ReLU(), nn.Dense(6, 64), nn.Tanh(), nn.Reshape(*SHAPE))
    discriminator = nn.Sequential(nn.Flatten(), nn.Dense(64, 5), nn.LeakyReLU(0.2), nn.Dense(5, 1))
    return tg.gans.VanillaGAN(generator, discriminator, 3, key=tg.random.Key(3))


@pytest.fixture(scope="module")
def section():
    return json.loads(json.dumps(build(Played(game())), allow_nan=False))


def test_it_is_json_with_both_rounds_and_short_texts(section):
    assert [one["name"] for one in section["rounds"]] == ["update of D", "update of G"]
    assert len(section["text"].split()) <= 60
    assert "fills G's 4 gradients and none of D's 4" in section["text"]
    assert "update of D" in section["alt"] and "discriminator.1 Dense(64 -> 5)" in section["alt"]


def test_it_says_why_its_gradients_are_larger_than_those_of_section_a(section):
    """dL/dx of a mean over 2 images is 8 times that of a mean over 16."""
    assert "a mean over 2 images here and over 16 in section (a)" in section["mean"] and "is 8 times as large here" in section["mean"]


def test_its_gradients_are_those_of_grad(section):
    gan, twin = game(), game()
    real = Images().images[:BATCH]
    with tg.fusion(False):
        _, expected_d, _, _ = twin.d_gradients(real, twin.latent(BATCH))
        twin.d_optimizer.step(expected_d)
        _, expected_g = twin.g_gradients(twin.latent(BATCH))
    for one, player, expected in zip(section["rounds"], ("discriminator", "generator"), (expected_d, expected_g), strict=True):
        nodes = {node["op"]: node for node in one["nodes"] if node["kind"] == "parameter"}
        for (path, _), gradient in zip(getattr(gan, player).named_parameters(), expected, strict=True):
            found, g = nodes[f"{player}.{path}"]["gradient"], gradient.numpy()
            if found["kind"] == "small":
                np.testing.assert_allclose(found["values"], g, rtol=1e-6)
            else:
                wide = g.astype(np.float64)
                np.testing.assert_allclose([found["mean"], found["std"], found["min"], found["max"]],
                                           [wide.mean(), wide.std(), wide.min(), wide.max()], rtol=1e-5, atol=1e-9)
                assert sum(found["histogram"]["counts"]) == g.size


def test_only_the_players_own_leaves_get_gradients(section):
    for one, player in zip(section["rounds"], ("discriminator", "generator"), strict=True):
        assert {leaf["player"] for leaf in one["leaves"] if leaf["gets_gradient"]} == {player}
        assert {leaf["player"] for leaf in one["leaves"]} == {"discriminator", "generator"}
    of_d, of_g = section["rounds"]
    image, = of_d["taken_as_constants"]
    node = next(node for node in of_d["nodes"] if node["id"] == image)
    assert node["constant"] and node["shape"] == [BATCH, *SHAPE] and not of_g["taken_as_constants"]


def test_only_gradients_that_are_computed_have_a_formula(section):
    """In the update of G nothing is computed for D's weights; in that of D nothing for the images."""
    of_d, of_g = ({node["layer"].split()[0]: node["formula"]["vjp"] for node in one["nodes"] if node["op"] == "linear"} for one in section["rounds"])
    weights, inputs = "W\N{COMBINING MACRON} =", "X\N{COMBINING MACRON} ="
    for path in ("discriminator.1", "discriminator.3"):
        assert weights not in of_g[path] and inputs in of_g[path] and "W\N{COMBINING MACRON}: not computed here" in of_g[path]
        assert weights in of_d[path]
    assert inputs not in of_d["discriminator.1"] and inputs in of_d["discriminator.3"] and "not computed" not in of_d["discriminator.3"]
    assert "not computed" not in of_g["generator.2"] and inputs not in of_g["generator.0"]


def test_every_node_can_be_shown(section):
    for one in section["rounds"]:
        ids = [node["id"] for node in one["nodes"]]
        visits = sorted(node["visited"] for node in one["nodes"] if node["visited"] is not None)
        assert visits == list(range(len(visits))) and len(visits) > 5
        for node in one["nodes"]:
            assert (node["gradient"] is not None) >= (node["visited"] is not None)
            assert all(parent in ids for parent in node["parents"] if parent is not None)
            if node["kind"] == "op":
                assert node["file"].startswith("tinygan/ops/") and node["line"] > 0
                assert bool(node["formula"]["with_numbers"]) == (node["visited"] is not None)


def test_the_page_holds_only_what_it_draws(section):
    """Every name in the section's JSON is read by the script that draws it."""
    script = (files("tinygan.teaching") / "web" / "tape.js").read_text(encoding="utf-8")
    for one in section["rounds"]:
        for holder in (one, one["nodes"][0], one["nodes"][0]["value"], one["leaves"][0]):
            assert [name for name in holder if f".{name}" not in script and f'"{name}"' not in script] == []


def test_images_are_thumbnails_with_their_range(section):
    of_d = section["rounds"][0]
    real = next(node for node in of_d["nodes"] if node["op"] == "real")["value"]
    images = Images().images[:BATCH]
    levels = unpacked(real["images"]).astype(np.float64)
    restored = real["min"] + levels / 255 * (real["max"] - real["min"])
    np.testing.assert_allclose(restored, images, atol=(real["max"] - real["min"]) / 255)


def test_kinds_of_values():
    assert shown(np.float32(0.1) * np.ones((), np.float32)) == {"kind": "number", "value": 0.100000001}
    assert shown(np.array([1.0, np.nan, np.inf])) == {"kind": "small", "values": [1.0, None, None]}
    signed = shown(np.linspace(-1, 3, 64).reshape(1, 1, 8, 8), signed=True)
    assert (signed["kind"], signed["min"], signed["max"]) == ("image", -3.0, 3.0)
    same = shown(np.full((40,), 2.0))
    assert (same["kind"], same["std"], sum(same["histogram"]["counts"])) == ("summary", 0.0, 40)
    broken = shown(np.array([np.nan] * 40))
    assert (broken["mean"], sum(broken["histogram"]["counts"])) == (0.0, 0)
    assert shown(np.zeros((2, 8, 8, 8)))["kind"] == "summary"  # feature maps are no images


def test_data_in_the_plane():
    generator = nn.Sequential(nn.Dense(3, 4), nn.ReLU(), nn.Dense(4, 2))
    discriminator = nn.Sequential(nn.Dense(2, 4), nn.ReLU(), nn.Dense(4, 1))
    found = build(Played(tg.gans.VanillaGAN(generator, discriminator, 3), Images((2,))))
    assert next(node for node in found["rounds"][0]["nodes"] if node["op"] == "real")["value"]["kind"] == "small"


def test_what_cannot_be_shown_says_why():
    found = build(Played(game(), Absent("MNIST was not found.")))
    assert found == Absent("The tape needs 2 images of the run's data. MNIST was not found.")

    class Own:
        generator = discriminator = None

    assert "d_gradients" in build(Played(Own())).reason

    class Elsewhere(tg.gans.VanillaGAN):
        def step(self, real):
            return None

    assert "Elsewhere.step does not call" in build(Played(Elsewhere(*vanilla_networks(SHAPE, 3), 3))).reason
