"""Does padding leak into what a cell computes?

Two ways to see it. The cell is run on a batch as it is, and again with its ragged axes padded to wider sizes and the
padding filled with garbage; or, at one width, with garbage beyond each row's own end. Whatever belongs to the batch
itself (its part of every output, the loss, the gradients of the parameters) must not change. If it does, the sub-cells'
outputs tell where the change begins.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mindspore import nn

from ascend_fixes import _mindspore
from ascend_fixes.errors import first_line
from ascend_fixes.shapes._buckets import Buckets
from ascend_fixes.shapes._garbage import Batch, PaddingCheckError
from ascend_fixes.shapes._ragged import RaggedInputs
from ascend_fixes.shapes._reasons import argument_names
from ascend_fixes.shapes._runs import TOLERANCES, Run, as_cell, checking, evaluating, output_name, tensors
from ascend_fixes.shapes._suspects import Suspect, of_gradients, of_outputs
from ascend_fixes.shapes._valid import Own

__all__ = ["Leak", "PaddingReport", "check_padding"]

METHODS = ("auto", "widths", "in place", "both")


@dataclass(frozen=True)
class Leak:
    """Something of the batch's own that changed with the padding.

    Attributes:
        what: "output", "output[1]", "output['states']", "loss" or "gradient of head.weight".
        width: the padded sizes, by name of the length; the batch's own where garbage was put in place.
        error: the largest change, relative to the largest value.
        method: "widths" or "in place".
    """

    what: str
    width: tuple[tuple[str, int], ...]
    error: float
    method: str = "widths"

    def __str__(self) -> str:
        sizes = ", ".join(f"{name} {size}" for name, size in self.width)
        how = f"when padded to {sizes}" if self.method == "widths" else "with garbage beyond the rows' ends"
        return f"{self.what} changes by {self.error:.2g} of its largest value {how}"


@dataclass(frozen=True)
class PaddingReport:
    """What `check_padding` found.

    Attributes:
        leaks: everything that changed.
        cell: the name of the first sub-cell whose valid outputs change, "" if it is the cell's own construct.
        kind: that sub-cell's class.
        cause: the usual cause of a leak of this kind.
        tolerance: relative; for the lowest precision that took part.
        notes: what could not be checked, and why.
        suspects: every sub-cell in which padding gets in, the first one first.
        tried: what was done, "length 33", "garbage in place"; empty where nothing could be padded.
        pads: the inputs that were padded with a value, masks and labels, and that value.
        rows: how long each row was taken to be, by the name of the length; empty where nothing said it.
    """

    leaks: tuple[Leak, ...]
    cell: str
    kind: str
    cause: str
    tolerance: float
    notes: tuple[str, ...] = ()
    suspects: tuple[Suspect, ...] = ()
    tried: tuple[str, ...] = ()
    pads: tuple[tuple[str, Any], ...] = ()
    rows: tuple[tuple[str, tuple[int, ...]], ...] = ()

    @property
    def ok(self) -> bool:
        """Whether something was padded and leaked nowhere."""
        return bool(self.tried) and not self.leaks

    def __str__(self) -> str:
        notes = "".join(f"\nnote: {note}" for note in self.notes)
        if not self.tried:
            return f"nothing was tried: whether padding leaks is not known{notes}"
        if self.ok:
            return f"padding does not leak (tolerance {self.tolerance:g}){notes}"
        lines = [f"padding leaks; it begins in {self.suspects[0] if self.suspects else 'the gradient'}"]
        lines += [f"  and in {suspect}" for suspect in self.suspects[1:]]
        return "\n".join([*lines, *(f"  {leak}" for leak in self.leaks)]) + notes


def check_padding(
    cell: Any,
    inputs: Mapping[str, Any] | Sequence[Any],
    axes: Mapping[str, Any],
    widths: Sequence[int | Mapping[str, int]] | None = None,
    pad: Mapping[str, Any] | None = None,
    gradients: bool = True,
    tolerance: float | None = None,
    seed: int = 0,
    lengths: Any = None,
    method: str = "auto",
) -> PaddingReport:
    """Pad a batch with garbage and see what of the batch's own results changes.

    The cell runs in PyNative mode, with dropout off and everything else in training mode, so that statistics over the
    batch are seen; in evaluation mode where two equal calls differ otherwise, which a note says. Trainable parameters
    that are all zeros, behind which a leak would not show, are filled with small numbers.
    Its parameters, its mode and the process's mode are restored.

    Every sub-cell in which padding gets in is listed, if what it has wrong is read later: a final state that is
    dropped, and what stands beyond a row's own end already, are no leaks.

    Args:
        cell: a network, or a network with its loss; not one that trains. A function, or a `mindspore.jit` function, is run
            without its graph; the gradients are those of the cells that it names.
        inputs: a batch, by construct's argument names or in their order.
        axes: the ragged axes, as in `bucketed`.
        widths: the sizes to pad to: numbers for every length, or a number for each by name; none under the batch's own.
            By default one and three more than the batch's own.
        pad: the inputs that are padded with a value and not with garbage: ``{"labels": -100}``. Without it masks are
            padded with the value that is off (whatever is a mask by what it does: with it off, garbage beyond no longer
            reaches something; failing that, booleans, and zeros and ones with "mask" in their name), and integers that
            hold one negative number with that.
        gradients: also compare the gradients of all trainable parameters.
        tolerance: relative; by default 1e-5 for float32, 1e-2 for float16, by the lowest precision met. Where two kinds
            of garbage are compared at one width it is 1e-6 at most: the same kernels round the same numbers.
        seed: of the garbage.
        lengths: of the rows, one integer each, or such by the name of the length. By default they are read off the masks.
        method: "widths" pads; "in place" puts garbage beyond each row's own end, at the batch's own width, and needs
            ``lengths`` or a mask (where every row is full, every second one is cut by a third); "both" does one after the other;
            "auto" pads, and works in place where the cell cannot be run at another width.

    Raises:
        PaddingCheckError: for a cell with an optimizer, one that fails on the batch as it is or computes something else at
            every call, for widths under the batch's own, lengths that do not fit, or an unknown method.
    """
    if method not in METHODS:
        raise PaddingCheckError(f"method={method!r} is unknown; choose one of {', '.join(METHODS)}")
    cell = as_cell(cell)
    if any(isinstance(inner, nn.Optimizer) for _, inner in cell.cells_and_names()):
        raise PaddingCheckError(f"{type(cell).__name__} holds an optimizer; check the network or its loss cell")
    names = argument_names(cell)
    ragged = RaggedInputs.make(names, axes, Buckets([1]))
    args = _positional(cell, names[0], inputs)
    ragged.lengths(args)
    with checking(cell, reveal=True) as notes, _must_run(cell, args):
        batch = Batch.of(cell, ragged, args, pad or {}, lengths)
        check = _Check(cell, batch, gradients, tolerance, seed, notes)
        if check.unequal():
            evaluating(cell)
            check = _Check(cell, batch, gradients, tolerance, seed, notes)
            notes.append("two equal calls differ in training mode; it was run in evaluation mode")
            check.must_repeat()
        if method != "in place":
            widths = check.default_widths() if widths is None else widths
            check.at_widths([check.batch.sizes(width) for width in widths], must=method == "widths")
        if method in ("in place", "both") or (method == "auto" and not check.tried):
            check.in_place()
    return check.report()


_IN_PLACE = 1e-6  # at one width


class _Check:
    """A check under way: what was tried and found so far."""

    def __init__(
        self, cell: nn.Cell, batch: Batch, gradients: bool, tolerance: float | None, seed: int, notes: list[str]
    ) -> None:
        self.cell, self.batch, self.gradients, self.seed, self.notes = cell, batch, gradients, seed, notes
        self.base = self.run(tensors(batch.args), Own(batch.own, batch.own, batch.rows), gradients)
        self.bound = TOLERANCES[self.base.precision] if tolerance is None else tolerance
        self.bound_in_place = min(self.bound, _IN_PLACE) if tolerance is None else tolerance
        self.sharper = tolerance is None and self.bound > TOLERANCES["Float32"]  # half precision took part
        self.leaks: list[Leak] = []
        self.suspects: dict[str, Suspect] = {}
        self.tried: list[str] = []
        self.rows = batch.rows

    def default_widths(self) -> list[dict[str, int]]:
        return [{name: length + more for name, length in self.batch.own.items()} for more in (1, 3)]

    def at_widths(self, widths: Sequence[Mapping[str, int]], must: bool) -> None:
        """Pad to other widths, as far as the cell can be run at these; ``must``: a failure is an error."""
        for sizes in widths:
            if dict(sizes) == self.batch.own:
                continue
            own = Own(self.batch.own, sizes, self.batch.rows)
            told = ", ".join(f"{name} {size}" for name, size in sizes.items())
            args = self.batch.padded(sizes, self.seed)
            try:
                padded = Run.of(self.cell, args)
                self._must_correspond(padded, own)
                padded = padded.differentiated(self.cell, args, own, self.base) if self.gradients else padded
            except Exception as error:  # whatever a cell does that has its length written in
                if must:
                    raise
                self.notes.append(f"it cannot be run at {told}: {first_line(error)}")
                continue
            self.tried.append(told)
            self.compare(self.base, padded, args, own, "widths")
            if self.sharper and not self.leaks:
                self.compare_garbage(padded, own)

    def compare_garbage(self, padded: Run, own: Own) -> None:
        """The same width with other garbage: what half precision's rounding hides between two widths."""
        other = Run.of(self.cell, self.batch.padded(own.sizes, self.seed + 1))
        for place, value in self.base.outputs.items():
            error = own.between(value.shape, padded.outputs[place], other.outputs[place])
            if not error <= self.bound_in_place:
                self.leaks.append(Leak(output_name(place, value), tuple(own.sizes.items()), error, "widths"))

    def in_place(self) -> None:
        """Garbage beyond each row's own end, at the batch's own width."""
        batch, base = self.batch, self.base
        if batch.rows and not batch.reach:
            shorter = batch.shortened()
            if shorter is not None and shorter.reach:
                batch = shorter
                cut = {name: ends.tolist() for name, ends in batch.rows.items()}
                self.notes.append(f"every row was full; some were cut for garbage in place, to {cut}")
        if not batch.reach:
            why = "no row ends before the batch's width" if batch.rows else "nothing says where its rows end"
            self.notes.append(f"no garbage was put in place: {why}; pass lengths=, or a mask with shorter rows")
            return
        own = Own(batch.own, batch.own, batch.rows)
        base = self.run(batch.in_place(self.seed + 1), own, self.gradients)
        args = batch.in_place(self.seed)
        self.tried.append("garbage in place")
        self.rows = batch.rows
        self.compare(base, self.run(args, own, self.gradients, base), args, own, "in place")

    def run(self, args: list[Any], own: Own, gradients: bool, base: Run | None = None) -> Run:
        run = Run.of(self.cell, args)
        return run.differentiated(self.cell, args, own, base) if gradients else run

    def compare(self, base: Run, padded: Run, args: list[Any], own: Own, method: str) -> None:
        bound = self.bound_in_place if method == "in place" else self.bound
        found = base.changes(padded, own, bound)
        self.leaks += [Leak(what, tuple(own.sizes.items()), error, method) for what, error in found.items()]
        if not found:
            return
        if not any(what.startswith("gradient of ") for what in found) or len(found) > self._count_gradients(found):
            suspects = of_outputs(self.cell, args, base, own, bound)
        else:
            suspects = of_gradients(self.cell, list(found))
        for suspect in suspects:
            self.suspects.setdefault(suspect.cell, suspect)

    def _count_gradients(self, found: Mapping[str, float]) -> int:
        return sum(what.startswith("gradient of ") for what in found)

    def _must_correspond(self, padded: Run, own: Own) -> None:
        for place, value in self.base.outputs.items():
            wide = padded.outputs[place].shape if place in padded.outputs else ()
            if not own.fits(value.shape, wide):
                raise PaddingCheckError(
                    f"output{place} has shape {list(value.shape)} for {dict(own.lengths)} and {list(wide)} for "
                    f"{dict(own.sizes)}; its ragged axes cannot be told: choose widths that are no multiples of other sizes"
                )

    def unequal(self) -> list[str]:
        """The outputs that differ between two equal calls."""
        own = Own(self.batch.own, self.batch.own)
        again = Run.of(self.cell, tensors(self.batch.args)).outputs
        return [
            place for place, value in self.base.outputs.items() if not own.difference(value, again[place]) <= self.bound
        ]

    def must_repeat(self) -> None:
        for place in self.unequal():
            raise PaddingCheckError(
                f"output{place} of {type(self.cell).__name__} differs between two equal calls; turn off what is "
                f"random in it (nn.Dropout cells are off already)"
            )

    def report(self) -> PaddingReport:
        first = next(iter(self.suspects.values()), Suspect("", type(self.cell).__name__, "") if self.leaks else None)
        return PaddingReport(
            tuple(self.leaks),
            first.cell if first else "",
            first.kind if first else "",
            first.cause if first else "",
            self.bound,
            tuple(self.notes),
            tuple(self.suspects.values()),
            tuple(self.tried),
            tuple(self.batch.pads.items()),
            tuple((name, tuple(ends.tolist())) for name, ends in self.rows.items()),
        )


@contextlib.contextmanager
def _must_run(cell: nn.Cell, args: Sequence[Any]) -> Iterator[None]:
    """Inside, the cell runs operator by operator: as it is, or as a graph takes it."""
    with contextlib.ExitStack() as methods:
        try:
            _run(cell, args)
        except Exception as error:
            methods.enter_context(_mindspore.as_in_graphs())
            try:
                _run(cell, args)
            except Exception:
                told = f"{type(cell).__name__} fails on the batch as it is: {first_line(error)}"
                raise PaddingCheckError(told) from error
        yield


def _run(cell: nn.Cell, args: Sequence[Any]) -> None:
    with _mindspore.synchronous():
        cell(*tensors(args))


def _positional(cell: nn.Cell, names: list[str], inputs: Any) -> tuple:
    if not isinstance(inputs, Mapping):
        return tuple(inputs)
    signature = inspect.signature(cell.construct)
    if not names or any(p.kind is p.VAR_POSITIONAL for p in signature.parameters.values()):
        return tuple(inputs[name] for name in names if name in inputs)
    bound = signature.bind(**inputs)
    bound.apply_defaults()
    return bound.args
