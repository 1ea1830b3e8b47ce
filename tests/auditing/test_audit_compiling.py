"""What makes new graphs, loops that unroll, and shapes that depend on values."""

from __future__ import annotations

import mindspore
import numpy as np
import pytest
from audit_cells import IDS, MASK, Arguments, Classifier, Loop, Selecting, doubled
from audit_odd_cells import Stored
from mindspore import Tensor

import ascend_fixes
from ascend_fixes.auditing._compiling import COMPILING

ONE = Tensor(np.ones((4, 8, 16), np.float32))


@pytest.mark.parametrize(
    "other, kind",
    [
        (2, "recompile-scalar"),
        ((ONE, ONE), "recompile-container"),
        ({"scale": ONE}, "recompile-dict"),
        (mindspore.mutable((ONE, ONE)), None),
        (ONE, None),
    ],
)
def test_arguments_that_are_constants_of_the_graph(looked, other, kind):
    found = looked(COMPILING, Arguments(), Tensor(IDS), other, axes={})
    assert found.kinds == ({kind} if kind else set())
    if kind:
        assert "1 graphs became 2" in found[kind].evidence and "'other'" in found[kind].reason


def test_a_loop_over_positions_is_measured_at_two_lengths(looked):
    found = looked(COMPILING, Loop(), IDS)["unrolled-recurrence"]
    assert found.certainty == "ran and differed" and found.source.startswith("audit_cells.py:")
    assert "at length 4" in found.evidence and "at length 8" in found.evidence and "to compile" in found.evidence


def test_a_loop_of_a_stored_length_is_read(looked):
    found = looked(COMPILING, Stored(), np.ones((4, 8, 3), np.float32))["unrolled-recurrence"]
    assert found.certainty == "read only" and "8 times at length 8" in found.evidence


def test_a_cell_without_a_loop_is_cleared(looked):
    found = looked(COMPILING, Classifier(), IDS)
    assert not found.hazards and {"unrolled-recurrence", "value-dependent-shape", "recompile-scalar"} <= found.cleared


def test_a_shape_that_depends_on_values(looked):
    found = looked(COMPILING, Selecting(), IDS, MASK)
    assert found.kinds == {"value-dependent-shape"}
    assert "masked_select" in found["value-dependent-shape"].evidence


def test_a_function_under_jit_compiles_for_every_shape():
    report = ascend_fixes.audit(doubled, np.ones((4, 8), np.float32), axes={"x": 1}, budget=120)
    found = [one for one in report.hazards if one.kind == "recompile-function"]
    assert len(found) == 1 and "3 widths made 3 graphs" in found[0].evidence
