"""``ascend-fixes doctor --ascend``: each row of the catalogue, plain and cured, as MindSpore's Ascend back end sees it.

A row with a scenario for Ascend is judged by what it becomes there. Of every other row the probe itself is compiled: the
defect shows in values or on the host, so nothing is said of it, only what the back end made of its graphs.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ascend_fixes.defects import Defect, Finding
from ascend_fixes.defects._compiled import compile_for_ascend, not_refused
from ascend_fixes.doctor import Row

if TYPE_CHECKING:
    from ascend_fixes.dryrun import DryRunReport

__all__ = ["examine"]

_Compile = Callable[[str, str], "DryRunReport"]


def examine(
    defects: Sequence[Defect],
    timeout: float = 300.0,
    report: Callable[[Row], None] = lambda row: None,
    soc: str = "Ascend910B",
) -> list[Row]:
    """Compile the rows for Ascend, one after the other; nothing is executed.

    Args:
        defects: what to compile.
        timeout: seconds that one compilation may take.
        report: called with each row as it is found.
        soc: the chip, as `dryrun.cell` takes it.

    Returns:
        A row a defect, in the order given. `Row.answer` is "needs a device" where compiling cannot show the defect.

    Raises:
        DryRunError, StandInError: this machine cannot make dry runs.
    """
    compile_ = functools.partial(compile_for_ascend, timeout=timeout, soc=soc)
    rows = []
    for defect in defects:
        start = time.monotonic()
        row = _judged(defect, compile_) if defect.ascend is not None else _looked_at(defect, compile_)
        row = replace(row, seconds=round(time.monotonic() - start, 1))
        rows.append(row)
        report(row)
    return rows


def _judged(defect: Defect, compile_: _Compile) -> Row:
    """By the row's own scenario."""
    assert defect.ascend is not None
    module = defect.probe.__module__
    plain: Finding = defect.ascend.judge(compile_(module, "plain"))
    if not plain.present:
        return _row(
            defect, plain.present, None, plain.evidence, "no answer" if plain.present is None else "not present"
        )
    cured: Finding = defect.ascend.judge(compile_(module, "cured"))
    evidence = f"{plain.evidence}\nwith the cure: {cured.evidence}"
    return _row(defect, True, cured.present is False, evidence, "present")


def _looked_at(defect: Defect, compile_: _Compile) -> Row:
    """By its probe, whose finding means nothing where nothing is executed."""
    module = defect.probe.__module__
    plain = not_refused(compile_(module, "probe")).evidence
    told = f"compiling cannot show it. Its probe: {plain}"
    if defect.patch is None or "Ascend" in defect.patch.backends:
        told += f"\nwith the cure: {not_refused(compile_(module, 'probe cured')).evidence}"
    else:
        told += f"\nthe cure is for {', '.join(defect.patch.backends)} alone"
    return _row(defect, None, None, told, "needs a device")


def _row(defect: Defect, present: bool | None, cured: bool | None, evidence: str, answer: str) -> Row:
    return Row(defect.id, defect.family, defect.symptom, present, cured, evidence, defect.cure, answer)
