"""Check, before anything is timed, that the subjects do the same work. A benchmark of different work is void.

All subjects start from the same weights, examples and noise, and make one step. The gradients of both networks and the
running statistics must agree in float64, and the losses in float32. The float32 gradients of each subject must be its own
float64 gradients up to rounding. Adam's first update cannot be compared, because it is little more than the sign of the
gradient. Instead, every parameter of both networks must have moved after one step as Adam moves it for that step's own
gradient, whose size its second moments tell.

A captured step of tinygan's must also leave the weights that the eager step leaves, to the last bit.
"""
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from harness import DifferentWorkError, Worker
from models import Adam, Gradients, Model, Start, Weights

GRADIENT_TOLERANCE = 1e-8  # relative L2, float64, parameter by parameter
LOSS_TOLERANCE = 1e-4  # relative, float32
ROUNDING_TOLERANCE = 1e-2  # relative L2, float32 against float64, parameter by parameter
MOVE_TOLERANCE = 1e-2  # of the learning rate
SIZE_TOLERANCE = 10.0  # a step has other noise: a player's gradients may be so many times as large, or as small
VANISHING = 1e-12  # relative to the network's largest gradient, float64: a critic's last bias has no influence
GROUPS = {
    "discriminator": "discriminator gradients", "generator": "generator gradients", "statistics": "running statistics",
}  # fmt: skip


@dataclass(frozen=True)
class Evidence:
    """The results of one subject from the common start."""

    name: str
    single: Gradients  # float32
    double: Gradients  # float64
    moves: dict[str, float]  # median |change| of each parameter in the first training step
    moments: Weights = field(default_factory=dict)  # Adam's second moment of each parameter after that step


def collect(name: str, worker: Worker, model: Model, start: Start, variant: str, threads: int,
            makes_step: bool = True) -> Evidence:
    """Compute one subject's gradients in both precisions and, for `check_moves`, make one step. Do not time the same worker
    afterwards: its memory would not be comparable."""
    found, moves, moments = {}, {}, {}
    for dtype in ("float32", "float64"):
        point = start.astype(dtype)
        worker.call("create", model=model, start=point, variant=variant, threads=threads)
        found[dtype] = worker.call("ask", method="gradients", d_noise=point.d_noise, g_noise=point.g_noise)
        if makes_step and dtype == "float32":
            before = worker.call("ask", method="weights")
            worker.call("ask", method="step")
            moves = moved(before, worker.call("ask", method="weights"))
            moments = by_path(worker.call("ask", method="second_moments"))
    return Evidence(name, found["float32"], found["float64"], moves, moments)


def moved(before: tuple[Weights, Weights], after: tuple[Weights, Weights]) -> dict[str, float]:
    """The median absolute change of every parameter, by network and name."""
    old, new = by_path(before), by_path(after)
    return {path: float(np.median(np.abs(new[path] - old[path]))) for path in old}


def by_path(players: tuple[Weights, Weights]) -> Weights:
    """The arrays of (generator, discriminator), by network and name."""
    return {
        f"{player}.{name}": value
        for player, arrays in zip(("generator", "discriminator"), players, strict=True)
        for name, value in arrays.items()
    }


STEPS_WITH_REPLAYS = 4  # the first runs eagerly, the second is recorded, the others are replayed


def check_replays(name: str, worker: Worker, variant: str, **arguments: Any) -> None:
    """Raise DifferentWorkError unless the variant's step of tinygan's trains to the same bits as the eager one. arguments:
    the subject's, besides the variant."""
    trained = []
    for way in (variant, f"{variant} eager"):
        worker.call("create", variant=way, **arguments)
        for _ in range(STEPS_WITH_REPLAYS):
            worker.call("ask", method="step")
        trained.append(worker.call("ask", method="weights"))
    for player, ours, eager in zip(("generator", "discriminator"), *trained, strict=True):
        for weight, expected in eager.items():
            if not np.array_equal(ours[weight], expected, equal_nan=True):
                raise DifferentWorkError(f"{name}: after {STEPS_WITH_REPLAYS} steps {player}.{weight} is not what the eager "
                                         f"step makes of it; relative L2 {relative_l2(ours[weight], expected):.3g}")


def check_rounding(evidence: Evidence) -> float:
    """The largest relative L2 error of a float32 gradient, compared with the subject's own float64 gradient."""
    worst = 0.0
    for player in ("discriminator", "generator"):
        gradients = getattr(evidence.double, player)
        for name in gradients.keys() - vanishing(gradients):
            exact = gradients[name]
            error = relative_l2(getattr(evidence.single, player)[name], exact)
            if not error <= ROUNDING_TOLERANCE:
                raise DifferentWorkError(
                    f"{evidence.name}: its gradients of {player}.{name} in float32 and in float64 differ: relative L2 "
                    f"{error:.3g}, allowed {ROUNDING_TOLERANCE:g}"
                )
            worst = max(worst, error)
    return worst


def check_moves(evidence: Evidence, adam: Adam) -> None:
    """Raise DifferentWorkError unless Adam's first update has moved the parameters as it should: a gradient g moves its
    parameter by lr * |g| / (|g| + eps), which is the learning rate unless g is tiny. g is the gradient of the step itself,
    whose second moment is (1 - b2) g^2. The step had other noise than the gradients of `evidence`: so no parameter's g may
    be 0 if its gradient there is not, and all of a player's must be about as large as these."""
    squares: dict[str, list[float]] = {}
    for path, move in evidence.moves.items():
        player, _, name = path.partition(".")
        if name in vanishing(getattr(evidence.double, player)):
            continue
        sizes = np.sqrt(evidence.moments[path].astype(np.float64) / (1 - adam.betas[1]))
        size, usual = (float(np.linalg.norm(g)) for g in (sizes, getattr(evidence.double, player)[name]))
        if not size > 0:
            raise DifferentWorkError(f"{evidence.name}: the gradient of {path} in its first training step has the norm "
                                     f"{size:.3g}; on other noise it has {usual:.3g}")
        squares.setdefault(player, []).append(size**2)
        expected = adam.lr * float(np.median(sizes / (sizes + adam.eps)))
        if not abs(move - expected) <= MOVE_TOLERANCE * adam.lr:
            raise DifferentWorkError(f"{evidence.name}: its first training step moved {path} by {move:.3g} (median); Adam "
                                     f"moves it by {expected:.3g}")
    for player, found in squares.items():
        size, usual = sum(found) ** 0.5, float(np.sqrt(sum((g**2).sum() for g in getattr(evidence.double, player).values())))
        if not usual / SIZE_TOLERANCE <= size <= usual * SIZE_TOLERANCE:
            raise DifferentWorkError(f"{evidence.name}: the gradients of the {player} in its first training step have the "
                                     f"norm {size:.3g}; on other noise they have {usual:.3g}")


def compare(reference: Evidence, other: Evidence) -> dict[str, float]:
    """The largest differences: relative L2 of gradients and running statistics in float64, and the relative difference of
    the losses in float32.

    If one is above its tolerance, or the parameters do not match, raises a DifferentWorkError that names what differs most.
    """
    pair = f"{other.name} and {reference.name}"
    result = {}
    for group, what in GROUPS.items():
        expected, got = getattr(reference.double, group), getattr(other.double, group)
        if {k: v.shape for k, v in expected.items()} != {k: v.shape for k, v in got.items()}:
            raise DifferentWorkError(f"{pair} have different {what}: {list(got)}, {list(expected)}")
        for name, value in {**expected, **got}.items():
            if value.dtype != np.float64:
                raise DifferentWorkError(f"{pair}: of the float64 {what}, {name} came as {value.dtype}")
        if not expected:
            continue  # a model without batch norm has no statistics
        zeros = vanishing(expected) if group != "statistics" else set()
        if group != "statistics" and zeros != vanishing(got):
            raise DifferentWorkError(f"{pair} disagree about the {what}: zero is that of {sorted(vanishing(got))} and of "
                                     f"{sorted(zeros)}")
        errors = {name: 0.0 if name in zeros else relative_l2(got[name], expected[name]) for name in expected}
        worst = max(errors, key=lambda name: np.inf if np.isnan(errors[name]) else errors[name])
        if not errors[worst] <= GRADIENT_TOLERANCE:
            raise DifferentWorkError(
                f"{pair} disagree about the {what}, most about {worst}: relative L2 {errors[worst]:.3g} in float64, "
                f"allowed {GRADIENT_TOLERANCE:g}"
            )
        result[what.replace(" ", "_")] = errors[worst]
    for loss in ("d_loss", "g_loss"):
        expected, got = getattr(reference.single, loss), getattr(other.single, loss)
        error = abs(got - expected) / max(abs(expected), 1e-30)
        if not error <= LOSS_TOLERANCE:
            raise DifferentWorkError(
                f"{pair} disagree about {loss} in float32: {got:.8g}, {expected:.8g}, relative difference {error:.3g}, "
                f"allowed {LOSS_TOLERANCE:g}"
            )
        result[loss] = error
    return result


def vanishing(gradients: Weights) -> set[str]:
    """The names of the gradients that are zero but for rounding."""
    sizes = {name: float(np.linalg.norm(gradient)) for name, gradient in gradients.items()}
    largest = max(sizes.values(), default=0.0)
    return {name for name, size in sizes.items() if size <= VANISHING * largest}


def relative_l2(got: np.ndarray, expected: np.ndarray) -> float:
    """|got - expected| / |expected|. It is infinite if only `expected` is all zeros, and NaN if either has a NaN."""
    difference, size = float(np.linalg.norm(got - expected)), float(np.linalg.norm(expected))
    if difference == 0:
        return 0.0
    return difference / size if size else np.inf
