"""Padding for `mindspore.Model`, which builds a graph of its own around the network it is given.

Inside that graph the padding of a bucketed network does not take place, so the network that `Model` trains or
evaluates is bucketed in its stead, by the same plan. The cure of S7 puts these in place of two methods of `Model`.
"""

from __future__ import annotations

import functools
from typing import Any, Callable

from mindspore import nn

from ascend_fixes import _mindspore
from ascend_fixes.shapes._bucketed import BucketedCell, bucketing_of
from ascend_fixes.shapes._graphs import bound_of
from ascend_fixes.shapes._plan import CellTypeError, Plan, PlanError

__all__ = ["padding_eval", "padding_train"]


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
    return BucketedCell(around, _plan(bucketing.plan, has_loss), bound_of(network), bucketing.tier)


def _plan(plan: Plan, has_loss: bool) -> Plan:
    """The plan for a network around the bucketed one; with a loss function it takes the data and the label."""
    if not has_loss:
        return plan
    if plan.masks or plan.outputs is not None or any(argument.index for argument in plan.arguments):
        raise PlanError(
            "Model passes its network one argument and the loss function the label, so masks=, outputs= and further "
            "axes= have no place; bucket nn.TrainOneStepCell(network with loss, optimizer) and pass that to Model"
        )
    return plan
