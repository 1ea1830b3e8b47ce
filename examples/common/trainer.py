"""What the trainings of all examples share: a variant's cells, its batches, the loop's task and the results."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import mindspore as ms
import numpy as np
from mindspore import Parameter, nn

import ascend_fixes
from ascend_fixes import amp, shapes
from examples.common import step, training, variants

__all__ = ["Batch", "Trainer", "load", "run"]


class Batch(NamedTuple):
    """A batch: its epoch, its number in it, and the numbers of its samples."""

    epoch: int
    number: int
    samples: np.ndarray


class Trainer(ABC):
    """One variant, made ready to train from a request (`comparison.run_variant`).

    A subclass makes the network in its ``__init__``, which takes the request and the variant's folder, calls `build` there,
    and says what a batch is.

    Args:
        request: the variant. Two keys besides those of the command line: ``ragged`` takes built-in data with the
            lengths of a real corpus (`lengths`), which plainly are padded batch by batch; ``batch`` is the samples a step.
        batch: samples a step, where the request does not say.

    Attributes:
        seed, batch: of the run, samples a step.
        bucketing: whether `shapes.bucketed` pads.
        safe: whether the layers are those of `ascend_fixes.fusion`.
        cell: takes a batch and trains on it.
        network: takes a batch without labels, in the variant's precision.
        scaler: of the loss; None where the step is MindSpore's own.
        padded: the sizes that batches are padded to.
        train: the numbers of the training samples.
    """

    metric: ClassVar[str]
    average: ClassVar[float] = 0.0  # see `training.Task`
    by_loss: ClassVar[bool] = False
    row_axes: ClassVar[Mapping[int, int] | None] = None  # see `ranks.share`
    padded: shapes.Buckets | shapes.Grid
    train: np.ndarray

    def __init__(self, request: Mapping[str, Any], batch: int) -> None:
        ms.set_context(mode=ms.GRAPH_MODE)
        if request["fused"]:
            ms.set_context(enable_graph_kernel=True)
        if request["fixes"]:
            ascend_fixes.patch(*request["fixes"])
        self.request, self.seed = request, request["seed"]
        self.ragged, self.batch = bool(request.get("ragged")), request.get("batch") or batch
        self.bucketing, self.safe = "shapes" in request["fixes"], "fusion" in request["fixes"]

    def build(
        self,
        loss: nn.Cell,
        network: nn.Cell,
        optimizer: nn.Optimizer,
        policy: amp.Policy | None = None,
        scaler: amp.LossScaler | None = None,
    ) -> None:
        """Make `cell`, `network` and `scaler` of the network and its loss; see `step.cells`."""
        self.parameters: Sequence[Parameter] = network.trainable_params()
        self.optimizer, self.loss_cell = optimizer, loss
        made = step.cells(loss, network, optimizer, self.request, policy, scaler)
        self.cell, self.network, self.scaler = made.step, made.network, made.scaler

    # --- what an example says ------------------------------------------------------------------

    @abstractmethod
    def batches(self, epoch: int) -> list[Batch]:
        """The batches of an epoch, in an order that the epoch decides."""

    @abstractmethod
    def inputs(self, batch: Batch) -> Sequence[np.ndarray]:
        """What `cell` takes."""

    @abstractmethod
    def lengths(self, samples: np.ndarray) -> np.ndarray:
        """Of training samples: (n,), or (n, 2) where two sides are padded."""

    @abstractmethod
    def validate(self) -> tuple[float, float]:
        """The metric and the loss of the validation part."""

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """What else a checkpoint has to fit."""

    @abstractmethod
    def results(self) -> dict[str, Any]:
        """The metric of the test part, and what else the table shows."""

    # --- what follows from it ------------------------------------------------------------------

    @property
    def first(self) -> Batch:
        """The first training samples as they lie: the same for every variant."""
        return Batch(0, 0, self.train[: self.batch])

    def step(self, batch: Batch) -> training.Step:
        """Train on a batch."""
        return step.run(self.cell, self.inputs(batch), self.row_axes)

    @property
    def graphs(self) -> int:
        """How many graphs were compiled so far."""
        return len(shapes.graphs(self.cell)) + len(shapes.graphs(self.network))

    def padded_share(self) -> float:
        """The share of what an epoch of training computes, over all padded sides, that is padding."""
        real = computed = 0
        for batch in self.batches(0):
            lengths = self.lengths(batch.samples).reshape(len(batch.samples), -1)
            longest = lengths.max(0).tolist()
            sizes = longest if self.ragged and not self.bucketing else self.padded(*longest)
            real += int(lengths.sum())
            computed += (self.batch if self.bucketing else len(lengths)) * int(np.sum(sizes))
        return 1 - real / computed

    def task(self) -> training.Task:
        """What the loop trains."""
        return training.Task(
            settings={**{name: self.request[name] for name in (*variants.SETTINGS, "limit")}, **self.identity()},
            batches=self.batches,
            step=self.step,
            validate=self.validate,
            parameters=self.parameters,
            slots=step.slots(self.optimizer),
            scaler=self.scaler,
            average=self.average,
            by_loss=self.by_loss,
        )


def run(trainer: type[Trainer], request: dict[str, Any], folder: Path, resume: bool) -> dict[str, Any]:
    """Train the variant that ``request`` describes, with its checkpoint in ``folder``; its results."""
    made = trainer(request, folder)
    progress = training.train(made.task(), request["epochs"], folder / "checkpoint.npz", resume, request["variant"])
    found = {**made.results(), "metric": made.metric, "padded_share": made.padded_share()}
    return {**training.summary(progress), **found, "graphs": made.graphs}


def load(example: str) -> type[Trainer]:
    """The trainer of an example, by its package's name."""
    return importlib.import_module(f"examples.{example}.train").TRAINER
