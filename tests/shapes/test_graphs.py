from __future__ import annotations

import copy
import os
import subprocess
import sys

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn
from shapes_cells import Outer, Pooled, Same, Scorer, batch, pooled_step, tensors

from ascend_fixes.shapes import Buckets, CellTypeError, GraphLimitError, bucketed, graphs, limit_graphs


def ones(*shape, dtype=ms.float32):
    return Tensor(np.ones(shape), dtype)


def test_the_record_says_what_was_compiled_why_and_how_long_it_took():
    cell = limit_graphs(Same(), 5)
    for value in (ones(2, 8), ones(2, 9), ones(2, 8), ones(2, 8, dtype=ms.int32)):
        cell(value)
    found = graphs(cell)
    assert [graph.arguments for graph in found] == [
        {"x": "Float32[2, 8]"},
        {"x": "Float32[2, 9]"},
        {"x": "Int32[2, 8]"},
    ]
    assert found[0].reason == "first graph"
    assert found[1].reason == "argument 'x' changed from Float32[2, 8] to Float32[2, 9]"
    assert all(0 < graph.seconds < 60 and graph.phase == "train" for graph in found)


def test_graphs_compiled_unwatched_are_read_back():
    cell = Pooled()
    cell(*tensors(*batch(5)))
    (graph,) = graphs(cell)
    assert graph.arguments == {"ids": "Int32[2, 5]", "mask": "Float32[2, 5]"}
    assert graph.seconds is None and graph.reason == "not watched"


def test_the_limit_counts_graphs_and_not_calls():
    cell = limit_graphs(Same(), 2)
    for _ in range(3):
        cell(ones(1, 2)), cell(ones(1, 3))
    with pytest.raises(GraphLimitError):
        cell(ones(1, 4))
    assert len(graphs(cell)) == 2
    cell(ones(1, 2))
    limit_graphs(cell, 3)(ones(1, 4))
    limit_graphs(cell, None)(ones(1, 5))
    assert len(graphs(cell)) == 4


def test_graphs_compiled_before_the_limit_count():
    cell = Same()
    cell(ones(1, 2))
    limit_graphs(cell, 1)
    cell(ones(1, 2))
    with pytest.raises(GraphLimitError, match="graph 2 of at most 1"):
        cell(ones(1, 3))


def test_the_error_names_argument_values_and_the_bucket_that_would_have_held_it():
    cell = limit_graphs(Same(), 2)
    cell(ones(2, 8)), cell(ones(2, 16))
    with pytest.raises(GraphLimitError) as error:
        cell(ones(2, 12))
    assert str(error.value) == (
        "Same would compile graph 3 of at most 2: argument 'x' changed from Float32[2, 16] to Float32[2, 12]. "
        "The graph compiled for 'x' [2, 16] would have held it: pad with shapes.bucketed"
    )
    with pytest.raises(GraphLimitError, match=r"No compiled size of 'x' holds \[2, 20\]: add a bucket"):
        cell(ones(2, 20))


def test_python_values_are_named():
    cell = limit_graphs(Scorer().set_train(False), 2)
    inputs = tensors(*batch(4))
    cell(*inputs, 1), cell(*inputs, 2)
    with pytest.raises(GraphLimitError, match="argument 'scale' changed from 2 to 3. Pass 'scale' as a Tensor"):
        cell(*inputs, 3)


def test_a_bucketed_cell_names_its_own_cell_and_its_buckets():
    cell = bucketed(Pooled(), {"ids": 1, "mask": 1}, Buckets([4, 8, 16]), max_graphs=2)
    cell(*batch(3)), cell(*batch(7))
    with pytest.raises(
        GraphLimitError,
        match="Pooled would compile graph 3 of at most 2: argument 'ids' changed "
        r"from Int32\[2, 8\] to Int32\[2, 16\].* Its buckets are length: \(4, 8, 16\): use fewer",
    ):
        cell(*batch(12))


def test_training_cells_name_the_arguments_of_the_network_they_train():
    cell = limit_graphs(pooled_step(), 1)
    label = np.zeros(2, np.int32)
    cell(*tensors(*batch(4), label))
    with pytest.raises(GraphLimitError, match="argument 'ids' changed"):
        cell(*tensors(*batch(5), label))


def test_a_bucketed_cell_inside_another_ones_graph_is_pointed_out():
    cell = limit_graphs(Outer(bucketed(Pooled(), {"ids": 1, "mask": 1}, Buckets([8]))), 1)
    cell(*tensors(*batch(4)))
    with pytest.raises(GraphLimitError, match="Its sub-cell 'inner' is bucketed, which pads only when it is called"):
        cell(*tensors(*batch(5)))


def test_a_deep_copy_has_the_limit_and_its_own_record():
    cell = limit_graphs(Same(), 1)
    cell(ones(1, 2))
    other = copy.deepcopy(cell)
    assert graphs(other) == []
    other(ones(1, 3))
    assert [graph.arguments["x"] for graph in graphs(other)] == ["Float32[1, 3]"]
    assert [graph.arguments["x"] for graph in graphs(cell)] == ["Float32[1, 2]"]
    with pytest.raises(GraphLimitError):
        other(ones(1, 4))


# --- jit functions -----------------------------------------------------------------------------------


def made_under_jit():
    """A jit function of its own, whose graphs are not those of another made from the same lines."""

    @ms.jit
    def scaled(x, factor):
        return x * factor

    return scaled


def test_a_jit_function_is_bounded_and_recorded():
    scaled, other = made_under_jit(), made_under_jit()
    scaled(ones(2, 3), 1), other(ones(2, 3), 1)
    assert [graph.reason for graph in graphs(scaled)] == ["not watched"]
    assert limit_graphs(scaled, 3) is scaled
    scaled(ones(2, 3), 1), scaled(ones(2, 3), 2), scaled(ones(2, 4), 2)
    with pytest.raises(GraphLimitError, match=r"scaled would compile graph 4 of at most 3: argument 'factor' changed"):
        scaled(ones(2, 4), 3)
    scaled(ones(2, 4), 2), other(ones(2, 4), 3)
    found = graphs(scaled)
    assert [graph.arguments for graph in found[1:]] == [
        {"x": "Float32[2, 3]", "factor": "2"},
        {"x": "Float32[2, 4]", "factor": "2"},
    ]
    assert found[2].reason == "argument 'x' changed from Float32[2, 3] to Float32[2, 4]" and found[2].seconds > 0
    assert len(graphs(other)) == 2


def square(x):
    return (x * x).sum()


class Stepper:
    @ms.jit
    def step(self, x):
        return x + 1


def test_the_gradient_function_under_jit_is_named_by_the_function_it_was_made_of():
    step = limit_graphs(ms.jit(ms.value_and_grad(square)), 1)
    step(ones(2))
    with pytest.raises(GraphLimitError, match=r"square would compile graph 2 of at most 1: argument 'x' changed"):
        step(ones(3))


def test_a_bound_method_under_jit_is_bounded_for_its_object_alone():
    one, other = Stepper(), Stepper()
    limit_graphs(one.step, 1)
    one.step(ones(2)), other.step(ones(2)), other.step(ones(3))
    with pytest.raises(GraphLimitError, match="Stepper would compile graph 2 of at most 1"):
        one.step(ones(3))
    assert len(graphs(one.step)) == 1 and len(graphs(other.step)) == 2


def test_what_is_not_compiled_cannot_be_bounded():
    for thing in (square, len, Same):
        with pytest.raises(CellTypeError, match="is nothing that MindSpore compiles"):
            limit_graphs(thing, 2)


# --- containers --------------------------------------------------------------------------------------


class Stateful(nn.Cell):
    def construct(self, x, state):
        return x.sum() + state[0].sum() * state[1].sum()


def state(value):
    return ones(2, 2) * value, ones(2, 2)


def test_a_tuple_of_tensors_is_named_as_the_reason():
    cell = limit_graphs(Stateful(), 2)
    cell(ones(2), state(1)), cell(ones(2), state(2))
    with pytest.raises(
        GraphLimitError, match="argument 'state' is a tuple of Tensors.*Pass 'state' as mindspore.mutable"
    ):
        cell(ones(2), state(3))
    bounded = limit_graphs(Stateful(), 1)
    assert [float(bounded(ones(2), ms.mutable(state(value)))) for value in (1, 2, 3)] == [18, 34, 50]


def test_a_bucketed_cell_with_a_tuple_state_compiles_once():
    cell = bucketed(Stateful(), {"x": 0}, Buckets([4]))
    assert [float(cell(ones(3), state(value))) for value in (1, 2, 3)] == [19, 35, 51]
    assert [float(cell(np.ones(2, np.float32), [np.ones(2, np.float32)] * 2)) for _ in range(2)] == [6, 6]
    assert len(graphs(cell)) == 2


@pytest.mark.parametrize("n", [0, -1, 1.5, True, "3"])
def test_a_bound_that_is_no_number_of_graphs_is_refused(n):
    with pytest.raises(GraphLimitError, match="is no number of graphs"):
        limit_graphs(Same(), n)


PATCHED = """
import sys, warnings
sys.path.insert(0, sys.argv[1])
import mindspore as ms, numpy as np
from shapes_cells import Same, scaled_by
from ascend_fixes.cures import patched, unpatch
from ascend_fixes.shapes import graphs
ms.set_device("CPU"); ms.set_context(mode=ms.GRAPH_MODE)
warnings.simplefilter("always")
with patched("S5"), warnings.catch_warnings(record=True) as caught:
    cell = Same()
    for length in range(1, 12):
        cell(ms.Tensor(np.ones((1, length)), ms.float32))
    other = Same()
    for length in range(1, 4):
        other(ms.Tensor(np.ones((1, length)), ms.float32))
with patched("S5"), warnings.catch_warnings(record=True) as told:
    for factor in range(1, 12):
        scaled_by(ms.Tensor(np.ones((1, 2)), ms.float32), factor)
print(len(told), told[0].filename, told[0].message)
print(len(caught), len(graphs(cell)), graphs(cell)[-1].reason, caught[0].message)
"""


@pytest.mark.slow
def test_the_patch_warns_once_per_cell_past_its_threshold(tmp_path):
    command = [sys.executable, "-c", PATCHED, os.path.dirname(__file__)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=1200)
    assert done.returncode == 0, done.stderr[-2000:]
    *_, of_jit, said = done.stdout.strip().splitlines()
    assert of_jit.startswith("1 <string> scaled_by has compiled 9 graphs") and "changed from 8 to 9" in of_jit
    assert said.startswith("1 11 argument 'x' changed from Float32[1, 10] to Float32[1, 11] Same has compiled 9 graphs")
    assert "No compiled size of 'x' holds [1, 9]: add a bucket" in said
