"""From logits to answers: brute force over all spans of all windows says the same."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from examples.albert import data
from examples.albert.answers import best_answers
from examples.albert.data import Part, Shape, words_of

QUESTION = "who are you"


def part_of(words, length, stride):
    text = " ".join(f"w{i}" for i in range(words))
    question = data.Question("q", "a", text, QUESTION, ())
    return Part.of([question], words_of([text, QUESTION]), Shape(length, stride, 3)), text


def by_brute_force(part, logits, longest):
    best, nothing = {}, np.inf
    for window, (first, last) in zip(part.windows, logits):
        nothing = min(nothing, first[0] + last[0])
        for i in range(window.passage, len(window) - 1):
            for j in range(i, min(i + longest, len(window) - 1)):
                span = (i - window.passage + window.piece, j - window.passage + window.piece)
                best[span] = max(best.get(span, -np.inf), first[i] + last[j])
    return best, nothing


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 30), st.integers(10, 30), st.integers(1, 4), st.integers(1, 6), st.integers(0, 2**31))
def test_the_best_spans_over_all_windows(words, length, stride, longest, seed):
    part, text = part_of(words, length, stride)
    random = np.random.default_rng(seed)
    logits = [tuple(random.normal(0, 3, (2, len(window)))) for window in part.windows]
    found = best_answers(part.windows, logits, part.passages[0], text, count=5, longest=longest)
    expected, nothing = by_brute_force(part, logits, longest)
    ranked = sorted(expected, key=expected.get, reverse=True)[:5]
    spans = [" ".join(f"w{i}" for i in range(first, last + 1)) for first, last in ranked]
    assert [candidate.text for candidate in found.candidates] == spans
    assert [candidate.score for candidate in found.candidates] == pytest.approx([expected[span] for span in ranked])
    assert found.margin == pytest.approx(nothing - expected[ranked[0]])
    assert sum(c.probability for c in found.candidates) + found.nothing == pytest.approx(1)
    for candidate in found.candidates:
        assert text[candidate.start : candidate.end] == candidate.text


def test_question_and_padding_are_never_answers():
    part, text = part_of(3, 20, 5)
    (window,) = part.windows
    wide = np.full(20, 50.0)  # as large outside the passage as can be
    wide[window.passage : len(window) - 1] = [1, 3, 2]
    found = best_answers(part.windows, [(wide, wide)], part.passages[0], text)
    assert found.candidates[0].text == "w1" and found.margin == 100 - 6
    assert found.text() == "w1" and found.text(threshold=94) == "w1" and found.text(threshold=93) == ""


def test_no_answer_scores_what_the_surest_window_gives_it():
    part, text = part_of(10, 12, 2)
    assert len(part.windows) == 3
    logits = [(np.zeros(len(window)), np.zeros(len(window))) for window in part.windows]
    for (first, _), value in zip(logits, (5, -1, 5)):
        first[0] = value
    assert best_answers(part.windows, logits, part.passages[0], text).margin == -1


def test_logits_that_are_no_numbers_are_no_answer():
    part, text = part_of(3, 20, 5)
    values = np.full(len(part.windows[0]), np.nan)
    found = best_answers(part.windows, [(values, values)], part.passages[0], text)
    assert found.text() == "" and found.candidates == ()
