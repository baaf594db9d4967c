"""Is an installed tinygan whole? Runs its commands and the examples in an empty folder, with nothing else of the checkout.

    ENVIRONMENT/bin/python tests/installed_alone.py             every example, a few minutes
    ENVIRONMENT/bin/python tests/installed_alone.py --quick     one example

The Python that runs this must have tinygan and what it depends on, installed from the wheel, and need not have more. The
images are made here, so neither a network nor MNIST is needed. `nox -s wheel` builds the wheel and calls this.
"""
from __future__ import annotations

import argparse
import gzip
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

import numpy as np

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
SHORT = "--epochs 1 --limit-train 512 --batch-size 64 --quiet --data-dir digits"
SHORT_RUNS = {  # of the examples that have not the flags of a training run
    "collapse_gradients.py": "--steps 20 --unroll-steps 2",
    "dcgan_features.py": "--run runs/dcgan --draws 1 --labels 50 100",
    "unrolled_ring.py": "--steps 20 --unroll-steps 0 2",
}
LAST = ("dcgan_features.py",)  # reads what another example wrote
COMMANDS = (  # what reads the files that are installed beside the code
    "lesson list", "lesson show 1", "info", "sample runs/vanilla --n 9", "explain runs/vanilla")
WRITTEN = ("runs/vanilla/checkpoint.safetensors", "runs/vanilla/samples/epoch_0001.png", "runs/vanilla/sample.png",
           "runs/vanilla/explain.html")


def write_digits(folder: Path) -> None:
    """MNIST's files with other content: in each class a bar stands at another place, among noise."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, count in (("train", 1024), ("t10k", 500)):
        labels = (np.arange(count) % 10).astype(np.uint8)
        images = rng.integers(0, 64, (count, 28, 28), dtype=np.uint8)
        for label in range(10):
            images[labels == label, 4:24, 4 + 2 * label : 7 + 2 * label] = 255
        for kind, values in (("images-idx3", images), ("labels-idx1", labels)):
            header = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">i4").tobytes()
            (folder / f"{name}-{kind}-ubyte.gz").write_bytes(gzip.compress(header + values.tobytes(), 1, mtime=0))


def run(*command: str) -> str:
    """The command's standard output. Ends this program with the command's output if it fails."""
    start = time.perf_counter()
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "TINYGAN_DATA")}
    done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", errors="replace", check=False)
    told = shlex.join(part.removeprefix(f"{Path(sys.executable).parent}{os.sep}") for part in command)
    if done.returncode:
        sys.exit(f"{told}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
    print(f"{time.perf_counter() - start:6.1f} s  {told}", flush=True)
    return done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="run one example only")
    quick = parser.parse_args().quick
    tinygan = shutil.which("tinygan", path=str(Path(sys.executable).parent))
    assert tinygan, f"there is no command tinygan beside {sys.executable}"
    found = [path.name for path in sorted(EXAMPLES.glob("*.py"), key=lambda path: (path.name in LAST, path.name))]
    with tempfile.TemporaryDirectory() as empty:
        os.chdir(empty)
        try:
            for name in ["vanilla_mnist.py"] if quick else found:
                shutil.copy(EXAMPLES / name, name)
            version = run(tinygan, "--version")
            assert version.strip() == f"tinygan {metadata.version('tinygan')}", version
            place = Path(run(sys.executable, "-c", "import tinygan; print(tinygan.__file__)").strip())
            assert place.is_relative_to(sys.prefix), f"{place} is not in {sys.prefix}"
            write_digits(Path("digits"))
            for name in ["vanilla_mnist.py"] if quick else found:
                run(sys.executable, name, *SHORT_RUNS.get(name, SHORT).split())
            for command in COMMANDS:
                run(tinygan, *command.split())
            for path in WRITTEN:
                assert Path(path).stat().st_size, path
        finally:
            os.chdir(EXAMPLES)  # Windows does not delete the folder that a process is in
    print(f"tinygan {metadata.version('tinygan')} works alone on Python {sys.version.split()[0]}.")


if __name__ == "__main__":
    main()
