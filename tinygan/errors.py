"""Errors that several parts of tinygan raise."""
from __future__ import annotations

__all__ = ["DeviceError", "SettingsError", "installing"]


class DeviceError(RuntimeError):
    """A device, or something that it needs, is missing. The message says what to install."""


def installing(*extras: str) -> str:
    """How to install one of these extras of tinygan, for the message of an error."""
    commands = " or ".join(f"pip install '.[{extra}]'" for extra in extras)
    return f"in a copy of the repository, {commands}"


class SettingsError(ValueError):
    """Settings that are possible by themselves, but not together. The message says why."""
