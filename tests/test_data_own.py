"""Own data: folders of images, `.npy` and `.npz` files. What lies in folders, and how, has a test file of its own."""
from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from tinygan.data import DataError, Dataset, load


def picture(path: Path, pixels: np.ndarray, **options: Any) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(pixels).save(path, **options)
    return pixels


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).integers(0, 256, shape).astype(np.uint8)


def test_a_folder_of_images_in_the_order_of_their_names(tmp_path: Path) -> None:
    names = ("b.png", "c.PNG", "a.png")
    pixels = {name: picture(tmp_path / name, noise(6, 5, 3) // (i + 1)) for i, name in enumerate(names)}
    (tmp_path / ".hidden.png").write_bytes(b"not an image")
    (tmp_path / "readme.txt").write_text("not an image either")
    data = load(tmp_path)
    assert data.name == f"images:{tmp_path.name}" and data.labels is None and data.image_shape == (3, 6, 5)
    for image, name in zip(data.images, ("a.png", "b.png", "c.PNG"), strict=True):
        np.testing.assert_array_equal(image, pixels[name].transpose(2, 0, 1))


def test_sub_folders_are_classes(tmp_path: Path) -> None:
    for name in ("cat/1.png", "ant/more/2.png", "ant/1.jpg"):
        picture(tmp_path / name, noise(4, 4))
    data = load(tmp_path)
    assert data.labels is not None and data.labels.tolist() == [0, 0, 1] and data.labels.dtype == np.int64
    picture(tmp_path / "beside.png", noise(4, 4))
    assert load(tmp_path).labels is None


def test_the_checksum_tells_contents_apart(tmp_path: Path) -> None:
    picture(tmp_path / "a" / "1.png", noise(4, 4))
    picture(tmp_path / "b" / "1.png", noise(4, 4))
    same = load(tmp_path / "a").checksum == load(tmp_path / "b").checksum
    picture(tmp_path / "b" / "1.png", noise(4, 4) // 2)
    assert same and load(tmp_path / "a").checksum != load(tmp_path / "b").checksum


def test_the_first_image_of_another_size_or_kind_is_named(tmp_path: Path) -> None:
    picture(tmp_path / "1.png", noise(4, 6))
    picture(tmp_path / "2.png", noise(4, 6))
    picture(tmp_path / "3.png", noise(6, 6))
    with pytest.raises(DataError, match=r"3\.png: 6x6 grey, but .*1\.png is 6x4 grey"):
        load(tmp_path)
    picture(tmp_path / "3.png", noise(4, 6, 3))
    with pytest.raises(DataError, match=r"3\.png: 6x4 RGB, but .*1\.png is 6x4 grey"):
        load(tmp_path)
    assert load(tmp_path, channels=3).image_shape == (3, 4, 6)
    assert load(tmp_path, channels=1).image_shape == (1, 4, 6)


def test_size_crops_the_middle_and_resizes(tmp_path: Path) -> None:
    wide = np.zeros((8, 24), np.uint8)
    wide[:, 8:16] = 200
    picture(tmp_path / "wide.png", wide)
    picture(tmp_path / "square.png", np.full((16, 16), 200, np.uint8))
    data = load(tmp_path, size=4)
    assert data.image_shape == (1, 4, 4)
    np.testing.assert_array_equal(data.images, 200)


def test_every_kind_of_png_becomes_grey_or_rgb(tmp_path: Path) -> None:
    colour = np.full((2, 2, 4), (250, 100, 50, 255), np.uint8)
    colour[0, 0, 3] = 0
    picture(tmp_path / "alpha" / "1.png", colour)
    images = load(tmp_path / "alpha").images
    assert images[0, :, 1, 1].tolist() == [250, 100, 50] and images[0, :, 0, 0].tolist() == [0, 0, 0]
    (tmp_path / "palette").mkdir()
    PIL.Image.fromarray(noise(4, 4, 3)).quantize(16).save(tmp_path / "palette" / "1.png")
    assert load(tmp_path / "palette").image_shape == (3, 4, 4)
    (tmp_path / "bits").mkdir()
    PIL.Image.fromarray(noise(4, 4)).convert("1").save(tmp_path / "bits" / "1.png")
    assert set(load(tmp_path / "bits").images.ravel().tolist()) <= {0, 255}


@pytest.mark.parametrize("damage", [
    lambda whole: whole[:len(whole) // 2], lambda whole: b"", lambda whole: b"\x89PNG" + bytes(40),
    lambda whole: whole[:60] + bytes(20) + whole[80:]])
def test_a_damaged_image_is_named(tmp_path: Path, damage: Any) -> None:
    for name in ("1.png", "2.png"):
        picture(tmp_path / name, noise(30, 30))
    broken = tmp_path / "2.png"
    broken.write_bytes(damage(broken.read_bytes()))
    with pytest.raises(DataError, match=r"2\.png: cannot be read as an image"):
        load(tmp_path)


def test_images_have_no_test_split(tmp_path: Path) -> None:
    picture(tmp_path / "1.png", noise(4, 4))
    with pytest.raises(DataError, match="holds no 'test' split"):
        load(tmp_path, split="test")


@pytest.mark.parametrize(("shape", "expected"), [
    ((5, 4, 6), (1, 4, 6)), ((5, 1, 4, 6), (1, 4, 6)), ((5, 3, 4, 6), (3, 4, 6)), ((5, 4, 6, 3), (3, 4, 6)),
    ((5, 4, 6, 1), (1, 4, 6)), ((5, 3, 4, 3), (3, 4, 3))])
def test_an_array_file_in_every_layout(tmp_path: Path, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    array = noise(*shape)
    np.save(tmp_path / "own.npy", array)
    data = load(tmp_path / "own.npy")
    assert data.name == "array:own.npy" and data.image_shape == expected and data.labels is None
    last = len(shape) == 4 and shape[1] not in (1, 3)
    reference = array.transpose(0, 3, 1, 2) if last else array.reshape(5, *expected)
    np.testing.assert_array_equal(data.images, reference)
    np.testing.assert_allclose(data.batch([3]), reference[[3]] / 127.5 - 1, atol=1e-6)


def test_a_npy_file_is_mapped_not_copied(tmp_path: Path) -> None:
    for name, array in (("bytes", noise(5, 8, 8, 3)), ("floats", np.linspace(-1, 1, 48, dtype=np.float32).reshape(3, 4, 4))):
        np.save(tmp_path / f"{name}.npy", array)
        images = load(tmp_path / f"{name}.npy").images
        base: Any = images
        while not isinstance(base, np.memmap) and base is not None:
            base = base.base
        assert isinstance(base, np.memmap) and not images.flags.writeable


def test_floats_are_taken_as_they_are_or_rescaled_from_zero_to_one(tmp_path: Path) -> None:
    values = np.linspace(-1, 1, 32).reshape(2, 4, 4)
    for dtype in (np.float16, np.float32, np.float64):
        np.save(tmp_path / "own.npy", values.astype(dtype))
        data = load(tmp_path / "own.npy")
        assert data.images.dtype == np.float32
        np.testing.assert_allclose(data.images[:, 0], values, atol=1e-3)
        np.save(tmp_path / "own.npy", (values.astype(dtype) + 1) / 2)
        np.testing.assert_allclose(load(tmp_path / "own.npy").images[:, 0], values, atol=1e-3)


def test_an_npz_file_with_labels(tmp_path: Path) -> None:
    images = noise(3, 4, 4)
    np.savez(tmp_path / "own.npz", images=images, labels=np.array([2, 0, 1], np.int16), notes=np.zeros(4))
    data = load(tmp_path / "own.npz")
    assert data.labels is not None and data.labels.tolist() == [2, 0, 1] and data.labels.dtype == np.int64
    np.testing.assert_array_equal(data.images[:, 0], images)
    np.savez_compressed(tmp_path / "one.npz", x=images)
    np.testing.assert_array_equal(load(tmp_path / "one.npz").images, data.images)
    np.savez(tmp_path / "two.npz", x=images, y=images)
    with pytest.raises(DataError, match=r"two\.npz: which array holds the images\? .*'x', 'y'"):
        load(tmp_path / "two.npz")
    with pytest.raises(DataError, match=r"own\.npz: holds no 'test' split"):
        load(tmp_path / "own.npz", split="test")


@pytest.mark.parametrize(("shape", "line"), [
    ((3, 784), "images.reshape(-1, 1, 28, 28)"), ((3, 4096), "images.reshape(-1, 1, 64, 64)"),
    ((3, 3072), "images.reshape(-1, 3, 32, 32)"), ((3, 5), None), ((784,), None)])
def test_rows_of_pixels_are_refused_with_the_line_that_reshapes_them(
        tmp_path: Path, shape: tuple[int, ...], line: str | None) -> None:
    images = np.zeros(shape, np.uint8)
    np.save(tmp_path / "own.npy", images)
    np.savez(tmp_path / "own.npz", images=images)
    np.savez(tmp_path / "split.npz", x_train=images)
    refused = [lambda name=name: load(tmp_path / name) for name in ("own.npy", "own.npz", "split.npz")]
    for call in [*refused, lambda: Dataset("own", images, None, "sha256:0")]:
        with pytest.raises(ValueError, match=re.escape(str(shape))) as caught:
            call()
        assert ("reshape" in str(caught.value)) == (line is not None)
        if line is not None:
            assert line in str(caught.value)
            assert eval(line, {"images": images}).ndim == 4


def test_a_file_as_keras_has_it_has_two_splits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arrays = {"x_train": noise(5, 6, 6), "y_train": np.arange(5, dtype=np.uint8), "x_test": noise(3, 6, 6),
              "y_test": np.array([[2], [0], [1]], np.int32)}
    np.savez(tmp_path / "own.npz", **arrays)
    train, test = load(tmp_path / "own.npz"), load(tmp_path / "own.npz", split="test")
    for data, split in ((train, "train"), (test, "test")):
        assert data.name == "array:own.npz" and data.labels is not None
        np.testing.assert_array_equal(data.images[:, 0], arrays[f"x_{split}"])
        np.testing.assert_array_equal(data.labels, arrays[f"y_{split}"].ravel())
    assert train.checksum != test.checksum and capsys.readouterr().err == ""
    np.savez(tmp_path / "half.npz", x_train=arrays["x_train"])
    assert load(tmp_path / "half.npz").labels is None
    with pytest.raises(DataError, match=r"half\.npz: holds no array 'x_test' \(found x_train\)"):
        load(tmp_path / "half.npz", split="test")
    (tmp_path / "mnist.npz").write_bytes((tmp_path / "own.npz").read_bytes())
    assert load(tmp_path / "mnist.npz").name == "array:mnist.npz"
    assert "mnist.npz: its content is not MNIST's" in capsys.readouterr().err
    np.savez(tmp_path / "pickled.npz", x_train=np.array([{}, {}], dtype=object))
    with pytest.raises(DataError, match=r"pickled\.npz: cannot be read as an array file.*allow_pickle"):
        load(tmp_path / "pickled.npz")


@pytest.mark.parametrize(("array", "message"), [
    (np.full((2, 4, 4), 2.0), r"must lie in \[-1, 1\] .* found 2 to 2"),
    (np.full((2, 4, 4), np.nan), "found nan to nan"),
    (np.array([[[0.0, np.inf]]]), "found 0 to inf"),
    (np.zeros((2, 4, 4), np.int64), "int64, expected uint8"),
    (np.zeros((2, 4, 4), bool), "bool, expected uint8"),
    (np.zeros((4, 4), np.uint8), r"shape \(4, 4\), expected \(N, H, W\)"),
    (np.zeros((2, 4, 4, 5), np.uint8), r"shape \(2, 4, 4, 5\), expected"),
    (np.zeros((0, 4, 4), np.uint8), "holds no image"),
    (np.zeros((2, 0, 4), np.float32), "holds no image"),
    (np.array([{}, {}], dtype=object), "cannot be read as an array file"),
])
def test_an_array_that_is_no_images_is_refused(tmp_path: Path, array: np.ndarray, message: str) -> None:
    np.save(tmp_path / "own.npy", array, allow_pickle=True)
    with pytest.raises(DataError, match=message) as caught:
        load(tmp_path / "own.npy")
    assert str(tmp_path / "own.npy") in str(caught.value)


@pytest.mark.parametrize("labels", [np.zeros(2), np.zeros(3, np.int64), np.zeros((2, 1), np.int64)])
def test_labels_that_do_not_fit_are_refused(tmp_path: Path, labels: np.ndarray) -> None:
    np.savez(tmp_path / "own.npz", images=noise(2, 4, 4), labels=labels)
    with pytest.raises(DataError, match=r"own\.npz: labels are .*, expected integers \(2,\)"):
        load(tmp_path / "own.npz")


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_a_damaged_array_file_is_named(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"own{suffix}"
    np.save(path, noise(9, 9, 9)) if suffix == ".npy" else np.savez(path, images=noise(9, 9, 9))
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    versions = [whole[:len(whole) // 2], b"", b"junk", pickle.dumps({"a": 1})] + [bytes(flipped)] * (suffix == ".npz")
    for damaged in versions:
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=rf"own\{suffix}: cannot be read as an array file"):
            load(path)
