"""IDX files beside MNIST's own: other contents, other names, other places, and MNIST wherever its content lies."""
from __future__ import annotations

import gzip
import hashlib
import os
import re
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from tinygan.data import DataError, Dataset, load, mnist

NAMES = {("train", "images"): "train-images-idx3-ubyte", ("train", "labels"): "train-labels-idx1-ubyte",
         ("test", "images"): "t10k-images-idx3-ubyte", ("test", "labels"): "t10k-labels-idx1-ubyte"}
REAL = os.environ.get("TINYGAN_DATA", "")


@pytest.fixture(autouse=True)
def nowhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("TINYGAN_DATA", raising=False)


def idx(array: np.ndarray, code: int = 8) -> bytes:
    return struct.pack(f">{1 + array.ndim}i", 256 * code + array.ndim, *array.shape) + array.tobytes()


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(shape).integers(0, 256, shape).astype(np.uint8)


def classes(n: int) -> np.ndarray:
    return (np.arange(n) * 7 % 10).astype(np.uint8)


def write(path: Path, array: np.ndarray, code: int = 8) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = idx(array, code)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return array


def both_splits(folder: Path, ending: str = ".gz", images: tuple[int, int] = (28, 28)) -> dict[tuple[str, str], np.ndarray]:
    made = {("train", "images"): noise(7, *images), ("train", "labels"): classes(7), ("test", "images"): noise(5, *images),
            ("test", "labels"): classes(5)}
    for part, array in made.items():
        write(folder / (NAMES[part] + ending), array)
    return made


def is_called_mnist(monkeypatch: pytest.MonkeyPatch, made: dict[tuple[str, str], np.ndarray]) -> None:
    """From now on this small content counts as MNIST's."""
    monkeypatch.setattr(mnist, "SHA256", {NAMES[part]: hashlib.sha256(idx(array)).hexdigest() for part, array in made.items()})


def holds(data: Dataset, images: np.ndarray, labels: np.ndarray | None) -> None:
    np.testing.assert_array_equal(data.images[:, 0], images)
    assert (data.labels is None) == (labels is None)
    if labels is not None and data.labels is not None:
        assert data.labels.dtype == np.int64
        np.testing.assert_array_equal(data.labels, labels)


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_other_content_under_mnists_names_goes_by_the_name_of_its_folder(
        tmp_path: Path, capsys: pytest.CaptureFixture[str], ending: str) -> None:
    made = both_splits(tmp_path / "fashion", ending)
    for split in ("train", "test"):
        data = load(tmp_path / "fashion", split=split)  # type: ignore[arg-type]
        assert data.name == "idx:fashion"
        holds(data, made[split, "images"], made[split, "labels"])
        (line,) = capsys.readouterr().err.splitlines()
        assert NAMES[split, "images"] in line and "not MNIST's content" in line and "'idx:fashion'" in line
    assert load(tmp_path / "fashion").checksum != load(tmp_path / "fashion", split="test").checksum


def test_one_wrong_bit_in_mnist_is_noticed(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "digits"
    made = both_splits(folder)
    is_called_mnist(monkeypatch, made)
    assert load(folder).name == load(folder, split="test").name == "mnist" and capsys.readouterr().err == ""
    for kind in ("images", "labels"):
        array = made["train", kind].copy()
        array.flat[-1] ^= 1
        write(folder / f"{NAMES['train', kind]}.gz", array)
        data = load(folder)
        assert data.name == "idx:digits"
        (line,) = capsys.readouterr().err.splitlines()
        assert [name in line for name in (NAMES["train", "images"], NAMES["train", "labels"])] == [
            kind == "images", kind == "labels"]
        write(folder / f"{NAMES['train', kind]}.gz", made["train", kind])


def test_images_of_any_size_with_or_without_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = both_splits(tmp_path / "wide", images=(14, 20))
    assert load(tmp_path / "wide").image_shape == (1, 14, 20)
    for part in ("train", "test"):
        (tmp_path / "wide" / f"{NAMES[part, 'labels']}.gz").unlink()
    holds(load(tmp_path / "wide"), made["train", "images"], None)
    capsys.readouterr()
    for name in ("images-idx3-ubyte", "faces.idx3-ubyte.gz", "Own_Training_Images.idx"):
        holds(load(write(tmp_path / name[:5] / name, noise(4, 9, 6)) is not None and tmp_path / name[:5]), noise(4, 9, 6), None)
    assert capsys.readouterr().err == ""  # nobody would take these for MNIST's
    with pytest.raises(DataError, match="load: idx:faces has images of shape"):
        load(tmp_path / "faces", size=28)


def test_colour_and_other_numbers(tmp_path: Path) -> None:
    colour = write(tmp_path / "colour" / "train-images-idx4-ubyte", noise(3, 8, 8, 3))
    np.testing.assert_array_equal(load(tmp_path / "colour").images, colour.transpose(0, 3, 1, 2))
    floats = write(tmp_path / "floats" / "train-images-idx3-float", np.linspace(-1, 1, 60, dtype=">f4").reshape(3, 4, 5), 13)
    write(tmp_path / "floats" / "train-labels-idx1-int", np.array([300, 0, 1], ">i4"), 12)
    data = load(tmp_path / "floats")
    assert data.images.dtype == np.float32
    holds(data, floats, np.array([300, 0, 1]))
    write(tmp_path / "short" / "train-images-idx3-short", np.zeros((3, 4, 5), ">i2"), 11)
    with pytest.raises(DataError, match="train-images-idx3-short: images are >i2, expected uint8"):
        load(tmp_path / "short")
    write(tmp_path / "rows" / "train-images-idx2-ubyte", noise(3, 784))
    with pytest.raises(DataError, match=re.escape("images.reshape(-1, 1, 28, 28)")):
        load(tmp_path / "rows")
    write(tmp_path / "qmnist" / "qmnist-test-images-idx3-ubyte.gz", noise(3, 28, 28))
    write(tmp_path / "qmnist" / "qmnist-test-labels-idx2-int.gz", np.arange(24, dtype=">i4").reshape(3, 8), 12)
    holds(load(tmp_path / "qmnist", split="test"), noise(3, 28, 28), np.array([0, 8, 16]))


def test_emnist_is_turned_upright_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "letters"
    for split, n in (("train", 4), ("test", 3)):
        write(folder / f"emnist-letters-{split}-images-idx3-ubyte.gz", noise(n, 28, 28))
        write(folder / f"emnist-letters-{split}-labels-idx1-ubyte.gz", classes(n))
        data = load(folder, split=split)  # type: ignore[arg-type]
        assert data.name == "idx:letters"
        holds(data, noise(n, 28, 28).transpose(0, 2, 1), classes(n))
        said = capsys.readouterr().err
        assert "EMNIST stores its images with rows and columns exchanged" in said and f"letters-{split}-images" in said


def test_of_several_data_sets_in_a_folder_one_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i, kind in enumerate(("letters", "digits")):
        for split in ("train", "test"):
            write(tmp_path / "gzip" / f"emnist-{kind}-{split}-images-idx3-ubyte.gz", noise(3 + i, 28, 28))
    with pytest.raises(DataError, match=r"holds several data sets .*emnist-digits, emnist-letters.*name a file of the one you mean, such as .*-train-images-"):
        load(tmp_path / "gzip")
    chosen = tmp_path / "gzip" / "emnist-letters-train-images-idx3-ubyte.gz"
    assert (load(chosen).name, len(load(chosen)), len(load(chosen, split="test"))) == ("idx:gzip/emnist-letters", 3, 3)
    write(tmp_path / "gzip" / "own-train-labels.idx", classes(3))
    with pytest.raises(DataError, match=r"gzip: the train images are missing$"):
        load(tmp_path / "gzip" / "own-train-labels.idx")
    with pytest.raises(DataError, match=r"notes\.idx: neither a \.npy or \.npz file nor an IDX file"):
        (tmp_path / "notes.idx").write_bytes(b"")
        load(tmp_path / "notes.idx")


def test_mnists_missing_files_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "digits"
    is_called_mnist(monkeypatch, both_splits(folder))
    (folder / f"{NAMES['train', 'labels']}.gz").unlink()
    with pytest.raises(DataError, match=r"digits: train-labels-idx1-ubyte\.gz .* is missing"):
        load(folder)
    (folder / f"{NAMES['test', 'images']}.gz").unlink()
    with pytest.raises(DataError, match=r"digits: t10k-images-idx3-ubyte\.gz .* is missing"):
        load(folder, split="test")
    write(tmp_path / "own" / "own-train-images.idx", noise(3, 4, 4))
    with pytest.raises(DataError, match=r"own: the test images are missing \(found own-train-images\.idx\)"):
        load(tmp_path / "own", split="test")


def test_counts_and_labels_that_do_not_fit_are_named(tmp_path: Path) -> None:
    both_splits(tmp_path / "own")
    write(tmp_path / "own" / "train-labels-idx1-ubyte.gz", classes(6))
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz holds 7 images, .*train-labels-idx1-ubyte\.gz 6 labels"):
        load(tmp_path / "own")
    write(tmp_path / "own" / "train-images-idx3-ubyte.gz", noise(0, 28, 28))
    write(tmp_path / "own" / "train-labels-idx1-ubyte.gz", classes(0))
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz: images have shape .* holds no image"):
        load(tmp_path / "own")


@pytest.mark.parametrize("inside", ["MNIST/raw", "raw", "."])
def test_mnist_is_found_where_torchvision_puts_it(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], inside: str) -> None:
    made = both_splits(tmp_path / "data" / inside, ending="")
    both_splits(tmp_path / "data" / inside)  # torchvision keeps the gzipped files beside the others
    is_called_mnist(monkeypatch, made)
    for split in ("train", "test"):
        data = load(tmp_path / "data", split=split)  # type: ignore[arg-type]
        assert data.name == "mnist"
        holds(data, made[split, "images"], made[split, "labels"])
    if inside == "MNIST/raw":
        assert load(tmp_path / "data" / "MNIST").name == "mnist"
    assert capsys.readouterr().err == ""


def test_other_data_sets_of_torchvision_go_by_their_own_names(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    both_splits(tmp_path / "FashionMNIST" / "raw", images=(20, 20))
    for given in (tmp_path, tmp_path / "FashionMNIST", tmp_path / "FashionMNIST" / "raw"):
        assert load(given).name == "idx:FashionMNIST"
    both_splits(tmp_path / "KMNIST" / "raw", images=(20, 20))
    with pytest.raises(DataError, match=r"holds several data sets, name one of them: .*FashionMNIST.*KMNIST"):
        load(tmp_path)
    is_called_mnist(monkeypatch, both_splits(tmp_path / "MNIST" / "raw"))
    capsys.readouterr()
    assert load(tmp_path).name == "mnist" and "KMNIST" in capsys.readouterr().err


def test_keras_file_is_mnist_where_its_content_is(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    made = both_splits(tmp_path / "files")
    is_called_mnist(monkeypatch, made)
    arrays = {f"{'x' if kind == 'images' else 'y'}_{split}": array for (split, kind), array in made.items()}
    np.savez(tmp_path / "mnist.npz", **arrays)
    np.savez(tmp_path / "wide.npz", **{name: array.astype(np.int64) if name[0] == "y" else array for name, array in arrays.items()})
    for split in ("train", "test"):
        ours = load(tmp_path / "files", split=split)  # type: ignore[arg-type]
        for name in ("mnist.npz", "wide.npz"):
            data = load(tmp_path / name, split=split)  # type: ignore[arg-type]
            assert (data.name, data.checksum) == ("mnist", ours.checksum)  # a run may go on with the other file
            holds(data, made[split, "images"], made[split, "labels"])
    assert capsys.readouterr().err == ""
    (tmp_path / "keras").mkdir()
    (tmp_path / "mnist.npz").rename(tmp_path / "keras" / "mnist.npz")
    assert load(tmp_path / "keras").name == "mnist"
    arrays["x_test"] = arrays["x_test"] ^ 1
    np.savez(tmp_path / "other.npz", **arrays)
    assert [load(tmp_path / "other.npz", split=split).name for split in ("train", "test")] == ["mnist", "array:other.npz"]  # type: ignore[arg-type]


def test_a_small_gzip_file_does_not_become_a_large_one(tmp_path: Path) -> None:
    path = tmp_path / "own" / "train-images-idx3-ubyte.gz"
    path.parent.mkdir()
    path.write_bytes(gzip.compress(idx(noise(2, 8, 8)) + bytes(1 << 27), compresslevel=1))
    tracemalloc.start()
    with pytest.raises(DataError, match="its header promises 144"):
        load(tmp_path / "own")
    assert tracemalloc.get_traced_memory()[1] < 1 << 24
    tracemalloc.stop()


def test_every_shortened_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "own" / "images-idx3-ubyte.gz"
    write(path, noise(2, 8, 8))
    whole = path.read_bytes()
    assert len(load(tmp_path / "own")) == 2
    for length in range(0, len(whole), 3):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"images-idx3-ubyte\.gz: "):
            load(tmp_path / "own")


@pytest.mark.skipif(not REAL, reason="TINYGAN_DATA does not name a folder with the real MNIST")
def test_the_real_mnist_as_keras_has_it(tmp_path: Path) -> None:
    train, test = load(REAL), load(REAL, split="test")
    assert train.labels is not None and test.labels is not None
    np.savez(tmp_path / "mnist.npz", x_train=train.images[:, 0], y_train=train.labels.astype(np.uint8),
             x_test=test.images[:, 0], y_test=test.labels.astype(np.uint8))
    for data, split in ((train, "train"), (test, "test")):
        found = load(tmp_path / "mnist.npz", split=split)  # type: ignore[arg-type]
        assert (found.name, found.checksum) == ("mnist", data.checksum)
