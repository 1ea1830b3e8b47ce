"""Run by a dry run: ``_scenario.py MODULE HOW`` compiles the scenario of one defect's file, plain or with its cure."""

from __future__ import annotations

import importlib
import sys


def main(module: str, how: str) -> None:
    """``how``: "plain", "cured", "probe" or "probe cured"; the last two run the probe, whose findings mean nothing here."""
    import mindspore

    from ascend_fixes.cures import apply

    defect = importlib.import_module(module).DEFECT
    if how.endswith("cured") and defect.patch is not None:
        obstacle = apply(defect)
        if obstacle:
            sys.exit(f"the cure does not apply on Ascend: {obstacle}")
    if how.startswith("probe"):
        (defect.tool.probe if how.endswith("cured") and defect.patch is None else defect.probe)()
        return
    mindspore.set_context(mode=mindspore.GRAPH_MODE)
    tool = defect.ascend.tool if how == "cured" else None
    cell, *inputs = (tool or defect.ascend.make)()
    cell.compile(*inputs)


if __name__ == "__main__":
    main(*sys.argv[1:])
