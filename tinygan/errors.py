"""Errors that several parts of tinygan raise."""
from __future__ import annotations

__all__ = ["DeviceError", "SettingsError"]


class DeviceError(RuntimeError):
    """A device, or something that it needs, is missing. The message says what to install."""


class SettingsError(ValueError):
    """Settings that are possible by themselves, but not together. The message says why."""
