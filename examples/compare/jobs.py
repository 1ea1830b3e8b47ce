"""What one process of the quick comparison does: ``python -m examples.compare.jobs KIND MODEL SIDE FOLDER``.

KIND is ``running`` (training on the CPU), ``ascend`` (compiled for Ascend) or ``hosted`` (the host family at work). FOLDER gets
``result.json``.
"""

from __future__ import annotations

import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

import numpy as np
from mindspore import Tensor

from ascend_fixes import amp, dryrun, shapes
from ascend_fixes.errors import AscendFixesError
from examples.common.command_line import FIXES
from examples.common.files import write_json
from examples.common.trainer import Trainer, load

__all__ = ["MODELS", "REPEATS", "SETTING", "SIDES", "Model", "compiled", "crash", "running", "trainer"]

SIDES = ("plain", "cured")


@dataclass(frozen=True)
class Model:
    """A model of the study.

    Attributes:
        title: for people.
        batch: samples a step.
        seconds: how long it may train on the batches of an epoch, of all shapes; the first graph of some takes ten.
        unrolls: its plain graph grows with the length; fused, that of a long batch compiles for minutes.
        options: what its training is asked for besides.
    """

    title: str
    batch: int
    seconds: float
    unrolls: bool = False
    options: tuple[tuple[str, Any], ...] = ()


# Those that compile longest come first: the last to run should not be the longest.
MODELS = {
    "bert_crf": Model("BERT-CRF", 4, 30, unrolls=True),
    "rnnsearch": Model("RNNSearch", 8, 40, unrolls=True),
    "albert": Model("ALBERT", 8, 20, options=(("length", 384), ("stride", 128))),
    "texting": Model("TextING", 16, 15),
}
_BATCHES = 40  # of training data, an epoch


def trainer(name: str, side: str, folder: Path, precision: str = "float32", fused: bool = False) -> Trainer:
    """A model, ready to train: "plain" as a newcomer to MindSpore writes it, or "cured", with every family of cures."""
    model, made_by = MODELS[name], load(name)
    request = {
        **dict.fromkeys(("data", *made_by.options)),
        **{"unbucketed": False, "distributed": 1, "seed": 0, "epochs": 2, "variant": side},
        **{"fixes": FIXES if side == "cured" else (), "precision": precision, "fused": fused},
        **{"ragged": True, "batch": model.batch, "limit": _BATCHES * model.batch},
        **dict(model.options),
    }
    made = made_by(request, folder)
    if model.unrolls:  # the first batch, which every part repeats, is the shortest
        sizes = made.lengths["train"][made.train].reshape(len(made.train), -1).sum(1)
        made.train = made.train[np.argsort(sizes, kind="stable")]
    return made


# --- running -----------------------------------------------------------------------------------

REPEATS = 24
PARTS: dict[str, dict[str, Any]] = {"ragged": {}, "float16": {"precision": "float16"}, "fused": {"fused": True}}


def running(model: str, side: str, folder: Path) -> None:
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
            found[part] = _ragged(made, MODELS[model].seconds) if part == "ragged" else _repeated(made)
        except Exception as error:  # whatever a platform defect throws is what this comparison shows
            found[part] = {"crash": crash(error)}
        found[part]["seconds"] = time.perf_counter() - start
        write_json(folder / "result.json", found)
    half = found["float16"]
    if side == "plain" and "crash" not in half and not math.isfinite(half["losses"][-1]):
        half["where"] = _culprit(trainer(model, side, folder, "float16"))
        write_json(folder / "result.json", found)


def crash(error: Exception) -> str:
    """Its type and the first line that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    return f"{type(error).__name__}: {lines[0][:160]}"


def _ragged(made: Trainer, seconds: float) -> dict[str, Any]:
    start = time.process_time()  # of one core, which it has to itself on a quiet machine
    losses = [made.step(made.first).loss for _ in range(REPEATS)]
    at = []  # when each further batch was done
    for batch in made.batches(0):
        if time.process_time() - start > seconds:
            break
        losses.append(made.step(batch).loss)
        at.append(round(time.process_time() - start, 2))
    return {
        "losses": losses,
        "at": at,
        "samples": REPEATS * made.batch + made.batch * len(at),
        "graphs": len(shapes.graphs(made.cell)),
        "padded_share": made.padded_share(),
        "training_seconds": time.process_time() - start,
    }


def _repeated(made: Trainer) -> dict[str, Any]:
    steps = [made.step(made.first) for _ in range(REPEATS)]
    return {"losses": [one.loss for one in steps], "skipped": sum(one.overflowed for one in steps)}


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


# --- compiling for Ascend ----------------------------------------------------------------------

ROOT = Path(__file__).resolve().parents[2]
SETTING = {"soc": "Ascend910B", "jit_level": "O1"}


def _factory(model: str, side: str) -> Callable[[], tuple[Any, ...]]:
    def first_step() -> tuple[Any, ...]:
        folder = Path("example")
        folder.mkdir(exist_ok=True)
        made = trainer(model, side, folder, "float16")
        return (made.cell, *map(Tensor, made.inputs(made.first)))

    return first_step


albert_plain, albert_cured = _factory("albert", "plain"), _factory("albert", "cured")
bert_crf_plain, bert_crf_cured = _factory("bert_crf", "plain"), _factory("bert_crf", "cured")
rnnsearch_plain, rnnsearch_cured = _factory("rnnsearch", "plain"), _factory("rnnsearch", "cured")
texting_plain, texting_cured = _factory("texting", "plain"), _factory("texting", "cured")


def compiled(model: str, side: str) -> dict[str, Any]:
    """The first training step in float16, compiled by MindSpore's Ascend back end; nothing is executed.

    Its verdict, its kernels by kind, and why it was refused where it was.
    """
    try:
        report = dryrun.cell(f"examples.compare.jobs:{model}_{side}", **SETTING)
    except AscendFixesError as error:  # this machine makes no dry runs, and the error says why
        return {"verdict": "not run", "reason": str(error)}
    kernels = {
        kind: sum(graph.kernels[kind] for graph in report.graphs) for kind in ("aclnn", "aclop", "host", "fused")
    }
    reasons = [graph.reason for graph in report.graphs if graph.reason] + [report.failure]
    reason = reasons[0].replace(f"{ROOT}/", "")  # a result is the same wherever the repository lies
    seconds = sum(graph.seconds or 0 for graph in report.graphs)
    return {"verdict": report.verdict, "reason": reason, "kernels": kernels, "compile_seconds": seconds}


def main(kind: str, model: str, side: str, folder: Path) -> None:
    """Do a job, and write what came of it."""
    if kind == "running":
        running(model, side, folder)
    elif kind == "ascend":
        write_json(folder / "result.json", {"ascend": compiled(model, side)})
    else:
        from examples.compare import hosted

        write_json(folder / "result.json", {"host": hosted.used(model, side, folder)})


if __name__ == "__main__":
    main(*sys.argv[1:4], Path(sys.argv[4]))
