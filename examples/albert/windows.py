"""Windows: question and passage as one input of bounded length, long passages in overlapping parts.

An input is ``[CLS] question [SEP] part of the passage [SEP]`` (Devlin et al. 2019). Parts begin every ``stride`` pieces;
one that does not hold the whole answer is trained to point at ``[CLS]``, and so is one of a question without an answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from examples.albert.data import Question
from examples.albert.pieces import Encoded, Vocabulary
from examples.common.files import DataError, UsageError
from examples.common.randomness import padded

__all__ = ["BUILT_IN", "PUBLISHED", "Part", "Shape", "Window", "collate"]

_SPECIAL = 3
BUILT_IN = {"length": 96, "stride": 48, "question": 24}
PUBLISHED = {"length": 384, "stride": 128, "question": 64}  # as Devlin et al. 2019 cut SQuAD


@dataclass(frozen=True)
class Shape:
    """How texts are cut, in pieces.

    Attributes:
        length: the longest input.
        stride: from the beginning of a part of a passage to the beginning of the next.
        question: the longest question; what is longer loses its end.

    Raises:
        UsageError: the three do not go together.
    """

    length: int
    stride: int
    question: int

    def __post_init__(self) -> None:
        room = self.length - self.question - _SPECIAL
        if not 1 <= self.stride <= room:
            raise UsageError(
                f"--stride {self.stride}: windows of {self.length} pieces leave {room} for the passage beside a question "
                f"of {self.question}; choose --stride from 1 to {room}, or a larger --length"
            )


@dataclass(frozen=True)
class Window:
    """One input.

    Attributes:
        question: the number of its question.
        ids: (length,) int32.
        passage: where in ``ids`` the part of the passage begins.
        piece: which piece of the whole passage stands there.
        first, last: where in ``ids`` the answer is; both 0 where the window does not hold it.
    """

    question: int
    ids: np.ndarray
    passage: int
    piece: int
    first: int
    last: int

    def __len__(self) -> int:
        return len(self.ids)


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
        texts, passages = _encode(questions, vocabulary)
        cut = _windows(texts, passages, questions, vocabulary, shape)
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


def _encode(questions: Sequence[Question], vocabulary: Vocabulary) -> tuple[list[Encoded], list[Encoded]]:
    """The pieces of every question and of its passage; a passage of several questions is encoded once.

    Raises:
        DataError: a question or a passage is empty.
    """
    passages = list(dict.fromkeys(question.passage for question in questions))
    encoded = dict(zip(passages, vocabulary.encode(passages)))
    texts = vocabulary.encode(question.text for question in questions)
    for question, pieces in zip(questions, texts):
        for kind, text, own in (
            ("question", question.text, pieces),
            ("passage", question.passage, encoded[question.passage]),
        ):
            if not text.strip() or not len(own):
                raise DataError(f"question {question.id}: the {kind} is empty")
    return texts, [encoded[question.passage] for question in questions]


def _windows(
    texts: Sequence[Encoded],
    passages: Sequence[Encoded],
    questions: Sequence[Question],
    vocabulary: Vocabulary,
    shape: Shape,
) -> list[Window]:
    """All windows of all questions, in order. What is trained on is the first reference answer."""
    result = []
    for number, (text, passage, question) in enumerate(zip(texts, passages, questions)):
        head = [vocabulary.first, *text.ids[: shape.question], vocabulary.separator]
        room = shape.length - len(head) - 1
        answer = _pieces(passage, question)
        for start in _starts(len(passage), room, shape.stride):
            stop = min(start + room, len(passage))
            ids = np.array([*head, *passage.ids[start:stop], vocabulary.separator], np.int32)
            first = last = 0
            if answer is not None and start <= answer[0] and answer[1] < stop:
                first, last = (len(head) + piece - start for piece in answer)
            result.append(Window(number, ids, len(head), start, first, last))
    return result


def _starts(pieces: int, room: int, stride: int) -> range:
    """Where parts of at most ``room`` pieces begin; the last one is the first to reach the end."""
    return range(0, max(pieces - room, 0) + stride, stride) if pieces > room else range(1)


def _pieces(passage: Encoded, question: Question) -> tuple[int, int] | None:
    """The first and the last piece that stand for something of the first answer."""
    if not question.answers:
        return None
    answer = question.answers[0]
    touched = np.flatnonzero((passage.ends > answer.start) & (passage.starts < answer.start + len(answer.text)))
    return (int(touched[0]), int(touched[-1])) if len(touched) else None


def collate(chosen: Sequence[Window], width: int, pad: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Dense arrays of some windows.

    Returns:
        ``ids`` and ``segments`` (batch, width) int32, ``mask`` (batch, width) float32, which is zero outside the windows.
    """
    ids, mask = padded([window.ids for window in chosen], width, pad)
    passages = np.array([[window.passage] for window in chosen])
    return ids, ((np.arange(width) >= passages) & (mask > 0)).astype(np.int32), mask
