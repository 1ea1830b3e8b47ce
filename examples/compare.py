"""``python -m examples.compare``: four models, plainly and with each family of fixes; which defect hits which model.

A family is judged where its defect can show: **shapes** and **host** in float32, **fusion** with the graph kernel on,
**amp** in float16, each against the plain run of the same setting; then all of them together. Every cell runs in a
process of its own, on the same seeds; what a fix does not improve is shown as such.

Cells run side by side, one on each core and on that core alone, so that their times compare; with ``--jobs 1`` one after
the other, each on the whole machine.
"""

from __future__ import annotations

import argparse
import html
import importlib
import io
import math
import os
import queue
import statistics
import sys
import textwrap
import threading
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from examples.common import command_line, comparison, variants
from examples.common.errors import ExampleError, UsageError
from examples.common.files import write_atomically

__all__ = [
    "CELLS",
    "MODELS",
    "Cell",
    "Length",
    "Model",
    "arguments",
    "cells",
    "main",
    "seconds_to",
    "sooner",
    "verdicts",
]

Row = dict[str, Any]
_Work = tuple[comparison.Example, comparison.Options, "Cell"]
MOST_JOBS = 4  # a cell may take a gigabyte or two


@dataclass(frozen=True)
class Length:
    """How long a training is: passes over the data, and at most how many training examples."""

    epochs: int
    limit: int


@dataclass(frozen=True)
class Model:
    """How a model is compared.

    Attributes:
        corpus: the folder of --data that holds its real corpus.
        built_in: the comparison on built-in data, which still shows every defect and takes minutes.
        real: the comparison on the real corpus, in which padding has time to cost something; --full is without limits.
        files: its options that name files of --data.
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


@dataclass(frozen=True)
class Cell:
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
_SAME = 0.01  # relative difference of two final losses that counts as none
_DRIFT = 1e-3  # relative difference of two runs' losses that counts as drift; rounding stays well below


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status: 0 if every cell with fixes finished, 1 if not, 2 for wrong use."""
    parser = argparse.ArgumentParser(prog="python -m examples.compare", description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("--models", metavar="LIST", default=",".join(MODELS), help="some of them (default: %(default)s)")
    add("--families", metavar="LIST", default="all", help="cells of these families only, and plain (default: all)")
    add("--cells", metavar="LIST", help="only these, separated by ';' (default: every cell of the families)")
    add("--data", metavar="DIR", type=Path, help="real corpora, in the folders that the README names")
    add(
        "--full",
        action="store_true",
        help="train as long, and on as much, as the examples do; on real corpora, many hours",
    )
    add("--epochs", type=command_line.positive, metavar="N", help="passes over the data")
    add("--limit", type=command_line.positive, metavar="N", help="training examples of each model")
    add("--seed", type=command_line.natural, metavar="N", default=0, help="of everything random (default: 0)")
    add(
        "--jobs", type=command_line.positive, metavar="N", help="cells at a time (default: one on each core, at most 4)"
    )
    add("--output", metavar="DIR", type=Path, default=Path("runs/compare"), help="default: %(default)s")
    add("--json", metavar="FILE", type=Path, help="write the results to FILE as well")
    add("--resume", action="store_true", help="keep the cells that have finished, and go on")
    options = parser.parse_args(arguments)
    try:
        names, chosen = _models(options.models), cells(options.families, options.cells)
        models = [_checked(name, options) for name in names]  # all, before the first is trained
        rows = _trained([(*model, cell) for model in models for cell in chosen], options)
    except KeyboardInterrupt:
        print("\ninterrupted; go on with --resume", file=sys.stderr)
        return 130
    except (ExampleError, OSError) as error:
        if str(error):
            print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    judge(rows)
    _write(rows, options)
    return 0 if all(row["status"] == "finished" for row in rows if row["fixes"]) else 1


def _models(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in MODELS:
            raise UsageError(f"--models {text}: there is no {name!r}; choose from {','.join(MODELS)}")
    return names


def cells(families: str, chosen: str | None) -> list[Cell]:
    """The cells that show these families, or those that were chosen, and those that they are compared with."""
    wanted = set(command_line.parse_fixes(families))
    kept = [cell for cell in CELLS if cell.fixes and set(cell.fixes) <= wanted]
    if chosen is not None:
        by_name = {cell.name: cell for cell in CELLS}
        names = [name.strip() for name in chosen.split(";")]
        for name in names:
            if name not in by_name:
                raise UsageError(f"--cells {chosen}: there is no {name!r}; choose from {'; '.join(by_name)}")
        kept = [by_name[name] for name in names]
    needed = {"plain", *(cell.against for cell in kept)}
    return [cell for cell in CELLS if cell in kept or cell.name in needed]


def _checked(model: str, options: argparse.Namespace) -> tuple[comparison.Example, comparison.Options]:
    """The model's example and its options, whose files have been read."""
    example = importlib.import_module(f"examples.{model}.__main__").example()
    settled = comparison.settled(example, arguments(MODELS[model], options))
    example.check(settled)
    return example, settled


def _trained(work: Sequence[_Work], options: argparse.Namespace) -> list[Row]:
    """The row of every cell, in order; cells run one after the other, or side by side."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    jobs = min(options.jobs or min(len(cores), MOST_JOBS) or 1, len(work))
    if jobs == 1:
        return [_run(*each, options) for each in work]
    free: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in range(jobs if cores else 0):
        free.put(cores[number % len(cores)])
    stop = threading.Event()
    with ThreadPoolExecutor(jobs, initializer=_take_core, initargs=(free,)) as pool:
        futures = [pool.submit(_run, *each, options, stop) for each in work]
        try:
            for count, future in enumerate(as_completed(futures), 1):
                row = future.result()
                print(f"{count} of {len(work)}, {row['model']}: {row['cell']}: {outcome(row)}", flush=True)
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    return [future.result() for future in futures]


def _take_core(free: queue.SimpleQueue[int]) -> None:
    """Bind this thread to a core; the processes that it starts inherit that."""
    if not free.empty():
        os.sched_setaffinity(0, {free.get()})


def _run(
    example: comparison.Example,
    settled: comparison.Options,
    cell: Cell,
    options: argparse.Namespace,
    stop: threading.Event | None = None,
) -> Row:
    """Train one model in one cell."""
    output = options.output / example.name / _slug(cell.name)
    resume = str(options.output) if options.resume else None
    settled = {**settled, "fused": "on" if cell.fused else "off", "output": str(output), "resume": resume}
    if stop is None:
        print(f"{example.name}: {cell.name}", flush=True)
    row = comparison.run_variant(example, settled, command_line.Variant(cell.fixes, cell.precision), stop)
    return {**row, "model": example.name, "cell": cell.name, "against": cell.against}


def arguments(model: Model, options: argparse.Namespace) -> list[str]:
    """What the model's own command line is given."""
    given = {"--seed": options.seed}
    if options.data:
        given["--data"] = options.data / model.corpus
        given.update((option, options.data / path) for option, path in model.files)
    length = model.real if options.data else model.built_in
    for name in ("epochs", "limit"):
        chosen = getattr(options, name) or (None if options.full else getattr(length, name))
        if chosen:
            given[f"--{name}"] = chosen
    return [str(part) for pair in given.items() for part in pair]


def _slug(name: str) -> str:
    return name.replace(", ", "-").replace(" ", "-")


# --- judging -------------------------------------------------------------------------------------


def judge(rows: Sequence[Row]) -> None:
    """Add to each row what comparing it with others tells: ``outcome``, ``to_plain_loss`` and ``drift``.

    A run is at plain's final validation loss when it is within `_SAME` of it.
    """
    cells = {(row["model"], row["cell"]): row for row in rows}
    for row in rows:
        plain = cells.get((row["model"], "plain"), {})
        row["outcome"] = outcome(row)
        target = plain["history"][-1]["validation_loss"] if plain.get("history") else None
        row["to_plain_loss"] = None if target is None else seconds_to(row, target * (1 + _SAME))
        row["drift"] = drift(row, plain) if row["cell"] != "plain" else None


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
    """The largest relative difference of the losses of two runs over the same batches, or None where they differ."""
    mine, other = row.get("losses") or [], reference.get("losses") or []
    if not mine or len(mine) != len(other) or row.get("sizes") != reference.get("sizes"):
        return None
    differences = [abs(a - b) / abs(b) for a, b in zip(mine, other) if a is not None and b]
    return max(differences) if len(differences) == len(mine) else math.inf


def verdicts(rows: Sequence[Row]) -> dict[str, dict[str, str]]:
    """family -> model -> whether its defect hits the model, and what the fix changes."""
    cells = {(row["model"], row["cell"]): row for row in rows}
    models = list(dict.fromkeys(row["model"] for row in rows))
    judges = {
        "shapes": ("shapes", "plain", _shapes),
        "host": ("host", "plain", _host),
        "fusion": ("fusion, fused", "plain, fused", _fusion),
        "amp": ("amp, float16", "plain, float16", _amp),
    }
    found: dict[str, dict[str, str]] = {}
    for family, (fixed, plain, judge_) in judges.items():
        for model in models:
            both = cells.get((model, plain)), cells.get((model, fixed))
            if all(both):
                found.setdefault(family, {})[model] = _crash(*both) or judge_(*both)
    return found


def sooner(rows: Sequence[Row]) -> dict[str, float]:
    """model -> how many times as soon the run with all fixes is at plain's final validation loss, in float32.

    0 where it never is; a model whose plain run did not finish has no entry.
    """
    cells = {(row["model"], row["cell"]): row for row in rows}
    found = {}
    for (model, name), plain in cells.items():
        fixed = cells.get((model, "all"))
        if name == "plain" and fixed and plain["to_plain_loss"]:
            found[model] = plain["to_plain_loss"] / fixed["to_plain_loss"] if fixed["to_plain_loss"] else 0.0
    return found


def _crash(plain: Row, fixed: Row) -> str | None:
    if plain["outcome"] == fixed["outcome"] == "finished":
        return None
    if fixed["outcome"] == "finished":
        return f"hit ({plain['outcome']}); cured"
    return f"not cured: {fixed['outcome']}"


def _shapes(plain: Row, fixed: Row) -> str:
    padding = f"padding {plain['padded_share']:.0%} -> {fixed['padded_share']:.0%}"
    if fixed["to_plain_loss"] is None:
        return f"{padding}; plain's loss is not reached"
    return f"{padding}; plain's loss {plain['to_plain_loss'] / fixed['to_plain_loss']:.2f} times as soon"


def _host(plain: Row, fixed: Row) -> str:
    key = plain["metric"]
    if plain[key] == fixed[key]:
        return "no difference"
    return f"{key.removeprefix('test_')} {plain[key]:.2%} -> {fixed[key]:.2%}"


def _fusion(plain: Row, fixed: Row) -> str:
    before, after = plain["drift"], fixed["drift"]
    if before is None or after is None:
        return "other batches than unfused: not comparable"
    told = f"losses off by {before:.0e} -> {after:.0e}"
    if before < _DRIFT:
        return f"not hit ({told})"
    return f"hit ({told}); {'cured' if after < _DRIFT else 'not cured'}"


def _amp(plain: Row, fixed: Row) -> str:
    key = plain["metric"]
    skipped = f"{fixed['overflowed']} steps skipped"
    return f"not hit ({key.removeprefix('test_')} {plain[key]:.2%} -> {fixed[key]:.2%}, {skipped})"


# --- table, page ---------------------------------------------------------------------------------

_COLUMNS = (
    ("model", "model", str),
    ("cell", "cell", str),
    ("outcome", "outcome", str),
    ("graphs", "graphs", str),
    ("s to plain's loss", "to_plain_loss", "{:.1f}".format),
    ("s in all", "wall_seconds", "{:.1f}".format),
    ("padded", "padded_share", "{:.0%}".format),
    ("overflowed", "overflowed", str),
    ("metric", None, "{:.2%}".format),
    ("peak GB", "peak_memory_gb", "{:.2f}".format),
)


def _table(rows: Iterable[Row]) -> list[list[str]]:
    lines = [[heading for heading, _, _ in _COLUMNS]]
    for row in rows:
        values = [(row.get(key or row.get("metric", "")), show) for _, key, show in _COLUMNS]
        lines.append(["-" if value is None else show(value) for value, show in values])
    return lines


def _matrix(rows: Sequence[Row]) -> list[list[str]]:
    found = verdicts(rows)
    models = list(dict.fromkeys(row["model"] for row in rows))
    return [["family", *models], *([family, *(of.get(model, "-") for model in models)] for family, of in found.items())]


def _sooner(rows: Sequence[Row]) -> str:
    """`sooner` in words; empty without runs to compare."""
    found = sooner(rows)
    if not found:
        return ""
    each = ", ".join(f"{model} {times:.2f}" if times else f"{model} not reached" for model, times in found.items())
    median = f"; median {statistics.median(found.values()):.2f}" if len(found) > 1 else ""
    return (
        f"With all fixes, float32, plain's final validation loss, to 1 %, comes so many times as soon: {each}{median}."
    )


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    head, *body = lines
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *body)) + "\n"


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines)


def _write(rows: Sequence[Row], options: argparse.Namespace) -> None:
    table, matrix = _table(rows), _matrix(rows)
    results = {"rows": comparison.finite(rows), "matrix": verdicts(rows), "sooner": sooner(rows)}
    for path in filter(None, (options.output / "results.json", options.json)):
        variants.write_json(path, results)
    text = f"{_markdown(table)}\nWhich defect hits which model:\n\n{_markdown(matrix)}\n{_sooner(rows)}\n"
    write_atomically(options.output / "table.md", lambda file: file.write(text.encode()))
    page = _page(rows, table, matrix)
    write_atomically(options.output / "index.html", lambda file: file.write(page.encode()))
    print(f"\n{_aligned(table)}\n\nWhich defect hits which model:\n{_aligned(matrix)}\n\n{_sooner(rows)}")
    print(f"page: {options.output}/index.html")


_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: 1rem 0; font-size: 14px } td, th { padding: .25rem .7rem; text-align: left }
tr { border-bottom: 1px solid #ddd } th { border-bottom: 2px solid #888 } svg { max-width: 100%; height: auto }
.scroll { overflow-x: auto }
"""


def _page(rows: Sequence[Row], table: Sequence[Sequence[str]], matrix: Sequence[Sequence[str]]) -> str:
    """One HTML file with tables and figures, which needs nothing else."""
    models = list(dict.fromkeys(row["model"] for row in rows))
    figures = "".join(f"<h2>{model}</h2>{_figure([r for r in rows if r['model'] == model])}" for model in models)
    summary = f"<h2>Which defect hits which model</h2>{_html(matrix)}<p>{_sooner(rows)}</p>"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>ascend_fixes: the comparison</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>'
        "<h1>Four models, plainly and with each family of fixes</h1>"
        f"{summary}{figures}<h2>All cells</h2>{_html(table)}</body></html>"
    )


def _html(lines: Sequence[Sequence[str]]) -> str:
    head, *body = ([html.escape(cell) for cell in line] for line in lines)
    rows = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in line)}</tr>" for line in body)
    return f'<div class="scroll"><table><tr>{"".join(f"<th>{cell}</th>" for cell in head)}</tr>{rows}</table></div>'


def _figure(rows: Sequence[Row]) -> str:
    """Training and validation loss over wall time, as SVG."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(11, 3.8), layout="constrained")
    training, validation = drawing.subplots(1, 2)
    for number, row in enumerate(row for row in rows if row.get("history")):
        seconds = [epoch["elapsed"] for epoch in row["history"]]
        for axes, key in ((training, "loss"), (validation, "validation_loss")):
            values = [math.nan if epoch[key] is None else epoch[key] for epoch in row["history"]]
            axes.plot(seconds, values, color=f"C{number}", marker="o", markersize=3, label=row["cell"])
    for axes, label in ((training, "training loss"), (validation, "validation loss")):
        axes.set(xlabel="wall time with compilation, s", ylabel=label, xlim=(0, None))
        axes.grid(alpha=0.3)
    if training.lines:
        training.legend(frameon=False, fontsize=8)
    file = io.StringIO()
    FigureCanvasSVG(drawing).print_svg(file, metadata={"Date": None})
    return file.getvalue()[file.getvalue().index("<svg") :]


if __name__ == "__main__":
    sys.exit(main())
