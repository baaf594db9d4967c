"""Signs that a training goes wrong, in words, and what to try."""
from __future__ import annotations

__all__ = ["EARLY", "Alarm", "against_unequal_rates", "last_epoch", "learning_rates", "warnings", "warnings_of_run"]

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .report import gives_probabilities, mean_distance
from .trainable import TrainableGAN

_SATURATED_REAL, _SATURATED_FAKE = 0.99, 0.01
_COLLAPSED = 0.3
_LEARNT = 1000  # before this step, similar samples mean nothing (see `warnings`)
_HUGE = 1e3  # no useful cross-entropy is larger: it would mean probabilities of e^-1000
_HUGE_SCORES = 1e6  # (a critic's scores may be in the hundreds)
_FEW = 10  # steps of an epoch: with fewer, smaller batches help
EARLY, UNEQUAL = "alike yet", "unequal"
_PAGE = "docs/how-to/when-training-fails.md says more"
_USUAL = 2e-4  # the learning rate of most GANs here
_UNEQUAL = 3.0  # two learning rates whose ratio is larger are worth a word


class Alarm(NamedTuple):
    """kind: what is wrong, in a word. text: what is seen, and what to try."""

    kind: str
    text: str

    def __str__(self) -> str:
        return f"{'Note' if self.kind in (EARLY, UNEQUAL) else 'Warning'}: {self.text}."


def warnings(gan: TrainableGAN, losses: Mapping[str, float], steps: int, samples: npt.NDArray[np.float32] | None = None,
             real: npt.NDArray[np.float32] | None = None, probabilities: bool = True,
             per_epoch: int | None = None) -> list[Alarm]:
    """What is wrong after `steps` steps: a loss is huge ("diverged"), the discriminator is always right ("won"), or the
    samples are all alike ("alike"; in the first steps `EARLY`, or `UNEQUAL` if the learning rates are far apart).

    losses: their means over the last epoch. samples, real: (N, C, H, W), about 64 of each; without them, only the losses are
    looked at. probabilities: whether d_real and d_fake are probabilities; scores never tell that one player has won.
    per_epoch: the steps of an epoch. An untrained generator makes nearly the same image from every
    vector, so similar samples mean nothing after a short run. On MNIST the differences between the vanilla GAN's samples,
    relative to those between the data, are 0.06 after one step, 0.10 after 300 steps and 0.67 after 600.
    """
    found = []
    smoothing = getattr(gan, "label_smoothing", 0.0)
    diverged = _diverged(gan, losses, probabilities)
    if diverged:  # then nothing else means anything
        return [diverged]
    if probabilities and losses["d_real"] > _SATURATED_REAL * (1 - smoothing) and losses["d_fake"] < _SATURATED_FAKE:
        found.append(Alarm("won", f"the discriminator has won (D(real) {losses['d_real']:.3f}, D(fake) "
                                  f"{losses['d_fake']:.3f}): the generator learns hardly anything from it now. "
                                  f"{_against_a_winner(gan, smoothing)}. {_PAGE}"))
    if samples is None or real is None or len(samples) < 2:
        return found
    spread = mean_distance(samples) / max(mean_distance(real), 1e-12)
    if spread < _COLLAPSED and not (found and steps < _LEARNT):  # a generator that gets no signal hardly learns
        seen = f"the samples are nearly alike (they differ {spread:.0%} as much as the data do)"
        if steps < _LEARNT:
            smaller = ", or a smaller --batch-size" if per_epoch is not None and per_epoch < _FEW else ""
            unequal = against_unequal_rates(gan)
            advice = f". But {unequal}" if unequal else f": try more --epochs{smaller}"
            kind = UNEQUAL if unequal else EARLY
            found.append(Alarm(kind, f"{seen}. That is usual in the first {_LEARNT:,} to {2 * _LEARNT:,} steps, and this "
                                     f"run has made {steps:,}{advice}"))
        else:
            found.append(Alarm("alike", f"{seen}: the generator has collapsed, or has hardly learnt yet. "
                                        f"{_WON_FIRST if found else _against_a_collapse(gan)}. {_PAGE}"))
    return found


def warnings_of_run(gan: TrainableGAN, history: Mapping[str, Any], per_epoch: int | None,
                    samples: npt.NDArray[np.float32] | None = None,
                    real: npt.NDArray[np.float32] | None = None) -> list[Alarm]:
    """The `warnings` after the last epoch of a run; or, if it has diverged in an earlier one, only that: losses that have
    become smaller since do not mean that it has recovered. history: the run's columns, (steps,) each."""
    probabilities, steps = gives_probabilities(gan), len(history["d_loss"])
    found = warnings(gan, last_epoch(history, per_epoch), steps, samples, real, probabilities, per_epoch)
    if any(alarm.kind == "diverged" for alarm in found):
        return found
    starts = np.arange(0, steps, per_epoch or steps)
    sizes = np.diff(starts, append=steps)
    means = {name: np.add.reduceat(np.asarray(history[name], np.float64), starts) / sizes for name in ("d_loss", "g_loss")}
    worst = int(np.argmax(np.maximum(*map(np.abs, means.values()))))
    earlier = _diverged(gan, {name: values[worst] for name, values in means.items()}, probabilities, worst + 1)
    return [earlier] if earlier else found


def _diverged(gan: TrainableGAN, losses: Mapping[str, float], probabilities: bool, epoch: int | None = None) -> Alarm | None:
    """The warning of a huge loss, if one is. epoch: the one that these losses are of; None: the last one."""
    player, loss = max((("discriminator", losses["d_loss"]), ("generator", losses["g_loss"])), key=lambda pair: abs(pair[1]))
    if abs(loss) <= (_HUGE if probabilities else _HUGE_SCORES):
        return None
    seen = f"is huge ({loss:.3g})" if epoch is None else f"was huge in epoch {epoch} ({loss:.3g})"
    largest = max((rate for rate in learning_rates(gan) if rate), default=0.0)
    such = f", such as {_USUAL:g}" if largest > _USUAL else ""
    return Alarm("diverged", f"the {player}'s loss {seen}: the training has diverged. Try a much lower "
                             f"--learning-rate{such}. {_PAGE}")


def last_epoch(history: Mapping[str, Any], per_epoch: int | None) -> dict[str, float]:
    """The means of a run's columns over its last epoch, which may have only begun; per_epoch: the steps of an epoch."""
    steps = len(history["d_loss"])
    begin = (steps - 1) // per_epoch * per_epoch if per_epoch else 0
    return {name: float(np.mean(values[begin:], dtype=np.float64)) for name, values in history.items()}


def _against_a_winner(gan: TrainableGAN, smoothing: float) -> str:
    """What to try: only what the GAN does not have already."""
    unequal = against_unequal_rates(gan)
    if unequal:
        return unequal[0].upper() + unequal[1:]
    options = ["a lower --learning-rate"]
    if getattr(gan, "cost", None) == "minimax":
        options.insert(0, "--cost non-saturating")
    if getattr(gan, "d_steps", 1) > 1:
        options.insert(0, "--d-steps 1")
    if not smoothing:
        options.append("--label-smoothing 0.1")
    return f"Try {', or '.join(options)}"


_WON_FIRST = "See to the discriminator first, which has won: until then the generator hardly learns"


def _against_a_collapse(gan: TrainableGAN) -> str:
    unequal = against_unequal_rates(gan)
    return unequal[0].upper() + unequal[1:] if unequal else "Try more --epochs, a lower --learning-rate, or another --seed"


def against_unequal_rates(gan: TrainableGAN) -> str:
    """What to try if the learning rates of the players are far apart; "" if they are not."""
    ratio = _ratio(gan)
    if ratio is None or 1 / _UNEQUAL <= ratio <= _UNEQUAL:
        return ""
    rates = dict(zip(("--g-learning-rate", "--learning-rate"), learning_rates(gan), strict=True))
    fast, slow = sorted(rates, key=lambda flag: rates[flag] or 0.0, reverse=True)
    cures = [f"lower {fast}"] if (rates[fast] or 0.0) > _USUAL else []
    if (rates[slow] or 0.0) < _USUAL:
        cures.append(f"raise {slow}")
    faster, slower = ("generator", "discriminator") if ratio > _UNEQUAL else ("discriminator", "generator")
    return (f"the {faster}'s learning rate is {_times(max(ratio, 1 / ratio))} times the {slower}'s: {', or '.join(cures)}")


def _times(ratio: float) -> str:
    return f"{ratio:,.0f}" if ratio >= 10 else f"{ratio:.2g}"


def _ratio(gan: TrainableGAN) -> float | None:
    """The generator's learning rate over the discriminator's, now. None if the optimisers do not tell."""
    g_rate, d_rate = learning_rates(gan)
    return g_rate / d_rate if g_rate and d_rate else None


def learning_rates(gan: Any) -> tuple[float | None, float | None]:
    """The present learning rates of the generator and the discriminator; None where an optimiser does not tell."""
    optimizers: list[Any] = [getattr(gan, f"{player}_optimizer", None) for player in "gd"]
    g_rate, d_rate = (one.learning_rate_at(one.count) if hasattr(one, "learning_rate_at") else None for one in optimizers)
    return g_rate, d_rate
