"""Images from a folder of PNG, JPEG, WebP, GIF, BMP, TIFF and other files that Pillow reads."""

from __future__ import annotations

__all__ = ["colour", "read"]

import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tinygan.cache import say
from tinygan.data.dataset import DataError, Dataset, content_checksum
from tinygan.data.files import Found, about_left_out, counted, examples

if TYPE_CHECKING:
    import PIL.Image

GREY = ("1", "L", "LA")
COLOUR = ("P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV")
DEEP = ("I", "I;16", "I;16L", "I;16B", "I;16N")  # Pillow's modes for grey of 16 bits
SEVERAL_FRAMES = ("GIF", "TIFF", "WEBP", "PNG", "AVIF")  # (a JPEG file with several frames is one photograph with additions)
NAMED = 20  # how many files one error names
FEW = 3  # so many are named if images only have other sizes than the first


@dataclass(frozen=True)
class _Form:
    """The form into which every image is converted: see `read`."""

    size: int | None
    channels: int | None
    background: tuple[int, int, int]


@dataclass
class _Notes:
    """Files of which only a part is used."""

    exif: list[Path] = field(default_factory=list)
    frames: list[Path] = field(default_factory=list)


def colour(text: str) -> tuple[int, int, int]:
    """(red, green, blue) of a name, of "#rrggbb", or of anything that `PIL.ImageColor` takes. Raises ValueError if the
    colour is not opaque."""
    import PIL.ImageColor

    if not isinstance(text, str):
        raise ValueError(f"expected a name or '#rrggbb', got {text!r}")
    red, green, blue, *alpha = PIL.ImageColor.getrgb(text)
    if alpha not in ([], [255]):
        raise ValueError(f"{text!r} is transparent itself")
    return red, green, blue


def read(folder: Path, found: Found, size: int | None = None, channels: int | None = None, background: str = "black",
         skip_bad_files: bool = False) -> Dataset:
    """The images that were `found` in `folder` as one data set.

    `size`: crop the middle square and resize it to `(size, size)`; None: all images must have the same size already.
    `channels`: 1 for grey, 3 for RGB; None: either all images must be grey, or all in colour. Transparent pixels show
    `background`. A 16-bit grey value becomes value / 257, rounded. (Of 16-bit colours Pillow reads the upper byte.) Of a
    file with several frames or pages, the first is used. An image is turned as its EXIF block says, if that can be read.
    Labels: if every file is in a sub-folder, the sub-folders of `folder`, in alphabetical order, are the classes 0, 1, ...
    Their names are those of the classes.

    Raises a `DataError` that names the first files that cannot be read or do not fit. With `skip_bad_files`,
    files that cannot be read are left out, counted (`Dataset.bad_files`) and reported. An image of another size is still an
    error.
    """
    from tqdm import tqdm

    form, notes = _Form(size, channels, colour(background)), _Notes()
    bad: list[tuple[Path, str]] = list(found.unreadable)
    shapes: dict[Path, tuple[int, ...]] = {}
    images, used, stopped = None, 0, False
    for path in tqdm(found.images, desc=f"reading {folder.name}", unit="image", leave=False, disable=None):
        try:
            pixels = _read_file(path, form, notes)
        except _UnfitError as error:
            bad.append((path, str(error)))
        else:
            if images is None:
                images = np.empty((len(found.images), *pixels.shape), np.uint8)
            shapes[path] = pixels.shape
            if pixels.shape == images.shape[1:]:
                images[used] = pixels
                used += 1
        if len(shapes) - used + (0 if skip_bad_files else len(bad)) >= NAMED:
            stopped = path != found.images[-1]
            break
    usual = Counter(shapes.values()).most_common(1)[0][0] if shapes else ()  # (of equally frequent shapes, the first)
    others = [path for path, shape in shapes.items() if shape != usual]
    unfit = [] if skip_bad_files and shapes else bad
    if unfit or others or images is None:
        raise DataError(_complaint(folder, found, unfit, others, shapes, usual, skip_bad_files, stopped))
    if bad:
        say(f"{folder}: left out {counted(len(bad), 'file')} of {len(found.images):,} that cannot be read: "
            f"{_named(folder, bad)}")
    _tell(folder, found, notes)
    below = [path.relative_to(folder).parts for path in shapes]
    labels, names = None, None
    if all(len(parts) > 1 for parts in below):
        folders, places = np.unique([parts[0] for parts in below], return_inverse=True)
        labels, names = places.astype(np.int64), tuple(map(str, folders))
    elif any(len(parts) > 1 for parts in below):
        outside = Path(*next(parts for parts in below if len(parts) == 1))
        say(f"{folder}: the sub-folders are not used as classes: some images are outside of them, such as {outside}")
    images = images[:used]
    return Dataset(f"images:{folder.resolve().name}", images, labels, content_checksum(images, labels), len(bad), names)


def _complaint(folder: Path, found: Found, bad: list[tuple[Path, str]], others: list[Path],
               shapes: dict[Path, tuple[int, ...]], usual: tuple[int, ...], skip_bad_files: bool,
               stopped: bool) -> str:
    """The message that says what is wrong with which files, and what to do. stopped: whether some files were not tried."""
    first = next((path for path, shape in shapes.items() if shape == usual), folder)
    reasons = dict(bad)
    for path in others:
        reasons[path] = f"{_describe(shapes[path])}, but {first.relative_to(folder)} is {_describe(usual)}"
    advice = []
    if bad and not skip_bad_files:
        advice.append("--skip-bad-files (load(..., skip_bad_files=True)) leaves out what cannot be read")
    if others:
        sizes, channels = {shape[1:] for shape in shapes.values()}, {shape[0] for shape in shapes.values()}
        advice.append("--image-size and --channels (load(..., size=, channels=)) make images alike"
                      if len(sizes) > 1 and len(channels) > 1 else
                      "--image-size (load(..., size=)) makes images alike" if len(sizes) > 1 else
                      "--channels (load(..., channels=)) makes images alike")
    if len(reasons) == 1:
        (path, reason), = reasons.items()
        return "; ".join([f"{path}: {reason}", *advice])
    wrong = sorted(reasons.items(), key=lambda item: item[0].parts)
    if not bad:
        return f"{folder}: its images are not all alike: {_named(folder, wrong, FEW, stopped)}; {advice[0]}"
    number = f"at least {len(wrong)}" if stopped else f"{len(wrong):,}"
    return "; ".join([f"{folder}: {number} of {counted(len(found.images), 'image file')} cannot be used: "
                      f"{'; '.join([*advice, _named(folder, wrong)])}"])


def _named(folder: Path, files: list[tuple[Path, str]], most: int = NAMED, stopped: bool = False) -> str:
    """"NAME: what is wrong; NAME, NAME: what is wrong; ..." for up to `most` files. stopped: whether some were not tried."""
    named = [f"{', '.join(str(path.relative_to(folder)) for path, _ in group)}: {reason}"
             for reason, group in groupby(files[:most], key=lambda item: item[1])]
    return "; ".join(named + [f"and {'at least ' * stopped}{len(files) - most:,} more"] * (len(files) > most))


def _tell(folder: Path, found: Found, notes: _Notes) -> None:
    """Report on stderr what was left out or only partly used."""
    left_out = about_left_out(folder, found)
    if left_out:
        say(f"{folder}: left out {left_out}")
    if notes.exif:
        say(f"{folder}: {counted(len(notes.exif), 'image')} with an EXIF block that cannot be read, taken as stored: "
            f"{examples(folder, notes.exif)}")
    if notes.frames:
        say(f"{folder}: of {counted(len(notes.frames), 'file')} with several frames or pages the first was taken: "
            f"{examples(folder, notes.frames)}")


class _UnfitError(Exception):
    """A file cannot be read as an image. The message says why, but does not name the file."""


def _read_file(path: Path, form: _Form, notes: _Notes) -> npt.NDArray[np.uint8]:
    """One image as `(C, H, W)`."""
    import PIL.Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow reads a file although it warns
            with PIL.Image.open(path) as opened:
                if opened.format in SEVERAL_FRAMES and getattr(opened, "is_animated", False):
                    notes.frames.append(path)
                image = _upright(opened, lambda: notes.exif.append(path))
                grey = form.channels == 1 or (form.channels is None and opened.mode in GREY + DEEP)
                image = _opaque(_of_bytes(image), form.background).convert("L" if grey else "RGB")
        if form.size is not None:
            side = min(image.size)
            left, top = (image.width - side) // 2, (image.height - side) // 2
            image = image.crop((left, top, left + side, top + side))
            image = image.resize((form.size, form.size), PIL.Image.Resampling.LANCZOS)
        pixels = np.asarray(image)
    except _UnfitError:
        raise
    except PIL.UnidentifiedImageError as error:  # (its message is only the path)
        raise _UnfitError("cannot be read as an image: damaged, or another kind of file") from error
    except OSError as error:
        raise _UnfitError(f"cannot be read as an image: {error.strerror or error}") from error
    except Exception as error:  # for a damaged file Pillow may raise almost any error, such as SyntaxError
        raise _UnfitError(f"cannot be read as an image: {error}") from error
    return pixels.reshape(*pixels.shape[:2], -1).transpose(2, 0, 1)


def _upright(image: PIL.Image.Image, unreadable: Callable[[], Any]) -> PIL.Image.Image:
    """`image`, loaded and turned as its EXIF block says; the rest of the block is ignored. If the block cannot be read,
    `unreadable` is called, and the image is not turned."""
    import PIL.ExifTags
    import PIL.Image

    turn = PIL.Image.Transpose
    turns = {2: turn.FLIP_LEFT_RIGHT, 3: turn.ROTATE_180, 4: turn.FLIP_TOP_BOTTOM, 5: turn.TRANSPOSE, 6: turn.ROTATE_270,
             7: turn.TRANSVERSE, 8: turn.ROTATE_90}
    image.load()
    try:
        with warnings.catch_warnings(record=True) as doubts:
            warnings.simplefilter("always")
            orientation = image.getexif().get(PIL.ExifTags.Base.Orientation)
    except Exception:  # (almost any error, as for the pixels)
        unreadable()
        return image
    if orientation is None and doubts:
        unreadable()
    return image.transpose(turns[orientation]) if isinstance(orientation, int) and orientation in turns else image


def _of_bytes(image: PIL.Image.Image) -> PIL.Image.Image:
    """`image` with 8 bits per channel. Grey of 16 bits (0 to 65535) is divided by 257 and rounded."""
    import PIL.Image

    if image.mode in GREY + COLOUR:
        return image
    if image.mode not in DEEP:
        raise _UnfitError(f"pixels of kind {image.mode!r}; expected grey of 8 or 16 bits, or colour")
    deep = np.asarray(image).astype(np.int64)
    if deep.min() < 0 or deep.max() > 65535:
        raise _UnfitError(f"pixels of kind {image.mode!r} from {deep.min()} to {deep.max()}; expected 0 to 65535")
    shallow = PIL.Image.fromarray(((deep + 128) // 257).astype(np.uint8))
    hidden = image.info.get("transparency")  # the one value that stands for a transparent pixel
    if isinstance(hidden, int):
        shallow.putalpha(PIL.Image.fromarray(np.where(deep == hidden, 0, 255).astype(np.uint8)))
    return shallow


def _opaque(image: PIL.Image.Image, background: tuple[int, int, int]) -> PIL.Image.Image:
    """`image` with `background` behind its transparent pixels."""
    import PIL.Image

    if image.mode not in ("LA", "PA", "RGBA") and "transparency" not in image.info:
        return image
    image = image.convert("RGBA")
    return PIL.Image.alpha_composite(PIL.Image.new("RGBA", image.size, (*background, 255)), image)


def _describe(shape: tuple[int, ...]) -> str:
    channels, height, width = shape
    return f"{width}x{height} {'grey' if channels == 1 else 'RGB'}"
