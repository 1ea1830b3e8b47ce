"""Parallel corpora for RNNSearch: plain text files, built-in generated dates, subword tokens and batches.

A folder holds ``train.XX``, ``val.XX`` and one or more ``test*.XX`` for two languages XX, one sentence a line, line i
of the one translating line i of the other, gzipped (``.gz``) or not: the format in which Multi30k is published
(Elliott et al. 2016).

Tokens are byte-pair pieces of UTF-8 bytes (Sennrich et al. 2016), by the `tokenizers` library, digits apart;
no text is unknown to them, and decoding gives the text back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from ascend_fixes import shapes
from examples.common.files import DataError, read_lines
from examples.common.randomness import Stream, digest, drawn, generator

__all__ = [
    "END",
    "PAD",
    "SIDES",
    "START",
    "Corpus",
    "Encoded",
    "Pairs",
    "batches",
    "built_in",
    "encode",
    "read_folder",
    "tokenizer",
]

PAD, START, END = 0, 1, 2
SIDES = ("source", "target")
_SPECIAL = ["<pad>", "<s>", "</s>"]


@dataclass(frozen=True)
class Pairs:
    """Sentences and their translations, line by line."""

    source: tuple[str, ...]
    target: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.source)


@dataclass(frozen=True)
class Corpus:
    """A parallel corpus.

    Attributes:
        name: for tables and file names.
        source, target: names of the languages.
        parts: "train", "validation" and "test".
    """

    name: str
    source: str
    target: str
    parts: dict[str, Pairs]

    def limited(self, count: int | None) -> Corpus:
        """The corpus with the first ``count`` training pairs only, or with all for None."""
        train = self.parts["train"]
        return replace(self, parts={**self.parts, "train": Pairs(train.source[:count], train.target[:count])})

    def digest(self) -> str:
        """A hash of everything that training depends on."""
        return digest(self.parts)


# --- the published format ----------------------------------------------------------------------


def read_folder(folder: Path, source: str, target: str, test: str = "test*") -> Corpus:
    """Read a corpus folder.

    Args:
        folder: holds the files.
        source, target: languages, the files' suffixes.
        test: name of the test set; with ``*``, the first that matches.

    Raises:
        DataError: a folder or file is missing, unreadable, empty or not UTF-8, or the sides differ in length.
    """
    if not folder.is_dir():
        raise DataError(f"--data {folder}: no such folder")
    parts = {
        part: Pairs(*(_sentences(folder, name, language) for language in (source, target)))
        for part, name in (("train", "train"), ("validation", "val"), ("test", test))
    }
    for part, pairs in parts.items():
        if len(pairs.source) != len(pairs.target):
            counts = f"{len(pairs.source):,} sentences of {source} and {len(pairs.target):,} of {target}"
            raise DataError(f"--data {folder}: the {part} part has {counts}; line i must translate line i")
    return Corpus(f"{folder.name} {source}-{target}", source, target, parts)


def _sentences(folder: Path, name: str, language: str) -> tuple[str, ...]:
    found = sorted(path for suffix in ("", ".gz") for path in folder.glob(f"{name}.{language}{suffix}"))
    if not found:
        there = sorted({path.name.removesuffix(".gz").rpartition(".")[2] for path in folder.glob("train.*")})
        languages = f"train files are there for {', '.join(there)}" if there else "no train file is there"
        raise DataError(f"--data {folder}: no {name}.{language} or {name}.{language}.gz; {languages}")
    path = found[0]
    lines = [line.strip() for line in read_lines(path)]
    if not lines:
        raise DataError(f"{path}: empty")
    for number, line in enumerate(lines, start=1):
        if not line:
            raise DataError(f"{path}, line {number}: empty sentence")
    return tuple(lines)


# --- built-in data -----------------------------------------------------------------------------

_MONTHS = "January February March April May June July August September October November December".split()
_WEEKDAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()


def built_in(train: int = 6000, validation: int = 300, test: int = 600, seed: int = 0, ragged: bool = False) -> Corpus:
    """Dates as people write them, and as ISO 8601 writes them: ``Tuesday, the 3rd of March 1998`` -> ``1998-03-03``.

    Some name the month or the year alone, so both sides are ragged. The three parts share no written date. With
    ``ragged`` a pair is a list of dates, half as many tokens as the translation of a caption of Multi30k has words
    (`examples.common.randomness`), as near as dates come to that.
    """
    random = generator(seed, Stream.DATA)
    count = train + validation + test
    lengths = drawn("rnnsearch", 20 * count, random)[:, 1].tolist() if ragged else []
    seen: dict[str, str] = {}
    while len(seen) < count:
        written, iso = _dates(random, lengths.pop() // 2) if ragged else _date(random)
        seen.setdefault(written, iso)
    source, target = tuple(seen), tuple(seen.values())
    ends = np.cumsum([0, train, validation, test])
    parts = {
        part: Pairs(source[start:end], target[start:end])
        for part, start, end in zip(("train", "validation", "test"), ends, ends[1:])
    }
    return Corpus("built-in", "written", "iso", parts)


def _dates(random: np.random.Generator, tokens: int) -> tuple[str, str]:
    """Dates whose translations have about so many characters, each of which is a token."""
    dates = [_date(random, _kind(random, tokens))]
    while (left := tokens - sum(len(iso) + 1 for _, iso in dates)) >= 4:
        dates.append(_date(random, _kind(random, left)))
    return " ".join(written for written, _ in dates), " ".join(iso for _, iso in dates)


def _kind(random: np.random.Generator, tokens: int) -> int:
    """A kind of date for `_date`, as long as there is room for: a year, a month, or a day."""
    return 0 if tokens < 7 else 1 if tokens < 10 else int(random.integers(2, 8))


def _date(random: np.random.Generator, kind: int | None = None) -> tuple[str, str]:
    year, month, day = int(random.integers(1000, 3000)), int(random.integers(1, 13)), int(random.integers(1, 29))
    name = _MONTHS[month - 1] if random.random() < 0.7 else _MONTHS[month - 1][:3]
    if kind is None:
        kind = int(random.integers(8))
    if kind == 0:
        return str(random.choice(["the year {}", "in {}", "sometime in {}"])).format(year), f"{year}"
    if kind == 1:
        return str(random.choice(["{} {}", "in {} {}", "{} of the year {}"])).format(name, year), f"{year}-{month:02d}"
    suffix = {1: "st", 2: "nd", 3: "rd"}.get(day % 10 if day // 10 != 1 else 0, "th")
    weekday = _WEEKDAYS[int(random.integers(7))]
    forms = (
        f"{day} {name} {year}",
        f"{name} {day}, {year}",
        f"{weekday}, {name} {day}{suffix}, {year}",
        f"the {day}{suffix} of {name} {year}",
        f"{weekday}, the {day}{suffix} of {name} in the year {year}",
        f"{day}.{month}.{year}",
    )
    return forms[kind - 2], f"{year}-{month:02d}-{day:02d}"


# --- tokens ------------------------------------------------------------------------------------


def tokenizer(sentences: Sequence[str], pieces: int) -> Tokenizer:
    """Byte-pair pieces learnt from sentences: at most ``pieces``, the 256 bytes and three special ones included."""
    trained = Tokenizer(models.BPE())
    trained.normalizer = normalizers.NFC()
    trained.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    trained.decoder = decoders.ByteLevel()
    learner = trainers.BpeTrainer(
        vocab_size=pieces,
        special_tokens=_SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    trained.train_from_iterator(sentences, learner)
    return trained


@dataclass(frozen=True)
class Encoded:
    """Sentences as tokens, the end token included.

    Attributes:
        source, target: a list of tokens for every sentence.
        dropped: how many pairs were left out because a side was too long.
    """

    source: tuple[tuple[int, ...], ...]
    target: tuple[tuple[int, ...], ...]
    dropped: int = 0

    def __len__(self) -> int:
        return len(self.source)

    @property
    def lengths(self) -> np.ndarray:
        """(n, 2) int64: tokens of source and target."""
        return np.array([[len(source), len(target)] for source, target in zip(self.source, self.target)], np.int64)


def encode(pairs: Pairs, source: Tokenizer, target: Tokenizer, longest: int | None = None) -> Encoded:
    """Tokens of pairs; with ``longest``, pairs that have a side with more tokens are left out, and counted.

    Raises:
        DataError: no pair is short enough.
    """
    sides = []
    for text, pieces in ((pairs.source, source), (pairs.target, target)):
        sides.append([(*encoding.ids, END) for encoding in pieces.encode_batch(list(text))])
    kept = [i for i in range(len(pairs)) if longest is None or max(len(sides[0][i]), len(sides[1][i])) <= longest]
    if not kept:
        raise DataError(f"no pair has at most {longest} tokens on both sides")
    return Encoded(tuple(sides[0][i] for i in kept), tuple(sides[1][i] for i in kept), dropped=len(pairs) - len(kept))


# --- batches -----------------------------------------------------------------------------------


def batches(
    lengths: np.ndarray, grid: shapes.Grid, size: int, random: np.random.Generator | None = None
) -> list[np.ndarray]:
    """Numbers of the pairs of every batch; those of one batch are padded to one of the grid's sizes.

    Args:
        lengths: (n, 2), of all pairs.
        grid: the sizes.
        size: pairs in a batch; the last of each of the grid's sizes may hold fewer.
        random: shuffles pairs and batches; None keeps the order.
    """
    order = np.arange(len(lengths)) if random is None else random.permutation(len(lengths))
    places = {rectangle: [] for rectangle in grid}
    for number in order:
        places[grid(*lengths[number])].append(number)
    found = [
        np.array(numbers[start : start + size]) for numbers in places.values() for start in range(0, len(numbers), size)
    ]
    return found if random is None else [found[i] for i in random.permutation(len(found))]
