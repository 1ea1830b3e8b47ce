"""Train one variant of BERT-CRF: plainly, as a newcomer to MindSpore writes it, or with families of fixes.

Each family changes one thing:

* **shapes**: batches hold sentences of similar size and are padded to one of a few sizes (`shapes.bucketed`);
  plainly, every sentence is padded to the longest of the corpus.
* **host**: the best tags are found by `host.viterbi`; plainly, by Python loops.
* **fusion**: the layers are those of `fusion`, `fusion.CRF` in place of a loop over the steps, and with the graph kernel
  on, `fusion.safe` keeps out of it what it gets wrong.
* **amp**: the step is an `amp.TrainStep` with an `amp.LossScaler`, in float16 under an `amp.Policy`; plainly, float16 is
  the cell's ``to_float``, in which the added -1e9 is minus infinity.

Run by `examples.common.variants`, in a process of its own.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mindspore import Tensor, nn

from ascend_fixes import amp, fusion, shapes
from examples.bert_crf import data
from examples.bert_crf.decoding import Transitions, best_tags, best_tags_looping, entity_f1
from examples.bert_crf.model import BertCRF, LoopCRF, Loss
from examples.bert_crf.saved import Model
from examples.bert_crf.wordpiece import WordPieces, learn
from examples.common import ranks, step, trainer, variants
from examples.common.batches import chunks
from examples.common.lengths import TESTED, TRAINED
from examples.common.pretrained import Bert, Sizes, assign, locate, read_bert
from examples.common.randomness import Stream, dropout, generator
from examples.common.transformer import AddedMask

__all__ = ["TRAINER", "Setting", "dropout_masks", "encoded", "plan", "prepare"]

BATCH, SMALL_BATCH = 32, 16  # sentences a step, fine-tuning and from random weights
EVALUATION_BATCH = 32
DROPOUT = 0.1
SCALE = 1024  # of the loss in float16, to start with: it sums over words, and 65536 would cost the first steps
# Learning rates at their height: of the encoder, from pre-trained or from random weights, and of what is on top.
FINE_TUNING, FROM_SCRATCH, ON_TOP = 1e-4, 3e-3, 5e-3
SMALL = {"width": 64, "layers": 2, "heads": 4, "inner": 128}  # the encoder that starts from random weights

# What a batch costs, in seconds on two CPU cores; the number of padded sizes is weighed with it.
STEP_SECONDS, VALUE_SECONDS, COMPILE_SECONDS, COMPILE_SECONDS_PER_LAYER = 0.02, 4e-7, 4.0, 1.5
MOST_SIZES = 4  # a training graph of MiniLM's size keeps one to four gigabytes on CPU

_RAGGED: dict[str, Any] = {
    "ids": {0: "sentences", 1: "pieces"},
    "mask": {0: "sentences", 1: "pieces"},
    "firsts": {0: "sentences", 1: "pieces"},  # words are padded to as many as there are pieces: one axis, few graphs
    "lengths": {0: "sentences"},
    "tags": {0: "sentences", 1: "pieces"},
}
_RAGGED_TRAINING: dict[str, Any] = {
    **_RAGGED,
    "weights": {0: "sentences"},
    "keep_hidden": {1: "sentences", 2: "pieces"},
    "keep_weights": {1: "sentences", 3: "pieces", 4: "pieces"},
}
_ROWS = {number: 1 for number, name in enumerate(_RAGGED_TRAINING) if name.startswith("keep")}  # elsewhere axis 0
_OUTPUTS = {0: {0: "sentences", 1: "pieces"}, 1: {0: "sentences"}}


@dataclass(frozen=True)
class Setting:
    """What is trained, on what: everything but the variant."""

    corpus: data.Corpus
    model: Model
    arrays: Mapping[str, np.ndarray]
    parts: Mapping[str, data.Encoded]

    @property
    def batch(self) -> int:
        """Sentences per step."""
        return BATCH if self.arrays else SMALL_BATCH

    @property
    def longest(self) -> tuple[int, int]:
        """The most pieces, and the most words, that a sentence has."""
        every = self.parts.values()
        return max(int(part.sizes.max()) for part in every), max(int(part.words.max()) for part in every)


def prepare(
    given: str | None, pretrained: str | None, seed: int, limit: int | None = None, ragged: bool = False
) -> Setting:
    """Read or generate the corpus, read or choose the model, and split all words.

    Args:
        given: the corpus folder; None for the built-in corpus.
        pretrained: the checkpoint, see `examples.common.pretrained.locate`; None starts from random weights.
        seed: of the built-in corpus.
        limit: train on so many sentences only; the pieces are those of all.
        ragged: give the built-in corpus the lengths of WNUT17.

    Raises:
        DataError, CheckpointError, UsageError: input that cannot be used.
    """
    corpus = data.read_folder(Path(given)) if given else _built_in(seed, ragged)
    bert = read_bert(locate(pretrained)) if pretrained else None
    wordpieces = WordPieces(bert.vocabulary, bert.lowercase) if bert else _learnt(corpus)
    corpus = corpus.limited(limit)
    parts = encoded(corpus, wordpieces, bert)
    longest = max(int(part.sizes.max()) for part in parts.values())
    sizes = bert.sizes if bert else Sizes(len(wordpieces.vocabulary), places=max(128, longest), **SMALL)
    return Setting(corpus, Model(sizes, corpus.tags, wordpieces), bert.arrays if bert else {}, parts)


def _built_in(seed: int, ragged: bool) -> data.Corpus:
    return data.built_in(TRAINED, TESTED, TESTED, seed, ragged=True) if ragged else data.built_in(seed=seed)


def _learnt(corpus: data.Corpus) -> WordPieces:
    return WordPieces(learn(word for sentence in corpus.parts["train"] for word in sentence.words))


def encoded(corpus: data.Corpus, wordpieces: WordPieces, bert: Bert | None) -> dict[str, data.Encoded]:
    """The parts of the corpus in pieces; `DataError` for a sentence that has more than the model has places."""
    places = bert.sizes.places if bert else None
    return {part: data.encode(corpus.parts[part], wordpieces, corpus.tags, places) for part in data.PARTS}


def plan(setting: Setting, request: Mapping[str, Any], size: int | None = None) -> shapes.Buckets:
    """The padded sizes with which this training is soonest over; without the family, only the longest sentence's."""
    if "shapes" not in request["fixes"]:
        return shapes.Buckets([setting.longest[0]])
    model, batch = setting.model.sizes, size or setting.batch
    sizes = np.sort(setting.parts["train"].sizes)
    return shapes.Buckets.plan(
        [*sizes[batch - 1 :: batch], sizes[-1]],  # the widest sentences of the batches
        step_cost=lambda pieces: STEP_SECONDS + VALUE_SECONDS * model.layers * model.width * batch * pieces,
        compile_cost=COMPILE_SECONDS + COMPILE_SECONDS_PER_LAYER * model.layers,
        epochs=request["epochs"],
        max_sizes=MOST_SIZES,
        multiple_of=4,
    )


class BertCRFTrainer(trainer.Trainer):
    """Sentences in batches of similar size."""

    metric, row_axes = "test_f1", _ROWS

    def __init__(self, request: Mapping[str, Any], folder: Path) -> None:
        super().__init__(request, 0)
        arguments = (request[name] for name in ("data", "pretrained", "seed", "limit"))
        self.setting = setting = prepare(*arguments, self.ragged)
        setting.model.save(folder)
        self.batch = self.batch or setting.batch
        self.train, self.on_host = np.arange(len(setting.parts["train"])), "host" in request["fixes"]
        self.buckets = plan(setting, request, self.batch)
        self.padded = step.padded_to(self.buckets, request)
        longest, _ = setting.longest  # of all sentences, also of those that only evaluation sees
        self._evaluated = shapes.Buckets(sorted({*self.buckets, max(longest, self.buckets.sizes[-1])}))
        random = generator(self.seed, Stream.WEIGHTS)
        network = BertCRF(setting.model.sizes, len(setting.corpus.tags), random, self.safe)
        assign(network, setting.arrays, "encoder.")
        self.crf = network.crf
        if self.safe:
            fusion.safe(network)
        steps = request["epochs"] * math.ceil(len(self.train) / self.batch)
        optimizer = _optimizer(network, FINE_TUNING if setting.arrays else FROM_SCRATCH, steps)
        scaler = amp.LossScaler(SCALE) if request["precision"] == "float16" else None
        self.build(Loss(network), network, optimizer, _policy(self.safe), scaler)
        if self.bucketing:
            sentences, evaluated = shapes.Buckets([ranks.rows(self.batch)]), shapes.Buckets([EVALUATION_BATCH])
            sizes = {"sentences": sentences, "pieces": self.padded}
            self.cell = shapes.bucketed(self.cell, axes=_RAGGED_TRAINING, buckets=sizes)
            sizes = {"sentences": evaluated, "pieces": step.padded_to(self._evaluated, request)}
            self.network = shapes.bucketed(self.network, axes=_RAGGED, buckets=sizes, outputs=_OUTPUTS)

    def identity(self) -> dict[str, Any]:
        setting = self.setting
        corpus, model = setting.corpus.digest(), setting.model.digest()
        return {"epochs": self.request["epochs"], "corpus": corpus, "model": model}

    def lengths(self, samples: np.ndarray) -> np.ndarray:
        return self.setting.parts["train"].sizes[samples]

    def _widths(self, part: str) -> np.ndarray:
        return (self.buckets if part == "train" else self._evaluated).assign(self.setting.parts[part].sizes)

    def batches(self, epoch: int) -> list[trainer.Batch]:
        random = generator(self.seed, Stream.ORDER, epoch)
        cut = chunks(self.train, self._widths("train"), self.batch, random)
        return [trainer.Batch(epoch, number, sentences) for number, sentences in enumerate(cut)]

    def _collate(self, part: str, sentences: np.ndarray) -> data.Batch:
        encoded = self.setting.parts[part]
        if not self.bucketing and not self.ragged:
            return data.collate(encoded, sentences, *self.setting.longest)
        longest = int(encoded.sizes[sentences].max())
        words = longest if self.bucketing else int(encoded.words[sentences].max())
        return data.collate(encoded, sentences, longest, words)

    def inputs(self, batch: trainer.Batch) -> tuple[np.ndarray, ...]:
        epoch, number, sentences = batch
        arrays = self._collate("train", sentences)
        count, pieces = arrays.ids.shape
        random = generator(self.seed, Stream.DROPOUT, epoch, number)
        keep = dropout_masks(random, self.setting.model.sizes, count, pieces)
        return (*astuple(arrays), np.ones(count, np.float32), *keep)

    def evaluate(self, part: str) -> tuple[float, float]:
        """Entity F1 and mean negative log-likelihood of a part of the corpus."""
        encoded, sentences = self.setting.parts[part], self.setting.corpus.parts[part]
        names = self.setting.corpus.tags
        transitions = Transitions(*(p.asnumpy() for p in (self.crf.transitions, self.crf.start, self.crf.end)))
        decode = best_tags if self.on_host else best_tags_looping
        true: list[Sequence[str]] = []
        found: list[Sequence[str]] = []
        loss = 0.0
        for chunk in chunks(np.arange(len(encoded)), self._widths(part), EVALUATION_BATCH):
            arrays = self._collate(part, chunk)
            emissions, losses = self.network(*map(Tensor, astuple(arrays)))
            loss += float(losses.asnumpy().astype(np.float64).sum())
            tags = decode(emissions.asnumpy().astype(np.float32), transitions, arrays.lengths)
            found += [[names[tag] for tag in sentence] for sentence in tags]
            true += [sentences[number].tags for number in chunk]
        return entity_f1(true, found), loss / len(encoded)

    def validate(self) -> tuple[float, float]:
        return self.evaluate("validation")

    def results(self) -> dict[str, Any]:
        return {
            self.metric: self.evaluate("test")[0],
            "sentences": {part: len(encoded) for part, encoded in self.setting.parts.items()},
            "sizes": list(self.buckets),
            "model": asdict(self.setting.model.sizes),
        }


def dropout_masks(random: np.random.Generator, sizes: Sizes, count: int, pieces: int) -> tuple[np.ndarray, np.ndarray]:
    """Of a batch of ``count`` sentences: ``keep_hidden`` and ``keep_weights`` as `BertCRF.construct` takes them."""
    hidden = dropout(random, (2 * sizes.layers + 2, count, pieces, sizes.width), DROPOUT)
    return hidden, dropout(random, (sizes.layers, count, sizes.heads, pieces, pieces), DROPOUT)


def _policy(safe: bool) -> amp.Policy:
    """float16 but for the two cells of the plain model that leave its range: the added -1e9 and the loop of the CRF."""
    return amp.Policy(step.HALF, fp32=() if safe else (AddedMask, LoopCRF))


def _optimizer(network: BertCRF, height: float, steps: int) -> nn.Optimizer:
    """Adam (Kingma and Ba 2015), faster for what lies on top of the encoder."""
    encoder = network.encoder.trainable_params()
    top = [*network.classify.trainable_params(), *network.crf.trainable_params()]
    rates = step.learning_rates(height, steps), step.learning_rates(ON_TOP, steps)
    return nn.Adam([{"params": encoder, "lr": rates[0]}, {"params": top, "lr": rates[1]}])


TRAINER = BertCRFTrainer

if __name__ == "__main__":
    variants.answer(functools.partial(trainer.run, TRAINER))
