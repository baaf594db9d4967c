"""The CUDA backend offers what the CPU's does."""
import inspect

import pytest

from tinygan import devices
from tinygan.backends import cpu


def test_both_tables_have_the_same_names_and_arguments(other_device):
    backend = devices.device(other_device)
    assert not [name for name in cpu.__all__ if not hasattr(backend, name)]
    for name in cpu.__all__:
        ours, theirs = getattr(cpu, name), getattr(backend, name)
        if not inspect.isfunction(ours) or name in ("add", "subtract", "multiply"):
            continue
        expected = list(inspect.signature(ours).parameters.values())
        found = list(inspect.signature(theirs).parameters.values())
        assert [(p.name, p.kind, p.default) for p in found] == [(p.name, p.kind, p.default) for p in expected], name


def test_a_kernel_that_is_not_there_is_named(other_device):
    with pytest.raises(AttributeError, match="the CUDA backend has no 'fly'"):
        devices.device(other_device).fly()
