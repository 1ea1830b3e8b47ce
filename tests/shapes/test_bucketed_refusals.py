"""`shapes.bucketed`: over-long inputs, and wrong use."""

from __future__ import annotations

import sys
import warnings

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn
from shapes_cells import (
    Pooled,
    PooledLoss,
    Same,
    Scorer,
    assert_same,
    batch,
    tensors,
)

from ascend_fixes import _mindspore
from ascend_fixes.shapes import (
    AxesError,
    BucketedCell,
    Buckets,
    Grid,
    LengthError,
    PadValueError,
    bucketed,
    graphs,
    padding_counts,
)

BOTH = {"ids": 1, "mask": 1}
SCORES = {0: 1, 1: {"states": 1, "pooled": {1: 1}}}


# --- over-long inputs -----------------------------------------------------------------------------


def test_an_over_long_input_is_an_error_that_says_what_to_do():
    cell = bucketed(Pooled(), BOTH, Buckets([4, 8]))
    with pytest.raises(LengthError, match="argument 'ids' has length 9, over the largest bucket 8; add a bucket"):
        cell(*batch(9))
    assert graphs(cell) == [] and padding_counts(cell).calls == 0


@pytest.mark.parametrize("mode", [ms.GRAPH_MODE, ms.PYNATIVE_MODE])
@pytest.mark.parametrize("make", [Pooled, None], ids=["wrapped", "decorated"])
def test_the_warning_about_an_over_long_call_is_about_the_line_of_the_call(make, mode):
    if make is None:

        @bucketed(axes=BOTH, buckets=Buckets([4]), overflow="grow")
        class Decorated(Pooled):
            pass

        cell = Decorated()
    else:
        cell = bucketed(make(), BOTH, Buckets([4]), overflow="grow")
    with _mindspore.mode_set(mode), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        cell(*batch(6)), (line := sys._getframe().f_lineno)
    assert [(w.filename, w.lineno) for w in caught if "over the largest bucket" in str(w.message)] == [(__file__, line)]


def test_growing_makes_a_counted_graph_that_later_calls_share():
    cell = bucketed(Pooled(), BOTH, Buckets([4]), overflow="grow")
    with pytest.warns(UserWarning, match="lengths {'length': 9} .* a new graph is compiled for {'length': 16}"):
        found = cell(*batch(9))
    cell(*batch(12))
    assert len(graphs(cell)) == 1 and padding_counts(cell).grown == 1
    assert_same(found, cell.cell(*tensors(*batch(9))))


def test_truncating_cuts_inputs_and_counts():
    cell = bucketed(Scorer().set_train(False), BOTH, Buckets([4]), outputs=SCORES, overflow="truncate")
    ids, mask = batch(9)
    with pytest.warns(UserWarning, match="they are cut to {'length': 4}"):
        found = cell(ids, mask)
    assert found[0].shape == (2, 4, 3)
    assert_same(found[0], cell(ids[:, :4], mask[:, :4])[0])
    assert padding_counts(cell).truncated == 1 and len(graphs(cell)) == 1


# --- wrong use ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options, said",
    [
        ({"axes": None}, "axes=None names no ragged axis"),
        ({"axes": {"idz": 1}}, "axes= names 'idz', but construct takes ids, mask, scale"),
        ({"axes": {"ids": "1"}}, "axes of 'ids' are '1'"),
        ({"axes": {"ids": ()}}, r"axes of 'ids' are \(\)"),
        ({"buckets": [4, 8]}, r"buckets=\[4, 8\]; pass a Buckets"),
        ({"buckets": Grid([(4, 4)])}, "a Grid gives two sizes, but axes= names 1"),
        ({"buckets": {"width": Buckets([4])}}, "each length needs one"),
        ({"buckets": {"length": Grid([(4, 4)])}}, "pass a Buckets for 1"),
        ({"pad": {"scale": 0}}, "pad= names 'scale'"),
        ({"masks": {"mask": "scale"}}, "masks= names 'scale'"),
        ({"masks": {"nask": "ids"}}, "masks= names 'nask'"),
        ({"outputs": {0: {1: "width"}}}, "outputs name the length 'width'"),
        ({"overflow": "wrap"}, "overflow='wrap' is unknown; choose one of error, grow, truncate"),
    ],
)
def test_a_plan_that_does_not_fit_is_refused_when_it_is_made(scorer, options, said):
    with pytest.raises(AxesError, match=said) as error:
        bucketed(scorer, **{"axes": BOTH, "buckets": Buckets([4, 8]), **options})
    assert "\n" not in str(error.value)


def test_only_cells_are_bucketed():
    with pytest.raises(TypeError, match="the function given to bucketed makes a"):
        bucketed(lambda x: x, {"x": 1}, Buckets([4]))
    with pytest.raises(TypeError, match="not bucketed; wrap it"):
        padding_counts(Pooled())


def test_a_call_that_does_not_fit_the_plan_is_refused(wrapped):
    ids, mask = batch(4)
    with pytest.raises(LengthError, match="argument 'mask' has length 3, but another argument of this call has 4"):
        wrapped(ids, mask[:, :3])
    with pytest.raises(LengthError, match=r"argument 'ids' has shape \[4\]"):
        wrapped(ids[0], mask)
    with pytest.raises(TypeError, match="missing a required argument: 'ids'"):
        wrapped(mask=mask)


@pytest.mark.parametrize("dtype, pad", [("int32", -0.5), ("uint8", -1), ("int64", float("nan")), ("float16", -1e9)])
def test_a_pad_value_that_the_dtype_cannot_hold_is_refused(dtype, pad):
    cell = bucketed(Same(), {"x": 0}, Buckets([4]), pad=pad)
    with pytest.raises(PadValueError, match=f"does not fit {dtype}"):
        cell(np.ones(3, dtype))


def test_outputs_that_are_not_as_described_are_refused():
    cell = bucketed(Pooled(), BOTH, Buckets([8]), outputs=1)
    with pytest.raises(AxesError, match=r"axis 1 of an output of shape \[2, 3\] is length, but length was padded to 8"):
        cell(*batch(5))
    cell = bucketed(Pooled(), BOTH, Buckets([8]), outputs={"scores": 1})
    with pytest.raises(AxesError, match="names parts of a Tensor"):
        cell(*batch(5))


def test_the_wrapper_is_a_cell_with_the_cell_inside(scorer, wrapped):
    assert isinstance(wrapped, BucketedCell) and isinstance(wrapped, nn.Cell) and wrapped.cell is scorer
    assert isinstance(PooledLoss(bucketed(Pooled(), BOTH, Buckets([8]))).network, BucketedCell)
