"""The command line as its users meet it: what it writes, what it says, and its exit status."""
import os
import re
import runpy
import signal
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_run import content

from tinygan import cli, saving
from tinygan.data import mnist
from tinygan.kernels.cpu.runtime import simd

EXAMPLE = Path(__file__).parents[1] / "examples" / "vanilla_mnist.py"


@pytest.fixture
def images(tmp_path):
    """A file of 40 images of 1 x 5 x 4."""
    path = tmp_path / "images.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, (40, 1, 5, 4), dtype=np.uint8))
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two epochs of `tinygan train vanilla` on tiny images."""
    folder = tmp_path_factory.mktemp("cli")
    np.save(folder / "images.npy", np.random.default_rng(0).integers(0, 256, (40, 1, 5, 4), dtype=np.uint8))
    assert train(folder / "run", folder / "images.npy", "--epochs", 2) == 0
    return folder / "run"


def train(folder, data, *flags):
    return cli.main(["train", "vanilla", "--run-dir", str(folder), "--data-dir", str(data), "--batch-size", "8",
                     *map(str, flags)])


def failure(capsys, status, *arguments):
    """The one line that a failing command prints."""
    assert cli.main([str(argument) for argument in arguments]) == status
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("tinygan: error: "), lines
    return lines[0]


def test_the_example_and_the_command_are_the_same_run(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), "--run-dir", str(tmp_path / "b"), "--epochs", "2", "--batch-size", "8",
                                      "--data-dir", str(run.parent / "images.npy")])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(EXAMPLE), run_name="__main__")
    assert ended.value.code == 0
    assert content(tmp_path / "b") == content(run)
    assert f"{EXAMPLE} --run-dir {tmp_path / 'b'} --resume --epochs 4" in capsys.readouterr().out


def test_the_example_is_short():
    assert len(EXAMPLE.read_text().splitlines()) <= 60


def test_resuming_needs_no_other_flag_and_may_grow(images, tmp_path, capsys):
    assert train(tmp_path / "a", images, "--epochs", 1, "--seed", 5, "--latent-dim", 7) == 0
    assert cli.main(["train", "vanilla", "--resume", "--run-dir", str(tmp_path / "a"), "--epochs", "2"]) == 0
    assert train(tmp_path / "b", images, "--epochs", 2, "--seed", 5, "--latent-dim", 7) == 0
    assert content(tmp_path / "a") == content(tmp_path / "b")


def test_sample_depends_on_the_seed_alone(run, tmp_path, capsys):
    for name, flags in {"a": [], "b": [], "c": ["--seed", "1"], "d": ["--n", "1030"]}.items():
        assert cli.main(["sample", str(run), "--out", str(tmp_path / f"{name}.npy"), *flags]) == 0
    a, b, c, d = (np.load(tmp_path / f"{name}.npy") for name in "abcd")
    assert a.shape == (64, 1, 5, 4) and a.dtype == np.float32 and np.abs(a).max() <= 1
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)
    assert d.shape == (1030, 1, 5, 4)
    assert capsys.readouterr().out.splitlines()[0] == str(tmp_path / "a.npy")


def test_sample_draws_a_grid_that_names_the_data(run, tmp_path):
    assert cli.main(["sample", str(run), "--n", "6", "--out", str(tmp_path / "a.png")]) == 0
    with Image.open(tmp_path / "a.png") as image:
        assert image.text["Title"].startswith("vanilla GAN on array:images.npy")


def test_interpolate_draws_walks_candidates_and_sums(run, tmp_path, capsys):
    assert cli.main(["interpolate", str(run), "--rows", "3", "--steps", "4", "--out", str(tmp_path / "new")]) == 0
    said = capsys.readouterr().out
    assert "3 walks of 4 images, spherical, since the latent vectors are normal" in said and "similar images" in said
    names = ("interpolation.png", "candidates.png", "arithmetic.png")
    for name in names:
        with Image.open(tmp_path / "new" / name) as image:
            assert image.text["Title"].startswith("vanilla GAN on array:images.npy, step 10")
    chosen = re.search(r"--arithmetic (\S+) (\S+) (\S+)", said).groups()
    assert cli.main(["interpolate", str(run), "--arithmetic", *chosen, "--out", str(tmp_path / "again")]) == 0
    assert "similar images" not in capsys.readouterr().out
    same = [(tmp_path / "new" / name).read_bytes() == (tmp_path / "again" / name).read_bytes() for name in names]
    assert same == [False, True, True]  # fewer and shorter walks, but the same candidates and the same groups


def test_interpolation_is_linear_for_uniform_noise(images, tmp_path, capsys):
    assert train(tmp_path / "run", images, "--epochs", 1, "--noise", "uniform") == 0
    assert cli.main(["interpolate", str(tmp_path / "run")]) == 0
    assert "linear, since the latent vectors are uniform" in capsys.readouterr().out
    assert (tmp_path / "run" / "interpolation.png").is_file()


@pytest.mark.parametrize("player", ["generator", "discriminator"])
def test_architecture_draws_a_player(run, tmp_path, capsys, player):
    assert cli.main(["architecture", str(run), "--player", player]) == 0
    assert capsys.readouterr().out == f"{run / (player + '.png')}\n"
    with Image.open(run / f"{player}.png") as image:
        assert image.text["Title"] == f"vanilla GAN on array:images.npy: the {player}"
    assert "ends in .png, .pdf, .svg" in failure(capsys, 2, "architecture", run, "--out", tmp_path / "x.jpg")


def test_info_shows_settings_progress_networks_and_files(run, capsys):
    assert cli.main(["info", str(run)]) == 0
    out = capsys.readouterr().out
    for expected in ("vanilla on array:images.npy, 40 images of (1, 5, 4)", "epoch    2 of 2", "step     10 of 10", "Dense(100 -> 256)", "25,856", "losses.png",
                     "samples/epoch_0002.png", "The losses up to step 10 show nothing wrong, but losses do not tell whether the images are all alike.", f"Kernels on the CPU of this machine\n  vectors    {simd.VECTOR_BYTES} bytes"):
        assert expected in out
    assert re.search(r"cost +non-saturating\n", out) and "None" not in out  # (settings that are not set are left out)


def test_info_shows_the_versions_of_all_that_tinygan_uses(capsys):
    assert cli.main(["info"]) == 0
    out = capsys.readouterr().out
    for name in ("tinygan", "numba", "matplotlib", "scipy", "safetensors"):
        assert re.search(rf"^  {name} +{re.escape(metadata.version(name))}$", out, re.MULTILINE)
    assert "\nGPU\n  cuda  " in out


@pytest.mark.skipif(sys.platform == "win32", reason="a closed pipe is another error there")
def test_a_reader_that_goes_away_ends_the_command_quietly(run):
    reading, writing = os.pipe()
    os.close(reading)  # as `tinygan info RUN | head -1` does before the end
    ended = subprocess.run([sys.executable, "-m", "tinygan.cli", "info", str(run)], stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (141, b"")


def test_info_on_a_run_without_a_checkpoint(run, tmp_path, capsys):
    (tmp_path / "config.json").write_text((run / "config.json").read_text())
    assert cli.main(["info", str(tmp_path)]) == 0
    assert "No checkpoint yet" in capsys.readouterr().out
    for command in ("sample", "interpolate", "architecture", "evaluate"):
        line = failure(capsys, 2, command, tmp_path)
        assert f"{tmp_path} has no checkpoint yet: its first epoch did not end; start it again" in line
        assert line.endswith(f" train vanilla --run-dir {tmp_path} --resume")


def test_info_tells_of_losses_that_were_not_finite(run, tmp_path, capsys):
    (tmp_path / "config.json").write_text((run / "config.json").read_text())
    (tmp_path / "metrics.csv").write_text("epoch,step,d_loss,g_loss\n1,1,0.5,0.7\n1,2,nan,0.7\n")
    assert cli.main(["info", str(tmp_path)]) == 0
    assert "No checkpoint yet: in step 2 of its first epoch a loss was not finite; start it again with a lower" in capsys.readouterr().out


def test_every_mistake_is_one_clear_line(run, images, tmp_path, capsys):
    assert "already holds a run" in failure(capsys, 2, "train", "vanilla", "--run-dir", run, "--data-dir", images)
    resumed = ("train", "vanilla", "--run-dir", run, "--resume")
    assert "--batch-size was 8, now 9" in failure(capsys, 2, *resumed, "--batch-size", 9)
    assert "2 epochs are done: --epochs must be at least 2, got 1" in failure(capsys, 2, *resumed, "--epochs", 1)
    new = ("train", "vanilla", "--run-dir", tmp_path / "new")
    assert "no such file or folder" in failure(capsys, 2, *new, "--data-dir", tmp_path / "absent")
    assert "lower --batch-size" in failure(capsys, 2, *new, "--data-dir", images)
    assert "does not exist, so there is nothing to resume" in failure(capsys, 2, *new[:3], tmp_path / "x", "--resume")
    assert "is a file" in failure(capsys, 2, *new[:3], images, "--data-dir", images)
    for command in ("sample", "info", "interpolate", "architecture"):
        assert "absent is not a folder" in failure(capsys, 2, command, tmp_path / "absent")
        assert "is not a run folder: it has no config.json" in failure(capsys, 2, command, tmp_path)
    assert "expected a name that ends in .png or .npy" in failure(capsys, 2, "sample", run, "--out", "x.jpg")
    assert "cannot write" in failure(capsys, 2, "sample", run, "--out", tmp_path / "absent" / "x.png")


def test_images_of_different_or_other_sizes(run, tmp_path, capsys):
    for i, side in enumerate((8, 9)):
        Image.new("L", (side, side)).save(tmp_path / f"{i}.png")
    line = failure(capsys, 2, "train", "vanilla", "--run-dir", tmp_path / "new", "--data-dir", tmp_path)
    assert "1.png" in line
    np.save(tmp_path / "other.npy", np.zeros((40, 1, 6, 6), np.uint8))
    line = failure(capsys, 2, "train", "vanilla", "--run-dir", run, "--resume", "--data-dir", tmp_path / "other.npy")
    assert "cannot resume" in line and "the data set's" in line


@pytest.mark.parametrize("arguments, message", [
    (["train", "vanilla", "--epochs", "0"], "--epochs: expected a whole number of at least 1, got '0'"),
    (["train", "vanilla", "--label-smoothing", "1"], "--label-smoothing: expected a number of at least 0 and less than 1"),
    (["interpolate", "x", "--arithmetic", "1,2", "3", "64"], "expected numbers from 0 to 63, separated by commas, got '64'"),
    (["interpolate", "x", "--steps", "1"], "--steps: expected a whole number of at least 2, got '1'"),
    (["train", "vanila"], "(did you mean vanilla?)"),
    (["smaple", "x"], "(did you mean sample?)"),
    (["train", "vanilla", "--cost", "relativstic"], "(did you mean relativistic?)"),
    (["train", "vanilla", "--epoch", "1"], "unrecognized arguments: --epoch 1 (did you mean --epochs?)"),
    (["train", "vanilla", "--latent_dims=3"], "tinygan train vanilla: error: unrecognized arguments: --latent_dims=3 (did you "
                                              "mean --latent-dim?)"),
    (["sample", "x", "--outt", "y"], "tinygan sample: error: unrecognized arguments: --outt y (did you mean --out?)"),
    (["sample", "x", "--qqqqqq"], "unrecognized arguments: --qqqqqq\n(--help says more)\n"),
    ([], "COMMAND")])
def test_wrong_usage_is_explained(capsys, arguments, message):
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_another_cost_than_the_usual_one_is_named_at_the_start(images, tmp_path, capsys):
    assert train(tmp_path / "run", images, "--cost", "hinge") == 0
    assert capsys.readouterr().out.startswith("vanilla GAN with --cost hinge on array:images.npy:")


def test_info_names_learning_rates_that_are_far_apart(images, tmp_path, capsys):
    assert train(tmp_path / "run", images, "--learning-rate", "1e-5", "--g-learning-rate", "4e-4", "--epochs", "1") == 0
    capsys.readouterr()
    assert cli.main(["info", str(tmp_path / "run")]) == 0
    assert ("look at the learning rates: the generator's learning rate is 40 times the discriminator's: lower --g-learning-rate, "
            "or raise --learning-rate\n") in capsys.readouterr().out


def test_help_gives_the_defaults(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["train", "vanilla", "--help"])
    assert ended.value.code == 0
    words = " ".join(capsys.readouterr().out.partition("options:")[2].split())
    for flag, default in {"--epochs": 60, "--batch-size": 128, "--seed": 0, "--device": "auto", "--learning-rate": 0.0002,
                          "--beta1": 0.5, "--label-smoothing": 0.0, "--run-dir": "runs/vanilla"}.items():
        assert re.search(rf"{flag} (N|X|DIR|DEVICE|{{.*?}}) [^()]*\(default: {default}\)", words), flag


def test_a_damaged_checkpoint_is_one_line(run, tmp_path, capsys):
    (tmp_path / "config.json").write_text((run / "config.json").read_text())
    whole = (run / "checkpoint.safetensors").read_bytes()
    (tmp_path / "checkpoint.safetensors").write_bytes(whole[:-100])
    for command in (["info"], ["sample"], ["train", "vanilla", "--resume", "--run-dir"]):
        assert "checkpoint.safetensors is truncated or damaged" in failure(capsys, 2, *command, tmp_path)


def test_a_run_that_diverges_ends_with_status_1(images, tmp_path, capsys):
    assert train(tmp_path / "run", images, "--epochs", 60, "--learning-rate", "1e30") == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert line.startswith("tinygan: error: step ")


def test_without_data_and_network_the_run_says_glyphs_everywhere(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("TINYGAN_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(mnist, "MIRRORS", ())
    run = tmp_path / "run"
    assert cli.main(["train", "vanilla", "--run-dir", str(run), "--epochs", "1", "--limit-train", "256"]) == 0
    said = capsys.readouterr()
    assert "no MNIST" in said.err and "on glyphs: 256 images" in said.out
    assert '"name": "glyphs"' in (run / "config.json").read_text()
    for name in ("samples/epoch_0001.png", "losses.png"):
        with Image.open(run / name) as image:
            assert "on glyphs" in image.text["Title"]


def test_real_mnist_trains(tmp_path, capsys):
    if not os.environ.get("TINYGAN_DATA"):
        pytest.skip("TINYGAN_DATA does not name a folder with MNIST")
    run = tmp_path / "run"
    assert cli.main(["train", "vanilla", "--run-dir", str(run), "--epochs", "1", "--limit-train", "2560"]) == 0
    assert '"name": "mnist"' in (run / "config.json").read_text()
    arrays, _ = saving.load(run / "checkpoint.safetensors")
    assert arrays["history.d_loss"].shape == (20,) and arrays["gan.generator.6.weight"].shape == (784, 1024)


def test_gradcheck_passes_and_reports_a_wrong_gradient(capsys, monkeypatch):
    assert cli.main(["gradcheck"]) == 0
    out = capsys.readouterr().out
    assert "FAILED" not in out and "batch_norm" in out

    import tinygan as tg
    from tinygan import gradcheck_cases

    wrong = [("wrong", lambda x: tg.mul(x, tg.detach(x)), [np.ones(2)])]
    monkeypatch.setattr(gradcheck_cases, "cases", lambda: iter(wrong))
    assert cli.main(["gradcheck"]) == 2
    assert "FAILED: the gradient with respect to input 0" in capsys.readouterr().out


def test_version(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out.startswith("tinygan ")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM to catch")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_from_outside_saves_and_says_how_to_go_on(images, tmp_path, number):
    process = subprocess.Popen(
        [sys.executable, str(EXAMPLE), "--run-dir", str(tmp_path / "run"), "--data-dir", str(images), "--batch-size", "8",
         "--epochs", "100000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))})
    checkpoint = tmp_path / "run" / "checkpoint.safetensors"
    deadline = time.monotonic() + 60
    while not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number, err
    assert "Stopped and saved after step" in out and "--resume" in out
    assert "Traceback" not in err
    steps = len(saving.load(checkpoint)[0]["history.d_loss"])
    assert len((tmp_path / "run" / "metrics.csv").read_text().splitlines()) == steps + 1
