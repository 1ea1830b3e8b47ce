"""Questions about passages: SQuAD's files, splits, and what is done to both before a model sees them.

A corpus folder holds SQuAD 1.1 or 2.0 files, ``*.json`` or ``*.json.gz``
(https://rajpurkar.github.io/SQuAD-explorer). Those with ``train`` in their names are
trained on; every other one is a test set of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from examples.common.files import DataError, read_text
from examples.common.randomness import Stream, digest, drawn, generator

__all__ = ["Answer", "Corpus", "Question", "built_in", "read_file", "read_folder", "split"]


@dataclass(frozen=True)
class Answer:
    """A reference answer: its text, and where in the passage it begins, in characters."""

    text: str
    start: int


@dataclass(frozen=True)
class Question:
    """A question about a passage; without answers, the passage does not answer it.

    Attributes:
        id: unique in its file.
        article: what the passage is part of; a split keeps articles together.
        passage, text: the passage's and the question's text.
        answers: reference answers, all of them in the passage.
    """

    id: str
    article: str
    passage: str
    text: str
    answers: tuple[Answer, ...]


@dataclass(frozen=True)
class Corpus:
    """Questions to train on, and test sets by name."""

    name: str
    train: tuple[Question, ...]
    tests: Mapping[str, tuple[Question, ...]]

    @property
    def has_unanswerable(self) -> bool:
        """Whether "no answer" can be learnt from it."""
        return any(not question.answers for question in self.train)

    def digest(self) -> str:
        """A hash of everything that training depends on."""
        return digest(self.train, *(self.tests[name] for name in sorted(self.tests)))


# --- the published format ----------------------------------------------------------------------


def read_folder(folder: Path) -> Corpus:
    """Read a corpus folder.

    Raises:
        DataError: the folder is missing, or holds no file to train on or none to test on, or a file is wrong
            (see `read_file`), or a training file has no question with an answer.
    """
    if not folder.is_dir():
        raise DataError(f"--data {folder}: no such folder")
    files = sorted(path for path in folder.iterdir() if path.name.endswith((".json", ".json.gz")))
    training = [path for path in files if "train" in path.name]
    tests = [path for path in files if "train" not in path.name]
    if not training or not tests:
        raise DataError(
            f"--data {folder}: needs a SQuAD file with 'train' in its name and one without, "
            f"*.json or *.json.gz; has {len(training)} and {len(tests)}"
        )
    train = tuple(question for path in training for question in read_file(path))
    if not any(question.answers for question in train):
        raise DataError(f"--data {folder}: no training question has an answer")
    if len({question.article for question in train}) < 2:
        raise DataError(f"--data {folder}: needs two training articles at least, one of them for validation")
    return Corpus(folder.name, train, {path.name.split(".json")[0]: read_file(path) for path in tests})


def read_file(path: Path) -> tuple[Question, ...]:
    """Read a SQuAD 1.1 or 2.0 file, compressed where its name ends in ``.gz``.

    Raises:
        DataError: it cannot be read, is damaged, not UTF-8, not JSON, not SQuAD, has no question, an answer is
            not in its passage where it should be, or an id occurs twice.
    """
    text = read_text(path).removeprefix("\ufeff")
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError) as error:
        place = f"line {error.lineno}: {error.msg}" if isinstance(error, json.JSONDecodeError) else error
        what = "empty" if not text.strip() else f"not JSON ({place})"
        raise DataError(f"{path}: {what}") from None
    questions = tuple(_questions(tree, path))
    if not questions:
        raise DataError(f"{path}: has no question")
    seen: set[str] = set()
    for question in questions:
        if question.id in seen:
            raise DataError(f"{path}: two questions have the id {question.id!r}")
        seen.add(question.id)
    return questions


def _questions(tree: Any, path: Path) -> Iterator[Question]:
    for a, article in enumerate(_field(tree, "data", list, path, "")):
        where = f"data[{a}]"
        title = str(article.get("title", a)) if isinstance(article, dict) else ""
        for p, paragraph in enumerate(_field(article, "paragraphs", list, path, where)):
            inside = f"{where}.paragraphs[{p}]"
            passage = _field(paragraph, "context", str, path, inside)
            for q, entry in enumerate(_field(paragraph, "qas", list, path, inside)):
                yield _question(entry, title, passage, path, f"{inside}.qas[{q}]")


def _question(entry: Any, article: str, passage: str, path: Path, where: str) -> Question:
    text, name = _field(entry, "question", str, path, where), str(_field(entry, "id", (str, int), path, where))
    answers = []
    if not entry.get("is_impossible", False):
        for item in _field(entry, "answers", list, path, where):
            answer = Answer(_field(item, "text", str, path, where), _field(item, "answer_start", int, path, where))
            found = passage[answer.start : answer.start + len(answer.text)] if answer.start >= 0 else ""
            if not answer.text.strip() or found != answer.text:
                raise DataError(
                    f"{path}: question {name}: answer {answer.text[:40]!r} is not at character {answer.start:,} "
                    f"of the passage, which has {found[:40]!r} there"
                )
            answers.append(answer)
    return Question(name, article, passage, text, tuple(answers))


def _field(tree: Any, name: str, kind: Any, path: Path, where: str) -> Any:
    value = tree.get(name) if isinstance(tree, dict) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        place = f"{where}.{name}".lstrip(".")
        raise DataError(f"{path}: not a SQuAD file: {place} is missing or of the wrong type")
    return value


# --- built-in data -----------------------------------------------------------------------------

_PEOPLE = "Anna Boris Clara David Elena Felix Greta Hugo Irene Jonas Karin Lukas Maria Nils Olga Peter".split()
_THINGS = "castle parrot violin bridge horse lamp boat tower drum garden wagon statue rabbit kite piano tent".split()
_COLOURS = "red blue green yellow black white brown grey".split()
_SHADES = "dark light pale".split()
_PLACES = "Oslo,Rome,Lima,Cairo,Delhi,New York,Hong Kong,Cape Town".split(",")
_TAILS = ("last year", "in the evening", "on a cold morning", "long ago")
_FILLERS = ("It rained all day.", "Nobody knew the reason.", "The winter was long.")
_QUESTIONS = ("Which {} was that?", "Where was the {}?")

_WORDS_OF_A_THING, _WORDS_OF_A_FILLER, _WORDS_OF_A_QUESTION = 13, 5, 8  # about so many, punctuation included
SENTENCES, SPREAD, MOST = 2, 0.7, 10  # median number of things, deviation of its logarithm, the most
UNANSWERABLE = 0.1


def built_in(train: int = 6000, test: int = 1000, seed: int = 0, ragged: bool = False) -> Corpus:
    """Generated passages about 2 to 10 things, one for each question, and questions that name one of them.

    A passage says of every thing what it looked like and where it was seen: ``Anna saw a dark red castle in New York last
    year.`` A question asks for one of the two: ``dark red castle`` or ``New York``. The other things have a look and a place
    as well, so that the kind of question alone does not tell the answer. Some questions name a thing that the passage does
    not know: they have no answer.

    With ``ragged`` passages are as long as those of SQuAD (`examples.common.randomness`): sentences about nothing fill them up.
    """
    random = generator(seed, Stream.DATA)
    lengths = drawn("albert", train + test, random)[:, 0].tolist() if ragged else [0] * (train + test)
    questions = [_generated(random, f"{number}", length) for number, length in enumerate(lengths)]
    return Corpus("built-in", tuple(questions[:train]), {"generated": tuple(questions[train:])})


def _generated(random: np.random.Generator, name: str, length: int) -> Question:
    count = int(np.clip(round(SENTENCES * np.exp(SPREAD * random.standard_normal())), 2, MOST))
    *things, missing = (str(thing) for thing in random.choice(_THINGS, count + 1, replace=False))
    passage, answers = _passage(random, things, length)
    thing = missing if random.random() < UNANSWERABLE else things[random.integers(count)]
    kind = int(random.integers(len(_QUESTIONS)))
    answer = (answers[thing][kind],) if thing in answers else ()
    return Question(name, name, passage, _QUESTIONS[kind].format(thing), answer)


def _passage(
    random: np.random.Generator, things: list[str], length: int
) -> tuple[str, dict[str, tuple[Answer, Answer]]]:
    """The text, and where in it look and place of every thing are; with a question about ``length`` words, or more."""
    missing = length - _WORDS_OF_A_THING * len(things) - _WORDS_OF_A_QUESTION
    text, answers = "", {}
    for _ in range(max(missing, 0) // _WORDS_OF_A_FILLER):
        text += f"{random.choice(_FILLERS)} "
    for thing in things:
        if random.random() < 0.2:
            text += f"{random.choice(_FILLERS)} "
        shade = f"{random.choice(_SHADES)} " if random.random() < 0.4 else ""
        text += f"{random.choice(_PEOPLE)} saw a "
        look = Answer(f"{shade}{random.choice(_COLOURS)} {thing}", len(text))
        text += f"{look.text} in "
        place = Answer(str(random.choice(_PLACES)), len(text))
        text += f"{place.text} {random.choice(_TAILS)}. "
        answers[thing] = look, place
    return text.rstrip(), answers


# --- splits ------------------------------------------------------------------------------------


def split(
    questions: Sequence[Question], seed: int, validation: float = 0.1
) -> tuple[tuple[Question, ...], tuple[Question, ...]]:
    """Training and validation questions; whole articles, chosen at random, make up the share ``validation``."""
    articles = sorted({question.article for question in questions})
    order = generator(seed, Stream.SPLIT).permutation(len(articles))
    sizes: dict[str, int] = {}
    for question in questions:
        sizes[question.article] = sizes.get(question.article, 0) + 1
    held_out: set[str] = set()
    for place in order[:-1]:
        held_out.add(articles[place])
        if sum(sizes[article] for article in held_out) >= validation * len(questions):
            break
    parts: tuple[list[Question], list[Question]] = ([], [])
    for question in questions:
        parts[question.article in held_out].append(question)
    return tuple(parts[0]), tuple(parts[1])
