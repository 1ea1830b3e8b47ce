"""Constants, softmax over one element, exponentials, and values that are no overflow."""

from __future__ import annotations

import pytest
from audit_cells import IDS, LABELS, MASK, Attention, Ignoring, OneScore, SumOfExponentials, Tagger

from ascend_fixes.auditing._values import VALUES


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
