"""The one door to MindSpore's compiler: what is about to be compiled, and hooks around it in a stated order.

What this library does at run time is one act: being present when MindSpore compiles. A `Hook` is that presence. It is
given a `Compilation` and returns a context manager, inside which MindSpore compiles:

    @contextlib.contextmanager
    def timed(compilation: Compilation) -> Iterator[None]:
        start = time.perf_counter()
        yield
        print(compilation.phase, time.perf_counter() - start)

Hooks reach the compiler in two ways. `hold` puts them around all compilations of the process until the token is
released: cures do that, and toolboxes for the length of a ``with`` block. `on_cell` puts one around the compilations of
a single cell or jit function, for good; hooks of one cell add up, and a deep copy has the same ones, because a hook
does not hold its cell but finds it in the `Compilation`. A hook that several ask for runs once.

Everything is hooked at the two methods of MindSpore's C++ compiler, which a call reaches only where a graph is missing,
so a step whose graph exists passes no code of this library. (``"found"``, the other place, is passed at every call and is
held only while a guard of fusion is entered.) The same two methods serve cells and jit functions, so no cell's own
``compile`` is ever replaced. MindSpore's compiler is one object per process and not re-entrant; `lock` is the one lock
for it.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Callable, Union

from ascend_fixes import _mindspore
from ascend_fixes.errors import UnknownNameError
from ascend_fixes.patching import Replacement, ledger

__all__ = [
    "ORDER",
    "Compilation",
    "Hook",
    "held",
    "hold",
    "lock",
    "on_cell",
    "release",
    "replacing",
    "targets",
    "turns",
]

ORDER = (
    "announce",  # the dry run's report of what is compiled
    "warn",  # says when a cell compiles too often; outside of the record it reads
    "record",  # what was compiled, why, and for how long; refuses one graph too many before anything has begun
    "check",  # refuses a fused graph whose compiler is missing
    "flags",  # what the graph kernel is told
    "cache",  # a graph kept on disk; its key holds the flags
    "tidy",  # where the compiler writes files
    "place",  # operators that run on the host
    "notice",  # the place "found": a graph that was compiled before a guard
)
"""The names of hooks, outermost first. `turns`, which also waits for what runs, stands outside of them all."""

lock = threading.RLock()
"""Whoever compiles, or must not meet a compilation on another thread, holds this."""

_HOOKS = "_ascend_fixes_hooks"  # on a cell, a function or an object: its own hooks by the name of what is compiled


@dataclass(frozen=True)
class Compilation:
    """What MindSpore is about to compile.

    Attributes:
        subject: the cell; the function under ``mindspore.jit``; or the object whose method is under it.
        args, kwargs: the arguments the graph is compiled for, those of a dynamic graph with unknown lengths.
        phase: the name of the graph, of which the process has no other; "" for a gradient.
        options: the ``jit`` options, by name.
        kind: "cell", "jit", or "gradient": the backward graph that PyNative mode takes of a jit function. MindSpore
            does not tell whether it compiles that one or has it, so hooks see every call of it.
    """

    subject: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    phase: str
    options: Mapping[str, Any]
    kind: str

    @property
    def name(self) -> str:
        """What to call it in a message: the cell's class, the function, or ``Class.method``."""
        named = getattr(self.subject, "__qualname__", type(self.subject).__name__)
        return f"{named}.{self.method}" if self.kind == "jit" and self.method else named

    @property
    def method(self) -> str:
        """The method of the subject that is compiled, "construct" for a cell; "" for a function."""
        return _mindspore.parsed_method(self.subject)


@dataclass(frozen=True)
class Hook:
    """Code around a compilation.

    Attributes:
        name: its place in `ORDER`.
        around: what is entered before and left after. It may raise instead, and nothing is compiled. Where it swallows
            an error of the compiler, what it surrounds is tried once more.
        does: what for, in a few words for `ascend_fixes.status`.
        asks: what its holder wants of it, where one hook serves several holders.
        options: jit options that take the place of the subject's own, for all that compiles.
        place: "compile", or "found": after the graph of any call was found or compiled and before it runs.
    """

    name: str
    around: Callable[[Compilation], AbstractContextManager[Any]]
    does: str = field(default="", compare=False)
    asks: tuple[str, ...] = field(default=(), compare=False)
    options: Mapping[str, Any] = field(default_factory=dict, compare=False)
    place: str = "compile"

    def __post_init__(self) -> None:
        if self.name not in ORDER or self.place not in ("compile", "found"):
            raise UnknownNameError(f"name={self.name!r}, place={self.place!r}: a hook is one of {', '.join(ORDER)}")


# --- who asks for what ------------------------------------------------------------------------

Part = Union[Replacement, Hook]

_table = threading.Lock()
_held: dict[object, dict[str, tuple[Part, ...]]] = {}  # by token, then by the cure or tool that the parts belong to
_around_all: dict[str, tuple[Hook, ...]] = {"compile": (), "found": ()}  # what follows from it, by place
_CELLS = "hooks of single cells"  # the token under which `on_cell` keeps the door in place


def hold(token: object, parts: Mapping[str, Sequence[Part]]) -> None:
    """Put hooks and replacements in force until the token is released, all of them or none.

    Args:
        token: whoever asks; a second hold of one token adds to the first.
        parts: by the id of the cure, or the name of the tool, that they belong to.

    Raises:
        MissingSymbolError, ConflictError, PatchError: nothing was changed.
    """
    wanted = {owner: [part for part in given if isinstance(part, Replacement)] for owner, given in parts.items()}
    for place in {hook.place for given in parts.values() for hook in given if isinstance(hook, Hook)}:
        wanted[f"compiling.{place}"] = list(_doors(place))
    with _table:
        ledger.hold(token, wanted)
        _held[token] = {**_held.get(token, {}), **{owner: tuple(given) for owner, given in parts.items()}}
        _arrange()


def release(*tokens: object) -> None:
    """Take back what only these tokens held. A token that is not held is no error.

    Raises:
        ConflictError: somebody patched on top; nothing was changed.
    """
    with _table:
        ledger.release(*tokens)
        for token in tokens:
            _held.pop(token, None)
        _arrange()


def on_cell(cell: Any, hook: Hook) -> None:
    """Put a hook around every compilation of one cell or jit function, where it is the one that is called.

    Args:
        cell: a cell, a function under ``mindspore.jit``, or a method under it, bound to its object.
        hook: must not hold the cell, so that a deep copy of the cell can have it too. Given twice, it runs once.
    """
    subject, method = _mindspore.compiled_part(cell)
    own = vars(subject).get(_HOOKS, {})
    with _table:
        ledger.hold(_CELLS, {"compiling.compile": _doors("compile")})
    vars(subject)[_HOOKS] = {**own, method: _in_order([*own.get(method, ()), hook])}


def held(name: str) -> tuple[tuple[object, str, Hook], ...]:
    """Every hold of the hooks of a name, as (token, owner, hook), by owner."""
    found = [(token, owner, part) for token, owner, part in _parts() if isinstance(part, Hook) and part.name == name]
    return tuple(sorted(found, key=lambda item: item[1]))


def replacing() -> frozenset[str]:
    """The owners in force that replace names of MindSpore, and so may change what a graph computes."""
    return frozenset(owner for _, owner, part in _parts() if isinstance(part, Replacement))


def targets(parts: Sequence[Part]) -> tuple[str, ...]:
    """The names of MindSpore that these parts are put in place of."""
    needed = ((part,) if isinstance(part, Replacement) else _doors(part.place) for part in parts)
    return tuple(dict.fromkeys(replacement.target for group in needed for replacement in group))


def _parts() -> list[tuple[object, str, Part]]:
    with _table:
        return [(token, owner, part) for token, by in _held.items() for owner, parts in by.items() for part in parts]


def _arrange() -> None:
    """Work out what surrounds every compilation, so that a compilation does not have to."""
    every = [part for by_owner in _held.values() for parts in by_owner.values() for part in parts]
    for place in _around_all:
        _around_all[place] = _in_order(part for part in every if isinstance(part, Hook) and part.place == place)


def _in_order(hooks: Iterable[Hook]) -> tuple[Hook, ...]:
    """The hooks outermost first, each once."""
    return tuple(sorted(dict.fromkeys(hooks), key=lambda hook: ORDER.index(hook.name)))


# --- at the compiler ----------------------------------------------------------------------------


def turns() -> tuple[Replacement, ...]:
    """What lets one thread at a time call a cell or a jit function: compile it, or run what was compiled."""
    return (
        Replacement("mindspore.nn:Cell.compile_and_run", _one_at_a_time),
        Replacement(_mindspore.jit_call_target(), _one_at_a_time),
    )


def _one_at_a_time(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def call_in_turn(*args: Any, **kwargs: Any) -> Any:
        with lock:
            return original(*args, **kwargs)

    return call_in_turn


@functools.cache
def _doors(place: str) -> tuple[Replacement, ...]:
    """The replacements that let hooks of a place run."""
    if place == "found":
        return (
            Replacement(_mindspore.cell_compile_target(), _finding_cells),
            Replacement(_mindspore.jit_compile_target(), _finding_functions),
        )
    return (
        *(Replacement(target, _compiling) for target in _mindspore.compilation_targets()),
        Replacement(_mindspore.eager_gradient_target(), _compiling_gradient),
    )


def _compiling(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def compile_hooked(self: Any, subject: Any, args: Any, kwargs: Any, phase: str, options: Any) -> Any:
        kind = "cell" if _mindspore.compiles_cells(self, subject) else "jit"
        for hook in _around_all["compile"]:
            options = {**options, **hook.options} if hook.options else options
        compilation = Compilation(subject, args, kwargs, phase, options, kind)
        begun = False

        def compile() -> Any:
            nonlocal begun
            begun = True
            return original(self, subject, args, kwargs, phase, options)

        try:
            return _carry_out(compilation, compile)
        finally:
            if not begun:
                _mindspore.abandon_compilation(self, subject)

    return compile_hooked


def _compiling_gradient(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def gradient_hooked(self: Any, subject: Any, *args: Any) -> Any:
        compilation = Compilation(subject, args, {}, "", {}, "gradient")
        return _carry_out(compilation, lambda: original(self, subject, *args))

    return gradient_hooked


def _carry_out(compilation: Compilation, compile: Callable[[], Any]) -> Any:
    """Compile inside of the process's hooks and the subject's own."""
    own = getattr(compilation.subject, "__dict__", {}).get(_HOOKS, {})
    hooks = _around_all["compile"]
    if own:
        hooks = _in_order([*hooks, *own.get(compilation.method, ())])
    if not hooks:
        return compile()
    with lock:
        return _inside(hooks, compilation, compile)


def _inside(hooks: tuple[Hook, ...], compilation: Compilation, compile: Callable[[], Any]) -> Any:
    if not hooks:
        return compile()
    while True:
        with hooks[0].around(compilation):
            return _inside(hooks[1:], compilation, compile)
        # Reached where the hook has swallowed an error: it asks for another attempt.


def _finding_cells(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def compile_found(self: Any, cell: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(self, cell, *args, **kwargs)
        named = {name: value for name, value in kwargs.items() if name not in _mindspore.CELL_COMPILE_OPTIONS}
        _found(Compilation(cell, args, named, result[0], kwargs.get("jit_config_dict") or {}, "cell"))
        return result

    return compile_found


def _finding_functions(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def compile_found(self: Any, method: str, *args: Any, **kwargs: Any) -> Any:
        phase = original(self, method, *args, **kwargs)
        _found(Compilation(_mindspore.jit_subject(self), args, kwargs, phase, _mindspore.jit_options(self), "jit"))
        return phase

    return compile_found


def _found(compilation: Compilation) -> None:
    for hook in _around_all["found"]:
        with hook.around(compilation):
            pass
