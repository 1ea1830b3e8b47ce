"""What one process of the quick comparison does: ``python -m examples.compare.jobs KIND MODEL SIDE FOLDER``.

KIND is ``running`` (training on the CPU), ``ascend`` (compiled for Ascend) or ``hosted`` (the host family at work, one use for
each model). FOLDER gets ``result.json``.
"""

from __future__ import annotations

import functools
import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Callable, NamedTuple

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from ascend_fixes import amp, dryrun, host, shapes
from ascend_fixes.errors import AscendFixesError, first_line
from examples.bert_crf.model import Transitions, best_tags, best_tags_looping
from examples.common.command_line import FIXES
from examples.common.files import write_json
from examples.common.randomness import digest, drawn, padded
from examples.common.training import Trainer, load
from examples.rnnsearch.data import END, START
from examples.rnnsearch.predict import Translator

SIDES = ("plain", "cured")


class Model(NamedTuple):
    """A model of the study: its title, samples a step, how long it may train on an epoch's batches of all shapes, options.

    ``use`` is what it uses the host family for. The plain graph of one that ``unrolls`` grows with the length; fused, that of a
    long batch compiles for minutes.
    """

    title: str
    batch: int
    seconds: float
    use: str
    unrolls: bool = False
    options: Mapping[str, Any] = MappingProxyType({})


# Those that compile longest come first: the last to run should not be the longest.
MODELS = {
    "bert_crf": Model("BERT-CRF", 4, 30, "tagging", unrolls=True),
    "rnnsearch": Model("RNNSearch", 8, 40, "translating", unrolls=True),
    "albert": Model("ALBERT", 8, 20, "words to ids", options={"length": 384, "stride": 128}),
    "texting": Model("TextING", 16, 15, "training word vectors"),
}
_BATCHES = 40  # of training data, an epoch


def trainer(name: str, side: str, folder: Path, precision: str = "float32", fused: bool = False) -> Trainer:
    """A model, ready to train: "plain" as a newcomer to MindSpore writes it, or "cured", with every family of cures."""
    model, made_by = MODELS[name], load(name)
    fixes = FIXES if side == "cured" else ()
    asked = {"variant": side, "fixes": fixes, "precision": precision, "fused": fused, "ragged": True}
    common = {"data": None, "seed": 0, "epochs": 2, "distributed": 1, "unbucketed": False}
    sizes = {"batch": model.batch, "limit": _BATCHES * model.batch}
    request = {**dict.fromkeys(made_by.options), **common, **asked, **sizes, **model.options}
    made = made_by(request, folder)
    if model.unrolls:  # the first batch, which every part repeats, is the shortest
        numbers = made.numbers["train"]
        lengths = made.lengths["train"][numbers].reshape(len(numbers), -1).sum(1)
        made.numbers["train"] = numbers[np.argsort(lengths, kind="stable")]
    return made


REPEATS = 24
PARTS: dict[str, dict[str, Any]] = {"ragged": {}, "float16": {"precision": "float16"}, "fused": {"fused": True}}


def running(model: str, side: str, folder: Path) -> dict[str, Any]:
    """Three parts, each a fresh model with the same initial weights and the same first batch, `REPEATS` times.

    ``ragged`` trains in float32 on an epoch's batches, of all shapes, as far as it comes in the seconds of `Model`; ``float16``
    and ``fused`` (graph-kernel fusion) repeat the first batch. The result is written anew after every part: what was done
    before a part that ends the process is not lost.
    """
    found: dict[str, Any] = {}
    for part, settings in PARTS.items():
        start = time.perf_counter()
        try:
            made = trainer(model, side, folder, **settings)
            if part == "ragged":
                found[part] = _ragged(made, MODELS[model].seconds, side)
            else:
                steps = [made.step(made.first) for _ in range(REPEATS)]
                skipped = sum(one.overflowed for one in steps)
                found[part] = {"losses": [one.loss for one in steps], "skipped": skipped}
        except Exception as error:  # whatever a platform defect throws is what this comparison shows
            found[part] = {"crash": first_line(error)}
        found[part]["seconds"] = time.perf_counter() - start
        write_json(folder / "result.json", found)
    half = found["float16"]
    if side == "plain" and "crash" not in half and not math.isfinite(half["losses"][-1]):
        half["where"] = _culprit(trainer(model, side, folder, "float16"))
    return found


def _ragged(made: Trainer, seconds: float, side: str) -> dict[str, Any]:
    """What training does; cured, also what garbage in the padding changes of two samples' loss and gradients, "" for nothing."""
    start = time.process_time()  # of one core, which it has to itself on a quiet machine
    losses = [made.step(made.first).loss for _ in range(REPEATS)]
    at = []  # when each further batch was done
    for batch in made.batches(0):
        if time.process_time() - start > seconds:
            break
        losses.append(made.step(batch).loss)
        at.append(round(time.process_time() - start, 2))
    found = {
        "losses": losses,
        "at": at,
        "samples": REPEATS * made.batch + made.batch * len(at),
        "graphs": len(shapes.graphs(made.cell)),
        "padded_share": made.padded_share(),
        "training_seconds": time.process_time() - start,
    }
    if side == "plain":
        return found
    two = made.inputs(made.first._replace(samples=made.first.samples[:2]))
    padded_axes = {
        name: {axis: side for axis, side in own.items() if side != "rows"} for name, own in made.axes.items()
    }
    report = shapes.check_padding(made.loss_cell, tuple(two), {name: own for name, own in padded_axes.items() if own})
    return {**found, "leaks": "" if report.ok else str(report)}


def _culprit(made: Trainer) -> str:
    """What left float16's range first, by `amp.trace_overflow` of the model with its initial weights.

    "" where nothing does, or where the model does not run operator by operator, as that has to.
    """
    try:
        report = amp.trace_overflow(made.loss_cell, *map(Tensor, made.inputs(made.first)))
    except (TypeError, ValueError, RuntimeError):
        return ""
    where = f"cell {report.cell}" if report.cell else "the loss"
    return f"{report.operator} in {where} gives {report.value} ({report.text})" if report else ""


ROOT = Path(__file__).resolve().parents[2]
SETTING = {"soc": "Ascend910B", "jit_level": "O1"}


def _first_step(model: str, side: str) -> tuple[Any, ...]:
    folder = Path("example")
    folder.mkdir(exist_ok=True)
    made = trainer(model, side, folder, "float16")
    return (made.cell, *map(Tensor, made.inputs(made.first)))


for _model in MODELS:
    for _side in SIDES:
        globals()[f"{_model}_{_side}"] = functools.partial(_first_step, _model, _side)


def compiled(model: str, side: str) -> dict[str, Any]:
    """The first training step in float16, compiled by MindSpore's Ascend back end; nothing is executed.

    Its verdict, its kernels by kind, and why it was refused where it was.
    """
    try:
        report = dryrun.cell(f"examples.compare.jobs:{model}_{side}", **SETTING)
    except AscendFixesError as error:  # this machine makes no dry runs, and the error says why
        return {"verdict": "not run", "reason": str(error)}
    kinds = ("aclnn", "aclop", "host", "fused")
    kernels = {kind: sum(graph.kernels[kind] for graph in report.graphs) for kind in kinds}
    reasons = [graph.reason for graph in report.graphs if graph.reason] + [report.failure]
    reason = reasons[0].replace(f"{ROOT}/", "")  # a result is the same wherever the repository lies
    seconds = sum(graph.seconds or 0 for graph in report.graphs)
    return {"verdict": report.verdict, "reason": reason, "kernels": kernels, "compile_seconds": seconds}


SECONDS = 3.0  # of every measurement
KEYS, ROWS, WIDTH, SENTENCES, TRANSLATED, LONGEST = 300_000, 300_000, 64, 256, 16, 24


def _rate(call: Callable[[], int]) -> float:
    """What ``call`` does a second, after one call that is not counted."""
    call()
    start, done = time.process_time(), 0
    while (taken := time.process_time() - start) < SECONDS or not done:
        done += call()
    return done / taken


def keys(cured: bool, folder: Path) -> dict[str, Any]:
    """Batches of 1,024 words of a vocabulary of `KEYS` to ids, by a Python dict or by `host.Table`."""
    random = np.random.default_rng(0)
    words = np.array([f"word{number}" for number in random.permutation(KEYS)])
    batches = [random.choice(words, 1024) for _ in range(50)]
    ids = {} if cured else {word: number for number, word in enumerate(words.tolist())}

    def by_dict(batch: np.ndarray) -> np.ndarray:
        return np.array([ids[word] for word in batch.tolist()], np.int32)

    look_up: Callable[[np.ndarray], np.ndarray] = host.Table(words) if cured else by_dict
    rate = _rate(lambda: sum(len(look_up(batch)) for batch in batches))
    return {"rate": rate, "unit": "words", "answer": digest(np.concatenate([look_up(batch) for batch in batches]))}


class _Net(nn.Cell):
    """The mean square of rows, something to train on."""

    def __init__(self, look_up: nn.Cell) -> None:
        super().__init__()
        self.look_up = look_up

    def construct(self, ids: Tensor) -> Tensor:
        rows = self.look_up(ids)
        return (rows * rows).mean()


def vectors(cured: bool, folder: Path) -> dict[str, Any]:
    """Training steps over 2,048 of `ROWS` word vectors, by `nn.EmbeddingLookup` and LazyAdam or by `host.Embedding`.

    The answer is whether the loss falls.
    """
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

    return {"rate": _rate(train), "unit": "steps", "answer": losses[-len(batches)] < losses[0]}


def tags(cured: bool, folder: Path) -> dict[str, Any]:
    """The best of 13 tags of `SENTENCES` sentences as long as WNUT17's, by a Python loop or by `host.viterbi`."""
    random = np.random.default_rng(0)
    lengths = drawn("bert_crf", SENTENCES, random)[:, 0]
    scores = random.standard_normal((SENTENCES, lengths.max(), 13)).astype(np.float32)
    transitions = Transitions(*(random.standard_normal(shape).astype(np.float32) for shape in ((13, 13), 13, 13)))
    decode = functools.partial(best_tags if cured else best_tags_looping, scores, transitions, lengths)
    answer = digest(np.concatenate(decode()))
    return {"rate": _rate(lambda: len(decode())), "unit": "sentences", "answer": answer}


def translations(cured: bool, folder: Path) -> dict[str, Any]:
    """Translations of `TRANSLATED` sentences, of at most `LONGEST` tokens, with the initial weights.

    By feeding back a growing prefix, as the published ports did, or by `host.beam_search`.
    """
    made: Any = trainer("rnnsearch", "cured" if cured else "plain", folder)
    network, sources = made.model.set_train(False), list(made.parts["test"].source[:TRANSLATED])
    width = max(map(len, sources))
    if cured:
        translator = Translator(network, shapes.Buckets([width]), LONGEST, batch=TRANSLATED)
        tokens, _ = translator.tokens(sources, beam=1)
        rate, beam = _rate(lambda: len(translator(sources, beam=1))), _rate(lambda: len(translator(sources)))
        compiled, more = (translator.start, translator.step), {"beam_rate": beam}
    else:  # the best token at every step, by running the model on all tokens so far: every length is a graph
        start, done = time.process_time(), False
        source, mask = map(Tensor, padded(sources, width))
        grown = np.full((TRANSLATED, 1), START, np.int32)
        while not done and time.process_time() - start < 3 * SECONDS:
            scores = network(source, mask, Tensor(grown)).asnumpy()
            grown = np.concatenate([grown, scores[:, -1:].argmax(-1).astype(np.int32)], 1)
            done = grown.shape[1] > LONGEST or bool((grown == END).any(1).all())
        rate = TRANSLATED / (time.process_time() - start) if done else 0.0
        tokens, compiled, more = grown[:, 1:], (network,), {}
    graphs = sum(len(shapes.graphs(cell)) for cell in compiled)
    return {"rate": rate, "unit": "translations", "graphs": graphs, "tokens": tokens.tolist(), **more}


USES = {"albert": keys, "texting": vectors, "bert_crf": tags, "rnnsearch": translations}


def main(kind: str, model: str, side: str, folder: Path) -> None:
    """Do a job, and write what came of it."""
    if kind == "running":
        found = running(model, side, folder)
    elif kind == "ascend":
        found = {"ascend": compiled(model, side)}
    else:
        try:
            found = {"host": USES[model](side == "cured", folder)}
        except Exception as error:  # as above
            found = {"host": {"crash": first_line(error)}}
    write_json(folder / "result.json", found)


if __name__ == "__main__":
    main(*sys.argv[1:4], Path(sys.argv[4]))
