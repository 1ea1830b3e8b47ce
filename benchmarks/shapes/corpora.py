"""Lengths of the corpora that the shapes benchmarks run on, in words, from ``--data`` (nothing is downloaded)."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator

import numpy as np

__all__ = ["CORPORA", "lengths", "pairs"]

CORPORA = ("mr", "r8", "wnut17", "multi30k")


def lengths(data: str, corpus: str) -> np.ndarray:
    """int64 [samples]: words per training document or sentence, at least 1."""
    return np.maximum([len(words) for words in _documents(data, corpus)], 1).astype(np.int64)


def pairs(data: str) -> np.ndarray:
    """int64 [29000, 2]: words per English and German caption of Multi30k."""
    sides = [[len(line.split()) for line in _gzip(data, f"train.{side}.gz")] for side in ("en", "de")]
    return np.maximum(np.array(sides, dtype=np.int64).T, 1)


def _documents(data: str, corpus: str) -> Iterator[list[str]]:
    if corpus == "multi30k":
        yield from (line.split() for line in _gzip(data, "train.en.gz"))
    elif corpus == "wnut17":
        yield from _sentences(os.path.join(data, "ner", "wnut17", "wnut17train.conll"))
    else:
        folder = os.path.join(data, "textclass", corpus)
        name = {"mr": "mr", "r8": "R8"}[corpus]
        with open(os.path.join(folder, f"{name}.txt"), encoding="utf-8") as rows:
            training = ["train" in row.split("\t")[1] for row in rows.read().splitlines()]
        with open(os.path.join(folder, f"{name}.clean.txt"), encoding="utf-8", errors="replace") as rows:
            documents = rows.read().split("\n")[: len(training)]
        yield from (document.split() for document, used in zip(documents, training) if used)


def _sentences(path: str) -> Iterator[list[str]]:
    """Sentences of a CoNLL file: one token a line, an empty line after each sentence."""
    sentence: list[str] = []
    with open(path, encoding="utf-8") as rows:
        for row in rows:
            if row.strip():
                sentence.append(row.split("\t")[0])
            elif sentence:
                yield sentence
                sentence = []
    if sentence:
        yield sentence


def _gzip(data: str, name: str) -> list[str]:
    with gzip.open(os.path.join(data, "mt", "multi30k_en_de", name), "rt", encoding="utf-8") as rows:
        return rows.read().splitlines()
