"""Exact match and F1: known cases of the official SQuAD 2.0 script."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.albert.answers import best_threshold, exact, f1, normalise, scores
from examples.albert.data import Answer, Question


def question(name, *answers):
    return Question(name, "article", " ".join(answers), "?", tuple(Answer(answer, 0) for answer in answers))


@pytest.mark.parametrize(
    "text, expected",
    [
        ("The  Cat,\tsat.", "cat sat"),
        ("A an the", ""),
        ("theatre Anna", "theatre anna"),
        ("U.S.A.", "usa"),
        ("the-end", "theend"),  # punctuation goes before articles
        ("“quoted”", "“quoted”"),  # only ASCII punctuation goes
        ("5,000 %", "5000"),
        ("", ""),
    ],
)
def test_normalise(text, expected):
    assert normalise(text) == expected


@pytest.mark.parametrize(
    "reference, predicted, same, overlap",
    [
        ("the Denver Broncos", "Denver Broncos!", 1, 1),
        ("Denver Broncos", "Broncos", 0, 2 / 3),
        ("a b b", "b b b", 0, 2 * 2 / (2 + 3)),  # "a" is an article; repeated words count as often as both have them
        ("Paris", "London", 0, 0),
        ("", "", 1, 1),
        ("", "Paris", 0, 0),
        ("Paris", "the", 0, 0),
    ],
)
def test_exact_and_f1(reference, predicted, same, overlap):
    assert exact(reference, predicted) == same
    assert f1(reference, predicted) == pytest.approx(overlap)


@given(st.text(max_size=30), st.text(max_size=30))
def test_both_measures_are_symmetric_shares_and_agree_on_equals(one, other):
    assert 0 <= exact(one, other) <= f1(one, other) + 1e-12 <= 1 + 1e-12
    assert f1(one, other) == f1(other, one)
    assert exact(one, one) == f1(one, one) == 1


def test_scores_take_the_best_reference_and_split_by_answerability():
    questions = [
        question("first", "in 1990", "1990"),
        question("second", "Paris, France"),
        question("none"),
        question("empty reference", "the", "London"),  # a reference of articles only does not count
    ]
    predictions = {"first": "1990", "second": "Paris", "none": "", "empty reference": ""}
    found = scores(questions, predictions)
    assert found["exact"] == 2 / 4 and found["f1"] == pytest.approx((1 + 2 / 3 + 1 + 0) / 4)
    assert found["exact_answerable"] == 1 / 3 and found["f1_answerable"] == pytest.approx((1 + 2 / 3) / 3)
    assert (found["exact_unanswerable"], found["unanswerable"], found["questions"]) == (1, 1, 4)
    assert scores(questions, {**predictions, "none": "Rome"})["exact_unanswerable"] == 0
    assert set(scores(questions[:2], predictions)) == {"exact", "f1", "questions"}


def test_the_threshold_answers_most_questions_exactly():
    questions = [question("a", "x"), question("b"), question("c", "y"), question("d")]
    answers = {"a": "x", "b": "x", "c": "y", "d": "z"}
    margins = {"a": -3.0, "c": 1.0, "b": 2.0, "d": 4.0}
    assert best_threshold(questions, answers, margins) == 1.5
    wrong = {**answers, "a": "z", "c": "z"}
    assert best_threshold(questions, wrong, margins) < -3  # say nothing at all
    assert best_threshold(questions[::2], answers, margins) > 1  # always answer


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.floats(-5, 5)), min_size=1, max_size=12))
def test_no_other_threshold_is_better(cases):
    questions = [question(f"{i}", *(["x"] if answerable else [])) for i, (answerable, _, _) in enumerate(cases)]
    answers = {f"{i}": "x" if right else "z" for i, (_, right, _) in enumerate(cases)}
    margins = {f"{i}": margin for i, (_, _, margin) in enumerate(cases)}

    def share(threshold):
        said = {name: "" if margins[name] > threshold else answers[name] for name in answers}
        return scores(questions, said)["exact"]

    best = share(best_threshold(questions, answers, margins))
    assert all(best >= share(threshold) - 1e-12 for threshold in (-6, *margins.values(), 6))
