"""How the calls of a bucketed cell are padded: sizes that may grow, layouts that are found once, and the counts."""

from __future__ import annotations

import contextlib
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
from ascend_fixes.shapes._graphs import compiling_cell, graphs
from ascend_fixes.shapes._ragged import RaggedArgument, RaggedInputs
from ascend_fixes.shapes._tiers import Tiers

__all__ = ["Bucketing", "PaddingCounts"]

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


def _settle(output: Any) -> None:
    """Wait until a graph has run: fetch one of its outputs."""
    while isinstance(output, (tuple, list, dict)) and output:
        output = next(iter(output.values())) if isinstance(output, dict) else output[0]
    if isinstance(output, Tensor):
        output.asnumpy()


@dataclass(frozen=True)
class _Layout:
    """How calls of some shapes are padded: lengths and sizes by name, and what needs padding, to which shape."""

    lengths: dict[str, int]
    sizes: dict[str, int]
    content: int
    padded: int
    pads: tuple[tuple[RaggedArgument, tuple[int, ...]], ...]


class Bucketing:
    """The padding of one cell: what is ragged, sizes it may have grown, the counts, and what its steps cost."""

    def __init__(self, ragged: RaggedInputs, signature: inspect.Signature, tier: str):
        self.ragged = ragged
        self.signature = signature
        self.tier = tier
        self.tiers = Tiers() if tier == "auto" else None
        self._layouts: dict[tuple, _Layout] = {}
        self._calls = self._content = self._padded = self._grown = self._truncated = self._dynamic_calls = 0

    def __deepcopy__(self, memo: dict) -> Bucketing:
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
            value = argument.of(args)
            if isinstance(value, Tensor):
                axes = {axis % value.ndim for axis, _ in argument.axes}
                shape = [None if axis in axes else length for axis, length in enumerate(value.shape)]
                argument.put(unknown, Tensor(shape=shape, dtype=value.dtype))
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
        count = len(args)  # without a call of a function for each argument: this runs at every step
        shapes = tuple(
            [
                getattr(one.of(args) if one.keys or one.index >= count else args[one.index], "shape", None)
                for one in self.ragged.arguments
            ]
        )
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
            value = argument.of(args)
            if padding.is_array(value):
                shape = list(value.shape)
                for axis, name in argument.axes:
                    shape[axis] = sizes[name]
                if tuple(shape) != tuple(value.shape):
                    pads.append((argument, tuple(shape)))
        return _Layout(
            lengths, sizes, math.prod(lengths.values()), math.prod(sizes[name] for name in lengths), tuple(pads)
        )

    def padded(self, args: tuple, kwargs: dict, layout: _Layout) -> tuple[tuple, dict]:
        """The arguments of a call as the graph takes them, with the masks they lack."""
        values = list(args)
        for argument, shape in layout.pads:
            value = argument.of(values) if argument.keys else values[argument.index]
            if argument.keys:
                argument.put(values, padding.pad(value, shape, argument.pad))
            else:
                values[argument.index] = padding.pad(value, shape, argument.pad)
        # Any other NumPy array, and a tuple of Tensors, would be a constant of the graph: one compilation per content.
        args_out = tuple([value if type(value) is Tensor else padding.as_input(value) for value in values])
        if kwargs:
            kwargs = {name: padding.as_input(value) for name, value in kwargs.items()}
        masks = self.ragged.missing_masks(args) if self.ragged.masks else ()
        if not masks:
            return args_out, kwargs
        built = {name: self._mask(source.of(args), source, layout.sizes) for name, source in masks}
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
