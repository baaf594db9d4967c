"""Several processes over MPI train what one process trains. They need mpi4py and `mpirun` (the extra `mpi`)."""
import copy
import importlib.util
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import tinygan as tg
from tinygan import devices, launched
from tinygan.distributed import Part
from tinygan.runs import advice, guarding
from tinygan.runs.team import Team
from tinygan.teaching.records import read_records

HERE = Path(__file__).parent
MPIRUN = shutil.which("mpirun", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
needs_mpi = pytest.mark.skipif(MPIRUN is None or importlib.util.find_spec("mpi4py") is None,
                               reason="mpi4py or mpirun is not installed: pip install '.[mpi]'")
pytestmark = pytest.mark.xdist_group("mpi")  # one at a time: each test has several processes


def together(ranks, *arguments, wait=True, **options):
    """Run Python with these arguments on so many ranks, with a thread each."""
    environment = {**os.environ, "NUMBA_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parent)}
    command = [MPIRUN, "-n", str(ranks), sys.executable, *map(str, arguments)]
    if not wait:
        return subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                start_new_session=True, **options)
    return subprocess.run(command, env=environment, text=True, capture_output=True, timeout=300, check=False, **options)


def cli(ranks, *arguments, **options):
    return together(ranks, "-m", "tinygan.cli", *arguments, **options)


# The same numbers


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The results of one process, without MPI."""
    return of_one(tmp_path_factory.mktemp("alone"))


def of_one(folder, *options):
    program = [sys.executable, HERE / "trained_together.py", folder, *options]
    environment = {**os.environ, "NUMBA_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parent)}
    subprocess.run(program, env=environment, check=True, timeout=300)
    return dict(np.load(folder / "alone.npz"))


def difference(a, b):
    """The largest difference, relative to the largest element."""
    a, b = (np.asarray(x, np.float64) for x in (a, b))
    assert np.isfinite(a).all() and np.isfinite(b).all()
    return float(np.abs(a - b).max(initial=0.0) / max(np.abs(a).max(initial=0.0), 1e-300))


@needs_mpi
@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_any_number_of_processes_trains_what_one_trains(ranks, alone, tmp_path):
    ended = together(ranks, HERE / "trained_together.py", tmp_path, *(["few"] if ranks > 3 else []))
    assert ended.returncode == 0, ended.stderr
    found = dict(np.load(tmp_path / f"{ranks}.npz"))
    assert len(found) > 200 and set(found) <= set(alone)
    if ranks < 4:
        assert set(found) == set(alone)
    for name, values in found.items():
        off = difference(alone[name], values)
        if ranks == 1:
            assert np.array_equal(alone[name], values, equal_nan=True), name
        elif name.startswith("exact"):
            assert off <= (1e-12 if name.endswith("gradients") else 1e-9), f"{name}: {off:.2g}"
        elif name.endswith("losses"):
            assert off <= 1e-4, f"{name}: {off:.2g}"


@needs_mpi
@pytest.mark.parametrize("device", ["emulated", "cuda"])
def test_two_processes_with_a_gpu_each_train_what_one_trains(device, tmp_path):
    try:
        backend = devices.device(device)
    except tg.DeviceError as error:
        pytest.skip(str(error))
    if device == "cuda" and backend.xp.cuda.runtime.getDeviceCount() < 2:
        pytest.skip("needs two GPUs")
    alone = of_one(tmp_path, "few", device)
    ended = together(2, HERE / "trained_together.py", tmp_path, "few", device)
    assert ended.returncode == 0, ended.stderr
    for name, values in np.load(tmp_path / "2.npz").items():
        off = difference(alone[name], values)
        if name.startswith("exact"):
            assert off <= (1e-12 if name.endswith("gradients") else 1e-9), f"{name}: {off:.2g}"
        elif name.endswith("losses"):
            assert off <= 1e-4, f"{name}: {off:.2g}"


# Runs


@pytest.fixture
def images(tmp_path):
    path = tmp_path / "images.npy"
    np.save(path, tg.random.Key(1).uniform((48, 1, 8, 8), -1, 1))
    return path


def flags(images, run, epochs=3, batch=12):
    return ["train", "vanilla", "--data-dir", images, "--run-dir", run, "--batch-size", batch, "--epochs", epochs, "--quiet"]


def state(run):
    return tg.training.open_run(run).gan.state_dict()


@needs_mpi
def test_a_run_of_two_processes_is_one_folder_and_one_voice(images, tmp_path):
    ended = cli(2, *flags(images, tmp_path / "two"))
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("vanilla GAN on array:images.npy") == 1 and "2 processes of 1 thread" in ended.stdout
    assert ended.stdout.count("epoch 3/3") == 1
    subprocess.run([sys.executable, "-m", "tinygan.cli", *map(str, flags(images, tmp_path / "one"))], check=True,
                   env={**os.environ, "NUMBA_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL)
    one, two = state(tmp_path / "one"), state(tmp_path / "two")
    assert max(difference(one[name], two[name]) for name in one if name.startswith(("generator", "discriminator"))) < 1e-4
    assert sorted(p.name for p in (tmp_path / "two" / "samples").iterdir()) == [f"epoch_{i:04d}.png" for i in (1, 2, 3)]
    assert json.loads((tmp_path / "two" / "config.json").read_text())["machine"]["processes"] == 2


@needs_mpi
@pytest.mark.parametrize("ranks", [1, 3])
def test_a_run_of_two_processes_continues_on_another_number(ranks, images, tmp_path):
    run = tmp_path / "run"
    assert cli(2, *flags(images, run, 1)).returncode == 0
    ended = cli(ranks, "train", "vanilla", "--run-dir", run, "--resume", "--epochs", 3)
    assert ended.returncode == 0, ended.stderr
    assert f"processes 2 -> {ranks}" in ended.stderr
    assert cli(2, *flags(images, tmp_path / "whole")).returncode == 0
    there, back = state(run), state(tmp_path / "whole")
    assert max(difference(there[name], back[name]) for name in there if name.startswith("generator")) < 1e-4


@needs_mpi
@pytest.mark.parametrize("ranks", [(2, 1), (1, 2)])
def test_a_run_of_a_program_continues_on_another_number(ranks, images, tmp_path):
    program = program_of(tmp_path, images=images)
    for processes, more in zip(ranks, ((), ("--resume", "--epochs", "2")), strict=True):
        ended = together(processes, program, *more)
        assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "run" / "samples" / "epoch_0002.png").exists()


@needs_mpi
def test_two_runs_on_as_many_processes_are_equal_to_the_last_bit(images, tmp_path):
    for name in ("first", "second"):
        assert cli(2, *flags(images, tmp_path / name)).returncode == 0
    first, second = state(tmp_path / "first"), state(tmp_path / "second")
    assert all(np.array_equal(first[name], second[name]) for name in first)


@needs_mpi
@pytest.mark.parametrize("cost", ["non-saturating", "relativistic"])
def test_two_processes_record_what_one_records(cost, images, tmp_path):
    for ranks in (1, 2):
        ended = cli(ranks, *flags(images, tmp_path / str(ranks)), "--record", "--cost", cost)
        assert ended.returncode == 0, ended.stderr
    one, two = (read_records(tmp_path / str(ranks) / "recording") for ranks in (1, 2))
    assert [record.step for record in one] == [record.step for record in two] and len(one) > 4
    for a, b in zip(one, two, strict=True):
        assert a.about == b.about and a.about["batch_size"] == 12
        # With pairs, the gradient of the last bias is 0. So the bias learns from rounding, and moves all logits alike.
        for name in ("images", "logits", "gradient_scale", "g.gradient_norm"):
            x, y = (record[name].astype(np.float64) for record in (a, b))
            x, y = (v - v.mean() for v in (x, y)) if name == "logits" else (x, y)
            np.testing.assert_allclose(x, y, rtol=2e-3, atol=1 if name == "images" else 1e-6)


# Failure


@needs_mpi
def test_a_batch_that_cannot_be_split_evenly(images, tmp_path):
    ended = cli(4, *flags(images, tmp_path / "run", batch=6))
    assert ended.returncode == 2
    assert ended.stderr.count("a batch of 6 cannot be split evenly among 4 processes") == 1
    assert not (tmp_path / "run").exists()


def test_one_gpu_for_all_processes_is_refused(monkeypatch):
    monkeypatch.setattr("tinygan.runs.team.local_size", lambda: 2)
    team = Team(SimpleNamespace(rank=0, size=2, share=lambda n: n // 2))
    with pytest.raises(tg.training.RunError, match="--device cuda:0 gives all processes the same GPU: with --device cuda, each"):
        team._check(None, tg.training.Settings(device="cuda:0"))


@needs_mpi
def test_an_error_of_one_process_ends_all_and_is_told(tmp_path):
    program = tmp_path / "program.py"
    program.write_text("import time\nfrom tinygan import distributed\nworld = distributed.join()\n"
                       "if world.rank == 1:\n    raise ValueError('a bug on one of them')\ntime.sleep(60)\n")
    started = time.monotonic()
    ended = together(2, program)
    assert ended.returncode != 0 and time.monotonic() - started < 15
    assert "process 1 of 2" in ended.stderr and "ValueError: a bug on one of them" in ended.stderr


def program_of(folder, data="tg.data.load(settings.data_dir)", gan="tg.gans.VanillaGAN", before="", after="", images=""):
    """A program that trains on `data` a GAN of the class `gan`. These and `before` and `after` the training are Python code,
    which may use `rank()`."""
    program = folder / "program.py"
    program.write_text(f"""
import dataclasses, sys, time
import numpy as np
import tinygan as tg
from tinygan.launched import rank
class Own(tg.gans.VanillaGAN):
    def step(self, real):
        z = self.latent(len(real), tg.random.Key(rank()).fold(self.steps))
        _, gradients = self.g_gradients(z)
        self.g_optimizer.step(gradients)
        self.end_step()
        return tg.gans.Stats(1.0, 1.0, 0.5, 0.5)
def body(settings):
    {before or 'pass'}
    data = {data}
    networks = tg.gans.vanilla_networks(data.image_shape, settings.latent_dim)
    gan = {gan}(*networks, settings.latent_dim, key=tg.random.Key(0))
    tg.training.train(gan, data, settings)
    {after or 'pass'}
sys.exit(tg.training.main(body, 'vanilla', ['--run-dir', {str(folder / 'run')!r}, '--batch-size', '12', '--epochs', '1', '--quiet',
    '--data-dir', {str(images or '')!r}, *sys.argv[1:]]))
""")
    return program


@needs_mpi
def test_a_process_without_the_data_ends_all(images, tmp_path):
    ended = together(2, program_of(tmp_path, f"tg.data.load([{str(images)!r}, '/absent'][rank()])", images=images))
    assert ended.returncode != 0
    assert "process 1 of 2: tinygan: error:" in ended.stderr and "no such file or folder" in ended.stderr


@needs_mpi
def test_processes_with_other_data_are_refused_by_name(images, tmp_path):
    other = tmp_path / "other.npy"
    np.save(other, tg.random.Key(2).uniform((48, 1, 8, 8), -1, 1))
    ended = together(2, program_of(tmp_path, f"tg.data.load([{str(images)!r}, {str(other)!r}][rank()])", images=images))
    assert ended.returncode != 0
    assert ended.stderr.count("process 1 has another data than process 0") == 1


@needs_mpi
def test_a_full_disk_on_the_first_process_ends_all(images, tmp_path):
    program = tmp_path / "program.py"
    program.write_text("import errno, sys\nfrom tinygan import cli\nfrom tinygan import launched\n"
                       "from tinygan.runs import folder\n"
                       "def full(*arguments):\n    raise OSError(errno.ENOSPC, 'No space left on device')\n"
                       "folder.save = full\n"
                       f"sys.exit(cli.main(['train', 'vanilla', '--data-dir', {str(images)!r}, '--run-dir', "
                       f"{str(tmp_path / 'run')!r}, '--batch-size', '12', '--epochs', '1']))\n")
    started = time.monotonic()
    ended = together(2, program)
    assert ended.returncode != 0 and time.monotonic() - started < 30
    assert ended.stderr.count("tinygan: error: No space left on device") == 1


@needs_mpi
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_one_process_stops_all_after_the_same_step(number, images, tmp_path):
    run = tmp_path / "run"
    process = cli(2, *flags(images, run, 100000), wait=False)
    wait_for(run / "metrics.csv", process)
    os.kill(process_of_one_rank(run), number)
    out, err = process.communicate(timeout=60)
    assert out.count("Stopped and saved after step") == 1, out + err
    assert "mpirun -n 2 " in out and "--resume" in out
    assert process.returncode == 128 + number


@needs_mpi
def test_a_killed_process_ends_all_and_the_run_continues_bit_for_bit(images, tmp_path):
    run = tmp_path / "run"
    process = cli(2, *flags(images, run, 400), wait=False)
    wait_for(run / "samples" / "epoch_0003.png", process)
    os.kill(process_of_one_rank(run), signal.SIGKILL)
    out, err = process.communicate(timeout=60)
    assert process.returncode != 0 and "KILLED" in (out + err).upper()  # (MPICH says so on standard output)
    done = len(tg.training.open_run(run).history["d_loss"])
    epochs = done // 4 + 2
    assert cli(2, "train", "vanilla", "--run-dir", run, "--resume", "--epochs", epochs).returncode == 0
    assert cli(2, *flags(images, tmp_path / "whole", epochs)).returncode == 0
    there, whole = state(run), state(tmp_path / "whole")
    assert all(np.array_equal(there[name], whole[name]) for name in there)


def process_of_one_rank(run):
    """The id of one of the processes that train in that folder."""
    found = [path.parent for path in Path("/proc").glob("[0-9]*/cmdline") if str(run) in path.read_text(errors="replace")]
    return max(int(path.name) for path in found if "python" in (path / "comm").read_text())


def wait_for(path, process, seconds=60):
    end = time.monotonic() + seconds
    while not path.exists() or not path.stat().st_size:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, f"{path} did not come"
        time.sleep(0.02)


# What the processes must have in common


FOLDERS = "settings = dataclasses.replace(settings, run_dir=settings.run_dir + str(rank()))"


@needs_mpi
@pytest.mark.parametrize(("how", "told"), [
    ({"gan": "Own"}, "after step 1 the processes have different weights"),
    ({"data": "tg.data.Dataset('own', np.zeros((24, 1, 4 + rank(), 4), np.float32), None, '')"},
     "the processes have different networks"),
    ({"before": FOLDERS}, "process 1 has another --run-dir than process 0"),
])
def test_processes_with_other_gans_or_folders_are_refused(how, told, images, tmp_path):
    ended = together(2, program_of(tmp_path, images=images, **how))
    assert ended.returncode == 2 and ended.stderr.count(told) == 1, ended.stderr


@needs_mpi
def test_all_begin_with_the_weights_of_the_first(images, tmp_path):
    drawn = "(lambda *n, key: tg.gans.VanillaGAN(*n, key=tg.random.Key(rank())))"
    ended = together(2, program_of(tmp_path, images=images, gan=drawn, after="assert gan.world is None"))
    assert ended.returncode == 0, ended.stderr
    assert cli(1, "train", "vanilla", "--data-dir", images, "--run-dir", tmp_path / "one", "--batch-size", 12, "--epochs", 1,
               "--quiet").returncode == 0
    one, two = state(tmp_path / "one"), state(tmp_path / "run")
    assert max(difference(one[name], two[name]) for name in one if name.startswith(("generator", "discriminator"))) < 1e-4


@needs_mpi
def test_parts_of_a_batch_that_are_not_equal_are_refused(tmp_path):
    program = tmp_path / "program.py"
    program.write_text("import numpy as np, tinygan as tg\nworld = tg.distributed.join()\n"
                       "gan = tg.gans.VanillaGAN(*tg.gans.vanilla_networks((1, 4, 4), 3), 3, world=world)\n"
                       "gan.step(np.zeros((3 - world.rank, 1, 4, 4), np.float32))\n")
    ended = together(2, program)
    assert ended.returncode and "a step has 2 images on one process and 3 on another" in ended.stderr


@needs_mpi
def test_a_run_is_continued_though_only_the_first_process_has_its_folder(images, tmp_path):
    """As on two machines that do not share their files."""
    program = tmp_path / "program.py"
    program.write_text("import os, sys\nfrom tinygan import cli\nfrom tinygan.launched import rank\n"
                       "os.makedirs(f'machine{rank()}', exist_ok=True)\nos.chdir(f'machine{rank()}')\nsys.exit(cli.main(sys.argv[1:]))\n")
    arguments = ["train", "vanilla", "--run-dir", "run", "--quiet"]
    for more in (["--data-dir", images, "--batch-size", 12, "--epochs", 1], ["--resume", "--epochs", 2]):
        ended = together(2, program, *arguments, *more, cwd=tmp_path)
        assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "machine0" / "run" / "samples" / "epoch_0002.png").exists()
    assert not (tmp_path / "machine1" / "run").exists()


@needs_mpi
def test_each_process_may_train_a_gan_of_its_own(images, tmp_path):
    alone = "(lambda *n, key: tg.gans.VanillaGAN(*n, key=key, world=tg.distributed.World(MPI.COMM_SELF)))"
    program = program_of(tmp_path, images=images, gan=alone, before=f"from mpi4py import MPI; {FOLDERS}")
    ended = together(2, program)
    assert ended.returncode == 0, ended.stderr
    assert all((tmp_path / f"run{rank}" / "samples" / "epoch_0001.png").exists() for rank in (0, 1))


# Failures that one process has, or all have


@needs_mpi
def test_an_error_before_the_processes_meet_ends_all_and_is_told(images, tmp_path):
    ended = together(2, program_of(tmp_path, images=images, before="rank() and {}['a bug of process 1']"))
    assert ended.returncode and "process 1 of 2: Traceback" in ended.stderr and "a bug of process 1" in ended.stderr


@needs_mpi
@pytest.mark.parametrize("exits, told", [
    ("rank() and sys.exit(7)", "tinygan: the program called sys.exit(7)"), ("rank() and sys.exit('no faces')", "no faces"),
    ("tg.gans.VanillaGAN.end_step = lambda self: rank() and sys.exit()", "tinygan: the program called sys.exit(None)")])
def test_a_process_that_calls_exit_ends_all(exits, told, images, tmp_path):
    started = time.monotonic()
    ended = together(2, program_of(tmp_path, images=images, before=exits), "--no-capture")
    assert ended.returncode and time.monotonic() - started < 30
    assert f"process 1 of 2: {told}\n" in ended.stderr


def test_all_processes_can_catch_what_all_have(monkeypatch):
    ended = []
    monkeypatch.setattr("tinygan.runs.team.end_together", ended.append)
    team = Team(SimpleNamespace(rank=0, size=2, share=lambda n: n // 2))
    for error, expected in ((tg.training.DivergedError("nan", shared=True), False), (tg.training.Interrupted(2), False),
                            (tg.training.RunError("of one process"), True), (SystemExit(0), True)):
        gan = SimpleNamespace(world=None)
        with pytest.raises(type(error)), team.taking_in(gan, tg.training.Settings()):
            assert gan.world is team.world
            raise error
        assert (ended[-1:] == [error]) is expected and gan.world is None


@needs_mpi
def test_an_error_of_one_process_ends_all_though_the_program_catches_it(images, tmp_path):
    started = time.monotonic()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "something").touch()
    program = tmp_path / "program.py"
    program.write_text(f"""
import contextlib, time
import tinygan as tg
data = tg.data.load({str(images)!r})
gan = tg.gans.VanillaGAN(*tg.gans.vanilla_networks(data.image_shape, 4), 4, key=tg.random.Key(0))
with contextlib.suppress(tg.training.RunError):
    tg.training.train(gan, data, tg.training.Settings(run_dir={str(tmp_path / 'run')!r}, batch_size=12, epochs=1))
""")
    ended = together(2, program)
    assert ended.returncode and time.monotonic() - started < 30
    assert ended.stderr.count("tinygan: error:") == 1 and "already holds other files" in ended.stderr


@needs_mpi
def test_an_interrupted_process_ends_all(images, tmp_path):
    started = time.monotonic()
    before = "import os, signal; rank() and os.kill(os.getpid(), signal.SIGINT); time.sleep(60 * (1 - rank()))"
    ended = together(2, program_of(tmp_path, images=images, before=before))
    assert ended.returncode and time.monotonic() - started < 30


@needs_mpi
def test_a_divergence_is_told_once_by_the_first_process_however_long_it_closes_its_loggers(images, tmp_path):
    slow = "tg.training.MetricsFile.close = lambda self: (time.sleep(4), print('closed properly', flush=True))"
    wild = "(lambda *n, key: tg.gans.VanillaGAN(*n, key=key, g_optimizer=tg.optim.Adam(1e30)))"
    ended = together(2, program_of(tmp_path, images=images, before=slow, gan=wild))
    assert ended.returncode == 1 and "closed properly" in ended.stdout, ended.stderr
    assert ended.stderr.count("loss is nan") == 1 and "process 1" not in ended.stderr


# Without MPI


def test_without_mpi_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(tg.DeviceError, match=r"pip install '.\[mpi\]'"):
        tg.distributed.World()
    monkeypatch.setenv("PMI_RANK", "0")
    monkeypatch.setenv("PMI_SIZE", "2")
    launched.abort(2)  # there is nothing to end, and no further error


def test_a_process_alone_does_not_load_mpi():
    code = "import sys, tinygan as tg; tg.training; assert not any(name.startswith('mpi4py') for name in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert launched.size() == 1 and launched.rank() == 0 and tg.distributed.join() is None


class Fake:
    """A world of which nobody else is there."""

    def __init__(self, rank, size):
        self.rank, self.size = rank, size


def test_a_copy_of_a_gan_has_the_same_processes():
    world = object.__new__(tg.distributed.World)
    gan = tg.gans.VanillaGAN(tg.nn.Sequential(tg.nn.Dense(3, 2)), tg.nn.Sequential(tg.nn.Dense(2, 1)), 3, world=world)
    assert copy.deepcopy(gan).world is world


@pytest.mark.parametrize("shared", [True, False])
def test_a_process_tells_its_divergence_at_once_or_if_the_first_one_has_not(shared, monkeypatch, capfd):
    waited = []
    monkeypatch.setattr(time, "sleep", waited.append)
    monkeypatch.setattr(launched, "rank", lambda: 1)
    monkeypatch.setattr(guarding, "rank", lambda: 1)
    ended = []
    monkeypatch.setattr(guarding, "abort", ended.append)

    def diverge():
        raise tg.training.DivergedError("the loss is nan", shared)

    assert guarding.guarded(diverge) == 1 and ended == [1]
    assert "the loss is nan" in capfd.readouterr().err and (guarding.FIRST_REPORTS in waited) == shared


def test_a_gan_in_another_program_has_no_processes():
    world = object.__new__(tg.distributed.World)
    gan = tg.gans.VanillaGAN(tg.nn.Sequential(tg.nn.Dense(3, 2)), tg.nn.Sequential(tg.nn.Dense(2, 1)), 3, world=world)
    assert pickle.loads(pickle.dumps(gan)).world is None


MINE, OTHERS = {"rank": 3, "size": 8, "local_rank": 1, "local_size": 2}, {"rank": 0, "size": 1, "local_rank": 0, "local_size": 1}
LAUNCHERS = {
    "MPICH": ({"PMI_RANK": 3, "PMI_SIZE": 8, "MPI_LOCALRANKID": 1, "MPI_LOCALNRANKS": 2}, MINE),
    "Open MPI": ({"OMPI_COMM_WORLD_RANK": 3, "OMPI_COMM_WORLD_SIZE": 8, "OMPI_COMM_WORLD_LOCAL_RANK": 1,
                  "OMPI_COMM_WORLD_LOCAL_SIZE": 2, "PMI_RANK": 0, "PMI_SIZE": 1}, MINE),  # inside a shell of srun
    "srun, PMIx": ({"SLURM_PROCID": 3, "SLURM_STEP_NUM_TASKS": 8, "SLURM_LOCALID": 1, "SLURM_STEP_TASKS_PER_NODE": "2(x4)",
                    "PMIX_RANK": 3}, MINE),
    "srun, PMI-2": ({"SLURM_PROCID": 3, "SLURM_STEP_NUM_TASKS": 8, "SLURM_LOCALID": 1, "SLURM_STEP_TASKS_PER_NODE": "2(x4)",
                     "PMI_RANK": 3, "PMI_SIZE": 8}, MINE),
    "sbatch alone": ({"SLURM_PROCID": 0, "SLURM_NTASKS": 8, "SLURM_LOCALID": 0}, OTHERS),
    "another PMI": ({"PMI_RANK": 3, "PMI_SIZE": 8}, {**OTHERS, "rank": 3, "size": 8}),
    "none": ({}, OTHERS),
}


@pytest.mark.parametrize("name", LAUNCHERS)
def test_each_launcher_is_known(name, monkeypatch):
    for launcher in launched._LAUNCHERS:
        for variable in filter(None, launcher):
            monkeypatch.delenv(variable, raising=False)
    variables, expected = LAUNCHERS[name]
    for variable, value in variables.items():
        monkeypatch.setenv(variable, str(value))
    assert {question: getattr(launched, question)() for question in expected} == expected
    several = expected == MINE  # only there the launcher tells that other processes are on other machines
    assert launched.on_several_machines() is several
    assert advice._together() == (("mpirun -hostfile MACHINES -n 8 " if several else "mpirun -n 8 ") if expected["size"] > 1 else "")


@pytest.mark.parametrize(("mine", "parents", "expected"), [
    (range(64), range(64), 16), (range(16), range(16), 4), (range(16), range(64), 16), (range(2), range(2), 1)])
def test_processes_share_the_cores_unless_each_has_its_own(mine, parents, expected, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(parents if pid else mine), raising=False)
    monkeypatch.setattr(launched, "local_size", lambda: 4)
    assert launched.cores() == expected


def test_the_mean_of_whole_numbers_is_refused():
    with pytest.raises(TypeError, match=r"World.mean: expected floating-point numbers, got int64"):
        object.__new__(tg.distributed.World).mean(np.arange(3))


def test_the_parts_of_a_batch_and_of_two_batches_in_one_array():
    whole = np.arange(24)  # real images 0 to 11, generated ones 12 to 23
    for rank in range(3):
        part = Part(Fake(rank, 3), 4)
        own = part.own(whole)
        assert own.tolist() == [*range(4 * rank, 4 * rank + 4), *range(12 + 4 * rank, 16 + 4 * rank)]
    parts = np.stack([Part(Fake(rank, 3), 4).own(whole) for rank in range(3)])
    assert np.array_equal(Part(Fake(0, 3), 4).joined(parts), whole)
    with pytest.raises(ValueError, match="a step on 4 examples can draw for a multiple of them, not for 6"):
        Part(Fake(0, 3), 4).places(6)
