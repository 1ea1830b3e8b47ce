"""ALBERT and BERT-CRF over packed rows: the losses and gradients of the same samples in rows of their own."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from ascend_fixes import shapes
from benchmarks.shapes.packed_losses import PackedLoss, PackedSpanLoss
from examples.albert.model import Albert, Config, SpanLoss
from examples.bert_crf.model import BertCRF, Loss, Sizes

LENGTHS = [7, 12, 5, 9, 4, 11]


def windows():
    """Of ALBERT: pieces, segments, and an answer that may be anywhere, also in the first piece."""
    random = np.random.default_rng(0)
    for length in LENGTHS:
        first = int(random.integers(0, length))
        yield {
            "ids": random.integers(1, 50, length).astype(np.int32),
            "segments": (np.arange(length) > 2).astype(np.int32),
            "first": np.int32(first),
            "last": np.int32(random.integers(first, length)),
        }


def sentences():
    """Of BERT-CRF: pieces, of which every other one begins a word, and the words' tags."""
    random = np.random.default_rng(0)
    for length in LENGTHS:
        firsts = np.arange(1, length - 1, 2, dtype=np.int32)
        yield {
            "ids": random.integers(1, 50, length).astype(np.int32),
            "firsts": firsts,
            "tags": random.integers(0, 3, len(firsts)).astype(np.int32),
            "lengths": np.int32(len(firsts)),
        }


def padded(samples, names):
    """The samples in rows of their own, as the examples pad them, and the rows' weights."""
    columns = []
    for name in names:
        values = [np.arange(len(s["ids"])) * 0 + 1.0 if name == "mask" else s[name] for s in samples]
        if np.ndim(values[0]):
            width = max(map(len, values))
            values = [np.pad(value, (0, width - len(value))) for value in values]
        columns.append(np.stack(values).astype(np.float32 if name == "mask" else np.int32))
    return [Tensor(column) for column in (*columns, np.ones(len(samples), np.float32))]


def packed(samples, names, **options):
    """All samples in one batch of packed rows."""
    dataset = shapes.pack_dataset(samples, LENGTHS, 24, rows=len(shapes.pack(LENGTHS, 24)), shuffle_seed=0, **options)
    (batch,) = dataset.create_dict_iterator(output_numpy=True, num_epochs=1)
    assert len(batch["ids"]) < len(samples)
    return dataset, [Tensor(batch[name]) for name in names]


def loss_and_gradients(cell, arguments):
    parameters = ms.ParameterTuple(cell.trainable_params())
    loss, gradients = ms.value_and_grad(cell, None, parameters)(*arguments)
    return float(loss), {p.name: gradient.asnumpy() for p, gradient in zip(parameters, gradients)}


def same(one, other):
    (loss, gradients), (expected, wanted) = one, other
    assert loss == pytest.approx(expected, rel=1e-5)
    largest = max(np.abs(value).max() for value in wanted.values())
    for name, value in wanted.items():
        assert np.abs(gradients[name] - value).max() <= 1e-5 * largest, name


ADDED = ("segment_ids", "positions", "sample_weight")


@pytest.mark.slow
@pytest.mark.parametrize("safe", [True, False])
def test_packed_windows_lose_as_much_as_padded_ones(safe):
    network = Albert(Config(50, 16, 16, 2, 2, 32, 24), np.random.default_rng(1), safe)
    dataset, arguments = packed(list(windows()), ("ids", "segments", "first", "last", *ADDED), places=["first", "last"])
    alone = padded(list(windows()), ("ids", "segments", "mask", "first", "last"))
    same(loss_and_gradients(PackedSpanLoss(network), arguments), loss_and_gradients(SpanLoss(network), alone))
    report = shapes.check_packing(PackedSpanLoss(network), dataset)
    assert report.ok, report


@pytest.mark.slow
def test_packed_sentences_lose_as_much_as_padded_ones():
    sizes = Sizes(words=50, width=16, layers=2, heads=2, inner=32, places=24)
    network = BertCRF(sizes, 3, np.random.default_rng(1))
    options = {"places": ["firsts"], "sizes": {"firsts": 6, "tags": 6}, "packed": ["ids"]}
    dataset, arguments = packed(list(sentences()), ("ids", "firsts", "tags", "lengths", *ADDED), **options)
    alone = padded(list(sentences()), ("ids", "mask", "firsts", "lengths", "tags"))
    same(loss_and_gradients(PackedLoss(network), arguments), loss_and_gradients(Loss(network), alone))
    report = shapes.check_packing(PackedLoss(network), dataset)
    assert report.ok, report
