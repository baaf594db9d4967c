"""The rules of a run's GAN: its cost, penalties, optimisers and so on. A program may give its GAN other rules than its
settings have."""
from __future__ import annotations

__all__ = ["FORMULAS", "adapted", "own_rules"]

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, TypeVar

import numpy as np

from tinygan import nn, optim
from tinygan.gans import COSTS, NOISES

from .errors import RunError
from .settings import Settings
from .trainable import TrainableGAN
from .variants import VARIANTS

S = TypeVar("S", bound=Settings)
_OURS = tuple(COSTS.values())  # (a program may add costs of its own)
FORMULAS = "formula of the cost"
_SIMPLE = (bool, int, float, str, np.bool_, np.number, type(None))


def own_rules(gan: TrainableGAN, settings: Settings, image_shape: tuple[int, int, int]) -> dict[str, str] | None:
    """The rules of `gan`, in words, that are not those of the GAN that `settings.variant` builds. None if the variant builds
    none for these data, so that nothing can be compared."""
    variant = VARIANTS.get(settings.variant)
    if variant is None or not isinstance(settings, variant.settings):
        return None
    try:
        usual = _rules(variant.build(settings, image_shape))
    except (RunError, ValueError):
        return None
    rules = _rules(gan)
    return {name: rules.get(name, "none") for name in sorted(rules.keys() | usual.keys())
            if rules.get(name) != usual.get(name) or name == FORMULAS}


def adapted(settings: S, rules: Mapping[str, str]) -> S:
    """The settings with the latent vectors, and with or without an average, as `rules` say. With them the variant builds a
    GAN that can load the run's state and make its images, though the program did not pass its settings on."""
    found: dict[str, Any] = {}
    if rules.get("noise") in NOISES:
        found["noise"] = rules["noise"]
    if rules.get("latent_dim", "").isdecimal():
        found["latent_dim"] = int(rules["latent_dim"])
    if "average" in rules:
        found["ema"] = None if rules["average"] == "None" else 0.999  # (of which decay does not matter for loading it)
    known = {item.name for item in fields(settings)}
    return replace(settings, **{name: value for name, value in found.items() if name in known})


def _rules(gan: TrainableGAN) -> dict[str, str]:
    """Every public attribute of the GAN that is a rule, in words. Its networks are no rules (see `opening.own_networks`),
    and neither are the processes that train it: another number of them may continue a run."""
    found = {name: words for name, value in vars(gan).items()
             if not name.startswith("_") and name != "world" and not hasattr(type(gan), name)
             and (words := _words(value)) is not None}
    cost = COSTS.get(found.get("cost", ""))
    if cost is not None and cost not in _OURS:
        found[FORMULAS] = f"{cost.d_formula}; {cost.g_formula}"
    return {"class": type(gan).__name__, **found}


def _words(value: Any) -> str | None:
    """A value in words that are the same in every process. None if it is no rule."""
    if isinstance(value, _SIMPLE):
        return str(value)
    if isinstance(value, tuple):
        return f"({', '.join(str(_words(part)) for part in value)})"
    if isinstance(value, Mapping):
        return "; ".join(f"{name}: {_words(part)}" for name, part in value.items()) or "none"
    if isinstance(value, nn.Module | list | set | frozenset):
        return None
    if isinstance(value, optim.Optimizer | optim.ExponentialMovingAverage):
        rules = {name: words for name, part in vars(value).items()
                 if not name.startswith("_") and (words := _words(part)) is not None}
        return f"{type(value).__name__} ({', '.join(f'{name} {words}' for name, words in rules.items())})"
    return "a function" if callable(value) and not isinstance(value, type) else None
