"""What S9 puts in the place of `nn.Dense`, `ops.split` and `ops.chunk` gives the same results, on CPU."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mindspore import Tensor, nn, ops

from ascend_fixes import _mindspore
from ascend_fixes.defects.s9_kernels_per_shape import chunk, dense, split

ROWS = st.lists(st.integers(1, 4), min_size=0, max_size=3)


def random(*shape: int) -> Tensor:
    return Tensor(np.random.default_rng(0).standard_normal(shape).astype(np.float32))


@settings(max_examples=25, deadline=None)
@given(ROWS, st.integers(1, 9), st.integers(1, 9), st.booleans(), st.sampled_from([None, "relu", "tanh"]))
def test_dense_of_any_shape(rows, width, out, has_bias, activation):
    layer, x = nn.Dense(width, out, has_bias=has_bias, activation=activation), random(*rows, 2, width)
    assert layer(x).shape == dense(layer, x).shape
    np.testing.assert_allclose(dense(layer, x).asnumpy(), layer(x).asnumpy(), rtol=1e-5, atol=1e-6)


def test_the_gradients_of_dense():
    layer, x = nn.Dense(5, 7), random(2, 3, 5)
    weights = ms.ParameterTuple(layer.trainable_params())

    def plain(x):
        return (layer(x) ** 2).sum()

    def changed(x):
        return (dense(layer, x) ** 2).sum()

    (dx, dw), (ex, ew) = (ms.value_and_grad(function, 0, weights)(x)[1] for function in (changed, plain))
    for found, expected in zip((dx, *dw), (ex, *ew)):
        np.testing.assert_allclose(found.asnumpy(), expected.asnumpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(
    _mindspore.version() < (2, 7, 1), reason="the views of mindspore.mint are not there on CPU before MindSpore 2.7.1"
)
@settings(max_examples=25, deadline=None)
@given(st.integers(1, 12), st.data(), st.sampled_from([np.float32, np.float16, np.int32]))
def test_split_and_chunk(length, data, dtype):
    x = Tensor(np.arange(2 * length).reshape(2, length).astype(dtype))
    size = data.draw(st.integers(1, length))
    sizes = [size, length - size] if size < length else [length]
    pairs = [(split(x, size, 1), ops.split(x, size, 1)), (split(x, sizes, 1), ops.split(x, sizes, 1))]
    if length % size == 0:
        pairs.append((chunk(x, length // size, 1), ops.chunk(x, length // size, 1)))
    for found, expected in pairs:
        assert [part.asnumpy().tolist() for part in found] == [part.asnumpy().tolist() for part in expected]


def test_the_patch_is_for_ascend_alone():
    import ascend_fixes

    by_id = {status.id: status for status in ascend_fixes.status()}
    assert by_id["S9"].state == "not applicable" and "Ascend" in by_id["S9"].reason


@pytest.mark.parametrize("chunks", [2, 3, 5])
def test_chunk_of_a_length_that_does_not_divide(chunks):
    x = Tensor(np.arange(7, dtype=np.float32))
    assert [p.asnumpy().tolist() for p in chunk(x, chunks)] == [p.asnumpy().tolist() for p in ops.chunk(x, chunks)]
