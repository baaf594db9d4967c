"""Errors that more than one floor of the house raises."""
from __future__ import annotations

__all__ = ["DeviceError"]


class DeviceError(RuntimeError):
    """A device that is not there, or what it needs. The message says what to install."""
