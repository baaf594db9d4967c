"""The settings of a run: one dataclass. Each field states which values it may have, its help text, and whether it may change
when a run is resumed. The flags of the command line, and the keys of a file (`config_file`), are made from the fields."""
from __future__ import annotations

__all__ = ["Kind", "Resume", "Settings", "add_flags", "complete", "first_names", "option", "read_config", "with_default"]

import argparse
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import numpy as np

from tinygan.data import Dataset
from tinygan.data.files import absolute
from tinygan.devices import NAME, PRECISIONS
from tinygan.tables import lookup

from . import config_file
from .errors import RunError

S = TypeVar("S", bound="Settings")

CONFIG = "config.json"
WRITERS = ("tensorboard",)
"""What `--log` can name (see `writers`)."""


class Resume(Enum):
    """Whether a setting may change when a run is resumed."""

    FIXED = "it decides what is computed, so it must stay the same"
    SAME_IMAGES = "it says how files are read, so it may change if the images, and so their checksum, stay the same"
    FREE = "it may change"
    UNRECORDED = "it says where and how a run happens, so it may change and is not kept in config.json"


@dataclass(frozen=True)
class Kind:
    """The kind of values that a setting may have. argparse calls it: `count("3")` is 3, `count("0")` is an error."""

    make: Callable[[str], Any]
    test: Callable[[Any], bool]
    expected: str
    metavar: str = "X"
    """The name of the value in the help."""

    def __call__(self, text: str) -> Any:
        """The value. Raises an error, which says what was expected, if the text is not such a value."""
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
weight = Kind(float, lambda value: 0 <= value < float("inf"), "a number of at least 0")
positive = Kind(float, lambda value: 0 < value < float("inf"), "a positive number")
fraction = Kind(float, lambda value: 0 <= value < 1, "a number of at least 0 and less than 1")
grey_or_rgb = Kind(int, lambda value: value in (1, 3), "1 or 3", "N")
opaque_colour = Kind(str, _is_colour, "a colour such as white or #ff8000", "COLOUR")
device_name = Kind(str, lambda value: NAME.fullmatch(value) is not None, "auto, cpu, cuda or cuda:N", "DEVICE")
path = Kind(lambda text: str(Path(text).expanduser()) if text.startswith("~") else text, lambda _: True, "a path", "DIR")


def option(default: Any, help: str, kind: Callable[[str], Any], choices: Iterable[str] | None = None, *,
           resume: Resume = Resume.FIXED, younger: bool = False) -> Any:
    """A dataclass field that is also a flag: `latent_dim` becomes `--latent-dim`.

    kind: makes the value from a text, such as `count`; `bool` for a flag without a value. choices: all possible values, such
    as the names in a table; what a program adds to the table later is possible, too. resume: see `Resume`. It applies only
    to tinygan's settings; those of a user's program are always FIXED. younger: there are run folders that are older than
    this setting. The checkpoint's digest leaves it out if it is None.
    """
    if choices is not None and not isinstance(choices, Mapping):
        choices = tuple(choices)
    return field(default=default, metadata={"help": help, "kind": kind, "resume": resume, "younger": younger,
                                            "choices": choices})


def with_default(settings: type[Settings], name: str, default: Any) -> Any:
    """The field `name` of `settings`, with another default."""
    return field(default=default, metadata=settings.__dataclass_fields__[name].metadata)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of every run. A variant adds its own (see `variants`).

    `epochs` is the total number, including those before the run was resumed. An epoch is one pass over the data, in a new
    random order, in batches of `batch_size`. If the last images of an epoch do not fill a step, they are left out.
    """

    variant: ClassVar[str] = "custom"
    title: ClassVar[str] = "GAN"
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Settings that belong together, by the name that `--preset` takes. A flag that is given too has precedence."""

    data_dir: str | None = option(None, "the images: MNIST's or other IDX files, a folder of images, or one .npy/.npz file",
                                  path, resume=Resume.UNRECORDED)
    image_size: int | None = option(None, "crop and resize the images of a folder to N x N pixels", count,
                                    resume=Resume.SAME_IMAGES)
    channels: int | None = option(None, "convert the images of a folder to grey (1) or RGB (3)", grey_or_rgb,
                                  resume=Resume.SAME_IMAGES)
    background: str | None = option(None, "the colour behind transparent images of a folder (default: black)", opaque_colour,
                                    resume=Resume.SAME_IMAGES)
    skip_bad_files: bool = option(False, "leave out the files of a folder that cannot be read", bool,
                                  resume=Resume.SAME_IMAGES)
    epochs: int = option(60, "passes over the data, in total", count, resume=Resume.FREE)
    batch_size: int = option(128, "images in one update of one player", count)  # FIXED: it decides the steps of an epoch
    seed: int = option(0, "seed of all random numbers", natural)
    device: str = option("auto", "where to compute: auto, cpu, cuda, cuda:1, ...", device_name, resume=Resume.UNRECORDED)
    precision: str | None = option(None, "precision of products on a GPU (default: float32); tf32 is faster and less exact",
                                   str, PRECISIONS, younger=True)
    capture: bool = option(True, "run every step in Python, instead of recording one and replaying it", bool,
                           resume=Resume.UNRECORDED)
    run_dir: str = option("", "where the run's files go", path, resume=Resume.UNRECORDED)
    evaluate: int | None = option(None, "every N epochs, compare generated digits with real ones (quality.json)", count,
                                  resume=Resume.FREE)
    record: bool = option(False, "record what `tinygan explain` shows of the training, in RUN/recording", bool,
                          resume=Resume.FREE)
    log: str | None = option(None, "log elsewhere too: tensorboard writes RUN/tensorboard (needs tensorboardX)", str,
                             WRITERS, resume=Resume.FREE)
    resume: bool = option(False, "continue the run in --run-dir", bool, resume=Resume.UNRECORDED)
    limit_train: int | None = option(None, "use only the first N images", count)
    quiet: bool = option(False, "no progress bar, only a line per epoch", bool, resume=Resume.UNRECORDED)

    def __post_init__(self) -> None:
        for item in fields(self):
            value, kind = getattr(self, item.name), item.metadata.get("kind")
            if value is None or isinstance(value, bool | np.bool_) or kind is None:
                continue
            try:
                parsed = kind(str(value))
            except argparse.ArgumentTypeError as error:
                raise ValueError(f"{type(self).__name__}: {item.name}: {error}") from None
            if kind is path or isinstance(value, os.PathLike | np.generic):  # JSON has neither paths nor NumPy's numbers
                object.__setattr__(self, item.name, parsed)
            choices = item.metadata["choices"]
            if choices and value not in choices:
                raise ValueError(f"{type(self).__name__}: {item.name}: expected one of {', '.join(choices)}, got {value!r}")

    @classmethod
    def from_toml(cls, file: str | os.PathLike[str], **changes: Any) -> Self:
        """The settings in a file, such as the `run.toml` of a run. changes: settings that have precedence over the file,
        such as another `run_dir`."""
        return cls(**{**config_file.read(file, cls), **changes})

    def reading(self) -> dict[str, Any]:
        """How the images of a folder are read: the arguments of `tinygan.data.load` other than `data_dir`."""
        return {"size": self.image_size, "channels": self.channels, "background": self.background,
                "skip_bad_files": self.skip_bad_files}

    def suited(self, dataset: Dataset) -> Self:
        """The settings for that data set: what follows from the data, such as the number of classes, is filled in."""
        return self

    def prepare(self, dataset: Dataset) -> Dataset:
        """The data set that a run trains on, made from the one that was loaded: by default that one."""
        return dataset

    def examiner(self, dataset: Dataset, data_dir: str | None) -> Any:
        """What measures the quality of a run's images. dataset: that of the run."""
        from .evaluation import Examiner

        return Examiner(dataset, data_dir)

    def deciding(self) -> dict[str, Any]:
        """All settings but the UNRECORDED ones: those that `config.json` keeps."""
        own = Settings.__dataclass_fields__
        return {item.name: getattr(self, item.name) for item in fields(self)
                if own.get(item.name, item).metadata.get("resume") is not Resume.UNRECORDED}


def add_flags(parser: argparse.ArgumentParser, settings: type[Settings]) -> None:
    """Add a flag for every field to `parser`. The namespace has only the flags that are given."""
    for item in fields(settings):
        if "kind" not in item.metadata:  # a field of a user's settings that was not made by `option`
            continue
        flag, kind, choices = "--" + item.name.replace("_", "-"), item.metadata["kind"], item.metadata["choices"]
        text = item.metadata["help"]
        if kind is not bool and item.default is not None and item.default != "":
            text += f" (default: {item.default})"
        if kind is bool:
            # Only a file can say what is the default anyway. The flag that says so overrides it, and is not in the help.
            for name, action, value in ((flag, "store_true", True), (f"--no-{flag[2:]}", "store_false", False)):
                parser.add_argument(name, dest=item.name, action=action, default=argparse.SUPPRESS,
                                    help=argparse.SUPPRESS if value == item.default else text)
        else:
            parser.add_argument(flag, type=kind, choices=choices, default=argparse.SUPPRESS, help=text,
                                metavar=kind.metavar if isinstance(kind, Kind) else None)
    parser.add_argument("--config", type=path, metavar="FILE", default=argparse.SUPPRESS,
                        help="take settings from a TOML file, such as the run.toml of a run. Flags have precedence; what is "
                             "true in the file is turned off by --no-NAME, and on by --NAME")
    if settings.presets:
        told = "; ".join(f"{name}: " + " ".join(f"--{flag.replace('_', '-')} {value}" for flag, value in flags.items())
                         for name, flags in settings.presets.items())
        parser.add_argument("--preset", choices=settings.presets, default=argparse.SUPPRESS,
                            help=f"several flags at once: {told}")


def complete(settings: type[S], given: dict[str, Any]) -> S:
    """Settings from the given flags. Those that are not given come from the file that `--config` names, and then, if the run
    is resumed, from its folder.

    So `--resume --run-dir RUN` is enough to continue a run, and a flag that contradicts the run is noticed.
    """
    preset = lookup(settings.presets, settings.__name__, "preset", given["preset"]) if "preset" in given else {}
    filed = config_file.read(given["config"], settings) if "config" in given else {}
    given = {**filed, **preset, **{name: value for name, value in given.items()
                                   if name in {item.name for item in fields(settings)}}}
    if given.get("data_dir") is not None:
        given["data_dir"] = str(absolute(given["data_dir"]))
    chosen = settings(**given)
    if chosen.resume:
        stored = read_config(Path(chosen.run_dir))
        if stored is not None:
            kept = {**stored["settings"], "data_dir": stored["data"]["data_dir"]}
            kept = {name: value for name, value in kept.items() if hasattr(chosen, name)}
            # An equal number is left as it was: the checkpoint's digest tells 10 from 10.0.
            kept |= {name: value for name, value in given.items() if name not in kept or kept[name] != value}
            _refuse_unknown(settings, kept)
            return settings(**kept)
    return chosen


def _refuse_unknown(settings: type[Settings], kept: dict[str, Any]) -> None:
    """Raise RunError if a run has a setting that only the program knows which began it, such as a cost of its own."""
    for item in fields(settings):
        choices, value = item.metadata.get("choices"), kept.get(item.name)
        if choices and value is not None and value not in choices:
            flag = f"--{item.name.replace('_', '-')}"
            raise RunError(f"{kept['run_dir']}: its {flag} is {value!r}, which tinygan does not have. A program has added "
                           "it, and only that program can continue the run")


def read_config(folder: Path) -> dict[str, Any] | None:
    """The content of `config.json` in a run folder, with the present names of the settings; None if there is no such
    file."""
    file = folder / CONFIG
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        raise RunError(f"{file} is damaged: {error}") from error
    if not isinstance(config, dict) or not {"settings", "data", "variant"} <= config.keys():
        raise RunError(f"{file} is not the configuration of a tinygan run")
    settings = config["settings"]
    if _of_a_game(settings):
        config["settings"] = {_RENAMED.get(name, name): value for name, value in settings.items()}
    return config


_RENAMED = {"generator_cost": "cost"}
"""Settings of a GAN whose name has changed: the first name, by which older run folders know them, and the present one."""


def _of_a_game(settings: Mapping[str, Any]) -> bool:
    """Whether these are settings of a GAN of tinygan's. A user's program may have a setting of the same name."""
    return {"latent_dim", "d_steps", "noise", "label_smoothing", "beta1"} <= settings.keys()


def first_names(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings under the names that they had at first. So a checkpoint's digest stays the same when a name changes."""
    first = {present: first for first, present in _RENAMED.items()} if _of_a_game(settings) else {}
    return {first.get(name, name): value for name, value in settings.items()}
