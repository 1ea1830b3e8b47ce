"""Constants, softmax over one element, exponentials, and values that are no overflow."""

from __future__ import annotations

import numpy as np
import pytest
from audit_cells import (
    IDS,
    LABELS,
    MASK,
    Attention,
    ByLengths,
    Ignoring,
    Likelihood,
    OneScore,
    Subscripted,
    SumOfExponentials,
    Tagger,
    UnderJit,
)
from audit_odd_cells import Angle, Assigned, Killed, Ranking, Softplus
from mindspore import Tensor, ops

from ascend_fixes import _mindspore
from ascend_fixes.auditing._looking import Fact, Look
from ascend_fixes.auditing._recording import looked_up, record
from ascend_fixes.auditing._running import ready
from ascend_fixes.auditing._subject import Clock, Subject
from ascend_fixes.auditing._values import VALUES, _ignored

_NEW_WEIGHTS = pytest.mark.skipif(
    _mindspore.version() < (2, 7, 1), reason="there a function under jit sees new weights a call late"
)


@pytest.fixture(scope="module")
def seen():
    """What was looked at, by name: a cell is run once for all tests."""
    return {}


def test_a_large_constant_is_named_with_its_line(looked):
    found = looked(VALUES, Attention(off=-1e9), IDS, MASK)
    assert found.kinds == {"constant-beyond-float16"}
    one = found["constant-beyond-float16"]
    assert "-1e+09" in one.reason and "self.off" in one.evidence and one.source.startswith("audit_cells.py:")
    assert one.certainty == "ran and differed" and ("nan" in one.evidence or "inf" in one.evidence)


@pytest.mark.parametrize("off", [-1e4, -1e9])
def test_a_constant_that_is_assigned_to_elements(looked, off):
    found = looked(VALUES, Assigned(off), IDS, MASK * (np.arange(8) < 5).astype(np.float32))
    assert found.kinds == (set() if off == -1e4 else {"constant-beyond-float16"})
    if found.kinds:
        one = found["constant-beyond-float16"]
        assert "scores[mask == 0] = self.off" in one.evidence and one.source.startswith("audit_odd_cells.py:")
        assert one.certainty == "ran and differed" and "inf" in one.evidence


def test_attention_that_is_sound_is_cleared(looked):
    assert len(looked(VALUES, Attention(), IDS, MASK).cleared) == 4


def test_a_softmax_over_one_element(looked):
    found = looked(VALUES, OneScore(), IDS, MASK)
    assert found.kinds == {"single-element-softmax"}
    assert "no gradient" in found["single-element-softmax"].evidence


@pytest.mark.parametrize("bounded", [False, True])
def test_exponentials_without_their_maximum(looked, bounded):
    found = looked(VALUES, SumOfExponentials(bounded), IDS)
    assert found.kinds == (set() if bounded else {"exp-without-maximum"})
    if not bounded:
        assert (
            found["exp-without-maximum"].certainty == "ran and failed"
            and "inf" in found["exp-without-maximum"].evidence
        )


@pytest.mark.parametrize("safe", [False, True])
def test_the_logarithm_of_1_and_an_exponential(looked, safe):
    found = looked(VALUES, Softplus(safe), IDS)
    assert found.kinds == (set() if safe else {"exp-without-maximum"})
    if not safe:
        assert "log1p" in found["exp-without-maximum"].cure


@pytest.mark.parametrize("safe", [False, True])
def test_nothing_but_ignored_labels(looked, safe):
    found = looked(VALUES, Ignoring(safe), IDS, LABELS)
    assert found.kinds == (set() if safe else {"not-an-overflow"})
    if not safe:
        assert (
            "'labels' all -100" in found["not-an-overflow"].evidence and "loss scale" in found["not-an-overflow"].reason
        )


def test_a_mean_over_a_mask_that_is_off(looked):
    found = looked(VALUES, Tagger(), IDS, MASK, LABELS)
    assert found.kinds == {"not-an-overflow"}
    assert "mask.sum()" in found["not-an-overflow"].evidence and found["not-an-overflow"].operator == "Div"


@pytest.mark.parametrize(
    "cell",
    [Likelihood(safe=False), Likelihood(safe=True), pytest.param(UnderJit(safe=False), marks=_NEW_WEIGHTS)],
)
def test_the_logarithm_of_a_softmax(looked, cell):
    found = looked(VALUES, cell, IDS, LABELS)
    assert found.kinds == (set() if cell.safe else {"not-an-overflow"})
    if not cell.safe:
        one = found["not-an-overflow"]
        assert "times the weights" in one.evidence and "-inf" in one.evidence
        assert one.operator == "log" and one.source.startswith("audit_cells.py:")


@pytest.mark.parametrize("safe", [False, True])
def test_a_batch_of_nothing_but_what_fills_rows_up(looked, safe):
    found = looked(VALUES, Ranking(safe), IDS, np.where(np.arange(8) < 5, IDS, 0))
    assert found.kinds == (set() if safe else {"not-an-overflow"})
    assert safe or "'items' all 0" in found["not-an-overflow"].evidence


@pytest.mark.parametrize("safe", [False, True])
def test_a_row_of_length_0(looked, safe):
    found = looked(VALUES, ByLengths(safe), IDS, np.array([8, 3, 5, 7], np.int32))
    assert found.kinds == (set() if safe else {"not-an-overflow"})
    assert safe or "'lengths' 0 in one row" in found["not-an-overflow"].evidence


def test_a_kernel_that_ends_its_process_ends_one_trial(looked):
    found = looked(VALUES, Killed(safe=False), IDS, np.where(np.arange(8) < 5, IDS, 0))
    assert found.facts["notes"] == ["run with 'ids' all 0, the look was killed by SIGKILL"]
    assert "'items' all 0" in found["not-an-overflow"].evidence


@pytest.mark.parametrize(
    "kept",
    [lambda cosine: cosine, lambda cosine: ops.clamp(cosine, -0.9999, 0.9999), ops.tanh],
    ids=["as it is", "clamped", "tanh"],
)
def test_a_root_of_one_less_a_squared_cosine(looked, kept, request):
    found = looked(VALUES, Angle(kept), IDS)
    wanted = {"not-an-overflow"} if "as it is" in request.node.name else set()
    assert found.kinds == wanted
    assert not wanted or "nan for a cosine of 1.0000001" in found["not-an-overflow"].evidence


def _indices(subject):
    ready(subject)
    yield Fact("indices", sorted(looked_up(subject, record(subject.cell, subject.inputs))))


@pytest.mark.parametrize("cell", [Subscripted(), Likelihood(safe=True)])
def test_indices_of_a_table_are_told_from_labels(looked, cell):
    assert looked(Look("indices", (), _indices), cell, IDS, LABELS).facts["indices"] == ["ids"]


def test_no_value_beyond_a_table_is_tried():
    axes = {name: {1: "length"} for name in ("ids", "labels")}
    subject = Subject(Subscripted(), (Tensor(IDS), Tensor(LABELS)), ("ids", "labels"), axes, "", "Ascend910B", Clock(1))
    assert {name for _, first, _ in _ignored(subject, {"ids"}) for name in first} == {"labels"}
