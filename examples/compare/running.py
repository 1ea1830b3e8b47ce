"""One side of one model, run on the CPU: ``python -m examples.compare.running MODEL SIDE FOLDER``.

Three parts, each a fresh model with the same initial weights: ``ragged`` trains in float32 on an epoch's batches, of all
shapes, as far as it comes in the seconds that `subjects` says; ``float16`` and ``fused`` (graph-kernel fusion) repeat the first
batch. Every part begins with the same batch, `REPEATS` times, so that its losses compare. ``result.json`` in FOLDER is written
anew after every part: what was done before a part that ends the process is not lost.
"""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path
from typing import Any

from mindspore import Tensor

from ascend_fixes import amp, shapes
from examples.common import variants
from examples.common.comparison import finite
from examples.common.trainer import Trainer
from examples.compare.subjects import MODELS, trainer

__all__ = ["PARTS", "REPEATS", "crash", "main"]

REPEATS = 24
PARTS: dict[str, dict[str, Any]] = {"ragged": {}, "float16": {"precision": "float16"}, "fused": {"fused": True}}


def main(model: str, side: str, folder: Path) -> None:
    """Run the parts, and write what came of them."""
    found: dict[str, Any] = {}
    for part, settings in PARTS.items():
        start = time.perf_counter()
        try:
            made = trainer(model, side, folder, **settings)
            found[part] = _ragged(made, MODELS[model].seconds) if part == "ragged" else _repeated(made)
        except Exception as error:  # whatever a platform defect throws is what this comparison shows
            found[part] = {"crash": crash(error)}
        found[part]["seconds"] = time.perf_counter() - start
        variants.write_json(folder / "result.json", finite(found))
    half = found["float16"]
    if side == "plain" and "crash" not in half and not math.isfinite(half["losses"][-1]):
        half["where"] = _culprit(trainer(model, side, folder, "float16"))
        variants.write_json(folder / "result.json", finite(found))


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


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
