"""H4: data sinking with ragged or string columns times out or hangs on Ascend.

On CPU nothing sinks: ``dataset_sink_mode=True`` feeds as usual there. The probe
runs the two scenarios as far as they go. The patch looks at the columns first, says
why they do not sink, and feeds them from the host; this much runs on every backend.
"""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Iterator
from typing import Any, Callable

import mindspore as ms
import numpy as np
from mindspore import Tensor, dataset, nn, ops

from ascend_fixes.defects import Defect, Finding, Patch, Tool, first_line, patience
from ascend_fixes.host import feed
from ascend_fixes.host._sinking import SinkingWarning, unsinkable
from ascend_fixes.patching import Replacement

__all__ = ["DEFECT", "Summed", "probe", "probe_feed"]

_SWITCHES = {
    "train": {"train_dataset": "dataset_sink_mode"},
    "fit": {"train_dataset": "dataset_sink_mode", "valid_dataset": "valid_dataset_sink_mode"},
    "eval": {"valid_dataset": "dataset_sink_mode"},
}


class Summed(nn.Cell):
    """A loss with one parameter, for a tensor of any shape."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = ms.Parameter(np.ones(1, np.float32), name="weight")

    def construct(self, x: Tensor) -> Tensor:
        """The weighted sum."""
        return (ops.sum(x) * self.weight).sum()


def _ragged() -> Iterator[tuple[np.ndarray]]:
    for length in (2, 3, 5):
        yield (np.ones((1, length), np.float32),)


def _strings() -> Iterator[tuple[np.ndarray]]:
    for word in ("a", "b"):
        yield (np.array(word),)


def _train(rows: Callable[[], Iterator[Any]]) -> str:
    net = Summed()
    model = ms.Model(net, optimizer=nn.SGD(net.trainable_params(), 0.1))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            model.train(1, dataset.GeneratorDataset(rows, ["x"], shuffle=False), dataset_sink_mode=True)
            told = "trained"
        except (TypeError, ValueError, RuntimeError) as error:
            told = first_line(error)
    kept = any(issubclass(warning.category, SinkingWarning) for warning in caught)
    return f"{told} (kept from sinking, with the reason)" if kept else told


def probe() -> Finding:
    """Ask for sinking with a ragged column and with a string column."""
    ms.set_context(mode=ms.GRAPH_MODE)
    ragged, strings = _train(_ragged), _train(_strings)
    return Finding(
        None, f"needs a device; on CPU, which does not sink: ragged column {ragged}, string column: {strings}"
    )


def probe_feed() -> Finding:
    """Feed both from the host: a step for every ragged row, and the strings as they are."""
    ms.set_context(mode=ms.GRAPH_MODE)
    net = Summed()
    sums = [
        float(net(row)) for (row,) in feed(dataset.GeneratorDataset(_ragged, ["x"], shuffle=False), timeout=patience())
    ]
    words = [
        str(word) for (word,) in feed(dataset.GeneratorDataset(_strings, ["x"], shuffle=False), timeout=patience())
    ]
    return Finding(sums != [2, 3, 5] or words != ["a", "b"], f"fed without sinking: sums {sums}, strings {words}")


# --- the cure --------------------------------------------------------------------------------------


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


DEFECT = Defect(
    id="H4",
    family="host",
    symptom="data sinking with ragged or string columns: GetNext times out, "
    "or training hangs silently at the end of the data",
    symptom_zh="下沉变长列或字符串列：GetNext 超时，或者训练在数据结尾无声地挂住",
    error="For 'GetNext', get data timeout",
    cause="reported: the device waits for data of another shape, of a type it cannot hold, or for data that has ended",
    seen="reported by Ascend users; CPU does not sink",
    upstream="https://github.com/mindspore-ai/mindspore/issues/279, "
    "https://github.com/mindspore-lab/mindocr/issues/615, "
    "https://github.com/mindspore-lab/mindaudio/issues/163",
    removal="a run on a device shows that sinking such columns raises a clear error or works",
    probe=probe,
    patch=Patch(replacements=tuple(Replacement(f"mindspore.train:Model.{name}", _guarded) for name in _SWITCHES)),
    tool=Tool("host.feed", probe_feed),
    needs_device=True,
)
