"""A run's settings: one dataclass, from which the flags of the command line are made."""
from __future__ import annotations

__all__ = ["Settings", "add_flags", "checked", "complete", "option", "read_config"]

import argparse
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np

from tinygan.devices import NAME, PRECISIONS

from .errors import RunError

S = TypeVar("S", bound="Settings")

PLACEMENT = frozenset({"data_dir", "run_dir", "resume", "quiet", "device"})
"""Settings that say where and how a run happens, not what it computes: they may differ from one start to the next."""

READING = frozenset({"image_size", "channels", "background", "skip_bad_files"})
"""Settings that say how files are read. What came of it, the data's checksum says: with the same one they may differ."""


def option(default: Any, help: str, kind: Callable[[str], Any], choices: tuple[str, ...] | None = None) -> Any:
    """A dataclass field that is also a flag: `latent_dim` becomes `--latent-dim`."""
    return field(default=default, metadata={"help": help, "kind": kind, "choices": choices})


def checked(kind: type, test: Callable[[Any], bool], expected: str) -> Callable[[str], Any]:
    """A parser of one value for argparse, whose error says what was expected."""

    def parse(text: str) -> Any:
        try:
            value = kind(text)
            fits = test(value)
        except ValueError:
            fits = False
        if not fits:
            raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}")
        return value

    return parse


count = checked(int, lambda value: value >= 1, "a whole number of at least 1")
natural = checked(int, lambda value: value >= 0, "a whole number of at least 0")
positive = checked(float, lambda value: 0 < value < float("inf"), "a positive number")
fraction = checked(float, lambda value: 0 <= value < 1, "a number from 0 up to, not including, 1")
grey_or_rgb = checked(int, lambda value: value in (1, 3), "1 or 3")


def _is_colour(text: str) -> bool:
    from tinygan.data.images import colour

    return bool(colour(text))


opaque_colour = checked(str, _is_colour, "a colour such as white or #ff8000")

device_name = checked(str, lambda value: NAME.fullmatch(value) is not None, "auto, cpu, cuda or cuda:N")

_METAVARS = {device_name: "DEVICE", count: "N", natural: "N", positive: "X", fraction: "X", grey_or_rgb: "N",
             opaque_colour: "COLOUR"}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What every run is told. A variant adds its own (see `variants.py`).

    `epochs` is the total, over all resumptions. An epoch is one pass over the data in batches of `batch_size`; the last
    images of an epoch that do not fill a step are left out (every epoch shuffles anew).
    """

    variant: ClassVar[str] = "custom"
    title: ClassVar[str] = "GAN"
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Settings that belong together, by a name that `--preset` takes; flags beside it go before them."""

    data_dir: str | None = option(None, "the images: MNIST's or other IDX files, a folder of images, or one .npy/.npz file",
                                  str)
    image_size: int | None = option(None, "crop and resize the images of a folder to N x N pixels", count)
    channels: int | None = option(None, "convert the images of a folder to grey (1) or RGB (3)", grey_or_rgb)
    background: str | None = option(None, "what shows behind transparent images of a folder (default: black)", opaque_colour)
    skip_bad_files: bool = option(False, "leave out the files of a folder that cannot be read", bool)
    epochs: int = option(60, "passes over the data, in total", count)
    batch_size: int = option(128, "images in one update of one player", count)
    seed: int = option(0, "everything random follows from it", natural)
    device: str = option("auto", "where to compute: auto, cpu, cuda, cuda:1, ...", device_name)
    precision: str | None = option(None, "what a GPU computes products in (default: float32); tf32 is faster and less exact",
                                   str, PRECISIONS)
    run_dir: str = option("", "where the run's files go", str)
    evaluate: int | None = option(None, "every N epochs, compare generated digits with real ones (quality.json)", count)
    resume: bool = option(False, "go on with the run in --run-dir", bool)
    limit_train: int | None = option(None, "use only the first N images", count)
    quiet: bool = option(False, "no progress bar, a line an epoch", bool)

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            choices = item.metadata.get("choices")
            if value is None or isinstance(value, bool | np.bool_) or "kind" not in item.metadata:
                continue
            try:
                parsed = item.metadata["kind"](str(value))
            except argparse.ArgumentTypeError as error:
                raise ValueError(f"{type(self).__name__}: {item.name}: {error}") from None
            if isinstance(value, os.PathLike | np.generic):  # config.json takes neither
                object.__setattr__(self, item.name, parsed)
            if item.name in ("data_dir", "run_dir") and str(value).startswith("~"):
                object.__setattr__(self, item.name, str(Path(value).expanduser()))
            if choices and value not in choices:
                raise ValueError(f"{type(self).__name__}: {item.name}: expected one of {', '.join(choices)}, got {value!r}")

    def reading(self) -> dict[str, Any]:
        """How the images of a folder are read: the arguments of `tinygan.data.load` beside `data_dir`."""
        return {"size": self.image_size, "channels": self.channels, "background": self.background,
                "skip_bad_files": self.skip_bad_files}

    def deciding(self) -> dict[str, Any]:
        """The settings that decide what is computed: the ones that a resumed run must share."""
        return {item.name: getattr(self, item.name) for item in fields(self) if item.name not in PLACEMENT}


def add_flags(parser: argparse.ArgumentParser, settings: type[Settings]) -> None:
    """Give `parser` one flag for every field. A flag that is not given leaves no trace in the namespace."""
    for item in fields(settings):
        if "kind" not in item.metadata:  # a field of a user's own settings that is no `option`
            continue
        flag = "--" + item.name.replace("_", "-")
        text = item.metadata["help"]
        if not (item.default is None or item.default is False or item.default == ""):
            text += f" (default: {item.default})"
        if item.metadata["kind"] is bool:
            parser.add_argument(flag, action="store_true", default=argparse.SUPPRESS, help=text)
        else:
            metavar = None if item.metadata["choices"] else _METAVARS.get(item.metadata["kind"], "DIR")
            parser.add_argument(flag, type=item.metadata["kind"], choices=item.metadata["choices"], metavar=metavar,
                                default=argparse.SUPPRESS, help=text)
    if settings.presets:
        told = "; ".join(f"{name}: " + " ".join(f"--{flag.replace('_', '-')} {value}" for flag, value in flags.items())
                         for name, flags in settings.presets.items())
        parser.add_argument("--preset", choices=settings.presets, default=argparse.SUPPRESS,
                            help=f"several flags at once: {told}")


def complete(settings: type[S], given: dict[str, Any]) -> S:
    """Settings from the flags that were given; a resumed run takes the others from its own folder.

    So `--resume --run-dir RUN` alone goes on as the run began, and a flag that contradicts it is noticed.
    """
    preset = settings.presets[given["preset"]] if "preset" in given else {}
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
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        raise RunError(f"{path} is damaged: {error}") from error
    if not isinstance(config, dict) or not {"settings", "data", "variant"} <= config.keys():
        raise RunError(f"{path} is not the configuration of a tinygan run")
    return config
