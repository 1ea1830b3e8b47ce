"""What each rank of a data-parallel run computes of a batch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.common import training


def shares(monkeypatch, size, count):
    arrays = (np.arange(size), np.arange(3 * size).reshape(3, size))
    for rank in range(count):
        monkeypatch.setattr(training, "_here", lambda rank=rank: (rank, count))
        yield training.share(arrays, {1: 1}), training.share_rows(size)


@given(size=st.integers(1, 40), count=st.integers(1, 6))
def test_every_row_is_somebodys_and_nobody_is_left_without(size, count):
    with pytest.MonkeyPatch.context() as monkeypatch:
        found = list(shares(monkeypatch, size, count))
    rows = np.concatenate([one for (one, _), _ in found])
    assert set(rows) == set(range(size)) and len(rows) == max(size, count)
    for (one, other), most in found:
        assert 1 <= len(one) <= most and np.array_equal(other[0], one)
        assert np.array_equal(other[2], 2 * size + one)


def test_alone_nothing_changes():
    array = np.arange(5)
    assert training.share([array])[0] is array and training.share_rows(5) == 5 and training.mean(0.1) == 0.1
