"""A cell that takes ragged inputs and compiles one graph per bucket.

`bucketed` pads the named axes of the named arguments on the host, calls the cell,
and cuts the named axes of its outputs back. It does not make a model safe to pad:
what a model computes from padded positions is its own masks' business
(`shapes.check_padding` finds where it is not).
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from typing import Any

from mindspore import nn

from ascend_fixes import _mindspore
from ascend_fixes.shapes._bucketing import Bucketing, PaddingCounts
from ascend_fixes.shapes._graphs import (
    COMPILES,
    call_through,
    compiling_cell,
    limit_graphs,
    watch,
)
from ascend_fixes.shapes._ragged import AxesError, CellTypeError, RaggedInputs
from ascend_fixes.shapes._reasons import BUCKETING, argument_names
from ascend_fixes.shapes._sized import SizedCell

__all__ = ["BucketedCell", "PaddingCounts", "bucketed", "padding_counts"]


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
        cell_or_class: the cell, or the class. Left out, the call is a decorator: ``@bucketed(axes=..., buckets=...)``. For a model
            in which the length is written: a function that makes the cell for a size (for the sizes, in the order in which
            ``axes`` names the lengths). It is called once for each size that is met, and all that it makes must share the
            parameters. The other way for such a model is a single bucket.
        axes: the ragged axes by construct's argument name (or position): ``{"ids": 1, "adjacency": (1, 2)}``. All of
            them have one length. Where lengths differ, name them: ``{"source": {0: "batch", 1: "source"},
            "target": {0: "batch", 1: "target"}}``. Members of a dict, tuple or list: ``{"batch.ids": 1, "states.0": 1}``.
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
    if inspect.isfunction(cell_or_class) or inspect.ismethod(cell_or_class):
        if tier != "static":
            raise AxesError(
                f"tier={tier!r} needs one cell for all sizes, not a function that makes them; leave it static"
            )
        return SizedCell(cell_or_class, options, max_graphs)
    if not isinstance(cell_or_class, nn.Cell):
        raise CellTypeError(f"bucketed takes a cell or a class of cells, not {type(cell_or_class).__name__}")
    return BucketedCell(cell_or_class, RaggedInputs.make(argument_names(cell_or_class), **options), max_graphs, tier)


def padding_counts(cell: nn.Cell) -> PaddingCounts:
    """What a bucketed cell has padded so far. Raises `CellTypeError` for a cell that is not bucketed."""
    return bucketing_of(cell).counts


def bucketing_of(cell: nn.Cell) -> Bucketing:
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
        object.__setattr__(self, BUCKETING, Bucketing(ragged, inspect.signature(cell.construct), tier))
        _bound(self, max_graphs, ragged)

    def construct(self, *args: Any, **kwargs: Any) -> Any:
        return self.cell(*args, **kwargs)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        # PyNative mode keeps this cell's own hooks and gradient; a graph is the inner cell's.
        run = self._run_inner if _mindspore.in_graph_mode() else super().__call__
        return self.__dict__[BUCKETING].call(self, run, args, kwargs)

    def _run_inner(self, *args: Any, **kwargs: Any) -> Any:
        return call_through(self, args, kwargs)

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

    def start(self: nn.Cell) -> Bucketing:
        state = Bucketing(ragged, signature, tier)
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
