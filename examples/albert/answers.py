"""From logits to answers: the best spans over all windows of a question, and "no answer".

As in Devlin et al. 2019, section 4.3: a span scores the sum of its first and its last piece's logit, "no answer" the
sum of ``[CLS]``'s. A question's spans are those of all of its windows, a span of several windows counts once, with its
best score; "no answer" scores what it does in the window that is surest of an answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from examples.albert.pieces import Encoded
from examples.albert.windows import Window

__all__ = ["Answers", "Candidate", "best_answers"]

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
    logits: Iterable[tuple[np.ndarray, np.ndarray]],
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
