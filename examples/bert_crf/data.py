"""Corpora for BERT-CRF: CoNLL files, whose tags follow the BIO scheme (Ramshaw and Marcus 1995), built-in ones, WordPieces, batches.

A word is split into WordPieces (Wu et al. 2016, https://arxiv.org/abs/1609.08144, section 4.1) where BERT splits it, by the
tokenizers package, on its own: every word has to keep a first piece, which is what gets the label.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from ascend_fixes.errors import nearest
from examples.bert_crf.model import SPECIAL
from examples.common.files import ExampleError, expect, read_lines
from examples.common.randomness import Stream, digest, drawn, generator, padded

PARTS = ("train", "validation", "test")
_IN_NAME = {"train": r"train", "validation": r"dev|valid|testa", "test": r"test(?!a)"}
_NO_CORPUS = (".md", ".json", ".py")


@dataclass(frozen=True)
class Sentence:
    """Words, their tags, and where they stand, for messages."""

    words: tuple[str, ...]
    tags: tuple[str, ...]
    where: str = ""


@dataclass(frozen=True)
class Corpus:
    """The sentences of `PARTS`; ``tags``: O, then the B and I of every type of name in training; ids are positions."""

    parts: dict[str, tuple[Sentence, ...]]

    @cached_property
    def tags(self) -> tuple[str, ...]:
        types = sorted({tag[2:] for sentence in self.parts["train"] for tag in sentence.tags if tag != "O"})
        return ("O", *(f"{prefix}-{kind}" for kind in types for prefix in "BI"))

    def digest(self) -> str:
        return digest(self.tags, *((one.words, one.tags) for part in PARTS for one in self.parts[part]))


def read_folder(folder: Path) -> Corpus:
    """Read a corpus folder; `ExampleError` for a missing file, a malformed line, a type of name that training lacks; `FileError`."""
    parts = {}
    files = [path for path in sorted(folder.iterdir()) if path.is_file() and path.suffix not in _NO_CORPUS]
    for part, in_name in _IN_NAME.items():
        found = [path for path in files if path.name[0] != "." and re.search(in_name, path.name.lower())]
        names = f" ({', '.join(path.name for path in found)})" if found else ""
        one = f"expected one file with {in_name.split('(')[0].replace('|', ' or ')} in its name"
        expect(len(found) == 1, f"--data {folder}: {one}, found {len(found)}{names}")
        parts[part] = _read(found[0])
    corpus = Corpus(parts)
    expect(len(corpus.tags) > 1, f"--data {folder}: in training every tag is O; nothing is to be learnt")
    for sentence in (*parts["validation"], *parts["test"]):
        for tag in sentence.tags:
            if tag not in corpus.tags:
                near = nearest(tag, corpus.tags, f"it has {', '.join(corpus.tags)}")
                raise ExampleError(f"{sentence.where}: tag {tag!r} does not occur in training{near}")
    return corpus


def _read(path: Path) -> tuple[Sentence, ...]:
    lines = [each for each in enumerate(read_lines(path), start=1) if not each[1].startswith("-DOCSTART-")]
    sentences = []
    # WNUT17's development file has a line that is a byte order mark.
    for filled, group in itertools.groupby(lines, lambda each: bool(each[1].strip(" \t\ufeff"))):
        if filled:
            block = list(group)
            columns = [_columns(line, f"{path}, line {number}") for number, line in block]
            sentences.append(Sentence(*zip(*columns), f"{path}, line {block[0][0]}"))
    expect(sentences, f"{path}: holds no sentence")
    return tuple(sentences)


def _columns(line: str, where: str) -> tuple[str, str]:
    """A word and its tag, which are the first and the last column."""
    columns = line.split("\t") if "\t" in line else line.split()
    word, tag = ("", "") if len(columns) < 2 else (columns[0].strip(), columns[-1].strip())
    expect(word, f"{where}: expected a word and its tag, got {line.strip()[:40]!r}")
    other = re.fullmatch(r"[ESLU]-\S+", tag)
    expect(not other, f"{where}: tag {tag!r} is of the scheme IOBES or BILOU; convert it to BIO")
    if tag != "O" and not re.fullmatch(r"[BI]-\S+", tag):
        kind = tag[2:] if len(tag) > 2 else "type"
        near = nearest(tag, ("O", f"B-{kind}", f"I-{kind}"), "use O, B-type and I-type")
        raise ExampleError(f"{where}: tag {tag!r} is none of the BIO scheme{near}")
    return word, tag


# {type} is a name of that type, {noun} an invented word that is none; only what stands around tells them apart.
_CLAUSES = Path(__file__).with_name("clauses.txt").read_text(encoding="utf-8").splitlines()
_JOINTS = (", and", ", but", "because", "while", ";", ", so")
_TYPES = ("person", "place", "company", "work")


def built_in(train: int = 5000, validation: int = 300, test: int = 500, seed: int = 0, ragged: bool = False) -> Corpus:
    """Generated sentences with names of four types.

    Names have one or two invented words, no word of a name or noun occurs in two parts of the corpus, and all are spelt
    alike: which of them are names, of what type, and where they end is in the sentence around them. Sentences have one to
    three clauses, so that padding to the longest is expensive; with ``ragged`` they are as long as those of WNUT17
    (`examples.common.randomness`), where the last clause is broken off.
    """
    random = generator(seed, Stream.DATA)
    syllables = [f"{consonant}{vowel}" for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]
    invented: dict[str, None] = {}
    while len(invented) < 4500:
        invented["".join(random.choice(syllables, 2))] = None
    shares = np.split(np.array(list(invented)), [2500, 3500])
    counts = train, validation, test
    lengths = [drawn("bert_crf", count, random)[:, 0].tolist() if ragged else [None] * count for count in counts]
    parts = zip(PARTS, shares, lengths)
    return Corpus({part: tuple(_sentence(random, own, one) for one in many) for part, own, many in parts})


def _sentence(random: np.random.Generator, invented: np.ndarray, length: int | None) -> Sentence:
    """A sentence of so many words, or of one to three clauses."""
    words: list[str] = []
    tags: list[str] = []
    for number in range(1 + int(random.binomial(2, 0.25)) if length is None else length):
        if length is not None and len(words) >= length:
            break
        joint = str(random.choice(_JOINTS)) if number else ""
        for token in f"{joint} {random.choice(_CLAUSES)}".split():
            kind = token.strip("{}")
            count = int(random.integers(1, 3)) if kind in _TYPES else 1
            words += random.choice(invented, count).tolist() if token.startswith("{") else [token]
            tags += [f"B-{kind}", *[f"I-{kind}"] * (count - 1)] if kind in _TYPES else ["O"]
    if length is None:
        return Sentence((*words, "."), (*tags, "O"))
    return Sentence(tuple(words[:length]), tuple(tags[:length]))


_PAIRS_FROM, _WORDS_FROM = 50, 25  # a pair of letters, or a word, is a piece of its own if it occurs so often


@dataclass(frozen=True)
class WordPieces:
    """Splits words, put into lower case and without accents, into pieces of the vocabulary; ids are positions."""

    vocabulary: tuple[str, ...]
    lowercase: bool = True

    @cached_property
    def ids(self) -> dict[str, int]:
        return {piece: number for number, piece in enumerate(self.vocabulary)}

    def split(self, words: Sequence[str]) -> dict[str, tuple[int, ...]]:
        """The ids of every word's pieces; [UNK] for a word that has none, such as a lone variation selector."""
        distinct = sorted(set(words))
        splitter = Tokenizer(models.WordPiece(self.ids, unk_token="[UNK]"))
        splitter.normalizer = normalizers.BertNormalizer(lowercase=self.lowercase)
        splitter.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        split = splitter.encode_batch(distinct, add_special_tokens=False)
        return {word: tuple(pieces.ids) or (self.ids["[UNK]"],) for word, pieces in zip(distinct, split)}


def learn(words: Iterable[str], size: int = 8000) -> tuple[str, ...]:
    """A vocabulary: letters, frequent pairs of letters, and the most frequent words, all in lower case.

    It spells what it does not hold, and is the same for the same words; the trainer of tokenizers gives another every time.
    """
    counts = Counter(word.lower() for word in words)
    letters: Counter[str] = Counter()
    for word, count in counts.items():
        for place in range(len(word)):
            for length in (1, 2):
                letters[("##" if place else "") + word[place : place + length]] += count
    single = sorted(piece for piece in letters if len(piece.removeprefix("##")) == 1)
    pairs = sorted(piece for piece in letters if letters[piece] >= _PAIRS_FROM and len(piece.removeprefix("##")) == 2)
    frequent = sorted((word for word in counts if counts[word] >= _WORDS_FROM), key=lambda word: (-counts[word], word))
    return tuple(dict.fromkeys([*SPECIAL, "[MASK]", *single, *pairs, *frequent]))[:size]


@dataclass(frozen=True)
class Encoded:
    """Sentences as int32 numbers: pieces between [CLS] and [SEP], the place of every word's first piece, the words' tags."""

    pieces: tuple[np.ndarray, ...]
    firsts: tuple[np.ndarray, ...]
    tags: tuple[np.ndarray, ...]

    def __len__(self) -> int:
        return len(self.pieces)

    @property
    def sizes(self) -> np.ndarray:
        """(n,) int64: how many pieces every sentence has."""
        return np.array([len(pieces) for pieces in self.pieces], np.int64)

    @property
    def words(self) -> np.ndarray:
        """(n,) int64: how many words every sentence has."""
        return np.array([len(firsts) for firsts in self.firsts], np.int64)


class Batch(NamedTuple):
    """Padded arrays as `BertCRF.construct` takes them."""

    ids: np.ndarray
    mask: np.ndarray
    firsts: np.ndarray
    lengths: np.ndarray
    tags: np.ndarray


def encode(
    sentences: Sequence[Sentence], wordpieces: WordPieces, tags: Sequence[str], places: int | None = None
) -> Encoded:
    """Split words into pieces and number the tags; a sentence without any (typed text) gets zeros.

    Raises `ExampleError` where a sentence has more than ``places`` pieces, [CLS] and [SEP] included; None for no limit.
    """
    split = wordpieces.split([word for sentence in sentences for word in sentence.words])
    begin, end = wordpieces.ids["[CLS]"], wordpieces.ids["[SEP]"]
    numbers = {tag: number for number, tag in enumerate(tags)}
    encoded: tuple[list[np.ndarray], ...] = ([], [], [])
    for sentence in sentences:
        words = [split[word] for word in sentence.words]
        pieces = [begin, *(piece for word in words for piece in word), end]
        many = f"{len(pieces)} pieces with [CLS] and [SEP], the model has {places} places; split the sentence"
        expect(places is None or len(pieces) <= places, f"{sentence.where or 'the sentence'}: {many}")
        firsts = 1 + np.cumsum([0, *map(len, words[:-1])])
        named = [numbers[tag] for tag in sentence.tags] if sentence.tags else [0] * len(words)
        for group, values in zip(encoded, (pieces, firsts, named)):
            group.append(np.array(values, np.int32))
    return Encoded(*map(tuple, encoded))


def collate(encoded: Encoded, sentences: np.ndarray, pieces: int, words: int) -> Batch:
    """The arrays of some sentences, padded to so many pieces and words."""
    ids, mask = padded([encoded.pieces[number] for number in sentences], pieces)
    firsts, _ = padded([encoded.firsts[number] for number in sentences], words)
    tags, _ = padded([encoded.tags[number] for number in sentences], words)
    return Batch(ids, mask, firsts, encoded.words[sentences].astype(np.int32), tags)
