"""MindSpore's own Ascend back end on any Linux machine, without a device and without the vendor's software.

    report = dryrun.cell("my_model:factory", soc="Ascend910B", jit_level="O1")
    print(report.show())

The wheel from PyPI carries the whole Ascend back end. With stand-ins for the vendor's libraries, made from that wheel at
first use, and MindSpore's documented dry run it selects kernels, fuses, assigns streams and plans memory as for a device.
Compiled for Ascend is what such a report can say; nothing is executed, and it never speaks of values or times of a run.
"""

from __future__ import annotations

from ascend_fixes.dryrun._environment import DryRunError
from ascend_fixes.dryrun._report import DryRunGraph, DryRunReport
from ascend_fixes.dryrun._run import cell, script
from ascend_fixes.dryrun._standins import StandInError

__all__ = ["DryRunError", "DryRunGraph", "DryRunReport", "StandInError", "cell", "script"]
