from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mindspore import nn, ops
from shapes_cells import batch, pooled_step
from shapes_leaks import (
    Classifier,
    Encoder,
    MaskedMean,
    Mean,
    Noisy,
    Normalised,
    OwnMean,
    Recurrent,
    Tagger,
)

from ascend_fixes import _mindspore
from ascend_fixes.shapes import AxesError, LengthError, PaddingCheckError, check_padding
from ascend_fixes.shapes._garbage import _garbage_like

AXES, PAD = {"ids": 1, "mask": 1}, {"mask": 0}


def inputs(length=5, rows=2):
    ids, mask = batch(length, rows)
    return {"ids": ids % 30, "mask": mask}


def checked(cell, widths=(7, 11), **options):
    return check_padding(cell, inputs(), AXES, widths, pad=PAD, **options)


@pytest.mark.parametrize(
    "make, name, kind, cause",
    [
        (lambda: Classifier(Mean()), "pool", "Mean", "a mean, sum or maximum over padded positions"),
        (OwnMean, "", "OwnMean", "a mean, sum or maximum over padded positions"),
        (Normalised, "norm", "BatchNorm1d", "batch statistics include padded positions"),
        (lambda: Recurrent(False), "gru.rnn", "GRU", "the final state is that of the last padded step"),
        (lambda: Tagger(False), "crf", "CRF", "a CRF that scores padded steps"),
        (lambda: Encoder(False), "attention", "Attention", "attention reaches padded positions"),
    ],
)
def test_a_planted_leak_is_found_where_it_begins(make, name, kind, cause):
    report = checked(make())
    assert not report.ok and report.cell == name and kind in report.kind and cause in report.cause
    text = str(report)
    assert "padding leaks; it begins in" in text and "when padded to length 7" in text
    if make is OwnMean:
        assert {leak.what for leak in report.leaks} >= {"output", "gradient of body.dense.weight"}


@pytest.mark.parametrize(
    "make",
    [
        lambda: Classifier(MaskedMean()),
        lambda: Classifier(MaskedMean(), ms.float16),
        lambda: Recurrent(True),
        lambda: Tagger(True),
        lambda: Encoder(True),
    ],
)
def test_a_masked_model_is_cleared(make):
    report = checked(make())
    assert report.ok, str(report)
    assert "does not leak" in str(report)


def test_the_tolerance_is_that_of_the_lowest_precision():
    assert checked(Classifier(MaskedMean())).tolerance == 1e-5
    assert checked(Classifier(MaskedMean(), ms.float16)).tolerance == 1e-2
    report = checked(Classifier(Mean(), ms.float16))
    assert not report.ok and report.cell == "pool"


def test_loss_and_gradients_are_named():
    what = {leak.what for leak in checked(Tagger(False)).leaks}
    assert "loss" in what and any(name.startswith("gradient of body.") for name in what)
    assert {leak.what for leak in checked(Tagger(False), gradients=False).leaks} == {"loss"}


@pytest.fixture(scope="module")
def pooled():
    return Classifier(MaskedMean()), Classifier(Mean())


@settings(max_examples=12)
@given(st.integers(2, 6), st.integers(1, 3), st.integers(1, 9))
def test_verdicts_do_not_depend_on_length_rows_and_width(pooled, length, rows, more):
    for cell, ok in zip(pooled, (True, False)):
        report = check_padding(cell, inputs(length, rows), AXES, [length + more], pad=PAD, gradients=False)
        assert report.ok is ok


def test_what_is_random_in_training_mode_is_run_in_evaluation_mode():
    class Dropping(Classifier):
        def construct(self, ids, mask):
            return ops.dropout(super().construct(ids, mask), 0.5, self.training)

    for pool, leaks in ((Mean(), True), (MaskedMean(), False)):
        cell = Dropping(pool).set_train()
        report = checked(cell)
        assert report.ok != leaks and "it was run in evaluation mode" in report.notes[0]
        assert cell.training and cell.pool.training


def test_ids_in_a_float_type_keep_to_their_table():
    class Table(nn.Cell):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(30, 4)

        def construct(self, ids, mask):
            return (self.embedding(ids.astype(ms.int32)) * mask.expand_dims(-1)).sum(1)

    given = inputs()
    assert check_padding(Table(), {**given, "ids": given["ids"].astype(np.float32)}, AXES, (7,), pad=PAD).ok


def test_nothing_is_left_changed():
    cell = Normalised()
    before = {p.name: p.asnumpy().copy() for p in cell.get_parameters()}
    cell.set_train(False)
    checked(cell)
    assert _mindspore.in_graph_mode()
    assert not any(inner.training for _, inner in cell.cells_and_names())
    for parameter in cell.get_parameters():
        np.testing.assert_array_equal(parameter.asnumpy(), before[parameter.name])
    # It still compiles and runs.
    assert cell(*(ms.Tensor(value) for value in inputs().values())).shape == (2, 6)


def test_named_lengths_are_padded_one_by_one():
    axes = {"ids": {0: "rows", 1: "length"}, "mask": {0: "rows", 1: "length"}}
    widths = [{"length": 9}, {"rows": 5}, {"rows": 3, "length": 8}]
    assert check_padding(Classifier(MaskedMean()), inputs(), axes, widths, pad=PAD).ok
    report = check_padding(Classifier(Mean()), inputs(), axes, widths, pad=PAD)
    assert {dict(leak.width)["length"] for leak in report.leaks} == {9, 8}


def test_positional_inputs_are_taken():
    values = list(inputs().values())
    assert check_padding(Classifier(MaskedMean()), values, AXES, [8], pad=PAD).ok


def test_what_cannot_be_checked_is_refused():
    with pytest.raises(PaddingCheckError, match="holds an optimizer; check the network or its loss"):
        check_padding(pooled_step(), inputs(), AXES, [8])
    with pytest.raises(PaddingCheckError, match="widths contain length 3, but the batch's own is 5"):
        checked(OwnMean(), widths=[3])
    with pytest.raises(PaddingCheckError, match="differs between two equal calls"):
        checked(Noisy(), gradients=False)
    with pytest.raises(AxesError, match="axes= names 'idz'"):
        check_padding(OwnMean(), inputs(), {"idz": 1}, [8])
    with pytest.raises(LengthError, match="argument 'mask' has length 4"):
        check_padding(OwnMean(), {**inputs(), "mask": np.ones((2, 4), np.float32)}, AXES, [8])
    assert _mindspore.in_graph_mode()


@pytest.mark.parametrize("kind", [np.float32, np.bool_])
def test_a_mask_is_padded_as_a_mask_unless_told_otherwise(kind):
    given_inputs = {**inputs(), "mask": inputs()["mask"].astype(kind)}
    assert check_padding(Classifier(MaskedMean()), given_inputs, AXES, (7,)).ok
    told = check_padding(Classifier(MaskedMean()), given_inputs, AXES, (7,), pad={"mask": 1})
    assert not told.ok


@pytest.mark.parametrize("values", [[1e30, 2.0], [np.inf, 2.0], [-np.inf, 2.0], [1.5, 2.0]])
def test_floats_that_are_no_ids_get_garbage_of_their_size(values):
    array = np.array([values], np.float32)
    with np.errstate(invalid="ignore", over="ignore"):
        assert _garbage_like(array, (4, 8), np.random.default_rng(0)).shape == (4, 8)
