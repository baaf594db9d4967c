"""What the commands of `tinygan` do, each given its parsed flags. (`cli.py` has the flags; `training.py` trains.)"""
from __future__ import annotations

__all__ = ["CANDIDATES", "architecture", "check_lesson", "classifier", "evaluate", "explain", "export", "gradcheck",
           "info", "interpolate", "list_lessons", "play", "sample", "show_lesson", "traverse"]

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from .cache import say
from .data.files import counted
from .progress import chunks
from .random import Key
from .runs import advice, machine, previews
from .runs.errors import RunError
from .runs.folder import CHECKPOINT, read_checkpoint
from .runs.history import QUANTITIES
from .runs.labels import class_of, columns_of, full_rows, labelled, named, seen, takes_labels, within_class
from .runs.opening import is_own, no_checkpoint, open_run, own_cost, run_config, run_data, settings_of
from .runs.players import BOTH, exported, files, player
from .runs.previews import picture, translates
from .runs.trainable import TrainableGAN, sampler, weights_sampled
from .runs.variants import find
from .runs.warnings import against_unequal_rates, warnings_of_run
from .tables import lookup

_CHUNK = 1024
_NOTHING = ("The losses up to step {:,} show nothing wrong, but losses do not tell whether the images are all alike. Look "
            "at the last grid in samples/. The page that `{}` writes also compares the images with the data")
CANDIDATES = _SAMPLES = 64


def sample(parsed: argparse.Namespace) -> None:
    """`tinygan sample RUN`: images from latent vectors that depend only on --seed."""
    import io

    import numpy as np

    from .plotting import save_grid
    from .saving import write_atomically

    out = parsed.out or parsed.run / "sample.png"
    if out.suffix not in (".png", ".npy"):
        raise RunError(f"--out {out}: expected a name that ends in .png or .npy")
    gan, config, history = open_run(parsed.run)
    label = None if parsed.label is None else class_of(gan, config, parsed.label)
    n = parsed.n or (full_rows(gan, _SAMPLES) if takes_labels(gan) and label is None else _SAMPLES)
    z = _inputs(parsed, gan, config, n, label)
    parts = chunks(n, _CHUNK, "sampling")
    if out.suffix == ".png":
        found = [picture(gan, z[part], not parsed.raw) for part in parts]
        columns, note = columns_of(gan, z) if takes_labels(gan) else found[0][1:]
        title = find(config["variant"]).settings.title
        save_grid(out, np.concatenate([images for images, _, _ in found]), columns=columns,
                  title=_titled(f"{title} on {config['data']['name']}, step {len(history['d_loss'])}",
                                weights_sampled(gan, not parsed.raw)) + note)
    else:
        buffer = io.BytesIO()
        draw = sampler(gan, not parsed.raw)
        np.save(buffer, np.concatenate([draw(z=z[part]) for part in parts]))
        write_atomically(out, buffer.getbuffer())
    print(out)
    _note_weights(gan, parsed.raw)


def _inputs(parsed: argparse.Namespace, gan: TrainableGAN, config: dict[str, Any], n: int, label: int | None = None) -> Any:
    """What n samples of a run are made from, drawn with --seed: latent vectors, or images of the run's data."""
    key = Key(parsed.seed).fold("sample")
    if takes_labels(gan):
        return labelled(gan, n, key, label)
    if not translates(gan):
        return gan.latent(n, key)
    return previews.inputs(gan, run_data(parsed.run, config, parsed.data_dir), n, key)


def interpolate(parsed: argparse.Namespace) -> None:
    """`tinygan interpolate RUN`: interpolation.png, candidates.png and arithmetic.png (DCGAN's sections 6.1 and 6.3.2)."""
    import numpy as np

    from .gans import NOISES, latent
    from .plotting import save_arithmetic, save_candidates, save_grid

    gan, config, history = open_run(parsed.run)
    if translates(gan):
        raise RunError(f"{parsed.run}: a {config['variant']} translates images and has no latent vectors to walk between")
    out = parsed.out or parsed.run
    out.mkdir(parents=True, exist_ok=True)
    key = Key(parsed.seed)
    settings = find(config["variant"]).settings
    about = _titled(f"{settings.title} on {config['data']['name']}, step {len(history['d_loss'])}",
                    weights_sampled(gan, not parsed.raw))
    draw, latent_of = sampler(gan, not parsed.raw), gan.latent
    if parsed.label is not None or takes_labels(gan):
        label = 0 if parsed.label is None else class_of(gan, config, parsed.label)
        about, (draw, latent_of) = f"{about}, class {named(config, label)}", within_class(gan, draw, label)

    ends = latent_of(2 * parsed.rows, key.fold("interpolation"))
    walks = latent.interpolate(ends[:parsed.rows], ends[parsed.rows:], parsed.steps, gan.noise)
    noise = lookup(NOISES, "interpolate", "noise", gan.noise)
    kind = "linear" if noise.straight else "spherical"
    save_grid(out / "interpolation.png", draw(z=walks.reshape(-1, ends.shape[1])), columns=parsed.steps,
              title=f"{about}: {kind} interpolation")

    z = latent_of(CANDIDATES, key.fold("candidates"))
    images = draw(z=z)
    save_candidates(out / "candidates.png", images, title=f"{about}: candidates, seed {parsed.seed}")
    groups = parsed.arithmetic or latent.alike(images, 3, 3)
    *means, total = latent.arithmetic(z, *groups)
    around = latent.neighbourhood(total, key.fold("neighbourhood"))
    a, b, c = (images[group].mean(axis=0) for group in groups)
    save_arithmetic(out / "arithmetic.png", [images[group] for group in groups], draw(z=np.stack(means)),
                    draw(z=around), a - b + c, title=f"{about}: A \N{MINUS SIGN} B + C",
                    names=[f"{name}: {', '.join(map(str, group))}" for name, group in zip("ABC", groups, strict=True)])
    print(f"{out / 'interpolation.png'}: {parsed.rows} walks of {parsed.steps} images, {kind}, since the latent vectors are "
          f"{noise.name}: {noise.why}")
    print(f"{out / 'candidates.png'}: {CANDIDATES} numbered images to choose groups from")
    chosen = " ".join(",".join(map(str, group)) for group in groups)
    print(f"{out / 'arithmetic.png'}: --arithmetic {chosen}" + ("" if parsed.arithmetic else " (groups of similar images)"))
    _note_weights(gan, parsed.raw)


def traverse(parsed: argparse.Namespace) -> None:
    """`tinygan traverse RUN`: traverse_CODE.png for every code (figure 2 of the InfoGAN paper)."""
    gan, config, history = open_run(parsed.run)
    about = _titled(f"{find(config['variant']).settings.title} on {config['data']['name']}, step {len(history['d_loss'])}",
                    weights_sampled(gan, not parsed.raw))
    for path in previews.draw_codes(gan, parsed.out or parsed.run, about, rows=parsed.rows, steps=parsed.steps,
                                    limit=parsed.limit, key=Key(parsed.seed).fold("traverse"), averaged=not parsed.raw):
        print(path)
    _note_weights(gan, parsed.raw)


def architecture(parsed: argparse.Namespace) -> None:
    """`tinygan architecture RUN`: a figure of a network, drawn from the outputs of its layers for one latent vector."""
    from .plotting import FORMATS, save_architecture

    out = parsed.out or parsed.run / f"{parsed.player}.png"
    if out.suffix.lower() not in FORMATS:
        raise RunError(f"--out {out}: expected a name that ends in {', '.join(FORMATS)}")
    gan, config, _ = open_run(parsed.run)
    z = _inputs(parsed, gan, config, 1)
    if parsed.player == "generator":
        network, x, names = getattr(gan, "sampled_generator", gan.generator), z, ("z", "G(z)")
    else:
        network, x, names = getattr(gan.discriminator, "in_a_row", gan.discriminator), gan.sample(z=z), ("x", "logit")
        if takes_labels(gan):
            network, x = seen(gan, x, z)
    if translates(gan):  # of its networks, G_AB or D_B is drawn
        network, x, names = previews.drawn(network, x)
    title = f"{find(config['variant']).settings.title} on {config['data']['name']}: the {parsed.player}"
    save_architecture(out, network, x, title=title, names=names)
    print(out)


def export(parsed: argparse.Namespace) -> None:
    """`tinygan export RUN --to FORMAT`: a network as an ONNX model, or its weights and a program that loads them into
    PyTorch."""
    from . import __version__

    if parsed.run is None:
        raise RunError(f"export: which run? Its folder comes before --to:  tinygan export RUN --to {parsed.to[0]}")
    wanted = files(parsed.run, parsed.player, parsed.to)
    gan, config, history = open_run(parsed.run)
    weights = weights_sampled(gan, not parsed.raw)
    for name, (kind, path) in wanted.items():
        notes = {"tinygan": __version__, "variant": config["variant"], "network": name, "data": config["data"]["name"],
                 "step": str(len(history["d_loss"])), "noise": gan.noise, "weights": weights}
        print(exported(player(gan, name, not parsed.raw), name, kind, path,
                       {key: note for key, note in notes.items() if note}))
    if parsed.player == BOTH or parsed.player.startswith("g"):
        _note_weights(gan, parsed.raw, "these are")


def evaluate(parsed: argparse.Namespace) -> None:
    """`tinygan evaluate RUN`: a table in Markdown that compares the run's images with real ones."""
    gan, config, history = open_run(parsed.run)
    settings = settings_of(parsed.run, config)
    dataset = run_data(parsed.run, config, parsed.data_dir)
    examiner = settings.examiner(dataset, parsed.data_dir or config["data"]["data_dir"])
    say("preparing and evaluating; this takes a minute or two, and the first time also the training of the classifier")
    found = examiner.examine(gan, Key(parsed.seed).fold("evaluation"), averaged=not parsed.raw)
    about, weights = examiner.about, weights_sampled(gan, not parsed.raw)
    made = f"images of the generator's {weights}" if weights else "images"
    print(f"{about['images']:,} {made} after {len(history['d_loss']):,} steps on {about['data']}, beside its test images; "
          f"the classifier's accuracy on those is {about['classifier_accuracy']:.2%} (its version "
          f"{about['classifier_version']}).\n")
    print("| measure | generated | real test images |\n| --- | --- | --- |")
    for name, value in found.items():
        print(f"| {name} | {value:.4g} | {examiner.floor[name]:.4g} |")


def explain(parsed: argparse.Namespace) -> None:
    """`tinygan explain RUN`: one HTML page that shows how the run learnt."""
    from .teaching.page import explain as write_page

    out = parsed.out or parsed.run / "explain.html"
    if out.suffix.lower() not in (".html", ".htm"):
        raise RunError(f"--out {out}: expected a name that ends in .html")
    written = write_page(parsed.run, out, data_dir=parsed.data_dir)
    print(f"{written}: {written.stat().st_size / 1e6:.1f} MB, open it in a browser")
    if not any((parsed.run / "recording").glob("*.safetensors")):
        print("Note: this run was trained without --record, so the page shows its last state only.", file=sys.stderr)


def play(parsed: argparse.Namespace) -> None:
    """`tinygan play`: the playground, until Ctrl-C."""
    from .teaching.play import serve

    serve(parsed.port, browser=not parsed.no_browser)


def classifier(parsed: argparse.Namespace) -> None:
    """`tinygan classifier`: train the classifier if it is not in the cache, and print its accuracy on the test images, as
    they are and with changes."""
    from . import data
    from .metrics import digit_classifier

    digits, test = (data.load(parsed.data_dir, split=split) for split in ("train", "test"))
    try:
        found = digit_classifier(digits, test)
    except ValueError as error:
        raise RunError(str(error)) from error
    print(f"{found.accuracy:.2%} of the {len(test):,} test images of {test.name}, with a mean confidence of "
          f"{found.confidence:.3f} (version {found.version} of the classifier)\n")
    print("| change | right |\n| --- | --- |")
    for name, right in found.changed.items():
        print(f"| {name} | {right:.2%} |")


def info(parsed: argparse.Namespace) -> None:
    """`tinygan info RUN`: the run's settings, progress, networks and files. `tinygan info`: the versions and the machine, as
    a run would record them, the other packages, and the GPU. Both also say how kernels are compiled here."""
    if parsed.run is None:
        for i, (group, entries) in enumerate(machine.describe().items()):
            _table(group.capitalize(), entries, first=i == 0)
        _table("Other packages", machine.packages())
        _table("GPU", {"cuda": machine.gpu()})
    else:
        _info_on(parsed.run)
    _table("Kernels on the CPU of this machine", machine.kernels())


def _info_on(run: Path) -> None:
    config = run_config(run)
    data = config["data"]
    print(f"{run}: {config['variant']} on {data['name']}, {data['images']:,} images of {tuple(data['image_shape'])}, "
          f"{data['checksum']}" + (f", {counted(data['bad_files'], 'bad file')} left out" if data.get("bad_files") else ""))
    if "classes" in data:
        print(f"Classes: {', '.join(f'{label} {name}' for label, name in enumerate(data['classes']))}")
    settings = {**config["settings"], "data_dir": data.get("data_dir")}
    _table("Settings", {name: value for name, value in settings.items() if value is not None})
    if config.get("rules"):
        _table("Rules that its program gave the GAN, in place of those of the settings", config["rules"])
    for group in ("versions", "machine"):
        _table(f"{group.capitalize()} of the run", config.get(group, {}))
    for later in config.get("resumed", [])[-1:]:
        changes = machine.differences(config, later)
        _table("Changes when it was continued", {"to": "; ".join(changes)} if changes else {})
    if not (run / CHECKPOINT).exists():
        why = no_checkpoint(run, config)
        print(f"\n{why[0].upper()}{why[1:]}")
    elif is_own(config):
        _, history = read_checkpoint(run / CHECKPOINT, config)
        _table("Progress", _progress(config, history))
        for player, layers in config.get("networks", {}).items():
            print(f"\n{player.capitalize()}\n{layers}")
        print(f"\nOnly the program that trained it can build its networks. In Python:  {advice.open_in_python(str(run))}")
    else:
        gan, _, history = open_run(run)
        _table("Progress", _progress(config, history))
        if len(history["d_loss"]):
            alarms = warnings_of_run(gan, history, config.get("steps_per_epoch"))
            page = "tinygan.teaching.explain(RUN)" if own_cost(config) else "tinygan explain RUN"
            for text in list(map(str, alarms)) or [_NOTHING.format(len(history["d_loss"]), page)]:
                print(f"\n{text}")
            unequal = against_unequal_rates(gan)
            if unequal and not alarms:
                print(f"If the images are bad, look at the learning rates: {unequal}")
        print(f"\nGenerator\n{gan.generator}\n\nDiscriminator\n{gan.discriminator}")
    files = sorted(path for path in run.rglob("*") if path.is_file() and not path.name.startswith("."))
    below = [path for path in files if path.parent != run]
    shown = [path for path in files if path.parent == run] + below[-1:]
    more = f", the last of {len(below):,} files in folders" if len(below) > 1 else ""
    _table("Files", {str(path.relative_to(run)): f"{path.stat().st_size:,} bytes" + (more if path in below else "")
                     for path in shown})


def _progress(config: dict[str, Any], history: dict[str, Any]) -> dict[str, Any]:
    settings = config["settings"]
    steps = len(history["seconds"])
    per_epoch = config.get("steps_per_epoch") or (
        config["data"]["images"] // (settings.get("d_steps", 1) * settings["batch_size"]))
    recent = slice(max(0, steps - per_epoch), steps)
    names = [*QUANTITIES, *sorted(history.keys() - {*QUANTITIES, "seconds"})]
    means = {name: f"{history[name][recent].mean(dtype='float64'):.4f}" for name in names} if steps else {}
    return {"epoch": f"{steps // per_epoch} of {settings['epochs']}", "step": f"{steps} of {per_epoch * settings['epochs']}",
            "seconds": f"{history['seconds'][-1]:.1f}" if steps else "0", **means}


def _table(title: str, entries: dict[str, Any], first: bool = False) -> None:
    width = max(map(len, entries), default=0)
    print(title if first else f"\n{title}")
    for name, value in entries.items():
        print(f"  {name:<{width}}  {', '.join(map(str, value)) if isinstance(value, list) else value}")


def gradcheck(parsed: argparse.Namespace) -> None:
    """`tinygan gradcheck`: compare every differentiable op with central differences in float64, first and second order."""
    from . import check_gradients
    from .gradcheck import GradientError
    from .gradcheck_cases import cases

    failed = 0
    print(f"{'op':<36}{'largest difference':>20}{'seconds':>10}")
    for name, fn, inputs in cases():
        start = time.perf_counter()
        try:
            outcome = f"{check_gradients(fn, *inputs, order=2):.2g}"
        except GradientError as error:
            failed += 1
            outcome = f"FAILED: {error}"
        print(f"{name:<36}{outcome:>20}{time.perf_counter() - start:>10.2f}", flush=True)
    if failed:
        raise RunError(f"the gradients of {failed} ops are wrong")


def _note_weights(gan: TrainableGAN, raw: bool, what: str = "the images are made by") -> None:
    """Say on standard error which weights made the images, if there is a choice."""
    weights = weights_sampled(gan, not raw)
    if weights:
        other = "" if raw else "; --raw takes the present ones"
        print(f"Note: {what} the generator's {weights}{other}.", file=sys.stderr)


def _titled(*parts: str) -> str:
    return ", ".join(filter(None, parts))


def list_lessons(parsed: argparse.Namespace) -> None:
    """`tinygan lesson list`: the lessons' numbers and titles."""
    from .teaching.lessons import LESSONS

    for lesson in LESSONS:
        print(f"{lesson.number}  {lesson.title}")


def show_lesson(parsed: argparse.Namespace) -> None:
    """`tinygan lesson show NUMBER`: where its script is, and its exercises."""
    from .teaching.lessons import lesson

    shown = lesson(parsed.lesson)
    print(f"Lesson {shown.number}: {shown.title}\n{shown.path}\n\n{shown.exercises_text()}")


def check_lesson(parsed: argparse.Namespace) -> None:
    """`tinygan lesson check NUMBER FILE`: which answers are right. The exit status is 1 if one is not."""
    from .teaching.lessons import check

    results = check(parsed.lesson, parsed.answers, parsed.seconds)
    for result in results:
        print(f"{result.name}: " + ("right" if result.wrong is None else f"not right yet. {result.wrong}"))
    right = sum(result.wrong is None for result in results)
    print(f"{right} of {len(results)} right")
    if right < len(results):
        raise SystemExit(1)
