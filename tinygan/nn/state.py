"""Checks of a saved state before a network loads it. The error messages say how to correct it."""
from __future__ import annotations

__all__ = ["check_state", "without_absent_counts", "without_prefix"]

from collections.abc import Mapping
from typing import Any

from tinygan.backends import Array
from tinygan.interop.foreign import as_numbers

_COUNT = "num_batches_tracked"
_SHOWN = 20
_WRAPPERS = ("module.", "_orig_mod.")  # PyTorch's DataParallel and torch.compile put these before every name


def check_state(owner: str, own: Mapping[str, Any], state: Mapping[str, Any]) -> dict[str, Array]:
    """The arrays of `state`, if it has exactly the names and shapes of `own`. Otherwise raises a ValueError, which names
    every entry that differs or the prefix by which all names differ, or a TypeError, which names an entry that is not
    numbers."""
    caller = f"load_state_dict of {owner}"
    if not isinstance(state, Mapping):
        raise TypeError(f"{caller}: expected arrays by name, got {type(state).__name__}")
    missing, unexpected = [name for name in own if name not in state], [name for name in state if name not in own]
    if missing and unexpected:
        advice = _of_a_prefix(own, state) or _of_a_state_inside(state)
        if advice:
            raise ValueError(f"{caller}: {advice}")
    arrays = {name: as_numbers(f"{caller}: {name!r}", state[name]) for name in own if name in state}
    problems = [f"missing {name!r}" for name in missing] + [f"unexpected {name!r}" for name in unexpected]
    problems += [f"{name!r} has shape {tuple(array.shape)}, expected {tuple(own[name].shape)}"
                 for name, array in arrays.items() if tuple(array.shape) != tuple(own[name].shape)]
    if len(problems) > _SHOWN:
        problems[_SHOWN:] = [f"and {len(problems) - _SHOWN} more"]
    if problems:
        raise ValueError(f"{caller}: {'; '.join(problems)}")
    return arrays


def without_prefix(owner: str, own: Mapping[str, Any], state: Mapping[str, Any], prefix: str) -> Mapping[str, Any]:
    """The entries of `state` whose names begin with the prefix, without it. If there is none to remove, those that PyTorch's
    wrappers put before every name are removed. Raises ValueError if no name begins with the prefix."""
    if not isinstance(state, Mapping):
        return state
    if prefix:
        found = {name.removeprefix(prefix): value for name, value in state.items()
                 if isinstance(name, str) and name.startswith(prefix)}
        if not found:
            begins = list(dict.fromkeys(repr(str(name).partition(".")[0] + ".") for name in state))
            raise ValueError(f"load_state_dict of {owner}: no name begins with the prefix {prefix!r}; the names begin with "
                             f"{', '.join(begins[:_SHOWN]) or 'nothing: there are none'}")
        return found
    wrapper = next((one for one in _WRAPPERS if state and all(str(name).startswith(one) for name in state)
                    and not any(name.startswith(one) for name in own)), None)
    if wrapper is None:
        return state
    return without_prefix(owner, own, {name.removeprefix(wrapper): value for name, value in state.items()}, "")


def without_absent_counts(own: dict[str, Any], state: Mapping[str, Any]) -> Mapping[str, Any]:
    """`state` without the counts of batch norm that `own` does not have. Counts that `state` does not have are removed from
    `own`."""
    def is_count(name: str) -> bool:
        return isinstance(name, str) and name.rpartition(".")[2] == _COUNT

    if not isinstance(state, Mapping):
        return state
    if any(not is_count(name) and name in state for name in own):  # (otherwise the names differ by more than the counts)
        for name in [name for name in own if is_count(name) and name not in state]:
            del own[name]
    return {name: value for name, value in state.items() if name in own or not is_count(name)}


def _of_a_prefix(own: Mapping[str, Any], state: Mapping[str, Any]) -> str:
    """Advice for names that differ only by a prefix, which either the network or the state has; "" if they do not."""
    ours = [name for name in own if name.rpartition(".")[2] != _COUNT]
    theirs = [name for name in state if isinstance(name, str) and name.rpartition(".")[2] != _COUNT]
    if not ours or not theirs:
        return ""
    first = ours[0]
    for name in theirs:
        prefix = name.removesuffix(first)
        if name.endswith(first) and prefix.endswith(".") and all(prefix + other in state for other in ours):
            if all(other.startswith(prefix) for other in theirs):
                return (f"every name begins with {prefix!r}, which this network's do not: load_state_dict(state, "
                        f"prefix={prefix!r}) removes it")
            return (f"this network's entries are those whose names begin with {prefix!r}: load_state_dict(state, "
                    f"prefix={prefix!r}) selects them")
    prefix = first.removesuffix(theirs[0])
    if first.endswith(theirs[0]) and prefix.endswith(".") and set(ours) == {prefix + name for name in theirs}:
        return (f"every name of this network begins with {prefix!r}, which the state's do not: add it with "
                f"{{{prefix!r} + name: array for name, array in state.items()}}")
    return ""


def _of_a_state_inside(state: Mapping[str, Any]) -> str:
    """Advice for the file of a training script, which holds the state dict among other things; "" for any other state."""
    inside = [name for name, value in state.items() if isinstance(value, Mapping)
              and len(value) and all(hasattr(array, "shape") for array in value.values())]
    return f"the network's state is inside this one: load state[{inside[0]!r}]" if inside else ""
