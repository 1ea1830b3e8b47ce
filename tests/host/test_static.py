"""The operators of fixed output size against NumPy: eagerly on any shape and dtype, in graphs, under gradients."""

from __future__ import annotations

import mindspore
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from mindspore import Tensor, nn, ops

from ascend_fixes import _mindspore, host
from ascend_fixes.host import SizeError

DTYPES = [
    np.float16,
    np.float32,
    np.float64,
    np.int8,
    np.uint8,
    np.int16,
    np.uint16,
    np.int32,
    np.int64,
    np.uint32,
    np.bool_,
]
shapes = arrays.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=5)


def values_of(dtype):
    if np.issubdtype(dtype, np.floating):
        few = st.sampled_from([0.0, -0.0, 1.0, -2.5, float("inf"), float("-inf"), float("nan")])
        # Subnormals are left out: the CPU's vectorised kernels may flush them.
        width = 8 * np.dtype(dtype).itemsize
        return st.one_of(few, st.floats(width=width, allow_subnormal=False))
    return st.one_of(arrays.from_dtype(np.dtype(dtype)), st.sampled_from([dtype(0), dtype(1)]))


@st.composite
def inputs(draw, dtypes=tuple(DTYPES)):
    dtype = draw(st.sampled_from(dtypes))
    return draw(arrays.arrays(dtype, shapes, elements=values_of(dtype)))


def filled(array, size, fill):
    """An array brought to a size along its first axis."""
    rest = np.full((size - len(array), *array.shape[1:]), fill, array.dtype)
    return np.concatenate([array, rest])


@settings(max_examples=60)
@given(inputs(), st.integers(0, 4))
def test_unique_is_numpys(x, spare):
    values, inverse, counts = np.unique(x, return_inverse=True, return_counts=True)
    size = max(1, len(values) + spare)
    found = [output.asnumpy() for output in host.unique(Tensor(x), size, 1)]
    np.testing.assert_array_equal(found[0], filled(values, size, 1))
    np.testing.assert_array_equal(found[1], inverse.reshape(x.shape))
    np.testing.assert_array_equal(found[2], filled(counts, size, 0))
    assert found[3] == len(values) and found[3].shape == () and found[0].dtype == x.dtype


@settings(max_examples=60)
@given(inputs(), st.integers(0, 4), st.data())
def test_masked_select_is_numpys(x, spare, data):
    broadcast = data.draw(st.sampled_from([x.shape, x.shape[-1:], (1,) * x.ndim, (3, *x.shape)]))
    mask = data.draw(arrays.arrays(np.bool_, broadcast))
    both = np.broadcast_arrays(x, mask)
    expected = both[0][both[1]]
    size = max(1, len(expected) + spare)
    values, count = host.masked_select(Tensor(x), Tensor(mask), size, 1)
    np.testing.assert_array_equal(values.asnumpy(), filled(expected, size, 1))
    assert count.asnumpy() == len(expected) and values.dtype == Tensor(x).dtype


@settings(max_examples=60)
@given(inputs(), st.integers(0, 4))
def test_nonzero_and_where_are_numpys(x, spare):
    expected = np.argwhere(x)
    size = max(1, len(expected) + spare)
    indices, count = host.nonzero(Tensor(x), size, -1)
    np.testing.assert_array_equal(indices.asnumpy(), filled(expected, size, -1))
    columns, same = host.where(Tensor(x), size, -1)
    assert len(columns) == x.ndim and count.asnumpy() == same.asnumpy() == len(expected)
    for column, axis in zip(columns, np.where(x)):
        np.testing.assert_array_equal(column.asnumpy(), filled(axis, size, -1))


@settings(max_examples=60)
@given(shapes, st.integers(1, 5), st.data())
def test_top_k_is_numpys(rows, last, data):
    x = data.draw(arrays.arrays(np.float32, (*rows[1:], last), elements=st.floats(-9, 9, width=32)))
    size = data.draw(st.integers(1, last))
    k = data.draw(
        st.one_of(st.integers(-1, size), arrays.arrays(np.int32, x.shape[:-1], elements=st.integers(0, size)))
    )
    values, indices, count = host.top_k(
        Tensor(x), Tensor(k) if isinstance(k, np.ndarray) and k.ndim else int(k), size, 7
    )
    k = np.broadcast_to(np.maximum(k, 0), x.shape[:-1])
    chosen = np.arange(size) < k[..., None]
    np.testing.assert_array_equal(values.asnumpy(), np.where(chosen, -np.sort(-x)[..., :size], 7))
    np.testing.assert_array_equal(count.asnumpy(), k)
    indices = indices.asnumpy()
    assert (indices[~chosen] == -1).all()
    picked = np.take_along_axis(x, np.where(chosen, indices, 0), -1)
    np.testing.assert_array_equal(picked[chosen], values.asnumpy()[chosen])
    for row in indices.reshape(-1, size):
        assert len(set(row[row >= 0])) == (row >= 0).sum()


def test_no_dimensions_arrays_and_lists():
    for three in (Tensor(3), 3, np.int64(3)):
        assert [part.asnumpy().tolist() for part in host.unique(three, 2, 9)] == [[3, 9], 0, [1, 0], 1]
    for mask, chosen in ((True, [3, 9]), (False, [9, 9])):
        assert host.masked_select(3, mask, 2, 9)[0].asnumpy().tolist() == chosen
    assert host.nonzero([[0, 7]], np.int64(2), -1)[0].asnumpy().tolist() == [[0, 1], [-1, -1]]
    assert host.where(np.array([0, 7]), 2)[0][0].asnumpy().tolist() == [1, 0]
    assert host.top_k([1.0, 3.0], np.int64(1), 2)[0].asnumpy().tolist() == [3, 0]


def test_an_empty_batch_in_a_graph():
    x, mask = Tensor(np.zeros((0, 3), np.float32)), Tensor(np.zeros((0, 3), np.bool_))
    values, inverse, chosen, indices, best = [part.asnumpy() for part in Empty()(x, mask)]
    assert values.tolist() == chosen.tolist() == [7, 7] and inverse.shape == (0, 3)
    assert indices.tolist() == [[-1, -1], [-1, -1]] and best.shape == (0, 2)


class Empty(nn.Cell):
    def construct(self, x, mask):
        values, inverse, _, _ = host.unique(x, 2, 7)
        chosen, _ = host.masked_select(x, mask, 2, 7)
        return values, inverse, chosen, host.nonzero(x, 2, -1)[0], host.top_k(x, 1, 2)[0]


class Everything(nn.Cell):
    """Every operator in one graph, with something of a static shape after each."""

    def construct(self, x, k):
        values, inverse, counts, count = host.unique(x, 12, -1)
        chosen, number = host.masked_select(x, x > 1, 12)
        indices, found = host.nonzero(x, 12)
        columns, same = host.where(x > 0, 12)
        best, places, kept = host.top_k(x, k, 2)
        sums = (chosen * 2, ops.gather(values, inverse, 0), columns[0] + 1, best + 1)
        return (
            values,
            inverse,
            counts,
            count,
            chosen,
            number,
            indices,
            found,
            columns[1],
            same,
            best,
            places,
            kept,
            sums,
        )


class Dynamic(nn.Cell):
    def construct(self, x):
        return ops.unique(x)[0] * 2


def data_dependent(cell):
    """The operators of the cell's newest graph with an output shape that depends on data."""
    operators = _mindspore.graph_operators(cell)
    return [name for name, shapes, _ in operators if any(-1 in shape for shape in shapes)]


@pytest.fixture(scope="module")
def everything():
    return Everything()


@settings(max_examples=30)
@given(arrays.arrays(np.float32, (3, 4), elements=st.sampled_from([0.0, 1.0, 2.0, 3.5, -1.0])), st.integers(0, 2))
def test_in_a_compiled_graph(everything, x, k):
    outputs = everything(Tensor(x), Tensor(k, mindspore.int32))
    values, inverse, counts = np.unique(x, return_inverse=True, return_counts=True)
    expected = [filled(values, 12, -1), inverse.reshape(3, 4), filled(counts, 12, 0), len(values)]
    expected += [filled(x[x > 1], 12, 0), (x > 1).sum()]
    for output, want in zip(outputs, expected):
        np.testing.assert_array_equal(output.asnumpy(), want)
    np.testing.assert_array_equal(outputs[6].asnumpy(), filled(np.argwhere(x), 12, 0))
    np.testing.assert_array_equal(outputs[13][1].asnumpy(), x)
    assert outputs[12].asnumpy().tolist() == [k] * 3
    assert len(everything.compile_cache) == 1


def test_the_defect_and_its_absence(everything):
    dynamic = Dynamic()
    dynamic(Tensor(np.ones(4, np.float32)))
    assert any(name.startswith("Mul") for name in data_dependent(dynamic))
    everything(Tensor(np.ones((3, 4), np.float32)), Tensor(1, mindspore.int32))
    assert data_dependent(everything) == []


class Loss(nn.Cell):
    def construct(self, x):
        weights = ops.arange(1, 7).astype(mindspore.float32)
        distinct, _, _, _ = host.unique(x, 6, 0)
        chosen, _ = host.masked_select(x, x > 1, 6, 5)
        best, _, _ = host.top_k(x, 2, 2)
        return (distinct * weights).sum() + (chosen * weights).sum() * 10 + (best**2).sum()


class Original(nn.Cell):
    """The same with MindSpore's own operators, written out for six distinct elements."""

    def construct(self, x):
        weights = ops.arange(1, 7).astype(mindspore.float32)
        flat = ops.sort(x.reshape(-1))[0]
        chosen = ops.masked_select(x, x > 1)
        return (flat * weights).sum() + (chosen * weights[:3]).sum() * 10 + (ops.topk(x, 2)[0] ** 2).sum()


@settings(max_examples=10)
@given(st.permutations([0.5, -1.0, 0.25, 3.0, 2.0, 1.5]))
def test_gradients_are_those_of_the_originals(order):
    x = Tensor(np.array(order, np.float32).reshape(2, 3))
    np.testing.assert_allclose(gradient(x).asnumpy(), original_gradient(x).asnumpy(), rtol=1e-6)


gradient, original_gradient = mindspore.grad(Loss()), mindspore.grad(Original())


def test_the_gradient_of_a_repeated_element_goes_to_one_of_them():
    x = Tensor(np.array([[0.5, 0.5, 0.0]], np.float32))
    found = mindspore.grad(Distinct())(x).asnumpy()[0]
    assert sorted(found[:2].tolist()) == [0, 20] and found[2] == 10


class Distinct(nn.Cell):
    def construct(self, x):
        return (host.unique(x, 3)[0] * Tensor([10.0, 20.0, 30.0])).sum()


# --- overflow and wrong use ----------------------------------------------------------------------


class Overflowing(nn.Cell):
    def __init__(self, operator, check):
        super().__init__()
        self.operator, self.check = operator, check

    def construct(self, x):
        if self.operator == "unique":
            return host.unique(x, 2, 0, self.check)
        if self.operator == "masked_select":
            return host.masked_select(x, x > 0, 2, 0, self.check)
        if self.operator == "nonzero":
            return host.nonzero(x, 2, 0, self.check)
        if self.operator == "where":
            return host.where(x > 0, 2, 0, self.check)
        return host.top_k(x, 3, 2, 0, self.check)


OPERATORS = ["unique", "masked_select", "nonzero", "where", "top_k"]
OVERFLOWING = np.array([1.0, 3.0, 2.0, 0.0], np.float32)


# A graph that fails takes seconds to end.
@pytest.mark.parametrize(
    "operator", ["unique", *(pytest.param(name, marks=pytest.mark.slow) for name in OPERATORS[1:])]
)
def test_overflow_is_reported_in_graphs(operator):
    least = 4 if operator == "unique" else 3
    with pytest.raises(SizeError, match=f"{operator} found {least} elements for size=2; raise size"):
        Overflowing(operator, True)(Tensor(OVERFLOWING))


@pytest.mark.parametrize("operator", OPERATORS)
def test_overflow_is_reported_eagerly_and_can_be_read_off_the_count(operator):
    x, least = Tensor(OVERFLOWING), 4 if operator == "unique" else 3
    with pytest.raises(SizeError, match=f"{operator} found {least} elements for size=2"):
        Overflowing(operator, True).construct(x)
    outputs = Overflowing(operator, False).construct(x)
    count = outputs[-1]
    assert count.asnumpy().max() == least
    first = outputs[0][0] if operator == "where" else outputs[0]
    expected = {"unique": [0, 1], "masked_select": [1, 3], "nonzero": [[0], [1]], "where": [0, 1], "top_k": [3, 2]}
    assert first.asnumpy().tolist() == expected[operator]
    if operator == "unique":
        assert outputs[1].asnumpy().max() == 1  # the inverse stays inside


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: host.unique(x, 0), "size=0 holds nothing"),
        (lambda x: host.nonzero(x, -1), "size=-1"),
        (lambda x: host.top_k(x, 1, 4), "size=4 does not fit the last axis"),
        (lambda x: host.masked_select(x, Tensor(np.ones(2, np.bool_)), 3), "cannot be broadcast"),
        (lambda x: host.unique(x.astype(mindspore.int32), 3, 0.5), "fill=0.5 is no Int32"),
        (lambda x: host.unique(Tensor(np.zeros(2, np.uint64)), 3), "uint64"),
        (lambda x: host.nonzero(Tensor(1.0), 3), "no axes to index"),
        (lambda x: host.unique(x.astype(mindspore.int32), 3, float("nan")), "fill=nan is no Int32"),
        (lambda x: host.masked_select(x, x.astype(mindspore.int32), 3), "mask is Int32"),
    ],
)
def test_wrong_use_is_named(call, message):
    with pytest.raises(SizeError, match=message):
        call(Tensor(np.ones((2, 3), np.float32)))


class Wrong(nn.Cell):
    def construct(self, x):
        return host.unique(x, 0)


def test_wrong_use_is_named_while_compiling():
    with pytest.raises(SizeError, match="size=0 holds nothing"):
        Wrong()(Tensor(np.ones((2, 3), np.float32)))
