"""From logits to answers: the best spans over all windows of a question, "no answer", and how good they are.

As in Devlin et al. 2019, section 4.3: a span scores the sum of its first and its last piece's logit, in the best of its windows;
"no answer" the sum of ``[CLS]``'s, in the window that is surest of an answer. Exact match and F1 are those of the official SQuAD
2.0 script (Rajpurkar et al. 2018), which on questions with answers is that of SQuAD 1.1: words after `normalise`, the best of the
reference answers, the empty text for a question without any.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Callable, NamedTuple

import numpy as np

from examples.albert.data import Encoded, Part, Question, Window

Logits = tuple[np.ndarray, np.ndarray]
LONGEST = 30
_PER_WINDOW = 20


class Candidate(NamedTuple):
    """A span of the passage: its text, its characters, its score, and its probability among the n best."""

    text: str
    start: int
    end: int
    score: float
    probability: float


class Answers(NamedTuple):
    """What the model says: the best spans first, the probability of "no answer", and by how much it beats the best span."""

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
    """The ``count`` best answers, of at most ``longest`` pieces, to one question.

    ``logits`` are of the first and of the last piece for every one of its windows, each at least as long as the window;
    ``passage`` and ``text`` are the whole passage.
    """
    best: dict[tuple[int, int], float] = {}
    nothing = np.inf
    for window, (first, last) in zip(windows, logits):
        nothing = min(nothing, float(first[0]) + float(last[0]))
        starts, ends = (np.asarray(one[window.passage : len(window) - 1], np.float64) for one in (first, last))
        size = len(starts)
        # Row i holds the spans that begin at piece i, by their number of pieces.
        reach = np.arange(size)[:, None] + np.arange(min(longest, size))
        table = starts[:, None] + np.where(reach < size, ends[np.minimum(reach, size - 1)], -np.inf)
        for i in np.argpartition(-table, min(_PER_WINDOW, table.size) - 1, axis=None)[:_PER_WINDOW]:
            if np.isfinite(score := float(table.flat[i])):
                begin, end = window.piece + int(i // table.shape[1]), window.piece + int(reach.flat[i])
                place = (int(passage.starts[begin]), int(passage.ends[end]))
                best[place] = max(best.get(place, -np.inf), score)
    if not best or not np.isfinite(nothing):
        return Answers((), 1.0, np.inf)  # logits that are no numbers, of a run that was lost
    order = sorted(best, key=lambda place: (-best[place], place))[:count]
    values = np.array([*(best[place] for place in order), nothing])
    shares = np.exp(values - np.logaddexp.reduce(values)).tolist()
    candidates = (Candidate(text[a:b], a, b, best[a, b], share) for (a, b), share in zip(order, shares))
    return Answers(tuple(candidates), shares[-1], float(nothing - values[0]))


def logits_of(part: Part, outputs: Iterable[tuple[np.ndarray, Sequence]]) -> list[Logits]:
    """Logits of the first and of the last piece for every window, as long as it, from numbers of windows and padded logits."""
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


def normalise(text: str) -> str:
    """Lower case, without ASCII punctuation and without articles, the words separated by single blanks."""
    plain = text.lower().translate(str.maketrans("", "", string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", plain).split())


def exact(reference: str, predicted: str) -> float:
    """1.0 where both are the same words."""
    return float(normalise(reference) == normalise(predicted))


def f1(reference: str, predicted: str) -> float:
    """Harmonic mean of precision and recall over words, repetitions counted; two empty texts agree."""
    expected, found = normalise(reference).split(), normalise(predicted).split()
    if not expected or not found:
        return float(expected == found)
    return 2 * sum((Counter(expected) & Counter(found)).values()) / (len(expected) + len(found))


def _best(measure: Callable[[str, str], float], question: Question, predicted: str) -> float:
    references = [answer.text for answer in question.answers if normalise(answer.text)] or [""]
    return max(measure(reference, predicted) for reference in references)


def scores(questions: Sequence[Question], predictions: Mapping[str, str]) -> dict[str, float]:
    """Means over the questions, as shares of 1, of the predicted answers by id, empty for "no answer".

    ``exact``, ``f1`` and the number of ``questions``; where some have no answer, also ``exact_answerable``,
    ``f1_answerable``, ``exact_unanswerable`` and ``unanswerable``, their number.
    """
    answerable = np.array([bool(question.answers) for question in questions])
    found = {
        measure.__name__: np.array([_best(measure, question, predictions[question.id]) for question in questions])
        for measure in (exact, f1)
    }
    result = {"questions": len(questions), **{name: float(values.mean()) for name, values in found.items()}}
    if not answerable.all():
        result["unanswerable"] = int((~answerable).sum())
        result["exact_unanswerable"] = float(found["exact"][~answerable].mean())
        if answerable.any():
            result.update({f"{name}_answerable": float(values[answerable].mean()) for name, values in found.items()})
    return result


def best_threshold(questions: Sequence[Question], answers: Mapping[str, str], margins: Mapping[str, float]) -> float:
    """The margin above which to say "no answer" so that most questions of a validation set are answered exactly.

    ``answers`` are the best spans' texts by id, ``margins`` by how much "no answer" beats them. Returns a threshold between
    two of the margins, or beyond all of them; of equals the lowest.
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
