"""Train one variant of ALBERT: plainly, as a newcomer to MindSpore writes it, or with families of fixes.

Each family changes one thing:

* **shapes**: batches hold windows of similar length and are padded to one of a few lengths (`shapes.bucketed`);
  plainly, every window is padded to the longest.
* **amp**: padding is masked finitely, and the step is an `amp.TrainStep` with an `amp.LossScaler`, in float16
  under an `amp.Policy`; plainly, -1e9 is added, and float16 is the cell's ``to_float``.
* **fusion**: softmax, GELU and layer normalisation are those of `ascend_fixes.fusion`, and `fusion.safe` keeps
  attention out of the graph kernel.
* **host**: texts are cut into windows on the host in every variant; nothing is left to change.

Run by `examples.common.variants`, in a process of its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import nn

import ascend_fixes
from ascend_fixes import shapes
from examples.albert import data, scoring
from examples.albert.answers import Answers
from examples.albert.model import Albert, SpanLoss
from examples.albert.reader import Description, Part, Runner, answers
from examples.albert.start import Start, start
from examples.albert.windows import Window
from examples.common import ranks, step, training, variants
from examples.common.batches import chunks
from examples.common.errors import DataError
from examples.common.pretrained import assign
from examples.common.randomness import Stream, generator

__all__ = ["EPOCHS", "MODULE", "Trainer", "train"]

MODULE = "examples.albert.train"

BATCH = 16
EPOCHS = 8
LEARNING_RATE, PRETRAINED_LEARNING_RATE = 0.002, 3e-5
_TRAINING = ("train", "validation")

# What a batch costs, in seconds on two CPU cores; the number of padded lengths is weighed with it.
STEP_SECONDS, PIECE_SECONDS, COMPILE_SECONDS = 0.01, 0.0007, 5.0

_RAGGED = {
    **{name: {0: "windows", 1: "pieces"} for name in ("ids", "segments", "mask")},
    **{name: {0: "windows"} for name in ("first", "last", "weights")},
}


def train(request: dict[str, Any], folder: Path, resume: bool) -> dict[str, Any]:
    """Train the variant that ``request`` describes, with its checkpoint in ``folder``, and return its results."""
    ms.set_context(mode=ms.GRAPH_MODE)
    if request["fused"]:
        ms.set_context(enable_graph_kernel=True)
    if request["fixes"]:
        ascend_fixes.patch(*request["fixes"])
    fixes, seed = request["fixes"], request["seed"]
    given = start(request)
    vocabulary, shape = given.vocabulary, given.shape
    sets = {**dict(zip(_TRAINING, data.split(given.corpus.train, seed))), **given.tests}
    parts = {name: Part.of(questions, vocabulary, shape) for name, questions in sets.items()}
    numbers = _trainable(parts["train"], given, request["variant"])[: request["limit"]]
    network = Albert(given.config, generator(seed, Stream.WEIGHTS), safe="fusion" in fixes)
    assign(network, given.weights)
    steps = request["epochs"] * math.ceil(len(numbers) / BATCH)
    buckets = _buckets(parts, numbers, request)
    rates = step.learning_rates(PRETRAINED_LEARNING_RATE if given.weights else LEARNING_RATE, steps)
    trainer = Trainer(network, buckets, vocabulary.pad, request, rates)
    decide = given.corpus.has_unanswerable

    task = training.Task(
        settings={
            **{name: request[name] for name in (*variants.SETTINGS, "limit")},
            "corpus": given.corpus.digest(),
            "shape": asdict(shape),
            "model": asdict(given.config),
            "vocabulary": vocabulary.digest(),
            "weights": given.weights_digest(),
        },
        batches=lambda epoch: trainer.batches(parts["train"], numbers, epoch),
        step=trainer.step,
        validate=lambda: trainer.validate(parts["validation"], decide)[:2],
        parameters=network.trainable_params(),
        slots=step.slots(trainer.optimizer),
        scaler=trainer.scaler,
    )
    progress = training.train(task, request["epochs"], folder / "checkpoint.npz", resume, request["variant"])
    _, _, threshold = trainer.validate(parts["validation"], decide)
    Description(given.config, shape, threshold).save(folder, vocabulary)
    tests = {name: trainer.score(part, threshold) for name, part in parts.items() if name not in _TRAINING}
    first = next(iter(tests.values()))
    return {
        **training.summary(progress),
        "graphs": trainer.graphs,
        "padded_share": trainer.padded_share(parts["train"], numbers),
        "metric": "test_exact_match",
        "test_exact_match": first["exact"],
        "test_f1": first["f1"],
        "tests": tests,
        "threshold": threshold,
        "questions": {name: len(part.questions) for name, part in parts.items()},
        "windows": {name: len(part.windows) for name, part in parts.items()},
        "sizes": list(buckets),
        "parameters": sum(math.prod(parameter.shape) for parameter in network.trainable_params()),
    }


def _trainable(part: Part, given: Start, title: str) -> np.ndarray:
    """The windows to train on; says what is left out, and why."""
    numbers = part.trainable()
    lost = len(part.questions) - len({part.windows[number].question for number in numbers})
    if lost == len(part.questions):
        raise DataError(f"--length {given.shape.length}: no training answer fits a window; choose a larger one")
    notes = [
        f"{name}: {count:,} questions without an answer left out, the training data has none"
        for name, count in given.left_out.items()
        if count
    ]
    if lost:
        notes.append(f"{lost:,} of {len(part.questions):,} training questions left out, their answers fit no window")
    if given.weights and not given.has_span:
        notes.append("the checkpoint has no span head, which starts from random weights")
    for note in notes:
        print(f"{title}: {note}", flush=True)
    return numbers


def _buckets(parts: Mapping[str, Part], numbers: np.ndarray, request: Mapping[str, Any]) -> shapes.Buckets:
    """The lengths with which this training is soonest over; without the family, only the longest window's."""
    longest = max(int(part.lengths.max()) for part in parts.values())
    if "shapes" not in request["fixes"]:
        return shapes.Buckets([longest])
    longest_of_batches = np.sort(parts["train"].lengths[numbers])[BATCH - 1 :: BATCH]
    return shapes.Buckets.plan(
        [*longest_of_batches, longest],
        step_cost=lambda pieces: STEP_SECONDS + PIECE_SECONDS * pieces,
        compile_cost=COMPILE_SECONDS,
        epochs=request["epochs"],
    )


# --- training ----------------------------------------------------------------------------------


class Trainer(Runner):
    """One variant's compiled step and evaluation, and the batches they take."""

    def __init__(
        self, network: Albert, buckets: shapes.Buckets, pad: int, request: Mapping[str, Any], rates: list[float]
    ) -> None:
        fixes = request["fixes"]
        self.seed = request["seed"]
        self.optimizer = nn.Adam(network.trainable_params(), learning_rate=rates)
        made = step.cells(SpanLoss(network, finite_masks="amp" in fixes), network, self.optimizer, request)
        self._step, self.scaler = made.step, made.scaler
        self.groups = buckets
        super().__init__(made.network, step.padded_to(buckets, request), pad, "shapes" in fixes)
        if self.bucketing:
            self._step = self.bucketed(self._step, _RAGGED, ranks.rows(BATCH))

    @property
    def graphs(self) -> int:
        """How many graphs were compiled so far."""
        return len(shapes.graphs(self._step)) + len(shapes.graphs(self.network))

    def batches(self, part: Part, numbers: np.ndarray, epoch: int) -> list[list[Window]]:
        """The windows of every batch of an epoch, in an order that the epoch decides."""
        random = generator(self.seed, Stream.ORDER, epoch)
        cut = chunks(numbers, self.groups.assign(part.lengths), BATCH, random)
        return [[part.windows[number] for number in chunk] for chunk in cut]

    def step(self, batch: Sequence[Window]) -> training.Step:
        """Train on one of the `batches`."""
        first = np.array([window.first for window in batch], np.int32)
        last = np.array([window.last for window in batch], np.int32)
        arrays = (*self.inputs(batch), first, last, np.ones(len(batch), np.float32))
        return step.run(self._step, arrays)

    def validate(self, part: Part, decide: bool) -> tuple[float, float, float | None]:
        """Exact match, loss over the windows, and the best threshold for "no answer" where that is to be decided."""
        logits = self.logits(part)
        found = answers(part, logits)
        threshold = None
        if decide:
            texts = {question.id: one.text() for question, one in zip(part.questions, found)}
            margins = {question.id: one.margin for question, one in zip(part.questions, found)}
            threshold = scoring.best_threshold(part.questions, texts, margins)
        loss = np.mean([_loss(window, one) for window, one in zip(part.windows, logits)])
        return _scores(part, found, threshold)["exact"], float(loss), threshold

    def score(self, part: Part, threshold: float | None) -> dict[str, float]:
        """Exact match and F1."""
        return _scores(part, answers(part, self.logits(part)), threshold)

    def padded_share(self, part: Part, numbers: np.ndarray) -> float:
        """The share of the pieces computed in an epoch of training that are padding."""
        padded = 0
        for batch in self.batches(part, numbers, 0):
            padded += (BATCH if self.bucketing else len(batch)) * int(self.buckets(max(map(len, batch))))
        return 1 - float(part.lengths[numbers].sum()) / padded


def _scores(part: Part, found: Sequence[Answers], threshold: float | None) -> dict[str, float]:
    limit = math.inf if threshold is None else threshold
    texts = {question.id: one.text(limit) for question, one in zip(part.questions, found)}
    return scoring.scores(part.questions, texts)


def _loss(window: Window, logits: tuple[np.ndarray, np.ndarray]) -> float:
    """The window's loss, as `SpanLoss` has it."""
    total = 0.0
    for values, place in zip(logits, (window.first, window.last)):
        largest = values.max()
        total += largest + math.log(np.exp(values - largest).sum()) - values[place]
    return float(total / 2)


if __name__ == "__main__":
    variants.answer(train)
