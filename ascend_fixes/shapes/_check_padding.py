"""Does padding leak into what a cell computes?

The cell is run on a batch as it is, and again with its ragged axes padded to wider
sizes and the padding filled with garbage. Whatever belongs to the batch itself (its
part of every output, the loss, the gradients of the parameters) must not change. If it
does, the sub-cells' outputs tell where the change begins.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from ascend_fixes import _mindspore
from ascend_fixes.errors import AscendFixesError
from ascend_fixes.shapes._buckets import Buckets
from ascend_fixes.shapes._padding import pad_array
from ascend_fixes.shapes._ragged import RaggedInputs
from ascend_fixes.shapes._reasons import argument_names
from ascend_fixes.shapes._valid import Lengths, difference, leaves, valid, valid_tensor

__all__ = [
    "TOLERANCES",
    "Leak",
    "PaddingCheckError",
    "PaddingReport",
    "check_padding",
    "checking",
    "numpy_of",
    "watched",
]

# Padding changes the order of float32 sums by a few units in the last place; a leak changes the leading digits.
TOLERANCES = {"Float64": 1e-9, "Float32": 1e-5, "Float16": 1e-2, "BFloat16": 5e-2}


class PaddingCheckError(AscendFixesError, ValueError):
    """A cell or inputs that cannot be checked."""


@dataclass(frozen=True)
class Leak:
    """Something of the batch's own that changed with the padding.

    Attributes:
        what: "output", "output[1]", "output['states']", "loss" or "gradient of head.weight".
        width: the padded sizes, by name of the length.
        error: the largest change, relative to the largest value.
    """

    what: str
    width: tuple[tuple[str, int], ...]
    error: float


@dataclass(frozen=True)
class PaddingReport:
    """What `check_padding` found.

    Attributes:
        leaks: everything that changed; empty if padding does not leak.
        cell: the name of the first sub-cell whose valid outputs change, "" if it is the cell's own construct.
        kind: that sub-cell's class.
        cause: the usual cause of a leak of this kind.
        tolerance: relative; for the lowest precision that took part.
        notes: what could not be checked, and why.
    """

    leaks: tuple[Leak, ...]
    cell: str
    kind: str
    cause: str
    tolerance: float
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether padding leaks nowhere."""
        return not self.leaks

    def __str__(self) -> str:
        notes = "".join(f"\nnote: {note}" for note in self.notes)
        if self.ok:
            return f"padding does not leak (tolerance {self.tolerance:g}){notes}"
        where = f"sub-cell {self.cell!r} ({self.kind})" if self.cell else f"construct of {self.kind} itself"
        lines = [f"padding leaks; it begins in {where}: {self.cause}"]
        for leak in self.leaks:
            width = ", ".join(f"{name} {size}" for name, size in leak.width)
            lines.append(f"  {leak.what} changes by {leak.error:.2g} of its largest value when padded to {width}")
        return "\n".join(lines) + notes


def check_padding(
    cell: nn.Cell,
    inputs: Mapping[str, Any] | Sequence[Any],
    axes: Mapping[str, Any],
    widths: Sequence[int | Mapping[str, int]],
    pad: Mapping[str, Any] | None = None,
    gradients: bool = True,
    tolerance: float | None = None,
    seed: int = 0,
) -> PaddingReport:
    """Pad a batch with garbage and see what of the batch's own results changes.

    The cell runs in PyNative mode, with dropout off and everything else in training mode, so that statistics over the
    batch are seen. Its parameters, its mode and the process's mode are restored.

    Args:
        cell: a network, or a network with its loss; not one that trains.
        inputs: a batch, by construct's argument names or in their order.
        axes: the ragged axes, as in `bucketed`.
        widths: the sizes to pad to: numbers for every length, or a number for each by name; none under the batch's own.
        pad: the inputs that are padded with a value and not with garbage: ``{"labels": -100}``. Masks are padded with 0
            unless this says otherwise: booleans, and inputs of zeros and ones with "mask" in their name.
        gradients: also compare the gradients of all trainable parameters.
        tolerance: relative; by default 1e-5 for float32, 1e-2 for float16, by the lowest precision met.
        seed: of the garbage.

    Raises:
        PaddingCheckError: for a cell with an optimizer, for widths under the batch's own, or a cell that computes
            something else at every call.
    """
    if any(isinstance(inner, nn.Optimizer) for _, inner in cell.cells_and_names()):
        raise PaddingCheckError(f"{type(cell).__name__} holds an optimizer; check the network or its loss cell")
    names = argument_names(cell)
    ragged = RaggedInputs.make(names, axes, Buckets([1]))
    args = list(_positional(cell, names[0], inputs))
    own = ragged.lengths(args)
    pad = {**dict.fromkeys(_masks(ragged, args), 0), **(pad or {})}
    with checking(cell) as notes:
        base = _Run.of(cell, _tensors(args), own, own, gradients)
        bound = tolerance if tolerance is not None else TOLERANCES[base.precision]
        _must_repeat(cell, _tensors(args), own, base, bound)
        leaks, first = [], None
        for width in widths:
            sizes = _sizes(width, own)
            padded = _Run.of(cell, _garbage(ragged, args, sizes, pad, seed), own, sizes, gradients, base)
            leaks += [Leak(what, tuple(sizes.items()), error) for what, error in base.changes(padded, bound)]
            first = first or base.first_change(padded, bound)
    where, inner, reduces = first or ("", cell, base.reduces)
    cause = _cause(inner, reduces) if leaks else ""
    return PaddingReport(
        tuple(leaks), where if leaks else "", type(inner).__name__ if leaks else "", cause, bound, tuple(notes)
    )


@dataclass
class _Run:
    """One run of the cell: the batch's own part of everything it computed."""

    outputs: dict[str, np.ndarray]
    gradients: dict[str, np.ndarray]
    steps: list[tuple[str, nn.Cell, dict[str, np.ndarray]]]
    own: Lengths
    sizes: Lengths
    precision: str

    @classmethod
    def of(
        cls, cell: nn.Cell, args: list[Any], own: Lengths, sizes: Lengths, gradients: bool, base: _Run | None = None
    ) -> _Run:
        steps: list[tuple[str, nn.Cell, dict[str, np.ndarray]]] = []
        with watched(cell, steps):
            output = cell(*args)
        found = leaves(output)
        shapes = {what: value.shape for what, value in (base.outputs if base else found).items()}
        if base is not None:
            _must_correspond(shapes, found, own, sizes)
        taken = _gradients(cell, args, shapes, own, sizes) if gradients else {}
        kinds = {str(value.dtype) for value in found.values()} | {str(p.dtype) for p in cell.get_parameters()}
        kinds |= {str(value.dtype) for _, _, values in steps for value in values.values()}
        steps = [(name, inner, {w: numpy_of(v) for w, v in values.items()}) for name, inner, values in steps]
        floats = [kind for kind in TOLERANCES if kind in kinds]
        arrays = {what: numpy_of(value) for what, value in found.items()}
        return cls(arrays, taken, steps, own, sizes, floats[-1] if floats else "Float32")

    def changes(self, other: _Run, tolerance: float) -> Iterator[tuple[str, float]]:
        for what, value in self.outputs.items():
            error = difference(value, other.outputs[what], self.own, other.sizes)
            if not error <= tolerance:
                yield ("loss" if value.ndim == 0 else f"output{what}"), error
        largest = max((float(np.abs(value).max()) for value in self.gradients.values()), default=0.0)
        for name, value in self.gradients.items():
            error = float(np.abs(value - other.gradients[name]).max()) / (largest or 1.0)
            if not error <= tolerance:
                yield f"gradient of {name}", error

    @property
    def reduces(self) -> bool:
        """Whether no output keeps a ragged axis."""
        lengths = set(self.own.values())
        return not any(lengths & set(value.shape[1:]) for value in self.outputs.values())

    def first_change(self, other: _Run, tolerance: float) -> tuple[str, nn.Cell, bool] | None:
        """The first sub-cell whose own part differs, and whether that part has lost the ragged axis."""
        waiting: dict[str, list[dict[str, np.ndarray]]] = {}
        for name, _, values in other.steps:
            waiting.setdefault(name, []).append(values)
        for name, inner, values in self.steps:
            theirs = waiting.get(name) or [{}]
            matching = theirs.pop(0)
            for what, value in values.items():
                if what in matching and not difference(value, matching[what], self.own, other.sizes) <= tolerance:
                    return name, inner, value.shape == matching[what].shape
        return None


# --- running --------------------------------------------------------------------------------------


@contextlib.contextmanager
def checking(cell: nn.Cell) -> Iterator[list[str]]:
    """PyNative mode and training mode without dropout, for a while; parameters keep their values."""
    training = [(inner, inner.training) for _, inner in cell.cells_and_names()]
    for parameter in cell.get_parameters():
        if parameter.has_init:
            parameter.init_data()
    values = [(parameter, parameter.value().copy()) for parameter in cell.get_parameters()]
    graph_mode = _mindspore.in_graph_mode()
    notes: list[str] = []
    ms.set_context(mode=ms.PYNATIVE_MODE)
    try:
        for inner, _ in training:
            inner.add_flags(training="dropout" not in type(inner).__name__.lower())
        yield notes
    finally:
        for inner, was in training:
            inner.add_flags(training=was)
        for parameter, value in values:
            parameter.set_data(value)
        if graph_mode:
            ms.set_context(mode=ms.GRAPH_MODE)


@contextlib.contextmanager
def watched(cell: nn.Cell, steps: list) -> Iterator[None]:
    """Append (name, sub-cell, its outputs) to ``steps`` whenever a sub-cell has been called."""
    handles = []
    for name, inner in cell.cells_and_names():
        if inner is not cell:

            def note(_: Any, __: Any, output: Any, name: str = name, inner: nn.Cell = inner) -> None:
                steps.append((name, inner, leaves(output)))

            handles.append(inner.register_forward_hook(note))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _must_correspond(shapes: Mapping[str, tuple], found: Mapping[str, Tensor], own: Lengths, sizes: Lengths) -> None:
    for what, shape in shapes.items():
        wide = found[what].shape if what in found else None
        if wide is None or not valid(np.zeros(wide, np.bool_), tuple(shape), own, sizes):
            raise PaddingCheckError(
                f"output{what} has shape {list(shape)} for {dict(own)} and {list(wide or ())} for {dict(sizes)}; its"
                f" ragged axes cannot be told: choose widths that are no multiples of other sizes"
            )


def _gradients(
    cell: nn.Cell, args: list[Any], shapes: Mapping[str, tuple], own: Lengths, sizes: Lengths
) -> dict[str, np.ndarray]:
    """Of a fixed combination of all that belongs to the batch, by parameter."""
    parameters = cell.trainable_params()
    if not parameters:
        return {}

    def combined() -> Tensor:
        total = Tensor(0.0, ms.float32)
        for what, value in leaves(cell(*args)).items():
            if value.is_floating_point():
                value = valid_tensor(value, tuple(shapes[what]), own, sizes).astype(ms.float32)
                weights = np.cos(np.arange(value.size, dtype=np.float32)).reshape(value.shape)
                total = total + (value * Tensor(weights)).sum()
        return total

    values = ms.value_and_grad(combined, None, ms.ParameterTuple(parameters))()[1]
    return {parameter.name: numpy_of(value) for parameter, value in zip(parameters, values)}


def _must_repeat(cell: nn.Cell, args: list[Any], own: Lengths, base: _Run, tolerance: float) -> None:
    again = _Run.of(cell, args, own, own, gradients=False)
    for what, value in base.outputs.items():
        if not difference(value, again.outputs[what], own, own) <= tolerance:
            raise PaddingCheckError(
                f"output{what} of {type(cell).__name__} differs between two equal calls; turn off what is random in it "
                f"(nn.Dropout cells are off already)"
            )


# --- inputs ---------------------------------------------------------------------------------------


def _positional(cell: nn.Cell, names: list[str], inputs: Any) -> tuple:
    if not isinstance(inputs, Mapping):
        return tuple(inputs)
    signature = inspect.signature(cell.construct)
    if not names or any(p.kind is p.VAR_POSITIONAL for p in signature.parameters.values()):
        return tuple(inputs[name] for name in names if name in inputs)
    bound = signature.bind(**inputs)
    bound.apply_defaults()
    return bound.args


def _tensors(args: Sequence[Any]) -> list[Any]:
    return [Tensor(value) if isinstance(value, np.ndarray) else value for value in args]


def _sizes(width: int | Mapping[str, int], own: Lengths) -> dict[str, int]:
    sizes = dict(width) if isinstance(width, Mapping) else dict.fromkeys(own, width)
    for name, length in own.items():
        if sizes.get(name, length) < length:
            raise PaddingCheckError(f"widths contain {name} {sizes[name]}, but the batch's own is {length}; pass more")
    return {name: int(sizes.get(name, length)) for name, length in own.items()}


def _masks(ragged: RaggedInputs, args: Sequence[Any]) -> list[str]:
    """The ragged arguments that tell what is padding: garbage in them would be a lie about the lengths."""
    found = []
    for argument in ragged.arguments:
        if argument.index < len(args) and args[argument.index] is not None:
            array = numpy_of(args[argument.index])
            named = "mask" in argument.name.lower() and bool(np.isin(array, (0, 1)).all())
            if named or array.dtype.kind == "b":
                found.append(argument.name)
    return found


def _garbage(ragged: RaggedInputs, args: Sequence[Any], sizes: Lengths, pad: Mapping[str, Any], seed: int) -> list[Any]:
    """The arguments padded: with their value in ``pad``, or with garbage of its kind."""
    random = np.random.default_rng(seed)
    padded = list(args)
    for argument in ragged.arguments:
        if argument.index >= len(args) or args[argument.index] is None:
            continue
        array = numpy_of(args[argument.index])
        shape = list(array.shape)
        for axis, name in argument.axes:
            shape[axis] = sizes[name]
        if argument.name in pad:
            filled = pad_array(array, shape, pad[argument.name])
        else:
            filled = _garbage_like(array, tuple(shape), random)
            filled[tuple(slice(length) for length in array.shape)] = array
        padded[argument.index] = filled
    return _tensors(padded)


def _garbage_like(array: np.ndarray, shape: tuple, random: np.random.Generator) -> np.ndarray:
    """Integers up to the array's largest, so that ids stay in their table; floats of several times its size."""
    if array.dtype.kind in "iu":
        return random.integers(min(0, array.min(initial=0)), array.max(initial=0), shape, array.dtype, endpoint=True)
    if array.dtype.kind == "b":
        return random.integers(0, 2, shape).astype(np.bool_)
    scale = 1.0 + 3.0 * float(np.abs(array).max(initial=0.0))
    return (random.standard_normal(shape) * scale).astype(array.dtype)


def numpy_of(value: Any) -> np.ndarray:
    if isinstance(value, Tensor):
        return (value.astype(ms.float32) if value.dtype == ms.bfloat16 else value).asnumpy()
    return np.asarray(value)


# --- causes ---------------------------------------------------------------------------------------


def _cause(cell: nn.Cell, reduces: bool) -> str:
    """The usual cause of a leak that begins in such a cell, with its remedy."""
    kind = " ".join(base.__name__.lower() for base in type(cell).__mro__)
    if "batchnorm" in kind:
        return "batch statistics include padded positions; use LayerNorm, or statistics over the mask"
    if "crf" in kind:
        return "a CRF that scores padded steps; multiply its steps by the mask"
    if any(name in kind for name in ("gru", "lstm", "rnn", "recurrent")) and reduces:
        return "the final state is that of the last padded step; pass seq_length, or freeze it where the mask is 0"
    if any(name in kind for name in ("gru", "lstm", "rnn", "recurrent")):
        return "a backward direction starts in the padding; pass seq_length, or reverse each row within its length"
    if any(name in kind for name in ("attention", "softmax", "transformer")):
        return "attention reaches padded positions; mask its scores before the softmax"
    if reduces:
        return "a mean, sum or maximum over padded positions; mask it, and divide by the mask's sum"
    return "positions depend on their neighbours in the padding (attention, convolution); mask them"
