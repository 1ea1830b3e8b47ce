"""The cures under MindSpore's own names: every probe without and with its patch, in a process and a folder of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

RUN = """
import sys
from ascend_fixes import _mindspore
from ascend_fixes.defects import catalogue
from ascend_fixes.patching import Ledger
defect = catalogue()[sys.argv[1]]
if sys.argv[2] == "cured":
    Ledger("mindspore").hold("test", {defect.id: defect.patch.replacements})
print("PRESENT", defect.probe().present)
"""


@pytest.mark.slow
@pytest.mark.parametrize("state, present", [("plain", "True"), ("cured", "False")])
@pytest.mark.parametrize("defect", ["A1", "A2", "A3", "A4", "A5", "A6", "A7"])
def test_the_probe_shows_the_defect_and_its_absence(tmp_path, defect, state, present):
    run = subprocess.run(
        [sys.executable, "-c", RUN, defect, state],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert f"PRESENT {present}" in run.stdout, run.stderr[-2000:]
