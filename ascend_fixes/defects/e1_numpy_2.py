"""E1: NumPy 2 breaks MindSpore's wheel at the first operation with a Python scalar.

The wheel is compiled against NumPy 1 but declares ``numpy>=1.25.0`` without an
upper bound, so a plain ``pip install mindspore`` brings NumPy 2. The cure is a
bound in this package's metadata, and an `ImportError` with the remedy from
``import ascend_fixes`` where a NumPy 2 is met all the same.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

import mindspore
import numpy as np

from ascend_fixes.defects import Defect, Finding, Tool, first_line

_POSING_AS_NUMPY_2 = (
    "import sys, types; sys.modules['numpy'] = types.SimpleNamespace(__version__='2.0.0'); import ascend_fixes"
)


def probe() -> Finding:
    """Adds a Python number to a scalar Tensor."""
    try:
        total = mindspore.Tensor(1.0, mindspore.float32) + 1
    except SystemError as error:
        return Finding(True, f"NumPy {np.__version__}: {first_line(error)}")
    return Finding(False, f"NumPy {np.__version__}: 1.0 + 1 = {float(total)}")


def probe_import() -> Finding:
    """Imports this package beside a module that claims to be NumPy 2."""
    with tempfile.TemporaryDirectory() as folder:
        run = subprocess.run(
            [sys.executable, "-c", _POSING_AS_NUMPY_2], cwd=folder, env=os.environ, capture_output=True, text=True
        )
    last = (run.stderr.strip().splitlines() or [""])[-1]
    return Finding("pip install 'numpy<2'" not in last, last)


DEFECT = Defect(
    id="E1",
    family="environment",
    symptom="NumPy 2 breaks the wheel at the first scalar operation",
    symptom_zh="NumPy 2 让安装包在第一次标量运算时就失败",
    error=(
        "SystemError: <built-in method pyboost_add_ext of PyCapsule object at 0x...> "
        "returned a result with an exception set\n"
        "A module that was compiled using NumPy 1.x cannot be run in NumPy 2.3.5 as it may crash.\n"
        "Numpy init failed."
    ),
    cause="the wheel is compiled against NumPy 1's C interface, and its metadata allows any NumPy from 1.25 on",
    seen="MindSpore 2.10.0, CPU, PyPI wheel, with NumPy 2.3.5",
    upstream="none found",
    removal="a MindSpore wheel compiled against NumPy 2",
    probe=probe,
    tool=Tool("import ascend_fixes", probe_import),
)
