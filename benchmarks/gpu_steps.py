"""Training steps on a GPU. tinygan and PyTorch run in one process. First it is checked that they do the same work, then they
are timed in turn. Another check: resumed training must give the same results as uninterrupted training, to the last bit."""
from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

import equality
import harness
import numpy as np
import subject_tinygan
import unrolled_tinygan
from gpu_card import Card, NotHereError
from harness import DifferentWorkError, Row, say
from models import MODELS, TINY, Gradients, Model, Start, Weights, start
from unrolled_ring import RingStart, ring_start

import tinygan as tg
from tinygan.random import Key

RING = "unrolled ring"
ROUNDS = 5
CHECK_BATCH = 32  # in float64
# With the timed batch, both frameworks have rounding errors of up to 5e-3, compared with their own float64 results
# (`check_rounding`). Tensor cores keep 10 bits of the operands.
LOSS_TOLERANCE = {"float32": equality.LOSS_TOLERANCE, "tf32": 2e-2}
GRADIENT_TOLERANCE = {"float32": 3e-2, "tf32": 0.3}
Entry = tuple[str, str]  # framework, variant
AnyStart = Start | RingStart


def model_of(card: Card, name: str) -> Model:
    return (TINY if card.emulated else MODELS)[name]


def ring_steps(card: Card) -> int:
    """K, the number of updates ahead."""
    return 1 if card.emulated else 10


def start_of(card: Card, name: str, batch: int) -> AnyStart:
    return ring_start(batch) if name == RING else start(model_of(card, name), batch)


class _OnDevice:
    """tinygan on a device, `captured` or `eager`."""

    gan: Any
    real: Any

    def place(self, device: str) -> None:
        self.gan.to(device)
        self.real = tg.to_device(self.real, device)


class Subject(_OnDevice, subject_tinygan.Subject):
    def __init__(self, model: Model, start: Start, variant: str, device: str) -> None:
        super().__init__(model, start, variant, 1)
        self.device = device
        self.place(device)

    def gradients(self, d_noise: np.ndarray, g_noise: np.ndarray) -> Gradients:
        return super().gradients(*(tg.to_device(z, self.device) for z in (d_noise, g_noise)))


class Ring(_OnDevice, unrolled_tinygan.Subject):
    """The unrolled GAN, `recorded` or rematerialised."""

    def __init__(self, start: RingStart, steps: int, variant: str, device: str) -> None:
        super().__init__(start, steps, variant, 1)
        self.device = device
        self.place(device)

    def gradients(self, d_noise: np.ndarray, g_noise: np.ndarray) -> Gradients:
        """The generator's loss and gradients, after one update of the discriminator."""
        loss, found = super().gradients(*(tg.to_device(z, self.device) for z in (d_noise, g_noise)))
        return Gradients(0.0, loss, {}, {str(i): g for i, g in enumerate(found)})


def subject(card: Card, name: str, point: AnyStart, entry: Entry) -> Any:
    """The training in one framework and variant, starting from `point`. "tinygan on the CPU" counts as a framework."""
    framework, variant = entry
    if framework == "torch":
        import gpu_torch

        assert card.torch_device is not None
        if isinstance(point, RingStart):
            return gpu_torch.Ring(point, ring_steps(card), variant, card.torch_device)
        return gpu_torch.Subject(model_of(card, name), point, variant, card.torch_device)
    device = card.device if framework == "tinygan" else "cpu"
    if isinstance(point, RingStart):
        return Ring(point, ring_steps(card), variant, device)
    return Subject(model_of(card, name), point, variant, device)


def variants(card: Card, name: str) -> list[Entry]:
    """All variants that are timed, except the compiled one."""
    ours = ["captured", "eager", *(["captured recorded"] if name == RING else [])]
    layouts = {RING: "foreach", "vanilla": "joined"}.get(name, "channels-last")
    ways = ["eager"] if card.emulated else ["eager", "graphed"]
    theirs = [f"{way}{more}" for way in ways for more in ("", f" {layouts}")] if card.torch_device else []
    return [("tinygan", variant) for variant in ours] + [("torch", variant) for variant in theirs]


class _Here:
    """The calls that `equality.collect` makes to a worker, answered in this process."""

    def __init__(self, make: Callable[[Any], Any]) -> None:
        self.make = make
        self.subject: Any = None

    def call(self, how: str, /, **arguments: Any) -> Any:
        if how == "create":
            self.subject = None  # free its memory first
            self.subject = self.make(arguments["start"])
            return None
        return getattr(self.subject, arguments.pop("method"))(**arguments)


def same_work(card: Card, name: str) -> dict[str, Any]:
    """Compare tinygan on the device with PyTorch or, if that is missing, with tinygan on the CPU: gradients and running
    statistics in float64, losses in float32. Raises DifferentWorkError if they differ."""
    point = start_of(card, name, 2 if card.emulated else CHECK_BATCH)
    peers = [entry for entry in variants(card, name) if entry[0] == "torch" and "graphed" not in entry[1]]
    found: dict[str, Any] = {}
    reference = None
    for entry in [("tinygan", "eager"), *(peers or [("tinygan on the CPU", "eager")])]:
        label = " ".join(entry)
        worker: Any = _Here(lambda point, entry=entry: subject(card, name, point, entry))
        with Precision(card, "float32"):
            evidence = equality.collect(label, worker, None, point, entry[1], 1, name != RING)
        if name != RING:  # few of its points reach every weight
            equality.check_moves(evidence, model_of(card, name).optimiser)
        found[label] = {"float32_gradients": equality.check_rounding(evidence)}
        if reference is None:
            reference = evidence
        else:
            found[label] |= equality.compare(reference, evidence)
    card.free()
    return {"model": name, "batch": len(point.real), "check": found}


def disagreement(ours: Gradients, theirs: Gradients, precision: str) -> dict[str, float]:
    """The differences of the losses and gradients of both at one point. Raises DifferentWorkError if they are larger than
    rounding errors."""
    found: dict[str, float] = {}
    for loss in ("d_loss", "g_loss"):
        expected, got = getattr(theirs, loss), getattr(ours, loss)
        found[loss] = abs(got - expected) / max(abs(expected), 1e-30)
        if not found[loss] <= LOSS_TOLERANCE[precision]:
            raise DifferentWorkError(f"{loss} in {precision}: {got:.8g}, PyTorch's {expected:.8g}, allowed relative "
                                     f"difference {LOSS_TOLERANCE[precision]:g}")
    errors = {
        f"{player}.{key}": equality.relative_l2(getattr(ours, player)[key], value)
        for player in ("discriminator", "generator") for key, value in getattr(theirs, player).items()
    }  # fmt: skip
    worst = max(errors, key=lambda key: np.inf if np.isnan(errors[key]) else errors[key])
    if not errors[worst] <= GRADIENT_TOLERANCE[precision]:
        raise DifferentWorkError(f"the gradients of {worst} in {precision} differ from PyTorch's by {errors[worst]:.3g} "
                                 f"(relative L2), allowed {GRADIENT_TOLERANCE[precision]:g}")
    return {**found, "gradients": errors[worst]}


def steps(card: Card, name: str, batch: int, precision: str, compiled: bool = False) -> dict[str, Any]:
    """Time the training steps of both frameworks. compiled: time PyTorch's compiled step and tinygan's captured one."""
    point = start_of(card, name, batch).astype("float32")
    entries = variants(card, name)
    if compiled:
        entries = [("tinygan", "captured"), ("torch", f"compiled{' joined' if name == 'vanilla' else ' channels-last'}")]
        if card.emulated or card.torch_device is None:
            raise NotHereError(card.no_torch or "nothing is compiled for the emulated device")
    if precision == "tf32" and not card.emulated and not card.backend.device.tensor_cores:
        raise NotHereError("this card has no tensor cores for TF32")
    with Precision(card, precision):
        agreement, rows, failed = _run(card, name, point, precision, entries)
    told = {"model": name, "batch": batch, "precision": precision}
    return {"rows": [{**told, **row} for row in rows], "agreement": agreement, "failed": failed}


class Precision:
    """Inside `with`, both frameworks compute in this precision."""

    def __init__(self, card: Card, name: str) -> None:
        self.managers: list[Any] = [tg.matmul_precision(name)]
        if card.torch_device is not None:
            import gpu_torch

            self.managers.append(gpu_torch.precision(name))

    def __enter__(self) -> None:
        for manager in self.managers:
            manager.__enter__()

    def __exit__(self, *exception: Any) -> None:
        for manager in reversed(self.managers):
            manager.__exit__(*exception)


def _run(card: Card, name: str, point: AnyStart, precision: str,
         entries: list[Entry]) -> tuple[dict[str, Any], list[Row], list[Row]]:
    """Returns the differences from tinygan's gradients, the timed rows, and what did not run."""
    def gradients(made: Any) -> Gradients:
        return made.gradients(point.d_noise, point.g_noise)

    ours = gradients(subject(card, name, point, entries[0]))
    agreement: dict[str, Any] = {}
    failed: list[Row] = []
    ready: dict[Entry, tuple[Any, Any, int, float | None]] = {}
    for entry in entries:
        say(f"{name}, batch {len(point.real)}, {precision}: {' '.join(entry)}")
        try:
            if entry[0] == "torch" and "graphed" not in entry[1]:
                made = subject(card, name, point, entry)
                agreement[" ".join(entry)] = disagreement(ours, gradients(made), precision)
                if "compiled" not in entry[1]:  # (the compiled subject is used again)
                    del made
            card.free()
            used = card.used_mib()
            made = made if "compiled" in entry[1] else subject(card, name, point, entry)
            before = made.weights()
            for _ in range(2 if card.emulated else 4):  # (the second call records a captured step)
                made.step()
            now = card.used_mib()
            ready[entry] = made, before, card.repeats(made.step), None if used is None or now is None else now - used
        except DifferentWorkError:
            raise
        except Exception as error:
            failed.append({"framework": entry[0], "variant": entry[1], "error": f"{type(error).__name__}: {error}",
                           "traceback": traceback.format_exc()})
        made = None
    rounds = 1 if card.emulated else ROUNDS
    turns = {entry: (lambda made=made, n=n: card.milliseconds(made.step, n)) for entry, (made, _, n, _) in ready.items()}
    times = harness.take_turns(rounds, turns) if turns else {}
    rows = []
    for entry, (made, before, repeats, mib) in ready.items():
        _check_trained(" ".join(entry), before, made.weights())
        rows.append({"framework": entry[0], "variant": entry[1], **harness.spread(times[entry]), "rounds_ms": times[entry],
                     "repeats": repeats, "peak_mib": "" if mib is None else round(mib, 1)})
    ready.clear()
    turns.clear()
    card.free()
    return agreement, rows, failed


def _check_trained(label: str, before: tuple[Weights, Weights], after: tuple[Weights, Weights]) -> None:
    """Raise DifferentWorkError unless every parameter has moved and is finite."""
    for old, new in zip(before, after, strict=True):
        for key, value in new.items():
            if not np.isfinite(value).all() or (value == old[key]).all():
                raise DifferentWorkError(f"{label}: its timed steps left {key} as it was, or made it infinite")


def resume(card: Card, name: str) -> dict[str, Any]:
    """Compare three trainings: 2 N captured steps; N steps, then N more after the state was saved and loaded into another
    GAN; and 2 N steps without capture. All weights, moments of the optimisers and keys must agree bit for bit."""
    half, batch = (3, 2) if card.emulated else (5, 16)
    model = model_of(card, name)
    batches = [tg.to_device(Key(7).fold(i).uniform((batch, *model.image_shape), -1.0, 1.0), card.device)
               for i in range(2 * half)]

    def fresh(key: int) -> Any:
        generator, discriminator = subject_tinygan.players(model)
        return tg.gans.VanillaGAN(generator, discriminator, model.latent_dim, key=Key(key)).to(card.device)

    def trained(gan: Any, part: list[Any], captured: bool = True) -> Any:
        step = tg.capture(gan.step) if captured else gan.step
        for real in part:
            step(real)
        return gan.state_dict()

    whole = trained(fresh(0), batches)
    first = trained(fresh(0), batches[:half])
    other = fresh(1)
    other.load_state_dict(first)
    resumed = trained(other, batches[half:])
    plain = trained(fresh(0), batches, captured=False)
    card.free()

    def differing(state: Any) -> list[str]:
        return [key for key in whole if not np.array_equal(whole[key], state[key])]

    return {"model": name, "steps": 2 * half, "batch": batch, "arrays": len(whole), "resumed_differs": differing(resumed),
            "eager_differs": differing(plain)}
