"""A masked model gives the same at every padded width, whatever fills the padding: in compiled graphs, by `bucketed`."""

from __future__ import annotations

import functools

import mindspore as ms
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mindspore import Tensor
from shapes_leaks import Graded

from ascend_fixes.shapes import Buckets, bucketed, graphs

# Relative to the largest value of each result.
TOLERANCE = {np.float32: 1e-5, np.float16: 1e-2}


@functools.cache
def shared(dtype, axis):
    """One cell for each precision and axis, so that few graphs are compiled."""
    ms.set_seed(1)
    return Graded(ms.float16 if dtype is np.float16 else ms.float32, axis)


def batch(dtype, axis, length, seed):
    random = np.random.default_rng(seed)
    x, mask = random.normal(size=(2, length, 4)).astype(dtype), np.ones((2, length), np.float32)
    mask[1, random.integers(1, length + 1) :] = 0
    x *= mask[..., None].astype(dtype)
    return (x, mask) if axis == 1 else (x.swapaxes(0, 1).copy(), mask.T.copy())


def flat(outputs):
    loss, states, last, gradients = outputs
    return {
        "loss": loss.asnumpy(),
        "states": states.asnumpy(),
        "final state": last.asnumpy(),
        **{f"gradient {place}": gradient.asnumpy() for place, gradient in enumerate(gradients)},
    }


@pytest.mark.slow
@settings(max_examples=40)
@given(
    st.sampled_from([(np.float32, 1), (np.float16, 1), (np.float32, 0)]),
    st.sampled_from([3, 6]),
    st.sampled_from([6, 8]),
    st.one_of(st.floats(-60000, 60000, width=16), st.sampled_from([0.0, -1.0, 1e-7])),
    st.integers(0, 99),
)
def test_padding_changes_nothing(how, length, width, garbage, seed):
    dtype, axis = how
    cell = shared(dtype, axis)
    x, mask = batch(dtype, axis, length, seed)
    own = flat(cell(Tensor(x), Tensor(mask)))
    padded = bucketed(
        cell, {"x": axis, "mask": axis}, Buckets([width]), pad={"x": garbage, "mask": 0}, outputs={1: axis}
    )
    found = flat(padded(x, mask))
    for name, expected in own.items():
        assert found[name].shape == expected.shape
        # A gradient is compared to the largest of them all: that of a bias may be nothing but rounding.
        values = [v for n, v in own.items() if n.startswith("gradient")] if name.startswith("gradient") else [expected]
        error = np.abs(found[name] - expected).max() / max(np.abs(value).max() for value in values)
        assert error <= TOLERANCE[dtype], f"{name} changes by {error:.2g}"
    assert len(graphs(padded)) == 1


def test_the_same_test_finds_a_leak():
    """With 1 in the mask's padding the model takes it for content."""
    cell = shared(np.float32, 1)
    x, mask = batch(np.float32, 1, 6, 0)
    own = flat(cell(Tensor(x), Tensor(mask)))
    leaking = bucketed(cell, {"x": 1, "mask": 1}, Buckets([8]), pad={"x": 3, "mask": 1}, outputs={1: 1})
    assert abs(flat(leaking(x, mask))["loss"] - own["loss"]) > 1e-3
