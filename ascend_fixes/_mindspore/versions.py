"""Which MindSpore is installed, from which build, and on which backend graphs run."""

from __future__ import annotations

import os
import re
from pathlib import Path

import mindspore

__all__ = ["backend", "build", "device_name", "toolkit_version", "version", "version_text"]


def version_text() -> str:
    """The version of the installed MindSpore as it reports itself, for example ``"2.10.0"``."""
    return mindspore.__version__


def version() -> tuple[int, ...]:
    """The numeric part of the version, for comparison: ``"2.10.0rc1"`` gives ``(2, 10, 0)``."""
    return tuple(int(part) for part in re.findall(r"\d+", version_text())[:3])


def backend() -> str:
    """The backend that graphs run on, ``"CPU"``, ``"GPU"`` or ``"Ascend"``; asking does not initialise a device."""
    return mindspore.get_context("device_target")


def build() -> str:
    """The commit and the branch that the wheel was built from, ``"2d550373 r2.10"``; "" where it does not say."""
    try:
        text = Path(mindspore.__file__).with_name(".commit_id").read_text(encoding="utf-8")
    except OSError:
        return ""
    commit = re.search(r"\[sha1\]:(\w+)", text)
    branch = re.search(r"([\w.-]+)\)", text)
    return " ".join(found.group(1) for found in (commit, branch) if found)


def device_name() -> str:
    """What graphs run on: on Ascend the chip as the driver calls it, ``"ascend910b"``; else the backend."""
    if backend() != "Ascend":
        return backend()
    from mindspore._c_expression import MSContext

    return str(MSContext.get_instance().get_ascend_soc_version()) or "Ascend"


def toolkit_version() -> str:
    """The version of CANN, from the file that MindSpore itself reads at its start; "" where there is none."""
    folder = os.environ.get("ASCEND_HOME_PATH", "")
    try:
        text = Path(folder, "compiler", "version.info").read_text(encoding="utf-8") if folder else ""
    except OSError:
        return ""
    found = re.search(r"^Version=([\w.-]+)", text, re.M)
    return found.group(1) if found else ""
