"""One run of a cell, fused or not, in a process of its own.

The process is forked, so it holds the very cell. A crash of the compiler, a hang
and an error are outcomes like any other.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mindspore
import numpy as np
from mindspore import nn

from ascend_fixes import _mindspore
from ascend_fixes.errors import first_line
from ascend_fixes.fusion._comparison import NEARBY, REPETITIONS, evaluate
from ascend_fixes.fusion._guarding import guard
from ascend_fixes.processes import Children, scratch

__all__ = ["Trial", "run"]

_KERNELS = "akg_kernel_meta"


@dataclass(frozen=True)
class Trial:
    """What one run gave.

    Attributes:
        failure: why it gave nothing: ``"hung for 120 s"``, ``"killed by signal 11"``, the error's first line; or "".
        arrays: every output, gradient and change of a parameter by name, once per repetition.
        kernels: of every fused kernel its name and the types of operators inside.
        scopes: (type of operator, path of its cell) for every operator of the graph.
        nearby: the same arrays with parameters and inputs moved up and down by about a rounding error, where
            that was asked for.
    """

    failure: str
    arrays: tuple[dict[str, np.ndarray], ...] = ()
    kernels: tuple[tuple[str, tuple[str, ...]], ...] = ()
    scopes: tuple[tuple[str, str], ...] = ()
    nearby: tuple[dict[str, np.ndarray], ...] = ()


def run(
    cell: nn.Cell,
    inputs: Sequence[Any],
    *,
    grad: bool,
    fused: bool,
    keep_out: Sequence[str] = (),
    nearby: bool = False,
    limit: float = 120.0,
) -> Trial:
    """Run the cell in a fork of this process.

    Args:
        cell: what to run; its state in this process stays as it is.
        inputs: its arguments.
        grad: also take the gradients by the inputs and the trainable parameters.
        fused: with graph-kernel fusion or without.
        keep_out: what to leave out of fusion, as `guard` takes it.
        nearby: also run it with parameters and inputs moved a little; costs no compilation.
        limit: seconds after which the process is killed.
    """
    with scratch("ascend_fixes-trial-") as folder, Children() as children:
        child = children.fork(lambda: _in_child(cell, inputs, grad, fused, keep_out, nearby, folder))
        status = child.wait(limit)
        children.end(child)  # and the compiler's processes, where they outlive it
        failure = _failure(status, limit, folder)
        return Trial(failure, *_collect(folder, failure))


def _in_child(
    cell: nn.Cell, inputs: Sequence[Any], grad: bool, fused: bool, keep_out: Sequence[str], nearby: bool, folder: Path
) -> None:
    try:
        _measure(cell, inputs, grad, fused, keep_out, nearby, folder)
    except BaseException as error:  # the parent must learn of it, whatever it is
        (folder / "error").write_text(first_line(error))
        raise


def _measure(
    cell: nn.Cell, inputs: Sequence[Any], grad: bool, fused: bool, keep_out: Sequence[str], nearby: bool, folder: Path
) -> None:
    with open(folder / "log", "wb") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    # MindSpore looks for kernels where it is, and the compile server writes them where it was started.
    running = _mindspore.fusion_compiler_folder()
    os.chdir(running or folder)
    if running is None:
        _mindspore.set_kernel_directory(str(folder))
    mindspore.set_context(mode=mindspore.GRAPH_MODE, enable_graph_kernel=fused)
    with guard(*keep_out) if fused else contextlib.nullcontext():
        subject, arrays = evaluate(cell, inputs, grad=grad, nearby=nearby)
    for name, values in arrays.items():
        np.savez(folder / f"{name}.npz", **values)
    (folder / "scopes.json").write_text(json.dumps(_mindspore.graph_scopes(subject)))


def _failure(status: int | None, limit: float, folder: Path) -> str:
    """Why a run with this exit status gave nothing; "" where it gave all."""
    if status is None:
        return f"hung for {limit:g} s"
    if status < 0:
        return f"killed by signal {-status}"
    error = folder / "error"
    return error.read_text() if error.exists() else ("" if status == 0 else f"ended with status {status}")


def _collect(folder: Path, failure: str) -> tuple[Any, ...]:
    """The arrays, kernels, scopes and nearby arrays that a run has left in its folder.

    Where this process has fused before, its compile server serves the run too and writes kernels into the working directory
    that it was started in; then all kernels there count, because those that it had before are not written again.
    """
    kernels = []
    where = folder if (folder / _KERNELS).is_dir() else _mindspore.fusion_compiler_folder() or Path.cwd()
    for path in sorted((where / _KERNELS).glob("*.info")):
        with contextlib.suppress(ValueError):  # the compiler was killed while writing
            kernels.append((path.stem, tuple(part["name"] for part in json.loads(path.read_text())["op_desc"])))
    if failure:
        return (), tuple(kernels), ()
    scopes = json.loads((folder / "scopes.json").read_text())
    arrays = tuple(_stored(folder / f"{name}.npz") for name in REPETITIONS)
    nearby = tuple(_stored(folder / f"{name}.npz") for name in NEARBY if (folder / f"{name}.npz").exists())
    return arrays, tuple(kernels), tuple((operator, scope) for operator, scope in scopes), nearby


def _stored(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}
