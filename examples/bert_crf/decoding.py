"""From scores to tags, from tags to names, and how many of the names are right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ascend_fixes import host

__all__ = ["Name", "Transitions", "best_tags", "best_tags_looping", "entity_f1", "names"]


@dataclass(frozen=True)
class Transitions:
    """A CRF's scores of neighbouring tags (tags, tags), of first and of last tags (tags,)."""

    between: np.ndarray
    start: np.ndarray
    end: np.ndarray


def best_tags(emissions: np.ndarray, transitions: Transitions, lengths: np.ndarray) -> list[list[int]]:
    """The best tags of every sentence of a batch (batch, words, tags), by `ascend_fixes.host.viterbi`."""
    paths, _ = host.viterbi(emissions, transitions.between, lengths, transitions.start, transitions.end)
    return [path[:length].tolist() for path, length in zip(paths, lengths)]


def best_tags_looping(emissions: np.ndarray, transitions: Transitions, lengths: np.ndarray) -> list[list[int]]:
    """The same, as a newcomer writes it: sentence by sentence, word by word (Viterbi 1967)."""
    found = []
    for scores, length in zip(emissions, lengths):
        best = scores[0] + transitions.start
        origins = []
        for step in range(1, length):
            through = best[:, None] + transitions.between + scores[step]
            origins.append(through.argmax(0))
            best = through.max(0)
        path = [int((best + transitions.end).argmax())]
        for origin in reversed(origins):
            path.append(int(origin[path[-1]]))
        found.append(path[::-1])
    return found


def entity_f1(true: Sequence[Sequence[str]], found: Sequence[Sequence[str]]) -> float:
    """F1 of whole names, all types together: type, first and last word have to be right; 0 where there is no name.

    It is seqeval's (Nakayama 2018), with which the tests compare it. seqeval itself comes as source only, and does
    not build wherever the examples have to run.
    """
    right, in_true, in_found = 0, 0, 0
    for expected, tags in zip(true, found):
        both = set(names(expected)), set(names(tags))
        right, in_true, in_found = right + len(both[0] & both[1]), in_true + len(both[0]), in_found + len(both[1])
    return 2 * right / max(1, in_true + in_found)


@dataclass(frozen=True)
class Name:
    """A name in a sentence: its type, its first word and the one after its last."""

    kind: str
    start: int
    end: int


def names(tags: Sequence[str]) -> list[Name]:
    """The names that BIO tags mark; an I that continues nothing begins a name, as seqeval counts it."""
    found: list[Name] = []
    for place, tag in enumerate(tags):
        if tag == "O":
            continue
        if tag[0] == "I" and found and found[-1] == Name(tag[2:], found[-1].start, place):
            found[-1] = Name(tag[2:], found[-1].start, place + 1)
        else:
            found.append(Name(tag[2:], place, place + 1))
    return found
