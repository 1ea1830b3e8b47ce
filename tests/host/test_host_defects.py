"""The host rows of the catalogue, and the cure of H1: the same rows and gradients as target "CPU", before and after."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mindspore import Tensor, nn

from ascend_fixes import cures
from ascend_fixes.defects import catalogue

_PROBE = """
import json, sys
import mindspore
mindspore.set_device("CPU")
from ascend_fixes import cures
from ascend_fixes.defects import catalogue
if sys.argv[2] == "cured":
    cures.patch(sys.argv[1])
finding = catalogue()[sys.argv[1]].probe()
print(json.dumps([finding.present, finding.evidence]))
"""


def probe(id_, how, folder):
    done = subprocess.run(
        [sys.executable, "-c", _PROBE, id_, how], cwd=folder, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize(
    "id_, evidence",
    [
        ("H1", "Unsupported op [SparseGatherV2]"),
        ("H2", "Unsupported op [MapTensorGet]"),
        ("H3", "unique 3 of 4 (AICPU)"),
    ],
)
def test_present_here(id_, evidence, tmp_path):
    present, text = probe(id_, "plain", tmp_path)
    assert present and evidence in text


@pytest.mark.slow
@pytest.mark.parametrize("id_", ["H4", "H5"])
def test_needs_a_device(id_, tmp_path):
    present, text = probe(id_, "plain", tmp_path)
    assert present is None and text.startswith("needs a device") and catalogue()[id_].needs_device


@pytest.mark.slow
@pytest.mark.parametrize(
    "id_, evidence",
    [("H1", "largest error of rows and gradient 0"), ("H2", "rows of unknown keys 1 to 1")],
)
def test_cured_by_the_patch(id_, evidence, tmp_path):
    present, text = probe(id_, "cured", tmp_path)
    assert present is False and evidence in text


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
