"""Recordings of loops of the user's own: what their page shows, and what it needs for that."""
from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinygan as tg
from tinygan import cli, nn
from tinygan.gans.conditional import InputDiscriminator
from tinygan.random import Key
from tinygan.runs.errors import RunError
from tinygan.teaching import explain
from tinygan.teaching.arrays import unpacked
from tinygan.teaching.recordings import Recording, is_recording
from tinygan.teaching.records import Absent, read_records
from tinygan.teaching.sections import ahead, signal, tape

RING, KEY = tg.data.gaussian_ring(), Key(2)


def networks(coupled: bool = False) -> tuple[nn.Module, nn.Module]:
    layers = [nn.MinibatchDiscrimination(8, 3, 2)] if coupled else []
    return (nn.Sequential(nn.Dense(3, 8), nn.Tanh(), nn.Dense(8, 2)),
            nn.Sequential(nn.Dense(2, 8), nn.LeakyReLU(0.2), *layers, nn.Dense(8 + 3 * coupled, 1)))


def played(folder: Path, gan: Any, steps: int = 5, **options: Any) -> Any:
    step = tg.training.Recorder(folder, gan, **options)
    for i in range(steps):
        step(RING.sample(24 * gan.d_steps, KEY.fold(i)))
    return gan


def sections(path: Path) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', path.read_text(encoding="utf-8"), re.DOTALL)
    return json.loads(found[1])["sections"]


def prose(path: Path) -> str:
    """What a reader reads without JavaScript."""
    text = re.sub(r"<(script|style|pre|details).*?</\1>", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    return re.sub(r"<[^>]*>", " ", text)


@pytest.mark.parametrize("made", [tg.gans.VanillaGAN, tg.gans.UnrolledGAN])
def test_a_loop_over_a_ring_has_a_page(tmp_path, made):
    gan = played(tmp_path, made(*networks(), 3, key=KEY))
    before = gan.state_dict()
    found = sections(explain(tmp_path, gan=gan))
    assert [name for name, section in found.items() if "absent" in section] == ["coupling"]
    assert found["signal"]["steps"] == [0, 1, 4, 5] and len(found["tape"]["rounds"]) == 2
    assert unpacked(found["ahead"]["surface"]).shape == (6, 64, 64) and found["ahead"]["batch"] == 24
    told = prose(tmp_path / "explain.html")
    assert "these 16 points" in told and "image" not in told.lower() and "points in the plane · 5 steps" in told
    assert ("does not look ahead" in found["ahead"]["text"]) == (made is tg.gans.VanillaGAN)
    assert len(found["ahead"]["text"].split()) <= 60
    after = gan.state_dict()
    assert all(before[name].tobytes() == after[name].tobytes() for name in before)


def test_minibatch_discrimination_in_the_plane(tmp_path):
    gan = played(tmp_path, tg.gans.VanillaGAN(*networks(coupled=True), 3, key=KEY))
    found = sections(explain(tmp_path, gan=gan))
    assert unpacked(found["coupling"]["matrix"]).shape == (16, 16)
    assert unpacked(found["ahead"]["logits"]).shape == (6, 16) and found["ahead"]["surface"] is None
    assert "Which points talk to each other?" in prose(tmp_path / "explain.html")


def test_looking_ahead_is_that_of_an_unrolled_gan_with_the_same_players(tmp_path):
    options = {"cost": "non-saturating", "d_steps": 2, "key": KEY}
    gan = played(tmp_path, tg.gans.VanillaGAN(*networks(), 3, **options))
    twin = tg.gans.UnrolledGAN(*networks(), 3, unroll_steps=ahead.AHEAD, **options)
    twin.load_state_dict(gan.state_dict())
    one, other = (ahead.build(Recording(tmp_path, each)) for each in (gan, twin))
    for name in ("logits", "gradient_with", "gradient_without", "surface"):
        np.testing.assert_array_equal(unpacked(one[name]), unpacked(other[name]), err_msg=name)
    assert not np.array_equal(unpacked(one["gradient_with"]), unpacked(one["gradient_without"]))
    none = tg.gans.UnrolledGAN(*networks(), 3, unroll_steps=0, **options)
    none.load_state_dict(gan.state_dict())
    assert ahead.build(Recording(tmp_path, none))["text"] == one["text"]  # 0 updates ahead are none
    assert not hasattr(gan, "unroll_steps")


def test_a_collapsed_ring_is_told(tmp_path):
    gan = tg.gans.VanillaGAN(*networks(), 3, key=KEY)
    gan.generator[2].weight.assign(np.zeros((2, 8), np.float32))
    played(tmp_path, gan, 1)
    real = RING.sample(24, KEY.fold(0))
    mean = np.mean([np.linalg.norm(a - b) for i, a in enumerate(real) for b in real[:i]])
    told = signal.build(Recording(tmp_path, gan))["alike"]
    assert told.startswith("The 16 images are alike at every record") and f"of the {mean:.2g} between two of the data" in told


def test_it_needs_the_gan_as_it_is_after_the_loop(tmp_path, capsys):
    gan = played(tmp_path, tg.gans.VanillaGAN(*networks(), 3, key=KEY), 4)
    assert is_recording(tmp_path) and not is_recording(tmp_path / "none")
    with pytest.raises(RunError, match=r"recording of a loop of your own.*tinygan\.teaching\.explain\('.*', gan=gan\)"):
        explain(tmp_path)
    assert cli.main(["explain", str(tmp_path)]) != 0 and "gan=gan" in capsys.readouterr().err
    with pytest.raises(RunError, match="goes on to step 4, and this GAN has made 4 steps fewer"):
        explain(tmp_path, gan=tg.gans.VanillaGAN(*networks(), 3, key=KEY))
    gan.step(RING.sample(24, KEY))
    assert sections(explain(tmp_path, gan=gan))["signal"]["steps"] == [0, 1, 4, 5]


def test_a_loop_that_began_before_its_recording(tmp_path):
    gan = tg.gans.VanillaGAN(*networks(), 3, key=KEY)
    gan.step(RING.sample(24, KEY))
    played(tmp_path, gan, 2, done=0, steps_per_epoch=2)
    run = Recording(tmp_path, gan)
    assert (run.step, run.epoch, run.steps_per_epoch) == (2, 1, 2)
    with pytest.raises(RunError, match="does not keep the GAN"):
        run.initial()


def test_it_keeps_a_batch_of_the_data_and_its_labels(tmp_path):
    gan = played(tmp_path / "ring", tg.gans.VanillaGAN(*networks(), 3, key=KEY), keep=10)
    first, second, *_ = read_records(tmp_path / "ring")
    np.testing.assert_array_equal(first["data"], RING.sample(24, KEY.fold(0))[:10])
    assert "data" not in second and len(Recording(tmp_path / "ring", gan).dataset()) == 10
    gan = played(tmp_path / "none", tg.gans.VanillaGAN(*networks(), 3, key=KEY), keep=0)
    assert isinstance(found := tape.build(Recording(tmp_path / "none", gan)), Absent) and "keep is 0" in found.reason
    judge = InputDiscriminator(nn.Sequential(nn.Dense(5, 1)), planes=False)
    gan = tg.gans.ConditionalGAN(nn.Dense(6, 2), judge, 3, 3, key=KEY)
    step = tg.training.Recorder(tmp_path / "labels", gan)
    step(RING.sample(6, KEY), np.arange(6) % 3)
    run = Recording(tmp_path / "labels", gan)
    assert run.dataset().labels.tolist() == [0, 1, 2, 0, 1, 2] and tape.build(run)["rounds"]
    assert isinstance(ahead.build(run), Absent)


def test_a_loop_over_images_has_a_page_too(tmp_path):
    generator = nn.Sequential(nn.Dense(3, 16), nn.Tanh(), nn.Reshape(1, 4, 4))
    gan = tg.gans.VanillaGAN(generator, nn.Sequential(nn.Flatten(), nn.Dense(16, 1)), 3, key=KEY)
    step = tg.training.Recorder(tmp_path, gan)
    for i in range(3):
        step(np.tanh(KEY.fold(i).normal((8, 1, 4, 4))))
    found = sections(explain(tmp_path, gan=gan))
    assert [name for name, section in found.items() if "absent" in section] == ["ahead", "coupling"]
    assert "images of 4 x 4 · 3 steps" in prose(tmp_path / "explain.html")
