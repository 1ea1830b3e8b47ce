"""Built-in data: generated passages about several things, and questions that name one of them.

A passage says of every thing what it looked like and where it was seen: ``Anna saw a dark red castle in New York last
year.`` A question asks for one of the two: ``dark red castle`` or ``New York``. The other things have a look and a place as well, so
that the kind of question alone does not tell the answer; it has to be read where the passage speaks of the
thing. Some questions name a thing that the passage does not know: they have no answer.
"""

from __future__ import annotations

import numpy as np

from examples.albert.data import Answer, Corpus, Question
from examples.common.lengths import drawn
from examples.common.randomness import Stream, generator

__all__ = ["corpus"]

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


def corpus(train: int = 6000, test: int = 1000, seed: int = 0, ragged: bool = False) -> Corpus:
    """``train`` questions to train on and ``test`` others, each about a passage of its own, with 2 to 10 things.

    With ``ragged`` passages are as long as those of SQuAD (`examples.common.lengths`): sentences about nothing fill them up.
    """
    random = generator(seed, Stream.DATA)
    lengths = drawn("albert", train + test, random)[:, 0].tolist() if ragged else [0] * (train + test)
    questions = [_question(random, f"{number}", length) for number, length in enumerate(lengths)]
    return Corpus("built-in", tuple(questions[:train]), {"generated": tuple(questions[train:])})


def _question(random: np.random.Generator, name: str, length: int) -> Question:
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
