"""What a float16 policy does not reach, what defeats it, and what overflows under it."""

from __future__ import annotations

import mindspore
import pytest
from audit_cells import IDS, LABELS, MASK, Tagger, Wrapped
from audit_precision_cells import Casting, Fixed, Large, Masked, OnOneLine, OwnGradient, Squares

from ascend_fixes.auditing._precision import PRECISION

KINDS = {"to-float", "cast-in-construct", "own-bprop", "overflow"}


def test_a_plain_cell_is_cleared(looked):
    assert looked(PRECISION, Tagger(), IDS, MASK, LABELS).cleared == KINDS


@pytest.mark.parametrize("dtype", [mindspore.float16, mindspore.float32])
def test_to_float(looked, dtype):
    found = looked(PRECISION, Fixed(dtype), IDS)
    assert found.kinds == {"to-float"}
    assert found["to-float"].certainty == "ran and differed" and found["to-float"].cell == "head"
    assert ("passed over" if dtype == mindspore.float32 else "defeated") in found["to-float"].reason


@pytest.mark.parametrize("dtype", [mindspore.float16, mindspore.float32])
def test_casts_in_construct(looked, dtype):
    found = looked(PRECISION, Casting(dtype), IDS)
    assert found.kinds == ({"cast-in-construct"} if dtype == mindspore.float16 else set())
    if dtype == mindspore.float16:
        assert (
            "astype" in found["cast-in-construct"].evidence
            and "rounded by up to" in found["cast-in-construct"].evidence
        )


def test_the_cast_of_a_mask(looked):
    found = looked(PRECISION, Masked(mindspore.float16), IDS)["cast-in-construct"]
    assert "bool becomes float16" in found.evidence and found.certainty == "read only"


def test_a_gradient_of_its_own(looked):
    found = looked(PRECISION, OwnGradient(), IDS)["own-bprop"]
    assert found.cell == "head" and found.operator == "Product" and 'fp32=["head"]' in found.cure


@pytest.mark.parametrize("size, kinds", [(1.0, set()), (1e7, {"overflow"})])
def test_overflow(looked, size, kinds):
    found = looked(PRECISION, Large(size), IDS)
    assert found.kinds == kinds
    if kinds:
        assert found["overflow"].certainty == "ran and failed" and "policy" in found["overflow"].cure


@pytest.mark.parametrize("size, kinds", [(1.0, set()), (8e4, {"overflow"})])
def test_overflow_under_mindspores_own_mixed_precision_alone(looked, size, kinds):
    found = looked(PRECISION, Squares(size), IDS)
    assert found.kinds == kinds
    if kinds:
        assert "auto_mixed_precision" in found["overflow"].evidence and "amp.autocast" in found["overflow"].cure


def test_layers_in_a_sequence_are_recorded(looked):
    assert looked(PRECISION, Wrapped(), IDS, LABELS).cleared == KINDS


def test_all_cells_that_share_the_line_of_a_cast_are_named(looked):
    evidence = looked(PRECISION, OnOneLine(), IDS)["cast-in-construct"].evidence
    assert "in first, second" in evidence
    assert "cast-in-construct" in looked(PRECISION, OnOneLine(mindspore.float32), IDS).cleared
