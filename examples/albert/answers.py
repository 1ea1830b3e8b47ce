"""From logits to answers: the best spans over all windows of a question, and "no answer".

As in Devlin et al. 2019, section 4.3: a span scores the sum of its first and its last piece's logit, "no answer" the
sum of ``[CLS]``'s. A question's spans are those of all of its windows, a span of several windows counts once, with its
best score; "no answer" scores what it does in the window that is surest of an answer.

Exact match and F1 are those of the official SQuAD 2.0 script (Rajpurkar et al. 2018). Both compare words after `normalise`.
A prediction counts for what it gets against the best of the reference answers; the right answer to a question without any is
the empty text. On questions with answers this is the script of SQuAD 1.1.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Callable

import numpy as np
from mindspore import Tensor

from examples.albert.data import Question
from examples.albert.pieces import Encoded
from examples.albert.windows import Part, Window

__all__ = [
    "Answers",
    "Candidate",
    "answers",
    "best_answers",
    "best_threshold",
    "exact",
    "f1",
    "logits_of",
    "normalise",
    "scores",
]

Logits = tuple[np.ndarray, np.ndarray]

LONGEST = 30
_PER_WINDOW = 20


@dataclass(frozen=True)
class Candidate:
    """A span of the passage: its text, its characters, its score, and its probability among the n best."""

    text: str
    start: int
    end: int
    score: float
    probability: float


@dataclass(frozen=True)
class Answers:
    """What the model says to a question.

    Attributes:
        candidates: the best spans, the best first.
        nothing: the probability of "no answer" among them.
        margin: by how much "no answer" scores above the best span.
    """

    candidates: tuple[Candidate, ...]
    nothing: float
    margin: float

    def text(self, threshold: float = np.inf) -> str:
        """The best span's text, or "" where "no answer" scores more than ``threshold`` above it."""
        return "" if not self.candidates or self.margin > threshold else self.candidates[0].text


def best_answers(
    windows: Sequence[Window],
    logits: Iterable[Logits],
    passage: Encoded,
    text: str,
    count: int = 20,
    longest: int = LONGEST,
) -> Answers:
    """The best answers to one question.

    Args:
        windows: of this question, at least one.
        logits: of the first and of the last piece for every window, each at least as long as the window.
        passage: the pieces of the whole passage.
        text: of the passage.
        count: how many spans are kept.
        longest: pieces of the longest span.
    """
    best: dict[tuple[int, int], float] = {}
    nothing = np.inf
    for window, (first, last) in zip(windows, logits):
        nothing = min(nothing, float(first[0]) + float(last[0]))
        for begin, end, score in _spans(window, first, last, longest):
            place = (int(passage.starts[begin]), int(passage.ends[end]))
            best[place] = max(best.get(place, -np.inf), score)
    if not best or not np.isfinite(nothing):
        return Answers((), 1.0, np.inf)  # logits that are no numbers, of a run that was lost
    order = sorted(best, key=lambda place: (-best[place], place))[:count]
    values = np.array([*(best[place] for place in order), nothing])
    shares = np.exp(values - values.max())
    shares /= shares.sum()
    candidates = tuple(
        Candidate(text[start:end], start, end, best[start, end], float(share))
        for (start, end), share in zip(order, shares)
    )
    return Answers(candidates, float(shares[-1]), float(nothing - values[0]))


def logits_of(part: Part, outputs: Iterable[tuple[np.ndarray, tuple[Tensor, Tensor]]]) -> list[Logits]:
    """Logits of the first and of the last piece for every window, as long as the window.

    Args:
        part: what has the windows.
        outputs: numbers of windows, and the model's logits for them, padded.
    """
    found: dict[int, Logits] = {}
    for numbers, both in outputs:
        first, last = (logits.asnumpy().astype(np.float64) for logits in both)
        for row, number in enumerate(numbers):
            length = len(part.windows[number])
            found[number] = first[row, :length], last[row, :length]
    return [found[number] for number in range(len(part.windows))]


def answers(part: Part, logits: Sequence[Logits], count: int = 1) -> list[Answers]:
    """The ``count`` best answers to every question."""
    return [
        best_answers([part.windows[i] for i in own], [logits[i] for i in own], passage, question.passage, count)
        for question, passage, own in zip(part.questions, part.passages, part.owned)
    ]


def _spans(window: Window, first: np.ndarray, last: np.ndarray, longest: int) -> list[tuple[int, int, float]]:
    """The window's best spans: the first and the last piece of the whole passage, and the score."""
    stop = len(window) - 1
    starts = np.asarray(first[window.passage : stop], np.float64)
    ends = np.asarray(last[window.passage : stop], np.float64)
    size = len(starts)
    # Row i holds the spans that begin at piece i, by their number of pieces.
    reach = np.arange(size)[:, None] + np.arange(min(longest, size))
    table = starts[:, None] + np.where(reach < size, ends[np.minimum(reach, size - 1)], -np.inf)
    flat = table.ravel()
    kept = np.argpartition(-flat, min(_PER_WINDOW, len(flat)) - 1)[:_PER_WINDOW]
    return [
        (window.piece + int(i // table.shape[1]), window.piece + int(reach.ravel()[i]), float(flat[i]))
        for i in kept
        if np.isfinite(flat[i])
    ]


# --- scores ------------------------------------------------------------------------------------

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise(text: str) -> str:
    """Lower case, without ASCII punctuation and without articles, the words separated by single blanks."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())


def exact(reference: str, predicted: str) -> float:
    """1.0 where both are the same words."""
    return float(normalise(reference) == normalise(predicted))


def f1(reference: str, predicted: str) -> float:
    """Harmonic mean of precision and recall over words, repetitions counted; two empty texts agree."""
    expected, found = normalise(reference).split(), normalise(predicted).split()
    if not expected or not found:
        return float(expected == found)
    common = sum((Counter(expected) & Counter(found)).values())
    return 2 * common / (len(expected) + len(found))


def _best(measure: Callable[[str, str], float], question: Question, predicted: str) -> float:
    references = [answer.text for answer in question.answers if normalise(answer.text)] or [""]
    return max(measure(reference, predicted) for reference in references)


def scores(questions: Sequence[Question], predictions: Mapping[str, str]) -> dict[str, float]:
    """Means over the questions, as shares of 1.

    Args:
        questions: at least one.
        predictions: the predicted answer of every question by its id, empty for "no answer".

    Returns:
        ``exact``, ``f1`` and the number of ``questions``; where some have no answer, also ``exact_answerable``,
        ``f1_answerable``, ``exact_unanswerable`` and ``unanswerable``, their number.
    """
    values = {
        measure.__name__: np.array([_best(measure, question, predictions[question.id]) for question in questions])
        for measure in (exact, f1)
    }
    result = {name: float(value.mean()) for name, value in values.items()}
    result["questions"] = len(questions)
    answerable = np.array([bool(question.answers) for question in questions])
    if not answerable.all():
        result["unanswerable"] = int((~answerable).sum())
        result["exact_unanswerable"] = float(values["exact"][~answerable].mean())
        if answerable.any():
            result["exact_answerable"] = float(values["exact"][answerable].mean())
            result["f1_answerable"] = float(values["f1"][answerable].mean())
    return result


def best_threshold(questions: Sequence[Question], answers: Mapping[str, str], margins: Mapping[str, float]) -> float:
    """The margin above which to say "no answer" so that most questions are answered exactly.

    Args:
        questions: of a validation set.
        answers: the best answer of every question by its id, never "no answer".
        margins: by how much "no answer" scores above that answer.

    Returns:
        A threshold between two of the margins, or beyond all of them; of equals the lowest.
    """
    order = sorted(questions, key=lambda question: margins[question.id])
    known = np.array([margins[question.id] for question in order])
    gains = [_best(exact, question, answers[question.id]) - float(not question.answers) for question in order]
    totals = np.cumsum([0.0, *gains])  # what answering the first i questions adds to answering none
    edges = np.array([known[0] - 1, *known, known[-1] + 1])
    totals[edges[:-1] >= edges[1:]] = -np.inf  # equal margins are on one side
    best = int(np.argmax(totals))
    middle = float(edges[best] / 2 + edges[best + 1] / 2)
    return middle if middle < edges[best + 1] else float(edges[best])
