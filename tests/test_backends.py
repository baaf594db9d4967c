"""The backends' tables: the same names with the same arguments, and all that the rooms offer."""
import inspect
from pathlib import Path

import pytest
from helpers import rooms

from tinygan import devices, kernels
from tinygan.backends import cpu


def test_both_tables_have_the_same_names_and_arguments(other_device):
    backend = devices.device(other_device)
    assert {name for name in dir(backend) if not name.startswith("_")} - {"device"} == set(cpu.__all__)
    for name in cpu.__all__:
        ours, theirs = getattr(cpu, name), getattr(backend, name)
        if not inspect.isfunction(ours):
            continue
        expected = list(inspect.signature(ours).parameters.values())
        found = list(inspect.signature(theirs).parameters.values())
        assert [(p.name, p.kind, p.default) for p in found] == [(p.name, p.kind, p.default) for p in expected], name


def test_the_cpus_table_has_all_that_its_rooms_offer():
    offered = {name: getattr(room, name) for room in rooms() for name in getattr(room, "__all__", ())}
    assert len(offered) == sum(len(getattr(room, "__all__", ())) for room in rooms())  # no two offer the same
    for name, function in offered.items():
        assert name in cpu.__all__ and getattr(cpu, name) is function, name


def test_both_backends_have_the_same_rooms():
    cpus, gpus = ({path.stem for path in Path(folder.__file__).parent.iterdir() if path.suffix == ".py" or path.is_dir()}
                  for folder in (kernels.cpu, kernels.cuda))
    assert cpus - {"__init__", "__pycache__", "runtime"} == gpus - {"__init__", "__pycache__", "runtime", "emulator"}


def test_a_kernel_that_is_not_there_is_named(other_device):
    with pytest.raises(AttributeError, match="the CUDA backend has no 'fly'"):
        devices.device(other_device).fly()
