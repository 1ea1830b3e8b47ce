"""Running the subject operation by operation, and what an error says about its place. Everything here is for a fork."""

from __future__ import annotations

import os
import re
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mindspore
import numpy as np
from mindspore import nn

from ascend_fixes import _mindspore
from ascend_fixes.auditing._recording import record
from ascend_fixes.auditing._subject import COMPILED_ONLY, Subject
from ascend_fixes.errors import first_line
from ascend_fixes.tensors import array_of, tensors_in

__all__ = [
    "Failure",
    "Ran",
    "attempt",
    "differs_by",
    "line_of",
    "operator_in",
    "ready",
    "reseeded",
    "settled",
    "source_of",
]

_OURS = str(Path(__file__).parents[1]) + os.sep
_THEIRS = str(Path(nn.__file__).parents[1]) + os.sep


@dataclass(frozen=True)
class Failure:
    """Why a run ended: the error's first line, the path of the cell it was in, its class, and the line of the user's code."""

    error: str
    cell: str
    layer: str
    source: str
    line: str
    text: str


@dataclass(frozen=True)
class Ran:
    """What a run gave: its arrays in order, or its failure."""

    outputs: tuple[np.ndarray, ...] = ()
    failure: Failure | None = None


def ready(subject: Subject, training: bool = True) -> None:
    """The mode in which it runs; training mode without dropout, or evaluation. For good: the process is a fork."""
    compiled = subject.runs == COMPILED_ONLY
    mindspore.set_context(mode=mindspore.GRAPH_MODE if compiled else mindspore.PYNATIVE_MODE)
    for parameter in subject.cell.get_parameters():
        if parameter.has_init:
            parameter.init_data()
    for _, inner in subject.cell.cells_and_names():
        inner.add_flags(training=training and "dropout" not in type(inner).__name__.lower())


def attempt(cell: nn.Cell, inputs: Sequence[Any]) -> Ran:
    """Call the cell; an error comes as a `Failure`."""
    try:
        with _mindspore.synchronous():
            return Ran(tuple(array_of(value) for value in tensors_in(cell(*inputs))))
    except Exception as error:
        return Ran(failure=_located(cell, inputs, error))


def _located(cell: nn.Cell, inputs: Sequence[Any], error: Exception) -> Failure:
    """Where an error came from: the call once more, operation by operation, because errors come late otherwise."""
    if _mindspore.in_graph_mode():
        return Failure(first_line(error), "", operator_in(str(error)), *_source_in(str(error)), text=str(error))
    recording = record(cell, inputs)
    failed, again = recording.failed, recording.error or error
    if failed is None:  # between two operations: an index, an assignment
        path, layer = _cell_of(cell, again)
        return Failure(first_line(again), path, layer, *source_of(again), text=str(again))
    return Failure(first_line(again), failed.cell, failed.operator, failed.source, failed.text, str(again))


def _cell_of(cell: nn.Cell, error: BaseException) -> tuple[str, str]:
    """The path and the class of the innermost cell whose method an error passed through."""
    paths = {id(inner): path for path, inner in cell.cells_and_names()}
    for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
        inner = frame.f_locals.get("self")
        if id(inner) in paths and isinstance(inner, nn.Cell):
            return paths[id(inner)], type(inner).__name__
    return "", type(cell).__name__


def settled(subject: Subject) -> str:
    """Put the cell into a mode in which two runs agree: "training", else "evaluation"; "" where none is found."""
    for name, training in (("training", True), ("evaluation", False)):
        ready(subject, training)
        first, second = attempt(subject.cell, subject.inputs), attempt(subject.cell, subject.inputs)
        if first.failure is not None:
            return name
        if differs_by(first.outputs, second.outputs) <= 1e-5:
            return name
    return ""


def differs_by(one: Sequence[np.ndarray], other: Sequence[np.ndarray]) -> float:
    """The largest difference of two runs' outputs, relative to the largest value; infinite for other shapes or NaN."""
    if [a.shape for a in one] != [b.shape for b in other]:
        return float("inf")
    worst = 0.0
    for a, b in zip(one, other):
        a, b = a.astype(np.float64), b.astype(np.float64)
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        if not same.all():
            with np.errstate(invalid="ignore"):
                error = np.where(same, 0.0, np.abs(a - b)).max()
            scale = np.abs(a[np.isfinite(a)]).max(initial=0.0) or 1.0
            worst = max(worst, float(error / scale) if np.isfinite(error) else float("inf"))
    return worst


def source_of(error: BaseException) -> tuple[str, str]:
    """The innermost place of the user's code in an error's traceback, ``("model.py:31", its text)``."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not frame.filename.startswith((_OURS, _THEIRS, "<")) and os.sep + "mindspore" + os.sep not in frame.filename:
            return f"{os.path.basename(frame.filename)}:{frame.lineno}", (frame.line or "").strip()
    return "", ""


def _source_in(text: str) -> tuple[str, str]:
    """The same place as the graph compiler tells it, ``# 3 In file /home/me/model.py:31, 8~40`` with the line below."""
    for file, number, line in reversed(re.findall(r"(?m)^# \d+ In file (\S+?):(\d+)\S*,.*\n(.*)$", text)):
        if not file.startswith((_OURS, _THEIRS)):
            return f"{os.path.basename(file)}:{number}", line.strip()
    return "", ""


def line_of(source: str, text: str) -> str:
    """``model.py:31: x.reshape(8, 4)``."""
    return f"{source}: {text}" if source else text


def reseeded(shape: Sequence[int], like: np.ndarray, seed: int) -> np.ndarray:
    """Random values of an array's kind and range."""
    random = np.random.default_rng(seed)
    if like.dtype.kind in "iu":
        low, high = int(like.min(initial=0)), int(like.max(initial=0))
        return random.integers(max(0, low), max(0, high), shape, like.dtype, endpoint=True)
    if like.dtype.kind == "b":
        return np.ones(shape, np.bool_)
    if like.size and np.isin(like, (0, 1)).all():
        return np.ones(shape, like.dtype)
    scale = float(np.abs(like).max(initial=0.0)) or 1.0
    return (random.standard_normal(shape) * scale).astype(like.dtype)


def operator_in(text: str) -> str:
    """The operator that an error of MindSpore's names: ``For 'Reshape', ...``; "" where it names none."""
    found = re.search(r"For (?:primitive)?\[?'?(\w+)", text) or re.search(r"op(?:erator)? \[(\w+)\]", text)
    return found.group(1) if found else ""
