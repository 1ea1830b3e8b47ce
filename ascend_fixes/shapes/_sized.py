"""A bucketed cell with another cell for every size: for models in which the length is written."""

from __future__ import annotations

import inspect
from typing import Any, Callable

from mindspore import nn

from ascend_fixes.shapes._bucketing import Bucketing
from ascend_fixes.shapes._graphs import PARTS, GraphLimitError, graphs, watch
from ascend_fixes.shapes._ragged import AxesError, CellTypeError, RaggedInputs
from ascend_fixes.shapes._reasons import BUCKETING, argument_names

__all__ = ["SizedCell"]


class SizedCell(nn.Cell):
    """A bucketed cell with another cell for every size, for models in which the length is written. Made by `bucketed`."""

    def __init__(self, make: Callable[..., nn.Cell], options: dict[str, Any], max_graphs: int | None) -> None:
        super().__init__(auto_prefix=False)
        sizers = options["buckets"]
        largest = _largest(sizers, options["axes"])
        first = _made(make, largest)
        ragged = RaggedInputs.make(argument_names(first), **options)
        object.__setattr__(self, BUCKETING, Bucketing(ragged, inspect.signature(first.construct), "static"))
        object.__setattr__(self, PARTS, {})
        self.make, self.max_graphs = make, max_graphs
        self.phase = first.phase
        self.add_flags(training=first.training)
        self._add(largest, first)

    def construct(self, *args: Any, **kwargs: Any) -> Any:
        return self._run(*args, **kwargs)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.__dict__[BUCKETING].call(self, self._run, args, kwargs)

    def _run(self, *args: Any, **kwargs: Any) -> Any:
        sizes = tuple(self.__dict__[BUCKETING].ragged.lengths(args).values())
        return self.cell_of(sizes)(*args, **kwargs)

    def cell_of(self, sizes: tuple[int, ...]) -> nn.Cell:
        """The cell for these sizes, made now where there is none yet."""
        held = self.__dict__[PARTS]
        if sizes not in held:
            used = sum(bool(graphs(part)) for part in held.values())
            if self.max_graphs is not None and used >= self.max_graphs:
                raise GraphLimitError(
                    f"the cell for {sizes} would be graph {used + 1} of at most {self.max_graphs}; use fewer buckets, or "
                    "raise max_graphs"
                )
            self._add(sizes, _made(self.make, sizes))
        return held[sizes]

    def _add(self, sizes: tuple[int, ...], cell: nn.Cell) -> None:
        own = {id(parameter): parameter for parameter in self.get_parameters()}
        other = next((p for p in cell.get_parameters() if own and id(p) not in own), None)
        if other is not None:
            raise AxesError(
                f"the function made parameter {other.name} anew for {sizes}; make layers, optimizer and scaler once, outside of "
                "it, and pass them to every cell"
            )
        cell.set_train(self.training)
        watch(cell)
        self.insert_child_to_cell("_".join(("size", *map(str, sizes))), cell)
        self.__dict__[PARTS][sizes] = cell


def _made(make: Callable[..., nn.Cell], sizes: tuple[int, ...]) -> nn.Cell:
    cell = make(*sizes)
    if not isinstance(cell, nn.Cell):
        raise CellTypeError(f"the function given to bucketed makes a {type(cell).__name__} for {sizes}; return a cell")
    return cell


def _largest(sizers: Any, axes: Any) -> tuple[int, ...]:
    """The largest size of every length, in the order in which the axes name them."""
    names = RaggedInputs.make(([str(name).partition(".")[0] for name in axes or ()], False), axes, sizers)
    return tuple(names.all_sizes()[-1][name] for name in names.names)
