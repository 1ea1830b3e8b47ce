"""S5: a Python int argument compiles a graph for every value, and nothing says so.

The value is part of the graph, so the number of graphs cannot be cured from outside.
What can be is the silence: under the patch a cell that passes a few graphs warns
once, names the argument with its old and new value, and says what to pass instead.
"""

from __future__ import annotations

import warnings

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from ascend_fixes.defects import Defect, Finding, Patch
from ascend_fixes.shapes._graphs import RECORD, WARN, WARN_AFTER, RecompilationWarning


class Scaled(nn.Cell):
    """Takes a Python int beside its Tensor."""

    def construct(self, x, step):
        return x * step


def probe() -> Finding:
    """One shape, a few values of the int: present if each made a graph without a word."""
    ms.set_context(mode=ms.GRAPH_MODE)
    cell, x = Scaled(), Tensor(np.ones((2, 3)), ms.float32)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for step in range(1, WARN_AFTER + 2):
            cell(x, step)
    said = [str(warning.message) for warning in caught if issubclass(warning.category, RecompilationWarning)]
    compiled = len(cell.compile_cache)
    what = said[0] if said else "and no warning"
    return Finding(compiled > WARN_AFTER and not said, f"{WARN_AFTER + 1} values, {compiled} graphs; {what}")


DEFECT = Defect(
    id="S5",
    family="shapes",
    symptom="a Python int argument silently compiles a graph per value",
    symptom_zh="Python 整数参数每换一个值就编译一张图，没有任何提示",
    error="",
    cause=(
        "Python scalars are constants of the graph. A step counter, a length or a learning rate passed as a number "
        "therefore makes a new graph at every call. The patch counts the graphs of every cell and jit function and "
        f"warns once for each, after {WARN_AFTER}, naming the argument (ragged Tensors included) and the remedy."
    ),
    seen="documented by the vendor, reported by users",
    upstream="https://discuss.mindspore.cn topic 286",
    removal="when MindSpore itself says which argument made it compile again",
    probe=probe,
    patch=Patch(hooks=(WARN, RECORD)),
)
