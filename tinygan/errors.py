"""Errors that several parts of tinygan raise."""
from __future__ import annotations

__all__ = ["DeviceError"]


class DeviceError(RuntimeError):
    """A device, or something that it needs, is missing. The message says what to install."""
