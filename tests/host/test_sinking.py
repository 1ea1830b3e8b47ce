"""The guard of `Model.train(dataset_sink_mode=True)`: what cannot sink is named and fed from the host."""

from __future__ import annotations

import warnings

import mindspore
import numpy as np
import pytest
from mindspore import dataset, nn, ops

from ascend_fixes import cures
from ascend_fixes.host._sinking import SinkingWarning, unsinkable


class Summed(nn.Cell):
    """A loss with one parameter, for a tensor of any shape and one more column."""

    def __init__(self):
        super().__init__()
        self.weight = mindspore.Parameter(np.ones(1, np.float32), name="weight")

    def construct(self, x, y):
        return (ops.sum(x) * self.weight).sum()


def ragged():
    for length in (2, 3, 3):
        yield np.ones((1, length), np.float32), np.zeros(1, np.int32)


def even():
    for _ in range(3):
        yield np.ones((1, 2), np.float32), np.zeros(1, np.int32)


def strings():
    for word in ("a", "b"):
        yield np.ones((1, 2), np.float32), np.array(word)


def pipeline(rows):
    return dataset.GeneratorDataset(rows, ["x", "y"], shuffle=False)


def test_what_cannot_sink_is_named():
    assert unsinkable(pipeline(even)) is None
    assert unsinkable(pipeline(ragged)) == "column 'x' is ragged: its batches have shapes (1, None), where None differs"
    assert unsinkable(pipeline(strings)) == "column 'y' holds strings"


def sunk(monkeypatch, rows, **options):
    """What MindSpore's own `Model._train` is told, with the guard in force, and what the guard says."""
    told = {}
    monkeypatch.setattr(mindspore.Model, "_train", lambda self, *args, **kwargs: told.update(kwargs))
    net = Summed()
    model = mindspore.Model(net, optimizer=nn.SGD(net.trainable_params(), 0.1))
    with cures.patched("H4"), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.train(1, pipeline(rows), **options)
    return told["dataset_sink_mode"], [str(one.message) for one in caught if one.category is SinkingWarning]


def test_only_what_cannot_sink_is_kept_from_it(monkeypatch):
    assert sunk(monkeypatch, even, dataset_sink_mode=True) == (True, [])
    assert sunk(monkeypatch, ragged, dataset_sink_mode=False) == (False, [])
    assert sunk(monkeypatch, ragged) == (False, [])
    for rows, reason in ((ragged, "column 'x' is ragged"), (strings, "column 'y' holds strings")):
        sink, (message,) = sunk(monkeypatch, rows, dataset_sink_mode=True, sink_size=2)
        assert not sink and reason in message and "fed from the host" in message and "sink_size is not used" in message


def test_every_ragged_batch_is_trained_on():
    net = Summed()
    model = mindspore.Model(net, optimizer=nn.SGD(net.trainable_params(), 0.1))
    with cures.patched("H4"), pytest.warns(SinkingWarning, match=r"Model.train\(dataset_sink_mode=True\)"):
        model.train(2, pipeline(ragged), dataset_sink_mode=True)
    assert net.weight.asnumpy()[0] == pytest.approx(1 - 0.1 * 2 * (2 + 3 + 3))


def test_eval_and_fit_are_guarded_too():
    net = Summed()
    model = mindspore.Model(net, optimizer=nn.SGD(net.trainable_params(), 0.1), metrics={"loss"}, eval_network=net)
    with (
        cures.patched("H4"),
        pytest.warns(SinkingWarning, match=r"Model.eval\(dataset_sink_mode=True\) .* valid_dataset"),
    ):
        model.eval(pipeline(ragged), dataset_sink_mode=True)
