"""A guard for ``dataset_sink_mode=True``: columns that cannot sink are fed from the host, and why is said.

Sinking copies a column to the device ahead of time, through a queue that was laid out
for one shape and a numeric dtype. With ragged or string columns users report GetNext
timeouts and silent hangs at the end of the data (defect H4). The guard looks through the
pipeline before `Model.train`, `Model.fit` or `Model.eval` sinks it. Telling whether a column
is ragged takes one pass over the data.
"""

from __future__ import annotations

import functools
import inspect
import warnings
from typing import Any, Callable

import numpy as np

from ascend_fixes.patching import Replacement

__all__ = ["SinkingWarning", "guard_replacements", "unsinkable"]

_SWITCHES = {
    "train": {"train_dataset": "dataset_sink_mode"},
    "fit": {"train_dataset": "dataset_sink_mode", "valid_dataset": "valid_dataset_sink_mode"},
    "eval": {"valid_dataset": "dataset_sink_mode"},
}


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


def guard_replacements() -> tuple[Replacement, ...]:
    """`Model.train`, `fit` and `eval` that look before they sink."""
    return tuple(Replacement(f"mindspore.train:Model.{name}", _guarded) for name in _SWITCHES)


def _guarded(original: Callable[..., Any]) -> Callable[..., Any]:
    signature = inspect.signature(original)
    name = original.__name__

    @functools.wraps(original)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        call = signature.bind(*args, **kwargs)
        call.apply_defaults()
        for data, switch in _SWITCHES[name].items():
            given = call.arguments
            reason = unsinkable(given[data]) if given[switch] is True and given[data] is not None else None
            if reason:
                ignored = ", and sink_size is not used" if given.get("sink_size", -1) != -1 else ""
                warnings.warn(
                    f"Model.{name}({switch}=True) would sink {data}, but {reason}; sinking such data times out or hangs "
                    f"on a device, so it is fed from the host{ignored}. Bring the column to one shape and dtype, or pass "
                    f"{switch}=False",
                    SinkingWarning,
                    stacklevel=2,
                )
                given[switch] = False
        return original(*call.args, **call.kwargs)

    return guarded
