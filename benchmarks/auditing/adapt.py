"""`adapt` on the plain models of the four examples, beside the variants with every cure that were written by hand.

    python -m benchmarks.auditing.adapt [--models albert,rnnsearch,bert_crf,texting] [--json FILE]

For every model two processes, on built-in data as ragged as a real corpus and with the same initial weights, train on the same
batches, `STEPS` of an epoch. ``hand`` is the example with all fixes. ``adapt`` gives the example as a newcomer writes it,
with neither axes, masks nor pad values named, to `ascend_fixes.adapt`: with the sizes written by hand, in float32 and float16, so that
losses compare; and with the lengths of an epoch's batches (``own``), so that it chooses its own sizes.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mindspore import Tensor

from ascend_fixes import adapt, processes, shapes
from ascend_fixes.auditing._audit import PADDING_FIRST, audited
from benchmarks import records
from examples.compare.jobs import MODELS, trainer

RESULT = records.RESULTS / "adapt.json"
STEPS = {"float32": 16, "float16": 8}
LIMIT, BUDGET = 3600.0, 240.0  # seconds of one process, and of one audit: the machine may be busy


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--json", type=Path, default=RESULT)
    parser.add_argument("--part", nargs=3, metavar=("KIND", "MODEL", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        kind, model, folder = options.part
        {"hand": hand, "adapt": adapted}[kind](model, Path(folder))
        return
    rows = records.read(options.json).get("models", {})
    for model in options.models.split(","):
        print(model, flush=True)
        rows[model] = compared(model)
        machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
        records.write(
            options.json, {"command": "python -m benchmarks.auditing.adapt", "machine": machine, "models": rows}
        )
    print(table(rows))


def compared(model: str) -> dict[str, Any]:
    """Both processes of a model, and how far their losses are apart."""
    row: dict[str, Any] = {}
    with processes.scratch() as folder:
        for kind in ("hand", "adapt"):
            command = [sys.executable, "-m", "benchmarks.auditing.adapt", "--part", kind, model, str(folder)]
            outcome = processes.run(command, folder=records.ROOT, environment={"GLOG_v": "3"}, timeout=LIMIT)
            print(outcome.output, flush=True)
            if outcome.failure:
                return {**row, kind: {"failure": outcome.failure}}
            row[kind] = records.read(folder / f"{kind}.json")
    for precision in STEPS:
        a, b = (np.array(row[kind][precision]["losses"], float) for kind in ("hand", "adapt"))
        row[f"{precision} apart"] = float(np.max(np.abs(a - b) / np.abs(a)))
    return row


def hand(model: str, folder: Path) -> None:
    """Train the variant that was written by hand; keep its batches for `adapted`."""
    found: dict[str, Any] = {}
    kept: list[tuple[np.ndarray, ...]] = []
    for precision, steps in STEPS.items():
        made = trainer(model, "cured", folder, precision=precision)
        if not kept:
            batches = made.batches(0)
            kept = [tuple(np.asarray(array) for array in made.inputs(batch)) for batch in batches[:steps]]
            lengths = [made.lengths["train"][batch.samples].reshape(len(batch.samples), -1).max(0) for batch in batches]
            records.write(folder / "sizes.json", made.padded.sizes)
            np.savez(folder / "lengths.npz", lengths)
            for place, batch in enumerate(kept):
                np.savez(folder / f"batch{place:04}.npz", *batch)
        found[precision] = trained(made.cell, kept[:steps])
    found["sizes"] = made.padded.sizes
    records.write(folder / "hand.json", found)


def adapted(model: str, folder: Path) -> None:
    """Adapt the plain model, and train it on the same batches."""
    batches = [arrays(file) for file in sorted(folder.glob("batch*.npz"))]
    sizes, (of_batches,) = records.read(folder / "sizes.json"), arrays(folder / "lengths.npz")
    one = telling(batches)
    made = trainer(model, "plain", folder)
    report = audited(PADDING_FIRST, made.loss_cell, one, None, made.optimizer, "Ascend910B", BUDGET)  # as `adapt` does
    print(report.show(), flush=True)
    names = list(dict.fromkeys(length for by_axis in report.axes.values() for length in by_axis.values()))
    single = len(names) == 1
    by_hand = shapes.Buckets(sizes) if single else shapes.Grid([tuple(size) for size in sizes])
    own = of_batches[:, 0] if single else dict(zip(names, of_batches.T))
    found: dict[str, Any] = {"axes": report.axes, "pad": report.pad, "masks": report.masks, "audit": report.seconds}
    runs = {"float32": ("float32", by_hand), "float16": ("float16", by_hand), "own": ("float32", own)}
    for name, (precision, lengths) in runs.items():
        made = trainer(model, "plain", folder)
        options = {"lengths": lengths, "report": report, "precision": precision}
        start = time.perf_counter()
        result = adapt(made.loss_cell, *one, optimizer=made.optimizer, **options)
        seconds = time.perf_counter() - start
        print(result.report, result.code, sep="\n", flush=True)
        found[name] = {
            **trained(result.step, batches[: STEPS[precision]]),
            "adapt": seconds,
            "choices": result.report.choices,
            "equality": [str(one) for one in result.report.equality],
            "left": [hazard.kind for hazard in result.report.left],
            "graphs_at_most": result.report.graphs,
        }
    records.write(folder / "adapt.json", found)


def arrays(file: Path) -> tuple[np.ndarray, ...]:
    """What `hand` has put into a file, in order."""
    with np.load(file, allow_pickle=False) as stored:
        return tuple(stored[f"arr_{place}"] for place in range(len(stored.files)))


def telling(batches: Sequence[Sequence[np.ndarray]]) -> Sequence[np.ndarray]:
    """The smallest batch in which no two lengths and rows are the same by chance: axes are told apart by their sizes."""

    def widths(batch: Sequence[np.ndarray]) -> set[int]:
        return {len(batch[0]), *(array.shape[1] for array in batch if array.ndim == 2)}

    most = max(len(widths(batch)) for batch in batches)
    told = [batch for batch in batches if len(widths(batch)) == most]
    return min(told, key=lambda batch: sum(array.size for array in batch))


def trained(step: Any, batches: Iterable[Sequence[np.ndarray]]) -> dict[str, Any]:
    """What training on batches gives."""
    (content, padded), start = _counts(step), time.perf_counter()
    results = [step(*map(Tensor, batch)) for batch in batches]
    more_content, more_padded = _counts(step)
    made = more_padded - padded
    return {
        "losses": [float(one.loss) if bool(one.finite) else None for one in results],
        "skipped": sum(not bool(one.finite) for one in results),
        "graphs": len(shapes.graphs(step)),
        "padded_share": 1 - (more_content - content) / made if made else 0.0,
        "seconds": time.perf_counter() - start,
    }


def _counts(step: Any) -> tuple[int, int]:
    """Content and what it was padded to, so far; of a step that pads nothing none."""
    try:
        counts = shapes.padding_counts(step)
    except shapes.CellTypeError:
        return 0, 0
    return counts.content, counts.padded


def table(rows: Mapping[str, Any]) -> str:
    """A Markdown table: graphs, padding and losses, by hand and by `adapt`."""
    lines = [
        "| | by hand | `adapt`, the same sizes | losses apart | float16, by hand and by `adapt` | `adapt`, its own sizes |"
    ]
    lines += ["|---|---|---|---|---|---|"]
    for model, row in rows.items():
        one, other = row.get("hand", {}), row.get("adapt", {})
        if "own" not in other:
            lines.append(f"| {MODELS[model].title} | {one.get('failure', '')} | {other.get('failure', '')} | | | |")
            continue
        halves = [_half(side["float16"]) for side in (one, other)]
        cells = [_padded(one["float32"]), _padded(other["float32"]), f"{row['float32 apart']:.1g}"]
        cells += [f"{halves[0]}, {halves[1]}; apart {row['float16 apart']:.1g}", _padded(other["own"])]
        lines.append(f"| {MODELS[model].title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _padded(run: Mapping[str, Any]) -> str:
    return f"{run['graphs']} graph{'s' if run['graphs'] > 1 else ''}, {100 * run['padded_share']:.1f} % padding"


def _half(run: Mapping[str, Any]) -> str:
    losses = run["losses"]
    bad = sum(loss is None for loss in losses)
    return f"{bad} of {len(losses)} not finite" if bad else f"all {len(losses)} finite"


if __name__ == "__main__":
    main()
