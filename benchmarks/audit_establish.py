"""``python -m benchmarks.audit_establish``: what goes wrong with the public models, found by running them, without ``audit``.

Each model of ``audit_models/manifest.json`` is built from its checkout (``AUDIT_MODELS`` names the directory) in processes
of its own and put through the experiments below; what they show is written back into the manifest: ``hazards``, each with
the observation, and ``absent``, the kinds that were looked for in vain. Nothing here uses the code that is measured.

    python -m benchmarks.audit_establish                    # every model
    python -m benchmarks.audit_establish textcnn naml       # these
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import mindspore
import numpy as np
from mindspore import nn

MANIFEST = Path(__file__).with_name("audit_models") / "manifest.json"
_PATIENCE = 900  # seconds for one process
_SAME = 5e-7  # relative, of one graph run twice: further apart than this is another loss
_CLOSE = {False: 2e-5, True: 2e-3}  # relative, of two graphs, without and with half precision in them
_FLOAT16 = 65504.0
Observed = tuple[str, str, str]  # kind, cell, what was seen


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
        """The inputs with that many positions more, or less: zeros go on, only padding goes."""
        changed = list(self.inputs)
        for number, ragged in self.ragged.items():
            array = self.inputs[number].asnumpy()
            for axis in _axes(ragged):
                fill = np.zeros_like(array, shape=[*array.shape[:axis], max(wider, 0), *array.shape[axis + 1 :]])
                taken = np.take(array, range(array.shape[axis] + min(wider, 0)), axis)
                array = np.concatenate([taken, fill], axis)
            changed[number] = mindspore.Tensor(array)
        return tuple(changed)

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

    @property
    def slack(self) -> int:
        """Positions that every row of every ragged input can spare."""
        return min(
            (
                self.inputs[number].shape[_axes(ragged)[0]] - int(np.max(ragged["lengths"]))
                for number, ragged in self.ragged.items()
            ),
            default=0,
        )


def losses(out: Any) -> list[np.ndarray]:
    """What the model returns, as arrays; of a loss and what else goes with it the loss alone."""
    flat = [out] if not isinstance(out, (tuple, list)) else [part for each in out for part in _flat(each)]
    arrays = [part.asnumpy().astype(np.float64) for part in flat]
    return arrays[:1] if arrays[0].size == 1 else arrays


def _flat(value: Any) -> list[Any]:
    return [part for each in value for part in _flat(each)] if isinstance(value, (tuple, list)) else [value]


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


def widths(model: Model) -> Iterator[Observed | str]:
    """Fewer positions, more positions, twice as many: a failure, or another loss where padding is not what changes it."""
    width = max((model.inputs[n].shape[_axes(ragged)[0]] for n, ragged in model.ragged.items()), default=0)
    if not width:
        return
    base, clean = losses(model.cell(*model.inputs)), True
    for step in (-max(1, min(4, width // 4)), 4, width):
        there = runs(model, model.at(step))
        if isinstance(there, BaseException):
            clean = False
            yield "length-written-in", "", f"at width {width + step} instead of {width}: {first_line(there)}"
            break
        yield f"width {width + step}: {apart(base, there):.2e}"
    if clean:
        yield "!length-written-in"


def _axes(ragged: dict[str, Any]) -> list[int]:
    """Its axis, or the axes of a square."""
    return ragged["axis"] if isinstance(ragged["axis"], list) else [ragged["axis"]]


class Total(nn.Cell):
    """The sum of what a model returns: of a loss and what else goes with it the loss alone."""

    def __init__(self, network: nn.Cell, alone: bool) -> None:
        super().__init__(auto_prefix=False)
        self.network, self.alone = network, alone

    def construct(self, *inputs: Any) -> Any:
        out = self.network(*inputs)
        if self.alone:
            return out[0]
        total = 0.0
        for part in out:
            total = total + part.astype(mindspore.float32).sum()
        return total


def gradients(model: Model, inputs: Sequence[Any]) -> list[np.ndarray]:
    out = model.cell(*model.inputs)
    several = isinstance(out, tuple)
    subject = Total(model.cell, out[0].size == 1) if several else model.cell
    grads = mindspore.grad(subject, None, model.cell.trainable_params())(*inputs)
    return [grad.asnumpy().astype(np.float64) for grad in grads]


def padding(model: Model) -> Iterator[Observed | str]:
    """Other values beyond each row's end, and more zeros there: another loss, or the same with other gradients."""
    if not model.ragged:
        return
    base = losses(model.cell(*model.inputs))
    half = "Float16" in model.graph.text
    kind = "padding-leak-loss" if base[0].size == 1 else "padding-leak-output"
    ways = {"other values beyond each row's end": model.spoilt()} if _spoilable(model) else {}
    ways["4 more positions of padding"] = model.at(4)
    found = {}
    for way, inputs in ways.items():
        there = runs(model, inputs)
        if isinstance(there, BaseException):
            yield f"{way}: does not run"
        elif apart(base, there) > (_SAME if way.startswith("other") else _CLOSE[half]):
            yield kind, "", f"{way}: {base[0].ravel()[0]:.6g} becomes {there[0].ravel()[0]:.6g}"
            return
        else:
            found[way] = inputs
    if found:
        yield f"!{kind}"
        yield from _only_gradients(model, found, _CLOSE[half])


def _spoilable(model: Model) -> bool:
    return any("spoil" in ragged for ragged in model.ragged.values())


def _only_gradients(model: Model, ways: dict[str, tuple[Any, ...]], close: float) -> Iterator[Observed | str]:
    before = gradients(model, model.inputs)
    names = [parameter.name for parameter in model.cell.trainable_params()]
    for way, inputs in ways.items():
        after = gradients(model, inputs)
        scale = max(np.abs(grad).max() for grad in before)
        moved = [float(np.abs(b - a).max() / max(scale, 1e-9)) for b, a in zip(before, after)]
        if max(moved) > close:
            most = int(np.argmax(moved))
            yield (
                "padding-leak-gradient",
                "",
                f"{way}: the loss is the same, the gradient of {names[most]} is not ({moved[most]:.1e})",
            )
            return
    yield "!padding-leak-gradient"


def floats(model: Model) -> Iterator[Observed | str]:
    """The cells that ``to_float`` marked, outermost first."""
    marked = {"fp16": "float16", "fp32": "float32", "bf16": "bfloat16"}
    paths: list[str] = []
    for path, cell in model.cell.cells_and_names():
        chosen = [name for flag, name in marked.items() if cell.get_flags().get(flag)]
        if chosen and not any(path.startswith(f"{outer}.") or outer == "" for outer in paths):
            paths.append(path)
            yield "to-float", path, f"{type(cell).__name__} computes in {chosen[0]} whatever a policy says"
    if not paths:
        yield "!to-float"


def bprops(model: Model) -> Iterator[Observed | str]:
    own = [(path, type(cell).__name__) for path, cell in model.cell.cells_and_names() if hasattr(type(cell), "bprop")]
    yield from (("own-bprop", path, f"{name} has a bprop of its own") for path, name in own)
    if not own:
        yield "!own-bprop"


def state(model: Model) -> Iterator[Observed | str]:
    """Parameters before and after one pass in training mode, of a cell that was never called before."""
    fresh = Model(model.entry)
    fresh.cell.set_train(True)
    before = {name: value.asnumpy().copy() for name, value in fresh.cell.parameters_dict().items()}
    fresh.cell(*fresh.inputs)
    after = fresh.cell.parameters_dict()
    written = [name for name, value in before.items() if not np.array_equal(value, after[name].asnumpy())]
    if written:
        yield "forward-state", "", f"one forward pass changes {', '.join(written[:4])}"
    else:
        yield "!forward-state"


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
            if os.environ["AUDIT_MODELS"] in deepest and re.search(r"cast|astype|\.to\(|half\(", deepest):
                scope = re.search(r"scope: \((?:Default|Gradients\S*?)/(.*?)\)", node)
                place = re.search(r"In file (\S+?):(\d+)", deepest)
                assert place is not None
                yield _cell_path(scope.group(1) if scope else ""), f"{Path(place.group(1)).name}:{place.group(2)}"


def _cell_path(scope: str) -> str:
    """``_backbone-CTCModel/embedding-Dense/Cast-op0`` as ``_backbone.embedding``."""
    return ".".join(part.rsplit("-", 1)[0] for part in scope.split("/")[:-1])


def casts(model: Model) -> Iterator[Observed | str]:
    seen = sorted(set(model.graph.half_casts()))
    if seen:
        for path in dict.fromkeys(path for path, _ in seen):
            yield (
                "cast-in-construct",
                path,
                f"{', '.join(line for there, line in seen if there == path)} casts to half precision",
            )
    else:
        yield "!cast-in-construct"


def growth(model: Model) -> Iterator[Observed | str]:
    """The nodes of the graph at two lengths."""
    if not model.ragged:
        return
    width = max(model.inputs[n].shape[_axes(ragged)[0]] for n, ragged in model.ragged.items())
    options = {"width": width + 8} if "width" in inspect.signature(model.build).parameters else {}
    longer = Model(model.entry, **options)
    inputs = longer.inputs if options else model.at(8)
    try:
        short, long = model.graph, Graph(lambda: longer.cell(*inputs))
    except Exception as failure:
        yield f"growth: {first_line(failure)}"
        return
    if long.nodes > 1.1 * short.nodes + 8:
        yield "unrolled-recurrence", "", f"{short.nodes} nodes at width {width}, {long.nodes} at {width + 8}"
    else:
        yield "!unrolled-recurrence"


def scalars(model: Model) -> Iterator[Observed | str]:
    """Python numbers among the arguments: a graph for each value."""
    numbers = [n for n, value in enumerate(model.inputs) if isinstance(value, (int, float))]
    for number in numbers:
        graphs = []
        for value in (model.inputs[number], model.inputs[number] + 1):
            changed = [*model.inputs[:number], value, *model.inputs[number + 1 :]]
            graphs.append(Graph(lambda changed=changed: runs(model, changed)).nodes)
        if all(graphs):
            yield "recompile-scalar", "", f"argument {number}: another graph is compiled for {model.inputs[number] + 1}"
    containers = [n for n, value in enumerate(model.inputs) if isinstance(value, (tuple, list))]
    for number in containers:
        again = [
            type(v)(mindspore.Tensor(part.asnumpy()) for part in v) if n in containers else v
            for n, v in enumerate(model.inputs)
        ]
        model.cell(*model.inputs)
        if Graph(lambda again=again: model.cell(*again)).nodes:
            yield "recompile-container", "", f"argument {number}: other Tensors of the same shapes are compiled anew"
    if not numbers:
        yield "!recompile-scalar"
    if not containers:
        yield "!recompile-container"


def extremes(model: Model) -> Iterator[Observed | str]:
    """Masks and weights all 0, and parameters 100 times as large: a loss that is no number, in float32."""
    found = False
    for number in model.entry.get("weights", []):
        zero = list(model.inputs)
        zero[number] = mindspore.Tensor(np.zeros_like(model.inputs[number].asnumpy()))
        there = runs(model, zero)
        if not isinstance(there, BaseException) and not all(np.isfinite(part).all() for part in there):
            found = True
            yield "not-an-overflow", "", f"argument {number} all 0: the loss is {there[0].ravel()[0]}"
    for name in model.entry.get("scaled", []):
        parameter = next(p for p in model.cell.get_parameters() if p.name == name)
        kept = parameter.asnumpy().copy()
        parameter.set_data(
            mindspore.Tensor(kept * 1e3 + np.random.default_rng(0).normal(size=kept.shape).astype(kept.dtype) * 1e2)
        )
        there = runs(model, model.inputs)
        parameter.set_data(mindspore.Tensor(kept))
        if not isinstance(there, BaseException) and not all(np.isfinite(part).all() for part in there):
            found = True
            yield "not-an-overflow", "", f"{name} at large values, all finite: the loss is {there[0].ravel()[0]}"
    if not found:
        yield "!not-an-overflow"


def dead(model: Model) -> Iterator[Observed | str]:
    """Softmaxes over an axis of 1, and parameters (``alone`` in the manifest) that get no gradient for it."""
    graph, shapes = model.graph, []
    for node in re.findall(r"PrimFunc_(?:Log)?Softmax\(.*?\n.*", graph.text):
        axis = re.search(r"I64\((-?\d+)\)", node.splitlines()[0])
        shape = re.search(r"<Tensor\[\w+\], \(([\d, ]*)\)>", node.splitlines()[1])
        if axis and shape:
            sizes = [int(size) for size in shape.group(1).split(",") if size.strip()]
            if sizes[int(axis.group(1))] == 1:
                shapes.append(sizes)
    if not shapes:
        yield "!single-element-softmax"
        return
    names = model.entry.get("alone", [])
    grads = dict(zip((p.name for p in model.cell.trainable_params()), gradients(model, model.inputs)))
    zero = [name for name in names if not grads[name].any()]
    yield (
        "single-element-softmax",
        "",
        f"a softmax over one of {shapes[0]}; the gradient of {', '.join(zero) or 'none'} is 0",
    )


def constants(model: Model) -> Iterator[Observed | str]:
    """Numbers in the graph that float16 turns into infinity and that are added to or multiplied with float Tensors."""
    graph = model.graph
    found = set()
    for node in re.split(r"(?m)^ *(?=%\d+\()", graph.text):
        match = re.match(
            r"%\d+\([^)]*\) = Prim\w*_(Add|Sub|Mul|Maximum|Select|MaskedFill|Div|RealDiv)\w*\((.*?)\)", node
        )
        if not match:
            continue
        for number in re.findall(r"F(?:P)?(?:32|64)\((-?[\d.e+]+)\)|value=\s*(-?\d[\d.e+]*)", match.group(2) + node):
            value = float(next(filter(None, number)))
            if abs(value) > _FLOAT16 and np.isinf(np.float16(value)):
                found.add(value)
    if found:
        yield "constant-beyond-float16", "", f"{', '.join(f'{v:g}' for v in sorted(found))}: float16 makes it infinite"


def ranges(model: Model) -> Iterator[Observed | str]:
    """The whole model in float16 by ``to_float``: the loss is no number where float32's is one."""
    base = losses(model.cell(*model.inputs))
    half = Model(model.entry)
    half.cell.to_float(mindspore.float16)
    there = runs(half, half.inputs)
    if isinstance(there, BaseException):
        yield f"float16: {first_line(there)}"
    elif all(np.isfinite(part).all() for part in base) and not all(np.isfinite(part).all() for part in there):
        yield "overflow", "", f"in float16 the loss is {there[0].ravel()[0]}, in float32 {base[0].ravel()[0]:.6g}"
    else:
        yield "!overflow"


def selection(model: Model) -> Iterator[Observed | str]:
    """Operators whose result's shape depends on values, in the graph that runs."""
    names = ("MaskedSelect", "NonZero", "Unique", "UniqueConsecutive", "DynamicShape")
    graph = model.graph
    found = sorted({name for name in names if re.search(rf"Prim\w*_{name}\w*\(", graph.text)})
    if found:
        yield "value-dependent-shape", "", f"{', '.join(found)} runs: its result is as long as the values say"
    else:
        yield "!value-dependent-shape"


def fused(model: Model) -> Iterator[Observed | str]:
    """Loss and gradients with the graph kernel on, against those without, in this process's other half."""
    plain = losses(model.cell(*model.inputs)), gradients(model, model.inputs)
    mindspore.set_context(enable_graph_kernel=True)
    other = Model(model.entry)
    for there, here in zip(other.cell.get_parameters(), model.cell.get_parameters()):
        there.set_data(mindspore.Tensor(here.asnumpy()))
    try:
        fast = losses(other.cell(*model.inputs)), gradients(other, model.inputs)
    except Exception as failure:
        yield "fusion-fails", "", first_line(failure)
        return
    worst = max(apart(plain[0], fast[0]), _by_scale(plain[1], fast[1]))
    if worst > 1e-2:
        yield "fusion-inexact", "", f"loss or gradients are {worst:.1e} apart with the graph kernel on"
    else:
        yield "!fusion-inexact"
        yield f"fused: {worst:.1e}"


def _by_scale(one: Sequence[np.ndarray], other: Sequence[np.ndarray]) -> float:
    if any((np.isfinite(a) != np.isfinite(b)).any() for a, b in zip(one, other)):
        return float("inf")
    scale = max((np.abs(np.nan_to_num(a)).max() for a in one if a.size), default=1.0)
    return max(
        (float(np.abs(np.nan_to_num(a - b)).max() / max(scale, 1e-9)) for a, b in zip(one, other) if a.size),
        default=0.0,
    )


def kernels(model: Model) -> Iterator[Observed | str]:
    there = runs(model, model.inputs)
    if isinstance(there, BaseException):
        if re.search(r"[Uu]nsupported op|kernel.*(?:not|un)|not support", str(there)):
            yield "missing-kernel-cpu", "", first_line(there)
        else:
            yield f"does not run: {first_line(there)}"
    else:
        yield "!missing-kernel-cpu"


EXPERIMENTS: dict[str, Callable[[Model], Iterator[Observed | str]]] = {
    "kernels": kernels,
    "floats": floats,
    "bprops": bprops,
    "casts": casts,
    "widths": widths,
    "padding": padding,
    "state": state,
    "growth": growth,
    "scalars": scalars,
    "extremes": extremes,
    "dead": dead,
    "constants": constants,
    "selection": selection,
    "ranges": ranges,
    "fused": fused,
}


def _entry(manifest: dict[str, Any], name: str) -> dict[str, Any]:
    return next(entry for entry in manifest["models"] if entry["name"] == name)


def observe(name: str, only: Sequence[str]) -> None:
    """Runs the experiments on one model; prints one JSON line each."""
    mindspore.set_context(mode=mindspore.GRAPH_MODE)
    entry = _entry(json.loads(MANIFEST.read_text()), name)
    model = Model(entry)
    for experiment, run in EXPERIMENTS.items():
        if only and experiment not in only:
            continue
        try:
            seen = list(run(model))
        except Exception as failure:
            seen = [f"{experiment}: {first_line(failure)}"]
        print("\x1e" + json.dumps([experiment, seen]), flush=True)
        if experiment == "kernels" and any(not isinstance(one, str) or one.startswith("does not") for one in seen):
            only = ["floats", "bprops"]


def record(entry: dict[str, Any]) -> None:
    """Runs a model's experiments in processes of their own and puts what they show into its entry."""
    seen: list[Any] = []
    for part in ([name for name in EXPERIMENTS if name != "fused"], ["fused"]):
        command = [
            sys.executable,
            "-m",
            "benchmarks.audit_establish",
            "--observe",
            entry["name"],
            "--experiments",
            *part,
        ]
        settings = {**os.environ, "GLOG_v": "3", "PYTHONPATH": str(MANIFEST.parents[2])}
        with tempfile.TemporaryDirectory() as folder:  # a failed compilation leaves a file where it runs
            done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, env=settings, cwd=folder)
        lines = [json.loads(line[1:]) for line in done.stdout.split("\n") if line.startswith("\x1e")]
        seen += [one for _, found in lines for one in found]
        if done.returncode:
            seen.append(
                f"{part[0]}: the process ended with {done.returncode} after {lines[-1][0] if lines else 'nothing'}"
            )
    absent = sorted({one[1:] for one in seen if isinstance(one, str) and one.startswith("!")})
    hazards = [dict(zip(("kind", "cell", "shown_by"), one)) for one in seen if not isinstance(one, str)]
    kept = [hazard for hazard in entry.get("hazards", []) if hazard.get("by_hand")]
    entry["hazards"] = kept + hazards
    entry["absent"] = [kind for kind in absent if kind not in {hazard["kind"] for hazard in entry["hazards"]}]
    entry["notes"] = [one for one in seen if isinstance(one, str) and not one.startswith("!")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--observe", help=argparse.SUPPRESS)
    parser.add_argument("--experiments", nargs="*", default=[], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.observe:
        observe(options.observe, options.experiments)
        return
    for name in options.names or [entry["name"] for entry in json.loads(MANIFEST.read_text())["models"]]:
        entry = _entry(json.loads(MANIFEST.read_text()), name)
        record(entry)
        manifest = json.loads(MANIFEST.read_text())
        _entry(manifest, name).update(entry)
        MANIFEST.write_text(json.dumps(manifest, indent=1) + "\n")
        print(
            name,
            *(f"\n    {hazard['kind']} {hazard['cell']}: {hazard['shown_by']}" for hazard in entry["hazards"]),
            "\n   ",
            *entry["notes"],
            flush=True,
        )


if __name__ == "__main__":
    main()
