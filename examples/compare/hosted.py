"""The host family at work, one use for each model.

* ALBERT: words to ids, by a Python dict or by `host.Table`.
* TextING: word vectors that train beside the graph, by `nn.EmbeddingLookup` and LazyAdam or by `host.Embedding`.
* BERT-CRF: the best tags of sentences, by a Python loop or by `host.viterbi`.
* RNNSearch: translations, by feeding back a growing prefix, as the published ports did, or by `host.beam_search`.

Each gives ``{"rate", "unit", "answer", ...}``: how many a second, and what both sides have to agree on.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Callable

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from ascend_fixes import host, shapes
from examples.bert_crf.decoding import Transitions, best_tags, best_tags_looping
from examples.common.randomness import digest, drawn, padded
from examples.compare.jobs import crash, trainer
from examples.rnnsearch.data import END, START
from examples.rnnsearch.predict import Translator

__all__ = ["USES", "used"]

SECONDS = 3.0  # of every measurement
KEYS, ROWS, WIDTH, SENTENCES, TRANSLATED, LONGEST = 300_000, 300_000, 64, 256, 16, 24


def _rate(call: Callable[[], int], seconds: float) -> float:
    """What ``call`` does a second, after one call that is not counted."""
    call()
    start, done = time.process_time(), 0
    while (taken := time.process_time() - start) < seconds or not done:
        done += call()
    return done / taken


def keys(cured: bool, seconds: float, folder: Path) -> dict[str, Any]:
    """Batches of 1,024 words of a vocabulary of `KEYS`."""
    random = np.random.default_rng(0)
    words = np.array([f"word{number}" for number in random.permutation(KEYS)])
    batches = [random.choice(words, 1024) for _ in range(50)]
    if cured:
        look_up: Callable[[np.ndarray], np.ndarray] = host.Table(words)
    else:
        ids = {word: number for number, word in enumerate(words.tolist())}

        def look_up(batch: np.ndarray) -> np.ndarray:
            return np.array([ids[word] for word in batch.tolist()], np.int32)

    rate = _rate(lambda: sum(len(look_up(batch)) for batch in batches), seconds)
    return {"rate": rate, "unit": "words", "answer": digest(np.concatenate([look_up(batch) for batch in batches]))}


class _Net(nn.Cell):
    """The mean square of rows, something to train on."""

    def __init__(self, look_up: nn.Cell) -> None:
        super().__init__()
        self.look_up = look_up

    def construct(self, ids: Tensor) -> Tensor:
        rows = self.look_up(ids)
        return (rows * rows).mean()


def vectors(cured: bool, seconds: float, folder: Path) -> dict[str, Any]:
    """Training steps over 2,048 of `ROWS` rows; the answer is whether the loss falls."""
    ms.set_context(mode=ms.GRAPH_MODE)
    look_up: Any = host.Embedding(ROWS, WIDTH) if cured else nn.EmbeddingLookup(ROWS, WIDTH, target="CPU")
    net = _Net(look_up)
    optimizer = nn.SGD(net.trainable_params(), 0.0) if cured else nn.LazyAdam(net.trainable_params())
    if not cured:
        optimizer.target = "CPU"
    cell = nn.TrainOneStepCell(net, optimizer).set_train()
    random = np.random.default_rng(0)
    batches = [Tensor(random.integers(0, ROWS, 2048), ms.int32) for _ in range(10)]
    losses = []

    def train() -> int:
        for batch in batches:
            losses.append(float(cell(batch)))
            if cured:
                look_up.update()
        return len(batches)

    return {"rate": _rate(train, seconds), "unit": "steps", "answer": losses[-len(batches)] < losses[0]}


def tags(cured: bool, seconds: float, folder: Path) -> dict[str, Any]:
    """The best tags of `SENTENCES` sentences as long as those of WNUT17, of 13 tags as it has."""
    random = np.random.default_rng(0)
    lengths = drawn("bert_crf", SENTENCES, random)[:, 0]
    scores = random.standard_normal((SENTENCES, lengths.max(), 13)).astype(np.float32)
    transitions = Transitions(*(random.standard_normal(shape).astype(np.float32) for shape in ((13, 13), 13, 13)))
    decode = best_tags if cured else best_tags_looping
    answer = digest(np.concatenate(decode(scores, transitions, lengths)))
    return {
        "rate": _rate(lambda: len(decode(scores, transitions, lengths)), seconds),
        "unit": "sentences",
        "answer": answer,
    }


def translations(cured: bool, seconds: float, folder: Path) -> dict[str, Any]:
    """Translations of `TRANSLATED` sentences, of at most `LONGEST` tokens, with the initial weights."""
    made = trainer("rnnsearch", "cured" if cured else "plain", folder)
    network = made.model.set_train(False)
    sources = [made.parts["test"].source[number] for number in range(TRANSLATED)]
    width = max(map(len, sources))
    if not cured:
        return _growing(network, *padded(sources, width), seconds)
    translator = Translator(network, shapes.Buckets([width]), LONGEST, batch=TRANSLATED)
    best, _ = translator.tokens(sources, beam=1)
    rate = _rate(lambda: len(translator(sources, beam=1)), seconds)
    beam = _rate(lambda: len(translator(sources)), seconds)
    graphs = len(shapes.graphs(translator.start)) + len(shapes.graphs(translator.step))
    return {"rate": rate, "unit": "translations", "beam_rate": beam, "graphs": graphs, "tokens": best.tolist()}


def _growing(network: nn.Cell, source: np.ndarray, mask: np.ndarray, seconds: float) -> dict[str, Any]:
    """The best token at every step, by running the model on all tokens so far: every length is a graph."""
    start = time.process_time()
    tokens = np.full((len(source), 1), START, np.int32)
    while tokens.shape[1] <= LONGEST and not (tokens == END).any(1).all() and time.process_time() - start < 3 * seconds:
        scores = network(Tensor(source), Tensor(mask), Tensor(tokens)).asnumpy()
        tokens = np.concatenate([tokens, scores[:, -1:].argmax(-1).astype(np.int32)], 1)
    done = tokens.shape[1] > LONGEST or bool((tokens == END).any(1).all())
    rate = len(source) / (time.process_time() - start) if done else 0.0
    graphs = len(shapes.graphs(network))
    return {"rate": rate, "unit": "translations", "graphs": graphs, "tokens": tokens[:, 1:].tolist()}


USES = {"albert": keys, "texting": vectors, "bert_crf": tags, "rnnsearch": translations}


def used(model: str, side: str, folder: Path) -> dict[str, Any]:
    """What came of a model's use."""
    try:
        return USES[model](side == "cured", SECONDS, folder)
    except Exception as error:  # whatever a platform defect throws is what this comparison shows
        return {"crash": crash(error)}
