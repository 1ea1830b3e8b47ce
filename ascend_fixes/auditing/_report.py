"""What an audit found: plain data, as text, JSON and a page."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ascend_fixes.auditing._kinds import CERTAINTIES, KINDS, READ
from ascend_fixes.errors import AscendFixesError, UnknownNameError, nearest

__all__ = ["AuditError", "AuditReport", "Hazard"]


class AuditError(AscendFixesError, ValueError):
    """A cell, inputs or options that cannot be audited."""


@dataclass(frozen=True)
class Hazard:
    """One thing that will go wrong.

    Attributes:
        family: "shapes", "host", "fusion" or "amp".
        kind: one of `KINDS`.
        operator: the operator or layer, "Reshape"; "" where there is no single one.
        cell: the path of the cell, "encoder.3"; "" for the audited cell itself.
        source: file and line, "model.py:31"; "" where it is not known.
        reason: what is wrong, in one sentence.
        evidence: what was run or read, with its numbers.
        certainty: one of `CERTAINTIES`.
        cure: what to do, with the code to write.
    """

    family: str
    kind: str
    operator: str
    cell: str
    source: str
    reason: str
    evidence: str
    certainty: str
    cure: str

    def __post_init__(self) -> None:
        if self.kind not in KINDS or self.family != KINDS[self.kind].family:
            raise UnknownNameError(f"{self.family}/{self.kind} is no kind of hazard{nearest(self.kind, KINDS)}")
        if self.certainty not in CERTAINTIES:
            raise UnknownNameError(f"certainty={self.certainty!r} is unknown; choose one of {', '.join(CERTAINTIES)}")

    @property
    def certain(self) -> bool:
        """Whether it was seen, and not only read."""
        return self.certainty != READ

    @property
    def place(self) -> str:
        """Operator, cell and source line, as far as they are known."""
        where = f"{self.cell or 'the cell itself'}"
        return " ".join(filter(None, (self.operator, f"in {where}", f"({self.source})" if self.source else "")))

    def __str__(self) -> str:
        said = [self.reason, f"{self.certainty}: {self.evidence}", *self.cure.splitlines()]
        return "\n".join([f"{self.family:7s} {self.kind}: {self.place}", *(f"        {line}" for line in said)])


@dataclass(frozen=True)
class AuditReport:
    """What `ascend_fixes.audit` found.

    Attributes:
        cell: the class of the audited cell.
        target: the device that it was compiled for.
        hazards: what will go wrong, surest first.
        cleared: kinds that were looked for and are not there, each with how it was looked for.
        not_looked_at: kinds that were not looked for, each with the reason.
        axes: the ragged axes, given or inferred, as `ascend_fixes.shapes.bucketed` takes them.
        pad: the pad value by argument, as found out by running.
        masks: the arguments that keep padding out, found by what they do.
        notes: what was inferred, and what else a reader should know.
        seconds: what it took.
    """

    cell: str
    target: str
    hazards: tuple[Hazard, ...]
    cleared: Mapping[str, str]
    not_looked_at: Mapping[str, str]
    axes: Mapping[str, Any] = field(default_factory=dict)
    pad: Mapping[str, Any] = field(default_factory=dict)
    masks: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def certain(self) -> tuple[Hazard, ...]:
        """The hazards that were seen, and not only read."""
        return tuple(hazard for hazard in self.hazards if hazard.certain)

    def show(self) -> str:
        """The report for a terminal."""
        head = f"{self.cell}: {len(self.hazards)} hazards, {len(self.certain)} of them seen ({self.seconds:.0f} s)"
        lines = [head, *(f"note: {note}" for note in self.notes)]
        for hazard in self.hazards:
            lines += ["", str(hazard)]
        lines += ["", *_listed("looked for and not there", self.cleared)] if self.cleared else []
        lines += ["", *_listed("not looked at", self.not_looked_at)] if self.not_looked_at else []
        return "\n".join(lines)

    __str__ = show

    def to_json(self) -> str:
        """The report as one JSON object."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False, default=str)

    def to_html(self) -> str:
        """The report as one page that needs no other file."""
        rows = "".join(_row(hazard) for hazard in self.hazards)
        lists = "".join(
            f"<h2>{title}</h2><ul>{''.join(f'<li><b>{k}</b>: {_text(v)}</li>' for k, v in kinds.items())}</ul>"
            for title, kinds in (("Looked for and not there", self.cleared), ("Not looked at", self.not_looked_at))
            if kinds
        )
        notes = "".join(f"<p>{_text(note)}</p>" for note in self.notes)
        return _PAGE.format(title=_text(f"Audit of {self.cell} for {self.target}"), notes=notes, rows=rows, lists=lists)


def _listed(title: str, kinds: Mapping[str, str]) -> list[str]:
    """The kinds, those with one reason together."""
    by_reason: dict[str, list[str]] = {}
    for kind, reason in kinds.items():
        by_reason.setdefault(reason, []).append(kind)
    return [f"{title}:", *(f"  {', '.join(names)}: {reason}" for reason, names in by_reason.items())]


def _text(value: str) -> str:
    return html.escape(value).replace("\n", "<br>")


def _row(hazard: Hazard) -> str:
    cells = (hazard.family, hazard.kind, hazard.place, f"{hazard.reason}\n{hazard.certainty}: {hazard.evidence}")
    return f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in cells)}<td><pre>{html.escape(hazard.cure)}</pre></td></tr>\n"


_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2em; }}
table {{ border-collapse: collapse; }}
td, th {{ border: 1px solid #ccc; padding: .4em .6em; text-align: left; vertical-align: top; }}
pre {{ margin: 0; white-space: pre-wrap; }}
</style>
<h1>{title}</h1>
{notes}
<table><tr><th>family</th><th>kind</th><th>where</th><th>what was seen</th><th>cure</th></tr>
{rows}</table>
{lists}
</html>
"""
