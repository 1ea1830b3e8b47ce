"""For users' own tests: ragged batches to try a cell on, and the assertion that padding does not change it.

    from ascend_fixes.testing import assert_padding_equivalent, ragged_batches
    from hypothesis import given, strategies as st

    @given(ragged_batches({"ids": st.integers(1, 99)}, dtypes={"ids": np.int32}))
    def test_my_encoder(batch):
        assert_padding_equivalent(encoder, batch, axes={"ids": 1, "mask": 1}, pad={"mask": 0})

A failure shrinks to the smallest batch that shows it, and names the sub-cell where the
padding gets in. Needs hypothesis (the extra ``test``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Optional, Union

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from mindspore import nn

from ascend_fixes.shapes import PaddingReport, check_padding

__all__ = ["assert_padding_equivalent", "ragged_batches"]


@st.composite
def ragged_batches(
    draw: st.DrawFn,
    columns: Mapping[str, st.SearchStrategy],
    dtypes: Optional[Mapping[str, Any]] = None,
    features: Optional[Mapping[str, tuple[int, ...]]] = None,
    mask: Optional[str] = "mask",
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
    widths: Optional[Sequence[Union[int, Mapping[str, int]]]] = None,
    pad: Optional[Mapping[str, Any]] = None,
    gradients: bool = True,
    tolerance: Optional[float] = None,
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
