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

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from mindspore import nn

from ascend_fixes import shapes
from examples.albert import data, scoring
from examples.albert.answers import Answers
from examples.albert.model import Albert, SpanLoss
from examples.albert.reader import Description, Part, Runner, answers
from examples.albert.start import Start, start
from examples.albert.windows import Window
from examples.common import ranks, step, trainer, variants
from examples.common.batches import chunks
from examples.common.errors import DataError
from examples.common.pretrained import assign
from examples.common.randomness import Stream, generator

__all__ = ["EPOCHS", "TRAINER"]

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


class AlbertTrainer(trainer.Trainer):
    """Windows in batches of similar length."""

    metric = "test_exact_match"

    def __init__(self, request: Mapping[str, Any], folder: Path) -> None:
        super().__init__(request, BATCH)
        self.given, self.folder = start(request), folder
        given, seed = self.given, self.seed
        sets = {**dict(zip(_TRAINING, data.split(given.corpus.train, seed))), **given.tests}
        self.parts = {name: Part.of(questions, given.vocabulary, given.shape) for name, questions in sets.items()}
        self.train = _trainable(self.parts["train"], given, request["variant"])[: request["limit"]]
        network = Albert(given.config, generator(seed, Stream.WEIGHTS), safe=self.safe)
        assign(network, given.weights)
        steps = request["epochs"] * math.ceil(len(self.train) / self.batch)
        rates = step.learning_rates(PRETRAINED_LEARNING_RATE if given.weights else LEARNING_RATE, steps)
        optimizer = nn.Adam(network.trainable_params(), learning_rate=rates)
        self.build(SpanLoss(network, finite_masks="amp" in request["fixes"]), network, optimizer)
        self.buckets = _buckets(self.parts, self.train, request, self.batch)
        self.padded = step.padded_to(self.buckets, request)
        self.runner = Runner(self.network, self.padded, given.vocabulary.pad, self.bucketing, own=self.ragged)
        self.network = self.runner.network
        if self.bucketing:
            self.cell = self.runner.bucketed(self.cell, _RAGGED, ranks.rows(self.batch))

    def identity(self) -> dict[str, Any]:
        given = self.given
        return {
            "corpus": given.corpus.digest(),
            "shape": asdict(given.shape),
            "model": asdict(given.config),
            "vocabulary": given.vocabulary.digest(),
            "weights": given.weights_digest(),
        }

    def lengths(self, samples: np.ndarray) -> np.ndarray:
        return self.parts["train"].lengths[samples]

    def batches(self, epoch: int) -> list[trainer.Batch]:
        widths = self.buckets.assign(self.parts["train"].lengths)
        cut = chunks(self.train, widths, self.batch, generator(self.seed, Stream.ORDER, epoch))
        return [trainer.Batch(epoch, number, windows) for number, windows in enumerate(cut)]

    def inputs(self, batch: trainer.Batch) -> tuple[np.ndarray, ...]:
        windows = [self.parts["train"].windows[number] for number in batch.samples]
        first = np.array([window.first for window in windows], np.int32)
        last = np.array([window.last for window in windows], np.int32)
        return (*self.runner.inputs(windows), first, last, np.ones(len(windows), np.float32))

    def evaluate(self, part: Part) -> tuple[float, float, float | None]:
        """Exact match, loss over the windows, and the best threshold for "no answer" where that is to be decided."""
        logits = self.runner.logits(part)
        found = answers(part, logits)
        threshold = None
        if self.given.corpus.has_unanswerable:
            texts = {question.id: one.text() for question, one in zip(part.questions, found)}
            margins = {question.id: one.margin for question, one in zip(part.questions, found)}
            threshold = scoring.best_threshold(part.questions, texts, margins)
        loss = np.mean([_loss(part.windows[number], one) for number, one in enumerate(logits)])
        return _scores(part, found, threshold)["exact"], float(loss), threshold

    def validate(self) -> tuple[float, float]:
        return self.evaluate(self.parts["validation"])[:2]

    def results(self) -> dict[str, Any]:
        _, _, threshold = self.evaluate(self.parts["validation"])
        Description(self.given.config, self.given.shape, threshold).save(self.folder, self.given.vocabulary)
        tested = {name: part for name, part in self.parts.items() if name not in _TRAINING}
        tests = {
            name: _scores(part, answers(part, self.runner.logits(part)), threshold) for name, part in tested.items()
        }
        first = next(iter(tests.values()))
        return {
            self.metric: first["exact"],
            "test_f1": first["f1"],
            "tests": tests,
            "threshold": threshold,
            "questions": {name: len(part.questions) for name, part in self.parts.items()},
            "windows": {name: len(part.windows) for name, part in self.parts.items()},
            "sizes": list(self.buckets),
            "parameters": sum(math.prod(parameter.shape) for parameter in self.parameters),
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


def _buckets(parts: Mapping[str, Part], numbers: np.ndarray, request: Mapping[str, Any], batch: int) -> shapes.Buckets:
    """The lengths with which this training is soonest over; without the family, only the longest window's."""
    longest = max(int(part.lengths.max()) for part in parts.values())
    if "shapes" not in request["fixes"]:
        return shapes.Buckets([longest])
    longest_of_batches = np.sort(parts["train"].lengths[numbers])[batch - 1 :: batch]
    return shapes.Buckets.plan(
        [*longest_of_batches, longest],
        step_cost=lambda pieces: STEP_SECONDS + PIECE_SECONDS * pieces,
        compile_cost=COMPILE_SECONDS,
        epochs=request["epochs"],
    )


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


TRAINER = AlbertTrainer

if __name__ == "__main__":
    variants.answer(functools.partial(trainer.run, TRAINER))
