"""The thorough comparison: four models, plainly and with each family of cures; which defect hits which model.

A family is judged where its defect can show: **shapes** and **host** in float32, **fusion** with the graph kernel on, **amp** in
float16, each against the plain run of the same setting; then all of them together. Every cell runs in a process of its own, on
the same seeds; what a cure does not improve is shown as such.

Cells run side by side, one on each core and on that core alone, so that their times compare; with ``--jobs 1`` one after the
other, each on the whole machine.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import textwrap
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ascend_fixes.processes import Children
from examples.common import command_line, report, training
from examples.common.files import write_text
from examples.compare.page import panels, rendered
from examples.compare.quick import side_by_side

Row = dict[str, Any]
MOST_JOBS = 4  # a cell may take a gigabyte or two
_SAME = 0.01  # relative difference of two final losses that counts as none
_DRIFT = 1e-3  # relative difference of two runs' losses that counts as drift; rounding stays well below


class Length(NamedTuple):
    """How long a training is: passes over the data, and at most how many training examples."""

    epochs: int
    limit: int


class Model(NamedTuple):
    """How a model is compared: the folder of --data that holds its corpus, its options that name files of --data, and for how long.

    On built-in data every defect shows in minutes; on the ``real`` corpus padding has time to cost something.
    """

    corpus: str
    built_in: Length
    real: Length
    files: tuple[tuple[str, str], ...] = ()


MODELS = {
    "albert": Model("mrc/squad", Length(2, 1500), Length(2, 4000), (("--vocabulary", "vocab/albert-30k-clean.vocab"),)),
    "rnnsearch": Model("mt/multi30k_en_de", Length(3, 2000), Length(2, 8000)),
    "bert_crf": Model("ner/wnut17", Length(1, 1500), Length(6, 3400)),
    "texting": Model("textclass/r8", Length(5, 2400), Length(10, 5000)),
}


class Cell(NamedTuple):
    """One way to train each model, and the cell that it is compared with."""

    name: str
    fixes: tuple[str, ...]
    precision: str = "float32"
    fused: bool = False
    against: str = "plain"


CELLS = (
    Cell("plain", ()),
    Cell("shapes", ("shapes",)),
    Cell("host", ("host",)),
    Cell("plain, fused", (), fused=True),
    Cell("fusion, fused", ("fusion",), fused=True, against="plain, fused"),
    Cell("plain, float16", (), "float16"),
    Cell("amp, float16", ("amp",), "float16", against="plain, float16"),
    Cell("all", command_line.FIXES),
    Cell("all, float16, fused", command_line.FIXES, "float16", True, against="all"),
)


def run(models: Sequence[str], options: argparse.Namespace) -> int:
    """Train every cell, print and write what came of it; 0 if every cell with cures finished, else 1.

    Raises `ExampleError` for options or files that cannot be used, before the first training.
    """
    start = time.perf_counter()
    settled = {model: command_line.settled(model, arguments(MODELS[model], options)) for model in models}
    shown = cells(options.families or "all", options.cells)
    for model in models:  # all, before the first is trained
        training.load(model).check(settled[model])
    work = [(model, cell) for model in models for cell in shown]
    cores = sorted(os.sched_getaffinity(0))
    jobs = min(options.jobs or min(len(cores), MOST_JOBS), len(work))

    def train(each: tuple[str, Cell], children: Children | None = None) -> Row:
        model, cell = each
        output = options.output / model / cell.name.replace(", ", "-").replace(" ", "-")
        resume = str(options.output) if options.resume else None
        own = {**settled[model], "fused": "on" if cell.fused else "off", "output": str(output), "resume": resume}
        if children is None:
            print(f"{model}: {cell.name}", flush=True)
        row = command_line.run_variant(model, own, command_line.Variant(cell.fixes, cell.precision), children)
        return {**row, "model": model, "cell": cell.name, "against": cell.against}

    if jobs == 1:
        found = {each: train(each) for each in work}
    else:
        found = {}
        for each, row in side_by_side(work, train, [cores[number % len(cores)] for number in range(jobs)]):
            found[each] = row
            print(f"{len(found)} of {len(work)}, {row['model']}: {row['cell']}: {outcome(row)}", flush=True)
    rows = [found[each] for each in work]
    judge(rows)
    _write(rows, options, {"seconds": round(time.perf_counter() - start, 1), "jobs": jobs})
    return 0 if all(row["status"] == "finished" for row in rows if row["fixes"]) else 1


def cells(families: str, chosen: str | None) -> list[Cell]:
    """The cells that show these families, or those that were chosen, and those that they are compared with."""
    wanted = set(command_line.parse_fixes(families))
    names = [cell.name for cell in CELLS if cell.fixes and set(cell.fixes) <= wanted]
    if chosen is not None:
        names = command_line.chosen("--cells", chosen, [cell.name for cell in CELLS], "; ")
    needed = {"plain", *names, *(cell.against for cell in CELLS if cell.name in names)}
    return [cell for cell in CELLS if cell.name in needed]


def arguments(model: Model, options: argparse.Namespace) -> list[str]:
    """What the model's own command line is given."""
    given = {"--seed": options.seed}
    length = model.real if options.data else model.built_in
    for name, most in length._asdict().items():
        given[f"--{name}"] = getattr(options, name) or (None if options.full else most)
    if options.data:
        given |= {name: options.data / path for name, path in (("--data", model.corpus), *model.files)}
    return [str(part) for name, value in given.items() if value is not None for part in (name, value)]


def judge(rows: Sequence[Row]) -> None:
    """Add to each row what comparing it with others tells: ``outcome``, ``to_plain_loss`` and ``drift``.

    A run is at plain's final validation loss when it is within `_SAME` of it.
    """
    found = _by_cell(rows)
    for row in rows:
        plain = found.get((row["model"], "plain"), {})
        target = plain["history"][-1]["validation_loss"] if plain.get("history") else None
        row["outcome"] = outcome(row)
        row["to_plain_loss"] = None if target is None else seconds_to(row, target * (1 + _SAME))
        row["drift"] = drift(row, plain) if row["cell"] != "plain" else None


def _by_cell(rows: Sequence[Row]) -> dict[tuple[str, str], Row]:
    return {(row["model"], row["cell"]): row for row in rows}


def outcome(row: Mapping[str, Any]) -> str:
    """finished, NaN at step n, or how it crashed."""
    if row["status"] != "finished":
        return textwrap.shorten(str(row["status"]), 60, placeholder=" ...")
    lost = [loss is None or not math.isfinite(loss) for loss in row["losses"]]
    if lost and lost[-1]:  # a single overflow that a loss scaler skipped is none: what counts is whether it stays so
        last_good = max((step for step, bad in enumerate(lost, 1) if not bad), default=0)
        return f"NaN from step {last_good + 1}"
    return "finished"


def seconds_to(row: Mapping[str, Any], target: float) -> float | None:
    """Wall seconds, compilation included, until the validation loss was at ``target``, or None if it never was.

    Between the ends of two epochs the loss is taken to fall along a straight line.
    """
    before, since = math.inf, 0.0
    for epoch in row.get("history") or ():
        loss, elapsed = epoch["validation_loss"], epoch["elapsed"]
        if loss is not None and loss <= target:
            share = (before - target) / (before - loss) if math.isfinite(before) and before > loss else 1.0
            return since + share * (elapsed - since)
        before, since = math.inf if loss is None else loss, elapsed
    return None


def drift(row: Mapping[str, Any], reference: Mapping[str, Any]) -> float | None:
    """The median relative difference of the losses of two runs over the same batches, or None where they differ.

    The largest would say little: where rounding lets a maximum take another element, two runs part late in training.
    """
    mine, other = row.get("losses") or [], reference.get("losses") or []
    if not mine or len(mine) != len(other) or row.get("sizes") != reference.get("sizes"):
        return None
    differences = [abs(a - b) / abs(b) for a, b in zip(mine, other) if a is not None and b]
    return statistics.median(differences) if len(differences) == len(mine) else math.inf


def verdicts(rows: Sequence[Row]) -> dict[str, dict[str, str]]:
    """family -> model -> whether its defect hits the model, and what the fix changes."""
    found = _by_cell(rows)
    told: dict[str, dict[str, str]] = {}
    for family, (fixed, plain, judged) in _FAMILIES.items():
        for model in dict.fromkeys(row["model"] for row in rows):
            before, after = found.get((model, plain)), found.get((model, fixed))
            if not before or not after:
                continue
            if after["outcome"] != "finished":
                said = f"not cured: {after['outcome']}"
            elif before["outcome"] != "finished":
                said = f"hit ({before['outcome']}); cured"
            else:
                said = judged(before, after)
            told.setdefault(family, {})[model] = said
    return told


def sooner(rows: Sequence[Row]) -> dict[str, float]:
    """model -> how many times faster the run with all fixes reaches the plain run's final validation loss, in float32.

    0 where it never is; a model whose plain run did not finish has no entry.
    """
    found, told = _by_cell(rows), {}
    for (model, name), plain in found.items():
        fixed = found.get((model, "all"))
        if name == "plain" and fixed and plain["to_plain_loss"]:
            told[model] = plain["to_plain_loss"] / fixed["to_plain_loss"] if fixed["to_plain_loss"] else 0.0
    return told


def _shapes(plain: Row, fixed: Row) -> str:
    padding = f"padding {plain['padded_share']:.0%} -> {fixed['padded_share']:.0%}"
    if fixed["to_plain_loss"] is None:
        return f"{padding}; the plain run's loss is not reached"
    return f"{padding}; speed-up to the plain run's loss {plain['to_plain_loss'] / fixed['to_plain_loss']:.2f}"


def _metrics(plain: Row, fixed: Row) -> str:
    key = plain["metric"]
    return f"{key.removeprefix('test_')} {plain[key]:.2%} -> {fixed[key]:.2%}"


def _host(plain: Row, fixed: Row) -> str:
    return "no difference" if plain[plain["metric"]] == fixed[plain["metric"]] else _metrics(plain, fixed)


def _fusion(plain: Row, fixed: Row) -> str:
    before, after = plain["drift"], fixed["drift"]
    if before is None or after is None:
        return "other batches than unfused: not comparable"
    told = f"losses off by {before:.0e} -> {after:.0e}"
    return f"not hit ({told})" if before < _DRIFT else f"hit ({told}); {'cured' if after < _DRIFT else 'not cured'}"


def _amp(plain: Row, fixed: Row) -> str:
    return f"not hit ({_metrics(plain, fixed)}, {fixed['overflowed']} steps skipped)"


# family -> the cell with its fixes, the one without, and what both say where both finished
_FAMILIES = {
    "shapes": ("shapes", "plain", _shapes),
    "host": ("host", "plain", _host),
    "fusion": ("fusion, fused", "plain, fused", _fusion),
    "amp": ("amp, float16", "plain, float16", _amp),
}
_COLUMNS = (
    ("model", "model", ""),
    ("cell", "cell", ""),
    ("outcome", "outcome", ""),
    ("graphs", "graphs", ""),
    ("s to plain's loss", "to_plain_loss", ".1f"),
    ("s in all", "wall_seconds", ".1f"),
    ("padded", "padded_share", ".0%"),
    ("overflowed", "overflowed", ""),
    ("metric", None, ".2%"),
    ("peak GB", "peak_memory_gb", ".2f"),
)


def _write(rows: Sequence[Row], options: argparse.Namespace, took: Mapping[str, Any]) -> None:
    """Print and write the results: tables, a page with figures, and JSON, with the time that they ``took``."""
    found, soon, shown = verdicts(rows), sooner(rows), report.grid(rows, _COLUMNS)
    models = list(dict.fromkeys(row["model"] for row in rows))
    matrix = [["family", *models], *([family, *(of.get(one, "-") for one in models)] for family, of in found.items())]
    words = ""
    if soon:
        each = ", ".join(f"{model} {times:.2f}" if times else f"{model} not reached" for model, times in soon.items())
        median = f"; median {statistics.median(soon.values()):.2f}" if len(soon) > 1 else ""
        what = "Speed-up with all fixes, in float32, to within 1 % of the plain run's final validation loss"
        words = f"{what}: {each}{median}."
    figures = {}
    for model in models:
        trained = [row for row in rows if row["model"] == model and row.get("history")]
        losses = {"training loss": (trained, "cell", "loss"), "validation loss": (trained, "cell", "validation_loss")}
        figures[model] = panels(losses, lambda axes, drawn: report.curves(axes, *drawn), "loss", width=4.2)
    report.save({**took, "rows": rows, "matrix": found, "sooner": soon}, options.output, options.json)
    title = "Which defect hits which model:"
    text = f"{report.markdown(shown)}\n{title}\n\n{report.markdown(matrix)}\n{words}\n"
    write_text(options.output / "table.md", text)
    page = rendered("thorough.html", cells=shown, matrix=matrix, words=words, figures=figures)
    write_text(options.output / "index.html", page)
    print(f"\n{report.aligned(shown)}\n\n{title}\n{report.aligned(matrix)}\n\n{words}")
    print(f"{took['seconds']:.0f} s; page: {options.output}/index.html")
