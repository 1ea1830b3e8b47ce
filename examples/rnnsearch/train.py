"""Train one variant of RNNSearch: plainly, as a newcomer to MindSpore writes it, or with families of fixes.

Each family changes one thing:

* **shapes**: batches hold pairs of similar lengths and are padded to one of a few sizes of source x target
  (`shapes.Grid`, `shapes.bucketed`); plainly, every pair is padded to the longest source and target.
* **amp**: the step is an `amp.TrainStep` with an `amp.LossScaler`, in float16 under an `amp.Policy`; plainly,
  float16 is the cell's ``to_float``.
* **fusion**: GRU, softmax and the decoder's cell are those of `ascend_fixes.fusion`; plainly MindSpore's,
  and -1e9 added to masked scores.
* **host**: translations of the test set come from `host.beam_search`; plainly, as in the published ports, from the
  best token at every step.

Run by `examples.common.variants`, in a process of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from mindspore import nn

from ascend_fixes import fusion, shapes
from examples.common import checkpoint, ranks, trainer
from examples.common.randomness import Stream, dropout, generator, padded
from examples.rnnsearch import data
from examples.rnnsearch.model import Loss, RNNSearch, Sizes
from examples.rnnsearch.predict import BEAM, Translator, decode

__all__ = ["TRAINER"]

# For generated dates, and for a real corpus.
SMALL, LARGE = Sizes(32, 64, 32, 32), Sizes(256, 256, 256, 256)
PIECES = {"small": 330, "large": 3000}
BATCH = {"small": 100, "large": 64}
LEARNING_RATE = {"small": 0.005, "large": 0.002}  # the large one is the height of a rise and fall
DROPOUT = {"small": 0.0, "large": 0.3}
LONGEST = 50  # tokens; longer training pairs are left out, as in the paper
LANGUAGES = {"source": "en", "target": "de", "test": "test*"}
# Translated after an epoch, by the best token at every step: it shows progress; the best epoch has the lowest loss.
TRANSLATED = 200
AVERAGE = 0.5  # what is evaluated is a running average of the weights (Polyak and Juditsky 1992)

# What a size costs, in seconds on two CPU cores, by source and target tokens; the number of sizes is weighed with it.
STEP_SECONDS = {"small": (0.01, 0.0035, 0.0025), "large": (0.05, 0.008, 0.012)}
COMPILE_SECONDS = (3.0, 0.4, 0.25)
MOST_SIZES = 8

_RAGGED = {
    **{name: {0: "rows", 1: "source"} for name in ("source", "source_mask")},
    **{name: {0: "rows", 1: "target"} for name in ("before", "target", "weights")},
    **{name: {0: "rows", 1: name.removeprefix("keep_")} for name in ("keep_source", "keep_target")},
    "keep_output": {0: "rows", 1: "target"},
}


def corpus_of(options: Mapping[str, Any]) -> data.Corpus:
    """The corpus that the options name."""
    names = (options[name] or default for name, default in LANGUAGES.items())
    return trainer.corpus(options, lambda folder: data.read_folder(folder, *names), data.built_in, parts=3)


class RNNSearchTrainer(trainer.Trainer):
    """Pairs in batches of similar lengths."""

    title, about = "RNNSearch", "RNNSearch (Bahdanau et al. 2015)"
    options: ClassVar = {
        "source": {"metavar": "XX", "help": "language of the sources, the files' suffix (default: en)"},
        "target": {"metavar": "XX", "help": "language of the translations (default: de)"},
        "test": {"metavar": "NAME", "help": "the test set's file name (default: the first test*)"},
    }
    check = staticmethod(corpus_of)
    average, by_loss = AVERAGE, True

    @staticmethod
    def epochs(options: Mapping[str, Any]) -> int:
        return 10 if options["data"] else 8

    def __init__(self, request: Mapping[str, Any], folder: Path) -> None:
        self.scale = "large" if request["data"] else "small"
        super().__init__(request, BATCH[self.scale])
        self.sizes = LARGE if request["data"] else SMALL
        self.metric = "test_bleu" if request["data"] else "test_exact"
        corpus = corpus_of(request)
        pieces = {side: data.tokenizer(getattr(corpus.parts["train"], side), PIECES[self.scale]) for side in data.SIDES}
        model = {side: tokenizer.to_str() for side, tokenizer in pieces.items()}
        checkpoint.describe(folder, "rnnsearch", {**model, "sizes": asdict(self.sizes)})
        self.target_pieces, self._digest = pieces["target"], corpus.digest()
        self.corpus = corpus = corpus.limited(request["limit"])
        self.parts = {
            part: data.encode(pairs, pieces["source"], pieces["target"], LONGEST if part == "train" else None)
            for part, pairs in corpus.parts.items()
        }
        self.sample({part: encoded.lengths for part, encoded in self.parts.items()})
        self.buckets = self._grid(request["epochs"])
        words = [pieces[side].get_vocab_size() for side in data.SIDES]
        self.model = RNNSearch(*words, generator(self.seed, Stream.WEIGHTS), self.sizes, self.safe)
        if self.safe:
            fusion.safe(self.model)
        self.scheduled = request["epochs"] * len(self.batches(0)) if self.scale == "large" else 0
        height = LEARNING_RATE[self.scale]
        rate = trainer.learning_rates(height, self.scheduled) if self.scheduled else height
        self.build(Loss(self.model), self.model, nn.Adam(self.model.trainable_params(), rate))
        self.network = Loss(self.model, smoothing=0.0)
        if self.bucketing:
            buckets = {"rows": shapes.Buckets([ranks.rows(self.batch)]), ("source", "target"): self.padded}
            self.cell, self.network = (
                shapes.bucketed(cell, axes=_RAGGED, buckets=buckets) for cell in (self.cell, self.network)
            )
        longest = max(int(lengths[:, 0].max()) for lengths in self.lengths.values())
        sources = sorted({source for source, _ in self.padded})
        widths = shapes.Buckets([*sources, longest] if self.bucketing else [longest])
        self.translator = Translator(self.model, widths, int(self.lengths["train"][:, 1].max()) + 10)

    def _grid(self, epochs: int) -> shapes.Grid:
        """The padded sizes with which this training is soonest over; without the family, only the longest's."""
        lengths = np.concatenate([self.lengths[part] for part in ("train", "validation")])
        if not self.bucketing:
            return shapes.Grid([tuple(lengths.max(0))])
        fixed, per_source, per_target = STEP_SECONDS[self.scale]
        start, source_compiles, target_compiles = COMPILE_SECONDS
        return shapes.Grid.plan(
            lengths,
            step_cost=lambda source, target: (fixed + per_source * source + per_target * target) / self.batch,
            compile_cost=lambda source, target: start + source_compiles * source + target_compiles * target,
            epochs=epochs,
            max_sizes=MOST_SIZES,
        )

    @property
    def longest(self) -> tuple[int, int]:
        """Tokens of source and target that every batch is padded to where nothing is bucketed."""
        source, target = np.max(self.buckets.sizes, axis=0).tolist()
        return source, target

    def cut(self, part: str, size: int, random: np.random.Generator | None = None) -> list[np.ndarray]:
        return data.batches(self.lengths[part], self.buckets, size, random)

    def identity(self) -> dict[str, Any]:
        return {"corpus": self._digest, "sizes": asdict(self.sizes), "scheduled": self.scheduled}

    def arrays(self, part: str, samples: np.ndarray) -> list[np.ndarray]:
        encoded = self.parts[part]
        widths = (None, None) if self.own else self.longest
        source, source_mask = padded([encoded.source[i] for i in samples], widths[0])
        target, weights = padded([encoded.target[i] for i in samples], widths[1])
        before = np.concatenate([np.full((len(samples), 1), data.START, np.int32), target[:, :-1]], 1)
        return [source, source_mask, before, target, weights]

    def inputs(self, batch: trainer.Batch) -> list[np.ndarray]:
        epoch, number, pairs = batch
        arrays, rate = self.arrays("train", pairs), DROPOUT[self.scale]
        source, target = arrays[0].shape, arrays[2].shape
        kept = ((*source, self.sizes.embedding), (*target, self.sizes.embedding), (*target, self.sizes.maxout))
        random = generator(self.seed, Stream.DROPOUT, epoch, number)
        return [*arrays, *([dropout(random, shape, rate) for shape in kept] if rate else [])]

    def evaluate(self, part: str) -> tuple[float, float]:
        """The quality of some greedy translations, and the mean cross entropy per token, without label smoothing."""
        total, tokens = 0.0, 0.0
        for _, arrays, loss in self.evaluated(part, self.batch):
            weight = float(arrays[4].sum())
            total += weight * float(loss)
            tokens += weight
        return self.quality(part, beam=1, most=TRANSLATED), total / tokens

    def quality(self, part: str, beam: int, most: int | None = None) -> float:
        """The share of (the first ``most``) sentences translated exactly, or BLEU by sacreBLEU's defaults over 100."""
        found = decode(self.target_pieces, self.translator(self.parts[part].source[:most], beam))
        right = self.corpus.parts[part].target[:most]
        if self.scale == "small":
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


TRAINER = RNNSearchTrainer

if __name__ == "__main__":
    trainer.main(TRAINER)
