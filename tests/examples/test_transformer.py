"""The shared transformer layers: padding changes nothing, both kinds of layers agree."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

from examples.common.transformer import Block, Embeddings, initialise

LENGTHS = np.array([5, 1, 3])


class Encoder(nn.Cell):
    def __init__(self, safe):
        super().__init__()
        self.embeddings, self.block = Embeddings(9, 8, 16, 2, safe), Block(8, 2, 12, False, safe)
        initialise(self, np.random.default_rng(0), 0.5)

    def construct(self, ids, segments, mask):
        return self.block(self.embeddings(ids, segments), mask)


def batch(width, garbage=0):
    words = np.random.default_rng(1).integers(0, 9, (3, 5))
    inside = np.arange(width) < LENGTHS[:, None]
    ids = np.where(inside, np.pad(words, ((0, 0), (0, width - 5))), garbage).astype(np.int32)
    return Tensor(ids), Tensor((ids % 2).astype(np.int32)), Tensor(inside.astype(np.float32))


@pytest.fixture(scope="module")
def outputs():
    ms.set_context(mode=ms.GRAPH_MODE)
    cells = {safe: Encoder(safe) for safe in (True, False)}
    return {(safe, width): cells[safe](*batch(width, 7)).asnumpy() for safe in cells for width in (5, 8)}


@pytest.mark.parametrize("safe", [True, False])
def test_padding_changes_no_word(outputs, safe):
    for row, length in enumerate(LENGTHS):
        np.testing.assert_allclose(outputs[safe, 8][row, :length], outputs[safe, 5][row, :length], atol=2e-6)


def test_both_kinds_of_layers_agree(outputs):
    np.testing.assert_allclose(outputs[True, 5], outputs[False, 5], atol=5e-6)


def test_parameters_have_the_same_names():
    names = [[parameter.name for parameter in Encoder(safe).get_parameters()] for safe in (True, False)]
    assert names[0] == names[1]
