"""Probes that start processes of their own, with the cure where it is in force here."""

from __future__ import annotations

import subprocess
import sys

from ascend_fixes.compiling import hold
from ascend_fixes.defects import Defect
from ascend_fixes.patching import ledger


def run_apart(module: str, id_: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the file of a defect, ``module``, as a program; what it is given it takes by `begun`."""
    how = "cured" if id_ in ledger.applied else "plain"
    command = [sys.executable, "-m", module, how, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def begun(defect: Defect) -> list[str]:
    """In that process: put the cure in force where it was there, whatever version that is; the arguments."""
    if sys.argv[1] == "cured" and defect.patch is not None:
        hold(defect.id, {defect.id: defect.patch.parts})
    return sys.argv[2:]
