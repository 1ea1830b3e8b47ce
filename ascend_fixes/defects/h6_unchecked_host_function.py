"""H6: a host function that returns a short array is read past its end by ``ops.Custom(func_type="pyfunc")``."""

from __future__ import annotations

from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, ops

from ascend_fixes.defects import Defect, Finding, Tool, first_line
from ascend_fixes.host import CallbackError, callback

__all__ = ["DEFECT", "probe", "probe_callback"]

_ANNOUNCED = 3


def _two(x: np.ndarray) -> np.ndarray:
    return x[:2]


def _same(shape_or_dtype: Any) -> Any:
    return shape_or_dtype


def probe() -> Finding:
    """Announce three numbers, return two."""
    ms.set_context(mode=ms.GRAPH_MODE)
    own = ops.Custom(_two, _same, _same, func_type="pyfunc")
    try:
        found = own(Tensor(np.arange(_ANNOUNCED, dtype=np.float32))).asnumpy()
    except (RuntimeError, ValueError, TypeError) as error:
        return Finding(False, first_line(error))
    return Finding(True, f"2 numbers returned, {found.size} came out, without an error")


def probe_callback() -> Finding:
    """The same with `host.callback`: it must refuse, and name both shapes."""
    ms.set_context(mode=ms.GRAPH_MODE)
    try:
        callback(_two, _same, _same)(Tensor(np.arange(_ANNOUNCED, dtype=np.float32)))
    except CallbackError as error:
        named = "(2,)" in str(error) and "(3,)" in str(error)
        return Finding(not named, first_line(error))
    return Finding(True, "no error")


DEFECT = Defect(
    id="H6",
    family="host",
    symptom="a Python function in a graph (ops.Custom, pyfunc) that returns a short array gives memory that is not its own",
    symptom_zh="图里的 Python 函数（ops.Custom，pyfunc）返回的数组太短时，得到的是不属于它的内存",
    error="",
    cause="what the function returns is copied in the announced size, whatever its own size is",
    seen="",
    upstream="none found",
    removal="ops.Custom compares the returned array with the announced shape and dtype",
    probe=probe,
    tool=Tool("host.callback", probe_callback),
)
