"""`shapes.check_packing`: a cell that keeps samples apart passes, every way to mix them is found and named."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops

from ascend_fixes.shapes import PackingCheckError, check_packing, pack_dataset, segment_mask

LENGTHS = [3, 5, 2, 7, 4, 4, 6, 1, 3, 8]


class Encoder(nn.Cell):
    """One head of attention over a sum of word and place vectors; each keyword makes one of the usual mistakes."""

    def __init__(self, masked=True, restarted=True):
        super().__init__()
        self.words, self.places = nn.Embedding(30, 8), nn.Embedding(16, 8)
        self.query, self.softmax, self.head = nn.Dense(8, 8), nn.Softmax(-1), nn.Dense(8, 3)
        self.masked, self.restarted = masked, restarted

    def construct(self, ids, segment_ids, positions):
        if not self.restarted:
            positions = ops.arange(16).broadcast_to(ids.shape)
        x = self.words(ids) + self.places(positions)
        scores = ops.matmul(self.query(x), x.swapaxes(1, 2))
        if self.masked:
            scores = ops.masked_fill(scores, segment_mask(segment_ids)[:, 0].logical_not(), Tensor(-6e4, ms.float32))
        return self.head(ops.matmul(self.softmax(scores), x))


class Loss(nn.Cell):
    """The mean over tokens, or, wrongly, over rows."""

    def __init__(self, by_rows=False):
        super().__init__()
        self.encoder, self.by_rows = Encoder(), by_rows

    def construct(self, ids, segment_ids, positions, token_weight):
        squares = (self.encoder(ids, segment_ids, positions) ** 2).sum(-1)
        if self.by_rows:
            return ((squares * token_weight).sum(1) / token_weight.sum(1)).mean()
        return (squares * token_weight).sum() / token_weight.sum()


class Recurrent(nn.Cell):
    def __init__(self):
        super().__init__()
        self.words, self.gru = nn.Embedding(30, 8), nn.GRU(8, 8, batch_first=True)

    def construct(self, ids):
        return self.gru(self.words(ids))[0]


class Pooled(nn.Cell):
    """The largest value of a row, given to all of its samples."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(30, 8)

    def construct(self, ids, sample_weight):
        return ops.amax(self.words(ids), 1).expand_dims(1) * sample_weight.expand_dims(2)


@pytest.fixture(scope="module")
def dataset():
    random = np.random.default_rng(0)
    samples = [{"ids": random.integers(1, 30, length).astype(np.int32)} for length in LENGTHS]
    return pack_dataset(samples, LENGTHS, 16, 2, shuffle_seed=0)


def test_samples_that_are_kept_apart(dataset):
    report = check_packing(Encoder(), dataset)
    assert report.ok and report.leaks == () and "as if alone" in str(report)
    assert len(report.compared) == 1 + 6  # the output and every parameter


def test_a_mean_over_tokens_is_that_of_the_samples_alone(dataset):
    assert check_packing(Loss(), dataset).ok
    report = check_packing(Loss(by_rows=True), dataset)
    assert "loss" in {leak.what for leak in report.leaks}


@pytest.mark.parametrize(
    ("cell", "where", "cause"),
    [
        (Encoder(masked=False), "softmax", "segment_mask"),
        (Encoder(restarted=False), "places", "places do not start anew"),
        (Recurrent(), "gru", "state runs on"),
        (Pooled(), "", "reduce by segment_ids"),
    ],
    ids=["no mask", "running places", "recurrent", "pooled"],
)
def test_samples_that_see_each_other(dataset, cell, where, cause):
    report = check_packing(cell, dataset)
    assert not report.ok and report.cell.startswith(where) and cause in str(report)
    assert any(leak.sample is not None for leak in report.leaks) and any(
        "gradient" in leak.what for leak in report.leaks
    )


def test_parameters_and_mode_are_as_before(dataset):
    cell = Encoder()
    cell.set_train(False)
    before = [parameter.asnumpy().copy() for parameter in cell.get_parameters()]
    mode = ms.get_context("mode")
    check_packing(cell, dataset)
    assert ms.get_context("mode") == mode and not cell.training
    assert all(np.array_equal(a, b.asnumpy()) for a, b in zip(before, cell.get_parameters()))


def test_what_cannot_be_checked_is_named(dataset):
    with pytest.raises(PackingCheckError, match="holds an optimizer"):
        loss = Loss()
        check_packing(nn.TrainOneStepCell(loss, nn.SGD(loss.trainable_params())), dataset)
    with pytest.raises(PackingCheckError, match="takes labels, but the dataset's columns are ids"):
        check_packing(Labelled(), dataset)
    single = pack_dataset([{"ids": np.ones(9, np.int32)}] * 3, [9, 9, 9], 16, 2)
    with pytest.raises(PackingCheckError, match="no row of the dataset holds two samples"):
        check_packing(Encoder(), single)


class Labelled(nn.Cell):
    def construct(self, ids, labels):
        return ids + labels
