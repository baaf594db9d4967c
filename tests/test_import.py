"""Importing tinygan is cheap and leaves the user's process as it was."""
import importlib
import json
import pkgutil
import subprocess
import sys
import types

import pytest

import tinygan

PROBE = """
import json, locale, os, random, signal, sys, threading, time, warnings
import numpy as np

def state():
    return {
        "environment": dict(os.environ),
        "warning filters": list(warnings.filters),
        "NumPy's error state": np.geterr(),
        "NumPy's random state": str(np.random.get_state()),
        "NumPy's print options": str(np.get_printoptions()),
        "random's state": str(random.getstate()),
        "threads": [t.name for t in threading.enumerate()],
        "signal handlers": [str(signal.getsignal(s)) for s in sorted(signal.valid_signals())],
        "recursion limit": sys.getrecursionlimit(),
        "switch interval": sys.getswitchinterval(),
        "hooks": [sys.excepthook is sys.__excepthook__, sys.displayhook is sys.__displayhook__, sys.gettrace()],
        "cores": sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "locale": locale.setlocale(locale.LC_ALL),
        "BLAS": [(p["filepath"], p["num_threads"]) for p in threadpoolctl.threadpool_info()] if threadpoolctl else [],
    }

try:
    import threadpoolctl
except ImportError:
    threadpoolctl = None
before = state()
start = time.perf_counter()
import tinygan
seconds = time.perf_counter() - start
after = state()
heavy = ("numba", "llvmlite", "scipy", "matplotlib", "tqdm", "safetensors", "cupy", "torch", "PIL", "multiprocessing", "ssl")
print(json.dumps({
    "seconds": seconds,
    "changed": {k: [str(v), str(after[k])] for k, v in before.items() if v != after[k]},
    "imported": [name for name in heavy if name in sys.modules],
}))
"""


def test_import_is_cheap_and_changes_nothing():
    result = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0 and result.stderr == "", result.stderr
    report = json.loads(result.stdout)
    print(f"import tinygan (NumPy imported before): {report['seconds']:.3f} s")
    assert report["changed"] == {}
    assert report["imported"] == []


def test_every_room_says_what_is_public_in_it():
    optim = tinygan.optim
    rooms = [value for name in tinygan.__all__ if isinstance(value := getattr(tinygan, name), types.ModuleType)]
    assert {tinygan.optim, tinygan.nn, tinygan.gans, tinygan.data} <= set(rooms)
    for room in [*rooms, tinygan.nn.initializers]:
        assert len(set(room.__all__)) == len(room.__all__) and all(hasattr(room, name) for name in room.__all__), room
    for room in (optim.averages, optim.clipping, optim.optimizers, optim.rules, optim.schedules, tinygan.random, tinygan.saving,
                 tinygan.nn.initializers):  # and forgets nothing of its own
        own = {name for name, value in vars(room).items() if isinstance(value, type | types.FunctionType)
               and value.__module__ == room.__name__ and not name.startswith("_")}
        assert own <= set(room.__all__)


def test_every_public_name_is_there_and_documented():
    for name in tinygan.__all__:
        value = getattr(tinygan, name)
        assert value.__doc__, name
    assert len(set(tinygan.__all__)) == len(tinygan.__all__)


def test_the_ops_room_lists_every_op():
    ops = importlib.import_module("tinygan.ops")
    assert {name for name in tinygan.__all__ if hasattr(ops, name)} <= set(ops.__all__)


INTERNAL = ("tinygan.kernels", "tinygan.backends")  # reached through the backend's table only
MODULES = ["tinygan", *[found.name for found in pkgutil.walk_packages(tinygan.__path__, "tinygan.")
                        if not found.name.startswith(INTERNAL) and not found.name.rpartition(".")[2].startswith("_")]]


@pytest.mark.parametrize("name", MODULES)
def test_every_public_module_says_what_is_public(name):
    module = importlib.import_module(name)
    assert module.__doc__
    assert len(set(module.__all__)) == len(module.__all__)
    for public in module.__all__:
        assert not public.startswith("_")
        value = getattr(module, public)
        assert value.__doc__ or isinstance(value, types.GenericAlias), public  # a name for a type has no docstring
    everything: dict[str, object] = {}
    exec(f"from {name} import *", everything)
    assert set(module.__all__) <= set(everything)


def test_the_optimisers_are_public_and_what_their_module_imports_is_not():
    everything: dict[str, object] = {}
    exec("from tinygan.optim import *", everything)
    assert {"Adam", "RMSProp", "SGD"} <= set(everything) and not {"np", "math", "Any", "op"} & set(everything)
