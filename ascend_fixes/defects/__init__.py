"""The catalogue: one defect, one file.

A file ``<id>_<name>.py`` of this folder describes a single platform defect: what
a user sees, why, where it was seen, when it can go; a probe that shows it on the
machine at hand; and its cure. Adding a cure is adding a file with a
module-level ``DEFECT``.

A cure has one of two forms. A `Patch` is bound to MindSpore's own names by
`ascend_fixes.patch()`, so the user's code stays as it is: its proof is the same
probe, run again under the patch. A `Tool` has to be called by the user's code:
its proof is a second probe, the same scenario written with the tool.
"""

from __future__ import annotations

import functools
import importlib
import os
import pkgutil
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable

from ascend_fixes.errors import first_line
from ascend_fixes.patching import Replacement

if TYPE_CHECKING:
    from ascend_fixes.compiling import Hook  # which imports MindSpore

__all__ = ["FAMILIES", "Defect", "Finding", "OnAscend", "Patch", "Tool", "catalogue", "first_line", "patience"]

FAMILIES = ("shapes", "host", "fusion", "amp", "environment")
_FILE_NAME = re.compile(r"[a-z]\d+_\w+")


@dataclass(frozen=True)
class Finding:
    """What a probe saw: is the defect there, and the numbers or the error's first line that show it.

    ``present`` is None where only a device could tell; ``evidence`` then says "needs a device"
    and what could be run here.
    """

    present: bool | None
    evidence: str


@dataclass(frozen=True)
class Patch:
    """A cure that replaces MindSpore's own names or is present when it compiles, applied by `ascend_fixes.patch`.

    Attributes:
        replacements: what is replaced by what.
        hooks: what surrounds every compilation.
        since, before: the half-open range of MindSpore versions the cure was checked on.
        backends: the backends it applies to.
        unneeded: a cheap check, run before applying; the reason why this installation does
            not need the cure, or "" where it does.
        verified: False for a cure known only from reports; it stays off until asked for by id.
    """

    replacements: tuple[Replacement, ...] = ()
    hooks: tuple[Hook, ...] = ()
    since: tuple[int, ...] = (2, 7)
    before: tuple[int, ...] = (2, 11)
    backends: tuple[str, ...] = ("CPU", "GPU", "Ascend")
    unneeded: Callable[[], str] = lambda: ""
    verified: bool = True

    @property
    def parts(self) -> tuple[Replacement | Hook, ...]:
        """Replacements and hooks together."""
        return (*self.replacements, *self.hooks)


@dataclass(frozen=True)
class Tool:
    """A cure that the user's code calls.

    Attributes:
        name: the public name, for example ``"shapes.bucketed"``.
        probe: the defect's scenario written with the tool.
    """

    name: str
    probe: Callable[[], Finding]


@dataclass(frozen=True)
class OnAscend:
    """What of a defect MindSpore's Ascend back end shows when it compiles, without executing anything.

    Attributes:
        make: the scenario: a cell and its inputs, ``(cell, *inputs)``.
        judge: what a report of `ascend_fixes.dryrun` says of it.
        tool: the scenario written with the tool; None where the cure is a patch.
    """

    make: Callable[[], tuple[Any, ...]]
    judge: Callable[[Any], Finding]
    tool: Callable[[], tuple[Any, ...]] | None = None


@dataclass(frozen=True)
class Defect:
    """One row of the catalogue.

    Attributes:
        id: a letter for the family and a number: ``"S1"``.
        family: one of `FAMILIES`.
        symptom: what happens, in one line.
        symptom_zh: the same in Chinese, for ``--lang zh`` and the Chinese pages.
        error: the text the user sees, word for word, so that a web search finds it; "" where nothing is printed.
        cause: why.
        seen: what there is to say of where it was seen besides the versions, which `evidence.seen` knows from the
            doctor's files: amounts, reports, what a dry run shows; "" for nothing.
        upstream: address of a report, or "none found".
        removal: the condition under which this file can be deleted.
        probe: shows the defect on this machine, in the process it is called in. It may change
            process-wide state: `doctor` calls it in a process and a working directory of its own.
        patch, tool: the cure, in either form; both None means "not cured yet".
        needs_device: only an Ascend device shows it; the probe then runs what can be run here.
        ascend: the scenario as the Ascend back end compiles it, for ``doctor --ascend``; None where the defect shows in
            values or in the host's own doing.
        elsewhere: why an error text that several defects share is not this one's on this machine; "" where it may be. It
            may start a process.
    """

    id: str
    family: str
    symptom: str
    error: str
    cause: str
    seen: str
    upstream: str
    removal: str
    probe: Callable[[], Finding]
    patch: Patch | None = None
    tool: Tool | None = None
    needs_device: bool = False
    symptom_zh: str = ""
    ascend: OnAscend | None = None
    elsewhere: Callable[[], str] = lambda: ""

    def symptom_in(self, language: str) -> str:
        """The symptom in a language, ``"en"`` or ``"zh"``; in English where there is nothing else."""
        return self.symptom_zh if language == "zh" and self.symptom_zh else self.symptom

    @property
    def cure(self) -> str:
        """How the defect is cured, in a word: ``patch``, ``tool: shapes.bucketed`` or ``not cured yet``."""
        if self.patch is not None:
            return "patch"
        return f"tool: {self.tool.name}" if self.tool is not None else "not cured yet"


def patience() -> float:
    """Seconds that a run of a probe may take: a limit of its own follows this. `doctor` sets it; 90 elsewhere."""
    return float(os.environ.get("ASCEND_FIXES_PATIENCE", "90"))


@functools.cache
def catalogue() -> dict[str, Defect]:
    """Every defect by id, in the order S, H, F, A, E and by number. Imports MindSpore."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__) if _FILE_NAME.fullmatch(module.name))
    defects = [importlib.import_module(f"{__name__}.{name}").DEFECT for name in names]
    defects.sort(key=lambda defect: (FAMILIES.index(defect.family), int(defect.id[1:])))
    return {defect.id: defect for defect in defects}
