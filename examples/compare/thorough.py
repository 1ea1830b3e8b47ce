"""The thorough comparison: four models, plainly and with each family of cures; which defect hits which model.

A family is judged where its defect can show: **shapes** and **host** in float32, **fusion** with the graph kernel on,
**amp** in float16, each against the plain run of the same setting; then all of them together. Every cell runs in a
process of its own, on the same seeds; what a cure does not improve is shown as such.

Cells run side by side, one on each core and on that core alone, so that their times compare; with ``--jobs 1`` one after
the other, each on the whole machine.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass

from ascend_fixes.processes import Children
from examples.common import command_line, trainer
from examples.common.files import UsageError
from examples.compare import page
from examples.compare.cores import side_by_side
from examples.compare.judging import Row, judge, outcome

__all__ = ["CELLS", "MODELS", "Cell", "Length", "Model", "arguments", "cells", "run"]

_Work = tuple[str, command_line.Options, "Cell"]
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


def run(models: Sequence[str], options: argparse.Namespace) -> int:
    """Train every cell, print and write what came of it; 0 if every cell with cures finished, else 1.

    Raises:
        ExampleError: options or files that cannot be used, before the first training.
    """
    chosen = cells(options.families or "all", options.cells)
    ready = [_checked(name, options) for name in models]  # all, before the first is trained
    rows = _trained([(*model, cell) for model in ready for cell in chosen], options)
    judge(rows)
    page.write(rows, options)
    return 0 if all(row["status"] == "finished" for row in rows if row["fixes"]) else 1


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


def _checked(model: str, options: argparse.Namespace) -> tuple[str, command_line.Options]:
    """The model and its options, whose files have been read."""
    settled = command_line.settled(model, arguments(MODELS[model], options))
    trainer.load(model).check(settled)
    return model, settled


def _trained(work: Sequence[_Work], options: argparse.Namespace) -> list[Row]:
    """The row of every cell, in order; cells run one after the other, or side by side."""
    cores = sorted(os.sched_getaffinity(0))
    jobs = min(options.jobs or min(len(cores), MOST_JOBS), len(work))
    if jobs == 1:
        return [_run(each, options) for each in work]

    def told(count: int, each: _Work, row: Row) -> None:
        print(f"{count} of {len(work)}, {row['model']}: {row['cell']}: {outcome(row)}", flush=True)

    taken = [cores[number % len(cores)] for number in range(jobs)]
    return side_by_side(work, lambda each, children: _run(each, options, children), taken, told)


def _run(work: _Work, options: argparse.Namespace, children: Children | None = None) -> Row:
    """Train one model in one cell."""
    model, settled, cell = work
    output = options.output / model / cell.name.replace(", ", "-").replace(" ", "-")
    resume = str(options.output) if options.resume else None
    settled = {**settled, "fused": "on" if cell.fused else "off", "output": str(output), "resume": resume}
    if children is None:
        print(f"{model}: {cell.name}", flush=True)
    row = command_line.run_variant(model, settled, command_line.Variant(cell.fixes, cell.precision), children)
    return {**row, "model": model, "cell": cell.name, "against": cell.against}


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
