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
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

import ascend_fixes
from ascend_fixes import fusion, shapes
from examples.common import ranks, step, training, variants
from examples.common.files import save_record
from examples.common.randomness import Stream, dropout, generator
from examples.rnnsearch import data
from examples.rnnsearch.model import Loss, RNNSearch, Sizes
from examples.rnnsearch.translate import BEAM, Translator, decode

__all__ = ["MODULE", "train"]

MODULE = "examples.rnnsearch.train"

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
    "source": {0: "pairs", 1: "source"},
    "source_mask": {0: "pairs", 1: "source"},
    "before": {0: "pairs", 1: "target"},
    "target": {0: "pairs", 1: "target"},
    "weights": {0: "pairs", 1: "target"},
    "keep_source": {0: "pairs", 1: "source"},
    "keep_target": {0: "pairs", 1: "target"},
    "keep_output": {0: "pairs", 1: "target"},
}


def corpus_of(options: Mapping[str, Any]) -> data.Corpus:
    """The corpus that the options name."""
    if not options["data"]:
        return data.built_in(seed=options["seed"])
    names = (options[name] or default for name, default in LANGUAGES.items())
    return data.read_folder(Path(options["data"]), *names)


def train(request: dict[str, Any], folder: Path, resume: bool) -> dict[str, Any]:
    """Train the variant that ``request`` describes, with its checkpoint in ``folder``, and return its results."""
    ms.set_context(mode=ms.GRAPH_MODE)
    if request["fused"]:
        ms.set_context(enable_graph_kernel=True)
    if request["fixes"]:
        ascend_fixes.patch(*request["fixes"])
    corpus = corpus_of(request)
    trainer = _Trainer(corpus, request, folder)
    task = training.Task(
        settings={
            **{name: request[name] for name in (*variants.SETTINGS, "limit")},
            "corpus": corpus.digest(),
            "sizes": asdict(trainer.sizes),
            "scheduled": trainer.scheduled,
        },
        batches=lambda epoch: trainer.batches("train", epoch),
        step=trainer.step,
        validate=lambda: (trainer.quality("validation", beam=1, most=TRANSLATED), trainer.loss("validation")),
        parameters=trainer.network.trainable_params(),
        slots=step.slots(trainer.optimizer),
        scaler=trainer.scaler,
        average=AVERAGE,
        by_loss=True,
    )
    progress = training.train(task, request["epochs"], folder / "checkpoint.npz", resume, request["variant"])
    return {
        **training.summary(progress),
        "graphs": trainer.graphs,
        "padded_share": trainer.padded_share(),
        "metric": f"test_{trainer.metric}",
        f"test_{trainer.metric}": trainer.quality("test", beam=BEAM if "host" in request["fixes"] else 1),
        "pairs": {part: len(encoded) for part, encoded in trainer.parts.items()},
        "dropped": trainer.parts["train"].dropped,
        "sizes": [list(size) for size in trainer.grid],
    }


class _Trainer:
    """One variant's compiled step and evaluation, and the batches they take."""

    def __init__(self, corpus: data.Corpus, request: Mapping[str, Any], folder: Path) -> None:
        self.seed = request["seed"]
        self.scale = "large" if request["data"] else "small"
        self.sizes = LARGE if request["data"] else SMALL
        self.bucketing = "shapes" in request["fixes"]
        self.batch = BATCH[self.scale]
        pieces = {side: data.tokenizer(getattr(corpus.parts["train"], side), PIECES[self.scale]) for side in data.SIDES}
        for side, tokenizer in pieces.items():
            save_record(folder / f"{side}.json", "tokenizer", {"tokenizer": tokenizer.to_str()})
        self.target_pieces = pieces["target"]
        self.corpus = corpus = corpus.limited(request["limit"])
        self.parts = {
            part: data.encode(pairs, pieces["source"], pieces["target"], LONGEST if part == "train" else None)
            for part, pairs in corpus.parts.items()
        }
        self.grid = self._grid(request["epochs"])
        self.padded = shapes.Grid([self.longest]) if request["unbucketed"] else self.grid
        words = [pieces[side].get_vocab_size() for side in data.SIDES]
        safe = "fusion" in request["fixes"]
        self.network = RNNSearch(*words, generator(self.seed, Stream.WEIGHTS), self.sizes, safe)
        if safe:
            fusion.safe(self.network)
        self.scheduled = request["epochs"] * len(self.batches("train", 0)) if self.scale == "large" else 0
        height = LEARNING_RATE[self.scale]
        rate = step.learning_rates(height, self.scheduled) if self.scheduled else height
        self.optimizer = nn.Adam(self.network.trainable_params(), rate)
        self._build(request)
        sources = sorted({source for source, _ in self.padded})
        longest = max(int(encoded.lengths[:, 0].max()) for encoded in self.parts.values())
        widths = shapes.Buckets([*sources, longest] if self.bucketing else [longest])
        self.translator = Translator(self.network, widths, int(self.parts["train"].lengths[:, 1].max()) + 10)

    def _grid(self, epochs: int) -> shapes.Grid:
        """The padded sizes with which this training is soonest over; without the family, only the longest's."""
        lengths = np.concatenate([self.parts[part].lengths for part in ("train", "validation")])
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

    def _build(self, request: Mapping[str, Any]) -> None:
        made = step.cells(Loss(self.network), self.network, self.optimizer, request)
        self._step, self.scaler = made.step, made.scaler
        plain_loss = Loss(self.network, smoothing=0.0)
        self._loss = plain_loss
        if self.bucketing:
            buckets = {"pairs": shapes.Buckets([ranks.rows(self.batch)]), ("source", "target"): self.padded}
            self._step, self._loss = (
                shapes.bucketed(cell, axes=_RAGGED, buckets=buckets) for cell in (self._step, plain_loss)
            )

    @property
    def longest(self) -> tuple[int, int]:
        """Tokens of source and target that every batch is padded to where nothing is bucketed."""
        source, target = np.max(self.grid.sizes, axis=0).tolist()
        return source, target

    @property
    def metric(self) -> str:
        """What translations are judged by: "exact" for dates, "bleu" for a real corpus."""
        return "exact" if self.scale == "small" else "bleu"

    @property
    def graphs(self) -> int:
        """How many graphs were compiled so far."""
        return sum(len(shapes.graphs(cell)) for cell in (self._step, self._loss))

    def batches(self, part: str, epoch: int) -> list[tuple[int, int, np.ndarray]]:
        """(epoch, number, pair numbers) of every batch of an epoch, in an order that the epoch decides."""
        random = generator(self.seed, Stream.ORDER, epoch)
        found = data.batches(self.parts[part].lengths, self.grid, self.batch, random)
        return [(epoch, number, pairs) for number, pairs in enumerate(found)]

    def _inputs(self, part: str, pairs: np.ndarray) -> list[np.ndarray]:
        encoded = self.parts[part]
        widths = (None, None) if self.bucketing else self.longest
        source, source_mask = data.collate([encoded.source[i] for i in pairs], widths[0])
        target, weights = data.collate([encoded.target[i] for i in pairs], widths[1])
        before = np.concatenate([np.full((len(pairs), 1), data.START, np.int32), target[:, :-1]], 1)
        return [source, source_mask, before, target, weights]

    def _keep(self, random: np.random.Generator, inputs: list[np.ndarray]) -> list[np.ndarray]:
        rate = DROPOUT[self.scale]
        source, target = inputs[0].shape, inputs[2].shape
        shapes_ = ((*source, self.sizes.embedding), (*target, self.sizes.embedding), (*target, self.sizes.maxout))
        return [dropout(random, shape, rate) for shape in shapes_] if rate else []

    def step(self, batch: tuple[int, int, np.ndarray]) -> training.Step:
        """Train on one of the `batches`."""
        epoch, number, pairs = batch
        inputs = self._inputs("train", pairs)
        keep = self._keep(generator(self.seed, Stream.DROPOUT, epoch, number), inputs)
        return step.run(self._step, (*inputs, *keep))

    def loss(self, part: str) -> float:
        """Mean cross entropy per token, without label smoothing."""
        total, tokens = 0.0, 0.0
        for pairs in data.batches(self.parts[part].lengths, self.grid, self.batch):
            inputs = self._inputs(part, pairs)
            weight = float(inputs[4].sum())
            total += weight * float(self._loss(*map(Tensor, inputs)))
            tokens += weight
        return total / tokens

    def quality(self, part: str, beam: int, most: int | None = None) -> float:
        """The share of (the first ``most``) sentences translated exactly, or BLEU by sacreBLEU's defaults over 100."""
        found = decode(self.target_pieces, self.translator(self.parts[part].source[:most], beam))
        right = self.corpus.parts[part].target[:most]
        if self.metric == "exact":
            return float(np.mean([one == other for one, other in zip(found, right)]))
        import sacrebleu

        return sacrebleu.corpus_bleu(found, [list(right)]).score / 100

    def padded_share(self) -> float:
        """The share of the tokens computed in an epoch of training, on both sides, that are padding."""
        lengths = self.parts["train"].lengths
        padded = 0
        for _, _, pairs in self.batches("train", 0):
            rows = self.batch if self.bucketing else len(pairs)
            padded += rows * sum(self.padded(*lengths[pairs].max(0)))
        return 1 - float(lengths.sum()) / padded


if __name__ == "__main__":
    variants.answer(train)
