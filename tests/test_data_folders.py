"""Folders of images as people have them: links, many formats, damaged files, what was left out, and what is said of it."""
from __future__ import annotations

import json
import os
import runpy
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import PIL.features
import PIL.Image
import pytest

from tinygan import cli, data, training
from tinygan.data import DataError, files, load


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).integers(0, 256, shape).astype(np.uint8)


def picture(path: Path, pixels: np.ndarray | None = None, **options: Any) -> np.ndarray:
    pixels = noise(6, 6) if pixels is None else pixels
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(pixels).save(path, **options)
    return pixels


def link(path: Path, target: Path | str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.symlink_to(target)
    except OSError:
        pytest.skip("this user may make no symbolic links here")


# Links

def test_folders_and_files_that_are_links_are_followed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    real = [picture(tmp_path / "store" / name, noise(4, 4) // (i + 1)) for i, name in enumerate(("a/1.png", "b/1.png", "c.png"))]
    link(tmp_path / "photos" / "cats", tmp_path / "store" / "a")
    link(tmp_path / "photos" / "dogs", "../store/b")
    found = load(tmp_path / "photos")
    assert found.labels is not None and found.labels.tolist() == [0, 1]
    np.testing.assert_array_equal(found.images[:, 0], real[:2])
    link(tmp_path / "photos" / "dogs2" / "2.png", tmp_path / "store" / "c.png")
    np.testing.assert_array_equal(load(tmp_path / "photos").images[:, 0], real)
    link(tmp_path / "itself", tmp_path / "photos")
    assert load(tmp_path / "itself").checksum == load(tmp_path / "photos").checksum
    assert capsys.readouterr().err == ""
    link(tmp_path / "photos" / "birds", tmp_path / "store" / "gone")
    assert len(load(tmp_path / "photos")) == 3 and "1 broken link (birds)" in capsys.readouterr().err


@pytest.mark.parametrize("loop", [("photos/a/up", ".."), ("photos/self", "."), ("photos/a/out", "../../"), ("photos/b", "a"),
                                  ("photos/a/far", "../../elsewhere")])
def test_links_in_a_circle_end(tmp_path: Path, capsys: pytest.CaptureFixture[str], loop: tuple[str, str]) -> None:
    picture(tmp_path / "photos" / "a" / "1.png")
    (tmp_path / "elsewhere").mkdir()
    link(tmp_path / "elsewhere" / "back", tmp_path / "photos")
    link(tmp_path / loop[0], loop[1])
    found = load(tmp_path / "photos")
    assert len(found) == 1 and found.labels is not None
    (line,) = capsys.readouterr().err.splitlines()
    assert "left out 1 link in a circle or to folders that are read already" in line


def test_each_of_many_folders_that_link_to_each_other_is_read_once(tmp_path: Path) -> None:
    names = [f"f{i}" for i in range(9)]  # 9! ways through them
    for name in names:
        picture(tmp_path / "photos" / name / "1.png")
        for other in names:
            link(tmp_path / "photos" / name / other, f"../{other}")
    found = load(tmp_path / "photos")
    assert found.labels is not None and found.labels.tolist() == list(range(9))


def test_a_link_that_leads_nowhere_is_a_bad_file(tmp_path: Path) -> None:
    picture(tmp_path / "1.png")
    link(tmp_path / "2.png", "nowhere.png")
    with pytest.raises(DataError, match=r"2\.png: cannot be read as an image: No such file"):
        load(tmp_path)
    assert load(tmp_path, skip_bad_files=True).bad_files == 1


def test_a_folder_that_cannot_be_opened_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("1.png", "closed/2.png"):
        picture(tmp_path / name)
    scandir = os.scandir

    def refusing(place: Any) -> Any:
        if Path(place).name == "closed":
            raise PermissionError(13, "Permission denied", str(place))
        return scandir(place)

    monkeypatch.setattr(os, "scandir", refusing)  # whoever runs this may be allowed everything
    with pytest.raises(DataError, match="closed: this folder cannot be opened: Permission denied"):
        load(tmp_path)
    assert len(load(tmp_path, skip_bad_files=True)) == 1


# Formats, and what is left out

LOSSLESS = {"webp": {"lossless": True}, "bmp": {}, "tif": {}, "tiff": {"compression": "tiff_deflate"}, "gif": {}, "png": {},
            "ppm": {}, "WEBP": {"lossless": True}, "Tif": {}}


@pytest.mark.parametrize("suffix", LOSSLESS)
def test_formats_without_loss_are_read_to_the_last_bit(tmp_path: Path, suffix: str) -> None:
    if suffix.lower() == "webp" and not PIL.features.check("webp"):
        pytest.skip("this Pillow has no WebP")
    colours = np.random.default_rng(0).integers(0, 256, (4, 3)).astype(np.uint8)  # few enough for GIF's palette
    pixels = picture(tmp_path / f"1.{suffix}", colours[noise(8, 7) % 4], **LOSSLESS[suffix])
    np.testing.assert_array_equal(load(tmp_path, channels=3).images[0], pixels.transpose(2, 0, 1))


@pytest.mark.parametrize("suffix", ["jpg", "jpeg", "jpe", "jfif", "JFIF"])
def test_jpeg_by_all_its_names(tmp_path: Path, suffix: str) -> None:
    pixels = picture(tmp_path / f"1.{suffix}", np.full((8, 8, 3), (200, 100, 50), np.uint8), format="JPEG", quality=98)
    np.testing.assert_allclose(load(tmp_path).images[0], pixels.transpose(2, 0, 1), atol=3)


def test_of_several_frames_the_first_is_taken_and_that_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frames = [np.full((5, 5), value, np.uint8) for value in (10, 200, 90)]
    first, *more = map(PIL.Image.fromarray, frames)
    for name in ("a.gif", "b.tiff"):
        first.save(tmp_path / name, save_all=True, append_images=more)
    picture(tmp_path / "c.gif", frames[0])
    np.testing.assert_array_equal(load(tmp_path, channels=1).images[:, 0], [frames[0]] * 3)
    (line,) = capsys.readouterr().err.splitlines()
    assert "of 2 files with several frames or pages the first was taken: a.gif, b.tiff" in line


def test_what_was_left_out_is_said_system_files_aside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture(tmp_path / "1.png")
    system = (".DS_Store", "Thumbs.db", "desktop.ini", ".hidden/x.heic", "__MACOSX/1.png", "@eaDir/1.png/thumb.jpg", "._1.png")
    for name in system:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"?")
    assert len(load(tmp_path)) == 1 and capsys.readouterr().err == ""
    for name in ("a/1.HEIC", "a/2.heic", "3.heic", "4.heic", "notes.txt", "README"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"?")
    assert len(load(tmp_path)) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"tinygan: {tmp_path}: left out 6 files: 4 .heic (3.heic, 4.heic, {Path('a/1.HEIC')}, ...), ")
    assert "1 .txt (notes.txt)" in line and "1 without an extension (README)" in line


def test_a_folder_without_images_says_what_it_holds(tmp_path: Path) -> None:
    for name in ("1.heic", "2.heic"):
        (tmp_path / name).write_bytes(b"?")
    np.save(tmp_path / "own.npy", noise(3, 4, 4))
    with pytest.raises(DataError, match=r"holds neither MNIST .*\.webp.*found 3 files: 2 \.heic .*array file is given by its own"):
        load(tmp_path)


# Files that cannot be used

def damaged(folder: Path, count: int, bad: tuple[int, ...]) -> Path:
    for i in range(count):
        picture(folder / f"{i:02}.png", noise(9, 9 + i)[:, :9])
    for i in bad:
        path = folder / f"{i:02}.png"
        path.write_bytes(path.read_bytes()[:60] if i % 2 else b"junk")
    return folder


def test_all_bad_files_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        load(damaged(tmp_path / "few", 12, (2, 3, 7, 11)))
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'few'}: 4 of 12 image files cannot be used: ") and "\n" not in message
    assert [f"{i:02}.png" in message for i in range(12)] == [i in (2, 3, 7, 11) for i in range(12)]
    assert "--skip-bad-files" in message
    with pytest.raises(DataError) as caught:
        load(damaged(tmp_path / "many", 40, tuple(range(5, 40))))
    assert sum(f"{i:02}.png" in str(caught.value) for i in range(40)) == 20
    assert "at least 20 of 40 image files" in str(caught.value)


def test_all_images_of_another_size_are_named_the_odd_ones_though_they_come_first(tmp_path: Path) -> None:
    for i in range(7):
        picture(tmp_path / f"{i}.png", noise(6, 5 if i in (0, 4) else 6))
    (tmp_path / "5.png").write_bytes(b"junk")
    for skip, number in ((False, "3 of 7"), (True, "")):
        told = "its images are not all alike" if skip else f"{number} image files cannot be used"
        with pytest.raises(DataError, match=f": {told}") as caught:
            load(tmp_path, skip_bad_files=skip)
        message = str(caught.value)
        assert "1.png is 6x6 grey" in message and "0.png" in message and "4.png" in message and "--image-size" in message
        assert ("5.png" in message) == ("--skip-bad-files" in message) == (not skip)
    assert load(tmp_path, size=4, skip_bad_files=True).images.shape == (6, 1, 4, 4)


def test_at_least_is_said_only_if_files_were_not_tried(tmp_path: Path) -> None:
    for number, told in ((20, ": 20 of 20 "), (21, ": at least 20 of 21 ")):
        with pytest.raises(DataError, match=f"{told}image files cannot be used"):
            load(damaged(tmp_path / str(number), number, tuple(range(number))))


def test_how_many_images_are_not_alike_is_at_least_what_was_seen(tmp_path: Path) -> None:
    for i in range(60):
        picture(tmp_path / f"{i:02}.png", noise(6, 5 if i % 2 else 6))
    with pytest.raises(DataError, match=r"its images are not all alike: .* and at least 17 more; "):
        load(tmp_path)


def test_a_path_is_told_without_the_way_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(tmp_path / "images" / "1.png")
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path / "runs")
    assert load("../images").source == str(tmp_path / "images")


@pytest.mark.skipif(sys.platform == "win32", reason="links need a permission there")
def test_a_way_back_from_behind_a_link_is_kept(tmp_path: Path) -> None:
    picture(tmp_path / "deep" / "images" / "1.png")
    (tmp_path / "deep" / "runs").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "deep" / "runs", target_is_directory=True)
    path = tmp_path / "link" / ".." / "images"
    assert load(path).source == str(path) and files.absolute(tmp_path / "link") == tmp_path / "link"


@pytest.mark.parametrize("other, advice", [
    ((6, 6, 3), "; --channels (load(..., channels=)) makes images alike"),
    ((5, 6), "; --image-size (load(..., size=)) makes images alike"),
    ((5, 6, 3), "; --image-size and --channels (load(..., size=, channels=)) make images alike")])
def test_only_what_makes_images_alike_is_advised(tmp_path: Path, other: tuple[int, ...], advice: str) -> None:
    for i in range(3):
        picture(tmp_path / f"{i}.png", noise(6, 6))
    picture(tmp_path / "odd.png", noise(*other))
    with pytest.raises(DataError) as caught:
        load(tmp_path)
    assert str(caught.value).endswith(advice)


def test_images_outside_of_the_sub_folders_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture(tmp_path / "cats" / "1.png", noise(4, 4))
    picture(tmp_path / "stray.png", noise(4, 4))
    assert load(tmp_path).labels is None
    assert "the sub-folders are not used as classes: some images are outside of them, such as stray.png" in capsys.readouterr().err


def test_bad_files_are_skipped_counted_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = load(damaged(tmp_path / "photos", 12, (0, 5, 6)), skip_bad_files=True)
    assert (len(found), found.bad_files, found.limit(3).bad_files) == (9, 3, 3)
    (line,) = capsys.readouterr().err.splitlines()
    assert "left out 3 files of 12 that cannot be read" in line and all(f"{i:02}.png" in line for i in (0, 5, 6))
    for i in (0, 5, 6):
        (tmp_path / "photos" / f"{i:02}.png").unlink()
    without = load(tmp_path / "photos")
    assert (without.checksum, without.bad_files) == (found.checksum, 0)
    np.testing.assert_array_equal(without.images, found.images)
    for path in (tmp_path / "photos").iterdir():
        path.write_bytes(b"junk")
    with pytest.raises(DataError, match="9 of 9 image files cannot be used"):
        load(tmp_path / "photos", skip_bad_files=True)


# Kinds of pixels

@pytest.mark.parametrize("mode", ["uint16 png", "uint16 tif", ">u2 tif", "int32 tif", "uint16 pgm"])
def test_sixteen_bits_of_grey_become_eight(tmp_path: Path, mode: str) -> None:
    dtype, suffix = mode.split()
    values = np.arange(65536).reshape(256, 256)
    PIL.Image.fromarray(values.astype(np.uint16 if suffix == "pgm" else dtype)).save(tmp_path / f"1.{suffix}")
    expected = np.array([round(value / 257) for value in range(65536)]).reshape(256, 256)  # no value lies half way
    found = load(tmp_path)
    assert found.image_shape == (1, 256, 256)
    np.testing.assert_array_equal(found.images[0, 0], expected)
    assert load(tmp_path, size=8, channels=3).image_shape == (3, 8, 8)


def test_deeper_pixels_without_a_known_scale_are_refused(tmp_path: Path) -> None:
    PIL.Image.fromarray(np.array([[0, 70_000]], np.int32)).save(tmp_path / "1.tif")
    PIL.Image.fromarray(np.array([[0, 0.5]], np.float32)).save(tmp_path / "2.tif")
    with pytest.raises(DataError, match=r"1\.tif: pixels of kind 'I' from 0 to 70000; .*2\.tif: pixels of kind 'F'; expected"):
        load(tmp_path)


def test_transparent_images_take_the_background(tmp_path: Path) -> None:
    pixels = np.full((2, 2, 4), (250, 100, 50, 255), np.uint8)
    pixels[0, 0, 3], pixels[0, 1, 3] = 0, 51
    for name in ("rgba/1.png", "rgba/2.webp", "rgba/3.tif"):
        picture(tmp_path / name, pixels, **({"lossless": True, "exact": True} if name.endswith("webp") else {}))
    for background, colour in ((None, (0, 0, 0)), ("black", (0, 0, 0)), ("white", (255, 255, 255)), ("#1080ff", (16, 128, 255))):
        images = load(tmp_path / "rgba", background=background).images
        for image in images:
            assert image[:, 0, 0].tolist() == list(colour) and image[:, 1, 1].tolist() == [250, 100, 50]
            mixed = [0.2 * p + 0.8 * c for p, c in zip((250, 100, 50), colour, strict=True)]
            np.testing.assert_allclose(image[:, 0, 1], mixed, atol=1)
    with pytest.raises(ValueError, match=r"load: background must be a colour such as .*: expected a name or '#rrggbb', got \(255, 0, 0\)"):
        load(tmp_path, background=(255, 0, 0))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="load: background must be a colour"):
        load(tmp_path / "rgba", background="nocolour")
    with pytest.raises(ValueError, match="transparent itself"):
        load(tmp_path / "rgba", background="#ff000080")


def test_every_way_to_be_transparent(tmp_path: Path) -> None:
    grey = np.array([[10, 200], [90, 10]], np.uint8)
    (tmp_path / "grey").mkdir()
    PIL.Image.fromarray(grey).save(tmp_path / "grey" / "1.png", transparency=10)
    PIL.Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "grey" / "2.png", transparency=10 * 257)
    layered = PIL.Image.fromarray(grey)
    layered.putalpha(PIL.Image.fromarray(np.where(grey == 10, 0, 255).astype(np.uint8)))
    layered.save(tmp_path / "grey" / "3.png")
    for background, value in ((None, 0), ("white", 255)):
        images = load(tmp_path / "grey", background=background).images
        np.testing.assert_array_equal(images[:, 0], [np.where(grey == 10, value, grey)] * 3)
    (tmp_path / "palette").mkdir()
    PIL.Image.fromarray(grey).convert("P").save(tmp_path / "palette" / "1.gif", transparency=10)
    assert load(tmp_path / "palette", background="#ff0000", channels=3).images[0, :, 0, 0].tolist() == [255, 0, 0]


# EXIF

def exif(orientation: int, more: bytes = b"") -> bytes:
    entry = struct.pack(">HHIHH", 0x112, 3, 1, orientation, 0)
    return b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">H", 1 + len(more) // 12) + entry + more + bytes(4)


@pytest.mark.parametrize("suffix", ["png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(10))
def test_images_are_turned_as_exif_says(tmp_path: Path, suffix: str, orientation: int) -> None:
    stored = noise(4, 6, 3)
    # Where row 0 and column 0 of what is stored lie in the scene (the EXIF standard, tag 0x112).
    turned = {2: stored[:, ::-1], 3: stored[::-1, ::-1], 4: stored[::-1], 5: stored.swapaxes(0, 1),
              6: stored[::-1].swapaxes(0, 1), 7: stored[::-1, ::-1].swapaxes(0, 1), 8: stored[:, ::-1].swapaxes(0, 1)}
    block = PIL.Image.Exif()
    block[0x112] = orientation
    picture(tmp_path / f"1.{suffix}", stored, exif=block, **({"lossless": True} if suffix == "webp" else {}))
    np.testing.assert_array_equal(load(tmp_path).images[0], turned.get(orientation, stored).transpose(2, 0, 1))


@pytest.mark.parametrize("block", [
    b"Exif\0\0garbage!", b"Exif\0\0" + b"\xff" * 30, b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\0\x05",
    b"Exif\0\0", exif(6)[:-9], exif(99), exif(1, struct.pack(">HHII", 0x11a, 5, 1, 0xfffffff0)),
    exif(1, struct.pack(">HHII", 0x8769, 4, 1, 0xfffffff0)), exif(1, struct.pack(">HHII", 0x10e, 77, 9, 5))])
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_a_wrong_exif_block_does_not_cost_the_image(tmp_path: Path, recwarn: Any, suffix: str, block: bytes) -> None:
    pixels = np.full((4, 6, 3), (200, 100, 50), np.uint8)
    picture(tmp_path / f"1.{suffix}", pixels, exif=block)
    found = load(tmp_path)
    assert found.image_shape == (3, 4, 6)
    np.testing.assert_allclose(found.images[0], pixels.transpose(2, 0, 1), atol=4)
    assert not recwarn.list


def test_an_orientation_beside_wrong_entries_counts_and_an_unreadable_block_is_said(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture(tmp_path / "1.png", noise(4, 6), exif=exif(6, struct.pack(">HHII", 0x11a, 5, 1, 0xfffffff0)))
    assert load(tmp_path).image_shape == (1, 6, 4) and capsys.readouterr().err == ""
    picture(tmp_path / "2.png", noise(6, 4), exif=b"Exif\0\0garbage!")
    assert load(tmp_path).images.shape == (2, 1, 6, 4)
    assert "1 image with an EXIF block that cannot be read, taken as stored: 2.png" in capsys.readouterr().err


# The command line

@pytest.mark.parametrize("variant", ["vanilla", "minibatch", "unrolled", "dcgan"])
@pytest.mark.parametrize("example", [True, False])
def test_every_way_to_train_reads_as_the_flags_say(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variant: str, example: bool) -> None:
    asked: list[dict[str, Any]] = []

    def loading(data_dir: str, **options: Any) -> None:
        asked.append(options)
        raise DataError("enough")

    monkeypatch.setattr(data, "load", loading)
    flags = ["--run-dir", str(tmp_path / "run"), "--data-dir", str(tmp_path), "--image-size", "28", "--channels", "1",
             "--background", "white", "--skip-bad-files"]
    if example:
        body = runpy.run_path(str(Path(__file__).parents[1] / "examples" / f"{variant}_mnist.py"))["main"]
        assert training.main(body, variant, flags) == 2
    else:
        assert cli.main(["train", variant, *flags]) == 2
    assert asked == [{"size": 28, "channels": 1, "background": "white", "skip_bad_files": True}]


def train(folder: Path, *flags: object) -> int:
    return cli.main(["train", "vanilla", "--batch-size", "4", "--quiet", "--run-dir", str(folder), *map(str, flags)])


def test_a_run_counts_the_bad_files_and_goes_on_with_the_same_content(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos, run = damaged(tmp_path / "photos", 12, (2, 7)), tmp_path / "run"
    assert train(run, "--data-dir", photos, "--epochs", 1) == 2 and "2 of 12" in capsys.readouterr().err and not run.exists()
    assert train(run, "--data-dir", photos, "--epochs", 1, "--skip-bad-files") == 0
    config = json.loads((run / "config.json").read_text())
    assert config["data"]["bad_files"] == 2 and config["data"]["images"] == 10
    assert config["settings"]["skip_bad_files"] is True and config["settings"]["background"] is None
    assert cli.main(["info", str(run)]) == 0 and ", 2 bad files left out\n" in capsys.readouterr().out
    assert train(run, "--resume", "--epochs", 2) == 0  # the flag is the run's
    (photos / "02.png").unlink()
    assert train(run, "--resume", "--epochs", 3) == 0  # the images that are used are the same
    assert json.loads((run / "config.json").read_text())["data"]["bad_files"] == 1
    (photos / "03.png").write_bytes(b"junk")
    capsys.readouterr()
    assert train(run, "--resume", "--epochs", 4) == 2
    assert "the data set's checksum was" in capsys.readouterr().err


def test_another_background_is_refused_where_it_shows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pixels = noise(5, 5, 4)
    for i in range(4):
        picture(tmp_path / "clear" / f"{i}.png", pixels // (i + 1))
        picture(tmp_path / "opaque" / f"{i}.png", pixels[..., :3] // (i + 1))
    for name in ("clear", "opaque"):
        assert train(tmp_path / f"run-{name}", "--data-dir", tmp_path / name, "--epochs", 1, "--background", "white") == 0
        assert train(tmp_path / f"run-{name}", "--resume", "--epochs", 2) == 0
        capsys.readouterr()
        assert train(tmp_path / f"run-{name}", "--resume", "--epochs", 3, "--background", "#102030") == (2 if name == "clear" else 0)
        assert ("--background was white, now #102030" in capsys.readouterr().err) == (name == "clear")


def test_a_run_from_before_these_settings_goes_on(tmp_path: Path) -> None:
    picture(tmp_path / "photos" / "1.png", noise(5, 5))
    for i in range(4):
        picture(tmp_path / "photos" / f"{i}.png", noise(5, 5) // (i + 1))
    assert train(tmp_path / "run", "--data-dir", tmp_path / "photos", "--epochs", 1) == 0
    path = tmp_path / "run" / "config.json"
    config = json.loads(path.read_text())
    for name in ("background", "skip_bad_files"):
        del config["settings"][name]
    path.write_text(json.dumps(config))
    assert train(tmp_path / "run", "--resume", "--epochs", 2) == 0


def test_wrong_colours_are_explained(capsys: pytest.CaptureFixture[str]) -> None:
    for colour in ("nocolour", "#12345", "#ff000080"):
        with pytest.raises(SystemExit):
            cli.main(["train", "vanilla", "--background", colour])
        assert f"--background: expected a colour such as white or #ff8000, got '{colour}'" in capsys.readouterr().err
    with pytest.raises(ValueError, match="background: expected a colour"):
        training.VanillaSettings(background="nocolour")


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals there")
def test_reading_shows_its_progress_on_a_terminal_and_nowhere_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import fcntl
    import pty
    import termios

    for i in range(5):
        picture(tmp_path / "photos" / f"{i}.png")
    load(tmp_path / "photos")
    assert capsys.readouterr() == ("", "")
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    code = f"from tinygan.data import load; load({str(tmp_path / 'photos')!r})"
    subprocess.run([sys.executable, "-c", code], stderr=theirs, check=True, timeout=60)
    os.close(theirs)
    said = b""
    try:
        while part := os.read(ours, 4096):
            said += part
    except OSError:  # how Linux says that a terminal has ended
        pass
    os.close(ours)
    assert b"reading photos" in said and b"/5 " in said
