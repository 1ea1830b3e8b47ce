"""What the trainings of all examples share: options, a variant's cells, its batches, its step and the results."""

from __future__ import annotations

import functools
import importlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Callable, ClassVar, NamedTuple

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn

import ascend_fixes
from ascend_fixes import amp, shapes
from examples.common import ranks, training, variants
from examples.common.checkpoint import FILE
from examples.common.randomness import TESTED, TRAINED, Stream, chunks, generator

__all__ = ["HALF", "Batch", "Trainer", "corpus", "learning_rates", "load", "main", "plan"]

HALF = "params=float32,compute=float16,output=float32"


class Batch(NamedTuple):
    """A batch: its epoch, its number in it, and the numbers of its samples."""

    epoch: int
    number: int
    samples: np.ndarray


class Trainer(ABC):
    """One variant, made ready to train from a request (`command_line.run_variant`).

    A subclass makes the network in its ``__init__``, which takes the request and the variant's folder, calls `build` there,
    and says what a batch is.

    Args:
        request: the variant. Two keys besides those of the command line: ``ragged`` takes built-in data with the
            lengths of a real corpus (`randomness.drawn`), which plainly are padded batch by batch; ``batch`` is the samples
            a step.
        batch: samples a step, where the request does not say.

    Attributes:
        title, about: the model's name, and with its source.
        options: what its command line has besides, by name, as argparse takes it.
        epochs: how many, from the options, where ``--epochs`` is not given.
        check: raises an `ExampleError` for options and files that cannot be used, before anything is written.
        metric, average, by_loss: see `training.train`.
        row_axes: see `ranks.share`.
        seed, batch: of the run, samples a step.
        bucketing: whether `shapes.bucketed` pads.
        own: whether arrays are as wide as the longest sample of their batch, and not as that of the corpus.
        safe: whether the layers are those of `ascend_fixes.fusion`.
        lengths: by part, of every sample, (n,), or (n, 2) where two sides are padded.
        numbers: by part, the numbers of its samples; ``train``: those to train on.
        buckets: the sizes by which batches are put together; ``padded``: those that they are padded to.
        cell: takes a batch and trains on it.
        network: takes a batch without labels, in the variant's precision.
        scaler: of the loss; None where the step is MindSpore's own.
        parameters, slots: the model's, and the optimizer's own: moments, counters, learning rates.
    """

    title: ClassVar[str]
    about: ClassVar[str]
    options: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    epochs: ClassVar[Callable[[Mapping[str, Any]], int]]
    check: ClassVar[Callable[[Mapping[str, Any]], Any]]
    metric: ClassVar[str]
    average: ClassVar[float] = 0.0
    by_loss: ClassVar[bool] = False
    row_axes: ClassVar[Mapping[int, int] | None] = None
    lengths: Mapping[str, np.ndarray]
    numbers: Mapping[str, np.ndarray]
    train: np.ndarray
    buckets: shapes.Buckets | shapes.Grid

    def __init__(self, request: Mapping[str, Any], batch: int) -> None:
        ms.set_context(mode=ms.GRAPH_MODE)
        if request["fused"]:
            ms.set_context(enable_graph_kernel=True)
        if request["fixes"]:
            ascend_fixes.patch(*request["fixes"])
        self.request, self.seed = request, request["seed"]
        self.ragged, self.batch = bool(request.get("ragged")), request.get("batch") or batch
        self.bucketing, self.safe = "shapes" in request["fixes"], "fusion" in request["fixes"]
        self.own = self.bucketing or self.ragged

    def build(
        self,
        loss: nn.Cell,
        network: nn.Cell,
        optimizer: nn.Optimizer,
        policy: amp.Policy | None = None,
        scaler: amp.LossScaler | None = None,
    ) -> None:
        """Make `cell`, `network` and `scaler` of the variant: MindSpore's own step, or with the amp family `amp.TrainStep`.

        Args:
            loss: the network with its loss; holds ``network``.
            network: whose ``to_float`` is plain float16.
            optimizer: of the network's parameters.
            policy, scaler: for float16 with the amp family; by default `HALF` and ``LossScaler()``.
        """
        self.parameters: Sequence[Parameter] = network.trainable_params()
        trained = {id(parameter) for parameter in optimizer.parameters}
        self.slots = [parameter for parameter in optimizer.get_parameters() if id(parameter) not in trained]
        self.loss_cell, self.network = loss, network
        self.scaler: amp.LossScaler | None = None
        half = self.request["precision"] == "float16"
        if "amp" not in self.request["fixes"]:
            if half:
                network.to_float(ms.float16)
            self.cell: nn.Cell = nn.TrainOneStepCell(loss, optimizer)
        elif half:
            policy, self.scaler = policy or amp.Policy(HALF), scaler or amp.LossScaler()
            self.cell, self.network = amp.TrainStep(loss, optimizer, self.scaler, policy), amp.autocast(network, policy)
        else:
            self.scaler = amp.LossScaler.off()
            self.cell = amp.TrainStep(loss, optimizer, self.scaler)

    def bucketed(
        self, cell: nn.Cell, axes: Mapping[str, Any], rows: int, outputs: Any = None, **options: Any
    ) -> nn.Cell:
        """``cell``, its batches filled up to ``rows`` and padded; unless the family is off. ``axes`` names "rows" and "size"."""
        if not self.bucketing:
            return cell
        buckets = {"rows": shapes.Buckets([rows]), "size": options.pop("padded", None) or self.padded}
        return shapes.bucketed(cell, axes=axes, buckets=buckets, outputs=outputs, **options)

    def sample(self, lengths: Mapping[str, np.ndarray]) -> None:
        """Say of how many samples, and how long ones, each part consists."""
        self.lengths = lengths
        self.numbers = {part: np.arange(len(own)) for part, own in lengths.items()}
        self.train = self.numbers["train"]

    # --- what an example says ------------------------------------------------------------------

    @abstractmethod
    def arrays(self, part: str, samples: np.ndarray) -> Sequence[np.ndarray]:
        """What `network` takes, of some samples of a part."""

    @abstractmethod
    def inputs(self, batch: Batch) -> Sequence[np.ndarray]:
        """What `cell` takes."""

    @abstractmethod
    def evaluate(self, part: str) -> tuple[float, float]:
        """The metric and the loss of a part."""

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """What else a checkpoint has to fit."""

    def results(self) -> dict[str, Any]:
        """The metric of the test part, and what else the results hold."""
        return {self.metric: self.evaluate("test")[0], "sizes": list(self.buckets)}

    # --- what follows from it ------------------------------------------------------------------

    @property
    def padded(self) -> shapes.Buckets | shapes.Grid:
        """The sizes that batches are padded to: those by which they were grouped, or the largest alone (``--unbucketed``)."""
        return type(self.buckets)([self.longest]) if self.request["unbucketed"] else self.buckets

    @property
    def evaluation(self) -> shapes.Buckets | shapes.Grid:
        """The sizes by which batches of the other parts are put together."""
        return self.buckets

    @property
    def longest(self) -> Any:
        """What every batch is padded to where nothing is bucketed."""
        return self.buckets.sizes[-1]

    @property
    def first(self) -> Batch:
        """The first training samples as they lie: the same for every variant."""
        return Batch(0, 0, self.train[: self.batch])

    def cut(self, part: str, size: int, random: np.random.Generator | None = None) -> list[np.ndarray]:
        """The numbers of a part's samples, in batches of similar lengths; see `chunks`."""
        numbers, buckets = (self.train, self.buckets) if part == "train" else (self.numbers[part], self.evaluation)
        return chunks(numbers, buckets.assign(self.lengths[part]), size, random)

    def batches(self, epoch: int) -> list[Batch]:
        """The batches of an epoch, in an order that the epoch decides."""
        cut = self.cut("train", self.batch, generator(self.seed, Stream.ORDER, epoch))
        return [Batch(epoch, number, samples) for number, samples in enumerate(cut)]

    def evaluated(self, part: str, size: int) -> Iterator[tuple[np.ndarray, Sequence[np.ndarray], Any]]:
        """The numbers, the arrays and what `network` makes of them, of every batch of a part."""
        for samples in self.cut(part, size):
            arrays = self.arrays(part, samples)
            yield samples, arrays, self.network(*map(Tensor, arrays))

    def validate(self) -> tuple[float, float]:
        """The metric (higher is better) and the loss of the validation part."""
        return self.evaluate("validation")

    def step(self, batch: Batch) -> training.Step:
        """Train on a batch, of which each rank of a data-parallel run takes its share.

        Without a loss scaler a loss that is not finite counts as an overflow.
        """
        result = self.cell(*map(Tensor, ranks.share(self.inputs(batch), self.row_axes)))
        if isinstance(result, amp.StepResult):
            return training.Step(ranks.mean(float(result.loss)), overflowed=not bool(result.finite))
        loss = ranks.mean(float(result))
        return training.Step(loss, overflowed=not math.isfinite(loss))

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that must be equal for a checkpoint to fit, as JSON."""
        return {**{name: self.request[name] for name in variants.SETTINGS}, **self.identity()}

    @property
    def graphs(self) -> int:
        """How many graphs were compiled so far."""
        return len(shapes.graphs(self.cell)) + len(shapes.graphs(self.network))

    def padded_share(self) -> float:
        """The share of what an epoch of training computes, over all padded sides, that is padding."""
        real = computed = 0
        for batch in self.batches(0):
            lengths = self.lengths["train"][batch.samples].reshape(len(batch.samples), -1)
            longest = lengths.max(0).tolist()
            sizes = longest if self.ragged and not self.bucketing else self.padded(*longest)
            real += int(lengths.sum())
            computed += (self.batch if self.bucketing else len(lengths)) * int(np.sum(sizes))
        return 1 - real / computed


def corpus(options: Mapping[str, Any], read: Callable[[Path], Any], built_in: Callable[..., Any], parts: int) -> Any:
    """The corpus that the options name: read from a folder, or generated, of so many ``parts``."""
    if options["data"]:
        return read(Path(options["data"]))
    if options.get("ragged"):
        return built_in(TRAINED, *[TESTED] * (parts - 1), seed=options["seed"], ragged=True)
    return built_in(seed=options["seed"])


def plan(
    lengths: np.ndarray,
    longest: int,
    batch: int,
    request: Mapping[str, Any],
    step_cost: Callable[[int], float],
    compile_cost: float,
    **options: Any,
) -> shapes.Buckets:
    """The sizes with which this training is soonest over; without the shapes family, only ``longest``.

    Args:
        lengths: of the training samples.
        longest: of what any size has to hold.
        batch: samples a step.
        request: its "fixes" and "epochs" count.
        step_cost, compile_cost, options: see `shapes.Buckets.plan`.
    """
    if "shapes" not in request["fixes"]:
        return shapes.Buckets([longest])
    widest_of_batches = np.sort(lengths)[batch - 1 :: batch]
    epochs = request["epochs"]
    return shapes.Buckets.plan([*widest_of_batches, longest], step_cost, compile_cost, epochs, **options)


def learning_rates(height: float, steps: int, warm_up: float = 0.1) -> list[float]:
    """Of every step: up from zero in a share of the steps, down to zero in the others (Devlin et al. 2019, A.2)."""
    rising = max(1, int(warm_up * steps))
    return [height * min((step + 1) / rising, (steps - step) / max(1, steps - rising)) for step in range(steps)]


def load(example: str) -> type[Trainer]:
    """The trainer of an example, by its package's name."""
    return importlib.import_module(f"examples.{example}.train").TRAINER


def main(trainer: type[Trainer]) -> None:
    """A variant's process: train what its request describes (`variants.answer`)."""
    variants.answer(functools.partial(_train, trainer))


def _train(trainer: type[Trainer], request: dict[str, Any], folder: Path, resume: bool) -> dict[str, Any]:
    made = trainer(request, folder)
    progress = training.train(made, request["epochs"], folder / FILE, resume, request["variant"])
    found = {**made.results(), "metric": made.metric, "padded_share": made.padded_share()}
    return {**training.summary(progress), **found, "graphs": made.graphs}
