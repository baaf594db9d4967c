"""Runs that move: renamed data, fewer epochs, notebooks, networks of the user's own; and what is refused before a folder is
made."""
import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_run import SHAPE, content, tiny_data, tiny_gan, tiny_settings, tiny_train, train_until

import tinygan
from tinygan import cli, nn, training
from tinygan.data import Dataset
from tinygan.random import Key
from tinygan.runs import advice
from tinygan.runs.folder import RunFolder

ROOT = Path(__file__).parents[1]


def command(*arguments):
    return cli.main([str(argument) for argument in arguments])


def train(run, *flags):
    return command("train", "vanilla", "--run-dir", run, "--batch-size", 8, *flags)


def failure(capsys, *arguments):
    """The one line that a failing command prints."""
    capsys.readouterr()
    assert command(*arguments) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    return line


@pytest.fixture
def images(tmp_path):
    path = tmp_path / "images.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, (43, 1, 5, 4), dtype=np.uint8))
    return path


# -- data that were renamed or moved -----------------------------------------------------------------------------------


def test_data_under_another_name_are_the_same_data(images, tmp_path, capsys):
    assert train(tmp_path / "whole", "--data-dir", images, "--epochs", 3) == 0
    assert train(tmp_path / "run", "--data-dir", images, "--epochs", 1) == 0
    for epochs, name in ((2, "b.npy"), (3, "elsewhere/c.npy")):
        (tmp_path / "elsewhere").mkdir(exist_ok=True)
        images = images.rename(tmp_path / name)
        line = failure(capsys, "train", "vanilla", "--resume", "--run-dir", tmp_path / "run", "--epochs", epochs)
        assert "are no longer at" in line and "say with --data-dir where they are now" in line
        assert command("sample", tmp_path / "run") == 0  # needs no data
        assert train(tmp_path / "run", "--resume", "--epochs", epochs, "--data-dir", images) == 0
        assert f"the data are called array:{images.name} now" in capsys.readouterr().err
    assert content(tmp_path / "run")[:2] == content(tmp_path / "whole")[:2]  # the grids bear the data's name
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["data"]["name"] == "array:c.npy" and config["data"]["data_dir"] == str(images)
    assert train(tmp_path / "run", "--resume") == 0  # now it knows where they are
    np.save(images, np.zeros((43, 1, 5, 4), np.uint8))
    line = failure(capsys, "train", "vanilla", "--resume", "--run-dir", tmp_path / "run")
    assert "the data set's checksum was" in line and "name the run's own data with --data-dir" in line


def test_a_folder_of_images_may_move(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for i in range(16):
        Image.fromarray(rng.integers(0, 256, (6, 6), dtype=np.uint8)).save(tmp_path / "photos" / f"{i:02}.png")
    assert train(tmp_path / "run", "--data-dir", tmp_path / "photos", "--epochs", 1) == 0
    (tmp_path / "photos").rename(tmp_path / "pictures")
    assert train(tmp_path / "run", "--data-dir", tmp_path / "pictures", "--epochs", 2, "--resume") == 0


def test_a_renamed_data_set_in_python(tmp_path):
    tiny_train(tmp_path / "whole")
    tiny_train(tmp_path / "run", epochs=2)
    settings = tiny_settings(tmp_path / "run", resume=True)
    training.train(tiny_gan(settings), dataclasses.replace(tiny_data(), name="renamed"), settings)
    assert content(tmp_path / "run")[:2] == content(tmp_path / "whole")[:2]


# -- fewer epochs ------------------------------------------------------------------------------------------------------


def test_a_run_may_end_earlier_than_it_was_set_to(tmp_path):
    tiny_train(tmp_path / "whole", epochs=3)
    with pytest.raises(training.Interrupted):
        train_until(tmp_path / "run", 12, lambda _: signal_itself(), epochs=9)
    with pytest.raises(training.RunError, match="2 epochs and 2 steps of the next are done: --epochs must be at least 3, got 2"):
        tiny_train(tmp_path / "run", epochs=2, resume=True)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["settings"]["epochs"] == 9
    assert len(tiny_train(tmp_path / "run", epochs=3, resume=True)) == 15
    assert content(tmp_path / "run") == content(tmp_path / "whole")
    tiny_train(tmp_path / "run", epochs=3, resume=True)
    tiny_train(tmp_path / "run", epochs=5, resume=True)
    with pytest.raises(training.RunError, match="5 epochs are done: --epochs must be at least 5, got 4"):
        tiny_train(tmp_path / "run", epochs=4, resume=True)


def signal_itself():
    import signal

    signal.raise_signal(signal.SIGINT)


# -- notebooks ---------------------------------------------------------------------------------------------------------

NOTEBOOK = """
import builtins, sys, types
sys.argv = {argv!r}
{setup}
import tinygan as tg
print("status", tg.training.main(lambda settings: print("epochs", settings.epochs), "vanilla"))
"""
SHELL = "builtins.get_ipython = lambda: object()"
MODULE = "sys.modules['IPython'] = types.SimpleNamespace(get_ipython=lambda: object())"
IDLE = "sys.modules['IPython'] = types.SimpleNamespace(get_ipython=lambda: None)"
SCRIPT = "import __main__; __main__.__file__ = 'script.py'"


@pytest.mark.parametrize("argv, setup, epochs", [
    (["/x/ipykernel_launcher.py", "-f", "/x/kernel.json"], "", 60),
    (["/x/ipykernel_launcher.py", "--f=/x/kernel.json"], SHELL, 60),
    (["/x/colab_kernel_launcher.py", "-f", "/x/kernel.json"], MODULE, 60),
    (["/x/site-packages/ipykernel/__main__.py", "-f", "/x/kernel.json"], MODULE, 60),
    (["/usr/bin/ipython", "--no-banner"], SHELL, 60),
    (["/x/ipykernel_launcher.py", "-f", "/x/kernel.json"], f"{SHELL}; {SCRIPT}", 60),  # an editor's interactive window
    (["script.py", "--epochs", "7"], f"{SHELL}; {SCRIPT}", 7),  # %run script.py --epochs 7
    (["script.py", "--epochs", "7"], "", 7),
    (["script.py", "--epochs", "7"], IDLE, 7)])
def test_a_notebooks_own_arguments_are_not_ours(tmp_path, argv, setup, epochs):
    done = subprocess.run([sys.executable, "-c", NOTEBOOK.format(argv=argv, setup=setup)], capture_output=True, text=True,
                          cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.stdout.split() == ["epochs", str(epochs), "status", "0"], done.stderr


def test_the_way_on_in_a_notebook_is_python(images, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["/x/ipykernel_launcher.py", "-f", "/x/kernel.json"])

    def body(settings):
        data = tinygan.data.load(settings.data_dir)
        training.train(training.VARIANTS["vanilla"].build(settings, data.image_shape), data, settings)

    flags = ["--run-dir", str(tmp_path / "run"), "--data-dir", str(images), "--batch-size", "8", "--epochs", "1"]
    assert training.main(body, "vanilla", flags) == 0
    out = capsys.readouterr().out
    longer = said(out, "Train it longer:")
    assert longer == f'tg.training.main(body, "vanilla", ["--run-dir", "{tmp_path / "run"}", "--resume", "--epochs", "2"])'
    assert eval(longer, {"tg": tinygan, "body": body}) == 0
    assert said(out, "Sample from it:").endswith(f"tinygan sample {tmp_path / 'run'}") or "-m tinygan.cli" in out
    assert command("sample", tmp_path / "run") == 0


def said(out, what):
    """What a run told its user to type."""
    return next(line.partition(what)[2].strip() for line in out.splitlines() if what in line)


# -- networks of the user's own ----------------------------------------------------------------------------------------


def own(folder, **changes):
    """A run of a GAN that `tinygan train` does not know, under settings that it does not know either."""
    settings = training.Settings(**{"run_dir": str(folder), "epochs": 2, "batch_size": 8, **changes})
    return tiny_gan(settings), tiny_data(), settings


@pytest.mark.parametrize("known", [False, True])
def test_what_an_own_gan_is_told_to_type_works(tmp_path, capsys, known):
    gan, data, settings = own(tmp_path / "run")
    if known:  # the settings of a variant that would build other networks
        settings = tiny_settings(tmp_path / "run", epochs=2)
    training.train(gan, data, settings)
    out = capsys.readouterr().out
    assert "tinygan sample" not in out and "tinygan train" not in out
    names = {"tg": tinygan, "dataclasses": dataclasses, "gan": tiny_gan(settings), "data": data, "settings": settings}
    images = eval(said(out, "Sample from it:"), names)
    assert images.shape == (64, *SHAPE)
    np.testing.assert_array_equal(images, gan.sample(64))
    assert len(eval(said(out, "Train it longer:"), names)) == 20


def test_after_ctrl_c_an_own_gan_goes_on_as_told(tmp_path, capsys):
    tiny_train(tmp_path / "whole")
    with pytest.raises(training.Interrupted):
        train_until(tmp_path / "run", 7, lambda _: signal_itself())
    settings = tiny_settings(tmp_path / "run")
    names = {"tg": tinygan, "dataclasses": dataclasses, "gan": tiny_gan(settings), "data": tiny_data(),
             "settings": settings}
    eval(said(capsys.readouterr().out, "Go on with:"), names)
    assert content(tmp_path / "run") == content(tmp_path / "whole")


def test_the_command_line_says_that_only_its_program_can_build_an_own_gan(tmp_path, capsys):
    gan, data, settings = own(tmp_path / "run")
    training.train(gan, data, settings)
    for name in ("sample", "interpolate", "architecture", "evaluate"):
        line = failure(capsys, name, tmp_path / "run")
        assert "`tinygan train` cannot build its networks" in line
        assert f'tg.training.open_run("{tmp_path / "run"}", gan).gan.sample(64)' in line
    assert command("info", tmp_path / "run") == 0
    out = capsys.readouterr().out
    for expected in ("custom on tiny", "epoch    2 of 2", "step     10 of 10", "Dense(3 -> 8)", "Dropout(0.2)", "In Python:"):
        assert expected in out
    line = failure(capsys, "train", "vanilla", "--resume", "--run-dir", tmp_path / "run")
    assert "it is a run of 'custom', not of 'vanilla'" in line


def test_a_variants_networks_with_another_layer_are_an_own_gan(images, tmp_path, capsys):
    """Names and shapes of the weights are the same, so that `tinygan sample` would draw other images in silence."""
    settings = training.VanillaSettings(run_dir=str(tmp_path / "run"), epochs=1, batch_size=8)
    data = tinygan.data.load(images)
    generator, discriminator = tinygan.gans.vanilla_networks(data.image_shape, 100)
    generator = nn.Sequential(*[nn.ReLU() if isinstance(layer, nn.LeakyReLU) else layer for layer in generator])
    training.train(tinygan.gans.VanillaGAN(generator, discriminator, 100), data, settings)
    assert "`tinygan train` cannot build its networks" in failure(capsys, "sample", tmp_path / "run")
    line = failure(capsys, "train", "vanilla", "--resume", "--run-dir", tmp_path / "run", "--data-dir", images, "--epochs", 2)
    assert "only the program that began the run can continue it" in line


def test_a_variants_own_networks_are_known_however_they_were_trained(images, tmp_path, capsys):
    settings = training.VanillaSettings(run_dir=str(tmp_path / "run"), epochs=1, batch_size=8)
    data = tinygan.data.load(images)
    training.train(training.VARIANTS["vanilla"].build(settings, data.image_shape), data, settings)
    out = capsys.readouterr().out
    assert f"sample {tmp_path / 'run'}" in said(out, "Sample from it:")
    assert command("sample", tmp_path / "run") == 0


SCRIPT_OF_A_USER = """
import sys
import numpy as np
import tinygan as tg
from tinygan import nn

def main(settings):
    data = tg.data.load(settings.data_dir)
    generator = nn.Sequential(nn.Dense(3, 20), nn.Tanh(), nn.Reshape(1, 5, 4))
    discriminator = nn.Sequential(nn.Flatten(), nn.Dense(20, 1))
    tg.training.train(tg.gans.VanillaGAN(generator, discriminator, 3), data, settings)

sys.exit(tg.training.main(main, "vanilla"))
"""


def test_a_users_script_goes_on_as_told(images, tmp_path):
    script = tmp_path / "my script.py"
    script.write_text(SCRIPT_OF_A_USER)
    where = {"capture_output": True, "text": True, "cwd": tmp_path, "env": {**os.environ, "PYTHONPATH": str(ROOT)}}
    begun = subprocess.run([sys.executable, script, "--run-dir", "run", "--data-dir", images, "--batch-size", "8", "--epochs",
                            "1"], check=True, **where)
    assert "open_run" in said(begun.stdout, "Sample from it:")
    done = subprocess.run(said(begun.stdout, "Train it longer:"), shell=True, check=True, **where)
    assert "epoch 2/2" in done.stdout


def test_open_run_takes_strings_and_paths(images, tmp_path):
    assert train(tmp_path / "run", "--data-dir", images, "--epochs", 1) == 0
    a, b = (training.open_run(run).gan.sample(2) for run in (tmp_path / "run", str(tmp_path / "run")))
    np.testing.assert_array_equal(a, b)
    for run in (tmp_path / "run", str(tmp_path / "run")):
        assert training.untrained(run).generator.parameters()[0].shape == (256, 100)


def test_open_run_refuses_a_gan_that_does_not_fit(tmp_path):
    gan, data, settings = own(tmp_path / "run")
    training.train(gan, data, settings)
    with pytest.raises(training.RunError, match="does not fit the networks"):
        training.open_run(tmp_path / "run", tiny_gan(settings, hidden=9))


# -- runs without a checkpoint -----------------------------------------------------------------------------------------


def test_what_is_no_data_set_and_what_are_no_settings_is_named(tmp_path):
    gan, data, settings = own(tmp_path / "run")
    with pytest.raises(TypeError, match=r"train: dataset should be a Dataset, such as tinygan\.data\.load.*got ndarray"):
        training.train(gan, data.images, settings)
    with pytest.raises(TypeError, match=r"train: settings should be Settings, .*got dict"):
        training.train(gan, data, {"run_dir": "run"})
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_that_was_deleted_is_not_called_one_to_come(images, tmp_path, capsys):
    assert train(tmp_path / "run", "--data-dir", images, "--epochs", 1) == 0
    (tmp_path / "run" / "checkpoint.safetensors").unlink()
    line = failure(capsys, "sample", tmp_path / "run")
    assert "no checkpoint any more: checkpoint.safetensors was moved or deleted; put it back, or start it again with" in line


def test_a_run_in_its_first_epoch_is_not_called_stopped(tmp_path, capsys):
    tiny_train(tmp_path / "own", epochs=1)
    with RunFolder(tiny_settings(tmp_path / "run"), tiny_data()):
        assert "no checkpoint yet: there will be one at the end of its first epoch" in failure(capsys, "sample", tmp_path / "run")
    line = failure(capsys, "sample", tmp_path / "run")
    assert "no checkpoint yet: its first epoch did not end; start it again" in line
    assert line.endswith(f"train vanilla --run-dir {tmp_path / 'run'} --resume")
    with pytest.raises(training.RunError, match="no checkpoint yet"):
        training.open_run(str(tmp_path / "run"))


def test_a_stopped_own_run_is_started_again_by_its_program(tmp_path, capsys):
    with pytest.raises(ZeroDivisionError):
        train_until(tmp_path / "run", 3, lambda _: 1 / 0)
    assert "start it again with  the program that started it" in failure(capsys, "sample", tmp_path / "run")
    assert command("info", tmp_path / "run") == 0
    assert "No checkpoint yet" in capsys.readouterr().out


def test_without_a_checkpoint_settings_may_still_change(tmp_path):
    tiny_train(tmp_path / "whole", batch_size=4)
    with pytest.raises(ZeroDivisionError):
        train_until(tmp_path / "run", 3, lambda _: 1 / 0)
    tiny_train(tmp_path / "run", batch_size=4, resume=True)
    assert content(tmp_path / "run") == content(tmp_path / "whole")


# -- refused before there is a folder ----------------------------------------------------------------------------------


def refused(tmp_path, error, message, gan=None, data=None, **changes):
    """Nothing is left of it, and a mended run may begin there."""
    settings = tiny_settings(tmp_path / "run", **changes)
    with pytest.raises(error, match=message):
        training.train(gan or tiny_gan(settings), data or tiny_data(), settings)
    assert not (tmp_path / "run").exists()
    tiny_train(tmp_path / "run", epochs=1)


def test_too_few_images_for_a_step_make_no_folder(tmp_path):
    refused(tmp_path, training.RunError, "a step takes 44", batch_size=44)


def test_a_missing_device_makes_no_folder(tmp_path):
    refused(tmp_path, tinygan.DeviceError, "cuda:99", device="cuda:99")


def test_a_generator_of_other_images_makes_no_folder(tmp_path):
    other = Dataset("other", np.zeros((43, 1, 5, 4), np.uint8), None, "sha256:1")
    refused(tmp_path, training.RunError, r"makes images of shape \(1, 4, 4\), but those of other have shape \(1, 5, 4\)", data=other)


def test_what_fails_in_the_first_step_leaves_the_folder_free(tmp_path):
    settings = tiny_settings(tmp_path / "run")
    generator, discriminator = tiny_gan(settings).generator, nn.Sequential(nn.Flatten(), nn.Dense(15, 1))
    with pytest.raises(ValueError):
        training.train(tinygan.gans.VanillaGAN(generator, discriminator, 3, key=Key(0)), tiny_data(), settings)
    assert not (tmp_path / "run" / "config.json").exists()
    tiny_train(tmp_path / "run", epochs=1)


def test_a_run_is_not_begun_among_its_own_images(tmp_path, capsys):
    for i in range(8):
        Image.new("L", (6, 6), 10 * i).save(tmp_path / f"{i}.png")
    line = failure(capsys, "train", "vanilla", "--run-dir", tmp_path / "a" / "run", "--data-dir", tmp_path, "--batch-size", 8)
    assert "is inside the folder of the images" in line
    assert not (tmp_path / "a").exists()


def test_settings_take_paths_and_numpys_numbers(tmp_path, monkeypatch, capsys):
    settings = training.VanillaSettings(run_dir=tmp_path / "run", data_dir=tmp_path, epochs=np.int64(1), batch_size=np.uint8(8),
                                        learning_rate=np.float32(2e-4))
    training.train(tiny_gan(settings), tiny_data(), settings)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["settings"]["learning_rate"] == 2e-4 and config["data"]["data_dir"] == str(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert training.Settings(run_dir="~/there").run_dir == str(tmp_path / "there")
    capsys.readouterr()
    with pytest.raises(ValueError, match="epochs: expected a whole number"):
        training.Settings(epochs=np.float64(1.5))


def test_fields_of_a_users_own_settings_need_no_flag(tmp_path):
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Mine(training.Settings):
        variant = "mine"
        width: int = 3

    settings = Mine(run_dir=str(tmp_path / "run"), epochs=1, batch_size=8, width=5)
    training.train(tiny_gan(settings), tiny_data(), settings)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["settings"]["width"] == 5


def test_too_little_memory_is_one_line(capsys):
    def body():
        raise MemoryError("Unable to allocate 954. GiB")

    assert training.guarded(body) == 2
    assert capsys.readouterr().err.startswith("tinygan: error: out of memory (Unable to allocate 954. GiB)")


# -- what a run says at its start --------------------------------------------------------------------------------------


def test_images_that_fill_no_step_are_counted_once(tmp_path, capsys):
    tiny_train(tmp_path / "run", epochs=2)
    out = capsys.readouterr().out
    assert "steps of 8 images (3 images left out, other ones in each epoch)" in out and out.count("left out") == 1
    tiny_train(tmp_path / "run", epochs=3, resume=True)
    assert "left out" not in capsys.readouterr().out
    tiny_train(tmp_path / "all", epochs=1, limit_train=40)
    assert "left out" not in capsys.readouterr().out


def test_literals_in_commands_are_pythons():
    for text in ("runs/a b", 'a"b', "a\\b", "a\nb", "'"):
        assert eval(re.search(r"open_run\((.*), gan\)", advice.open_in_python(text), re.DOTALL)[1]) == text
