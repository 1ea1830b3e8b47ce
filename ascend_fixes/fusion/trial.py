"""One run of a cell, fused or not, in a process of its own.

The process is forked, so it holds the very cell. A crash of the compiler, a hang
and an error are outcomes like any other.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mindspore
import numpy as np
from mindspore import Tensor, nn, ops

from ascend_fixes import _mindspore
from ascend_fixes.fusion.guarding import guard

__all__ = ["Trial", "run"]

_KERNELS = "akg_kernel_meta"
_REPETITIONS = 2  # wrong values that change from run to run are wrong in at least one of them
# How far parameters and inputs are moved, up and down, to see which results rounding decides: some 100 units in the last
# place of float32, one of float16.
_NUDGES = {np.dtype(np.float16): 1e-3, np.dtype(np.float32): 1e-5, np.dtype(np.float64): 1e-5}


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


class _Mixed(nn.Cell):
    """A scalar that depends on every element of every float output, each with a weight of its own."""

    def __init__(self, net: nn.Cell) -> None:
        super().__init__()
        self.net = net

    def construct(self, *inputs: Tensor) -> Tensor:
        outputs = self.net(*inputs)
        if isinstance(outputs, Tensor):
            outputs = (outputs,)
        total = Tensor(0.0, mindspore.float32)
        for output in outputs:
            if output.dtype in (mindspore.float16, mindspore.float32, mindspore.bfloat16):
                total = total + (output.astype(mindspore.float32) * _weights(output.shape)).sum()
        return total


@ops.constexpr
def _weights(shape: tuple[int, ...]) -> Tensor:
    return Tensor(np.cos(np.arange(np.prod(shape, dtype=int)) * 1.7).reshape(shape).astype(np.float32))


class _Differentiated(nn.Cell):
    """Outputs and gradients by inputs and parameters, in one graph."""

    def __init__(self, net: nn.Cell) -> None:
        super().__init__()
        self.net, self.mixed = net, _Mixed(net)
        self.weights = mindspore.ParameterTuple(net.trainable_params())
        self.by_inputs = ops.GradOperation(get_all=True)
        self.by_both = ops.GradOperation(get_all=True, get_by_list=True)

    def construct(self, *inputs: Tensor) -> Any:
        if len(self.weights) == 0:
            return self.net(*inputs), (self.by_inputs(self.mixed)(*inputs), ())
        return self.net(*inputs), self.by_both(self.mixed, self.weights)(*inputs)


def run(
    cell: nn.Cell, inputs: Sequence[Any], *, grad: bool, fused: bool, keep_out: Sequence[str] = (),
    nearby: bool = False, limit: float = 120.0,
) -> Trial:  # fmt: skip
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
    with tempfile.TemporaryDirectory(prefix="ascend_fixes-trial-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        sys.stdout.flush()
        sys.stderr.flush()
        child = _mindspore.fork()
        if child == 0:
            code = 1
            try:
                _in_child(cell, inputs, grad, fused, keep_out, nearby, folder)
                code = 0
            except BaseException as error:  # the parent must learn of it, whatever it is
                lines = str(error).strip().splitlines()
                (folder / "error").write_text(f"{type(error).__name__}: {lines[0] if lines else ''}"[:300])
            finally:
                os._exit(code)
        failure = _wait(child, limit, folder)
        return Trial(failure, *_collect(folder, failure))


def _in_child(
    cell: nn.Cell, inputs: Sequence[Any], grad: bool, fused: bool, keep_out: Sequence[str], nearby: bool, folder: Path
) -> None:
    os.setsid()  # so that the compiler's own processes can be killed with this one
    with open(folder / "log", "wb") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    if not _mindspore.fusion_compiler_runs():
        os.chdir(folder)
        _mindspore.set_kernel_directory(str(folder))
    mindspore.set_context(mode=mindspore.GRAPH_MODE, enable_graph_kernel=fused)
    trained = [parameter.name for parameter in cell.trainable_params()]  # the wrapper below adds to the names
    parameters = dict(cell.parameters_dict())
    values = {name: value.asnumpy().copy() for name, value in parameters.items()}
    subject = _Differentiated(cell) if grad else cell
    with guard(*keep_out) if fused else contextlib.nullcontext():
        for name, direction in {**dict.fromkeys(_repetitions(), 0), **(_NEARBY if nearby else {})}.items():
            before = {key: _nudged(value, direction) for key, value in values.items()}
            for key, parameter in parameters.items():
                parameter.set_data(Tensor(before[key]))
            moved = [_nudged_input(value, direction) for value in inputs]
            outputs, gradients = subject(*moved) if grad else (subject(*moved), ((), ()))
            arrays = _named(outputs, gradients, trained)
            changes = {} if grad else _changes(parameters, before)
            np.savez(folder / f"{name}.npz", **arrays, **changes)
    (folder / "scopes.json").write_text(json.dumps(_mindspore.graph_scopes(subject)))


_NEARBY = {"up": 1, "down": -1}


def _repetitions() -> list[str]:
    return [str(number) for number in range(_REPETITIONS)]


def _nudged(value: np.ndarray, direction: int) -> np.ndarray:
    """Every float moved by a rounding error, half of them up and half down; the other way with the other direction."""
    if direction == 0 or value.dtype not in _NUDGES:
        return value
    signs = np.where(np.cos(np.arange(value.size) * 2.3) > 0, 1.0, -1.0).reshape(value.shape)
    return (value * (1.0 + direction * _NUDGES[value.dtype] * signs)).astype(value.dtype)


def _nudged_input(value: Any, direction: int) -> Any:
    kept = direction == 0 or not isinstance(value, Tensor) or value.dtype == mindspore.bfloat16
    return value if kept else Tensor(_nudged(value.asnumpy(), direction))


def _named(outputs: Any, gradients: Any, trained: Sequence[str]) -> dict[str, np.ndarray]:
    outputs = outputs if isinstance(outputs, (tuple, list)) else (outputs,)
    by_inputs, by_weights = gradients
    arrays = {f"output {index}": _array(value) for index, value in enumerate(outputs)}
    arrays.update({f"gradient of input {index}": _array(value) for index, value in enumerate(by_inputs)})
    arrays.update({f"gradient of {name}": _array(value) for name, value in zip(trained, by_weights)})
    return arrays


def _changes(parameters: dict[str, mindspore.Parameter], before: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    moved = {name: value.asnumpy().astype(np.float64) - before[name] for name, value in parameters.items()}
    return {f"change of {name}": change for name, change in moved.items() if change.any()}


def _array(value: Any) -> np.ndarray:
    if isinstance(value, Tensor):
        value = value.float() if value.dtype == mindspore.bfloat16 else value
        return value.asnumpy()
    return np.asarray(value)


def _wait(child: int, limit: float, folder: Path) -> str:
    """Wait for the child and its group to end; "" or why it failed."""
    end = time.monotonic() + limit
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        if time.monotonic() > end:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return f"hung for {limit:g} s"
        time.sleep(0.02)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # the compiler's processes, where they outlive it
    if os.WIFSIGNALED(status):
        return f"killed by signal {os.WTERMSIG(status)}"
    error = folder / "error"
    return error.read_text() if error.exists() else ("" if status == 0 else f"ended with status {status}")


def _collect(folder: Path, failure: str) -> tuple[Any, ...]:
    """The arrays, kernels, scopes and nearby arrays that a run has left in its folder.

    Where this process has fused before, its compile server serves the run too and writes kernels into this process's
    working directory; then all kernels there count, because those that it had before are not written again.
    """
    kernels = []
    where = folder if (folder / _KERNELS).is_dir() else Path.cwd()
    for path in sorted((where / _KERNELS).glob("*.info")):
        with contextlib.suppress(ValueError):  # the compiler was killed while writing
            kernels.append((path.stem, tuple(part["name"] for part in json.loads(path.read_text())["op_desc"])))
    if failure:
        return (), tuple(kernels), ()
    scopes = json.loads((folder / "scopes.json").read_text())
    arrays = tuple(_stored(folder / f"{name}.npz") for name in _repetitions())
    nearby = tuple(_stored(folder / f"{name}.npz") for name in _NEARBY if (folder / f"{name}.npz").exists())
    return arrays, tuple(kernels), tuple((operator, scope) for operator, scope in scopes), nearby


def _stored(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}
