"""Keeping operators out of graph-kernel fusion, for one compilation at a time.

MindSpore reads one flag string per process, so a guard cannot be an argument of
a cell. What guards, safe cells and patches ask for is therefore collected when a
compilation begins, merged with the user's own flags, set for that compilation
and taken back after it. The gradient's operators are made inside that same
compilation, so they are covered; a single node of the gradient cannot be named,
its operator type can.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, TypeVar, overload

from mindspore import nn

from ascend_fixes import _mindspore, compiling
from ascend_fixes.compiling import Compilation, Hook
from ascend_fixes.errors import AscendFixesError, first_line, warn
from ascend_fixes.fusion._compiler import FusionCompileError, why_empty
from ascend_fixes.fusion._flags import Flag, exclusions, merge, parse, render
from ascend_fixes.fusion._fusing import ENVIRONMENT, is_fusing, switch, users_flags
from ascend_fixes.fusion._learned import known_bad, learned
from ascend_fixes.fusion._reach import marks

__all__ = ["FlagReport", "GuardTypeError", "LateGuardWarning", "flags", "guard", "keeping_out", "safe"]

MARK = "fusion_keep_out"  # the attribute that `safe` leaves on a cell, a class or a function
_KNOWN_BAD = "known bad"  # the mark of a `safe` without a list: what is known bad when the graph is compiled
_SAFE = object()  # the token of the hook that `safe` needs
_guards: ContextVar[tuple[Flag, ...]] = ContextVar("fusion_guards", default=())
_left_out: dict[
    str, frozenset[tuple[str, str]]
] = {}  # by graph of this process: what was asked for when it was compiled

Target = TypeVar("Target")


class GuardTypeError(AscendFixesError, TypeError):
    """`safe` was given something that MindSpore does not compile."""


class LateGuardWarning(UserWarning):
    """A guard or `safe` does not act on a graph, which was compiled before."""


@dataclass(frozen=True)
class FlagReport:
    """The flags that the next compilation will see.

    Attributes:
        flags: every flag with who asked for it.
        enabled: is anything fused at all?
        reason: what switches fusion on, or why it is off.
    """

    flags: tuple[Flag, ...]
    enabled: bool
    reason: str

    @property
    def text(self) -> str:
        """The flag string, ready to be pasted."""
        return render(self.flags)

    def __str__(self) -> str:
        lines = [f"fusion is {'on' if self.enabled else 'off'}: {self.reason}"]
        lines += [
            f"--{flag.key}{'=' + value if value else ''}   {origin}"
            for flag in self.flags
            for value, origin in zip(flag.values or ("",), flag.origins)
        ]
        return "\n".join(lines)


def flags(root: Any = None) -> FlagReport:
    """What the graph kernel is told, and by whom.

    Args:
        root: a cell or function; what its safe parts ask for is included.

    Raises:
        FlagConflictError, FlagFileError: as a compilation would.
    """
    asked = _asked((root,))
    merged = merge([*users_flags({}), *asked]) if asked else _in_platform_order()
    return FlagReport(merged, *switch(merged, {}))


@contextlib.contextmanager
def guard(*operators: str) -> Iterator[FlagReport]:
    """Keep operators out of fusion in every graph that this thread compiles inside the ``with`` block.

    A graph compiled inside keeps its guard afterwards. One compiled before without what the guard asks for is not
    compiled again; where the block calls it, a `LateGuardWarning` says so.

    Args:
        operators: a bare name, ``"Softmax"``, keeps an operator from being fused and from being expanded into
            smaller ones that fuse. A prefix names one of the two, or something else to leave out:
            ``cluster:Transpose``, ``expand:Softmax``, ``packet:Reshape``, ``pass:name``, ``pattern:name``.

    Raises:
        UnknownNameError: no operator has this name; the message offers the nearest.
        FlagConflictError: the user's flags ask for what the guard excludes.
    """
    asked = exclusions(operators, "guard")
    merge([*users_flags({}), *_guards.get(), *asked])
    token = object()
    compiling.hold(token, {"fusion.guard": (_FLAGS, _NOTICE)})
    before = _guards.set(_guards.get() + asked)
    try:
        yield flags()
    finally:
        _guards.reset(before)
        compiling.release(token)


@overload
def safe(cell_or_class: Target, keep_out: Iterable[str] | None = None) -> Target: ...
@overload
def safe(cell_or_class: None = None, keep_out: Iterable[str] | None = None) -> Callable[[Target], Target]: ...
def safe(cell_or_class: Any = None, keep_out: Iterable[str] | None = None) -> Any:
    """Keep operators out of fusion in every graph that contains this cell, its gradient included.

    The whole graph leaves them out, for MindSpore takes operator types only. Use as a wrapper, ``safe(cell)``,
    or as a decorator, ``@safe`` or ``@safe(keep_out=["Softmax"])``; the cell, class or function itself is
    returned, marked, so that its source can be read and its type stays. Mark it before its first call: graphs that
    a marked cell has compiled already stay as they are, with a `LateGuardWarning`.

    Args:
        cell_or_class: a cell, a class of cells, or a function that ``mindspore.jit`` compiles.
        keep_out: as `guard` takes them; by default what was seen to go wrong on this backend and version
            (`quirks`), as known when the graph is compiled.

    Raises:
        UnknownNameError: no operator has such a name.
        GuardTypeError: it is neither a cell, a class of cells nor a function.
    """
    if cell_or_class is None:
        return functools.partial(safe, keep_out=keep_out)
    if keep_out is not None:
        exclusions(keep_out, "safe")
    wanted = (_KNOWN_BAD,) if keep_out is None else tuple(keep_out)
    kind = cell_or_class if isinstance(cell_or_class, type) else type(cell_or_class)
    if not issubclass(kind, nn.Cell) and not hasattr(cell_or_class, "__code__"):
        raise GuardTypeError(
            f"cell_or_class must be a cell, a class of cells or a function, not {cell_or_class!r}; "
            "mark the function before mindspore.jit wraps it"
        )
    if isinstance(cell_or_class, nn.Cell) and _mindspore.compiled_phases(cell_or_class):
        warn(
            f"{kind.__name__} has compiled graphs already, and fusion.safe does not change them; mark it before its "
            "first call",
            LateGuardWarning,
        )
    setattr(cell_or_class, MARK, tuple(getattr(cell_or_class, MARK, ())) + wanted)
    compiling.hold(_SAFE, {"fusion.safe": (_FLAGS,)})
    return cell_or_class


def keeping_out(*operators: str) -> Hook:
    """The hook of a cure: while it is in force, every graph that fuses leaves these operators out.

    What searches on this machine have found (`learn`) is left out with them.

    Args:
        operators: as `guard` takes them.
    """
    return replace(_FLAGS, does=f"keeps {', '.join(operators)} out of fusion", asks=operators)


# --- what is asked for ------------------------------------------------------------------------


def _asked(roots: Iterable[Any]) -> list[Flag]:
    """What guards, applied patches and the safe parts of these roots ask for."""
    asked = list(_guards.get())
    cures = {owner: hook.asks for _, owner, hook in compiling.held("flags") if hook.asks}
    for owner, operators in cures.items():
        asked += exclusions(operators, f"patch {owner}")
    for quirk in learned() if cures else ():
        asked += exclusions(quirk.keep_out, f"patch {quirk.source}")
    for owner, wanted in marks(roots, MARK):
        names = [name for item in wanted for name in (known_bad() if item == _KNOWN_BAD else (item,))]
        asked += exclusions(names, f"safe {owner}")
    return asked


def _in_platform_order() -> tuple[Flag, ...]:
    """What MindSpore reads where nobody guards: the environment variable hides `set_context`."""
    if ENVIRONMENT in os.environ:
        return merge(parse(os.environ[ENVIRONMENT], ENVIRONMENT))
    return merge(parse(_mindspore.graph_kernel_flags(), "set_context"))


# --- one compilation --------------------------------------------------------------------------


@contextlib.contextmanager
def _in_force(compilation: Compilation) -> Iterator[None]:
    """The merged flags, for one compilation."""
    options = compilation.options
    if not is_fusing(options):
        yield
        return
    asked = _asked((compilation.subject,))
    _left_out[compilation.phase] = _members(asked)
    restore = _write(render(merge([*users_flags(options), *asked])), options) if asked else None
    try:
        yield
    except RuntimeError as error:
        told = why_empty(error, without_casts=("disable_cluster_ops", "Cast") in _left_out[compilation.phase])
        if told:
            _, _, line = first_line(error, "Response is empty").partition(": ")
            raise FusionCompileError(f"{line.rstrip('.')}: {told}") from error
        raise
    finally:
        if restore is not None:
            restore()


def _write(text: str, options: Mapping[str, Any]) -> Callable[[], None]:
    """Set the flag string where MindSpore looks first; returns what takes it back."""
    before = os.environ.get(ENVIRONMENT)
    if before is None and not options.get("graph_kernel_flags"):
        in_context = _mindspore.graph_kernel_flags()
        _mindspore.set_graph_kernel_flags(text)
        return functools.partial(_mindspore.set_graph_kernel_flags, in_context)
    os.environ[ENVIRONMENT] = text
    return functools.partial(_restore_environment, before)


def _restore_environment(before: str | None) -> None:
    if before is None:
        os.environ.pop(ENVIRONMENT, None)
    else:
        os.environ[ENVIRONMENT] = before


# --- a guard that comes too late ----------------------------------------------------------------


def _members(flags: Iterable[Flag]) -> frozenset[tuple[str, str]]:
    return frozenset((flag.key, value) for flag in flags for value in flag.values)


@contextlib.contextmanager
def _noticed(compilation: Compilation) -> Iterator[None]:
    """Warn where a call inside a guard runs a graph that was compiled before it, without what it asks for."""
    missing = _members(_guards.get()) - _left_out.get(compilation.phase, frozenset())
    if missing and is_fusing(compilation.options):
        warn(
            f"a graph of {compilation.name} was compiled before this guard, which "
            f"does not act on it ({', '.join(sorted({name for _, name in missing}))} may be fused); enter the guard before "
            "the first call",
            LateGuardWarning,
        )
    yield


_FLAGS = Hook("flags", _in_force, "keeps what is known bad out of fusion")
_NOTICE = Hook("notice", _noticed, place="found")
