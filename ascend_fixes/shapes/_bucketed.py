"""A cell that takes ragged inputs and compiles one graph per bucket.

`bucketed` pads the named axes of the named arguments on the host, calls the cell,
and cuts the named axes of its outputs back. It does not make a model safe to pad:
what a model computes from padded positions is its own masks' business
(`shapes.check_padding` finds where it is not).
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Callable

import numpy as np
from mindspore import Tensor, nn

from ascend_fixes import _mindspore, compiling
from ascend_fixes.errors import warn
from ascend_fixes.shapes import _padding as padding
from ascend_fixes.shapes._buckets import LengthError
from ascend_fixes.shapes._graphs import COMPILES, called_through, compiling_cell, graphs, limit_graphs, watch
from ascend_fixes.shapes._ragged import AxesError, CellTypeError, RaggedArgument, RaggedInputs
from ascend_fixes.shapes._reasons import BUCKETING, argument_names
from ascend_fixes.shapes._tiers import Tiers

__all__ = ["BucketedCell", "PaddingCounts", "bucketed", "padding_counts"]

LAYOUTS = 4096  # combinations of shapes that a cell remembers the padding of


@dataclass(frozen=True)
class PaddingCounts:
    """What a bucketed cell has done so far.

    Attributes:
        calls: how often it was called.
        content, padded: the product of the ragged lengths, and of the sizes they were padded to, summed over the calls.
        grown: calls that were over-long and made a new size (``overflow="grow"``).
        truncated: calls that were over-long and were cut (``overflow="truncate"``).
        dynamic: calls that ran on the dynamic graph (``tier="auto"``).
    """

    calls: int = 0
    content: int = 0
    padded: int = 0
    grown: int = 0
    truncated: int = 0
    dynamic: int = 0

    @property
    def waste(self) -> float:
        """Padding over content; 0.0 before the first call."""
        return self.padded / self.content - 1.0 if self.content else 0.0


def bucketed(
    cell_or_class: Any = None,
    axes: Mapping | None = None,
    buckets: Any = None,
    pad: Any = 0,
    outputs: Any = None,
    max_graphs: int | None = None,
    masks: Mapping[str, str] | None = None,
    overflow: str = "error",
    tier: str = "static",
) -> Any:
    """Wrap a cell, or decorate a class of cells, so that its ragged inputs are padded to few sizes.

    The result is called exactly as the cell is. Wrap the outermost cell, the one your code or `mindspore.Model`
    calls: inside another cell's graph nothing is padded. Parameters keep their names. NumPy arrays become Tensors, and
    tuples, lists and dicts of nothing but Tensors become `mindspore.mutable` (to the graph itself they would be
    constants, a compilation for every content); all other arguments are passed on as they are.

    Args:
        cell_or_class: the cell, or the class. Left out, the call is a decorator: ``@bucketed(axes=..., buckets=...)``.
        axes: the ragged axes by construct's argument name (or position): ``{"ids": 1, "adjacency": (1, 2)}``. All of
            them have one length. Where lengths differ, name them: ``{"source": {0: "batch", 1: "source"},
            "target": {0: "batch", 1: "target"}}``.
        buckets: a `Buckets` for every length, a `Grid` for two, or one for each name:
            ``{"batch": Buckets([16]), ("source", "target"): grid}``.
        pad: the value of padded positions, for all arguments or by name: ``{"label": -100}``.
        outputs: the axes to cut back to the call's own length, by position or key, nested as the output is:
            ``{0: 1, "states": {1: {0: "batch", 1: "source"}}, "loss": None}``; for a single Tensor just ``1``.
            Outputs that are not named are returned as they are.
        max_graphs: compile at most so many graphs (`limit_graphs`).
        masks: arguments to build where the caller leaves them out: ``{"mask": "ids"}`` passes a float32 mask, 1 where
            the padded ``ids`` hold what was passed and 0 where padding was added, of the shape of ``ids`` up to its
            last ragged axis.
        overflow: what to do with a length over the largest bucket: "error"; "grow" makes a new size (a new graph);
            "truncate" cuts it. Both are counted in `padding_counts` and warned of.
        tier: "static" compiles a size when it is first seen. "auto" runs it on one dynamic graph, slower, until the
            time lost there would pass the cost of compiling (`shapes.tiers`); the parameters are the same.

    Raises:
        CellTypeError: here, for something else than a cell or a class of cells.
        AxesError: here, for arguments, axes, buckets or names that do not fit together.
        LengthError: at a call, for an over-long input, or where axes of one name differ in length.
        PadValueError: at a call, where an input's dtype cannot hold its pad value.
        GraphLimitError: at a call that would pass ``max_graphs``.
    """
    options = {
        "axes": axes,
        "buckets": buckets,
        "pad": pad,
        "outputs": outputs,
        "masks": masks,
        "overflow": overflow,
    }
    if cell_or_class is None:
        return functools.partial(bucketed, max_graphs=max_graphs, tier=tier, **options)
    if tier not in ("static", "auto"):
        raise AxesError(f"tier={tier!r} is unknown; choose static or auto")
    if inspect.isclass(cell_or_class) and issubclass(cell_or_class, nn.Cell):
        return _decorate(cell_or_class, options, max_graphs, tier)
    if not isinstance(cell_or_class, nn.Cell):
        raise CellTypeError(f"bucketed takes a cell or a class of cells, not {type(cell_or_class).__name__}")
    return BucketedCell(cell_or_class, RaggedInputs.make(argument_names(cell_or_class), **options), max_graphs, tier)


def padding_counts(cell: nn.Cell) -> PaddingCounts:
    """What a bucketed cell has padded so far. Raises `CellTypeError` for a cell that is not bucketed."""
    return bucketing_of(cell).counts


def bucketing_of(cell: nn.Cell) -> _Bucketing:
    """The padding of a bucketed cell, made now where its class was decorated. `CellTypeError` for any other cell."""
    state = cell.__dict__.get(BUCKETING)
    if state is None:
        start = getattr(type(cell), BUCKETING, None)
        if start is None:
            raise CellTypeError(f"{type(cell).__name__} is not bucketed; wrap it with shapes.bucketed first")
        state = start(cell)
    return state


class BucketedCell(nn.Cell):
    """A cell whose ragged inputs are padded before the graph and whose outputs are cut back after it.

    Made by `bucketed`. It pads on the host and then calls ``cell`` itself, whose graphs it runs: what the cell's own
    call does besides running a graph stays (`amp.TrainStep` returns a `StepResult`). Parameters, their names and
    checkpoints are those of ``cell``; so are public attributes that the wrapper does not have.
    """

    def __init__(self, cell: nn.Cell, ragged: RaggedInputs, max_graphs: int | None = None, tier: str = "static"):
        super().__init__(auto_prefix=False)
        cell.check_names_and_refresh_name()
        self.cell = cell
        self.phase = cell.phase
        self.add_flags(training=cell.training)
        object.__setattr__(self, BUCKETING, _Bucketing(ragged, inspect.signature(cell.construct), tier))
        _bound(self, max_graphs, ragged)

    def construct(self, *args: Any, **kwargs: Any) -> Any:
        return self.cell(*args, **kwargs)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        # PyNative mode keeps this cell's own hooks and gradient; a graph is the inner cell's.
        run = self._run_inner if _mindspore.in_graph_mode() else super().__call__
        return self.__dict__[BUCKETING].call(self, run, args, kwargs)

    def _run_inner(self, *args: Any, **kwargs: Any) -> Any:
        with called_through(self, args, kwargs):
            return self.cell(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            inner = self.__dict__.get("_cells", {}).get("cell")
            if inner is None or name.startswith("_"):
                raise
            return getattr(inner, name)

    def compile(self, *args: Any, **kwargs: Any) -> Any:
        """Compile the graph that a call with these arguments would run."""
        padded, named = self.__dict__[BUCKETING].padded_call(args, kwargs)
        return self.cell.compile(*padded, **named)

    def set_train(self, mode: bool = True) -> BucketedCell:
        """As in MindSpore; the inner cell runs its graph for that phase."""
        super().set_train(mode)
        self.cell.set_train(mode)
        return self

    # The keys of a state dictionary are those of the wrapped cell, too.
    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """The state of the wrapped cell."""
        return self.cell.state_dict(*args, **kwargs)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> Any:
        """Load the state of the wrapped cell."""
        return self.cell.load_state_dict(state_dict, strict)


# What `graphs` and `limit_graphs` look at.
setattr(BucketedCell, COMPILES, property(lambda self: compiling_cell(self.cell)))


def _bound(cell: nn.Cell, max_graphs: int | None, ragged: RaggedInputs) -> None:
    """Record what the cell compiles, and bound it where asked; a bound that it has already stays."""
    if max_graphs is None:
        watch(cell)
    else:
        limit_graphs(cell, max_graphs, ragged.advice)


def _decorate(cls: Any, options: dict, max_graphs: int | None, tier: str) -> type:
    """Pad in ``cls.__call__``. The class stays the same object: ``super(Net, self)`` in its body must find it."""
    ragged = RaggedInputs.make(_class_argument_names(cls), **options)
    original = cls.__call__
    signature = inspect.signature(cls.construct)
    signature = signature.replace(parameters=list(signature.parameters.values())[1:])

    def start(self: nn.Cell) -> _Bucketing:
        state = _Bucketing(ragged, signature, tier)
        object.__setattr__(self, BUCKETING, state)
        _bound(self, max_graphs, ragged)
        return state

    @functools.wraps(original)
    def __call__(self: nn.Cell, *args: Any, **kwargs: Any) -> Any:
        state = self.__dict__.get(BUCKETING) or start(self)
        return state.call(self, functools.partial(original, self), args, kwargs)

    cls.__call__ = __call__
    setattr(cls, BUCKETING, staticmethod(start))
    return cls


def _class_argument_names(cls: Any) -> tuple[list[str], bool]:
    parameters = list(inspect.signature(cls.construct).parameters.values())[1:]
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return names, any(p.kind is p.VAR_POSITIONAL for p in parameters)


def _settle(output: Any) -> None:
    """Wait until a graph has run: fetch one of its outputs."""
    while isinstance(output, (tuple, list, dict)) and output:
        output = next(iter(output.values())) if isinstance(output, dict) else output[0]
    if isinstance(output, Tensor):
        output.asnumpy()


@dataclass(frozen=True)
class _Layout:
    """How calls of some shapes are padded: lengths and sizes by name, and (position, new shape, value) to pad."""

    lengths: dict[str, int]
    sizes: dict[str, int]
    content: int
    padded: int
    pads: tuple[tuple[int, tuple[int, ...], Any], ...]


class _Bucketing:
    """The padding of one cell: what is ragged, sizes it may have grown, the counts, and what its steps cost."""

    def __init__(self, ragged: RaggedInputs, signature: inspect.Signature, tier: str):
        self.ragged = ragged
        self.signature = signature
        self.tier = tier
        self.tiers = Tiers() if tier == "auto" else None
        self._ragged = tuple(argument.index for argument in ragged.arguments)
        self._layouts: dict[tuple, _Layout] = {}
        self._calls = self._content = self._padded = self._grown = self._truncated = self._dynamic_calls = 0

    def __deepcopy__(self, memo: dict) -> _Bucketing:
        """A copied cell starts counting anew."""
        return type(self)(self.ragged, self.signature, self.tier)

    @property
    def counts(self) -> PaddingCounts:
        return PaddingCounts(
            self._calls, self._content, self._padded, self._grown, self._truncated, self._dynamic_calls
        )

    def call(self, cell: nn.Cell, run: Callable[..., Any], args: tuple, kwargs: dict) -> Any:
        """Pad, call ``run``, and cut back; ``cell`` is the bucketed cell."""
        if kwargs:
            args, kwargs = self._positional(args, kwargs)
        with compiling.lock:
            layout = self._layout(args)
            self._calls += 1
            self._content += layout.content
            self._padded += layout.padded
            args, kwargs = self.padded(args, kwargs, layout)
            if self.tiers is None or kwargs or not _mindspore.in_graph_mode():
                output = run(*args, **kwargs)
            else:
                output = self._run_tiered(compiling_cell(cell), run, args)
        if self.ragged.outputs is None or layout.lengths == layout.sizes:
            return output
        return self.ragged.outputs.crop(output, layout.lengths, layout.sizes)

    def padded_call(self, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        """The arguments as a call would pass them on; counts nothing."""
        if kwargs:
            args, kwargs = self._positional(args, kwargs)
        return self.padded(args, kwargs, self.layout(args, self.ragged.sizes(self.ragged.lengths(args))))

    def _run_tiered(self, cell: nn.Cell, run: Callable[..., Any], args: tuple) -> Any:
        """Run on the size's own graph or on the dynamic one, as the costs measured so far say."""
        assert self.tiers is not None
        # Training and evaluation are different graphs, and so are other fixed shapes.
        size = (cell.phase, *map(padding.signature, args))
        static = self.tiers.wants_static(size)
        timed = self.tiers.wants_time(size, static)
        before, start = len(cell.compile_cache), time.perf_counter()
        with contextlib.nullcontext() if static else _mindspore.dynamic_inputs(cell, self._dynamic(args)):
            output = run(*args)
        if timed:
            _settle(output)
        seconds = time.perf_counter() - start
        compiling = None
        if len(cell.compile_cache) > before:
            compiling = min(seconds, graphs(cell)[-1].seconds or 0.0)
            seconds -= compiling
        self.tiers.ran(size, static, seconds if timed else None, compiling)
        if not static:
            self._dynamic_calls += 1
        return output

    def _dynamic(self, args: tuple) -> tuple:
        """The arguments with their ragged axes unknown."""
        unknown = list(args)
        for argument in self.ragged.arguments:
            if argument.index < len(args) and isinstance(args[argument.index], Tensor):
                value = args[argument.index]
                axes = {axis % value.ndim for axis, _ in argument.axes}
                shape = [None if axis in axes else length for axis, length in enumerate(value.shape)]
                unknown[argument.index] = Tensor(shape=shape, dtype=value.dtype)
        return tuple(unknown)

    def _positional(self, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        """By position as far as possible, so that a call by name needs no graph of its own."""
        bound = self.signature.bind(*args, **kwargs)
        if bound.kwargs:  # an argument in between was left out
            bound.apply_defaults()
        return bound.args, bound.kwargs

    def _with(self, built: dict[str, Any], args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        """The arguments with those in ``built`` added, or put in place of None."""
        names = list(self.signature.parameters)[: len(args)]
        named = {**dict(zip(names, args)), **kwargs, **built}
        return self._positional((), named)

    def _layout(self, args: tuple) -> _Layout:
        """The layout for a call; found once for each combination of shapes."""
        shapes = tuple(getattr(args[index], "shape", None) if index < len(args) else None for index in self._ragged)
        layout = self._layouts.get(shapes)
        if layout is None:
            lengths = self.ragged.lengths(args)
            try:
                layout = self.layout(args, self.ragged.sizes(lengths))
            except LengthError:
                if self.ragged.overflow == "error":
                    raise
                return self._overflowed(args, lengths)
            if len(self._layouts) >= LAYOUTS:
                self._layouts.clear()
            self._layouts[shapes] = layout
        return layout

    def _overflowed(self, args: tuple, lengths: dict[str, int]) -> _Layout:
        """The layout for an over-long call, which is counted and warned of."""
        if self.ragged.overflow == "grow":
            self.ragged = self.ragged.grown(lengths)
            self._layouts.clear()
            self._grown += 1
            sizes = self.ragged.sizes(lengths)
            message = f"lengths {lengths} are over the largest bucket; a new graph is compiled for {sizes}"
        else:
            sizes = self.ragged.truncated(lengths)
            self._truncated += 1
            message = f"lengths {lengths} are over the largest bucket; they are cut to {sizes}"
        warn(message)
        return self.layout(args, sizes)

    def layout(self, args: tuple, sizes: dict[str, int]) -> _Layout:
        """The layout that pads a call to ``sizes``, or cuts it."""
        lengths = {name: min(length, sizes[name]) for name, length in self.ragged.lengths(args).items()}
        pads = []
        for argument in self.ragged.arguments:
            if argument.index < len(args) and padding.is_array(args[argument.index]):
                shape = list(args[argument.index].shape)
                for axis, name in argument.axes:
                    shape[axis] = sizes[name]
                pads.append((argument.index, tuple(shape), argument.pad))
        return _Layout(
            lengths, sizes, math.prod(lengths.values()), math.prod(sizes[name] for name in lengths), tuple(pads)
        )

    def padded(self, args: tuple, kwargs: dict, layout: _Layout) -> tuple[tuple, dict]:
        """The arguments of a call as the graph takes them, with the masks they lack."""
        values = list(args)
        for index, shape, value in layout.pads:
            if values[index].shape != shape:
                values[index] = padding.pad(values[index], shape, value)
        # Any other NumPy array, and a tuple of Tensors, would be a constant of the graph: one compilation per content.
        args_out = tuple([value if isinstance(value, Tensor) else padding.as_input(value) for value in values])
        if kwargs:
            kwargs = {name: padding.as_input(value) for name, value in kwargs.items()}
        masks = self.ragged.missing_masks(args) if self.ragged.masks else ()
        if not masks:
            return args_out, kwargs
        built = {name: self._mask(args[source.index], source, layout.sizes) for name, source in masks}
        return self._with(built, args_out, kwargs)

    @staticmethod
    def _mask(value: padding.Array, source: RaggedArgument, sizes: Mapping[str, int]) -> Tensor:
        """float32 of ``value``'s padded shape up to its last ragged axis: 1 for what was passed, 0 for padding."""
        axes = {axis % value.ndim: sizes[name] for axis, name in source.axes}
        old = value.shape[: max(axes) + 1]
        new = [axes.get(axis, length) for axis, length in enumerate(old)]
        mask = np.zeros(new, dtype=np.float32)
        mask[tuple(slice(min(a, b)) for a, b in zip(old, new))] = 1.0
        return Tensor.from_numpy(mask)
