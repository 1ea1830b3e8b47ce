"""Placing operators on the host, read off the compiled graph."""

from __future__ import annotations

import numpy as np
import pytest
from mindspore import Tensor, nn, ops

from ascend_fixes import _mindspore
from ascend_fixes.errors import UnknownNameError
from ascend_fixes.host import place


class Inner(nn.Cell):
    def __init__(self):
        super().__init__()
        self.unique = ops.Unique()
        self.relu = ops.ReLU()

    def construct(self, x):
        return self.unique(self.relu(x))[0]


class Outer(nn.Cell):
    def __init__(self):
        super().__init__()
        self.inner = Inner()
        self.masked = ops.MaskedSelect()

    def construct(self, x):
        return self.inner(x), self.masked(x, x > 1)


def targets(cell):
    cell(Tensor(np.array([1.0, 2.0, 1.0], np.float32)))
    return {
        name: attributes["primitive_target"]
        for name, _, attributes in _mindspore.graph_operators(cell)
        if "primitive_target" in attributes
    }


def test_by_default_the_data_dependent_ones_carry_the_attribute_in_the_graph():
    assert targets(Outer()) == {}
    cell = Outer()
    report = place(cell)
    assert report.placed == (("inner.unique", "Unique"), ("masked", "MaskedSelect"))
    assert targets(cell) == {"Unique": "CPU", "MaskedSelect": "CPU"}
    assert "inner.unique: Unique runs on the host" in str(report) and "2 placed" in str(report)


def test_by_name():
    cell = Outer()
    assert place(cell, ["ReLU"]).placed == (("inner.relu", "ReLU"),)
    assert targets(cell) == {"ReLU": "CPU"}


def test_a_cell_without_such_primitives_says_so():
    report = place(nn.SequentialCell())
    assert report.placed == () and "no primitive" in str(report)


@pytest.mark.parametrize(("names", "message"), [(["Uniqe"], "did you mean 'Unique'"), ("Unique", "sequence of names")])
def test_an_unknown_name_tags_nothing(names, message):
    cell = Outer()
    with pytest.raises(UnknownNameError, match=message):
        place(cell, ["ReLU", *names] if isinstance(names, list) else names)
    assert targets(cell) == {}
