"""F4: graph-kernel fusion needs a package that the wheel does not declare, and fails with ``Response is empty``.

The probe hides the package from the processes that MindSpore starts, so the
defect shows on a machine that has it.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from ascend_fixes.defects import Defect, Finding, Patch, first_line
from ascend_fixes.fusion._compiler import CHECK, PACKAGES, MissingCompilerError, missing_packages, why_empty

__all__ = ["DEFECT", "Fusible", "probe"]

_HIDE = """
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name in {names!r}:
            raise ModuleNotFoundError("No module named " + repr(name), name=name)

sys.meta_path.insert(0, Hidden())
"""


class Fusible(nn.Cell):
    """Two elementwise operators, the least that fuses."""

    def construct(self, x: Tensor) -> Tensor:
        """Any float32 tensor."""
        return ops.exp(x * 2.0)


def probe() -> Finding:
    """Compile with fusion where the package cannot be imported."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "sitecustomize.py").write_text(_HIDE.format(names=list(PACKAGES)), encoding="utf-8")
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (folder, os.environ.get("PYTHONPATH"))))
        ms.set_context(mode=ms.GRAPH_MODE, enable_graph_kernel=True)
        try:
            Fusible()(Tensor(np.ones((4, 4), np.float32)))
        except MissingCompilerError as error:
            return Finding(False, first_line(error))
        except RuntimeError as error:
            if "Response is empty" not in str(error):
                raise
            return Finding(True, f"{first_line(error)} {why_empty(error)}")
    return Finding(False, f"without {', '.join(PACKAGES)}: compiled")


DEFECT = Defect(
    id="F4",
    family="fusion",
    symptom="graph-kernel fusion fails with `Response is empty` where the package decorator is not installed",
    symptom_zh="没有安装 decorator 包时，图算融合报 `Response is empty`",
    error="RuntimeError: Response is empty.",
    cause="the bundled compiler (AKG) imports decorator in a process of its own; the wheel does not declare it, and "
    "the process's ModuleNotFoundError is printed but not reported",
    seen="on 2.10.0 hiding attrs and sympy, which CANN's compiler needs, broke nothing on CPU. Compiled for Ascend "
    "(dry run), 2.10.0: all fused kernels are made by DVM, a library of the wheel, and none by AKG",
    upstream="none found",
    removal="the wheel declares decorator, or the error names it",
    probe=probe,
    patch=Patch(hooks=(CHECK,), backends=("CPU", "GPU")),
    elsewhere=lambda: (
        "" if missing_packages() else f"{', '.join(PACKAGES)} is installed: a cast breaks the compiler, F6"
    ),
)
