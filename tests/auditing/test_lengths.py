"""Lengths written into a model, loud and silent, and models that take any length."""

from __future__ import annotations

import numpy as np
import pytest
from audit_cells import IDS, LABELS, MASK, Chosen, Classifier, FirstOnly, Longest, Positions, StoredReshape, Tagger
from audit_odd_cells import CompiledOnly, Subsampled, Translator
from mindspore import Tensor

from ascend_fixes.auditing._lengths import LENGTHS
from ascend_fixes.auditing._subject import COMPILED_ONLY, Clock, Subject


@pytest.mark.parametrize("cell, inputs", [(Tagger, (IDS, MASK, LABELS)), (Classifier, (IDS,))])
def test_a_cell_that_takes_any_length_is_cleared(looked, cell, inputs):
    assert looked(LENGTHS, cell(), *inputs).cleared == {"length-written-in"}


def test_a_table_added_at_a_fixed_width_is_named_with_number_and_line(looked):
    found = looked(LENGTHS, Positions(), IDS, MASK, LABELS)["length-written-in"]
    assert found.certainty == "ran and failed"
    assert "length 8" in found.reason and "fails at 7, 6, 9, 16, runs at 8" in found.evidence
    assert found.source.startswith("audit_cells.py:") and "self.embedding(ids) + self.table" in found.evidence
    assert "AddExt" in found.operator or found.operator == "Add"
    assert found.cell == "" and "Buckets([8])" in found.cure


def test_a_greatest_length_is_told_from_the_only_one(looked):
    found = looked(LENGTHS, Longest(), IDS, MASK, LABELS)["length-written-in"]
    assert "at most 8" in found.reason and "fails at 9, 16, runs at 8, 7, 6" in found.evidence


def test_a_length_that_limits_another_is_told_from_a_number_in_the_model(looked):
    axes = {"ids": {1: "source"}, "target": {1: "words"}}
    found = [one for one in looked(LENGTHS, Translator(), IDS, IDS[:, :5], axes=axes).hazards if "words" in one.reason]
    assert [one.reason for one in found] == ["words cannot be 10 beside source 8: the one limits the other"]


def test_lengths_that_change_together_are_no_number_in_the_model(looked):
    frames, mask = np.ones((4, 20, 3), np.float32), np.ones((4, 10), np.float32)
    axes = {"frames": {1: "frames"}, "mask": {1: "places"}}
    assert looked(LENGTHS, Subsampled(), frames, mask, axes=axes).cleared == {"length-written-in"}


def test_lengths_are_tried_compiled_where_a_cell_runs_so_only(looked):
    found = looked(LENGTHS, CompiledOnly(), IDS, MASK, LABELS, runs=COMPILED_ONLY)["length-written-in"]
    assert found.certainty == "ran and failed" and "fails at 7, 6, 9, 16, runs at 8" in found.evidence
    assert found.source.startswith("audit_cells.py:") and "self.embedding(ids) + self.table" in found.evidence


def test_a_stored_length_is_silent_where_it_divides_evenly(looked):
    found = looked(LENGTHS, StoredReshape(), IDS)["length-written-in"]
    assert "at 16 no error, but axis 0 of result 0" in found.evidence.replace("length ", "") or "16" in found.evidence
    assert found.certainty in ("ran and failed", "ran and differed")


def test_positions_that_are_never_read_are_silent(looked):
    found = looked(LENGTHS, FirstOnly(), IDS)["length-written-in"]
    assert found.certainty == "ran and differed" and "changes nothing" in found.evidence


def test_without_ragged_axes_it_is_not_looked_at(looked):
    assert "axes=" in looked(LENGTHS, Classifier(), IDS, axes={}).unknown["length-written-in"]


def test_lengths_among_the_inputs_follow():
    inputs = (Tensor(IDS), Tensor(np.array([8, 5, 3, 8], np.int32)))
    subject = Subject(Classifier(), inputs, ("ids", "n"), {"ids": {1: "length"}}, "", "", Clock(1))
    assert subject.resized({"length": 6})["n"].tolist() == [6, 5, 3, 6]
    assert subject.resized({"length": 12})["n"].tolist() == [12, 5, 3, 12]
    assert subject.resized({"length": 12})["ids"].shape == (4, 12)


def test_ragged_positions_do_not_point_beyond_a_shorter_length():
    """Where each word begins, in pieces: a position is no id, and a length that was cut is no length written in."""
    places = np.array([[0, 2, 5, 7]], np.int32)
    inputs, axes = (Tensor(IDS[:1, :8]), Tensor(places)), {"ids": {1: "pieces"}, "places": {1: "words"}}
    subject = Subject(Classifier(), inputs, ("ids", "places"), axes, "", "", Clock(1))
    assert subject.resized({"pieces": 6})["places"].tolist() == [[0, 2, 5, 5]]
    assert subject.resized({"pieces": 12})["places"].tolist() == [[0, 2, 5, 7]]


def test_a_result_as_long_as_a_mask_says_has_no_length_written_in(looked):
    mask = np.arange(8) < np.array([8, 3, 5, 6])[:, None]
    assert looked(LENGTHS, Chosen(), IDS, mask).cleared == {"length-written-in"}
