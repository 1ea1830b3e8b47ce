"""A guard for ``dataset_sink_mode=True``: columns that cannot sink are fed from the host, and why is said.

Sinking copies a column to the device ahead of time, through a queue that was laid out
for one shape and a numeric dtype. With ragged or string columns users report GetNext
timeouts and silent hangs at the end of the data (defect H4). The guard looks through the
pipeline before `Model.train`, `Model.fit` or `Model.eval` sinks it. Telling whether a column
is ragged takes one pass over the data.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["SinkingWarning", "unsinkable"]


class SinkingWarning(UserWarning):
    """A pipeline that was to be sunk is fed from the host."""


def unsinkable(dataset: Any) -> str | None:
    """Why a `mindspore.dataset` pipeline cannot sink, naming the column; None where every batch has one shape and is numeric."""
    names = dataset.get_col_names()
    for name, dtype in zip(names, dataset.output_types()):
        if np.dtype(dtype).kind not in "biuf":
            return f"column {name!r} holds strings"
    for name, shape in zip(names, dataset.output_shapes(estimate=True)):
        if any(size is None for size in shape):
            return f"column {name!r} is ragged: its batches have shapes {tuple(shape)}, where None differs"
    return None
