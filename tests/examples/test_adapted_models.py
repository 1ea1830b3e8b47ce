"""`adapt` on the plain TextING: what the fixed variant, written by hand, gives."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

from ascend_fixes import AuditReport, adapt, amp, shapes
from examples.texting import data
from examples.texting.data import build
from examples.texting.model import Loss, TextING

pytestmark = pytest.mark.slow
BUCKETS = shapes.Buckets([4, 9])


def texting(fixed: bool) -> nn.Cell:
    vectors = np.random.default_rng(1).normal(size=(11, 5)).astype(np.float32)
    return Loss(TextING(vectors, 3, np.random.default_rng(2), hidden=8, finite_masks=fixed))


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


def losses(step: nn.Cell) -> list[float]:
    return [float(step(*map(Tensor, documents(width))).loss) for width in (9, 4, 7)]


def test_the_step_is_what_the_fixed_variant_written_by_hand_gives():
    ms.set_context(mode=ms.GRAPH_MODE)
    report = AuditReport("Loss", "Ascend910B", (), {}, {}, axes=AXES)
    plain, fixed = texting(False), texting(True)
    hand = amp.TrainStep(fixed, nn.SGD(fixed.trainable_params(), 0.1), amp.LossScaler.off())
    hand = shapes.bucketed(hand, AXES, BUCKETS, max_graphs=2)
    hand.set_train()
    optimizer = nn.SGD(plain.trainable_params(), 0.1)
    made = adapt(plain, *documents(9), optimizer=optimizer, lengths=BUCKETS, report=report, precision="float32")
    np.testing.assert_allclose(losses(made.step), losses(hand), rtol=1e-5)
    assert made.report.ok and len(shapes.graphs(made.step)) == len(shapes.graphs(hand)) == 2
    assert shapes.padding_counts(hand).waste > 0
