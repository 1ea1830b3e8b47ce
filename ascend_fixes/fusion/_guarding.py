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
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar, overload

import mindspore
from mindspore import nn

from ascend_fixes import _mindspore, patching
from ascend_fixes.errors import AscendFixesError, UnknownNameError, nearest
from ascend_fixes.fusion._flags import Flag, merge, opt_level, parse, render
from ascend_fixes.fusion._quirks import LEARNED, known_bad, quirks
from ascend_fixes.fusion._reach import marks
from ascend_fixes.patching import Replacement

__all__ = [
    "FlagReport",
    "GuardTypeError",
    "LateGuardWarning",
    "compile_replacements",
    "flags",
    "guard",
    "is_fusing",
    "safe",
]

ENVIRONMENT = "MS_DEV_GRAPH_KERNEL_FLAGS"
MARK = "fusion_keep_out"  # the attribute that `safe` leaves on a cell, a class or a function
_KNOWN_BAD = "known bad"  # the mark of a `safe` without a list: what is known bad when the graph is compiled
_KEYS = {
    "cluster": "disable_cluster_ops",
    "expand": "disable_expand_ops",
    "packet": "disable_packet_ops",
    "pass": "disable_pass",
    "pattern": "disable_fusion_pattern",
}
_SAFE = object()  # the ledger's token for the hook that `safe` needs
_guards: ContextVar[tuple[Flag, ...]] = ContextVar("fusion_guards", default=())
_compiling = threading.RLock()  # the flag string belongs to the process
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
    merged = merge([*_users({}), *asked]) if asked else _in_platform_order()
    return FlagReport(merged, *_switch(merged, {}))


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
    merge([*_users({}), *_guards.get(), *asked])
    token = object()
    patching.ledger.hold(token, {"fusion.guard": (*compile_replacements(), *_notice_replacements())})
    before = _guards.set(_guards.get() + asked)
    try:
        yield flags()
    finally:
        _guards.reset(before)
        patching.ledger.release(token)


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
        warnings.warn(
            f"{kind.__name__} has compiled graphs already, and fusion.safe does not change them; mark it before its "
            "first call",
            LateGuardWarning,
            stacklevel=2,
        )
    setattr(cell_or_class, MARK, tuple(getattr(cell_or_class, MARK, ())) + wanted)
    patching.ledger.hold(_SAFE, {"fusion.safe": compile_replacements()})
    return cell_or_class


def is_fusing(options: Mapping[str, Any]) -> bool:
    """Will a compilation with these ``jit`` options fuse?"""
    return _switch(_users(options), options)[0]


def exclusions(operators: Iterable[str], origin: str) -> tuple[Flag, ...]:
    """The flags that leave these operators out.

    Raises:
        UnknownNameError: an operator or a prefix does not exist, or a string was given for a sequence of names.
    """
    if isinstance(operators, str):
        raise UnknownNameError(
            f"the operators must be a sequence of names, not the string {operators!r}; write [{operators!r}]"
        )
    found: list[Flag] = []
    for operator in operators:
        kind, colon, name = operator.rpartition(":")
        if colon and kind not in _KEYS:
            raise UnknownNameError(f"{operator!r}: the prefix must be one of {', '.join(_KEYS)}")
        if kind not in ("pass", "pattern") and name not in _mindspore.operator_names():
            remedy = nearest(
                name, _mindspore.operator_names(), "take the name from the compiled graph, as in 'ReduceSum'"
            )
            raise UnknownNameError(f"no operator is called {name!r}{remedy}")
        found += [Flag(_KEYS[key], (name,), (origin,)) for key in ([kind] if kind else ["cluster", "expand"])]
    return tuple(found)


# --- what is asked for ------------------------------------------------------------------------


def _asked(roots: Iterable[Any]) -> list[Flag]:
    """What guards, applied patches and the safe parts of these roots ask for."""
    asked = list(_guards.get())
    applied = patching.ledger.applied
    if any(quirk.source in applied for quirk in quirks(learned=False)):
        for quirk in quirks():
            if quirk.source in (*applied, LEARNED):
                asked += exclusions(quirk.keep_out, f"patch {quirk.source}")
    for owner, wanted in marks(roots, MARK):
        names = [name for item in wanted for name in (known_bad() if item == _KNOWN_BAD else (item,))]
        asked += exclusions(names, f"safe {owner}")
    return asked


def _users(options: Mapping[str, Any]) -> tuple[Flag, ...]:
    """The user's own flags from all three places."""
    return (
        *parse(os.environ.get(ENVIRONMENT, ""), ENVIRONMENT),
        *parse(str(options.get("graph_kernel_flags") or ""), "JitConfig"),
        *parse(_mindspore.graph_kernel_flags(), "set_context"),
    )


def _in_platform_order() -> tuple[Flag, ...]:
    """What MindSpore reads where nobody guards: the environment variable hides `set_context`."""
    if ENVIRONMENT in os.environ:
        return merge(parse(os.environ[ENVIRONMENT], ENVIRONMENT))
    return merge(parse(_mindspore.graph_kernel_flags(), "set_context"))


def _switch(user: Iterable[Flag], options: Mapping[str, Any]) -> tuple[bool, str]:
    """Is fusion on, and what decides it."""
    if not _mindspore.has_fusion_compiler():
        return False, f"this MindSpore brings no compiler of fused kernels for {_mindspore.backend()}"
    level = opt_level(user)
    if level is not None:
        return level > 0, f"--opt_level={level}"
    if mindspore.get_context("enable_graph_kernel"):
        return True, "set_context(enable_graph_kernel=True)"
    if (options.get("jit_level") or mindspore.get_context("jit_level")) == "O1":
        if _mindspore.backend() == "CPU":  # tried on 2.10.0: this level alone compiles no fused kernel
            return False, "jit_level O1 does not fuse on CPU; set_context(enable_graph_kernel=True) does"
        return True, "jit_level O1"
    return False, "neither set_context(enable_graph_kernel=True), jit_level O1 nor --opt_level is set"


# --- one compilation --------------------------------------------------------------------------


@contextlib.contextmanager
def _in_force(roots: tuple[Any, ...], options: Mapping[str, Any], phase: str = "") -> Iterator[None]:
    """The merged flags, for the compilation of these roots to a graph of this name."""
    if not is_fusing(options):
        yield
        return
    with _compiling:
        asked = _asked(roots)
        _left_out[phase] = _members(asked)
        restore = _write(render(merge([*_users(options), *asked])), options) if asked else None
        try:
            yield
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


def compile_replacements() -> tuple[Replacement, ...]:
    """What surrounds every real compilation with the merged flags."""
    return (
        *(Replacement(target, _around) for target in _mindspore.compilation_targets()),
        Replacement(_mindspore.eager_gradient_target(), _around_gradient),
    )


def _around(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def compile_guarded(self: Any, obj: Any, args: Any, kwargs: Any, phase: Any, options: Any) -> Any:
        with _in_force((obj,), options, phase):
            return original(self, obj, args, kwargs, phase, options)

    return compile_guarded


def _around_gradient(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def gradient_guarded(self: Any, obj: Any, *args: Any) -> Any:
        with _in_force((obj,), {}):
            return original(self, obj, *args)

    return gradient_guarded


# --- a guard that comes too late ----------------------------------------------------------------


def _members(flags: Iterable[Flag]) -> frozenset[tuple[str, str]]:
    return frozenset((flag.key, value) for flag in flags for value in flag.values)


def _notice_replacements() -> tuple[Replacement, ...]:
    """What looks, at every call inside a guard, at how the called graph was compiled."""
    return (
        Replacement(_mindspore.cell_compile_target(), _noticing),
        Replacement(_mindspore.jit_compile_target(), _noticing),
    )


def _noticing(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def compile_noticed(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(self, *args, **kwargs)
        asked = _guards.get()
        missing = _members(asked) - _left_out.get(result[0] if isinstance(result, tuple) else result, frozenset())
        if asked and missing and is_fusing({}):
            what = type(args[0]).__name__ if isinstance(args[0], nn.Cell) else getattr(self, "fn", args[0])
            warnings.warn(
                f"a graph of {getattr(what, '__qualname__', what)} was compiled before this guard, which does not act on "
                f"it ({', '.join(sorted({name for _, name in missing}))} may be fused); enter the guard before the first "
                "call",
                LateGuardWarning,
                stacklevel=2,
            )
        return result

    return compile_noticed
