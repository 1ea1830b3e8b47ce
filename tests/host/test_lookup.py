"""The cure of H1: the same rows as target "CPU", and no other look-up is touched."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from mindspore import Tensor, nn

from ascend_fixes import cures


@settings(max_examples=8)
@given(st.lists(st.integers(0, 19), min_size=1, max_size=8), st.sampled_from([None, 0.5]))
def test_both_targets_give_the_same_rows(ids, max_norm):
    with cures.patched("H1"):
        device = nn.EmbeddingLookup(20, 4, target="DEVICE", max_norm=max_norm)
    host = nn.EmbeddingLookup(20, 4, target="CPU", max_norm=max_norm)
    host.embedding_table.set_data(device.embedding_table)
    indices = Tensor(np.array(ids, np.int32))
    np.testing.assert_array_equal(device(indices).asnumpy(), host(indices).asnumpy())


def test_only_the_look_up_without_a_kernel_is_touched():
    with cures.patched("H1"):
        assert nn.EmbeddingLookup(20, 4, target="DEVICE").target == "CPU"
        assert nn.EmbeddingLookup(20, 4, target="DEVICE", sparse=False).target == "DEVICE"
        assert isinstance(nn.MultiFieldEmbeddingLookup(20, 4, 2, target="DEVICE"), nn.EmbeddingLookup)
    assert nn.EmbeddingLookup(20, 4, target="DEVICE").target == "DEVICE"
