"""`Dataset`, which data set `load` returns, and `glyphs`. Own files and MNIST's have tests of their own."""
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tinygan.cache import keep
from tinygan.data import DataError, Dataset, cache_folder, glyphs, load, mnist
from tinygan.data.dataset import content_checksum
from tinygan.data.download import UnavailableError
from tinygan.random import Key


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    Key(0).bits(1)  # compiles what random draws need, if anything, before the cache folder moves
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("TINYGAN_DATA", raising=False)
    monkeypatch.setattr(mnist, "MIRRORS", ())  # the tests never reach for the network
    return tmp_path / "cache" / "tinygan"


def small_dataset(count: int = 5) -> Dataset:
    images = (np.arange(count * 6, dtype=np.int64) * 255 // (count * 6 - 1)).astype(np.uint8).reshape(count, 1, 2, 3)
    labels = np.arange(count, dtype=np.int64)
    return Dataset("small", images, labels, content_checksum(images, labels))


def test_batch_is_the_bytes_mapped_onto_minus_one_to_one() -> None:
    data = small_dataset()
    batch = data.batch(np.array([4, 0, 4]))
    assert batch.shape == (3, 1, 2, 3) and batch.dtype == np.float32 and batch.flags.c_contiguous and batch.flags.owndata
    expected = [[[[float(data.images[i, 0, r, c]) / 127.5 - 1 for c in range(3)] for r in range(2)]] for i in (4, 0, 4)]
    np.testing.assert_allclose(batch, expected, atol=1e-7)
    assert batch.min() == -1 and batch.max() == 1  # both ends exactly
    with pytest.raises(IndexError):
        data.batch(np.array([5]))


def test_batch_of_float_images_is_a_copy() -> None:
    images = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 1, 2, 2)
    data = Dataset("floats", images, None, content_checksum(images, None))
    batch = data.batch([1])
    np.testing.assert_array_equal(batch, images[1:2])
    batch[:] = 7
    assert images.max() == 1


def test_limit_keeps_name_and_checksum() -> None:
    data = small_dataset()
    limited = data.limit(2)
    assert (len(limited), limited.name, limited.checksum) == (2, data.name, data.checksum)
    assert limited.labels is not None and limited.labels.tolist() == [0, 1]
    assert data.limit(None) is data and len(data.limit(99)) == 5 and data.image_shape == (1, 2, 3)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        data.limit(0)


@pytest.mark.parametrize(("images", "labels"), [
    (np.zeros((2, 3, 3), np.uint8), None),
    (np.zeros((2, 1, 3, 3), np.float64), None),
    (np.zeros((0, 1, 3, 3), np.uint8), None),
    (np.zeros((2, 1, 3, 3), np.uint8), np.zeros(3, np.int64)),
])
def test_a_dataset_of_the_wrong_shape_is_refused(images: np.ndarray, labels: np.ndarray | None) -> None:
    with pytest.raises(ValueError, match="Dataset wrong"):
        Dataset("wrong", images, labels, "sha256:0")


def test_checksum_depends_on_values_shape_and_labels_but_not_on_layout() -> None:
    images = np.arange(24, dtype=np.uint8).reshape(2, 3, 2, 2)
    labels = np.array([0, 1])
    channels_last = np.ascontiguousarray(images.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    assert content_checksum(images, labels) == content_checksum(channels_last, labels)
    others = [content_checksum(images + 1, labels), content_checksum(images.reshape(3, 2, 2, 2), labels),
              content_checksum(images, labels[::-1]), content_checksum(images, None)]
    assert len({content_checksum(images, labels), *others}) == 5


def test_load_checks_its_arguments(tmp_path: Path) -> None:
    for arguments in ({"split": "validation"}, {"size": 0}, {"channels": 2}):
        with pytest.raises(ValueError, match=next(iter(arguments))):
            load(**arguments)  # type: ignore[arg-type]
    np.save(tmp_path / "a.npy", np.zeros((2, 4, 4), np.uint8))
    assert load(tmp_path / "a.npy", size=4, channels=1).image_shape == (1, 4, 4)
    with pytest.raises(DataError, match=r"\(1, 4, 4\), not \(3, 8, 8\)"):
        load(tmp_path / "a.npy", size=8, channels=3)


def test_what_was_given_never_falls_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="nowhere: no such file or folder"):
        load(tmp_path / "nowhere")
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.setenv("TINYGAN_DATA", str(empty))
    with pytest.raises(DataError, match="empty: holds neither MNIST"):
        load()
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(DataError, match=r"notes\.txt: neither a \.npy or \.npz file nor an IDX file"):
        load(tmp_path / "notes.txt")


def test_the_argument_comes_before_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two"):
        np.save(tmp_path / f"{name}.npy", np.zeros((2, 4, 4), np.uint8))
    monkeypatch.setenv("TINYGAN_DATA", str(tmp_path / "one.npy"))
    assert load().name == "array:one.npy"
    assert load(tmp_path / "two.npy").name == "array:two.npy"
    assert load(str(tmp_path / "two.npy")).name == "array:two.npy"


def test_the_cache_folder_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cache_folder() == tmp_path / "cache" / "tinygan"
    Key(0).bits(1)  # compiles what random draws need, if anything, before the cache folder moves
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder().is_absolute()
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(sys, "platform", "linux")
    assert cache_folder() == tmp_path / ".cache" / "tinygan"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cache_folder() == tmp_path / "Library" / "Caches" / "tinygan"
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert cache_folder() == tmp_path / "local" / "tinygan"


def test_keeping_a_file_leaves_the_whole_file_or_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "new" / "file"
    assert keep(path, lambda file: file.write(b"whole")) and path.read_bytes() == b"whole"

    def interrupted(file: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        keep(path, interrupted)
    assert path.read_bytes() == b"whole" and os.listdir(path.parent) == ["file"]
    assert not keep(path / "below a file", lambda file: file.write(b""))
    assert "could not save" in capsys.readouterr().err


def test_importing_the_module_imports_only_numpy() -> None:
    code = ("import sys, tinygan.data; "
            "print([name for name in ('matplotlib', 'PIL', 'tqdm', 'urllib.request') if name in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_glyphs_are_the_same_everywhere() -> None:
    images, labels = glyphs.draw("train", 200)
    assert images.shape == (200, 1, 28, 28) and images.dtype == np.uint8 and labels.dtype == np.int64
    assert content_checksum(images, labels) == "sha256:c079971e2f74d0aafff03ed6ca2263d21017bd616c28ff870b05e7bbbae7d8b4"


def test_glyphs_look_like_digits() -> None:
    images, labels = glyphs.draw("test", 3000)
    assert np.bincount(labels, minlength=10).min() > 230  # all ten digits, about equally often
    assert len(np.unique(images.reshape(len(images), -1), axis=0)) == len(images)
    assert 20 < images.mean() < 50  # MNIST: 33; white on black
    assert (images.max(axis=(1, 2, 3)) > 150).all()
    assert images[:, :, [0, -1]].mean() < 1 and images[:, :, :, [0, -1]].mean() < 1  # inside the frame
    # Told apart by the plainest classifier there is: the nearest of the ten mean images.
    flat = images.reshape(len(images), -1).astype(np.float64)
    known, asked = slice(0, 2000), slice(2000, 3000)
    means = np.stack([flat[known][labels[known] == digit].mean(axis=0) for digit in range(10)])
    guess = ((flat[asked, None] - means) ** 2).sum(axis=2).argmin(axis=1)
    assert (guess == labels[asked]).mean() > 0.7


def test_a_distance_field_of_a_square_with_a_hole() -> None:
    def ring(half: int, clockwise: bool) -> list[tuple[tuple[int, int], tuple[int, int]]]:
        corners = [(-half, -half), (-half, half), (half, half), (half, -half)][::1 if clockwise else -1]
        return list(zip(corners, corners[1:] + corners[:1], strict=True))

    field = glyphs._distance_field(np.array(ring(24, True) + ring(12, False), dtype=np.float64))  # a unit a cell
    x = np.abs(np.arange(glyphs.GRID) - (glyphs.GRID - 1) / 2)
    largest = np.maximum(x, x[:, None])
    outside = np.hypot(np.maximum(x - 24, 0), np.maximum(x - 24, 0)[:, None])
    expected = np.where(largest > 24, -outside, np.where(largest < 12, largest - 12, 0))
    in_ring = (largest >= 12) & (largest <= 24)
    np.testing.assert_allclose(field[~in_ring] / glyphs.UNIT, expected[~in_ring], atol=1 / glyphs.UNIT)
    assert (field[in_ring] > 0).all() and field.max() <= 6 * 2**0.5 * glyphs.UNIT


def test_glyphs_are_kept_verified_and_drawn_again_when_damaged(
        cache: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    first = load(split="test")
    said = capsys.readouterr().err
    assert first.name == "glyphs" and len(first) == 10_000 and first.checksum == glyphs.CHECKSUMS["test"]
    assert "no MNIST" in said and "glyphs" in said
    kept = cache / "glyphs-test.npz"
    drawn = []
    original = glyphs.draw
    monkeypatch.setattr(glyphs, "draw", lambda split: drawn.append(split) or original(split))
    np.testing.assert_array_equal(glyphs.load("test").images, first.images)
    assert drawn == []
    damaged = bytearray(kept.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    kept.write_bytes(damaged)
    np.testing.assert_array_equal(glyphs.load("test").images, first.images)
    assert drawn == ["test"]
    glyphs.load("test")
    assert drawn == ["test"]


def test_other_fonts_are_said_and_not_kept(
        cache: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    other = (np.full((3, 1, 28, 28), 9, np.uint8), np.arange(3))
    monkeypatch.setattr(glyphs, "draw", lambda split: other)
    assert len(glyphs.load("test")) == 3
    assert "not the usual ones" in capsys.readouterr().err and not cache.exists()


def test_without_mnist_and_without_a_fallback_there_is_an_error(tmp_path, monkeypatch, capsys) -> None:
    def missing(split: str) -> Dataset:
        raise UnavailableError("no network")

    monkeypatch.delenv("TINYGAN_DATA", raising=False)
    monkeypatch.setattr(mnist, "fetch", missing)
    assert load().name == "glyphs" and "Going on with 'glyphs'" in capsys.readouterr().err
    with pytest.raises(DataError, match=r"no MNIST: .*no network.* To use MNIST, put its four files"):
        load(fallback=False)


def test_a_data_set_in_words() -> None:
    images = np.zeros((1500, 3, 4, 5), np.uint8)
    assert repr(Dataset("own", images, None, "")) == "Dataset(own: 1,500 images of 3 x 4 x 5, uint8)"
    assert repr(Dataset("own", images, np.arange(1500) % 7, "")).endswith("uint8, 7 classes)")
