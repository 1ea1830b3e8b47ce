"""Fusion on CPU imports the package decorator, which the wheel does not declare, and says `Response is empty` without it.

Wanted: declared, or named in the error. The package is hidden here from the processes that MindSpore starts.
"""

import os
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import nn, ops

Path("hidden").mkdir(exist_ok=True)
Path("hidden/decorator.py").write_text("raise ModuleNotFoundError(\"No module named 'decorator'\", name='decorator')\n")
os.environ["PYTHONPATH"] = os.path.abspath("hidden")


class Fusible(nn.Cell):
    def construct(self, x):
        return ops.exp(x * 2.0)


ms.set_context(mode=ms.GRAPH_MODE, enable_graph_kernel=True)
print(Fusible()(ms.Tensor(np.ones((4, 4), np.float32))))
