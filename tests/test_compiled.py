"""``doctor --ascend``."""

from __future__ import annotations

import json

import pytest

from ascend_fixes.__main__ import main
from ascend_fixes.defects import catalogue
from ascend_fixes.doctor import ANSWERS


@pytest.mark.slow
def test_the_ascend_back_end_sees_a_refusal_and_its_cure_and_says_nothing_of_values(capsys):
    assert main(["doctor", "--ascend", "--json", "--only", "H2,F3"]) == 0
    rows = {row["id"]: row for row in json.loads(capsys.readouterr().out)}
    assert (rows["H2"]["answer"], rows["H2"]["cured"]) == ("present", True) and "MapTensorGet" in rows["H2"]["evidence"]
    assert rows["F3"]["present"] is None and rows["F3"]["answer"] == "needs a device" in ANSWERS
    assert "compiling cannot show it" in rows["F3"]["evidence"]


def test_a_row_seen_by_compiling_alone_can_be_compiled():
    for defect in catalogue().values():
        if defect.patch is not None and defect.patch.backends == ("Ascend",):
            assert defect.ascend is not None, defect.id
