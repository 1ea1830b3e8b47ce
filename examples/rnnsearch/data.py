"""Parallel corpora for RNNSearch: text files as Multi30k's (Elliott et al. 2016), built-in generated dates, tokens and batches.

Tokens are byte-pair pieces of UTF-8 bytes (Sennrich et al. 2016), by the `tokenizers` library, digits apart; no text is
unknown to them, and decoding gives the text back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from ascend_fixes import shapes
from examples.common.files import expect, read_lines
from examples.common.randomness import Stream, digest, drawn, generator

PAD, START, END = 0, 1, 2
SIDES = ("source", "target")


@dataclass(frozen=True)
class Pairs:
    """Sentences and their translations, line by line."""

    source: tuple[str, ...]
    target: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, places: slice) -> Pairs:
        return Pairs(self.source[places], self.target[places])


@dataclass(frozen=True)
class Corpus:
    """A parallel corpus: the parts "train", "validation" and "test"."""

    parts: dict[str, Pairs]

    def limited(self, count: int | None) -> Corpus:
        """The corpus with the first ``count`` training pairs only, or with all for None."""
        return Corpus({**self.parts, "train": self.parts["train"][:count]})

    def digest(self) -> str:
        return digest(self.parts)


def read_folder(folder: Path, source: str, target: str, test: str = "test*") -> Corpus:
    """Read a corpus folder: languages are the files' suffixes; of test sets that match ``test``, the first.

    Raises `ExampleError` where a folder or file is missing or empty, or the sides differ in length, `FileError` for what is not text.
    """
    parts = {}
    for part, name in {"train": "train", "validation": "val", "test": test}.items():
        pairs = parts[part] = Pairs(*(_sentences(folder, name, language) for language in (source, target)))
        counts = f"{len(pairs.source):,} sentences of {source} and {len(pairs.target):,} of {target}"
        same = len(pairs.source) == len(pairs.target)
        expect(same, f"--data {folder}: the {part} part has {counts}; line i must translate line i")
    return Corpus(parts)


def _sentences(folder: Path, name: str, language: str) -> tuple[str, ...]:
    found = sorted(path for suffix in ("", ".gz") for path in folder.glob(f"{name}.{language}{suffix}"))
    there = sorted({path.name.removesuffix(".gz").rpartition(".")[2] for path in folder.glob("train.*")})
    languages = f"train files are there for {', '.join(there)}" if there else "no train file is there"
    expect(found, f"--data {folder}: no {name}.{language} or {name}.{language}.gz; {languages}")
    lines = tuple(line.strip() for line in read_lines(found[0]))
    expect(lines, f"{found[0]}: empty")
    for number, line in enumerate(lines, start=1):
        expect(line, f"{found[0]}, line {number}: empty sentence")
    return lines


_MONTHS = "January February March April May June July August September October November December".split()
_WEEKDAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()


def built_in(train: int = 6000, validation: int = 300, test: int = 600, seed: int = 0, ragged: bool = False) -> Corpus:
    """Dates as people write them, and as ISO 8601 writes them: ``Tuesday, the 3rd of March 1998`` -> ``1998-03-03``.

    Some name the month or the year alone, so both sides are ragged. The three parts share no written date. With ``ragged`` a
    pair is a list of dates, half as many tokens as the translation of a caption of Multi30k has words
    (`examples.common.randomness`), as near as dates come to that.
    """
    random = generator(seed, Stream.DATA)
    count = train + validation + test
    lengths = drawn("rnnsearch", 20 * count, random)[:, 1].tolist() if ragged else []
    seen: dict[str, str] = {}
    while len(seen) < count:
        written, iso = _dates(random, lengths.pop() // 2) if ragged else _date(random)
        seen.setdefault(written, iso)
    pairs, middle = Pairs(tuple(seen), tuple(seen.values())), train + validation
    return Corpus({"train": pairs[:train], "validation": pairs[train:middle], "test": pairs[middle:]})


def _dates(random: np.random.Generator, tokens: int) -> tuple[str, str]:
    """Dates whose translations have about so many characters, each of which is a token."""
    dates: list[tuple[str, str]] = []
    while not dates or tokens >= 4:
        kind = 0 if tokens < 7 else 1 if tokens < 10 else int(random.integers(2, 8))  # a year, a month, or a day
        dates.append(_date(random, kind))
        tokens -= len(dates[-1][1]) + 1
    return " ".join(written for written, _ in dates), " ".join(iso for _, iso in dates)


def _date(random: np.random.Generator, kind: int | None = None) -> tuple[str, str]:
    year, month, day = int(random.integers(1000, 3000)), int(random.integers(1, 13)), int(random.integers(1, 29))
    name = _MONTHS[month - 1] if random.random() < 0.7 else _MONTHS[month - 1][:3]
    kind = int(random.integers(8)) if kind is None else kind
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


def tokenizer(sentences: Sequence[str], pieces: int) -> Tokenizer:
    """Byte-pair pieces learnt from sentences: at most ``pieces``, the 256 bytes and three special ones included."""
    split, trained = pre_tokenizers.ByteLevel(add_prefix_space=False), Tokenizer(models.BPE())
    trained.normalizer, trained.decoder = normalizers.NFC(), decoders.ByteLevel()
    trained.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), split])
    special, alphabet = ["<pad>", "<s>", "</s>"], pre_tokenizers.ByteLevel.alphabet()
    learner = trainers.BpeTrainer(
        vocab_size=pieces, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    trained.train_from_iterator(sentences, learner)
    return trained


@dataclass(frozen=True)
class Encoded:
    """A list of tokens for every sentence, the end token included; how many pairs were left out as too long."""

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
    """Tokens of pairs; those that have a side with more than ``longest`` are left out. `ExampleError` where no pair is left."""
    sides = ((pairs.source, source), (pairs.target, target))
    tokens = ([(*one.ids, END) for one in pieces.encode_batch(list(texts))] for texts, pieces in sides)
    kept = [both for both in zip(*tokens) if longest is None or max(map(len, both)) <= longest]
    expect(kept, f"no pair has at most {longest} tokens on both sides")
    return Encoded(*zip(*kept), dropped=len(pairs) - len(kept))


def batches(
    lengths: np.ndarray, grid: shapes.Grid, size: int, random: np.random.Generator | None = None
) -> list[np.ndarray]:
    """Numbers of the pairs of every batch of at most ``size``, which are padded to one of the grid's sizes.

    ``lengths`` (n, 2) are those of all pairs; ``random`` shuffles pairs and spreads the batches of each size over the epoch
    (`shapes.spread`), None keeps the order.
    """
    order = np.arange(len(lengths)) if random is None else random.permutation(len(lengths))
    places: dict[tuple[int, ...], list[int]] = {rectangle: [] for rectangle in grid}
    for number in order:
        places[grid(*lengths[number])].append(number)
    found = [np.array(one[start : start + size]) for one in places.values() for start in range(0, len(one), size)]
    if random is None:
        return found
    return [found[i] for i in shapes.spread([-(-len(one) // size) for one in places.values()], random)]
