"""A trained model that reads: passages and questions in, answers out, batched and padded.

A trained variant's folder holds ``model.json`` (sizes, windows, threshold), ``tokenizer.json`` and, in its
checkpoint, the best parameters; `Reader.load` also takes a Hugging Face checkpoint that has a span head.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mindspore import Tensor, nn

from ascend_fixes import shapes
from examples.albert import pretrained
from examples.albert.answers import Answers, best_answers
from examples.albert.data import Question
from examples.albert.model import Albert, Config
from examples.albert.pieces import Encoded, Vocabulary, read_vocabulary
from examples.albert.windows import PUBLISHED, Shape, Window, collate, encode, windows
from examples.common import checkpoint
from examples.common.batches import chunks
from examples.common.errors import CheckpointError
from examples.common.files import load_record, save_record
from examples.common.pretrained import assign

__all__ = ["Description", "Part", "Reader", "Runner", "answers"]

EVALUATION_BATCH = 64
_DESCRIPTION, _TOKENIZER = "model.json", "tokenizer.json"
_RAGGED = {name: {0: "windows", 1: "pieces"} for name in ("ids", "segments", "mask")}
_CUT = {0: {0: "windows", 1: "pieces"}, 1: {0: "windows", 1: "pieces"}}

Logits = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Part:
    """Questions with their windows.

    Attributes:
        questions: the questions.
        passages: the pieces of every question's passage.
        windows: of all questions.
        lengths: (windows,) int64.
        owned: the numbers of every question's windows.
    """

    questions: Sequence[Question]
    passages: Sequence[Encoded]
    windows: Sequence[Window]
    lengths: np.ndarray
    owned: Sequence[range]

    @classmethod
    def of(cls, questions: Sequence[Question], vocabulary: Vocabulary, shape: Shape) -> Part:
        """Encode and cut."""
        texts, passages = encode(questions, vocabulary)
        cut = windows(texts, passages, questions, vocabulary, shape)
        edges = np.searchsorted([window.question for window in cut], np.arange(len(questions) + 1)).tolist()
        owned = [range(*pair) for pair in zip(edges, edges[1:])]
        return cls(questions, passages, cut, np.array([len(window) for window in cut], np.int64), owned)

    def trainable(self) -> np.ndarray:
        """The numbers of the windows of those questions that have no answer, or one that fits a window."""
        fits = [
            not question.answers or any(self.windows[number].first for number in numbers)
            for question, numbers in zip(self.questions, self.owned)
        ]
        return np.flatnonzero([fits[window.question] for window in self.windows])


class Runner:
    """A network's logits for windows, batched and padded.

    Args:
        network: the model.
        buckets: the lengths that batches are padded to.
        pad: the piece for padding.
        bucketing: let `shapes.bucketed` pad; without it, everything is as wide as the largest bucket,
        own: or, with this, as the longest window of its batch.
    """

    def __init__(self, network: nn.Cell, buckets: shapes.Buckets, pad: int, bucketing: bool, own: bool = False) -> None:
        self.buckets, self.pad, self.own = buckets, pad, bucketing or own
        self.network = self.bucketed(network, _RAGGED, EVALUATION_BATCH, _CUT) if bucketing else network

    def bucketed(self, cell: nn.Cell, axes: Mapping[str, Any], batch: int, outputs: Any = None) -> nn.Cell:
        """The cell, with batches that are filled up and padded."""
        buckets = {"windows": shapes.Buckets([batch]), "pieces": self.buckets}
        return shapes.bucketed(cell, axes=axes, buckets=buckets, pad={"ids": self.pad}, outputs=outputs)

    def inputs(self, chosen: Sequence[Window]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Arrays as wide as the longest window, or, where nothing is bucketed, as the longest of all."""
        width = max(map(len, chosen)) if self.own else self.buckets.sizes[-1]
        return collate(chosen, width, self.pad)

    def logits(self, part: Part) -> list[Logits]:
        """Logits of the first and of the last piece for every window, as long as the window."""
        result: list[Any] = [None] * len(part.windows)
        for chunk in chunks(np.arange(len(part.windows)), self.buckets.assign(part.lengths), EVALUATION_BATCH):
            batch = self.inputs([part.windows[number] for number in chunk])
            first, last = (logits.asnumpy().astype(np.float64) for logits in self.network(*map(Tensor, batch)))
            for row, number in enumerate(chunk):
                result[number] = first[row, : part.lengths[number]], last[row, : part.lengths[number]]
        return result


def answers(part: Part, logits: Sequence[Logits], count: int = 1) -> list[Answers]:
    """The ``count`` best answers to every question."""
    return [
        best_answers([part.windows[i] for i in own], [logits[i] for i in own], passage, question.passage, count)
        for question, passage, own in zip(part.questions, part.passages, part.owned)
    ]


@dataclass(frozen=True)
class Description:
    """What has to be known of a model, besides its parameters and its vocabulary.

    Attributes:
        config: its sizes.
        shape: how texts are cut.
        threshold: how far "no answer" has to score above the best span to be said; None where it never is.
    """

    config: Config
    shape: Shape
    threshold: float | None

    def save(self, folder: Path, vocabulary: Vocabulary) -> None:
        """Write ``model.json`` and ``tokenizer.json``."""
        vocabulary.save(folder / _TOKENIZER)
        save_record(folder / _DESCRIPTION, "albert model", {**asdict(self), "vocabulary": vocabulary.digest()})


class Reader:
    """A model, its vocabulary and its description.

    Args:
        network: the model, its parameters loaded.
        vocabulary: what its texts are cut into.
        description: see there.
    """

    def __init__(self, network: Albert, vocabulary: Vocabulary, description: Description) -> None:
        self.vocabulary, self.description = vocabulary, description
        length = description.shape.length
        buckets = shapes.Buckets.geometric(min(32, length), length, 4)
        self.runner = Runner(network, buckets, vocabulary.pad, bucketing=True)

    @classmethod
    def load(cls, folder: Path) -> Reader:
        """Load what a training left in ``folder``, or a Hugging Face checkpoint with a span head.

        Raises:
            CheckpointError: there is neither, or it is damaged.
        """
        if (folder / "config.json").exists():
            return cls(*_published(folder))
        return cls(*_trained(checkpoint.variant(folder, _DESCRIPTION)))

    def unknown(self, text: str) -> list[str]:
        """The parts of a text that the model has no piece for."""
        return self.vocabulary.unknown_words(text)

    def answer(self, passage: str, question: str, count: int = 5) -> Answers:
        """The best answers to a question about a passage.

        Raises:
            DataError: one of them is empty.
        """
        part = Part.of(
            [Question(repr(question[:40]), "", passage, question, ())], self.vocabulary, self.description.shape
        )
        (result,) = answers(part, self.runner.logits(part), count)
        return result


def _trained(folder: Path) -> tuple[Albert, Vocabulary, Description]:
    path = folder / _DESCRIPTION
    stored = load_record(path, "albert model")
    vocabulary = read_vocabulary(folder / _TOKENIZER)
    if stored.get("vocabulary") != vocabulary.digest():
        raise CheckpointError(f"{folder / _TOKENIZER}: damaged, or of another run (its checksum differs)")
    try:
        config, shape = Config(**stored["config"]), Shape(**stored["shape"])
        description = Description(config, shape, stored["threshold"])
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: damaged ({type(error).__name__})") from None
    best = checkpoint.best(folder)
    network = Albert(config, np.random.default_rng(0))
    missing = {parameter.name for parameter in network.get_parameters()} - set(best)
    if missing:
        raise CheckpointError(f"{folder}: the checkpoint has no best/{min(missing)}")
    assign(network, best)
    return network, vocabulary, description


def _published(folder: Path) -> tuple[Albert, Vocabulary, Description]:
    stored = pretrained.read(folder)
    if not stored.has_span:
        raise CheckpointError(f"{folder}: has no span head (qa_outputs); train it first, with --pretrained {folder}")
    network = Albert(stored.config, np.random.default_rng(0))
    assign(network, stored.arrays)
    shape = Shape(**PUBLISHED)
    if shape.length > stored.config.length:
        quarter = stored.config.length // 4
        shape = Shape(stored.config.length, quarter, quarter)
    return network, read_vocabulary(folder / _TOKENIZER), Description(stored.config, shape, 0.0)
