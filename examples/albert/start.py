"""What a run starts from: corpus, vocabulary, windows, model sizes and weights. All errors in them come up here."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from examples.albert import built_in, data, pretrained
from examples.albert.model import Config
from examples.albert.pieces import Vocabulary, read_vocabulary, words_of
from examples.albert.windows import BUILT_IN, PUBLISHED, Shape
from examples.common.errors import DataError, UsageError
from examples.common.lengths import TESTED, TRAINED

__all__ = ["Start", "start"]

SMALL = {"embedding": 64, "width": 64, "layers": 2, "heads": 4, "inner": 128}


@dataclass(frozen=True)
class Start:
    """See the attributes.

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

    def weights_digest(self) -> str:
        """A hash of the weights."""
        return hashlib.sha256(b"".join(self.weights[name].tobytes() for name in sorted(self.weights))).hexdigest()


def start(request: Mapping[str, Any]) -> Start:
    """Read what the request names: ``data``, ``vocabulary``, ``pretrained``, ``length``, ``stride``, ``seed``.

    Raises:
        DataError: a corpus or a vocabulary cannot be used.
        CheckpointError: a pre-trained checkpoint cannot be used.
        UsageError: they do not go together.
    """
    shape = _shape(request)
    corpus = _corpus(request)
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


def _corpus(request: Mapping[str, Any]) -> data.Corpus:
    if request["data"]:
        return data.read_folder(Path(request["data"]))
    if request.get("ragged"):
        return built_in.corpus(TRAINED, TESTED, request["seed"], ragged=True)
    return built_in.corpus(seed=request["seed"])


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
