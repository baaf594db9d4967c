"""A run opened again, to sample from it or to look at it."""
from __future__ import annotations

__all__ = ["OpenedRun", "open_run", "run_config", "untrained"]

from pathlib import Path
from typing import Any, NamedTuple

from .errors import RunError
from .folder import read_checkpoint
from .settings import complete, read_config
from .variants import GAN, find


class OpenedRun(NamedTuple):
    """The GAN as the run's checkpoint left it, the run's `config.json`, and its history's columns by name."""

    gan: GAN
    config: dict[str, Any]
    history: dict[str, Any]


def open_run(run: Path) -> OpenedRun:
    """Read back the run in that folder; RunError or CheckpointError says what is missing there or does not fit."""
    config = run_config(run)
    state, history = read_checkpoint(run / "checkpoint.safetensors", config)
    gan = untrained(run)
    try:
        gan.load_state_dict(state)
    except (KeyError, ValueError) as error:
        raise RunError(f"{run}: the checkpoint does not fit the networks of {config['variant']!r}: {error}") from error
    return OpenedRun(gan, config, history)


def untrained(run: Path) -> GAN:
    """The GAN as the run in that folder began: the same networks with their first weights."""
    config = run_config(run)
    variant = find(config["variant"])
    settings = complete(variant.settings, {"run_dir": str(run), "resume": True})
    channels, height, width = config["data"]["image_shape"]
    return variant.build(settings, (channels, height, width))


def run_config(run: Path) -> dict[str, Any]:
    """What `config.json` in a run's folder says."""
    config = read_config(run)
    if config is None:
        raise RunError(f"{run} is not a run folder: it has no config.json" if run.is_dir() else f"{run} is no folder")
    return config
