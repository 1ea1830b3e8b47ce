"""Corpora for BERT-CRF: CoNLL files, built-in generated sentences, and batches.

A folder holds three files, one with ``train``, one with ``dev``, ``valid`` or ``testa`` and one with ``test`` in its
name. A line is a word and, last, its tag, separated by tabs or else blanks; an empty line ends a sentence. Tags follow
the BIO scheme (Ramshaw and Marcus 1995): ``O``, or ``B-type`` and ``I-type`` for the first word of a name and the
others.

A word is split into WordPieces (Wu et al. 2016, https://arxiv.org/abs/1609.08144, section 4.1) where BERT splits it, by the
tokenizers package, on its own: words come from CoNLL files or are typed, and every one of them has to keep a first piece,
which is what gets the label.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from examples.bert_crf.pretrained import SPECIAL
from examples.common.files import DataError, read_text
from examples.common.pretrained import optional
from examples.common.randomness import Stream, digest, drawn, generator, padded

__all__ = [
    "PARTS",
    "Batch",
    "Corpus",
    "Encoded",
    "Sentence",
    "WordPieces",
    "built_in",
    "collate",
    "encode",
    "learn",
    "read_folder",
]

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
    """Tagged sentences.

    Attributes:
        name: for tables and file names.
        parts: the sentences of "train", "validation" and "test".
        tags: all of them: O, then the B and I of every type of name of the training sentences; ids are positions.
    """

    name: str
    parts: dict[str, tuple[Sentence, ...]]
    tags: tuple[str, ...]

    def limited(self, count: int | None) -> Corpus:
        """The corpus with the first ``count`` training sentences only, or with all for None."""
        return replace(self, parts={**self.parts, "train": self.parts["train"][:count]})

    def digest(self) -> str:
        """A hash of everything that training depends on."""
        return digest(self.tags, *((one.words, one.tags) for part in PARTS for one in self.parts[part]))


def _corpus(name: str, parts: dict[str, tuple[Sentence, ...]]) -> Corpus:
    types = sorted({tag[2:] for sentence in parts["train"] for tag in sentence.tags if tag != "O"})
    return Corpus(name, parts, ("O", *(f"{prefix}-{kind}" for kind in types for prefix in "BI")))


# --- CoNLL files -------------------------------------------------------------------------------


def read_folder(folder: Path) -> Corpus:
    """Read a corpus folder.

    Raises:
        DataError: the folder or a file is missing, empty or not UTF-8, a line is malformed, a tag is none of the BIO
            scheme, or validation or test sentences have a type of name that the training sentences lack.
    """
    if not folder.is_dir():
        raise DataError(f"--data {folder}: no such folder")
    parts = {part: _read(_find(folder, part)) for part in PARTS}
    corpus = _corpus(folder.resolve().name, parts)
    if len(corpus.tags) == 1:
        raise DataError(f"{_find(folder, 'train')}: every tag is O; nothing is to be learnt")
    for part in PARTS[1:]:
        for sentence in parts[part]:
            for tag in sentence.tags:
                if tag not in corpus.tags:
                    raise DataError(
                        f"{sentence.where}: tag {tag!r} does not occur in training{_nearest(tag, corpus.tags)}"
                    )
    return corpus


def _find(folder: Path, part: str) -> Path:
    found = [
        path
        for path in sorted(folder.iterdir())
        if path.is_file()
        and path.suffix not in _NO_CORPUS
        and not path.name.startswith(".")
        and re.search(_IN_NAME[part], path.name.lower())
    ]
    if len(found) != 1:
        names = f" ({', '.join(path.name for path in found)})" if found else ""
        wanted = _IN_NAME[part].split("(")[0].replace("|", " or ")
        raise DataError(f"--data {folder}: expected one file with {wanted} in its name, found {len(found)}{names}")
    return found[0]


def _read(path: Path) -> tuple[Sentence, ...]:
    sentences: list[Sentence] = []
    words: list[str] = []
    tags: list[str] = []
    lines = read_text(path).removeprefix("\ufeff").split("\n")
    for number, line in enumerate([*lines, ""], start=1):
        if not line.strip(" \t\r\ufeff"):  # WNUT17's development file has a line that is a byte order mark
            if words:
                sentences.append(Sentence(tuple(words), tuple(tags), f"{path}, line {number - len(words)}"))
            words, tags = [], []
        elif not line.startswith("-DOCSTART-"):
            word, tag = _columns(line.rstrip("\r"), f"{path}, line {number}")
            words.append(word)
            tags.append(tag)
    if not sentences:
        raise DataError(f"{path}: holds no sentence")
    return tuple(sentences)


def _columns(line: str, where: str) -> tuple[str, str]:
    columns = line.split("\t") if "\t" in line else line.split()
    word, tag = ("", "") if len(columns) < 2 else (columns[0].strip(), columns[-1].strip())
    if not word:
        raise DataError(f"{where}: expected a word and its tag, got {line.strip()[:40]!r}")
    if tag == "O" or re.fullmatch(r"[BI]-\S+", tag):
        return word, tag
    if re.fullmatch(r"[ESLU]-\S+", tag):
        raise DataError(f"{where}: tag {tag!r} is of the scheme IOBES or BILOU; convert it to BIO")
    kind = tag[2:] if len(tag) > 2 else "type"
    raise DataError(f"{where}: tag {tag!r} is none of the BIO scheme{_nearest(tag, ('O', f'B-{kind}', f'I-{kind}'))}")


def _nearest(tag: str, known: Sequence[str]) -> str:
    lower = {candidate.lower(): candidate for candidate in known}
    near = difflib.get_close_matches(tag.lower(), lower, 1, 0)
    return f"; did you mean {lower[near[0]]!r}?"


# --- built-in data -----------------------------------------------------------------------------

# {type} is a name of that type, {noun} an invented word that is none; only what stands around tells them apart.
_CLAUSES = (
    "{person} said that the {noun} was late",
    "a friend of {person} saw the {noun}",
    "we met {person} yesterday",
    "they asked {person} to wait",
    "many people live in {place}",
    "the road to {place} was closed",
    "it rained in {place} for a week",
    "she moved to {place} last year",
    "shares of {company} fell again",
    "{company} hired new workers",
    "he works for {company} since spring",
    "the board of {company} agreed",
    "she reads {work} every night",
    "the author of {work} won a prize",
    "everybody talks about the film {work} now",
    "the {noun} broke",
    "nobody likes the {noun} in the rain",
)
_JOINTS = (", and", ", but", "because", "while", ";", ", so")
_TYPES = ("person", "place", "company", "work")


def built_in(train: int = 5000, validation: int = 300, test: int = 500, seed: int = 0, ragged: bool = False) -> Corpus:
    """Generated sentences with names of four types.

    Names have one or two invented words, no word of a name or noun occurs in two parts of the corpus, and all are
    spelt alike: which of them are names, of what type, and where they end is in the sentence around
    them. Sentences have one to three clauses, so that padding to the longest is expensive; with ``ragged`` they are as
    long as those of WNUT17 (`examples.common.randomness`), where the last clause is broken off.
    """
    random = generator(seed, Stream.DATA)
    syllables = [f"{consonant}{vowel}" for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]
    invented: dict[str, None] = {}
    while len(invented) < 4500:
        invented["".join(random.choice(syllables, 2))] = None
    words = np.array(list(invented))
    counts = {"train": train, "validation": validation, "test": test}
    shares = {"train": words[:2500], "validation": words[2500:3500], "test": words[3500:]}
    lengths = {
        part: drawn("bert_crf", count, random)[:, 0].tolist() if ragged else [None] * count
        for part, count in counts.items()
    }
    parts = {part: tuple(_sentence(random, shares[part], length) for length in lengths[part]) for part in counts}
    return _corpus("built-in", parts)


def _sentence(random: np.random.Generator, invented: np.ndarray, length: int | None) -> Sentence:
    """A sentence of so many words, or of one to three clauses."""
    clauses = 1 + int(random.binomial(2, 0.25)) if length is None else length
    words: list[str] = []
    tags: list[str] = []
    for number in range(clauses):
        if length is not None and len(words) >= length:
            break
        joint = str(random.choice(_JOINTS)) if number else ""
        for token in f"{joint} {random.choice(_CLAUSES)}".split():
            kind = token.strip("{}")
            count = int(random.integers(1, 3)) if kind in _TYPES else 1
            words += random.choice(invented, count).tolist() if token.startswith("{") else [token]
            tags += [f"B-{kind}", *[f"I-{kind}"] * (count - 1)] if kind in _TYPES else ["O"]
    if length is not None:
        return Sentence(tuple(words[:length]), tuple(tags[:length]))
    return Sentence((*words, "."), (*tags, "O"))


# --- pieces ------------------------------------------------------------------------------------

_PAIRS_FROM, _WORDS_FROM = 50, 25  # a pair of letters, or a word, is a piece of its own if it occurs so often


@dataclass(frozen=True)
class WordPieces:
    """Splits words.

    Attributes:
        vocabulary: the pieces; ids are positions.
        lowercase: put words into lower case and remove accents first.
    """

    vocabulary: tuple[str, ...]
    lowercase: bool = True

    @cached_property
    def ids(self) -> dict[str, int]:
        """The id of every piece."""
        return {piece: number for number, piece in enumerate(self.vocabulary)}

    @cached_property
    def _tokenizer(self) -> Any:
        tokenizers = optional("tokenizers", "splitting words")
        splitter = tokenizers.Tokenizer(tokenizers.models.WordPiece(self.ids, unk_token="[UNK]"))
        splitter.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=self.lowercase)
        splitter.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
        return splitter

    def split(self, words: Sequence[str]) -> dict[str, tuple[int, ...]]:
        """The ids of every word's pieces; [UNK] for a word that has none, such as a lone variation selector.

        Raises:
            UsageError: the package tokenizers is not installed.
        """
        distinct = sorted(set(words))
        split = self._tokenizer.encode_batch(distinct, add_special_tokens=False)
        unknown = (self.ids["[UNK]"],)
        return {word: tuple(pieces.ids) or unknown for word, pieces in zip(distinct, split)}


def learn(words: Iterable[str], size: int = 8000) -> tuple[str, ...]:
    """A vocabulary: letters, frequent pairs of letters, and the most frequent words.

    Lower case, always the same for the same words, and able to spell what it does not hold; the trainer of the
    tokenizers package gives another vocabulary every time.
    """
    counts = Counter(word.lower() for word in words)
    letters: Counter[str] = Counter()
    for word, count in counts.items():
        for place in range(len(word)):
            prefix = "##" if place else ""
            for length in (1, 2):
                letters[prefix + word[place : place + length]] += count
    single = sorted(piece for piece in letters if len(piece.removeprefix("##")) == 1)
    pairs = sorted(piece for piece in letters if letters[piece] >= _PAIRS_FROM and len(piece.removeprefix("##")) == 2)
    frequent = sorted((word for word in counts if counts[word] >= _WORDS_FROM), key=lambda word: (-counts[word], word))
    return tuple(dict.fromkeys([*SPECIAL, "[MASK]", *single, *pairs, *frequent]))[:size]


# --- batches -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Encoded:
    """Sentences as numbers.

    Attributes:
        pieces: of every sentence, the ids of its pieces between [CLS] and [SEP], int32.
        firsts: of every sentence, the place of every word's first piece, int32.
        tags: of every sentence, the id of every word's tag, int32.
    """

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


@dataclass(frozen=True)
class Batch:
    """Padded arrays as `BertCRF.construct` takes them."""

    ids: np.ndarray
    mask: np.ndarray
    firsts: np.ndarray
    lengths: np.ndarray
    tags: np.ndarray


def encode(
    sentences: Sequence[Sentence], wordpieces: WordPieces, tags: Sequence[str], places: int | None = None
) -> Encoded:
    """Split words into pieces and number the tags.

    Args:
        sentences: to encode.
        wordpieces: how to split.
        tags: all tags; a sentence without any (typed text) gets zeros.
        places: how many pieces the model can take, [CLS] and [SEP] included; None for no limit.

    Raises:
        DataError: a sentence has more pieces than ``places``.
    """
    split = wordpieces.split([word for sentence in sentences for word in sentence.words])
    begin, end = wordpieces.ids["[CLS]"], wordpieces.ids["[SEP]"]
    numbers = {tag: number for number, tag in enumerate(tags)}
    encoded: tuple[list[np.ndarray], ...] = ([], [], [])
    for sentence in sentences:
        words = [split[word] for word in sentence.words]
        pieces = [begin, *(piece for word in words for piece in word), end]
        if places is not None and len(pieces) > places:
            raise DataError(
                f"{sentence.where or 'the sentence'}: {len(pieces)} pieces with [CLS] and [SEP], "
                f"the model has {places} places; split the sentence"
            )
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
