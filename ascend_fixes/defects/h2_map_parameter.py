"""H2: ``MapParameter``, MindSpore's hash table as a parameter, has no kernel on CPU, and on Ascend none that is selected."""

from __future__ import annotations

import functools
from typing import Any, Callable

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn
from mindspore.experimental import MapParameter

from ascend_fixes import _mindspore
from ascend_fixes.defects import Defect, Finding, OnAscend, Patch, Tool, first_line
from ascend_fixes.defects._compiled import not_refused
from ascend_fixes.host import Embedding, HostMap, Table
from ascend_fixes.patching import Replacement

__all__ = ["DEFECT", "Lookup", "OnHost", "probe", "probe_host"]

_WITHOUT_KERNEL = ("CPU", "Ascend")  # backends without MapTensorGet, MapTensorPut and MapTensorErase


class Lookup(nn.Cell):
    """A table from int32 keys to rows of 4: keys ``(n,)`` to ``(n, 4)`` float32, ones for an unknown key."""

    def __init__(self) -> None:
        super().__init__()
        self.table = MapParameter(key_dtype=ms.int32, value_dtype=ms.float32, value_shape=(4,), default_value="ones")

    def construct(self, keys: Tensor) -> Tensor:
        """The rows of the keys."""
        return self.table[keys]


def lookup() -> tuple[nn.Cell, Tensor]:
    """The look-up and keys."""
    return Lookup(), Tensor(np.array([3, 1, 3, 0]), ms.int32)


def probe() -> Finding:
    """Look keys up."""
    ms.set_context(mode=ms.GRAPH_MODE)
    try:
        rows = Lookup()(Tensor(np.array([3, 1, 3, 0]), ms.int32)).asnumpy()
    except RuntimeError as error:
        if "Unsupported op" not in str(error):
            raise
        return Finding(True, first_line(error, "Unsupported op"))
    return Finding(not (rows == 1).all(), f"runs; rows of unknown keys {rows.min():g} to {rows.max():g}, 1 asked for")


class OnHost(nn.Cell):
    """The same rows, kept on the host: ids ``(n,)`` to ``(n, 4)`` float32."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.embedding = Embedding(rows, 4, init=1.0, optimizer="sgd")

    def construct(self, ids: Tensor) -> Tensor:
        """The rows of the ids."""
        return self.embedding(ids)


def probe_host() -> Finding:
    """Number the keys with a `Table` that grows, and look their rows up in an `Embedding`."""
    ms.set_context(mode=ms.GRAPH_MODE)
    ids = Table(np.empty(0, np.int64)).add([3, 1, 3, 0])
    rows = OnHost(8)(Tensor(ids)).asnumpy()
    right = ids.tolist() == [0, 1, 0, 2] and rows.shape == (4, 4) and bool((rows == 1).all())
    return Finding(not right, f"runs; ids {ids.tolist()}, rows {rows.min():g} to {rows.max():g}, 1 asked for")


# --- the cure --------------------------------------------------------------------------------------


def _on_host(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def __new__(cls: type, *args: Any, **kwargs: Any) -> Any:
        if _mindspore.backend() in _WITHOUT_KERNEL:
            return HostMap(*args, **kwargs)
        return original(cls, *args, **kwargs)

    return __new__


DEFECT = Defect(
    id="H2",
    family="host",
    symptom="MapParameter, a hash table as a parameter, does not run on CPU or compile for Ascend: no kernel for MapTensorGet",
    symptom_zh="MapParameter（作为参数的散列表）在 CPU 上不能运行，为昇腾也编译不了：MapTensorGet 没有 kernel",
    error="RuntimeError: Unsupported op [MapTensorGet] on CPU, Please confirm whether the device target setting is "
    "correct",
    cause="the operators of MapTensor have no CPU kernel; on Ascend the selection of kernels finds none",
    seen="2.7.0 runs it. Compiled for Ascend (dry run), 2.10.0: 'Ascend "
    "operator selection failed'; under the patch it compiles",
    upstream="none found",
    removal="MapTensorGet, MapTensorPut and MapTensorErase get CPU kernels",
    probe=probe,
    patch=Patch(
        replacements=(Replacement("mindspore.experimental:MapParameter.__new__", _on_host),),
        since=(2, 7, 1),
        backends=_WITHOUT_KERNEL,
    ),
    tool=Tool("host.Table, host.Embedding", probe_host),
    ascend=OnAscend(lookup, not_refused),
)
