"""The command `tinygan` and its flags. `commands.py` says what each command does."""
from __future__ import annotations

__all__ = ["main"]

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import commands as actions
from .runs import advice
from .runs.flags import Parser
from .runs.guarding import guarded
from .runs.settings import Kind, count, natural, positive
from .runs.variants import VARIANTS, Variant, find
from .training import main as train_main
from .training import train


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    listed = advice.given_arguments(arguments)
    given = sys.argv[1:] if listed is None else listed
    if given[:1] == ["train"] and len(given) > 1 and given[1] in VARIANTS:
        variant = find(given[1])
        return train_main(lambda settings: _train(variant, settings), variant.name, given[2:],
                          program=f"tinygan train {variant.name}")
    parsed = _parser().parse_args(given)
    return guarded(lambda: parsed.action(parsed))


def _parser() -> argparse.ArgumentParser:
    from . import __version__

    parser = Parser(prog="tinygan", description="Train generative adversarial networks.")
    parser.add_argument("--version", action="version", version=f"tinygan {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("train", help="train a GAN (tinygan train NAME --help shows its flags)",
                                  formatter_class=argparse.RawDescriptionHelpFormatter, epilog="\n".join([
                                      "the GANs:", *(f"  {name:<13}{one.about}" for name, one in sorted(VARIANTS.items())),
                                      "", "`tinygan train NAME --help` shows the flags of that GAN."]))
    command.add_argument("variant", choices=sorted(VARIANTS), metavar="NAME", help="one of the GANs below")

    command = commands.add_parser("sample", help="draw images from a run's generator")
    command.add_argument("run", type=Path, metavar="RUN", help="the run's folder")
    command.add_argument("--n", type=count, metavar="N", help="how many (default: 64, or with labels as many as fill rows)")
    _add_label(command, "a row for each class")
    command.add_argument("--seed", type=natural, default=0, metavar="S", help="seed of the latent vectors (default: 0)")
    command.add_argument("--out", type=Path, metavar="FILE",
                         help="a .png grid, or .npy: float32 (N, C, H, W) in [-1, 1] (default: RUN/sample.png)")
    command.add_argument("--data-dir", metavar="DIR", help="the images to translate, for a GAN that translates (default: "
                         "those of the run)")
    _add_raw(command)
    command.set_defaults(action=actions.sample)

    command = commands.add_parser("interpolate", help="draw walks and sums in the space of a run's latent vectors")
    command.add_argument("run", type=Path, metavar="RUN", help="the run's folder")
    command.add_argument("--rows", type=count, default=8, metavar="N", help="walks from one vector to another (default: 8)")
    command.add_argument("--steps", type=Kind(int, lambda n: n >= 2, "a whole number of at least 2"), default=10,
                         metavar="N", help="images in a walk, both ends included (default: 10)")
    command.add_argument("--arithmetic", nargs=3, type=_numbers, metavar=("A", "B", "C"),
                         help="A - B + C of the mean vectors of three groups: numbers of images in candidates.png, such as "
                              "3,17,40 8,9,21 0,5,33 (default: groups of three similar images)")
    _add_label(command, "class 0")
    command.add_argument("--seed", type=natural, default=0, metavar="S", help="seed of the latent vectors (default: 0)")
    command.add_argument("--out", type=Path, metavar="DIR", help="where the three pictures go (default: RUN)")
    _add_raw(command)
    command.set_defaults(action=actions.interpolate)

    command = commands.add_parser("traverse", help="draw a run's codes (of an InfoGAN), one varied at a time")
    command.add_argument("run", type=Path, metavar="RUN", help="the run's folder")
    command.add_argument("--rows", type=count, default=10, metavar="N", help="rows, each of other noise (default: 10)")
    command.add_argument("--steps", type=Kind(int, lambda n: n >= 2, "a whole number of at least 2"), default=10,
                         metavar="N", help="values of a continuous code (default: 10)")
    command.add_argument("--limit", type=positive, default=2.0, metavar="X", help="they go from -X to X; the training has "
                         "-1 to 1 (default: 2, as in the paper)")
    command.add_argument("--seed", type=natural, default=0, metavar="S", help="seed of the noise (default: 0)")
    command.add_argument("--out", type=Path, metavar="DIR", help="where the pictures go, one a code (default: RUN)")
    _add_raw(command)
    command.set_defaults(action=actions.traverse)

    command = commands.add_parser("architecture", help="draw a run's generator or discriminator, layer by layer")
    command.add_argument("run", type=Path, metavar="RUN", help="the run's folder")
    command.add_argument("--player", choices=("generator", "discriminator"), default="generator",
                         help="whose network (default: generator)")
    command.add_argument("--seed", type=natural, default=0, metavar="S", help="seed of the latent vector (default: 0)")
    command.add_argument("--out", type=Path, metavar="FILE", help="a .png, .pdf or .svg (default: RUN/PLAYER.png)")
    command.add_argument("--data-dir", metavar="DIR", help="as for `tinygan sample`")
    command.set_defaults(action=actions.architecture)

    _add_commands_that_look(commands)
    _add_lessons(commands)
    return parser


def _add_commands_that_look(commands: Any) -> None:
    """Those that look at a run, or at tinygan itself, and draw no images."""
    command = commands.add_parser("export", help="write a run's networks for onnxruntime or for PyTorch",
                                  usage="%(prog)s RUN --to FORMAT [FILE] [--player PLAYER] [--raw]")
    command.add_argument("run", type=Path, nargs="?", metavar="RUN", help="the run's folder")
    command.add_argument("--to", nargs="+", required=True, metavar=("FORMAT", "FILE"),
                         help="onnx: a model. safetensors: the weights, and on standard output a program that loads them "
                              "into PyTorch. FILE: a file or a folder (default: RUN/PLAYER.FORMAT)")
    command.add_argument("--player", default="generator", metavar="PLAYER",
                         help="generator, discriminator or both; for an InfoGAN also q, for a DiscoGAN also g_ab, g_ba, d_a "
                              "and d_b (default: generator)")
    _add_raw(command)
    command.set_defaults(action=actions.export)

    command = commands.add_parser("evaluate", help="compare a run's images with real digits")
    command.add_argument("run", type=Path, metavar="RUN", help="the run's folder")
    command.add_argument("--data-dir", metavar="DIR", help="the digits (default: those of the run)")
    command.add_argument("--seed", type=natural, default=0, metavar="S", help="seed of the latent vectors (default: 0)")
    _add_raw(command)
    command.set_defaults(action=actions.evaluate)

    _add_teaching(commands)

    command = commands.add_parser("classifier", help="train the classifier of digits that `evaluate` uses")
    command.add_argument("--data-dir", metavar="DIR", help="the digits (default: as in training)")
    command.set_defaults(action=actions.classifier)

    command = commands.add_parser("info", help="show a run's settings, progress and networks, or what tinygan runs on here")
    command.add_argument("run", type=Path, nargs="?", metavar="RUN",
                         help="the run's folder (without it: versions, processor, kernels)")
    command.set_defaults(action=actions.info)

    command = commands.add_parser("gradcheck", help="check the gradients of the ops, first and second order")
    command.set_defaults(action=actions.gradcheck)


def _add_teaching(commands: Any) -> None:
    """The commands that show how GANs learn."""
    command = commands.add_parser("explain", help="write a page that shows how a run learnt")
    command.add_argument("run", type=Path, metavar="RUN", help="the run's folder")
    command.add_argument("--out", type=Path, metavar="FILE", help="an .html file (default: RUN/explain.html)")
    command.add_argument("--data-dir", metavar="DIR", help="the run's images (default: where they were)")
    command.set_defaults(action=actions.explain)

    command = commands.add_parser("play", help="play with a small GAN in the browser, one update or one op at a time")
    command.add_argument("--port", type=Kind(int, lambda n: 0 <= n < 65536, "a whole number from 0 to 65535"), default=0,
                         metavar="N", help="(default: a free one)")
    command.add_argument("--no-browser", action="store_true", help="only print the page's address")
    command.set_defaults(action=actions.play)


def _add_lessons(commands: Any) -> None:
    command = commands.add_parser("lesson", help="list the lessons, show one, check your answers to its exercises")
    command.set_defaults(action=actions.list_lessons)
    lessons = command.add_subparsers(metavar="WHAT")

    command = lessons.add_parser("list", help="the lessons' numbers and titles")
    command.set_defaults(action=actions.list_lessons)

    command = lessons.add_parser("show", help="where a lesson's script is, and its exercises")
    command.add_argument("lesson", type=count, metavar="NUMBER", help="the lesson's number")
    command.set_defaults(action=actions.show_lesson)

    command = lessons.add_parser("check", help="check a file with your answers to a lesson's exercises")
    command.add_argument("lesson", type=count, metavar="NUMBER", help="the lesson's number")
    command.add_argument("answers", type=Path, metavar="FILE", help="a Python file that defines what the exercises ask for")
    command.add_argument("--seconds", type=positive, default=60.0, metavar="S",
                         help="how long each exercise may take (default: 60)")
    command.set_defaults(action=actions.check_lesson)


def _add_label(command: argparse.ArgumentParser, default: str) -> None:
    command.add_argument("--label", metavar="CLASS", help="the class to draw, a number or a name, if the run has labels "
                         f"(default: {default})")


def _add_raw(command: argparse.ArgumentParser) -> None:
    command.add_argument("--raw", action="store_true", help="use the generator's present weights, not their average, if the "
                         "run keeps one (--ema)")


def _train(variant: Variant, settings: Any) -> None:
    from . import data

    dataset = settings.prepare(data.load(settings.data_dir, **settings.reading()))
    settings = settings.suited(dataset)
    train(variant.build(settings, dataset.image_shape), dataset, settings)


def _numbers(text: str) -> list[int]:
    """"3,17,40" -> [3, 17, 40], the numbers of candidates."""
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or not all(0 <= n < actions.CANDIDATES for n in numbers):
        raise argparse.ArgumentTypeError(f"expected numbers from 0 to {actions.CANDIDATES - 1}, separated by commas, got "
                                         f"{text!r}")
    return numbers


if __name__ == "__main__":
    sys.exit(main())
