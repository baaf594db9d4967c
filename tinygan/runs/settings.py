"""A run's settings: one dataclass. Each field says what it can be, how the help explains it, and whether it may change when
a run is resumed. The flags of the command line are made from the fields."""
from __future__ import annotations

__all__ = ["Kind", "Resume", "Settings", "add_flags", "complete", "option", "read_config", "with_default"]

import argparse
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np

from tinygan.devices import NAME, PRECISIONS
from tinygan.tables import lookup

from .errors import RunError

S = TypeVar("S", bound="Settings")

CONFIG = "config.json"


class Resume(Enum):
    """Whether a setting may change when a run is resumed."""

    FIXED = "it decides what is computed, so it must stay the same"
    SAME_IMAGES = "it says how files are read, so it may change where the images stay the same, as their checksum tells"
    FREE = "it may change"
    UNRECORDED = "it says where and how a run happens, so it may change and is not kept in config.json"


@dataclass(frozen=True)
class Kind:
    """What a setting can be, as a parser of one value for argparse: `count("3")` is 3, `count("0")` an error."""

    make: Callable[[str], Any]
    test: Callable[[Any], bool]
    expected: str
    metavar: str = "X"
    """What the help calls a value."""

    def __call__(self, text: str) -> Any:
        """The value; or an error that says what was expected."""
        try:
            value = self.make(text)
            fits = self.test(value)
        except ValueError:
            fits = False
        if not fits:
            raise argparse.ArgumentTypeError(f"expected {self.expected}, got {text!r}")
        return value


def _is_colour(text: str) -> bool:
    from tinygan.data.images import colour

    return bool(colour(text))


count = Kind(int, lambda value: value >= 1, "a whole number of at least 1", "N")
natural = Kind(int, lambda value: value >= 0, "a whole number of at least 0", "N")
positive = Kind(float, lambda value: 0 < value < float("inf"), "a positive number")
fraction = Kind(float, lambda value: 0 <= value < 1, "a number from 0 up to, not including, 1")
grey_or_rgb = Kind(int, lambda value: value in (1, 3), "1 or 3", "N")
opaque_colour = Kind(str, _is_colour, "a colour such as white or #ff8000", "COLOUR")
device_name = Kind(str, lambda value: NAME.fullmatch(value) is not None, "auto, cpu, cuda or cuda:N", "DEVICE")
path = Kind(lambda text: str(Path(text).expanduser()) if text.startswith("~") else text, lambda _: True, "a path", "DIR")


def option(default: Any, help: str, kind: Callable[[str], Any], choices: Iterable[str] | None = None, *,
           resume: Resume = Resume.FIXED, younger: bool = False) -> Any:
    """A dataclass field that is also a flag: `latent_dim` becomes `--latent-dim`.

    kind: makes the value from text, such as `count`; `bool` for a flag without a value. choices: all values there are, such
    as a table's names. resume: see `Resume`. It counts for tinygan's settings alone: a program's own ones are always FIXED.
    younger: there are run folders from before this setting. The checkpoint's digest leaves it out where it is None.
    """
    return field(default=default, metadata={"help": help, "kind": kind, "resume": resume, "younger": younger,
                                            "choices": None if choices is None else tuple(choices)})


def with_default(settings: type[Settings], name: str, default: Any) -> Any:
    """The field `name` of those settings with another default."""
    return field(default=default, metadata=settings.__dataclass_fields__[name].metadata)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What every run is told. A variant adds its own (see `variants.py`).

    `epochs` is the total, over all resumptions. An epoch is one pass over the data in batches of `batch_size`; the last
    images of an epoch that do not fill a step are left out (every epoch shuffles anew).
    """

    variant: ClassVar[str] = "custom"
    title: ClassVar[str] = "GAN"
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Settings that belong together, by a name that `--preset` takes. A flag that is given beside it wins."""

    data_dir: str | None = option(None, "the images: MNIST's or other IDX files, a folder of images, or one .npy/.npz file",
                                  path, resume=Resume.UNRECORDED)
    image_size: int | None = option(None, "crop and resize the images of a folder to N x N pixels", count,
                                    resume=Resume.SAME_IMAGES)
    channels: int | None = option(None, "convert the images of a folder to grey (1) or RGB (3)", grey_or_rgb,
                                  resume=Resume.SAME_IMAGES)
    background: str | None = option(None, "what shows behind transparent images of a folder (default: black)", opaque_colour,
                                    resume=Resume.SAME_IMAGES)
    skip_bad_files: bool = option(False, "leave out the files of a folder that cannot be read", bool,
                                  resume=Resume.SAME_IMAGES)
    epochs: int = option(60, "passes over the data, in total", count, resume=Resume.FREE)
    batch_size: int = option(128, "images in one update of one player", count)
    seed: int = option(0, "everything random follows from it", natural)
    device: str = option("auto", "where to compute: auto, cpu, cuda, cuda:1, ...", device_name, resume=Resume.UNRECORDED)
    precision: str | None = option(None, "what a GPU computes products in (default: float32); tf32 is faster and less exact",
                                   str, PRECISIONS, younger=True)
    run_dir: str = option("", "where the run's files go", path, resume=Resume.UNRECORDED)
    evaluate: int | None = option(None, "every N epochs, compare generated digits with real ones (quality.json)", count,
                                  resume=Resume.FREE)
    resume: bool = option(False, "go on with the run in --run-dir", bool, resume=Resume.UNRECORDED)
    limit_train: int | None = option(None, "use only the first N images", count)
    quiet: bool = option(False, "no progress bar, a line an epoch", bool, resume=Resume.UNRECORDED)

    def __post_init__(self) -> None:
        for item in fields(self):
            value, kind = getattr(self, item.name), item.metadata.get("kind")
            if value is None or isinstance(value, bool | np.bool_) or kind is None:
                continue
            try:
                parsed = kind(str(value))
            except argparse.ArgumentTypeError as error:
                raise ValueError(f"{type(self).__name__}: {item.name}: {error}") from None
            if kind is path or isinstance(value, os.PathLike | np.generic):  # JSON takes neither a Path nor NumPy's numbers
                object.__setattr__(self, item.name, parsed)
            choices = item.metadata["choices"]
            if choices and value not in choices:
                raise ValueError(f"{type(self).__name__}: {item.name}: expected one of {', '.join(choices)}, got {value!r}")

    def reading(self) -> dict[str, Any]:
        """How the images of a folder are read: the arguments of `tinygan.data.load` beside `data_dir`."""
        return {"size": self.image_size, "channels": self.channels, "background": self.background,
                "skip_bad_files": self.skip_bad_files}

    def deciding(self) -> dict[str, Any]:
        """The settings that decide what is computed. `config.json` keeps them."""
        own = Settings.__dataclass_fields__
        return {item.name: getattr(self, item.name) for item in fields(self)
                if own.get(item.name, item).metadata.get("resume") is not Resume.UNRECORDED}


def add_flags(parser: argparse.ArgumentParser, settings: type[Settings]) -> None:
    """Give `parser` one flag for every field. A flag that is not given leaves no trace in the namespace."""
    for item in fields(settings):
        if "kind" not in item.metadata:  # a field of a user's own settings that is no `option`
            continue
        flag, kind, choices = "--" + item.name.replace("_", "-"), item.metadata["kind"], item.metadata["choices"]
        text = item.metadata["help"]
        if not (item.default is None or item.default is False or item.default == ""):
            text += f" (default: {item.default})"
        if kind is bool:
            parser.add_argument(flag, action="store_true", default=argparse.SUPPRESS, help=text)
        else:
            parser.add_argument(flag, type=kind, choices=choices, default=argparse.SUPPRESS, help=text,
                                metavar=kind.metavar if isinstance(kind, Kind) else None)
    if settings.presets:
        told = "; ".join(f"{name}: " + " ".join(f"--{flag.replace('_', '-')} {value}" for flag, value in flags.items())
                         for name, flags in settings.presets.items())
        parser.add_argument("--preset", choices=settings.presets, default=argparse.SUPPRESS,
                            help=f"several flags at once: {told}")


def complete(settings: type[S], given: dict[str, Any]) -> S:
    """Settings from the flags that were given; a resumed run takes the others from its own folder.

    So `--resume --run-dir RUN` alone goes on as the run began, and a flag that contradicts it is noticed.
    """
    preset = lookup(settings.presets, settings.__name__, "preset", given["preset"]) if "preset" in given else {}
    given = {**preset, **{name: value for name, value in given.items() if name in {item.name for item in fields(settings)}}}
    if given.get("data_dir") is not None:
        given["data_dir"] = str(Path(given["data_dir"]).expanduser().absolute())
    chosen = settings(**given)
    if chosen.resume:
        stored = read_config(Path(chosen.run_dir))
        if stored is not None:
            kept = {**stored["settings"], "data_dir": stored["data"]["data_dir"]}
            return settings(**{**{name: value for name, value in kept.items() if hasattr(chosen, name)}, **given})
    return chosen


def read_config(folder: Path) -> dict[str, Any] | None:
    """What `config.json` in a run folder says; None if there is none."""
    file = folder / CONFIG
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        raise RunError(f"{file} is damaged: {error}") from error
    if not isinstance(config, dict) or not {"settings", "data", "variant"} <= config.keys():
        raise RunError(f"{file} is not the configuration of a tinygan run")
    return config
