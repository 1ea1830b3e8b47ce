"""Placing operators on the host, read off the compiled graph."""

from __future__ import annotations

import copy

import mindspore
import numpy as np
import pytest
from mindspore import Tensor, nn, ops

from ascend_fixes import _mindspore
from ascend_fixes.errors import UnknownNameError
from ascend_fixes.host import place
from ascend_fixes.shapes import Buckets, bucketed, limit_graphs
from ascend_fixes.shapes._fingerprint import fingerprint


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


class Functions(nn.Cell):
    """Functions of `mindspore.ops` that hold their primitive in a module, and ones that make it while compiling."""

    def construct(self, x):
        return ops.unique(x)[0], ops.nonzero(x), ops.masked_select(x, x > 1), ops.relu(x)


ONCE = Tensor(np.array([1.0, 2.0, 1.0], np.float32))


def targets(cell):
    cell(ONCE)
    return {
        name: attributes["primitive_target"]
        for name, _, attributes in _mindspore.graph_operators(cell)
        if "primitive_target" in attributes
    }


def test_functions_of_ops_are_placed_in_the_graphs_of_this_cell_alone():
    assert targets(Functions()) == {}
    cell = Functions()
    report = place(cell)
    assert report.placed == () and "call the cell to measure" in str(report)
    assert targets(cell) == {"Unique": "CPU", "NonZero": "CPU", "MaskedSelect": "CPU"}
    assert "primitive_target" not in ops.function.array_func.unique_.attrs and targets(Functions()) == {}
    before = [output.asnumpy().tolist() for output in Functions()(ONCE)]
    assert [output.asnumpy().tolist() for output in cell(ONCE)] == before


@pytest.mark.parametrize(
    "after", [lambda cell: limit_graphs(cell, 8), lambda cell: bucketed(cell, {"x": 0}, Buckets([8]))]
)
def test_a_bound_or_buckets_given_later_leave_the_placement(after):
    cell = Functions()
    place(cell)
    after(cell)
    assert targets(cell) == {"Unique": "CPU", "NonZero": "CPU", "MaskedSelect": "CPU"}


def test_a_deep_copy_is_placed_and_compiles_itself():
    cell = Functions()
    place(cell)
    twin = copy.deepcopy(cell)
    assert targets(twin) == {"Unique": "CPU", "NonZero": "CPU", "MaskedSelect": "CPU"}
    assert _mindspore.compiled_phases(twin) and not _mindspore.compiled_phases(cell)


def test_placements_add_up():
    cell = Functions()
    place(cell, ["Unique"])
    place(cell, ["ReLU"])
    assert targets(cell) == {"Unique": "CPU", "ReLU": "CPU"}


def test_a_placed_cell_has_another_key_in_the_compile_cache():
    plain, placed = Functions(), Functions()
    place(placed)
    assert fingerprint(plain, (ONCE,), {}) != fingerprint(placed, (ONCE,), {})


def test_the_report_counts_what_crosses():
    cell = Functions()
    report = place(cell, ["ReLU"])
    cell(ONCE)
    assert report.transfers() == {"ReLU": 24}  # three float32 in, three out
    assert "ReLU: 24 bytes to the host and back" in str(report)
    cell(Tensor(np.ones(5, np.float32)))
    assert report.transfers() == {"ReLU": 40}


def test_by_default_what_the_wheel_has_no_kernel_for_is_placed():
    chosen = place(nn.ReLU()).operators
    assert {"Unique", "NonZero", "MaskedSelect"} <= chosen and not {"Add", "MatMul", "TopK", "ReLU"} & chosen
    assert all("CPU" in _mindspore.documented_platforms().get(name, {"CPU"}) for name in chosen)


def test_an_exported_model_keeps_the_placement_of_held_primitives(tmp_path):
    from mindspore.train import mind_ir_pb2

    cell = Inner()
    place(cell)
    mindspore.export(cell, ONCE, file_name=str(tmp_path / "inner"), file_format="MINDIR")
    model = mind_ir_pb2.ModelProto()
    model.ParseFromString((tmp_path / "inner.mindir").read_bytes())
    found = {
        primitive.op_type: [part.s for part in primitive.attribute if part.name == "primitive_target"]
        for primitive in model.primitives
    }
    assert found["Unique"] == [b"CPU"] and found["ReLU"] == []


def test_by_default_the_data_dependent_ones_carry_the_attribute_in_the_graph():
    assert targets(Outer()) == {}
    cell = Outer()
    report = place(cell)
    assert report.placed == (("inner.unique", "Unique"), ("masked", "MaskedSelect"))
    assert targets(cell) == {"Unique": "CPU", "MaskedSelect": "CPU"}
    assert "inner.unique: Unique runs on the host" in str(report) and "Unique: " in str(report)


def test_by_name():
    cell = Outer()
    assert place(cell, ["ReLU"]).placed == (("inner.relu", "ReLU"),)
    assert targets(cell) == {"ReLU": "CPU"}


def test_a_cell_without_such_primitives_says_so():
    report = place(nn.SequentialCell())
    assert report.placed == () and "holds no primitive" in str(report)


@pytest.mark.parametrize(
    ("names", "message"),
    [(["Uniqe"], "did you mean 'Unique'"), ("Unique", "sequence of names"), ([ops.ReLU()], "sequence of names")],
)
def test_an_unknown_name_tags_nothing(names, message):
    cell = Outer()
    with pytest.raises(UnknownNameError, match=message):
        place(cell, ["ReLU", *names] if isinstance(names, list) else names)
    assert targets(cell) == {}
