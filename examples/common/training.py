"""How every example trains a variant: its cells, batches and step, in a process of its own; `examples.common.loop` trains it.

Under `msrun` every rank runs the same program on the same batches and takes its own rows of each; MindSpore averages the
gradients.
"""

from __future__ import annotations

import importlib
import math
import signal
import sys
import traceback
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Callable, ClassVar, NamedTuple

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops
from mindspore.communication import GlobalComm, get_group_size, get_rank, init

import ascend_fixes
from ascend_fixes import amp, files, shapes
from ascend_fixes.errors import first_line
from examples.common import checkpoint
from examples.common.files import ExampleError, expect, write_json, write_text
from examples.common.loop import summary, train
from examples.common.randomness import TESTED, TRAINED, Stream, chunks, generator

HALF = "params=float32,compute=float16,output=float32"
SETTINGS = ("fixes", "precision", "fused", "seed", "distributed", "unbucketed", "limit")  # what a checkpoint has to fit
REQUEST, RESULT, LOG = "request.json", "result.json", "traceback.log"
WRONG_USE = 2
BOTH = "rows size"  # for `axes`


class Batch(NamedTuple):
    """A batch: its epoch, its number in it, and the numbers of its samples."""

    epoch: int
    number: int
    samples: np.ndarray


class Step(NamedTuple):
    """What a step returned: its loss, and whether gradients left the range, so that it was not applied."""

    loss: float
    overflowed: bool


def axes(**arguments: str) -> dict[str, dict[int, str]]:
    """What the axes of arguments count, ``axes(ids="rows size")``, as `shapes.bucketed` takes it; "-" is always the same."""
    named = {name: enumerate(sides.split()) for name, sides in arguments.items()}
    return {name: {axis: side for axis, side in sides if side != "-"} for name, sides in named.items()}


class Trainer(ABC):
    """One variant, made ready to train from a request (`command_line.run_variant`).

    A subclass makes the network in its ``__init__``, which takes the request and the variant's folder, and calls `build` and
    `bucket` there. Two keys of a request are not the command line's: ``ragged`` takes built-in data with the lengths of a real
    corpus (`randomness.drawn`), padded plainly batch by batch; ``batch`` is the samples a step.
    """

    title: ClassVar[str]  # the model's name; ``about``: with its source
    about: ClassVar[str]
    options: ClassVar[Mapping[str, Mapping[str, Any]]] = {}  # what its command line has besides, as argparse takes it
    epochs: ClassVar[Mapping[str, int]]  # by default, from "pretrained" weights, else on "data", else "built-in"
    check: ClassVar[Callable[[Mapping[str, Any]], Any]]  # raises an `ExampleError` for options that cannot be used
    metric: ClassVar[str]
    samples: ClassVar[str]  # what they are called in the results
    average: ClassVar[float] = 0.0  # how much an epoch weighs beside the next in the weights that are evaluated
    by_loss: ClassVar[bool] = False  # whether the loss chooses the best epoch
    ragged_axes: ClassVar[Mapping[str, Mapping[int, str]]]  # of the arguments of `network`
    training_axes: ClassVar[Mapping[str, Mapping[int, str]]] = {}  # of those that follow them in `cell`
    sides: ClassVar[Any] = "size"  # the name of the lengths in both, or the names of two
    counted: ClassVar[int | None] = None  # the array of weights over whose sum the loss is a mean; None: over rows
    evaluation_batch: ClassVar[int]  # samples that are evaluated at a time
    identity: Mapping[str, Any]  # what else a checkpoint has to fit, as JSON
    lengths: Mapping[str, np.ndarray]  # by part, of every sample, (n,), or (n, 2) where two sides are padded
    numbers: dict[str, np.ndarray]  # by part, of its samples; ``train``: those to train on
    buckets: shapes.Buckets | shapes.Grid  # the sizes by which batches are put together
    evaluation: shapes.Buckets | None = None  # those of the other parts, where they are others

    def __init__(self, request: Mapping[str, Any], batch: int) -> None:
        ms.set_context(mode=ms.GRAPH_MODE)
        if request["fused"]:
            ms.set_context(enable_graph_kernel=True)
        if request["fixes"]:
            ascend_fixes.patch(*request["fixes"])
        self.request, self.seed = request, request["seed"]
        self.ragged, self.batch = bool(request.get("ragged")), request.get("batch") or batch
        self.bucketing, self.safe = "shapes" in request["fixes"], "fusion" in request["fixes"]
        self.finite = "amp" in request["fixes"]
        self.own = self.bucketing or self.ragged  # arrays are as wide as the longest of their batch, not of the corpus
        self.axes = {**self.ragged_axes, **self.training_axes}  # of all arguments of `cell`, in their order
        every = enumerate(self.axes.values())
        # Rows are the first axis but in these arguments, by position; see `share`.
        self.row_axes = {number: axis for number, own in every for axis, side in own.items() if side == "rows" and axis}

    def build(
        self, loss: nn.Cell, network: nn.Cell, optimizer: nn.Optimizer, policy: Any = None, scaler: Any = None
    ) -> None:
        """Make ``cell``, which trains on a batch, ``network``, which takes one without labels, and ``scaler`` of the loss.

        MindSpore's own step, or with the amp family `amp.TrainStep`, in float16 with ``policy`` (`HALF`) and ``scaler``.
        """
        self.parameters: Sequence[Parameter] = network.trainable_params()
        trained = {id(parameter) for parameter in optimizer.parameters}
        self.slots = [parameter for parameter in optimizer.get_parameters() if id(parameter) not in trained]
        self.loss_cell, self.network, self.optimizer = loss, network, optimizer
        self.scaler: amp.LossScaler | None = None
        self.cell: nn.Cell
        half = self.request["precision"] == "float16"
        if self.finite:
            policy = (policy or amp.Policy(HALF)) if half else None
            self.scaler = (scaler or amp.LossScaler()) if half else amp.LossScaler.off()
            self.cell = amp.TrainStep(loss, optimizer, self.scaler, policy, weight_output=self.weight_output)
            self.network = amp.autocast(network, policy) if half else network
        else:
            if half:
                network.to_float(ms.float16)
            self.cell = nn.TrainOneStepCell(loss, optimizer)

    def bucket(self, outputs: Any = None, pad: Any = 0, padded: Any = None) -> None:
        """Let ``cell`` pad a rank's share of a batch, and ``network`` the batches that are evaluated; unless the family is off."""
        if self.bucketing:
            sizes: dict[Any, Any] = {"rows": shapes.Buckets([share_rows(self.batch)]), self.sides: self.padded}
            self.cell = shapes.bucketed(self.cell, axes=self.axes, buckets=sizes, pad=pad)
            sizes = {"rows": shapes.Buckets([self.evaluation_batch]), self.sides: padded or self.padded}
            self.network = shapes.bucketed(self.network, axes=self.ragged_axes, buckets=sizes, pad=pad, outputs=outputs)

    def sample(self, lengths: Mapping[str, np.ndarray]) -> None:
        """Say of how many samples, and how long ones, each part consists."""
        self.lengths = lengths
        self.numbers = {part: np.arange(len(own)) for part, own in lengths.items()}

    @abstractmethod
    def arrays(self, part: str, samples: np.ndarray) -> Sequence[np.ndarray]:
        """What `network` takes, of some samples of a part."""

    @abstractmethod
    def inputs(self, batch: Batch) -> Sequence[np.ndarray]:
        """What `cell` takes."""

    @abstractmethod
    def evaluate(self, part: str) -> tuple[float, float]:
        """The metric (higher is better) and the loss of a part."""

    @property
    def rank(self) -> int:
        """The number of this process among the ranks; 0 where there is one."""
        return _here()[0]

    def results(self) -> dict[str, Any]:
        """The metric of the test part, and what else the results hold."""
        counts = {part: len(numbers) for part, numbers in self.numbers.items()}
        return {self.metric: self.evaluate("test")[0], self.samples: counts, "sizes": list(self.buckets)}

    @property
    def padded(self) -> shapes.Buckets | shapes.Grid:
        """The sizes that batches are padded to: those by which they were grouped, or the largest alone (``--unbucketed``)."""
        return type(self.buckets)([self.longest]) if self.request["unbucketed"] else self.buckets

    @property
    def longest(self) -> Any:
        """What every batch is padded to where nothing is bucketed."""
        return np.max(self.buckets.sizes, axis=0).tolist()

    @property
    def first(self) -> Batch:
        """The first training samples as they lie: the same for every variant."""
        return Batch(0, 0, self.numbers["train"][: self.batch])

    def plan(self, lengths: np.ndarray, longest: int, costs: tuple[float, float, float]) -> shapes.Buckets:
        """The sizes with which this training is soonest over (`plan`); without the family, only the longest."""
        sizes = plan(lengths, longest, self.batch, self.request["epochs"], costs) if self.bucketing else [longest]
        return shapes.Buckets(sizes)

    def cut(self, part: str, size: int, random: np.random.Generator | None = None) -> list[np.ndarray]:
        """The numbers of a part's samples, in batches of similar lengths; see `chunks`."""
        buckets = self.buckets if part == "train" else self.evaluation or self.buckets
        return chunks(self.numbers[part], buckets.assign(self.lengths[part]), size, random)

    def batches(self, epoch: int) -> list[Batch]:
        """The batches of an epoch, in an order that the epoch decides."""
        cut = self.cut("train", self.batch, generator(self.seed, Stream.ORDER, epoch))
        return [Batch(epoch, number, samples) for number, samples in enumerate(cut)]

    def evaluated(self, part: str) -> Iterator[tuple[np.ndarray, Sequence[np.ndarray], Any]]:
        """The numbers, the arrays and what `network` makes of them, of every batch of a part."""
        for samples in self.cut(part, self.evaluation_batch):
            arrays = self.arrays(part, samples)
            yield samples, arrays, self.network(*map(Tensor, arrays))

    def step(self, batch: Batch) -> Step:
        """Train on this rank's share of a batch. Without a loss scaler a loss that is not finite counts as an overflow."""
        arrays = share(self.inputs(batch), self.row_axes)
        result = self.cell(*map(Tensor, arrays))
        scaled = isinstance(result, amp.StepResult)
        weight = 1.0 if self.counted is None else float(arrays[self.counted].sum())
        loss = mean(float(result.loss if scaled else result), weight)
        return Step(loss, overflowed=not (bool(result.finite) if scaled else math.isfinite(loss)))

    @property
    def weight_output(self) -> int | None:
        """Where the loss says how much it counts beside those of other ranks; None where there are none, or all count alike."""
        return 1 if self.counted is not None and self.finite and _here()[1] > 1 else None

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that must be equal for a checkpoint to fit, as JSON."""
        return {**{name: self.request[name] for name in SETTINGS}, **self.identity}

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
    """The corpus that the options name: read from a folder, or generated, of so many ``parts``; `ExampleError` without the folder."""
    if options["data"]:
        folder = Path(options["data"])
        expect(folder.is_dir(), f"--data {folder}: no such folder")
        return read(folder)
    if options.get("ragged"):
        return built_in(TRAINED, *[TESTED] * (parts - 1), seed=options["seed"], ragged=True)
    return built_in(seed=options["seed"])


def plan(
    lengths: np.ndarray, longest: int, batch: int, epochs: int, costs: tuple[float, float, float], **options: Any
) -> shapes.Buckets:
    """The sizes with which so many epochs over batches of samples of these lengths are soonest over.

    ``costs`` are a step's seconds, fixed and for every position of a row, and a compilation's: see `shapes.Buckets.plan`.
    """
    fixed, each, compiling = costs
    widest = [*np.sort(lengths)[batch - 1 :: batch], longest]  # of batches
    return shapes.Buckets.plan(widest, lambda size: fixed + each * size, compiling, epochs, **options)


def learning_rates(height: float, steps: int, warm_up: float = 0.1) -> list[float]:
    """Of every step: up from zero in a share of the steps, down to zero in the others (Devlin et al. 2019, A.2)."""
    rising = max(1, int(warm_up * steps))
    return [height * min((step + 1) / rising, (steps - step) / max(1, steps - rising)) for step in range(steps)]


def start(count: int) -> None:
    """Make this process one of ``count`` data-parallel ranks; elsewhere there is one, and what follows changes nothing."""
    ms.set_context(mode=ms.GRAPH_MODE)
    init()
    ms.set_auto_parallel_context(parallel_mode=ms.ParallelMode.DATA_PARALLEL, gradients_mean=True, device_num=count)


def _here() -> tuple[int, int]:
    """The number of this rank, and how many there are."""
    return (get_rank(), get_group_size()) if GlobalComm.INITED else (0, 1)


def share_rows(batch: int) -> int:
    """How many rows of a batch a rank has at most."""
    return -(-batch // _here()[1])


def share(arrays: Iterable[np.ndarray], axes: Mapping[int, int] | None = None) -> list[np.ndarray]:
    """This rank's rows of a batch: every n-th; of a batch with fewer rows than ranks, one that another rank has too.

    ``axes`` names the axis of the rows for those arrays, by position, in which it is not the first.
    """
    arrays = list(arrays)
    rank, count = _here()
    if count == 1:
        return arrays
    size = len(arrays[0])
    own = np.arange(rank, size, count) if rank < size else np.array([rank % size])
    return [np.take(array, own, (axes or {}).get(number, 0)) for number, array in enumerate(arrays)]


def mean(value: float, weight: float = 1.0) -> float:
    """The mean of a number over all ranks, each of which counts as much as its weight; each of them has to ask."""
    if _here()[1] == 1:
        return value
    total, weights = ops.AllReduce()(Tensor([value * weight, weight], ms.float32)).asnumpy().tolist()
    return total / weights


def load(example: str) -> type[Trainer]:
    """The trainer of an example, by its package's name."""
    return importlib.import_module(f"examples.{example}.train").Trainer


def main(trainer: type[Trainer]) -> None:
    """Train what ``request.json`` of the folder that is the first argument describes; ``result.json`` is the answer."""
    folder, resume = Path(sys.argv[1]), "--resume" in sys.argv[2:]
    request = files.read_json(folder / REQUEST)
    if request["distributed"] > 1:
        start(request["distributed"])
    try:
        made = trainer(request, folder)
        progress = train(made, request["epochs"], folder / checkpoint.FILE, resume, request["variant"])
        found = {**made.results(), "metric": made.metric, "padded_share": made.padded_share()}
        graphs = len(shapes.graphs(made.cell)) + len(shapes.graphs(made.network))
        result = {"status": "finished", **summary(progress), **found, "graphs": graphs}
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except ExampleError as error:
        print(error, file=sys.stderr)
        sys.exit(WRONG_USE)
    except Exception as error:  # whatever a platform defect throws becomes a row of the table
        write_text(folder / LOG, traceback.format_exc())
        result = {"status": f"crashed: {first_line(error)}"}
    if _here()[0] == 0:
        write_json(folder / RESULT, result)
