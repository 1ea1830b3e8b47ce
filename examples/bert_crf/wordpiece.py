"""WordPieces: a vocabulary, and the pieces of words (Wu et al. 2016, https://arxiv.org/abs/1609.08144, section 4.1).

A word is split where BERT splits it, by the tokenizers package, on its own: words come from CoNLL files or are
typed, and every one of them has to keep a first piece, which is what gets the label.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from examples.common.pretrained import SPECIAL, optional

__all__ = ["WordPieces", "learn"]

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
