"""S7: `Model` compiles a graph of its own around its network, which skips whatever the network does when called.

`Model(network, loss_fn, optimizer)` wraps the network into a loss cell and a training cell. Only the outermost cell's
``__call__`` runs on the host; inside the graph a bucketed network gets the ragged inputs as they come, and every
length is a compilation again. The patch buckets the cell that `Model` made instead.
"""

from __future__ import annotations

import functools
from typing import Any, Callable

import mindspore as ms
import mindspore.dataset as ds
import numpy as np
from mindspore import nn, ops

from ascend_fixes import _mindspore
from ascend_fixes.defects import Defect, Finding, Patch
from ascend_fixes.patching import Replacement
from ascend_fixes.shapes import Buckets, bucketed, graphs
from ascend_fixes.shapes._bucketed import BucketedCell, bucketing_of
from ascend_fixes.shapes._graphs import bound_of
from ascend_fixes.shapes._ragged import AxesError, CellTypeError, RaggedInputs


class Scores(nn.Cell):
    """Class scores from the sum over positions whose value is not zero."""

    def __init__(self):
        super().__init__()
        self.head = nn.Dense(1, 3)

    def construct(self, x):
        return self.head(ops.relu(x).sum(1, keepdims=True))


def probe() -> Finding:
    """Trains a bucketed network by `Model` on four lengths of one bucket: present if they are four graphs."""
    ms.set_context(mode=ms.GRAPH_MODE)
    network = bucketed(Scores(), {"x": 1}, Buckets([8]))
    optimizer = nn.SGD(network.trainable_params(), learning_rate=0.1)
    model = ms.Model(network, nn.CrossEntropyLoss(), optimizer)
    rows = [(np.ones((2, length), np.float32), np.array([0, 2], np.int32)) for length in (3, 4, 5, 7)]
    model.train(1, ds.GeneratorDataset(rows, ["x", "label"], shuffle=False), dataset_sink_mode=False)
    compiled = len(graphs(model.train_network))
    return Finding(compiled > 1, f"4 lengths, 1 bucket: {compiled} graphs")


# --- the cure --------------------------------------------------------------------------------------


def padding_train(build: Callable[..., nn.Cell]) -> Callable[..., nn.Cell]:
    """``Model``'s way to its training network, bucketed where the network is."""

    @functools.wraps(build)
    def wrapper(self: Any) -> nn.Cell:
        network = _mindspore.model_network(self)
        return _lifted(network, build(self), has_loss=_mindspore.model_loss(self) is not None)

    return wrapper


def padding_eval(build: Callable[..., None]) -> Callable[..., None]:
    """``Model``'s way to its evaluation network, bucketed where it is made from a bucketed network."""

    @functools.wraps(build)
    def wrapper(self: Any, metrics: Any, eval_network: Any, eval_indexes: Any) -> None:
        build(self, metrics, eval_network, eval_indexes)
        made = _mindspore.model_eval_network(self)
        if eval_network is None and made is not None:
            _mindspore.set_model_eval_network(self, _lifted(_mindspore.model_network(self), made, has_loss=True))

    return wrapper


def _lifted(network: nn.Cell, around: nn.Cell, has_loss: bool) -> nn.Cell:
    """``around``, padded as ``network`` is; itself where that is not bucketed, or the very same cell."""
    try:
        bucketing = bucketing_of(network)
    except CellTypeError:
        return around
    if around is network:
        return around
    return BucketedCell(around, _taking_label(bucketing.ragged, has_loss), bound_of(network), bucketing.tier)


def _taking_label(ragged: RaggedInputs, has_loss: bool) -> RaggedInputs:
    """What to pad of a network around the bucketed one; with a loss function it takes the data and the label."""
    if not has_loss:
        return ragged
    if ragged.masks or ragged.outputs is not None or any(argument.index for argument in ragged.arguments):
        raise AxesError(
            "Model passes its network one argument and the loss function the label, so masks=, outputs= and further "
            "axes= have no place; bucket nn.TrainOneStepCell(network with loss, optimizer) and pass that to Model"
        )
    return ragged


_TRAIN, _EVAL = _mindspore.model_targets()

DEFECT = Defect(
    id="S7",
    family="shapes",
    symptom="Model(bucketed(net), loss, optimizer) compiles per length all the same",
    symptom_zh="Model(bucketed(net), loss, optimizer) 仍然每个长度编译一次",
    error="",
    cause=(
        "Model builds a training cell around the network and calls that one. Calls inside a graph are traced, and what "
        "the network's own call does on the host, padding above all, is skipped without a word."
    ),
    seen="",
    upstream="none found",
    removal="when Model lets the network see its inputs before the graph does",
    probe=probe,
    patch=Patch((Replacement(_TRAIN, padding_train), Replacement(_EVAL, padding_eval))),
)
