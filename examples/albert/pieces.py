"""Texts to pieces of a vocabulary, with the place of every piece in its text.

Three vocabularies: the published one of ALBERT, unigram pieces (Kudo 2018) as lines of ``piece<TAB>log-probability``;
a ``tokenizer.json`` as Hugging Face's checkpoints have it; and, for generated data, the words of the data.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from examples.common.files import DataError, read_text

__all__ = ["Encoded", "Vocabulary", "parse_vocabulary", "read_vocabulary", "words_of"]

_SPECIAL = ("[CLS]", "[SEP]")
_PADS, _UNKNOWNS = ("<pad>", "[PAD]"), ("<unk>", "[UNK]")


@dataclass(frozen=True)
class Encoded:
    """A text in pieces.

    Attributes:
        ids: (pieces,) int32.
        starts, ends: (pieces,) int64, the characters of the text that a piece stands for, without blanks around them.
    """

    ids: np.ndarray
    starts: np.ndarray
    ends: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)


class Vocabulary:
    """A tokenizer and its special pieces.

    Attributes:
        pad, unknown, first, separator: ids of the pieces for padding, for what is unknown, ``[CLS]`` and ``[SEP]``.

    Args:
        tokenizer: of the library tokenizers.
        source: for errors.

    Raises:
        DataError: a special piece is missing.
    """

    def __init__(self, tokenizer: Tokenizer, source: str) -> None:
        self.tokenizer = tokenizer
        self.first, self.separator = (self._special((name,), source) for name in _SPECIAL)
        self.pad, self.unknown = self._special(_PADS, source), self._special(_UNKNOWNS, source)

    def _special(self, names: Iterable[str], source: str) -> int:
        for name in names:
            number = self.tokenizer.token_to_id(name)
            if number is not None:
                return number
        raise DataError(f"{source}: the vocabulary has no piece {' or '.join(names)}")

    def __len__(self) -> int:
        return self.tokenizer.get_vocab_size()

    def encode(self, texts: Iterable[str]) -> list[Encoded]:
        """The pieces of every text, without special ones."""
        texts = list(texts)
        return [self._encoded(text, one) for text, one in zip(texts, self._batch(texts))]

    def _batch(self, texts: list[str]) -> list:
        return self.tokenizer.encode_batch(texts, add_special_tokens=False)

    @staticmethod
    def _encoded(text: str, encoding: object) -> Encoded:
        # A piece such as "_the" claims the blank before the word; a blank alone claims nothing.
        spans = [
            (start + len(part) - len(part.lstrip()), end - len(part) + len(part.rstrip()))
            for start, end in encoding.offsets
            for part in (text[start:end],)
        ]
        starts = np.array([min(start, end) for start, end in spans], np.int64)
        return Encoded(np.array(encoding.ids, np.int32), starts, np.array([end for _, end in spans], np.int64))

    def unknown_words(self, text: str) -> list[str]:
        """The parts of the text that the vocabulary has no piece for."""
        (encoded,) = self.encode([text])
        return [text[s:e] for i, s, e in zip(encoded.ids, encoded.starts, encoded.ends) if i == self.unknown]

    def __str__(self) -> str:
        """The content of a ``tokenizer.json``."""
        return self.tokenizer.to_str()


def words_of(texts: Iterable[str]) -> Vocabulary:
    """The words of the texts and single signs of punctuation, in lower case."""
    tokenizer = Tokenizer(models.WordLevel({}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    words = {
        word
        for text in set(texts)
        for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer.normalizer.normalize_str(text))
    }
    pieces = ["[PAD]", "[UNK]", *_SPECIAL, *sorted(words)]
    tokenizer.model = models.WordLevel({piece: number for number, piece in enumerate(pieces)}, unk_token="[UNK]")
    return Vocabulary(tokenizer, "built-in data")


def read_vocabulary(path: Path) -> Vocabulary:
    """Read ``tokenizer.json``, or lines of ``piece<TAB>log-probability`` from any other file.

    Raises:
        DataError: it is missing, not UTF-8, malformed, or has no special pieces.
    """
    text = read_text(path, hint="a sentencepiece .model is not read, give its .vocab or a tokenizer.json")
    return parse_vocabulary(text, path) if path.suffix == ".json" else Vocabulary(_unigram(text, path), str(path))


def parse_vocabulary(text: str, path: Path) -> Vocabulary:
    """The vocabulary of a ``tokenizer.json`` with this content. Raises as `read_vocabulary`."""
    try:
        tokenizer = Tokenizer.from_str(text)
    except Exception as error:  # the library raises plain Exception
        raise DataError(f"{path}: not a tokenizer ({str(error).splitlines()[0][:80]})") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return Vocabulary(tokenizer, str(path))


def _unigram(text: str, path: Path) -> Tokenizer:
    pieces: list[tuple[str, float]] = []
    for number, line in enumerate(text.split("\n"), start=1):
        piece, _, score = line.rstrip("\r").partition("\t")
        if not line:
            continue
        try:
            pieces.append((piece, float(score)))
        except ValueError:
            raise DataError(f"{path}, line {number}: expected piece<TAB>log-probability, got {line[:40]!r}") from None
    places = {piece: place for place, (piece, _) in enumerate(pieces)}
    if not pieces:
        raise DataError(f"{path}: empty")
    if len(places) < len(pieces):
        raise DataError(f"{path}: a piece occurs twice")
    unknown = next((places[name] for name in _UNKNOWNS if name in places), None)
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=unknown))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Replace("``", '"'),
            normalizers.Replace("''", '"'),
            normalizers.NFKD(),
            normalizers.StripAccents(),
            normalizers.Lowercase(),
            normalizers.Replace(Regex(r"\s+"), " "),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer
