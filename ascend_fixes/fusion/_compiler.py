"""The package that the graph kernel's compiler imports and MindSpore's wheel does not declare.

The compiler, AKG, runs in a Python process of its own, so such a process is
asked what it can import. Without ``decorator`` MindSpore says ``Response is
empty``. (CANN's own compiler on Ascend wants attrs and sympy besides; nothing
in the wheels of 2.7 to 2.10 imports them.)
"""

from __future__ import annotations

import contextlib
import functools
import os
import subprocess
import sys
from collections.abc import Iterator

from ascend_fixes import _mindspore
from ascend_fixes.compiling import Compilation, Hook
from ascend_fixes.errors import AscendFixesError
from ascend_fixes.fusion._fusing import is_fusing

__all__ = [
    "CHECK",
    "PACKAGES",
    "FusionCompileError",
    "FusionUnsupportedError",
    "MissingCompilerError",
    "missing_packages",
    "require_compiler",
    "why_empty",
]

PACKAGES = {"decorator": "decorator"}  # module: package
_LOOK = """
import importlib.util, sys
for name in sys.argv[1:]:
    try:
        found = importlib.util.find_spec(name) is not None
    except ImportError:
        found = False
    if not found:
        print(name)
"""


class MissingCompilerError(AscendFixesError, ImportError):
    """Fusion is switched on, and its compiler cannot be imported."""


class FusionUnsupportedError(AscendFixesError, RuntimeError):
    """This MindSpore cannot fuse on this backend."""


class FusionCompileError(AscendFixesError, RuntimeError):
    """The compiler of fused kernels gave no answer; the message says why."""


def why_empty(error: BaseException, without_casts: bool = False) -> str:
    """What is behind MindSpore's ``Response is empty`` on this machine; "" for another error.

    Two defects end in these words: F4, a package that the compiler imports is missing, and F6, a fused cast.

    Args:
        error: what a compilation raised.
        without_casts: whether casts were kept out of fusion.
    """
    if "Response is empty" not in str(error):
        return ""
    missing = missing_packages()
    if missing:
        return f"the compiler of fused kernels lacks {', '.join(missing)} (F4); pip install {' '.join(missing)}"
    if without_casts:
        return (
            "its packages are installed and no cast is fused: another operator breaks it; fusion.bisect finds out which"
        )
    return 'its packages are installed, so a fused cast breaks it (F6); fusion.guard("cluster:Cast") or patch("F6")'


def missing_packages() -> tuple[str, ...]:
    """The packages that a Python process started from this one, with its present environment, cannot import."""
    return _missing(os.environ.get("PYTHONPATH", ""))


def require_compiler() -> None:
    """Raise unless the graph kernel's compiler can be imported.

    Raises:
        FusionUnsupportedError: this wheel brings no compiler for this backend, as on macOS and Windows.
        MissingCompilerError: names the packages and the command that installs them.
    """
    if not _mindspore.has_fusion_compiler():
        raise FusionUnsupportedError(
            f"graph-kernel fusion is asked for, but MindSpore {_mindspore.version_text()} for {sys.platform} brings no "
            f"compiler for {_mindspore.backend()}; run without it: set_context(enable_graph_kernel=False)"
        )
    missing = missing_packages()
    if missing:
        raise MissingCompilerError(
            f"graph-kernel fusion is on, but its compiler needs packages that are not installed: {', '.join(missing)}; "
            f"install them with: pip install {' '.join(missing)}"
        )


@functools.lru_cache(maxsize=8)
def _missing(search_path: str) -> tuple[str, ...]:
    answer = subprocess.run(
        [sys.executable, "-c", _LOOK, *PACKAGES], check=True, capture_output=True, text=True, timeout=60
    )
    return tuple(PACKAGES[name] for name in answer.stdout.split())


@contextlib.contextmanager
def _checked(compilation: Compilation) -> Iterator[None]:
    """Ask for the compiler before any compilation that fuses."""
    if is_fusing(compilation.options):
        require_compiler()
    yield


CHECK = Hook("check", _checked, "asks for the compiler of fused kernels before a compilation that fuses")
