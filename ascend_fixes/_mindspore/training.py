"""`mindspore.Model`, the iterators of `mindspore.dataset`, and the ranks that share a step."""

from __future__ import annotations

import importlib
from typing import Any

import mindspore

__all__ = [
    "data_parallel",
    "model_eval_network",
    "model_loss",
    "model_network",
    "model_targets",
    "pipeline_iterators",
    "set_model_eval_network",
]


def data_parallel() -> tuple[int, bool]:
    """How many ranks share a step, and whether their gradients are averaged and not summed."""
    modes = (mindspore.ParallelMode.DATA_PARALLEL, mindspore.ParallelMode.HYBRID_PARALLEL)
    if mindspore.get_auto_parallel_context("parallel_mode") not in modes:
        return 1, False
    return mindspore.communication.get_group_size(), bool(mindspore.get_auto_parallel_context("gradients_mean"))


def pipeline_iterators() -> tuple[type, ...]:
    """What `create_dict_iterator` and `create_tuple_iterator` of a `mindspore.dataset` pipeline return."""
    iterators = importlib.import_module("mindspore.dataset.engine.iterators")
    return iterators.DictIterator, iterators.TupleIterator


def model_targets() -> tuple[str, str]:
    """How `mindspore.Model` makes the cells that it trains and evaluates, as ``"module:Class.attribute"``.

    ``_build_train_network(self)`` returns the cell, ``_build_eval_network(self, metrics, eval_network, eval_indexes)``
    keeps it. Both are called once, by ``__init__``.
    """
    return tuple(f"mindspore.train.model:Model._build_{what}_network" for what in ("train", "eval"))  # type: ignore


def model_network(model: mindspore.Model) -> mindspore.nn.Cell:
    """The network that a `Model` was given."""
    return model._network


def model_loss(model: mindspore.Model) -> Any:
    """The loss function that a `Model` was given, or None."""
    return model._loss_fn


def model_eval_network(model: mindspore.Model) -> Any:
    """The cell that a `Model` evaluates, or None."""
    return getattr(model, "_eval_network", None)


def set_model_eval_network(model: mindspore.Model, network: mindspore.nn.Cell) -> None:
    """Have a `Model` evaluate this cell."""
    model._eval_network = network
