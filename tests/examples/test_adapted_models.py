"""`adapt` on the plain TextING and BERT-CRF: what the fixed variants, written by hand, give; see `benchmarks.auditing.adapt`."""

from __future__ import annotations

from collections.abc import Callable

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

from ascend_fixes import AuditReport, adapt, amp, fusion, shapes
from examples.bert_crf import model as bert_model
from examples.bert_crf.model import BertCRF, Sizes
from examples.texting import data
from examples.texting.data import build
from examples.texting.model import Loss, TextING

pytestmark = pytest.mark.slow
BUCKETS = shapes.Buckets([4, 9])


def texting(fixed: bool) -> nn.Cell:
    vectors = np.random.default_rng(1).normal(size=(11, 5)).astype(np.float32)
    return Loss(TextING(vectors, 3, np.random.default_rng(2), hidden=8, finite_masks=fixed, safe=fixed))


def documents(width: int) -> list[np.ndarray]:
    """Three documents, the largest of ``width`` words."""
    texts = [[3], [1, 2, 3], list(range(1, width + 1))]
    graphs = build(np.concatenate(texts), np.array([len(text) for text in texts]))
    nodes, adjacency, mask = data.collate(graphs, np.arange(11, dtype=np.int32), np.arange(3))
    keep = np.ones((3, width, 5), np.float32), np.ones((3, 8), np.float32)
    return [nodes, adjacency, mask, *keep, np.array([0, 2, 1], np.int32), np.ones(3, np.float32)]


AXES = {
    "nodes": {1: "length"},
    "adjacency": {1: "length", 2: "length"},
    "mask": {1: "length"},
    "keep_features": {1: "length"},
}


WORDS = 4
SIZES = Sizes(30, 8, 1, 2, 16, 16, 2)


def bert_crf(fixed: bool) -> nn.Cell:
    network = BertCRF(SIZES, 3, np.random.default_rng(3), safe=fixed)
    return bert_model.Loss(fusion.safe(network) if fixed else network)


def sentences(width: int) -> list[np.ndarray]:
    """Three sentences of up to ``width`` pieces, each word a piece."""
    random = np.random.default_rng(width)
    lengths = np.array([width, width - 2, 2], np.int32)
    mask = (np.arange(width) < lengths[:, None]).astype(np.float32)
    places, tags = np.arange(width) * mask, random.integers(0, 3, (3, width)) * mask
    ids = random.integers(1, 30, (3, width)) * mask
    return [ids.astype(np.int32), mask, places.astype(np.int32), lengths, tags.astype(np.int32), np.ones(3, np.float32)]


MODELS = {
    "TextING": (texting, documents, AXES),
    "BERT-CRF": (bert_crf, sentences, {name: {1: "length"} for name in ("ids", "mask", "firsts", "tags")}),
}


def losses(step: nn.Cell, batches: Callable[[int], list[np.ndarray]]) -> list[float]:
    results = [step(*map(Tensor, batches(width))) for width in (9, 4, 7)]
    assert all(result.finite for result in results)
    return [float(result.loss) for result in results]


@pytest.mark.parametrize(
    "name, precision, tolerance",
    [("TextING", "float16", 2e-2), ("BERT-CRF", "float32", 1e-5), ("BERT-CRF", "float16", 2e-2)],
)
def test_the_step_is_what_the_fixed_variant_written_by_hand_gives(name, precision, tolerance):
    ms.set_context(mode=ms.GRAPH_MODE)
    make, batches, axes = MODELS[name]
    report = AuditReport("Loss", "Ascend910B", (), {}, {}, axes=axes)
    plain, fixed = make(False), make(True)
    half = precision == "float16"
    scaler = amp.LossScaler(1024) if half else amp.LossScaler.off()
    policy = amp.Policy() if half else None
    hand = amp.TrainStep(fixed, nn.SGD(fixed.trainable_params(), 0.1), scaler, policy=policy)
    hand = shapes.bucketed(hand, axes, BUCKETS, max_graphs=2)
    hand.set_train()
    optimizer = nn.SGD(plain.trainable_params(), 0.1)
    made = adapt(plain, *batches(9), optimizer=optimizer, lengths=BUCKETS, report=report, precision=precision)
    np.testing.assert_allclose(losses(made.step, batches), losses(hand, batches), rtol=tolerance)
    assert made.report.ok and len(shapes.graphs(made.step)) == len(shapes.graphs(hand)) == 2
    assert half == ("float16" in made.report.equality[-1].what) and shapes.padding_counts(hand).waste > 0
