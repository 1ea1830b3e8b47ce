"""Which cures this MindSpore and this backend need, and putting them in force.

A cure is applied when its range of versions, its backend and, where that is
cheap, a look at the symptom say that it is needed; in every other case its
status gives the reason. A cure known only from reports is left alone until it
is asked for by its id.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ascend_fixes import _mindspore, compiling
from ascend_fixes.defects import FAMILIES, Defect, Patch, catalogue
from ascend_fixes.errors import UnknownNameError, nearest
from ascend_fixes.patching import MissingSymbolError, ledger

__all__ = [
    "CureStatus",
    "PatchReport",
    "UncheckedVersionWarning",
    "apply",
    "ledger",
    "patch",
    "patched",
    "select",
    "status",
    "unpatch",
]


class UncheckedVersionWarning(UserWarning):
    """Cures were left out because nobody has checked them on this version of MindSpore."""


class _Hold:
    """The ledger's token of one `patched` block, or of `patch`."""


_PERMANENT = _Hold()


@dataclass(frozen=True)
class CureStatus:
    """Where one cure stands.

    Attributes:
        id: the defect's id, ``"A1"``.
        family: ``"amp"``.
        state: ``applied``, ``available``, ``not needed`` or ``not applicable``.
        reason: why, and where it is not in force what would put it there.
    """

    id: str
    family: str
    state: str
    reason: str

    def __str__(self) -> str:
        return f"{self.id:4s}{self.family:13s}{self.state:16s}{self.reason}"


@dataclass(frozen=True)
class PatchReport:
    """What a call of `patch` did: the status of every cure it was asked for."""

    cures: tuple[CureStatus, ...]

    @property
    def fixes(self) -> tuple[CureStatus, ...]:
        """The former name of ``cures``."""
        return self.cures

    @property
    def applied(self) -> tuple[str, ...]:
        """The ids now in force."""
        return tuple(cure.id for cure in self.cures if cure.state == "applied")

    def __str__(self) -> str:
        return "\n".join(map(str, self.cures))


def patch(*names: str, skip: Sequence[str] = ()) -> PatchReport:
    """Put cures in force under MindSpore's own names, all of them or none.

    Calling it again adds to what is in force. Call it before ``from mindspore... import name``:
    a name that a module of yours has already bound is not reached.

    Args:
        names: families (``"amp"``) or defect ids (``"A1"``); none means all that apply here.
        skip: families or ids to leave out.

    Returns:
        The status of every cure asked for, in the catalogue's order.

    Warns:
        UncheckedVersionWarning: cures were left out because this MindSpore is outside the versions they were checked
            on; the warning names them.

    Raises:
        UnknownNameError: a name is neither a family nor an id.
        MissingSymbolError: this MindSpore lacks a name that a cure replaces.
        ConflictError: somebody else has replaced such a name.
        PatchError: a replacement failed. After any of these nothing is changed.
    """
    return _hold(_PERMANENT, names, skip, stacklevel=3)


def unpatch() -> None:
    """Take every cure back, those of `patched` blocks too: each attribute is the same object as before.

    What a toolbox that you called holds for itself, as `fusion.safe` does, stays.

    Raises:
        ConflictError: somebody patched on top; the message names them and nothing is changed.
    """
    compiling.release(*(token for token in ledger.tokens if isinstance(token, _Hold)))


def apply(defect: Defect, any_version: bool = False) -> str:
    """Put the patch of one defect in force, as `patch` by its id does, whether it is in the catalogue or not.

    Args:
        defect: whose patch.
        any_version: also beyond the versions of MindSpore that it was checked on.

    Returns:
        Why it is not in force; "" where it is.

    Raises:
        MissingSymbolError, ConflictError, PatchError: as `patch`; nothing is changed.
    """
    obstacle = _obstacle(defect, by_id=True, any_version=any_version)
    if obstacle:
        return obstacle[1]
    _put(_PERMANENT, [defect])
    return ""


@contextlib.contextmanager
def patched(*names: str, skip: Sequence[str] = ()) -> Iterator[PatchReport]:
    """`patch` for the length of a ``with`` block. Nests, and leaves what others hold in force.

    The cures act on the whole process, so on its other threads too.
    """
    token = _Hold()
    report = _hold(token, names, skip, stacklevel=4)
    try:
        yield report
    finally:
        compiling.release(token)


def status() -> list[CureStatus]:
    """The state of every cure of the catalogue, and the reason for it."""
    return [_status(defect, by_id=False) for defect in catalogue().values()]


def select(names: Sequence[str], skip: Sequence[str] = ()) -> list[Defect]:
    """The defects that families and ids name (none: all), less those that ``skip`` names.

    Raises:
        UnknownNameError: a name is neither a family nor an id; the message offers the nearest.
    """
    wanted, unwanted = _ids(names), _ids(skip)
    return [defect for id_, defect in catalogue().items() if (id_ in wanted or not names) and id_ not in unwanted]


def _ids(names: Sequence[str]) -> set[str]:
    if isinstance(names, str):
        raise UnknownNameError(f"names must be a sequence of names, not the string {names!r}; write [{names!r}]")
    found: set[str] = set()
    for name in names:
        ids = {defect.id for defect in catalogue().values() if name in (defect.id, defect.family)}
        if not ids and name not in FAMILIES:
            known = [*FAMILIES, *catalogue()]
            remedy = nearest(name, known, "`ascend-fixes defects` lists them")
            raise UnknownNameError(f"{name!r} is neither a family ({', '.join(FAMILIES)}) nor a defect's id{remedy}")
        found |= ids
    return found


def _hold(token: object, names: Sequence[str], skip: Sequence[str], stacklevel: int) -> PatchReport:
    chosen = select(names, skip)
    fitting = [defect for defect in chosen if _obstacle(defect, defect.id in names, any_version=True) is None]
    _put(token, [defect for defect in fitting if _checked(defect)])
    unchecked = [defect.id for defect in fitting if not _checked(defect)]
    if unchecked:
        warnings.warn(
            f"{', '.join(unchecked)}: left out, not checked on MindSpore {_mindspore.version_text()}; "
            f"`ascend-fixes doctor --any-version --only {','.join(unchecked)}` tries them here",
            UncheckedVersionWarning,
            stacklevel=stacklevel,
        )
    return PatchReport(tuple(_status(defect, by_id=defect.id in names) for defect in chosen))


def _put(token: object, defects: Sequence[Defect]) -> None:
    """Hold the patches of these defects, all or none."""
    wanted = {defect.id: defect.patch.parts for defect in defects if defect.patch is not None}
    try:
        compiling.hold(token, wanted)
    except MissingSymbolError as error:
        guilty = [
            id_ for id_, parts in wanted.items() if any(f"no {t}" in str(error) for t in compiling.targets(parts))
        ]
        ranges = {defect.id: _range(defect.patch) for defect in defects}
        checked = ", ".join(f"{id_} on {ranges[id_]}" for id_ in guilty)
        raise MissingSymbolError(
            f"{error} in MindSpore {_mindspore.version_text()}; the cure was checked for {checked}. "
            f"Leave it out with skip={guilty!r}. Nothing was changed"
        ) from None


def _status(defect: Defect, by_id: bool) -> CureStatus:
    if defect.patch is not None and defect.id in ledger.applied:
        return CureStatus(defect.id, defect.family, "applied", _effect(defect.patch))
    state, reason = _obstacle(defect, by_id) or ("available", f"patch({defect.id!r}) applies it")
    return CureStatus(defect.id, defect.family, state, reason)


def _effect(cure: Patch) -> str:
    """What a cure in force does: the names it replaces, and what its hooks do at every compilation."""
    targets = ", ".join(sorted(part.target for part in cure.replacements))
    hooks = "; ".join(hook.does for hook in cure.hooks)
    return "; ".join(filter(None, (targets and f"replaces {targets}", hooks and f"when MindSpore compiles: {hooks}")))


def _obstacle(defect: Defect, by_id: bool, any_version: bool = False) -> tuple[str, str] | None:
    """The state and reason of a cure that is not to be applied here; None for one that is."""
    cure = defect.patch
    if cure is None:
        return "not applicable", f"cured without a patch, by {defect.tool.name}" if defect.tool else "not cured yet"
    if not any_version and not _checked(defect):
        return "not applicable", f"checked on {_range(cure)}, this is MindSpore {_mindspore.version_text()}"
    if _mindspore.backend() not in cure.backends:
        return "not applicable", f"for {', '.join(cure.backends)}; graphs run on {_mindspore.backend()} here"
    reason = cure.unneeded()
    if reason:
        return "not needed", reason
    if not cure.verified and not by_id:
        return "available", f"known from reports only; patch({defect.id!r}) asks for it by id"
    return None


def _checked(defect: Defect) -> bool:
    """Has somebody tried the defect's patch on this version of MindSpore?"""
    return defect.patch is not None and defect.patch.since <= _mindspore.version() < defect.patch.before


def _range(cure: Patch | None) -> str:
    """A cure's range of versions for a person: ``MindSpore >=2.7,<2.11``."""
    if cure is None:
        return "no version of MindSpore"
    return "MindSpore >={},<{}".format(*(".".join(map(str, bound)) for bound in (cure.since, cure.before)))
