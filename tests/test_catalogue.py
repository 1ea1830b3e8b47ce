"""The whole catalogue through the doctor: a new defect is tested by existing."""

from __future__ import annotations

import dataclasses
import importlib
import signal
import subprocess
import sys

import pytest

from ascend_fixes import compiling, doctor, evidence
from ascend_fixes.defects import FAMILIES, Finding, catalogue
from ascend_fixes.defects._apart import begun
from ascend_fixes.patching import ledger


@pytest.mark.slow
@pytest.mark.parametrize("defect", catalogue().values(), ids=catalogue())
def test_the_probe_shows_the_defect_and_the_cure_removes_it(defect):
    (row,) = doctor.examine([defect], jobs=1, timeout=900)
    if defect.needs_device:
        assert row.answer == "needs a device" and row.evidence.startswith("needs a device"), row
    elif row.answer == "not present" and defect.family == "environment":
        # A sound installation: what the cure does about an unsound one can be seen all the same.
        assert defect.tool is None or defect.tool.probe().present is False
    else:
        assert (row.answer, row.present, row.cured) == ("present", True, True), row.evidence


@pytest.mark.parametrize("defect", catalogue().values(), ids=catalogue())
def test_catalogue_entries_are_complete(defect):
    assert defect.id[0] in {"shapes": "S", "host": "H", "fusion": "F", "amp": "A", "environment": "E"}[defect.family]
    assert defect.probe.__module__.split(".")[-1].startswith(defect.id.lower() + "_")
    for field in ("symptom", "cause", "upstream", "removal"):
        assert getattr(defect, field).strip(), field
    assert defect.seen or evidence.seen(defect.id), "run it on some version, or say who reported it"
    assert "\n" not in defect.symptom and len(defect.symptom) <= 120
    assert defect.patch is None or defect.patch.since < defect.patch.before


def test_the_template_is_a_defect_that_is_not_in_the_catalogue():
    template = importlib.import_module("ascend_fixes.defects._template").DEFECT
    test_catalogue_entries_are_complete(dataclasses.replace(template, probe=catalogue()["F1"].probe, id="F1"))
    assert template.id not in catalogue() and template.probe().present is False


def test_the_catalogue_is_in_order():
    families = "".join(name[0] for name in FAMILIES).upper()
    assert list(catalogue()) == sorted(catalogue(), key=lambda id_: (families.index(id_[0]), int(id_[1:])))


def test_threads_that_crash_their_process_are_a_finding(monkeypatch):
    """As they did on MindSpore 2.7.0 with Python 3.9; the doctor takes a probe that is killed itself for one that failed."""
    module = importlib.import_module("ascend_fixes.defects.s6_threads")
    killed = subprocess.CompletedProcess([], -signal.SIGSEGV, "", "")
    monkeypatch.setattr(module, "run_apart", lambda *_: killed)
    assert module.probe() == Finding(True, "the process was killed by SIGSEGV")


def test_the_process_of_a_probe_takes_the_cure_on_any_version(monkeypatch):
    s6 = catalogue()["S6"]
    unchecked = dataclasses.replace(s6, patch=dataclasses.replace(s6.patch, since=(98, 0), before=(99, 0)))
    monkeypatch.setattr(sys, "argv", ["s6_threads.py", "cured", "20"])
    try:
        assert begun(unchecked) == ["20"] and "S6" in ledger.applied
    finally:
        compiling.release("S6")
    assert "S6" not in ledger.applied
