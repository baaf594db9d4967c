"""What can fail in a run: losses, weights, disks, folders, files. A clear error each time, and the last checkpoint intact."""
import errno
import io
import os

import numpy as np
import pytest
from tiny_run import SHAPE, content, tiny_data, tiny_gan, tiny_settings, tiny_train, train_until

from tinygan import saving, training
from tinygan.runs.writers import MetricsFile


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """A run of four epochs at once."""
    folder = tmp_path_factory.mktemp("reference") / "run"
    tiny_train(folder)
    return folder


@pytest.mark.parametrize("player, field", [("discriminator", "d_loss"), ("generator", "g_loss")])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_broken_loss_stops_the_run_and_spares_the_checkpoint(reference, tmp_path, player, field, value):
    with pytest.raises(training.DivergedError) as caught:
        train_until(tmp_path, 13, lambda stats: stats._replace(**{field: value}))
    message = str(caught.value)
    assert f"step 13 (epoch 3): the {player}'s loss is {value}" in message
    assert "checkpoint.safetensors, after epoch 2" in message
    assert caught.value.exit_status == 1
    assert saving.load(tmp_path / "checkpoint.safetensors")[0]["cursor"].tolist() == [2, 0]
    tiny_train(tmp_path, resume=True)
    assert content(tmp_path) == content(reference)


def test_broken_weights_never_become_a_checkpoint(tmp_path):
    settings = tiny_settings(tmp_path)
    gan = tiny_gan(settings)
    original, steps = gan.step, iter(range(1, 100))

    def poisoned(real):
        stats = original(real)
        if next(steps) == 10:  # the last step of the second epoch: its losses are still finite
            state = gan.state_dict()
            name = next(name for name in state if name.startswith("generator") and name.endswith("weight"))
            gan.load_state_dict({**state, name: np.full_like(state[name], np.inf)})
        return stats

    gan.step = poisoned
    with pytest.raises(training.DivergedError, match=r"step 10: generator\.0\.weight holds NaN or infinity.*after epoch 1"):
        training.train(gan, tiny_data(), settings)
    assert saving.load(tmp_path / "checkpoint.safetensors")[0]["cursor"].tolist() == [1, 0]


def test_a_full_disk_while_saving_keeps_the_last_checkpoint(reference, tmp_path, monkeypatch):
    original = os.replace

    def full(source, target):
        if str(target).endswith("checkpoint.safetensors") and os.path.exists(target):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        original(source, target)

    monkeypatch.setattr(saving.os, "replace", full)
    with pytest.raises(OSError, match=r"cannot write .*checkpoint\.safetensors: No space left on device; the previous"):
        tiny_train(tmp_path)
    monkeypatch.undo()
    assert saving.load(tmp_path / "checkpoint.safetensors")[0]["cursor"].tolist() == [1, 0]
    assert not list(tmp_path.rglob("*.tmp"))
    tiny_train(tmp_path, resume=True)
    assert content(tmp_path) == content(reference)


def test_a_full_disk_while_writing_metrics_is_named(tmp_path, monkeypatch):
    class Full(io.StringIO):
        def flush(self):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        def close(self):
            self.flush()

    original = MetricsFile.start

    def start(self, run):
        original(self, run)
        self._file.close()
        self._file = Full()

    monkeypatch.setattr(MetricsFile, "start", start)
    with pytest.raises(OSError, match=r"cannot write .*metrics\.csv: No space left on device; there is no checkpoint yet"):
        tiny_train(tmp_path)


def test_a_file_size_limit_stops_the_run_and_keeps_the_checkpoint(reference, tmp_path):
    resource = pytest.importorskip("resource", reason="needs POSIX resource limits")
    tiny_train(tmp_path, epochs=1)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / "checkpoint.safetensors").stat().st_size - 1, before[1]))
    try:
        with pytest.raises(OSError, match=r"cannot write .*the previous one is intact|cannot write .*File too large"):
            tiny_train(tmp_path, resume=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    tiny_train(tmp_path, resume=True)
    assert content(tmp_path) == content(reference)


def test_an_unwritable_place_is_a_clear_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"cannot create the run folder .*file/run"):
        tiny_train(tmp_path / "file" / "run")


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="no /proc here, a folder that even root cannot write to")
def test_a_folder_that_even_root_cannot_write_is_a_clear_error():
    with pytest.raises(OSError, match="cannot create the run folder /proc/tinygan"):
        tiny_train("/proc/tinygan")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_a_clear_error(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OSError, match=r"cannot create the run folder .*: Permission denied"):
            tiny_train(tmp_path / "run")
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize("damage", [lambda b: b[:-5], lambda b: b[:40], lambda b: b"", lambda b: b[:-9] + b"12345" + b[-4:]])
def test_a_damaged_checkpoint_is_named_and_not_trained_on(tmp_path, damage):
    tiny_train(tmp_path, epochs=1)
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(saving.CheckpointError, match=r"checkpoint\.safetensors is (truncated or )?damaged"):
        tiny_train(tmp_path, epochs=2, resume=True)


def test_a_checkpoint_of_another_run_or_network_is_refused(reference, tmp_path):
    tiny_train(tmp_path / "a", epochs=1, seed=1)
    (tmp_path / "a/checkpoint.safetensors").write_bytes((reference / "checkpoint.safetensors").read_bytes())
    with pytest.raises(saving.CheckpointError, match="belong to different runs"):
        tiny_train(tmp_path / "a", seed=1, resume=True)
    tiny_train(tmp_path / "b", epochs=1)
    settings = tiny_settings(tmp_path / "b", resume=True)
    with pytest.raises(saving.CheckpointError, match="does not fit this GAN"):
        training.train(tiny_gan(settings, hidden=9), tiny_data(), settings)
    with pytest.raises(training.RunError, match="not those of 'vanilla': only the program that began the run can continue it"):
        training.train(training.VARIANTS["vanilla"].build(settings, SHAPE), tiny_data(), settings)


def test_a_folder_without_its_configuration_is_not_resumed(tmp_path):
    tiny_train(tmp_path, epochs=1)
    (tmp_path / "config.json").unlink()
    before = (tmp_path / "checkpoint.safetensors").read_bytes()
    with pytest.raises(training.RunError, match=r"it is not a run folder, or its config\.json was deleted"):
        tiny_train(tmp_path, resume=True)
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == before


def test_a_damaged_configuration_is_named(tmp_path):
    tiny_train(tmp_path, epochs=1)
    (tmp_path / "config.json").write_text('{"settings"')
    with pytest.raises(training.RunError, match=r"config\.json is damaged"):
        tiny_train(tmp_path, resume=True)
