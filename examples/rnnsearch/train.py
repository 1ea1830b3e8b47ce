"""Train one variant of RNNSearch: as a newcomer to MindSpore writes it, or with families of fixes (see README.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from mindspore import nn

from ascend_fixes import fusion, shapes
from examples.common import checkpoint, training
from examples.common.randomness import Stream, dropout, generator, padded
from examples.common.training import axes
from examples.rnnsearch import data
from examples.rnnsearch.model import Loss, RNNSearch, Sizes
from examples.rnnsearch.predict import BEAM, Translator, decode


@dataclass(frozen=True)
class Scale:
    """How large a model is trained, and how; ``costs`` are a step's seconds on two CPU cores, also for every padded token."""

    sizes: Sizes
    pieces: int
    batch: int
    learning_rate: float
    dropout: float
    costs: tuple[float, float, float]


# For generated dates, and for a corpus, where the rate is a height, of rise and fall.
SMALL = Scale(Sizes(32, 64, 32, 32), 330, 100, 0.005, 0.0, (0.01, 0.0035, 0.0025))
LARGE = Scale(Sizes(), 3000, 64, 0.002, 0.3, (0.05, 0.008, 0.012))
COMPILE_SECONDS, MOST_SIZES = (3.0, 0.4, 0.25), 8
LONGEST = 50  # tokens; longer training pairs are left out, as in the paper
LANGUAGES = {"source": "en", "target": "de", "test": "test*"}
# Translated after an epoch, by the best token at every step: it shows progress; the best epoch has the lowest loss.
TRANSLATED = 200
AVERAGE = 0.5  # what is evaluated is a running average of the weights (Polyak and Juditsky 1992)


def corpus_of(options: Mapping[str, Any]) -> data.Corpus:
    """The corpus that the options name."""
    names = (options[name] or default for name, default in LANGUAGES.items())
    return training.corpus(options, lambda folder: data.read_folder(folder, *names), data.built_in, parts=3)


class Trainer(training.Trainer):
    """Pairs in batches of similar lengths."""

    title, about = "RNNSearch", "RNNSearch (Bahdanau et al. 2015)"
    epochs: ClassVar = {"built-in": 8, "data": 10}
    options: ClassVar = {
        "source": {"metavar": "XX", "help": "language of the sources, the files' suffix (default: en)"},
        "target": {"metavar": "XX", "help": "language of the translations (default: de)"},
        "test": {"metavar": "NAME", "help": "the test set's file name (default: the first test*)"},
    }
    check = staticmethod(corpus_of)
    average, by_loss = AVERAGE, True
    counted = 4
    ragged_axes: ClassVar = axes(
        source="rows source",
        source_mask="rows source",
        before="rows target",
        target="rows target",
        weights="rows target",
        keep_source="rows source",
        keep_target="rows target",
        keep_output="rows target",
    )
    sides = ("source", "target")

    def __init__(self, request: Mapping[str, Any], folder: Path) -> None:
        self.scale = scale = LARGE if request["data"] else SMALL
        super().__init__(request, scale.batch)
        self.metric = "test_bleu" if request["data"] else "test_exact"
        corpus = corpus_of(request)
        pieces = {side: data.tokenizer(getattr(corpus.parts["train"], side), scale.pieces) for side in data.SIDES}
        model = {side: tokenizer.to_str() for side, tokenizer in pieces.items()}
        checkpoint.describe(folder, "rnnsearch", {**model, "sizes": asdict(scale.sizes)})
        self.target_pieces, whole = pieces["target"], corpus.digest()
        self.corpus = corpus = corpus.limited(request["limit"])
        most = {"train": LONGEST}
        self.parts = {part: data.encode(one, *pieces.values(), most.get(part)) for part, one in corpus.parts.items()}
        self.sample({part: encoded.lengths for part, encoded in self.parts.items()})
        self.buckets = self._grid(request["epochs"])
        words = [pieces[side].get_vocab_size() for side in data.SIDES]
        self.model = RNNSearch(*words, generator(self.seed, Stream.WEIGHTS), scale.sizes, self.safe)
        if self.safe:
            fusion.safe(self.model)
        self.scheduled = request["epochs"] * len(self.batches(0)) if scale is LARGE else 0
        self.identity = {"corpus": whole, "sizes": asdict(scale.sizes), "scheduled": self.scheduled}
        rate = scale.learning_rate
        rates = training.learning_rates(rate, self.scheduled) if self.scheduled else rate
        loss = Loss(self.model, counted=self.weight_output is not None)
        self.build(loss, self.model, nn.Adam(self.model.trainable_params(), rates))
        self.network = Loss(self.model, smoothing=0.0)
        self.evaluation_batch = self.batch
        self.bucket()
        widest = max(int(lengths[:, 0].max()) for lengths in self.lengths.values())
        sources = sorted({source for source, _ in self.padded}) if self.bucketing else []
        longest = int(self.lengths["train"][:, 1].max()) + 10
        self.translator = Translator(self.model, shapes.Buckets([*sources, widest]), longest)

    def _grid(self, epochs: int) -> shapes.Grid:
        """The padded sizes with which this training is soonest over; without the family, only the longest's."""
        lengths = np.concatenate([self.lengths[part] for part in ("train", "validation")])
        if not self.bucketing:
            return shapes.Grid([tuple(lengths.max(0))])

        def seconds(costs: tuple[float, float, float], source: int, target: int) -> float:
            return costs[0] + costs[1] * source + costs[2] * target

        return shapes.Grid.plan(
            lengths,
            step_cost=lambda *sides: seconds(self.scale.costs, *sides) / self.batch,
            compile_cost=lambda *sides: seconds(COMPILE_SECONDS, *sides),
            epochs=epochs,
            max_sizes=MOST_SIZES,
        )

    def cut(self, part: str, size: int, random: np.random.Generator | None = None) -> list[np.ndarray]:
        return data.batches(self.lengths[part], self.buckets, size, random)

    def arrays(self, part: str, samples: np.ndarray) -> list[np.ndarray]:
        encoded = self.parts[part]
        widths = (None, None) if self.own else self.longest
        source, source_mask = padded([encoded.source[i] for i in samples], widths[0])
        target, weights = padded([encoded.target[i] for i in samples], widths[1])
        before = np.concatenate([np.full((len(samples), 1), data.START, np.int32), target[:, :-1]], 1)
        return [source, source_mask, before, target, weights]

    def inputs(self, batch: training.Batch) -> list[np.ndarray]:
        epoch, number, pairs = batch
        arrays, rate, sizes = self.arrays("train", pairs), self.scale.dropout, self.scale.sizes
        source, target = arrays[0].shape, arrays[2].shape
        kept = ((*source, sizes.embedding), (*target, sizes.embedding), (*target, sizes.maxout))
        random = generator(self.seed, Stream.DROPOUT, epoch, number)
        return [*arrays, *([dropout(random, shape, rate) for shape in kept] if rate else [])]

    def evaluate(self, part: str) -> tuple[float, float]:
        """The quality of some greedy translations, and the mean cross entropy per token, without label smoothing."""
        total, tokens = 0.0, 0.0
        for _, arrays, loss in self.evaluated(part):
            weight = float(arrays[4].sum())
            total, tokens = total + weight * float(loss), tokens + weight
        return self.quality(part, beam=1, most=TRANSLATED), total / tokens

    def quality(self, part: str, beam: int, most: int | None = None) -> float:
        """The share of (the first ``most``) sentences translated exactly, or BLEU by sacreBLEU's defaults over 100."""
        found = decode(self.target_pieces, self.translator(self.parts[part].source[:most], beam))
        right = self.corpus.parts[part].target[:most]
        if self.scale is SMALL:
            return float(np.mean([one == other for one, other in zip(found, right)]))
        import sacrebleu

        return sacrebleu.corpus_bleu(found, [list(right)]).score / 100

    def results(self) -> dict[str, Any]:
        return {
            self.metric: self.quality("test", beam=BEAM if "host" in self.request["fixes"] else 1),
            "pairs": {part: len(encoded) for part, encoded in self.parts.items()},
            "dropped": self.parts["train"].dropped,
            "sizes": [list(size) for size in self.buckets],
        }


if __name__ == "__main__":
    training.main(Trainer)
