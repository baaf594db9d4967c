"""What a run tells its loggers: every step once, in order, with what metrics.csv has, and the images of each epoch."""
from __future__ import annotations

import csv
import signal
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_run import content, tiny_data, tiny_gan, tiny_settings, tiny_train

from tinygan import cli, saving, training
from tinygan.plotting import draw_grid
from tinygan.random import Key
from tinygan.runs.previews import inputs

QUANTITIES = ["d_loss", "g_loss", "d_real", "d_fake"]


class Told(training.Logger):
    """Writes down all that it is told."""

    def __init__(self):
        self.calls, self.rows, self.images = [], {}, {}

    def start(self, run):
        self.run = run
        self.calls.append(("start", len(run.history)))

    def log(self, step, losses, images):
        assert len(self.run.history) == step  # on the CPU, at once
        self.calls.append(("log", step))
        self.rows[step] = losses
        if images is not None:
            self.images[step] = images

    def saved(self, step):
        self.calls.append(("saved", step))

    def close(self):
        self.calls.append(("close",))


def logged(folder, log, step=None, action=None, **changes):
    """Train with that logger; do `action` within the given step of this process."""
    settings = tiny_settings(folder, **changes)
    gan = tiny_gan(settings)
    if step is not None:
        original, steps = gan.step, iter(range(1, 10_000))
        gan.step = lambda real: (original(real), action() if next(steps) == step else None)[0]
    return training.train(gan, tiny_data(), settings, log=log), gan


def rows_of(folder):
    with open(folder / "metrics.csv", newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """A run of four epochs at once, without a logger of the user's."""
    folder = tmp_path_factory.mktemp("reference") / "run"
    tiny_train(folder)
    return folder


def test_a_logger_is_told_everything_in_order_and_changes_nothing(reference, tmp_path):
    told = Told()
    _, gan = logged(tmp_path, told)
    assert content(tmp_path) == content(reference)
    epochs = [call for i in range(4) for call in (*[("log", 5 * i + n) for n in (1, 2, 3, 4, 5)], ("saved", 5 * i + 5))]
    assert told.calls == [("start", 0), *epochs, ("close",)]
    for row in rows_of(tmp_path):
        losses = told.rows[int(row["step"])]
        assert list(losses) == QUANTITIES
        np.testing.assert_array_equal(np.float32([losses[name] for name in QUANTITIES]),
                                      np.float32([row[name] for name in QUANTITIES]))
    assert list(told.images) == [5, 10, 15, 20]
    z = inputs(gan, tiny_data(), 64, Key(0).fold("preview"))
    assert told.images[20].dtype == np.float32
    np.testing.assert_array_equal(told.images[20], gan.sample(z=z))  # of the weights after the epoch
    assert not np.array_equal(told.images[20], told.images[15])
    assert (told.run.folder, told.run.data, told.run.columns) == (tmp_path, "tiny", None)
    assert told.run.title(3) == "vanilla GAN on tiny, epoch 3"


def test_the_images_are_there_before_the_epoch_is_saved(tmp_path):
    class Looks(training.Logger):
        def log(self, step, losses, images):
            if images is not None:
                done = saving.load(tmp_path / "checkpoint.safetensors")[0]["cursor"][0] if step > 5 else 0
                assert done == step // 5 - 1 and (tmp_path / "samples" / f"epoch_{step // 5:04d}.png").is_file()

        def saved(self, step):
            assert saving.load(tmp_path / "checkpoint.safetensors")[0]["cursor"][0] == step // 5
            assert len((tmp_path / "metrics.csv").read_text().splitlines()) == 1 + step

    logged(tmp_path, Looks())


def test_a_resumed_run_tells_the_rest(reference, tmp_path):
    first, second = Told(), Told()
    with pytest.raises(training.Interrupted):
        logged(tmp_path, first, step=7, action=lambda: signal.raise_signal(signal.SIGINT))
    assert first.calls[-3:] == [("log", 7), ("saved", 7), ("close",)]
    logged(tmp_path, second, resume=True)
    assert second.calls[:2] == [("start", 7), ("log", 8)] and second.calls[-2:] == [("saved", 20), ("close",)]
    assert content(tmp_path) == content(reference)


def test_measures_are_told_too(tmp_path):
    class Measuring:
        """A GAN that reports one number more."""

        measures = ("spread",)

        def __init__(self, gan):
            self._gan = gan

        def __getattr__(self, name):
            return getattr(self._gan, name)

        def step(self, real):
            import types

            return types.SimpleNamespace(**self._gan.step(real)._asdict(), spread=0.25)

    told, settings = Told(), tiny_settings(tmp_path, epochs=1)
    training.train(Measuring(tiny_gan(settings)), tiny_data(), settings, log=told)
    assert all(losses["spread"] == 0.25 for losses in told.rows.values()) and rows_of(tmp_path)[0]["spread"] == 0.25


@pytest.mark.parametrize("kind", ["function", "list", "none", "tuple"])
def test_what_log_may_be(tmp_path, kind):
    seen, told = [], Told()

    def function(step, losses, images):
        seen.append((step, losses["d_loss"], None if images is None else images.shape))

    log = {"function": function, "list": [told, function], "none": [], "tuple": (function,)}[kind]
    logged(tmp_path, log, epochs=1)
    if kind != "none":
        assert [step for step, _, _ in seen] == [1, 2, 3, 4, 5]
        assert [shape for _, _, shape in seen] == [None, None, None, None, (64, 1, 4, 4)]
    assert kind != "list" or len(told.rows) == 5


@pytest.mark.parametrize("log, given", [
    (3, "got int"), ("tensorboard", "got str"), ([None], "got NoneType"), (Told, "got the class Told, not an object of it"),
    ({"a": 1}, "got dict"), (None, "got NoneType")])
def test_another_log_is_refused_before_there_is_a_folder(tmp_path, log, given):
    with pytest.raises(TypeError, match=rf"^train: log should be a tinygan\.training\.Logger, a function .*{given}$"):
        logged(tmp_path / "run", log)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("method", ["start", "log", "saved"])
def test_an_error_of_a_logger_ends_the_run_and_closes_all(tmp_path, method):
    told = Told()

    class Broken(training.Logger):
        pass

    def fail(self, *arguments):
        raise ZeroDivisionError(method)

    setattr(Broken, method, fail)
    with pytest.raises(ZeroDivisionError, match=method):
        logged(tmp_path, [Broken(), told])
    assert told.calls[-1] == ("close",) and told.calls.count(("close",)) == 1
    logged(tmp_path, [], resume=(tmp_path / "config.json").exists())  # a run that failed at once left its folder free


def test_all_are_closed_even_if_closing_fails(tmp_path):
    class Broken(training.Logger):
        def close(self):
            raise ZeroDivisionError

    first, last = Told(), Told()
    with pytest.raises(ZeroDivisionError):
        logged(tmp_path, [first, Broken(), last], epochs=1)
    assert first.calls[-1] == last.calls[-1] == ("close",)


def test_a_broken_loss_is_told_before_the_run_stops(tmp_path):
    told, settings = Told(), tiny_settings(tmp_path)
    gan = tiny_gan(settings)
    original, steps = gan.step, iter(range(1, 100))
    gan.step = lambda real: original(real)._replace(**({"d_loss": float("nan")} if next(steps) == 10 else {}))
    with pytest.raises(training.DivergedError, match=r"step 10 \(epoch 2\): the discriminator's loss is nan"):
        training.train(gan, tiny_data(), settings, log=told)
    assert told.calls[-2:] == [("log", 10), ("close",)] and np.isnan(told.rows[10]["d_loss"]) and 10 not in told.images
    assert len((tmp_path / "metrics.csv").read_text().splitlines()) == 11


def test_an_epoch_whose_weights_are_broken_has_a_row_and_no_images(tmp_path):
    told, settings = Told(), tiny_settings(tmp_path)
    gan = tiny_gan(settings)
    original, steps = gan.step, iter(range(1, 100))

    def poisoned(real):
        stats = original(real)
        if next(steps) == 10:
            state = gan.state_dict()
            name = next(name for name in state if name.startswith("generator") and name.endswith("weight"))
            gan.load_state_dict({**state, name: np.full_like(state[name], np.nan)})
        return stats

    gan.step = poisoned
    with pytest.raises(training.DivergedError, match=r"step 10: .* holds NaN"):
        training.train(gan, tiny_data(), settings, log=told)
    assert told.calls[-2:] == [("log", 10), ("close",)] and list(told.images) == [5]
    assert not (tmp_path / "samples/epoch_0002.png").exists()
    assert len((tmp_path / "metrics.csv").read_text().splitlines()) == 11


def test_rows_of_classes_are_told(tmp_path):
    from tinygan.runs.variants import build_conditional

    labels = np.arange(60) % 3
    data = type(tiny_data())("labelled", np.full((60, 1, 28, 28), 40, np.uint8), labels, "sha256:x")
    told = Told()
    settings = training.ConditionalSettings(run_dir=str(tmp_path), epochs=1, batch_size=30, width=4).suited(data)
    training.train(build_conditional(settings, data.image_shape), data, settings, log=told)
    images = told.images[2]
    assert len(images) % 3 == 0 and told.run.columns == len(images) // 3 and told.run.note == "; rows: classes 0 to 2"


# -- TensorBoard -------------------------------------------------------------------------------------------------------


def events(folder):
    """All events in the files of a folder. Each is a length, its checksum, the event and its checksum."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted(Path(folder).iterdir(), key=lambda path: (path.stat().st_mtime_ns, path.name)):
        data = path.read_bytes()
        while data:
            (size,) = struct.unpack("<Q", data[:8])
            found.append(Event.FromString(data[12:12 + size]))
            data = data[16 + size:]
    return found


def scalars(found):
    return {(value.tag, event.step): value.simple_value for event in found for value in event.summary.value
            if value.HasField("simple_value")}


needs_tensorboardx = pytest.mark.skipif("not __import__('importlib').util.find_spec('tensorboardX')",
                                        reason="needs tensorboardX (the extra `tensorboard`)")


@needs_tensorboardx
@pytest.mark.filterwarnings("ignore")  # those of tensorboardX
def test_tensorboard_gets_the_losses_and_the_samples(reference, tmp_path):
    import io

    from PIL import Image

    tiny_train(tmp_path, log="tensorboard")
    assert content(tmp_path) == content(reference)
    found = events(tmp_path / "tensorboard")
    expected = {(name, int(row["step"])): np.float32(row[name]) for row in rows_of(tmp_path) for name in QUANTITIES}
    assert scalars(found) == expected
    images = {event.step: value.image for event in found for value in event.summary.value if value.HasField("image")}
    assert list(images) == [5, 10, 15, 20]
    told = Told()
    logged(tmp_path / "again", told)
    for step, image in images.items():
        with Image.open(io.BytesIO(image.encoded_image_string)) as picture:
            np.testing.assert_array_equal(np.asarray(picture.convert("L")), np.asarray(draw_grid(told.images[step])))


@needs_tensorboardx
@pytest.mark.filterwarnings("ignore")
def test_a_resumed_run_goes_on_in_tensorboard_without_being_told(tmp_path):
    tiny_train(tmp_path, epochs=2, log="tensorboard")
    settings = training.VanillaSettings(**{**training.VanillaSettings().__dict__, "run_dir": str(tmp_path), "resume": True,
                                           "batch_size": 8, "epochs": 3, "log": "tensorboard"})
    training.train(tiny_gan(settings), tiny_data(), settings)
    found = events(tmp_path / "tensorboard")
    assert max(step for _, step in scalars(found)) == 15
    starts = [event.step for event in found if event.HasField("session_log")]
    assert starts == [1, 11]  # what is later than that in an earlier file is hidden


@needs_tensorboardx
def test_the_flag_is_kept_in_the_run(tmp_path):
    np.save(tmp_path / "images.npy", np.random.default_rng(0).integers(0, 256, (40, 1, 5, 4), dtype=np.uint8))
    flags = ["train", "vanilla", "--run-dir", str(tmp_path / "run"), "--data-dir", str(tmp_path / "images.npy"),
             "--batch-size", "8"]
    assert cli.main([*flags, "--epochs", "1", "--log", "tensorboard"]) == 0
    assert cli.main(["train", "vanilla", "--run-dir", str(tmp_path / "run"), "--resume", "--epochs", "2"]) == 0
    assert max(step for _, step in scalars(events(tmp_path / "run" / "tensorboard"))) == 10


@needs_tensorboardx
def test_tensorboard_may_write_elsewhere(tmp_path):
    logged(tmp_path / "run", training.TensorBoard(tmp_path / "board"), epochs=1)
    assert len(scalars(events(tmp_path / "board"))) == 20 and not (tmp_path / "run" / "tensorboard").exists()


def test_without_tensorboardx_the_flag_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(training.RunError, match=r"needs the package tensorboardX: in a copy of the repository, pip install '.\[tensorboard\]'"):
        tiny_train(tmp_path / "run", log="tensorboard")
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match="log: expected one of tensorboard, got 'wandb'"):
        tiny_settings(tmp_path, log="wandb")
