"""Workarounds for MindSpore, each proven by running the defect it cures.

    import ascend_fixes
    ascend_fixes.patch()        # every cure that this MindSpore and this backend need

`patch`, `unpatch`, `patched` and `status` bind cures to MindSpore's own names; `audit` says what will go wrong with a
model, and `adapt` makes a training step of it;
the toolboxes `shapes`, `host`, `fusion`, `amp` and `dryrun` work without them. Importing
this package loads neither MindSpore nor a toolbox and changes nothing: each name
is loaded when it is first used.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import numpy as _numpy

if TYPE_CHECKING:
    from ascend_fixes import amp, dryrun, fusion, host, shapes
    from ascend_fixes.adapting import Adapted, adapt
    from ascend_fixes.auditing import AuditReport, Hazard, audit
    from ascend_fixes.cures import CureStatus, PatchReport, patch, patched, status, unpatch

__version__ = "0.2.0"
__all__ = [
    "Adapted",
    "AuditReport",
    "CureStatus",
    "Hazard",
    "PatchReport",
    "adapt",
    "amp",
    "audit",
    "dryrun",
    "fusion",
    "host",
    "patch",
    "patched",
    "shapes",
    "status",
    "unpatch",
]

# The command line (``-m`` while Python looks for its module) goes on: `ascend-fixes doctor` shows what is wrong.
_COMMAND_LINE = PurePath(sys.argv[0] if sys.argv else "").name in ("-m", "ascend-fixes")

if int(_numpy.__version__.partition(".")[0]) >= 2 and not _COMMAND_LINE:
    # Defect E1: said here, because nothing after this point can be trusted.
    raise ImportError(
        f"NumPy {_numpy.__version__} breaks MindSpore's wheel at the first scalar operation; "
        "install the last NumPy that it works with: pip install 'numpy<2'"
    )

_TOOLBOXES = ("amp", "dryrun", "fusion", "host", "shapes")
_OF_AUDITING = ("AuditReport", "Hazard", "audit")


def __getattr__(name: str) -> Any:
    if name in _TOOLBOXES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in ("Adapted", "adapt"):
        return getattr(importlib.import_module(f"{__name__}.adapting"), name)
    if name in _OF_AUDITING:
        return getattr(importlib.import_module(f"{__name__}.auditing"), name)
    if name in __all__:
        return getattr(importlib.import_module(f"{__name__}.cures"), name)
    if name == "FixStatus":
        warnings.warn("FixStatus is called CureStatus now", DeprecationWarning, stacklevel=2)
        return __getattr__("CureStatus")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
