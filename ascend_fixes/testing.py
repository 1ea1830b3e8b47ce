"""For users' own tests: ragged batches, and assertions that padding, fusion and float16 do no harm to a cell.

    from ascend_fixes.testing import assert_padding_equivalent, ragged_batches
    from hypothesis import given, strategies as st

    @given(ragged_batches({"ids": st.integers(1, 99)}, dtypes={"ids": np.int32}))
    def test_my_encoder(batch):
        assert_padding_equivalent(encoder, batch, axes={"ids": 1, "mask": 1}, pad={"mask": 0})

A failure shrinks to the smallest batch that shows it, and names the sub-cell where the
padding gets in. `assert_fusion_equivalent(cell, *inputs)` and `assert_finite_in_float16(cell, *inputs)` compile and
run the cell in the test's own process; `assert_compiles_for_ascend("module:factory")` compiles it with MindSpore's Ascend
back end in another, without a device. Needs hypothesis (the extra ``test``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import mindspore
import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from mindspore import nn

from ascend_fixes import dryrun
from ascend_fixes.amp import Policy, autocast
from ascend_fixes.dryrun._report import KINDS
from ascend_fixes.errors import UnknownNameError, nearest
from ascend_fixes.fusion._comparison import REPETITIONS, evaluate, tolerance, worst
from ascend_fixes.fusion._compiler import require_compiler
from ascend_fixes.fusion._workspace import tidily
from ascend_fixes.shapes import PaddingReport, check_padding

__all__ = [
    "assert_compiles_for_ascend",
    "assert_finite_in_float16",
    "assert_fusion_equivalent",
    "assert_padding_equivalent",
    "ragged_batches",
]


@st.composite
def ragged_batches(
    draw: st.DrawFn,
    columns: Mapping[str, st.SearchStrategy],
    dtypes: Mapping[str, Any] | None = None,
    features: Mapping[str, tuple[int, ...]] | None = None,
    mask: str | None = "mask",
    max_rows: int = 3,
    max_length: int = 6,
    pad: Any = 0,
) -> dict[str, np.ndarray]:
    """Batches of rows of different lengths, as a model receives them: by column, with a mask.

    Args:
        columns: for every ragged column a strategy for its elements.
        dtypes: of the columns; float32 where left out.
        features: the shape of one position of a column; a single value where left out.
        mask: the name of the added float32 mask [rows, length], 1 for content; None for no mask.
        max_rows, max_length: bounds, at least 1. The longest row fills the batch.
        pad: the value after a row's end.

    Returns:
        A strategy for dictionaries of arrays [rows, length, *features].
    """
    lengths = draw(st.lists(st.integers(1, max_length), min_size=1, max_size=max_rows), label="lengths")
    content = np.arange(max(lengths)) < np.asarray(lengths)[:, None]
    batch = {}
    for name, elements in columns.items():
        shape = (*content.shape, *(features or {}).get(name, ()))
        values = draw(arrays.arrays((dtypes or {}).get(name, np.float32), shape, elements=elements), label=name)
        values[~content] = pad
        batch[name] = values
    if mask is not None:
        batch[mask] = content.astype(np.float32)
    return batch


def assert_padding_equivalent(
    cell: nn.Cell,
    batch: Mapping[str, Any],
    axes: Mapping[str, Any],
    widths: Sequence[int | Mapping[str, int]] | None = None,
    pad: Mapping[str, Any] | None = None,
    gradients: bool = True,
    tolerance: float | None = None,
) -> PaddingReport:
    """Fail, naming the sub-cell, if padding ``batch`` further changes what ``cell`` makes of it.

    Args:
        cell, batch, axes, pad, gradients, tolerance: as in `ascend_fixes.shapes.check_padding`.
        widths: the sizes to pad to; by default one and three positions more than the longest ragged axis.

    Returns:
        The report, for its tolerance.

    Raises:
        AssertionError: with the whole report.
    """
    if widths is None:
        longest = max(
            np.shape(batch[name])[axis] for name, spec in axes.items() for axis in _numbers(spec) if name in batch
        )
        widths = [longest + 1, longest + 3]
    report = check_padding(cell, batch, axes, widths, pad=pad, gradients=gradients, tolerance=tolerance)
    if not report.ok:
        raise AssertionError(str(report))
    return report


def _numbers(spec: Any) -> tuple[int, ...]:
    """The axes in an int, several ints, or a mapping from them to names."""
    return (spec,) if isinstance(spec, int) else tuple(spec)


# --- fusion -------------------------------------------------------------------------------------


def assert_fusion_equivalent(cell: nn.Cell, *inputs: Any, grad: bool = True, rtol: float | None = None) -> None:
    """Fail, naming the output or gradient, if graph-kernel fusion changes what ``cell`` computes.

    The cell is compiled and run unfused and fused, twice each, in graph mode in this process; guards, safe cells and
    patches in force take part. The context and the cell's parameters end as they were. Errors that a rounding error of
    the inputs explains do not count, as in `ascend_fixes.fusion.bisect`.

    Args:
        cell, inputs: what to run.
        grad: compare the gradients by inputs and parameters as well; False for a cell that updates its
            parameters, such as a training step: then the updates are compared.
        rtol: the largest error that counts as right, relative to the array's largest value; by default 1e-3,
            and 2e-2 where an array is float16.

    Raises:
        AssertionError: the fused cell is off by more, or does not run.
        MissingCompilerError: fusion's compiler cannot be imported.
    """
    require_compiler()
    with _fusion(False):
        plain = evaluate(cell, inputs, grad=grad, nearby=True)[1]
    remedy = "fusion.bisect finds the operators to leave out, fusion.safe leaves them out"
    try:
        with _fusion(True):
            fused = evaluate(cell, inputs, grad=grad, nearby=False)[1]
    except (RuntimeError, ValueError, TypeError) as error:
        first = (str(error).strip().splitlines() or [""])[0]
        raise AssertionError(f"fused, {type(cell).__name__} does not run: {first}; {remedy}") from error
    reference, *again = (plain[run] for run in REPETITIONS)
    bound = tolerance(reference) if rtol is None else rtol
    unsteady, name = worst(reference, [], again)
    if unsteady > bound:
        raise AssertionError(
            f"{name} of {type(cell).__name__} differs from run to run without fusion, by {unsteady:.2g}; "
            "switch dropout off with set_train(False)"
        )
    off, name = worst(reference, [plain["up"], plain["down"]], [fused[run] for run in REPETITIONS])
    if not off <= bound:
        raise AssertionError(
            f"fused, {name} of {type(cell).__name__} is off by {off:.2g} of its largest value (allowed: "
            f"{bound:.2g}); {remedy}"
        )


def assert_finite_in_float16(
    cell: nn.Cell, *inputs: Any, grad: bool = True, fused: bool = False, policy: Policy | None = None
) -> None:
    """Fail, naming them, if outputs or gradients of ``cell`` in float16 are infinite or NaN.

    A cell with float16 parameters runs as it is, any other under `ascend_fixes.amp.autocast`. What is not
    finite in the cell as it is, in float32, is not counted.

    Args:
        cell, inputs: what to run, in graph mode in this process; context and parameters end as they were.
        grad: look at the gradients by inputs and parameters as well.
        fused: with graph-kernel fusion.
        policy: of the autocast; by default ``Policy()``.

    Raises:
        AssertionError: with the names of the arrays and how many of their elements are not finite.
        MissingCompilerError: ``fused``, and fusion's compiler cannot be imported.
    """
    if fused:
        require_compiler()
    lowered = any(parameter.dtype == mindspore.float16 for parameter in cell.get_parameters())
    with _fusion(False):
        plain = {} if lowered else evaluate(cell, inputs, grad=grad, nearby=False)[1][REPETITIONS[0]]
    with _fusion(fused):
        subject = cell if lowered else autocast(cell, policy)
        half = evaluate(subject, inputs, grad=grad, nearby=False)[1]
    lost = {}
    for run in REPETITIONS:
        for name, value in half[run].items():
            count = int((~np.isfinite(value) & np.isfinite(plain.get(name, 0.0))).sum())
            if count:
                lost[name] = f"{name} ({count} of {value.size})"
    if lost:
        raise AssertionError(
            f"{'fused, ' if fused else ''}in float16, {type(cell).__name__} gives infinity or NaN in: "
            f"{', '.join(lost.values())}; amp.Policy(fp32=[...]) keeps operators and cells in float32"
        )


# --- Ascend ------------------------------------------------------------------------------------


def assert_compiles_for_ascend(factory: str, kinds: Mapping[str, int] | None = None, **options: Any) -> None:
    """Fail if MindSpore's Ascend back end does not compile a cell, or with more kernels of a kind than allowed.

    A dry run, see `ascend_fixes.dryrun.cell`: nothing is executed.

    Args:
        factory: ``"package.module:function"``; the function returns the cell and its inputs.
        kinds: the most kernels allowed, by kind (aclnn, aclop, internal, host, hccl, fused), all graphs together.
        options: of `ascend_fixes.dryrun.cell`: soc, jit_level, ranks, timeout.

    Raises:
        AssertionError: it does not, with the report.
        UnknownNameError: there is no such kind.
    """
    for kind in kinds or {}:
        if kind not in KINDS:
            raise UnknownNameError(f"kinds has {kind!r}, which is none of {', '.join(KINDS)}{nearest(kind, KINDS)}")
    report = dryrun.cell(factory, **options)
    if report.verdict != "compiled":
        raise AssertionError(report.show())
    for kind, most in (kinds or {}).items():
        found = sum(graph.kernels[kind] for graph in report.graphs)
        if found > most:
            raise AssertionError(f"{found} kernels are {kind}, where at most {most} are allowed\n{report.show()}")


@contextlib.contextmanager
def _fusion(on: bool) -> Iterator[None]:
    """Graph mode, fused or not, without litter; the context is put back."""
    before = {name: mindspore.get_context(name) for name in ("mode", "enable_graph_kernel")}
    mindspore.set_context(mode=mindspore.GRAPH_MODE, enable_graph_kernel=on)
    try:
        with tidily():
            yield
    finally:
        mindspore.set_context(**before)
