"""The experiments that show what goes wrong with a model. Each yields what it observed.

An `Observed` is a hazard: its kind, its cell and what was seen. A string that begins with ``!`` is a kind that was looked
for and is absent, another string a note.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import mindspore
import numpy as np

from benchmarks.auditing.models.built import Graph, Model, apart, first_line, gradients, losses, runs

_SAME = 5e-7  # relative, of one graph run twice: further apart than this is another loss
_CLOSE = {False: 2e-5, True: 2e-3}  # relative, of two graphs, without and with half precision in them
_FLOAT16 = 65504.0
_NUMBER = r"-?\d[\d.]*(?:e[+-]?\d+)?"  # as the compiler writes it into a graph
Observed = tuple[str, str, str]  # kind, cell, what was seen


def widths(model: Model) -> Iterator[Observed | str]:
    """Fewer positions, more positions, twice as many: a failure, or another loss where padding is not what changes it."""
    width = model.width
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


def padding(model: Model) -> Iterator[Observed | str]:
    """Other values beyond each row's end, and more zeros there: another loss, or the same with other gradients."""
    if not model.ragged:
        return
    whole = losses(model.cell(*model.inputs))
    base = model.own_parts(whole, model.width)
    if not _finite(base):
        yield "padding: the loss is no number as it is"
        return
    half = "Float16" in model.graph.text
    kind = "padding-leak-loss" if base[0].size == 1 else "padding-leak-output"
    ways = {"other values beyond each row's end": model.spoilt()} if _spoilable(model) else {}
    ways["4 more positions of padding"] = model.at(4)
    found = {}
    for way, inputs in ways.items():
        there = runs(model, inputs)
        if isinstance(there, BaseException):
            yield f"{way}: does not run"
            continue
        there = model.own_parts(there, model.width + (0 if way.startswith("other") else 4))
        if apart(base, there) > (_SAME if way.startswith("other") else _CLOSE[half]):
            yield kind, "", f"{way}: off by {apart(base, there):.2g} of the largest value"
            return
        else:
            found[way] = inputs
    if found:
        yield f"!{kind}"
    if found and len(base) == len(whole):  # else the padding has results of its own, and these gradients
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
    width = model.width
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
    """Nothing left to count: masks off, labels ignored, a row of length 0. A loss that is no number, in float32."""
    if not _finite(losses(model.cell(*model.inputs))):
        yield "not-an-overflow", "", "the loss is no number as it is"
        return
    found = False
    for told, number, array in _nothing_left(model):
        changed = list(model.inputs)
        changed[number] = mindspore.Tensor(array)
        there = runs(model, changed)
        if not isinstance(there, BaseException) and not _finite(there):
            found = True
            value = next(part for part in there if not np.isfinite(part).all())
            yield "not-an-overflow", "", f"argument {number} {told}: the loss is {value[~np.isfinite(value)][0]}"
            break
    if not found:
        yield "!not-an-overflow"


def _nothing_left(model: Model) -> Iterator[tuple[str, int, np.ndarray]]:
    """Arguments in which nothing counts: what was done to them, their number and value."""
    for number, value in enumerate(model.inputs):
        if not isinstance(value, mindspore.Tensor) or value.size < 2:
            continue
        array = value.asnumpy()
        if number in model.entry.get("lengths", []):
            emptied = array.copy()
            emptied[-1] = 0
            yield "0 in one row", number, emptied
        elif np.isin(array, (0, 1)).all() and array.any() and not _one_hot(array):
            yield "all 0", number, np.zeros_like(array)
        elif array.dtype.kind == "i" and number in model.entry.get("labels", []):
            ignored = model.entry.get("ignore", -100)
            yield f"all {ignored}", number, np.full_like(array, ignored)


def _one_hot(array: np.ndarray) -> bool:
    return bool(array.ndim > 1 and array.shape[-1] > 1 and (array.sum(-1) == 1).all())


def _finite(arrays: Sequence[np.ndarray]) -> bool:
    return all(np.isfinite(part).all() for part in arrays)


def larger(model: Model) -> Iterator[Observed | str]:
    """All weights larger, in float32: the loss is no number, by exponentials that are summed, or else by a logarithm."""
    kinds = {"exp-without-maximum": _summed_exponentials(model.graph.text)}
    kinds["not-an-overflow"] = len(re.findall(r"Prim\w*_Log\(", model.graph.text))
    yield from (f"!{kind}" for kind, count in kinds.items() if not count)
    if not any(kinds.values()) or "Float16" in model.graph.text:  # half precision overflows: it would be that
        return
    weights = model.cell.trainable_params()
    kept = [parameter.asnumpy().copy() for parameter in weights]
    seen = ""
    for scale in (8.0, 64.0, 512.0):
        for parameter, value in zip(weights, kept):
            parameter.set_data(mindspore.Tensor(value * np.asarray(scale, value.dtype)))
        there = runs(model, model.inputs)
        if not isinstance(there, BaseException) and not _finite(there):
            value = next(part for part in there if not np.isfinite(part).all())
            seen = f"{scale:g} times the weights: the loss is {value[~np.isfinite(value)][0]}"
            break
    for parameter, value in zip(weights, kept):
        parameter.set_data(mindspore.Tensor(value))
    if not seen:
        yield from (f"!{kind}" for kind, count in kinds.items() if count)
    elif kinds["exp-without-maximum"]:
        yield "exp-without-maximum", "", f"{seen}; exponentials are summed whose maximum was not taken off"
    else:
        yield "not-an-overflow", "", f"{seen}; a logarithm is in the graph, and no exponential that could overflow"


def _summed_exponentials(text: str) -> int:
    """How many exponentials of a graph go into a sum or a product of matrices, and had no maximum taken off before."""
    count = 0
    for block in text.split("\nsubgraph "):
        nodes = re.findall(r"(?m)^ *%(\d+)\([^)]*\) = Prim\w*_([A-Za-z]+)\((.*)$", block)
        given = {number: set(re.findall(r"%(\d+)", arguments)) for number, _, arguments in nodes}
        below: set[str] = set()  # a maximum, what is made of it, and what it was taken off
        exponentials: set[str] = set()
        for number, operator, _ in nodes:
            if (re.search("Max", operator) and operator != "Maximum") or (
                operator in ("Sub", "SubExt", "ExpandDims", "Reshape", "TupleGetItem", "Cast") and given[number] & below
            ):
                below.add(number)
            elif (operator == "Exp" and not given[number] & below) or (
                operator == "Mul" and given[number] & exponentials
            ):
                exponentials.add(number)
            elif operator in ("ReduceSum", "SumExt", "MatMul", "BatchMatMul", "ReduceMean"):
                count += bool(given[number] & exponentials)
    return count


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
        if not match or "-> (<Tensor[Float" not in node:
            continue
        for number in re.findall(rf"[FI]P?(?:32|64)\(({_NUMBER})\)|value=\s*({_NUMBER})", match.group(2) + node):
            value = float(next(filter(None, number)))
            if abs(value) > _FLOAT16 and np.isinf(np.float16(value)):
                found.add(value)
    if found:
        yield "constant-beyond-float16", "", f"{', '.join(f'{v:g}' for v in sorted(found))}: float16 makes it infinite"
    else:
        yield "!constant-beyond-float16"


def ranges(model: Model) -> Iterator[Observed | str]:
    """In float16 by MindSpore's own mixed precision: loss or gradients are no numbers where float32's are."""
    base, grads = losses(model.cell(*model.inputs)), gradients(model, model.inputs)
    if not _finite([*base, *grads]):
        yield "float16: in float32 it is not finite"
        return
    half = Model(model.entry)
    half.cell = mindspore.amp.auto_mixed_precision(half.cell, "auto")
    try:
        there, after = losses(half.cell(*half.inputs)), gradients(half, half.inputs)
    except Exception as failure:
        yield f"float16: {first_line(failure)}"
        return
    if not _finite(there):
        yield "overflow", "", f"in float16 the loss is {there[0].ravel()[0]}, in float32 {base[0].ravel()[0]:.6g}"
    elif not _finite(after):
        names = [parameter.name for parameter in half.cell.trainable_params()]
        first = next(name for name, grad in zip(names, after) if not np.isfinite(grad).all())
        yield "overflow", "", f"in float16 the gradient of {first} is not finite, in float32 all are"
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
    yield "!fusion-fails"
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
    "dead": dead,
    "constants": constants,
    "selection": selection,
    "ranges": ranges,
    "larger": larger,
    "extremes": extremes,  # last: a kernel that raises leaves the process unable to run on
    "fused": fused,
}
