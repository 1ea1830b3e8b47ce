"""`MapParameter` redirected to the host, against a dict."""

from __future__ import annotations

import mindspore
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mindspore import Tensor, nn
from mindspore.experimental import MapParameter

from ascend_fixes import _mindspore, cures
from ascend_fixes.host import KeysError
from ascend_fixes.host._mapping import HostMap

patched_here = pytest.mark.skipif(
    _mindspore.version() < (2, 7, 1), reason="H2 is neither seen nor cured before MindSpore 2.7.1"
)


def keys_of(values):
    return Tensor(np.array(values, np.int32))


class Lookup(nn.Cell):
    """Writes rows, reads them, and reads the keys behind without adding them."""

    def __init__(self):
        super().__init__()
        self.table = MapParameter(
            key_dtype=mindspore.int32, value_dtype=mindspore.float32, value_shape=(2,), default_value="zeros"
        )

    def construct(self, keys, rows):
        self.table.put(keys, rows)
        return self.table[keys], self.table.get(keys + 1, False)


class Erased(nn.Cell):
    def __init__(self, table):
        super().__init__()
        self.table = table

    def construct(self, keys):
        self.table.erase(keys)
        return self.table[keys]


@pytest.fixture(scope="module")
def lookup():
    with cures.patched("H2"):
        return Lookup()


@patched_here
@settings(max_examples=20)
@given(st.lists(st.lists(st.integers(-5, 5), min_size=3, max_size=3), min_size=1, max_size=4))
def test_in_a_graph_it_is_a_dict(lookup, batches):
    lookup.table.erase(lookup.table.get_keys())
    plain, number = {}, 0
    for batch in batches:
        rows = np.arange(number, number + 6, dtype=np.float32).reshape(3, 2)
        number += 6
        for key, row in zip(batch, rows.tolist()):
            plain[key] = row
        found, behind = lookup(keys_of(batch), Tensor(rows))
        assert found.asnumpy().tolist() == [plain[key] for key in batch]
        assert behind.asnumpy().tolist() == [plain.get(key + 1, [0, 0]) for key in batch]
    keys, values = lookup.table.get_data()
    assert dict(zip(keys.asnumpy().tolist(), values.asnumpy().tolist())) == plain
    assert len(lookup.compile_cache) == 1


@patched_here
def test_unknown_keys_are_added_once_and_erased_ones_start_again():
    with cures.patched("H2"):
        table = MapParameter(key_dtype=mindspore.int32, value_shape=4)  # normal rows, as by default
    assert isinstance(table, HostMap) and isinstance(table, nn.Cell)
    first = table[keys_of([7, 9, 7])].asnumpy()
    assert (first[0] == first[2]).all() and (first[0] != first[1]).any()
    assert (table.get(keys_of([9])).asnumpy() == first[1]).all()
    table[keys_of([9])] = Tensor(np.ones((1, 4), np.float32))
    assert (Erased(table)(keys_of([7])).asnumpy() != first[0]).any()
    assert (table[keys_of([9])].asnumpy() == 1).all()


def test_first_rows_may_be_given():
    given_rows = Tensor(np.array([[1.0, 2.0], [3.0, 4.0]], np.float32))
    table = HostMap(key_tensor=keys_of([5, 6]), value_tensor=given_rows, default_value=9)
    assert table.get(keys_of([6, 1, 5]), False).asnumpy().tolist() == [[3, 4], [9, 9], [1, 2]]
    assert table.get_keys().asnumpy().tolist() == [5, 6]


def test_outside_the_patch_it_is_mindspores_own():
    with cures.patched("H2"):
        pass
    assert isinstance(MapParameter(key_dtype=mindspore.int32, value_shape=(2,)), MapParameter)


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda: HostMap(permit_filter_value=2), "permit_filter_value"),
        (lambda: HostMap(value_shape=2)._held.put(np.array([1]), np.zeros((1, 3))), r"rows of shape \(1, 3\)"),
    ],
)
def test_wrong_use_is_named(use, message):
    with pytest.raises(KeysError, match=message):
        use()
