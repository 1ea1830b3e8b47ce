"""Joining any number of Tensors without an operator of more than the limit of inputs."""

from __future__ import annotations

import mindspore
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mindspore import Tensor, nn, ops

from ascend_fixes import _mindspore, host
from ascend_fixes.host import InputsError


@settings(max_examples=30)
@given(st.integers(1, 40), st.integers(2, 6), st.integers(-3, 2), st.booleans())
def test_as_numpy_for_every_count_axis_and_limit(count, limit, axis, stacked):
    arrays = [np.full((2, 1, 3), number, np.float32) for number in range(count)]
    join, reference = (host.stack, np.stack) if stacked else (host.concat, np.concatenate)
    found = join([Tensor(array) for array in arrays], axis, limit)
    np.testing.assert_array_equal(found.asnumpy(), reference(arrays, axis))


class Unrolled(nn.Cell):
    """A recurrence of 48 steps whose states are joined; MindSpore's own way or in groups of 20."""

    def __init__(self, stacked, own):
        super().__init__()
        self.stacked, self.own = stacked, own

    def construct(self, x):
        states = []
        for _ in range(48):
            x = x + 1
            states.append(x)
        if self.own:
            return ops.stack(states, 1) if self.stacked else ops.concat(states, 0)
        return host.stack(states, 1, 20) if self.stacked else host.concat(states, 0, 20)


def joins(cell):
    """How many operators of the cell's graph join Tensors."""
    return sum(name in ("Concat", "Stack") for name, _, _ in _mindspore.graph_operators(cell))


@pytest.mark.parametrize("stacked", [False, True])
def test_the_defect_and_its_absence_in_a_graph_and_its_gradient(stacked):
    x = Tensor(np.arange(3, dtype=np.float32))
    own, ours = Unrolled(stacked, True), Unrolled(stacked, False)
    np.testing.assert_array_equal(own(x).asnumpy(), ours(x).asnumpy())
    assert joins(own) == 1 and joins(ours) == 4  # 20, 20 and 8, then the three
    np.testing.assert_array_equal(mindspore.grad(ours)(x).asnumpy(), np.full(3, 48, np.float32))


@pytest.mark.parametrize("name", ["concat", "stack"])
@pytest.mark.parametrize("count", [191, 192, 200, 382, 191 * 191 + 1])
def test_no_operator_gets_192_inputs(monkeypatch, name, count):
    seen = []

    def counting(tensors, axis):
        seen.append(len(tensors))
        return sum(size for size in tensors)

    # Sizes stand for Tensors: joining adds them up.
    monkeypatch.setattr("ascend_fixes.host._splitting.ops.concat", counting)
    monkeypatch.setattr("ascend_fixes.host._splitting.ops.stack", counting)
    assert getattr(host, name)([1] * count) == count
    assert max(seen) <= 191


def test_wrong_use_is_named():
    with pytest.raises(InputsError, match="no tensors"):
        host.concat([])
    with pytest.raises(InputsError, match="limit=1"):
        host.stack([Tensor([1.0])], 0, 1)
