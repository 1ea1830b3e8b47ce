"""Which MindSpore is installed, and on which backend graphs run."""

from __future__ import annotations

import re

import mindspore

__all__ = ["backend", "version", "version_text"]


def version_text() -> str:
    """The version of the installed MindSpore as it reports itself, for example ``"2.10.0"``."""
    return mindspore.__version__


def version() -> tuple[int, ...]:
    """The numeric part of the version, for comparison: ``"2.10.0rc1"`` gives ``(2, 10, 0)``."""
    return tuple(int(part) for part in re.findall(r"\d+", version_text())[:3])


def backend() -> str:
    """The backend that graphs run on, ``"CPU"``, ``"GPU"`` or ``"Ascend"``; asking does not initialise a device."""
    return mindspore.get_context("device_target")
