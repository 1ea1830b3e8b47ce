"""The patch ledger: attributes replaced, and taken back, as one.

Which cures are in force is a set; what stands at each patched attribute follows
from that set alone. A change of the set is carried out in two steps: first every
new value is built and every place checked, then the values are written, and a
failure on the way takes back what was written. So a failed change changes
nothing, cures may come and go in any order, and several cures may wrap one
attribute: the ledger rebuilds the chain from the original.

The mechanism knows nothing of the catalogue; `ascend_fixes.cures` chooses the cures. The process has one ledger for
MindSpore, `ledger`.

Method: targets as strings and the owner found along the MRO, as in wrapt
(https://wrapt.readthedocs.io); a ledger entry for every patch, as in vllm-ascend.
"""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Callable

from ascend_fixes.errors import AscendFixesError

__all__ = ["ConflictError", "Ledger", "MissingSymbolError", "PatchError", "Replacement", "ledger"]


class PatchError(AscendFixesError, RuntimeError):
    """A replacement could not be made or written; everything is as it was before."""


class MissingSymbolError(PatchError):
    """A target names something that the platform does not have."""


class ConflictError(PatchError):
    """Somebody else replaced an attribute that the ledger would have to write."""


@dataclass(frozen=True)
class Replacement:
    """One attribute and what takes its place.

    Attributes:
        target: ``"module:attribute"`` or ``"module:Class.attribute"``, for example
            ``"mindspore.amp:DynamicLossScaler.adjust"``. A module's function or class is replaced in
            every module of the platform that re-exports it; a class's attribute in that class alone.
            A class that inherits the attribute is given one of its own, built from the inherited
            original whatever cures that has.
        make: builds the replacement from the original. Several cures may replace the same
            attribute: each wraps what the one before it made. For a static or class method it
            gets, and returns, the plain function.
    """

    target: str
    make: Callable[[Any], Any]


_ABSENT: Any = type("_Absent", (), {"__repr__": lambda self: "<absent>"})()


@dataclass(frozen=True)
class _Site:
    """A place that holds a value: a module or class and the name of its attribute."""

    owner: Any
    name: str

    def read(self) -> Any:
        """The value as stored, without binding; `_ABSENT` where the owner has none of its own."""
        return vars(self.owner).get(self.name, _ABSENT)

    def write(self, value: Any) -> None:
        if value is _ABSENT:
            delattr(self.owner, self.name)
        else:
            setattr(self.owner, self.name, value)

    def __str__(self) -> str:
        return f"{getattr(self.owner, '__name__', self.owner)}.{self.name}"


@dataclass
class _Slot:
    """What the ledger knows of one target."""

    home: _Site
    stored: Any  # what the home held before, `_ABSENT` where the value is inherited
    original: Any  # the value that replacements are built from
    installed: Any  # what stands there now: `stored`, or what the chain `layers` built
    sites: tuple[_Site, ...] = ()  # where the ledger wrote it
    layers: tuple[str, ...] = ()
    built: dict[tuple[str, ...], Any] = field(default_factory=dict)  # so that a class keeps its identity


class Ledger:
    """The cures in force on one platform package, and the way back.

    Args:
        platform: the package whose attributes may be replaced, for example ``"mindspore"``.
    """

    def __init__(self, platform: str) -> None:
        self._platform = platform
        self._lock = threading.RLock()
        self._slots: dict[str, _Slot] = {}
        self._cures: dict[str, tuple[Replacement, ...]] = {}
        self._holds: dict[object, frozenset[str]] = {}

    @property
    def applied(self) -> tuple[str, ...]:
        """The ids of the cures in force, sorted."""
        with self._lock:
            return tuple(sorted(self._cures))

    @property
    def tokens(self) -> tuple[object, ...]:
        """Everybody who holds cures."""
        with self._lock:
            return tuple(self._holds)

    def hold(self, token: object, cures: Mapping[str, Sequence[Replacement]]) -> None:
        """Put cures in force until the token is released; a second hold of one token adds to the first.

        Raises:
            MissingSymbolError, ConflictError, PatchError: nothing was changed.
        """
        with self._lock:
            held = self._holds.get(token, frozenset()) | frozenset(cures)
            wanted = {**{cure: tuple(parts) for cure, parts in cures.items()}, **self._cures}
            self._reconcile(wanted)
            self._holds[token] = held

    def release(self, *tokens: object) -> None:
        """Take back the cures that only these tokens held. A token that is not held is no error.

        Raises:
            ConflictError: somebody patched on top; nothing was changed.
        """
        with self._lock:
            rest = {other: cures for other, cures in self._holds.items() if other not in tokens}
            kept = frozenset().union(*rest.values())
            self._reconcile({cure: parts for cure, parts in self._cures.items() if cure in kept})
            self._holds = rest

    # --- carrying out a change ---------------------------------------------------------------

    def _reconcile(self, wanted: dict[str, tuple[Replacement, ...]]) -> None:
        """Make the places follow from the set of cures ``wanted``, or change nothing and raise."""
        chains: dict[str, list[tuple[str, Replacement]]] = {}
        for cure in sorted(wanted):
            for replacement in wanted[cure]:
                chains.setdefault(replacement.target, []).append((cure, replacement))
        changes = []
        for target in sorted({*self._slots, *chains}):
            slot = self._slots.get(target) or self._find(target)
            layers = tuple(cure for cure, _ in chains.get(target, []))
            if layers != slot.layers:
                value = _build(slot, [part for _, part in chains.get(target, [])], layers)
                changes.append((target, slot, layers, value, self._sites(slot)))
        _refuse_shared_sites([(target, sites) for target, *_, sites in changes])
        written: list[tuple[_Site, Any]] = []
        try:
            for *_, value, sites in changes:
                for site in sites:
                    before = site.read()
                    site.write(value)
                    written.append((site, before))
        except Exception as error:
            for done, before in reversed(written):
                done.write(before)
            raise PatchError(f"{site} cannot be replaced ({error}); nothing was changed") from error
        for target, slot, layers, value, sites in changes:
            slot.installed, slot.layers, slot.sites = value, layers, tuple(sites)
            self._slots[target] = slot
            if not layers:
                del self._slots[target]
        self._cures = wanted

    def _find(self, target: str) -> _Slot:
        """Resolve a target that is not patched yet."""
        module_name, _, path = target.partition(":")
        *parents, name = path.split(".")
        try:
            owner = importlib.import_module(module_name)
            for parent in parents:
                owner = getattr(owner, parent)
            holders = owner.__mro__ if isinstance(owner, type) else (owner,)
            source = _Site(next(holder for holder in holders if name in vars(holder)), name)
        except (ImportError, AttributeError, StopIteration):
            raise MissingSymbolError(f"there is no {target}") from None
        home, original = _Site(owner, name), source.read()
        for slot in self._slots.values():
            if original is slot.installed and source == slot.home:
                original = slot.original  # inherited from a class whose own attribute is patched
            elif original is slot.installed:
                raise PatchError(f"{target} is another name of {slot.home}, which is patched; name it by its home")
        if _origin(original).partition(".")[0] not in (self._platform, "builtins"):
            raise ConflictError(
                f"{home} has already been replaced by {_describe(original)}; take that patch back first, "
                "or leave this cure out with skip=. Nothing was changed"
            )
        stored = home.read()
        return _Slot(home, stored, original, installed=stored)

    def _sites(self, slot: _Slot) -> list[_Site]:
        """Every place that holds the slot's value, its home first.

        Raises:
            ConflictError: a place that the ledger wrote holds a value of somebody else's.
        """
        for site in slot.sites:
            found = site.read()
            if found is not slot.installed:
                raise ConflictError(
                    f"{site} was replaced by {_describe(found)} after ascend_fixes had patched it; "
                    "take that patch back first. Nothing was changed"
                )
        return [slot.home] + [site for site in self._exports(slot) if site != slot.home]

    def _exports(self, slot: _Slot) -> Iterator[_Site]:
        """The modules of the platform that hold the slot's value, those imported since it was patched included."""
        value = slot.installed
        if isinstance(slot.home.owner, type) or not callable(value):
            return
        for name, module in sorted(sys.modules.items()):
            if name.partition(".")[0] == self._platform and module is not None:
                for attribute, held in list(vars(module).items()):
                    if held is value:
                        yield _Site(module, attribute)


def _refuse_shared_sites(changes: Sequence[tuple[str, list[_Site]]]) -> None:
    """Raise where two targets are two names of one function: each would write over the other."""
    targets: dict[tuple[int, str], str] = {}
    for target, sites in changes:
        for site in sites:
            other = targets.setdefault((id(site.owner), site.name), target)
            if other != target:
                raise PatchError(f"{target} and {other} are two names of one function; name it by its home in both")


def _build(slot: _Slot, parts: list[Replacement], layers: tuple[str, ...]) -> Any:
    """What belongs at the slot under these layers; the stored object itself under none."""
    if not layers:
        return slot.stored
    if layers not in slot.built:
        value = slot.original
        wrapper = type(value) if isinstance(value, (staticmethod, classmethod)) else None
        value = value.__func__ if wrapper else value
        for part in parts:
            try:
                value = part.make(value)
            except Exception as error:
                raise PatchError(
                    f"no replacement for {part.target} could be made ({error}); nothing was changed"
                ) from error
        slot.built[layers] = wrapper(value) if wrapper else value
    return slot.built[layers]


def _origin(value: Any) -> str:
    """The module a value was really defined in: `functools.wraps` copies ``__module__``, but not the globals."""
    value = getattr(value, "__func__", value)
    if isinstance(value, property):
        value = value.fget
    namespace = getattr(value, "__globals__", None)
    module = namespace.get("__name__") if namespace is not None else getattr(value, "__module__", None)
    return module or type(value).__module__


def _describe(value: Any) -> str:
    """A value's name and home, for a message."""
    if value is _ABSENT:
        return "nothing (it was deleted)"
    plain = getattr(value, "__func__", value)
    return f"{_origin(value)}.{getattr(plain, '__qualname__', repr(plain))}"


ledger = Ledger("mindspore")
"""The one of this process: whoever replaces a name of MindSpore holds it here."""
