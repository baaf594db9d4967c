"""Train the same DCGAN in PyTorch, to compare it with tinygan's:

    tinygan train dcgan --seed 0 --epochs 20 --run-dir runs/dcgan
    python benchmarks/dcgan_quality.py --seed 0 --epochs 20 --run-dir runs/dcgan-torch
    python benchmarks/dcgan_quality.py --run-dir runs/dcgan-torch --compare runs/dcgan

The networks, initial weights, order of the data, latent vectors, optimisers and number of steps are the same. So even the
losses are the same, until rounding errors have grown. tinygan's training loop is used, so the run folder is like that of any
run (grids of the same latent vectors, metrics.csv, losses.png, a checkpoint every epoch, --resume). `--compare` draws the
samples and the losses of both runs into compare_samples.png and compare_losses.png.
"""
import argparse
import csv
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from models import Layers, dcgan28, dcgan64
from torch import Tensor, nn
from torch.nn.functional import softplus
from torch_networks import build, frozen, statistics_still

import tinygan as tg
from tinygan.plotting.figures import write_figure
from tinygan.runs.errors import RunError
from tinygan.runs.settings import add_flags, complete, count, read_config, with_default
from tinygan.runs.variants import DCGANSettings, build_dcgan
from tinygan.training import guarded, train

GAP = 8  # pixels between the grids
COLOURS = ("#1f77b4", "#ff7f0e")
Optimiser = torch.optim.Optimizer


@dataclass(frozen=True, kw_only=True)
class TorchSettings(DCGANSettings):
    """The settings of tinygan's DCGAN, which PyTorch's also uses."""

    variant = "dcgan-torch"
    title = "DCGAN in PyTorch"
    run_dir: str = with_default(DCGANSettings, "run_dir", "runs/dcgan-torch")


class TorchGAN:
    """A copy in PyTorch of an untrained tinygan DCGAN, with the interface that tinygan's training loop needs.

    The tinygan GAN supplies the initial weights and draws the latent vectors, but is not trained itself. PyTorch uses
    channels-last images and its fused Adam.
    """

    def __init__(self, settings: DCGANSettings, image_shape: tuple[int, int, int]) -> None:
        if settings.d_steps != 1 or settings.cost != "non-saturating" or settings.label_smoothing:
            raise RunError(f"{TorchSettings.title}: --d-steps, --cost and --label-smoothing stay as they are")
        self._twin: Any = build_dcgan(settings, image_shape)
        self.d_steps, self.noise, self.steps = 1, settings.noise, 0
        model = (dcgan28 if image_shape[1] == 28 else dcgan64)(image_shape[0], settings.latent_dim, settings.width)
        self.generator = self._network(model.generator, self._twin.generator)
        self.discriminator = self._network(model.discriminator, self._twin.discriminator)
        self.g_optimiser, self.d_optimiser = (
            torch.optim.Adam(network.parameters(), settings.learning_rate, (settings.beta1, 0.999), fused=True)
            for network in (self.generator, self.discriminator)
        )

    @staticmethod
    def _network(layers: Layers, twin: tg.nn.Module) -> nn.Sequential:
        return build(layers, twin.state_dict()).to(memory_format=torch.channels_last)

    def to(self, device: str) -> Any:
        """Raise RunError for another device than the CPU, on which PyTorch computes here."""
        if device != "cpu":
            raise RunError(f"{TorchSettings.title}: --device {device} is not compared here; use --device cpu")
        return self

    def latent(self, n: int, key: Any = None) -> np.ndarray:
        """n latent vectors (n, latent_dim), from `key` or from the stream from which tinygan's training would draw."""
        return self._twin.latent(n, key)

    def step(self, images: np.ndarray) -> tg.gans.Stats:
        """Both updates, each with new latent vectors, drawn in the same order as in tinygan."""
        real = torch.from_numpy(images).contiguous(memory_format=torch.channels_last)
        z = torch.from_numpy(self.latent(len(images)))
        with torch.no_grad(), statistics_still(self.generator):
            fake = self.generator(z)
        real_logits, fake_logits = self.discriminator(real), self.discriminator(fake)
        d_loss = softplus(-real_logits).mean() + softplus(fake_logits).mean()
        self._update(self.d_optimiser, d_loss)
        with frozen(self.discriminator):
            g_loss = softplus(-self.discriminator(self.generator(torch.from_numpy(self.latent(len(images)))))).mean()
            self._update(self.g_optimiser, g_loss)
        self.steps += 1
        probabilities = (logits.detach().sigmoid().mean().item() for logits in (real_logits, fake_logits))
        return tg.gans.Stats(d_loss.item(), g_loss.item(), *probabilities)

    @staticmethod
    def _update(optimiser: Optimiser, loss: Tensor) -> None:
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()

    def sample(self, n: int = 64, z: Any = None) -> np.ndarray:
        """The images (n, C, H, W) of latent vectors, with the running statistics."""
        z = self.latent(n, tg.random.Key(0).fold("sample")) if z is None else z
        self.generator.eval()
        with torch.no_grad():
            images = self.generator(torch.from_numpy(np.array(z)))
        self.generator.train()
        return images.numpy()

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of all state that the next step depends on, by flat names."""
        state = {"steps": np.array(self.steps), "key_count": np.array(self._twin.keys.count)}
        for player, network, optimiser in self._players():
            state |= {f"{player}.{name}": to_array(value) for name, value in network.state_dict().items()}
            for index, slots in optimiser.state_dict()["state"].items():
                state |= {f"{player}_optimiser.{index}.{slot}": to_array(value) for slot, value in slots.items()}
        return state

    def load_state_dict(self, state: dict[str, np.ndarray]) -> None:
        """Restore what `state_dict` returned."""
        self.steps, self._twin.keys.count = int(state["steps"]), int(state["key_count"])
        for player, network, optimiser in self._players():
            network.load_state_dict({name: torch.from_numpy(state[f"{player}.{name}"]) for name in network.state_dict()})
            slots: dict[int, dict[str, Tensor]] = {}
            for index, parameter in enumerate(network.parameters()):
                prefix = f"{player}_optimiser.{index}."
                slots[index] = {name.removeprefix(prefix): torch.from_numpy(value)
                                for name, value in state.items() if name.startswith(prefix)}  # fmt: skip
                for name, value in slots[index].items():  # the fused kernel needs the same strides as the parameter
                    if value.shape == parameter.shape:
                        slots[index][name] = torch.empty_like(parameter).copy_(value)
            optimiser.load_state_dict({**optimiser.state_dict(), "state": slots})

    def _players(self) -> list[tuple[str, nn.Module, Optimiser]]:
        return [("generator", self.generator, self.g_optimiser), ("discriminator", self.discriminator, self.d_optimiser)]


def to_array(value: Tensor) -> np.ndarray:
    return np.array(value.detach().numpy(), order="C")


def compare(runs: list[Path], epochs: list[int], out: Path) -> None:
    """Write compare_samples.png, with a row of grids for each run, and compare_losses.png, with a panel for each network."""
    titles = []
    for run in runs:
        config = read_config(run)
        if config is None:
            raise RunError(f"{run} is not a run folder: it has no config.json")
        titles.append("PyTorch" if config["variant"] == TorchSettings.variant else "tinygan")
    out.mkdir(parents=True, exist_ok=True)
    draw_samples(out / "compare_samples.png", runs, epochs)
    draw_losses(out / "compare_losses.png", runs, titles)
    print(out / "compare_samples.png", out / "compare_losses.png", sep="\n")


def draw_samples(path: Path, runs: list[Path], epochs: list[int]) -> None:
    """Draw a row for each run and a column for each of the `epochs` that all runs have; if there is none, the last common
    epoch."""
    from PIL import Image

    grids = [{int(file.stem.removeprefix("epoch_")): file for file in (run / "samples").glob("epoch_*.png")} for run in runs]
    common = sorted(set.intersection(*(set(of_run) for of_run in grids)))
    chosen = [epoch for epoch in common if epoch in epochs] or common[-1:]
    if not chosen:
        raise RunError(f"{' and '.join(map(str, runs))} have no epoch's samples in common")
    pictures = [[Image.open(of_run[epoch]).convert("RGB") for epoch in chosen] for of_run in grids]
    width = max(picture.width for row in pictures for picture in row) + GAP
    height = max(picture.height for row in pictures for picture in row) + GAP
    whole = Image.new("RGB", (len(chosen) * width - GAP, len(runs) * height - GAP), "white")
    for y, row in enumerate(pictures):
        for x, picture in enumerate(row):
            whole.paste(picture, (x * width, y * height))
    whole.save(path)


def draw_losses(path: Path, runs: list[Path], titles: list[str]) -> None:
    """Draw the losses of every run: the mean of each epoch, and a band that holds the middle 90 % of its steps."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), layout="constrained")
    panels = figure.subplots(1, 2)
    for colour, title, run in zip(COLOURS, titles, runs, strict=True):
        with open(run / "metrics.csv", newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        for axes, (player, column) in zip(panels, (("discriminator", "d_loss"), ("generator", "g_loss")), strict=True):
            by_epoch: dict[int, list[float]] = {}
            for row in rows:
                by_epoch.setdefault(int(row["epoch"]), []).append(float(row[column]))
            low, mean, high = np.array([[np.quantile(v, 0.05), np.mean(v), np.quantile(v, 0.95)]
                                        for v in by_epoch.values()]).T  # fmt: skip
            axes.plot(list(by_epoch), mean, color=colour, label=title, marker="o", markersize=4)
            axes.fill_between(list(by_epoch), low, high, color=colour, alpha=0.18, linewidth=0)
            axes.set(title=f"{player}: mean, and the middle 90 % of the steps", xlabel="epoch", ylabel="loss")
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.grid(alpha=0.3)
            axes.legend(frameon=False)
    write_figure(path, figure, "DCGAN: losses in " + " and ".join(titles), dpi=120)


def run(settings: TorchSettings) -> None:
    """Train, or continue the training."""
    dataset = tg.data.load(settings.data_dir, **settings.reading())
    train(TorchGAN(settings, dataset.image_shape), dataset, settings)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_flags(parser, TorchSettings)
    parser.add_argument("--compare", type=Path, metavar="RUN", help="draw this tinygan run beside --run-dir; no training")
    parser.add_argument("--at", type=count, nargs="+", default=[1, 5, 20], metavar="EPOCH", help="epochs for --compare")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where the comparison goes (default: --run-dir)")
    given = vars(parser.parse_args(argv))
    other, epochs, out = (given.pop(name) for name in ("compare", "at", "out"))
    if other is None:
        return guarded(lambda: run(complete(TorchSettings, given)))
    folder = Path(given.get("run_dir", TorchSettings.run_dir))
    return guarded(lambda: compare([other, folder], epochs, out or folder))


if __name__ == "__main__":
    sys.exit(main())
