"""Open a run to sample from it or to look at it."""
from __future__ import annotations

__all__ = ["OpenedRun", "cost_of", "open_run", "own_cost", "run_config", "run_data", "settings_of", "untrained"]

import csv
import math
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from tinygan import data, gans
from tinygan.data import Dataset

from . import advice
from .errors import RunError
from .folder import CHECKPOINT, METRICS, read_checkpoint, refuse_moved_data
from .lock import in_use
from .rules import adapted
from .settings import Settings, complete, read_config
from .trainable import TrainableGAN
from .variants import VARIANTS, find


class OpenedRun(NamedTuple):
    """The GAN with the state of the run's checkpoint, the run's `config.json`, and the columns of its history by name."""

    gan: TrainableGAN
    config: dict[str, Any]
    history: dict[str, Any]

    def __repr__(self) -> str:
        return f"OpenedRun({self.config['variant']} on {self.config['data']['name']}, step {len(self.history['d_loss'])})"


def open_run(run: str | os.PathLike[str], gan: TrainableGAN | None = None) -> OpenedRun:
    """Read the run in that folder. If something is missing or does not fit, a RunError or CheckpointError says so.

    gan: a GAN built as for the training, into which the checkpoint is loaded. It is needed only if a user's program built
    the run's networks, because only that program can build them again.
    """
    run = Path(run).expanduser()
    config = run_config(run)
    if not (run / CHECKPOINT).exists():
        raise RunError(f"{run} has {no_checkpoint(run, config)}")
    if gan is None:
        gan = untrained(run)
    state, history = read_checkpoint(run / CHECKPOINT, config)
    try:
        gan.load_state_dict(state)
    except (KeyError, ValueError) as error:
        raise RunError(f"{run}: the checkpoint does not fit the networks of {config['variant']!r}: {error}. If the run has "
                       "other networks, open it in Python, with a GAN built as for the training:  "
                       f"{advice.open_in_python(str(run))}") from error
    return OpenedRun(gan, config, history)


def untrained(run: str | os.PathLike[str]) -> TrainableGAN:
    """The GAN with which the run in that folder began: the same networks, with their initial weights."""
    run = Path(run).expanduser()
    config = run_config(run)
    if is_own(config):
        raise RunError(f"{run}: `tinygan train` cannot build its networks; only the program that trained it can. "
                       f"In Python:  {advice.open_in_python(str(run))}  (tg.teaching.explain(run, gan=gan) writes its page; "
                       "docs/how-to/exchange-weights.md says how to export its networks)")
    channels, height, width = config["data"]["image_shape"]
    gan: Any = VARIANTS[config["variant"]].build(settings_of(run, config), (channels, height, width))
    if (own := own_cost(config)) is not None:
        gan.cost = own  # so that no step is made with another one
    return gan


def settings_of(run: str | os.PathLike[str], config: dict[str, Any]) -> Any:
    """The settings of a run of `tinygan train`'s, with the cost that its program gave the GAN. If tinygan does not have this
    cost, they have the usual one in its place: that is enough to build the networks, and to look at the run."""
    settings, cost = find(config["variant"]).settings, cost_of(config)
    usual = {} if cost is None else {"cost": cost if cost in gans.COSTS else settings.__dataclass_fields__["cost"].default}
    return adapted(complete(settings, {"run_dir": str(run), "resume": True, **usual}), config.get("rules") or {})


def cost_of(config: dict[str, Any]) -> str | None:
    """The name of a run's cost: that of its settings, or the one that its program gave the GAN in place of it."""
    return (config.get("rules") or {}).get("cost", config["settings"].get("cost"))


def own_cost(config: dict[str, Any]) -> str | None:
    """The name of a run's cost, if tinygan does not have it: a program has added it to `gans.COSTS`."""
    cost = cost_of(config)
    return None if cost is None or cost in gans.COSTS else cost


def is_own(config: dict[str, Any]) -> bool:
    """Whether only a user's program can build the networks of the run with this `config.json`."""
    return "networks" in config or config["variant"] not in VARIANTS


def no_checkpoint(run: Path, config: dict[str, Any]) -> str:
    """Why a run has no checkpoint, and what to do."""
    if in_use(run):
        return "no checkpoint yet: there will be one at the end of its first epoch"
    again = advice.start_again(str(run), config["variant"], is_own(config))
    if any((run / "samples").glob("epoch_*.png")):
        return f"no checkpoint any more: {CHECKPOINT} was moved or deleted; put it back, or start it again with  {again}"
    if step := _not_finite(run):
        rate = config["settings"].get("learning_rate", 2e-3)
        lower = "" if is_own(config) else f" --learning-rate {min(2e-4, rate / 10):g}"
        return (f"no checkpoint yet: in step {step} of its first epoch a loss was not finite; start it again with a lower "
                f"--learning-rate:  {again}{lower}")
    return f"no checkpoint yet: its first epoch did not end; start it again with  {again}"


def _not_finite(run: Path) -> str | None:
    """The step with which `metrics.csv` ends, if a loss of it is not finite."""
    with suppress(OSError, ValueError):
        names, *_, last = csv.reader((run / METRICS).read_text(encoding="utf-8").splitlines())
        row = dict(zip(names, last, strict=True))
        if not all(math.isfinite(float(row[name])) for name in ("d_loss", "g_loss")):
            return row["step"]
    return None


def run_config(run: str | os.PathLike[str]) -> dict[str, Any]:
    """The content of `config.json` in a run's folder."""
    run = Path(run).expanduser()
    config = read_config(run)
    if config is None:
        raise RunError(f"{run} is not a run folder: it has no config.json" if run.is_dir() else f"{run} is not a folder")
    return config


def run_data(run: Path, config: dict[str, Any], data_dir: str | None = None) -> Dataset:
    """The data set of a run, which are still at their place or at `data_dir`. Raises RunError if they are other data."""
    if data_dir is None:
        refuse_moved_data(run, config["data"]["data_dir"])
    data_dir = data_dir or config["data"]["data_dir"]
    settings = settings_of(run, config)
    glyphs = config["data"]["name"].startswith("glyphs")
    dataset = settings.prepare(data.load(data_dir, **settings.reading(), fallback=glyphs))
    if dataset.checksum != config["data"]["checksum"]:
        found_at = data_dir or "found without --data-dir"
        raise RunError(f"{run} was trained on {config['data']['name']}, not on {dataset.name} ({found_at}): say with "
                       "--data-dir where the run's data are")
    return dataset


def own_networks(gan: TrainableGAN, settings: Settings, image_shape: tuple[int, int, int],
                 rules: Mapping[str, str]) -> dict[str, str]:
    """The networks in words, if `settings.variant` builds other networks; empty if it builds the same, so that `tinygan
    sample` can do it. rules: the GAN's rules that are not those of the settings (see `rules`).

    Compared are the layers, the latent vectors, and the names and shapes of the state: sampling and loading depend on them.
    """
    variant = VARIANTS.get(settings.variant)
    if variant is not None and isinstance(settings, variant.settings):
        try:
            if _signature(variant.build(adapted(settings, rules), image_shape)) == _signature(gan):
                return {}
        except (RunError, ValueError):  # the variant has no networks for these data
            pass
    return {"generator": str(gan.generator), "discriminator": str(gan.discriminator)}


def _signature(gan: TrainableGAN) -> tuple[Any, ...]:
    methods = tuple(getattr(type(gan), name, None) for name in ("sample", "latent"))
    shapes = {name: array.shape for name, array in gan.state_dict().items()}
    vectors = getattr(gan, "latent_dim", None), getattr(gan, "codes", None), gan.noise
    return str(gan.generator), str(gan.discriminator), *vectors, methods, shapes
