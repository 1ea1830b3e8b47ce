"""Train one variant of ALBERT: as a newcomer to MindSpore writes it, or with families of fixes (see README.md)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from mindspore import nn

from examples.albert import answers, data, model
from examples.albert.data import BUILT_IN, PUBLISHED, Part, Shape, Vocabulary, read_vocabulary, words_of
from examples.common import checkpoint, training
from examples.common.command_line import positive
from examples.common.files import expect
from examples.common.randomness import Stream, digest, generator
from examples.common.training import BOTH, axes

BATCH, LEARNING_RATE, PRETRAINED_LEARNING_RATE = 16, 0.002, 3e-5
SMALL = {"embedding": 64, "width": 64, "layers": 2, "heads": 4, "inner": 128}  # what starts from random weights
COSTS = 0.01, 0.0007, 5.0  # in seconds on two CPU cores: of a batch, of every padded piece of a row, of a compilation
_BOTH = {0: "rows", 1: "size"}


@dataclass(frozen=True)
class Start:
    """What a run starts from. All errors in it come up here.

    A model that never sees a question without an answer is not asked any: ``tests`` are without those.
    What has no ``weights``, by parameter name, starts from random numbers.
    """

    corpus: data.Corpus
    tests: Mapping[str, Sequence[data.Question]]
    vocabulary: Vocabulary
    shape: Shape
    config: model.Config
    weights: Mapping[str, np.ndarray]


def start(request: Mapping[str, Any]) -> Start:
    """Read what the request names: ``data``, ``vocabulary``, ``pretrained``, ``length``, ``stride``, ``seed``.

    Raises `ExampleError` for what cannot be used or does not go together, `FileError` for what cannot be read.
    """
    given = {name: request[name] for name in ("length", "stride") if request[name]}
    shape = Shape(**{**(PUBLISHED if request["data"] else BUILT_IN), **given})
    corpus = training.corpus(request, data.read_folder, data.built_in, parts=2)
    asked = {
        name: tuple(one for one in questions if one.answers or corpus.has_unanswerable)
        for name, questions in corpus.tests.items()
    }
    tests = {name: questions for name, questions in asked.items() if questions}
    none = "no test question has an answer, and every training question has one"
    expect(tests, f"--data {request['data']}: {none}")
    vocabulary = _vocabulary(request, corpus)
    config, weights = model.Config(words=len(vocabulary), length=shape.length, **SMALL), {}
    if request["pretrained"]:
        config, weights = model.read(Path(request["pretrained"]))
        longest = f"--length {shape.length}: the longest input of the checkpoint is {config.length}"
        expect(shape.length <= config.length, longest)
        both = f"the vocabulary has {len(vocabulary):,} pieces, the checkpoint {config.words:,}"
        apart = f"--pretrained {request['pretrained']}: {both}; they do not belong together"
        expect(len(vocabulary) <= config.words, apart)
    return Start(corpus, tests, vocabulary, shape, config, weights)


def _vocabulary(request: Mapping[str, Any], corpus: data.Corpus) -> Vocabulary:
    """The vocabulary that was given, else the checkpoint's, else, for built-in data, its words."""
    if request["vocabulary"]:
        return read_vocabulary(Path(request["vocabulary"]))
    if request["pretrained"]:
        path = Path(request["pretrained"]) / "tokenizer.json"
        expect(path.exists(), f"--pretrained {path.parent}: has no tokenizer.json; add --vocabulary FILE")
        return read_vocabulary(path)
    needs = "--data needs a vocabulary: add --vocabulary FILE (albert-30k-clean.vocab) or --pretrained DIR"
    expect(not request["data"], needs)
    return words_of(text for question in corpus.train for text in (question.text, question.passage))


class Trainer(training.Trainer):
    """Windows in batches of similar length."""

    title, about = "ALBERT", "ALBERT (Lan et al. 2020)"
    epochs: ClassVar = {"built-in": 8, "data": 10, "pretrained": 2}
    options: ClassVar = {
        "vocabulary": {"metavar": "FILE", "help": "piece<TAB>log-probability lines, or a tokenizer.json"},
        "pretrained": {"metavar": "DIR", "help": "start from this Hugging Face checkpoint of an ALBERT"},
        "length": {"type": positive, "metavar": "N", "help": "pieces of the longest window (default: 384)"},
        "stride": {"type": positive, "metavar": "N", "help": "pieces from one window to the next (default: 128)"},
    }
    check = staticmethod(start)
    metric, evaluation_batch = "test_exact_match", 64
    ragged_axes: ClassVar = axes(ids=BOTH, segments=BOTH, mask=BOTH)
    training_axes: ClassVar = axes(first="rows", last="rows", weights="rows")

    def __init__(self, request: Mapping[str, Any], folder: Path) -> None:
        super().__init__(request, BATCH)
        self.given, self.folder = start(request), folder
        given = self.given
        weights = digest(*(given.weights[name] for name in sorted(given.weights)))
        text = {"corpus": given.corpus.digest(), "vocabulary": digest(str(given.vocabulary)), "weights": weights}
        self.identity = {**text, "shape": asdict(given.shape), "model": asdict(given.config)}
        trained = dict(zip(("train", "validation"), data.split(given.corpus.train, self.seed)))
        sets = {**trained, **given.tests}
        self.parts = {name: Part.of(questions, given.vocabulary, given.shape) for name, questions in sets.items()}
        self.sample({name: part.lengths for name, part in self.parts.items()})
        train = _trainable(self.parts["train"], given, request["variant"])[: request["limit"]]
        self.numbers["train"] = train
        network = model.Albert(given.config, generator(self.seed, Stream.WEIGHTS), safe=self.safe)
        checkpoint.assign(network.get_parameters(), given.weights)
        steps = request["epochs"] * math.ceil(len(train) / self.batch)
        rates = training.learning_rates(PRETRAINED_LEARNING_RATE if given.weights else LEARNING_RATE, steps)
        optimizer = nn.Adam(network.trainable_params(), learning_rate=rates)
        self.build(model.SpanLoss(network, finite_masks=self.finite), network, optimizer)
        longest = max(int(lengths.max()) for lengths in self.lengths.values())
        self.buckets = self.plan(self.lengths["train"][train], longest, COSTS)
        self.bucket({0: _BOTH, 1: _BOTH}, pad={"ids": given.vocabulary.pad})

    def arrays(self, part: str, samples: np.ndarray) -> tuple[np.ndarray, ...]:
        windows = [self.parts[part].windows[number] for number in samples]
        return data.collate(windows, max(map(len, windows)) if self.own else self.longest, self.given.vocabulary.pad)

    def inputs(self, batch: training.Batch) -> tuple[np.ndarray, ...]:
        windows = [self.parts["train"].windows[number] for number in batch.samples]
        first, last = (np.array([getattr(one, side) for one in windows], np.int32) for side in ("first", "last"))
        return (*self.arrays("train", batch.samples), first, last, np.ones(len(windows), np.float32))

    def answered(self, name: str) -> tuple[list[answers.Answers], float]:
        """The answers to a part's questions, and the loss over its windows, as `SpanLoss` has it."""
        part = self.parts[name]
        logits = answers.logits_of(part, ((own, both) for own, _, both in self.evaluated(name)))
        losses = [
            np.logaddexp.reduce(values) - values[place]
            for window, both in zip(part.windows, logits)
            for values, place in zip(both, (window.first, window.last))
        ]
        return answers.answers(part, logits), float(np.mean(losses))

    def evaluate(self, part: str) -> tuple[float, float]:
        found, loss = self.answered(part)
        return self.scores(part, found, self.threshold(found))["exact"], loss

    def scores(self, part: str, found: Sequence[answers.Answers], threshold: float | None) -> dict[str, float]:
        limit, questions = math.inf if threshold is None else threshold, self.parts[part].questions
        return answers.scores(questions, {question.id: one.text(limit) for question, one in zip(questions, found)})

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
        described = {"config": asdict(self.given.config), "shape": asdict(self.given.shape), "threshold": threshold}
        checkpoint.describe(self.folder, "albert", {**described, "tokenizer": str(self.given.vocabulary)})
        tests = {name: self.scores(name, self.answered(name)[0], threshold) for name in self.given.tests}
        first = next(iter(tests.values()))
        return {
            self.metric: first["exact"],
            "test_f1": first["f1"],
            "tests": tests,
            "threshold": threshold,
            "questions": {name: len(part.questions) for name, part in self.parts.items()},
            "windows": {name: len(part.windows) for name, part in self.parts.items()},
            "sizes": list(self.buckets),
            "parameters": sum(parameter.size for parameter in self.parameters),
        }


def _trainable(part: Part, given: Start, title: str) -> np.ndarray:
    """The windows to train on; says what is left out, and why."""
    numbers = part.trainable()
    lost = len(part.questions) - len({part.windows[number].question for number in numbers})
    none = f"--length {given.shape.length}: no training answer fits a window; choose a larger one"
    expect(lost < len(part.questions), none)
    notes = []
    for name, questions in given.corpus.tests.items():
        if left := len(questions) - len(given.tests.get(name, ())):
            notes.append(f"{name}: {left:,} questions without an answer left out, the training data has none")
    if lost:
        notes.append(f"{lost:,} of {len(part.questions):,} training questions left out, their answers fit no window")
    if given.weights and "span.weight" not in given.weights:
        notes.append("the checkpoint has no span head, which starts from random weights")
    for note in notes:
        print(f"{title}: {note}", flush=True)
    return numbers


if __name__ == "__main__":
    training.main(Trainer)
