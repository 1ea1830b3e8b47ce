"""Padding that leaks, and padding that a mask or a pad value keeps out."""

from __future__ import annotations

import numpy as np
import pytest
from audit_cells import (
    IDS,
    LABELS,
    MASK,
    Classifier,
    Faint,
    FixedIgnoring,
    Flat,
    InDict,
    Largest,
    Tagger,
    Unmasked,
    Variadic,
    Wrapped,
)
from audit_odd_cells import Filled, Stored
from mindspore import Tensor

from ascend_fixes.auditing._padding import PADDING, _beyond_rounding, _choices
from ascend_fixes.auditing._subject import Clock, Subject
from ascend_fixes.shapes import Leak, PaddingReport, Suspect

KINDS = {"padding-leak-output", "padding-leak-state", "padding-leak-loss", "padding-leak-gradient"}


def test_a_masked_loss_is_cleared(looked):
    assert looked(PADDING, Tagger(), IDS, MASK, LABELS).cleared == KINDS


def test_a_mean_over_all_positions_leaks(looked):
    found = looked(PADDING, Classifier(), IDS)
    assert found.kinds == {"padding-leak-output"}
    assert found["padding-leak-output"].certainty == "ran and differed" and "mask" in found["padding-leak-output"].cure


def test_an_unmasked_loss_leaks_unless_its_labels_are_ignored(looked):
    found = looked(PADDING, Unmasked(), IDS, MASK, LABELS)
    assert found.kinds == {"padding-leak-loss"}


def test_what_a_stored_length_never_reads_is_tried_in_place(looked):
    x = np.random.default_rng(0).standard_normal((4, 8, 3)).astype(np.float32)
    shorter = x * (np.arange(8) < np.array([8, 3, 5, 6])[:, None])[:, :, None]
    found = looked(PADDING, Stored(), shorter)
    assert found.kinds == {"padding-leak-output"} and "beyond the rows' ends" in found["padding-leak-output"].evidence
    assert not looked(PADDING, Stored(), x).kinds  # no row shows where it ends


def test_nothing_ragged_is_not_looked_at(looked):
    assert set(looked(PADDING, Classifier(), IDS, axes={}).unknown) == KINDS


def test_a_cell_of_one_width_without_a_mask_is_taken_to_have_shorter_rows(looked):
    found = looked(PADDING, Flat(), IDS)["padding-leak-output"]
    assert "with garbage beyond the rows' ends" in found.evidence


def test_a_cell_that_takes_any_inputs_is_padded_by_their_places(looked):
    assert looked(PADDING, Variadic(Classifier()), IDS).kinds == {"padding-leak-loss"}
    assert looked(PADDING, Variadic(Tagger()), IDS, MASK, LABELS).cleared == KINDS


def test_labels_that_are_ignored_keep_padding_out_of_a_cell_of_one_width(looked):
    found = looked(PADDING, FixedIgnoring(), IDS, LABELS)
    assert not found.kinds and found.facts["pad"]["labels"] == -100


def test_a_batch_in_a_dict_is_padded_too(looked):
    batch = {"ids": Tensor(IDS), "mask": Tensor(MASK), "labels": Tensor(LABELS)}
    assert looked(PADDING, InDict(), batch).cleared == KINDS


def test_arguments_without_names_are_padded_too(looked):
    assert looked(PADDING, Wrapped(), IDS, LABELS).cleared == KINDS


@pytest.mark.parametrize("safe", [False, True])
def test_a_batch_that_is_padded_already_hides_nothing(looked, safe):
    padded = np.where(np.arange(8) < 6, IDS, 0).astype(np.int32)
    found = looked(PADDING, Largest(safe), padded)
    assert found.kinds == (set() if safe else {"padding-leak-output"})


@pytest.mark.parametrize("safe", [False, True])
def test_a_result_that_hardly_depends_on_its_inputs_is_compared_the_closer(looked, safe):
    assert looked(PADDING, Faint(safe), IDS, MASK).kinds == (set() if safe else {"padding-leak-loss"})


@pytest.mark.parametrize("value, kinds", [(12, set()), (7, {"padding-leak-loss"})])
def test_rows_are_padded_with_what_they_are_filled_up_with(looked, value, kinds):
    labels = np.where(np.arange(8) < [[8], [5], [6], [4]], LABELS, 12).astype(np.int32)
    found = looked(PADDING, Filled(value), IDS, labels)
    assert found.kinds == kinds
    if not kinds:
        assert found.facts["pad"]["labels"] == 12


@pytest.mark.parametrize(
    "error, method, kept", [(1e-4, "widths", False), (1e-1, "widths", True), (1e-4, "in place", True)]
)
def test_rounding_of_half_precision_at_another_width_is_no_leak(error, method, kept):
    leak = Leak("output", (("length", 12),), error, method)
    state = Suspect("rnn", "GRU", "the final state is that of the padding", ("output",))
    report = PaddingReport((leak,), "", "Net", "", 1e-5, (), (state,), ("length 12",), (), ())
    assert _beyond_rounding(report, False) == report
    left = _beyond_rounding(report, True)
    assert left.leaks == ((leak,) if kept else ()) and left.suspects == ((state,) if kept else ())


@pytest.mark.parametrize("names", [("labels",), ("ids", "labels"), ("ids", "kinds", "labels")])
def test_no_pad_value_is_tried_twice(names):
    axes = {name: {1: "length"} for name in names}
    subject = Subject(Tagger(), (Tensor(IDS),) * len(names), names, axes, "", "Ascend910B", Clock(1))
    tried = _choices(subject, {"ids"})
    assert [one for place, one in enumerate(tried) if one in tried[:place]] == []
    assert {} in tried and {"labels": -100} in [{"labels": one.get("labels")} for one in tried]
    assert all(one.get("ids", 0) == 0 for one in tried)  # of a table
