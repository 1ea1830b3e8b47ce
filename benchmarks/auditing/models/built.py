"""A public model built from its entry in the manifest, its inputs at other widths, its gradients and its graph."""

from __future__ import annotations

import importlib
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import mindspore
import numpy as np
from mindspore import nn


class Model:
    """One entry of the manifest, built."""

    def __init__(self, entry: dict[str, Any], **options: Any) -> None:
        module, factory = entry["factory"].split(":")
        self.entry, self.build = entry, getattr(importlib.import_module(module), factory)
        self.cell, self.inputs = self.build(**options)

    @cached_property
    def graph(self) -> Graph:
        """The graph of a cell that was never called before."""
        return Graph(lambda: Model(self.entry).cell(*self.inputs))

    @property
    def ragged(self) -> dict[int, dict[str, Any]]:
        return {int(number): axis for number, axis in self.entry.get("ragged", {}).items()}

    def at(self, wider: int) -> tuple[Any, ...]:
        """The inputs with that many positions more, or less: zeros go on, or what is ``fill``; no length says more than there is."""
        changed = list(self.inputs)
        for number in self.entry.get("lengths", []):
            array = self.inputs[number].asnumpy()
            changed[number] = mindspore.Tensor(np.minimum(array, self.width + wider).astype(array.dtype))
        for number, ragged in self.ragged.items():
            array, more = self.inputs[number].asnumpy(), int(wider / ragged.get("every", 1))
            for axis in axes_of(ragged):
                shape = [*array.shape[:axis], max(more, 0), *array.shape[axis + 1 :]]
                fill = np.full_like(array, ragged.get("fill", 0), shape=shape)
                taken = np.take(array, range(array.shape[axis] + min(more, 0)), axis)
                array = np.concatenate([taken, fill], axis)
            changed[number] = mindspore.Tensor(array)
        return tuple(changed)

    @property
    def width(self) -> int:
        """The longest ragged axis; 0 where there is none."""
        return max((self.inputs[number].shape[axes_of(one)[0]] for number, one in self.ragged.items()), default=0)

    def spoilt(self, seed: int = 7) -> tuple[Any, ...]:
        """The inputs with other values beyond each row's end; masks, lengths and what stands for them stay."""
        random, changed = np.random.default_rng(seed), list(self.inputs)
        for number, ragged in self.ragged.items():
            if "spoil" not in ragged:
                continue
            array, axis, lengths = self.inputs[number].asnumpy(), ragged["axis"], np.asarray(ragged["lengths"])
            own = np.arange(array.shape[axis]) < lengths[..., None]
            own = own.reshape(*lengths.shape, *[1] * (axis - lengths.ndim), -1, *[1] * (array.ndim - axis - 1))
            other = random.uniform(*ragged["spoil"], array.shape).astype(array.dtype)
            changed[number] = mindspore.Tensor(np.where(own, array, other))
        return tuple(changed)

    def own_parts(self, arrays: Sequence[np.ndarray], width: int) -> list[np.ndarray]:
        """Of results that are as long as the inputs, each row up to its end; other results as they are."""
        lengths = next((one["lengths"] for one in self.ragged.values() if np.ndim(one["lengths"]) == 1), [])
        parts: list[np.ndarray] = []
        for array in arrays:
            axes = [axis for axis in range(1, array.ndim) if array.shape[axis] == width]
            if axes and array.shape[0] == len(lengths):
                parts += [np.take(row, range(end), axes[0] - 1) for row, end in zip(array, lengths)]
            else:
                parts.append(array)
        return parts


def losses(out: Any) -> list[np.ndarray]:
    """What the model returns, as arrays; of a loss and what else goes with it the loss alone."""
    arrays = [part.asnumpy().astype(np.float64) for part in flat(out)]
    return arrays[:1] if arrays[0].size == 1 else arrays


def flat(value: Any) -> list[Any]:
    """The Tensors in nested tuples and lists, in order."""
    return [part for each in value for part in flat(each)] if isinstance(value, (tuple, list)) else [value]


def apart(one: Sequence[np.ndarray], other: Sequence[np.ndarray]) -> float:
    """The largest difference, relative to the largest value; infinite where shapes or NaN differ."""
    worst = 0.0
    for a, b in zip(one, other):
        if a.shape != b.shape or (np.isfinite(a) != np.isfinite(b)).any():
            return float("inf")
        a, b = np.nan_to_num(a), np.nan_to_num(b)
        if a.size:
            worst = max(worst, float(np.abs(a - b).max() / max(np.abs(a).max(), 1e-6)))
    return worst


def first_line(failure: BaseException) -> str:
    """Of a failure its first line, and the last line of the model's source that its traceback names."""
    text = str(failure)
    places = re.findall(r"In file (\S+?):(\d+)", text)
    own = [f"{Path(path).name}:{line}" for path, line in places if os.environ["AUDIT_MODELS"] in path]
    head = next(
        (line for line in text.splitlines() if line.strip() and not line.startswith("-")), type(failure).__name__
    )
    return f"{type(failure).__name__}: {head[:160]}{f' ({own[-1]})' if own else ''}"


def runs(model: Model, inputs: Sequence[Any]) -> list[np.ndarray] | BaseException:
    try:
        return losses(model.cell(*inputs))
    except Exception as failure:  # whatever it raises is the observation
        return failure


def axes_of(ragged: dict[str, Any]) -> list[int]:
    """Its axis, or the axes of a square."""
    return ragged["axis"] if isinstance(ragged["axis"], list) else [ragged["axis"]]


class Total(nn.Cell):
    """One number of what a model returns: the sum of squares, as probabilities add up to 1; of a loss and more the loss alone."""

    def __init__(self, network: nn.Cell, alone: bool) -> None:
        super().__init__(auto_prefix=False)
        self.network, self.alone = network, alone

    def construct(self, *inputs: Any) -> Any:
        out = self.network(*inputs)
        if self.alone:
            return out[0]
        total = 0.0
        for part in out if isinstance(out, tuple) else (out,):
            total = total + part.astype(mindspore.float32).square().sum()
        return total


def gradients(model: Model, inputs: Sequence[Any]) -> list[np.ndarray]:
    out = model.cell(*model.inputs)
    several = isinstance(out, tuple)
    scalar = (out[0] if several else out).size == 1
    subject = Total(model.cell, scalar) if several or not scalar else model.cell
    grads = mindspore.grad(subject, None, model.cell.trainable_params())(*inputs)
    return [grad.asnumpy().astype(np.float64) for grad in grads]


class Graph:
    """The front end's graph of a call, as the compiler writes it: how many nodes, and the casts."""

    def __init__(self, call: Callable[[], Any]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            mindspore.set_context(save_graphs=1, save_graphs_path=folder)
            try:
                call()
            finally:
                mindspore.set_context(save_graphs=0)
            texts = [path.read_text() for path in sorted(Path(folder).rglob("*_validate_*.ir"))]
        self.text = texts[-1] if texts else ""

    @property
    def nodes(self) -> int:
        return len(re.findall(r"^ *%\d+\(", self.text, re.M))

    def half_casts(self) -> Iterator[tuple[str, str]]:
        """Casts to half precision that a line of the model's source writes: cell path, and the line."""
        for node in re.split(r"(?m)^ *(?=%\d+\()", self.text):
            if not re.match(r"%\d+\([^)]*\) = PrimFunc_Cast\(", node):
                continue
            signature = node.splitlines()[1]
            if not re.search(r"-> \(<Tensor\[(Float16|BFloat16)", signature):
                continue
            lines = [line for line in node.splitlines() if "# In file" in line]
            deepest = lines[-1].split("<~~")[0] if lines else ""
            if os.environ["AUDIT_MODELS"] in deepest and re.search(r"[cC]ast|astype|\.to\(|half\(", deepest):
                scope = re.search(r"scope: \((?:Default|Gradients\S*?)/(.*?)\)", node)
                place = re.search(r"In file (\S+?):(\d+)", deepest)
                assert place is not None
                yield _cell_path(scope.group(1) if scope else ""), f"{Path(place.group(1)).name}:{place.group(2)}"


def _cell_path(scope: str) -> str:
    """``_backbone-CTCModel/embedding-Dense/Cast-op0`` as ``_backbone.embedding``."""
    return ".".join(part.rsplit("-", 1)[0] for part in scope.split("/")[:-1])
