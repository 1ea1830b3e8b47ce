"""Built-in data: generated passages about several people, and questions that name one of them.

A passage states facts, such as ``Anna lives near the old harbour since last year.``, in any order among sentences
that do not matter. A question asks for one fact of one person. Other people have facts of the same
kind, and the person has facts of other kinds, so that neither the name nor the kind alone tells the answer. Some
questions have no answer: the passage says no such thing about that person, but about another.
"""

from __future__ import annotations

import numpy as np

from examples.albert.data import Answer, Corpus, Question
from examples.common.randomness import Stream, generator

__all__ = ["corpus"]

_PEOPLE = (
    "Anna Boris Clara David Elena Felix Greta Hugo Irene Jonas Karin Lukas Maria Nils Olga Peter Rosa Simon Tanja Ulrich"
).split()
_ADJECTIVES = "old new red blue green small large quiet".split()
# A kind of fact: how a sentence states it, what the question is, and what is asked for.
_KINDS = (
    ("{} lives near the", "Where does {} live?", "harbour village castle market valley island station tower".split()),
    ("{} keeps a", "Which pet does {} keep?", "cat dog parrot horse rabbit turtle goat snake".split()),
    ("{} likes", "What does {} like?", "soup bread cheese cake fish rice salad pasta".split()),
    ("{} plays the", "Which instrument does {} play?", "violin piano flute drum guitar organ trumpet harp".split()),
)
_TAILS = ("every day", "since last year", "in the evening", "as everybody knows")
_FILLERS = ("It rained all day.", "Nobody knew the reason.", "The winter was long.")

FACTS, SPREAD, MOST = 3, 0.6, 14  # median number of facts, deviation of its logarithm, the most
UNANSWERABLE = 0.1


def corpus(train: int = 6000, test: int = 1000, seed: int = 0) -> Corpus:
    """``train`` questions to train on and ``test`` others, each about a passage of its own, of 2 to 14 facts."""
    random = generator(seed, Stream.DATA)
    questions = [_question(random, f"{number}") for number in range(train + test)]
    return Corpus("built-in", tuple(questions[:train]), {"generated": tuple(questions[train:])})


def _question(random: np.random.Generator, name: str) -> Question:
    count = int(np.clip(round(FACTS * np.exp(SPREAD * random.standard_normal())), 2, MOST))
    people = random.choice(_PEOPLE, max(2, -(-count // 2)), replace=False)
    pairs = [(str(person), kind) for person in people for kind in range(len(_KINDS))]
    order = random.permutation(len(pairs))
    facts, others = [pairs[i] for i in order[:count]], [pairs[i] for i in order[count:]]
    passage, answers = _passage(random, facts)
    kinds = [kind for _, kind in facts]
    missing = [fact for fact in others if fact[1] in kinds]
    if missing and random.random() < UNANSWERABLE:
        person, kind = missing[random.integers(len(missing))]
    else:
        ambiguous = [fact for fact in facts if kinds.count(fact[1]) > 1] or facts
        person, kind = ambiguous[random.integers(len(ambiguous))]
    answer = answers.get((person, kind))
    return Question(name, name, passage, _KINDS[kind][1].format(person), (answer,) if answer else ())


def _passage(random: np.random.Generator, facts: list[tuple[str, int]]) -> tuple[str, dict[tuple[str, int], Answer]]:
    """The text, and where in it the answer to each fact is."""
    fillers = [None] * int(random.integers(len(facts) // 3 + 1))
    sentences = [*facts, *fillers]
    text, answers = "", {}
    for place in random.permutation(len(sentences)):
        fact = sentences[place]
        if fact is None:
            text += f"{random.choice(_FILLERS)} "
            continue
        statement, _, things = _KINDS[fact[1]]
        answer = str(random.choice(things))
        if random.random() < 0.5:
            answer = f"{random.choice(_ADJECTIVES)} {answer}"
        text += f"{statement.format(fact[0])} "
        answers[fact] = Answer(answer, len(text))
        text += f"{answer} {random.choice(_TAILS)}. "
    return text.rstrip(), answers
