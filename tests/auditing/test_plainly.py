"""The cell as it is: what it writes, and how it fails."""

from __future__ import annotations

import mindspore
import numpy as np
import pytest
from audit_cells import IDS, LABELS, MASK, Failing, Normalised, Tagger
from audit_odd_cells import CompiledOnly, OldLookup, Sampling, Sound
from audit_precision_cells import WithoutKernel
from mindspore import Tensor, nn

import ascend_fixes
from ascend_fixes.auditing import AuditError
from ascend_fixes.auditing._audit import audited
from ascend_fixes.auditing._lengths import LENGTHS
from ascend_fixes.auditing._plainly import PLAINLY
from ascend_fixes.auditing._subject import AS_IN_GRAPHS


def test_statistics_are_state(looked):
    found = looked(PLAINLY, Normalised(), IDS, MASK, LABELS)["forward-state"]
    assert found.cell == "norm" and found.operator == "BatchNorm1d" and "moving_mean" in found.reason
    assert found.certainty == "ran and differed" and "TrainStep" in found.cure


def test_a_cell_that_writes_nothing_is_cleared(looked):
    assert looked(PLAINLY, Tagger(), IDS, MASK, LABELS).cleared == {"forward-state", "missing-kernel-cpu"}


def test_a_cell_that_takes_what_graphs_give_for_a_maximum_is_run_so(looked):
    class Pooled(nn.Cell):
        def construct(self, x: Tensor) -> Tensor:
            return (x.max(1) + x.sum(1)).sum()

    seen = looked(PLAINLY, Pooled(), np.ones((4, 8), np.float32), axes={})
    assert seen.facts["runs"] == AS_IN_GRAPHS and "x.max(1) is the values alone" in seen.facts["notes"][0]
    assert seen.cleared == {"forward-state", "missing-kernel-cpu"}


def test_an_operator_that_runs_in_graphs_only_is_compiled_by_itself():
    report = ascend_fixes.audit(OldLookup(), Tensor(IDS), budget=60)
    assert any("GatherV2" in note or "Gather" in note for note in report.notes)
    assert [one.operator for one in report.hazards if one.kind == "cast-in-construct"] == ["Cast"]
    assert {"length-written-in", "value-dependent-shape"} <= set(report.cleared)


@pytest.mark.parametrize("masked", [True, False])
def test_a_cell_that_draws_random_numbers_draws_the_same_ones_here(masked):
    mask = (np.arange(8) < np.array([[8], [5], [6], [3]])).astype(np.float32)
    report = ascend_fixes.audit(Sampling(masked), *map(Tensor, (IDS, mask, LABELS)), budget=120)
    assert any("draws random numbers" in note for note in report.notes)
    expected = {"cast-in-construct", "not-an-overflow" if masked else "padding-leak-loss"}
    assert {one.kind for one in report.hazards} == expected
    assert "draws random numbers" in report.not_looked_at["fusion-inexact"]


def test_a_cell_that_runs_compiled_only_is_looked_at_as_far_as_that_goes():
    report = ascend_fixes.audit(CompiledOnly(), *map(Tensor, (IDS, MASK, LABELS)), budget=120)
    assert any(note.startswith("operator by operator it fails") for note in report.notes)
    assert {"length-written-in"} == {one.kind for one in report.hazards}
    assert {"forward-state", "fusion-inexact", "recompile-scalar"} <= set(report.cleared)
    assert "compiled only" in report.not_looked_at["overflow"]


def test_a_cell_that_fails_as_it_is_is_one_line():
    with pytest.raises(AuditError) as raised:
        ascend_fixes.audit(Failing(), Tensor(IDS), Tensor(MASK), Tensor(LABELS))
    assert "\n" not in str(raised.value)
    assert "Failing does not run on these inputs" in str(raised.value) and "audit_cells.py:" in str(raised.value)


@pytest.mark.parametrize(
    "arguments, options, words",
    [
        ((), {}, "missing"),
        ((IDS, MASK, LABELS, IDS), {}, "too many"),
        ((IDS, MASK, LABELS), {"budget": 0}, "budget=0"),
        ((IDS, MASK, LABELS), {"budget": "x"}, "budget='x'"),
        ((IDS, MASK, LABELS), {"target": "Ascend910X"}, "did you mean"),
        ((IDS, MASK, LABELS), {"axes": {"idz": 1}}, "idz"),
        ((IDS, MASK, LABELS), {"axes": {"ids": 2}}, "axis 2"),
        ((IDS, MASK, LABELS), {"axes": {"ids": 0, "mask": 1}}, "different names"),
        ((IDS, MASK, LABELS), {"axes": 1}, "axes=1"),
        ((IDS, MASK, LABELS), {"optimizer": 1}, "optimizer=1"),
    ],
)
def test_wrong_use_is_one_line_and_nothing_runs(arguments, options, words):
    with pytest.raises(AuditError) as raised:
        ascend_fixes.audit(Tagger(), *map(Tensor, arguments), **options)
    assert words in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize("said", [None, {"x": 1}])
def test_channels_before_positions_are_told_by_running(said):
    x = Tensor(np.random.default_rng(0).normal(size=(4, 5, 16)).astype(np.float32))
    report = audited((PLAINLY, LENGTHS), Sound(), (x,), said, None, "Ascend910B", 60)
    assert report.axes == {"x": {1 if said else 2: "length"}}
    assert [one.kind for one in report.hazards] == (["length-written-in"] if said else [])


def test_only_cells_and_functions_are_audited():
    with pytest.raises(AuditError, match="neither a mindspore.nn.Cell nor a function"):
        ascend_fixes.audit(np.add, 1, 2)


def test_the_cell_and_the_process_stay_as_they_are():

    cell = Normalised()
    before = {name: value.asnumpy().copy() for name, value in cell.parameters_dict().items()}
    report = ascend_fixes.audit(cell, IDS, MASK, LABELS, axes={})
    assert all(np.array_equal(value.asnumpy(), before[name]) for name, value in cell.parameters_dict().items())
    assert mindspore.get_context("mode") == mindspore.GRAPH_MODE and not cell.compile_cache
    assert not cell.training and isinstance(cell.norm, nn.BatchNorm1d)
    assert any(hazard.kind == "forward-state" for hazard in report.hazards)
    assert "length-written-in" in report.not_looked_at


def test_what_can_be_read_is_read_where_the_cell_does_not_run():
    report = ascend_fixes.audit(WithoutKernel(), Tensor(IDS))
    assert {one.kind: one.certainty for one in report.hazards} == {
        "missing-kernel-cpu": "ran and failed",
        "to-float": "read only",
    }
    assert {"hidden-size", "string", "dtype"} <= set(report.cleared) and "overflow" in report.not_looked_at
