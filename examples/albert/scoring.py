"""Exact match and F1 as the official SQuAD 2.0 script computes them (Rajpurkar et al. 2018).

Both compare words after `normalise`. A prediction counts for what it gets against the best of the reference
answers; the right answer to a question without any is the empty text. On questions with answers this is the script of
SQuAD 1.1.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Callable

import numpy as np

from examples.albert.data import Question

__all__ = ["best_threshold", "exact", "f1", "normalise", "scores"]

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
