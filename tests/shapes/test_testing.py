from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as st
from shapes_leaks import Classifier, MaskedMean, Mean

from ascend_fixes.testing import assert_padding_equivalent, ragged_batches

AXES, PAD = {"ids": 1, "mask": 1}, {"mask": 0}
IDS = {"ids": st.integers(1, 29)}
batches = ragged_batches(IDS, dtypes={"ids": np.int32})


@pytest.fixture(scope="module")
def cells():
    return Classifier(MaskedMean()), Classifier(Mean())


COLUMNS = {**IDS, "x": st.floats(-1, 1, width=32)}


@given(ragged_batches(COLUMNS, {"ids": np.int32}, {"x": (2,)}, max_rows=4, max_length=5))
def test_batches_are_as_described(batch):
    rows, length = batch["ids"].shape
    assert 1 <= rows <= 4 and 1 <= length <= 5 and batch["x"].shape == (rows, length, 2)
    assert batch["ids"].dtype == np.int32 and batch["x"].dtype == batch["mask"].dtype == np.float32
    mask = batch["mask"]
    assert mask.sum(1).max() == length and (mask.sum(1) >= 1).all()
    # Content first, then padding.
    assert (np.diff(mask, axis=1) <= 0).all()
    assert ((batch["ids"] > 0) == (mask > 0)).all() and (batch["x"][mask == 0] == 0).all()


def test_without_a_mask():
    assert set(find(ragged_batches(IDS, mask=None), lambda batch: True)) == {"ids"}


@settings(max_examples=10)
@given(batches)
def test_a_masked_cell_passes(cells, batch):
    assert assert_padding_equivalent(cells[0], batch, AXES, pad=PAD, gradients=False).ok


def test_a_leaking_cell_fails_naming_the_sub_cell_and_shrinks(cells):
    def leaks(batch):
        try:
            assert_padding_equivalent(cells[1], batch, AXES, pad=PAD, gradients=False)
        except AssertionError as error:
            assert "it begins in sub-cell 'pool' (Mean): a mean, sum or maximum over padded positions" in str(error)
            return True
        return False

    smallest = find(batches, leaks, settings=settings(max_examples=15, database=None, deadline=None))
    assert smallest["ids"].shape == (1, 1)


@pytest.mark.slow
def test_the_library_does_without_hypothesis():
    program = "import sys, ascend_fixes, ascend_fixes.shapes; print('hypothesis' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=1200)
    assert done.stdout.strip().endswith("False"), done.stderr[-1000:]
