"""A bucketed cell, made once for each file of tests that asks for it."""

from __future__ import annotations

import pytest
from shapes_cells import (
    Scorer,
)

from ascend_fixes.shapes import (
    Buckets,
    bucketed,
)

BOTH = {"ids": 1, "mask": 1}
SCORES = {0: 1, 1: {"states": 1, "pooled": {1: 1}}}


@pytest.fixture(scope="module")
def scorer():
    return Scorer().set_train(False)


@pytest.fixture(scope="module")
def wrapped(scorer):
    return bucketed(scorer, BOTH, Buckets([4, 8, 16]), outputs=SCORES)
