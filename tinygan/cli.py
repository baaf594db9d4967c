"""The command `tinygan`: train, sample, info, gradcheck."""
from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .runs.errors import RunError
from .runs.folder import read_checkpoint
from .runs.history import QUANTITIES
from .runs.settings import complete, count, natural, read_config
from .runs.variants import GAN, VARIANTS, Variant, find
from .training import guarded, train
from .training import main as train_main

_CHUNK = 1024


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["train"] and len(given) > 1 and given[1] in VARIANTS:
        variant = find(given[1])
        return train_main(lambda settings: _train(variant, settings), variant.name, given[2:],
                          program=f"tinygan train {variant.name}")
    parsed = _parser().parse_args(given)
    return guarded(lambda: parsed.action(parsed))


def _parser() -> argparse.ArgumentParser:
    from . import __version__

    parser = argparse.ArgumentParser(prog="tinygan", description="Train generative adversarial networks.")
    parser.add_argument("--version", action="version", version=f"tinygan {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("train", help="train a GAN (tinygan train NAME --help shows its flags)")
    command.add_argument("variant", choices=sorted(VARIANTS), metavar="NAME", help=", ".join(sorted(VARIANTS)))

    command = commands.add_parser("sample", help="draw images from a run's generator")
    command.add_argument("run", type=Path, metavar="RUN", help="the run's folder")
    command.add_argument("--n", type=count, default=64, metavar="N", help="how many (default: 64)")
    command.add_argument("--seed", type=natural, default=0, metavar="S", help="of the latent vectors (default: 0)")
    command.add_argument("--out", type=Path, metavar="FILE",
                         help="a .png grid, or .npy: float32 (N, C, H, W) in [-1, 1] (default: RUN/sample.png)")
    command.set_defaults(action=sample)

    command = commands.add_parser("info", help="show a run's settings, progress and networks")
    command.add_argument("run", type=Path, metavar="RUN", help="the run's folder")
    command.set_defaults(action=info)

    command = commands.add_parser("gradcheck", help="check the gradients of the ops, first and second order")
    command.set_defaults(action=gradcheck)
    return parser


def _train(variant: Variant, settings: Any) -> None:
    from . import data

    dataset = data.load(settings.data_dir)
    train(variant.build(settings, dataset.image_shape), dataset, settings)


def open_run(run: Path) -> tuple[GAN, dict[str, Any], dict[str, Any]]:
    """(the GAN as the run's checkpoint left it, the run's configuration, its history's columns)."""
    config = _config(run)
    state, history = read_checkpoint(run / "checkpoint.safetensors", config)
    gan = _build(run, config)
    try:
        gan.load_state_dict(state)
    except (KeyError, ValueError) as error:
        raise RunError(f"{run}: the checkpoint does not fit the networks of {config['variant']!r}: {error}") from error
    return gan, config, history


def _config(run: Path) -> dict[str, Any]:
    config = read_config(run)
    if config is None:
        raise RunError(f"{run} is not a run folder: it has no config.json" if run.is_dir() else f"{run} is no folder")
    return config


def _build(run: Path, config: dict[str, Any]) -> GAN:
    variant = find(config["variant"])
    settings = complete(variant.settings, {"run_dir": str(run), "resume": True})
    channels, height, width = config["data"]["image_shape"]
    return variant.build(settings, (channels, height, width))


def sample(parsed: argparse.Namespace) -> None:
    """`tinygan sample RUN`: images from latent vectors that depend on --seed alone."""
    import io

    import numpy as np

    from .plotting import save_grid
    from .random import Key
    from .saving import write_atomically

    out = parsed.out or parsed.run / "sample.png"
    if out.suffix not in (".png", ".npy"):
        raise RunError(f"--out {out}: expected a name that ends in .png or .npy")
    gan, config, history = open_run(parsed.run)
    z = gan.latent(parsed.n, Key(parsed.seed).fold("sample"))
    images = np.concatenate([gan.sample(z=z[i:i + _CHUNK]) for i in range(0, parsed.n, _CHUNK)])
    if out.suffix == ".png":
        title = find(config["variant"]).settings.title
        save_grid(out, images, title=f"{title} on {config['data']['name']}, step {len(history['d_loss'])}")
    else:
        buffer = io.BytesIO()
        np.save(buffer, images)
        write_atomically(out, buffer.getbuffer())
    print(out)


def info(parsed: argparse.Namespace) -> None:
    """`tinygan info RUN`: what it was told, how far it is, what its networks are, which files it has."""
    run = parsed.run
    config = _config(run)
    data = config["data"]
    print(f"{run}: {config['variant']} on {data['name']}, {data['images']:,} images of {tuple(data['image_shape'])}, "
          f"{data['checksum']}")
    _table("Settings", config["settings"])
    for group in ("versions", "machine"):
        _table(group.capitalize(), config.get(group, {}))
    if (run / "checkpoint.safetensors").exists():
        gan, _, history = open_run(run)
        _table("Progress", _progress(gan, config, history))
        print(f"\nGenerator\n{gan.generator}\n\nDiscriminator\n{gan.discriminator}")
    else:
        print("\nNo checkpoint yet.")
    files = sorted(path for path in run.rglob("*") if path.is_file() and not path.name.startswith("."))
    shown = [path for path in files if path.parent == run] + [path for path in files if path.parent != run][-1:]
    _table("Files", {str(path.relative_to(run)): f"{path.stat().st_size:,} bytes" for path in shown})


def _progress(gan: GAN, config: dict[str, Any], history: dict[str, Any]) -> dict[str, Any]:
    settings = config["settings"]
    steps = len(history["seconds"])
    per_epoch = config["data"]["images"] // (gan.d_steps * settings["batch_size"])
    recent = slice(max(0, steps - per_epoch), steps)
    means = {name: f"{history[name][recent].mean(dtype='float64'):.4f}" for name in QUANTITIES} if steps else {}
    return {"epoch": f"{steps // per_epoch} of {settings['epochs']}", "step": f"{steps} of {per_epoch * settings['epochs']}",
            "seconds": f"{history['seconds'][-1]:.1f}" if steps else "0", **means}


def _table(title: str, entries: dict[str, Any]) -> None:
    width = max(map(len, entries), default=0)
    print(f"\n{title}")
    for name, value in entries.items():
        print(f"  {name:<{width}}  {', '.join(map(str, value)) if isinstance(value, list) else value}")


def gradcheck(parsed: argparse.Namespace) -> None:
    """`tinygan gradcheck`: every differentiable op against central differences in float64, first and second order."""
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


if __name__ == "__main__":
    sys.exit(main())
