"""Bucketed cells in `mindspore.Model`: given to it whole, and, under the patch, as its network."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn
from shapes_cells import Counted, CountedLoss, batch, pooled_step

from ascend_fixes.cures import patched
from ascend_fixes.shapes import AxesError, Buckets, bucketed, graphs, padding_counts

BOTH = {"ids": 1, "mask": 1}


def test_model_trains_and_evaluates_bucketed_cells():
    rows = [(*batch(n), np.array([0, 2], np.int32)) for n in (3, 7, 5, 8, 2)]
    dataset = ms.dataset.GeneratorDataset(rows, ["ids", "mask", "label"], shuffle=False)
    step = pooled_step()
    scored = bucketed(step.network.network, BOTH, Buckets([8]))

    class Evaluated(nn.Cell):
        def __init__(self, cell):
            super().__init__(auto_prefix=False)
            self.cell = cell

        def construct(self, ids, mask, label):
            return self.cell(ids, mask), label

    evaluated = bucketed(Evaluated(scored.cell), BOTH, Buckets([4, 8]), max_graphs=2)
    trained_cell = bucketed(step, BOTH, Buckets([4, 8]), max_graphs=2)
    model = ms.Model(trained_cell, eval_network=evaluated, metrics={"accuracy"}, eval_indexes=None)
    model.train(2, dataset, dataset_sink_mode=False)
    assert len(graphs(trained_cell)) == 2 and padding_counts(trained_cell).calls == 10
    result = model.eval(dataset, dataset_sink_mode=False)
    assert 0 <= result["accuracy"] <= 1
    assert len(graphs(evaluated)) == 2


def trained_by_model(network, loss=True):
    """The training and evaluation networks of a Model that has trained and evaluated five lengths."""
    optimizer = nn.SGD(network.trainable_params(), learning_rate=0.1)
    rows = [(batch(n)[1], np.array([0, 2], np.int32)) for n in (3, 7, 5, 8, 2)]
    dataset = ms.dataset.GeneratorDataset(rows, ["mask", "label"], shuffle=False)
    if not loss:
        model = ms.Model(network, optimizer=optimizer)
        model.train(1, dataset, dataset_sink_mode=False)
        return model.train_network, None
    model = ms.Model(network, nn.CrossEntropyLoss(), optimizer, metrics={"accuracy"})
    model.train(1, dataset, dataset_sink_mode=False)
    model.eval(dataset, dataset_sink_mode=False)
    return model.train_network, model.eval_network


def test_a_network_given_to_model_is_padded_under_the_patch():
    unpadded, _ = trained_by_model(bucketed(Counted(), {"x": 1}, Buckets([4, 8])))
    assert len(graphs(unpadded)) == 5
    with patched("S7"):
        train, evaluate = trained_by_model(bucketed(Counted(), {"x": 1}, Buckets([4, 8]), max_graphs=2))
        own, _ = trained_by_model(bucketed(CountedLoss(), {"x": 1}, Buckets([8])), loss=False)
        with pytest.raises(AxesError, match="bucket nn.TrainOneStepCell"):
            trained_by_model(bucketed(Counted(), {"x": 1}, Buckets([8]), outputs=1))
    assert len(graphs(train)) == len(graphs(evaluate)) == 2 and padding_counts(train).calls == 5
    assert len(graphs(own)) == 1 and own.optimizer is not None
    assert train.trainable_params()[0].name == "head.weight"
