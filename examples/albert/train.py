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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from mindspore import nn

from examples.albert import answers, data, pretrained
from examples.albert.model import Albert, Config, SpanLoss
from examples.albert.pieces import Vocabulary, read_vocabulary, words_of
from examples.albert.windows import BUILT_IN, PUBLISHED, Part, Shape, Window, collate
from examples.common import checkpoint, ranks, trainer
from examples.common.command_line import positive
from examples.common.files import DataError, UsageError
from examples.common.pretrained import assign
from examples.common.randomness import Stream, digest, generator

__all__ = ["TRAINER", "Start", "start"]

BATCH, EVALUATION_BATCH = 16, 64
LEARNING_RATE, PRETRAINED_LEARNING_RATE = 0.002, 3e-5
SMALL = {"embedding": 64, "width": 64, "layers": 2, "heads": 4, "inner": 128}  # what starts from random weights

# What a batch costs, in seconds on two CPU cores; the number of padded lengths is weighed with it.
STEP_SECONDS, PIECE_SECONDS, COMPILE_SECONDS = 0.01, 0.0007, 5.0

_RAGGED = {name: {0: "rows", 1: "size"} for name in ("ids", "segments", "mask")}
_RAGGED_TRAINING = {**_RAGGED, **{name: {0: "rows"} for name in ("first", "last", "weights")}}
_OUTPUTS = {number: {0: "rows", 1: "size"} for number in (0, 1)}


@dataclass(frozen=True)
class Start:
    """What a run starts from. All errors in it come up here.

    Attributes:
        corpus: to train and to test on.
        tests: the test sets. A model that never sees a question without an answer is not asked any.
        left_out: how many questions of a test set were left out for that, by its name.
        vocabulary: what texts are cut into.
        shape: how they are cut into windows.
        config: the model's sizes.
        weights: by parameter name; what has none starts from random numbers.
    """

    corpus: data.Corpus
    tests: Mapping[str, Sequence[data.Question]]
    left_out: Mapping[str, int]
    vocabulary: Vocabulary
    shape: Shape
    config: Config
    weights: Mapping[str, np.ndarray]

    @property
    def has_span(self) -> bool:
        """Whether the span head is among the weights."""
        return "span.weight" in self.weights


def start(request: Mapping[str, Any]) -> Start:
    """Read what the request names: ``data``, ``vocabulary``, ``pretrained``, ``length``, ``stride``, ``seed``.

    Raises:
        DataError: a corpus or a vocabulary cannot be used.
        CheckpointError: a pre-trained checkpoint cannot be used.
        UsageError: they do not go together.
    """
    shape = _shape(request)
    corpus = trainer.corpus(request, data.read_folder, data.built_in, parts=2)
    tests = dict(corpus.tests)
    if not corpus.has_unanswerable:
        tests = {name: tuple(one for one in questions if one.answers) for name, questions in tests.items()}
    left_out = {name: len(corpus.tests[name]) - len(questions) for name, questions in tests.items()}
    tests = {name: questions for name, questions in tests.items() if questions}
    if not tests:
        raise DataError(
            f"--data {request['data']}: no test question has an answer, and every training question has one"
        )
    vocabulary = _vocabulary(request, corpus)
    config, weights = Config(words=len(vocabulary), length=shape.length, **SMALL), {}
    if request["pretrained"]:
        stored = pretrained.read(Path(request["pretrained"]))
        config, weights = stored.config, stored.arrays
        _check(request, vocabulary, shape, config)
    return Start(corpus, tests, left_out, vocabulary, shape, config, weights)


def _shape(request: Mapping[str, Any]) -> Shape:
    defaults = PUBLISHED if request["data"] else BUILT_IN
    given = {name: request[name] for name in ("length", "stride") if request[name]}
    return Shape(**{**defaults, **given})


def _vocabulary(request: Mapping[str, Any], corpus: data.Corpus) -> Vocabulary:
    """The vocabulary that was given, else the checkpoint's, else, for built-in data, its words."""
    if request["vocabulary"]:
        return read_vocabulary(Path(request["vocabulary"]))
    if request["pretrained"]:
        path = Path(request["pretrained"]) / "tokenizer.json"
        if not path.exists():
            raise UsageError(f"--pretrained {path.parent}: has no tokenizer.json; add --vocabulary FILE")
        return read_vocabulary(path)
    if request["data"]:
        raise UsageError(
            "--data needs a vocabulary: add --vocabulary FILE (albert-30k-clean.vocab) or --pretrained DIR"
        )
    return words_of(text for question in corpus.train for text in (question.text, question.passage))


def _check(request: Mapping[str, Any], vocabulary: Vocabulary, shape: Shape, config: Config) -> None:
    if shape.length > config.length:
        raise UsageError(f"--length {shape.length}: the longest input of the checkpoint is {config.length}")
    if len(vocabulary) > config.words:
        raise UsageError(
            f"--pretrained {request['pretrained']}: the vocabulary has {len(vocabulary):,} pieces, the checkpoint "
            f"{config.words:,}; they do not belong together"
        )


class AlbertTrainer(trainer.Trainer):
    """Windows in batches of similar length."""

    title, about = "ALBERT", "ALBERT (Lan et al. 2020)"
    options: ClassVar = {
        "vocabulary": {"metavar": "FILE", "help": "piece<TAB>log-probability lines, or a tokenizer.json"},
        "pretrained": {"metavar": "DIR", "help": "start from this Hugging Face checkpoint of an ALBERT"},
        "length": {"type": positive, "metavar": "N", "help": "pieces of the longest window (default: 384)"},
        "stride": {"type": positive, "metavar": "N", "help": "pieces from one window to the next (default: 128)"},
    }
    check = staticmethod(start)
    metric = "test_exact_match"

    @staticmethod
    def epochs(options: Mapping[str, Any]) -> int:
        return 2 if options["pretrained"] else 10 if options["data"] else 8

    def __init__(self, request: Mapping[str, Any], folder: Path) -> None:
        super().__init__(request, BATCH)
        self.given, self.folder = start(request), folder
        given = self.given
        trained = dict(zip(("train", "validation"), data.split(given.corpus.train, self.seed)))
        sets = {**trained, **given.tests}
        self.parts = {name: Part.of(questions, given.vocabulary, given.shape) for name, questions in sets.items()}
        self.sample({name: part.lengths for name, part in self.parts.items()})
        self.train = _trainable(self.parts["train"], given, request["variant"])[: request["limit"]]
        network = Albert(given.config, generator(self.seed, Stream.WEIGHTS), safe=self.safe)
        assign(network, given.weights)
        steps = request["epochs"] * math.ceil(len(self.train) / self.batch)
        rates = trainer.learning_rates(PRETRAINED_LEARNING_RATE if given.weights else LEARNING_RATE, steps)
        optimizer = nn.Adam(network.trainable_params(), learning_rate=rates)
        self.build(SpanLoss(network, finite_masks="amp" in request["fixes"]), network, optimizer)
        self.buckets = trainer.plan(
            self.lengths["train"][self.train],
            max(int(lengths.max()) for lengths in self.lengths.values()),
            self.batch,
            request,
            lambda pieces: STEP_SECONDS + PIECE_SECONDS * pieces,
            COMPILE_SECONDS,
        )
        pad = {"ids": given.vocabulary.pad}
        self.cell = self.bucketed(self.cell, _RAGGED_TRAINING, ranks.rows(self.batch), pad=pad)
        self.network = self.bucketed(self.network, _RAGGED, EVALUATION_BATCH, _OUTPUTS, pad=pad)

    def identity(self) -> dict[str, Any]:
        given = self.given
        return {
            "corpus": given.corpus.digest(),
            "shape": asdict(given.shape),
            "model": asdict(given.config),
            "vocabulary": digest(str(given.vocabulary)),
            "weights": digest(*(given.weights[name] for name in sorted(given.weights))),
        }

    def arrays(self, part: str, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        windows = [self.parts[part].windows[number] for number in samples]
        return collate(windows, max(map(len, windows)) if self.own else self.longest, self.given.vocabulary.pad)

    def inputs(self, batch: trainer.Batch) -> tuple[np.ndarray, ...]:
        windows = [self.parts["train"].windows[number] for number in batch.samples]
        first = np.array([window.first for window in windows], np.int32)
        last = np.array([window.last for window in windows], np.int32)
        return (*self.arrays("train", batch.samples), first, last, np.ones(len(windows), np.float32))

    def answered(self, name: str) -> tuple[list[answers.Answers], float]:
        """The answers to a part's questions, and the loss over its windows."""
        part = self.parts[name]
        outputs = ((numbers, both) for numbers, _, both in self.evaluated(name, EVALUATION_BATCH))
        logits = answers.logits_of(part, outputs)
        return answers.answers(part, logits), float(np.mean([_loss(*both) for both in zip(part.windows, logits)]))

    def evaluate(self, part: str) -> tuple[float, float]:
        found, loss = self.answered(part)
        return _scores(self.parts[part], found, self.threshold(found))["exact"], loss

    def threshold(self, found: Sequence[answers.Answers]) -> float | None:
        """The best threshold for "no answer", from the answers to the validation questions, where that is to be decided."""
        if not self.given.corpus.has_unanswerable:
            return None
        questions = self.parts["validation"].questions
        texts = {question.id: one.text() for question, one in zip(questions, found)}
        margins = {question.id: one.margin for question, one in zip(questions, found)}
        return answers.best_threshold(questions, texts, margins)

    def results(self) -> dict[str, Any]:
        threshold = self.threshold(self.answered("validation")[0])
        model = {"config": asdict(self.given.config), "shape": asdict(self.given.shape), "threshold": threshold}
        checkpoint.describe(self.folder, "albert", {**model, "tokenizer": str(self.given.vocabulary)})
        tests = {name: _scores(self.parts[name], self.answered(name)[0], threshold) for name in self.given.tests}
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


def _scores(part: Part, found: Sequence[answers.Answers], threshold: float | None) -> dict[str, float]:
    limit = math.inf if threshold is None else threshold
    texts = {question.id: one.text(limit) for question, one in zip(part.questions, found)}
    return answers.scores(part.questions, texts)


def _loss(window: Window, logits: answers.Logits) -> float:
    """The window's loss, as `SpanLoss` has it."""
    total = 0.0
    for values, place in zip(logits, (window.first, window.last)):
        largest = values.max()
        total += largest + math.log(np.exp(values - largest).sum()) - values[place]
    return float(total / 2)


TRAINER = AlbertTrainer

if __name__ == "__main__":
    trainer.main(TRAINER)
