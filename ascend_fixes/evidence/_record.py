"""The form of a file of evidence: made from the doctor's rows, and checked field by field."""

from __future__ import annotations

import getpass
import json
import os
import platform
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ascend_fixes import __version__
from ascend_fixes.doctor import ANSWERS, Row
from ascend_fixes.errors import AscendFixesError
from ascend_fixes.files import PathLike, read_json

__all__ = ["FORMAT", "SCHEMA", "EvidenceError", "Field", "check", "record", "written"]

FORMAT = "ascend_fixes evidence 1"
_VERSION = r"\d+(\.\d+)+[\w.+-]*"
_LONGEST = 4000  # letters of one field
# A path of two and more parts, a path from somebody's home, an address of a machine or of a person.
_PRIVATE = re.compile(
    r"(?<![\w./~+-])~?/+[\w.@+~-]+(?:/+[\w.@+~-]+)+/?|(?<!\w)~\w*/[\w./@+~-]+"
    r"|(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?!\.?\w)|[\w.+-]+@[\w-]+(?:\.\w+)+"
)


class EvidenceError(AscendFixesError, ValueError):
    """A file that is no evidence: a field is missing, unknown, of another form, or holds something private."""


@dataclass(frozen=True)
class Field:
    """One field of the file.

    Attributes:
        name: where it stands, ``"versions.numpy"``; a field of each finding begins with ``"findings."``.
        kinds: the types of JSON that it may have.
        meaning: what it says.
        pattern: what a string has to look like, whole; "" means anything without a path or an address.
    """

    name: str
    kinds: tuple[type, ...]
    meaning: str
    pattern: str = ""


_NOTHING = type(None)
SCHEMA = (
    Field("format", (str,), f'always "{FORMAT}"', re.escape(FORMAT)),
    Field("how", (str,), '"ran" or "compiled for Ascend" (nothing was executed)', "ran|compiled for Ascend"),
    Field("any_version", (bool,), "were cures tried on a MindSpore that they were not checked on?"),
    Field("versions.ascend_fixes", (str,), "of this library", _VERSION),
    Field("versions.mindspore", (str,), "of MindSpore, as it reports itself", _VERSION),
    Field("versions.python", (str,), "of Python", _VERSION),
    Field("versions.numpy", (str,), "of NumPy", _VERSION),
    Field("versions.cann", (str,), 'of the vendor\'s toolkit; "" where there is none', f"|{_VERSION}"),
    Field(
        "wheel", (str,), 'commit and branch of MindSpore\'s wheel; "" where it does not say', r"|[0-9a-f]+( [\w.-]+)?"
    ),
    Field("machine.system", (str,), 'of the machine, "Linux"', r"\w+"),
    Field("machine.processor", (str,), '"x86_64" or "aarch64"', r"\w+"),
    Field("machine.cores", (int,), "that the doctor could use"),
    Field("device", (str,), '"CPU", or the chip, "ascend910b"', r"CPU|GPU|[Aa]scend\w*"),
    Field("seconds", (int, float), "that the doctor took"),
    Field("findings.id", (str,), "of the defect", r"[A-Z]\d+"),
    Field("findings.present", (bool, _NOTHING), "was it seen? null where no probe could tell"),
    Field("findings.cured", (bool, _NOTHING), "was it gone with its cure? null where nothing was to be cured"),
    Field("findings.answer", (str,), "the doctor's word: " + ", ".join(ANSWERS), "|".join(ANSWERS)),
    Field("findings.cure", (str,), '"patch", "tool: ..." or "not cured yet"'),
    Field("findings.evidence", (str,), "numbers, or the first line of an error"),
    Field("findings.seconds", (int, float), "that looking took, without and with the cure"),
)


# --- making ---------------------------------------------------------------------------------------


def record(
    rows: Sequence[Row], seconds: float, how: str = "ran", any_version: bool = False, soc: str = "Ascend910B"
) -> dict[str, Any]:
    """What these rows say, with the versions of this machine, and without paths and names. Imports MindSpore.

    Args:
        rows: what `doctor.examine` or `compiled.examine` returned.
        seconds: how long it took.
        how: "ran" or "compiled for Ascend".
        any_version: were cures tried beyond the versions that they were checked on?
        soc: the chip that was compiled for.
    """
    import numpy

    from ascend_fixes import _mindspore

    return {
        "format": FORMAT,
        "how": how,
        "any_version": any_version,
        "versions": {
            "ascend_fixes": __version__,
            "mindspore": _mindspore.version_text(),
            "python": platform.python_version(),
            "numpy": numpy.__version__,
            "cann": _mindspore.toolkit_version(),
        },
        "wheel": _mindspore.build(),
        "machine": {
            "system": platform.system(),
            "processor": platform.machine(),
            "cores": len(os.sched_getaffinity(0)),
        },
        "device": soc if how != "ran" else _mindspore.device_name(),
        "seconds": round(seconds, 1),
        "findings": [
            {
                "id": row.id,
                "present": row.present,
                "cured": row.cured,
                "answer": row.answer,
                "cure": row.cure,
                "evidence": _anonymous(row.evidence),
                "seconds": row.seconds,
            }
            for row in rows
        ],
    }


def written(evidence: Mapping[str, Any]) -> str:
    """The text of the file."""
    return json.dumps(evidence, indent=1, ensure_ascii=False) + "\n"


def _anonymous(text: str) -> str:
    """The text with paths and addresses, this machine's name and this user's replaced, and cut where it is long."""
    text = _PRIVATE.sub("<left out>", text)
    for name in _own_names():
        text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "<left out>", text)
    return text[:_LONGEST]


def _own_names() -> Iterator[str]:
    names = {socket.gethostname(), platform.node()}
    try:
        names.add(getpass.getuser())
    except (KeyError, OSError):  # no entry in the list of users, as in a container
        pass
    yield from sorted(names - {"", "root", "localhost"}, key=len, reverse=True)


# --- checking -------------------------------------------------------------------------------------


def check(path: PathLike) -> dict[str, Any]:
    """Read a file of evidence; every field is checked, and none may be there besides.

    Args:
        path: the file.

    Returns:
        What it holds, field by field as in `SCHEMA`.

    Raises:
        FileError: it cannot be read or is no JSON.
        EvidenceError: it does not have this form, contradicts itself, or holds a path or an address.
    """
    content = read_json(path)
    try:
        _check_object(content, "")
        if not content["findings"]:
            raise EvidenceError("findings is empty; run the doctor without --only, or with a name")
        for number, finding in enumerate(content["findings"], 1):
            _check_finding(finding, f"finding {number}")
        ids = [finding["id"] for finding in content["findings"]]
        twice = sorted({id_ for id_ in ids if ids.count(id_) > 1})
        if twice:
            raise EvidenceError(f"{twice[0]} is in findings twice; a file is of one run of the doctor")
    except EvidenceError as error:
        raise EvidenceError(f"{path}: {error}") from None
    checked: dict[str, Any] = content
    return checked


def _check_finding(finding: Any, place: str) -> None:
    try:
        _check_object(finding, "findings.")
    except EvidenceError as error:
        raise EvidenceError(f"{place}: {error}") from None
    expected = {"present": (True,), "not present": (False,), "needs a device": (None,)}
    allowed = expected.get(finding["answer"], (True, None))
    if finding["present"] not in allowed or (finding["cured"] is not None and not finding["present"]):
        raise EvidenceError(
            f"{place}: answer={finding['answer']!r} contradicts present={finding['present']!r} and "
            f"cured={finding['cured']!r}; write the file with `ascend-fixes doctor --report`"
        )


def _check_object(value: Any, prefix: str) -> None:
    """An object of the file: its fields are those of `SCHEMA` that begin with ``prefix``, and right."""
    place = prefix.rstrip(".") or "the file"
    if not isinstance(value, dict):
        raise EvidenceError(f"{place} is {_shown(value)}, not an object; write it with `ascend-fixes doctor --report`")
    fields = {field.name[len(prefix) :]: field for field in SCHEMA if field.name.startswith(prefix)}
    known = {name.partition(".")[0] for name in fields}
    wrong = sorted({*map(str, value)} ^ known)
    if wrong:
        what = "is unknown" if wrong[0] in value else "is missing"
        raise EvidenceError(f"{prefix}{wrong[0]} {what}; the fields are {', '.join(sorted(known))}")
    for name in known:
        if name in fields:
            _check_value(value[name], fields[name])
        elif prefix + name == "findings":
            if not isinstance(value[name], list):
                raise EvidenceError(f"findings is {_shown(value[name])}, not a list")
        else:
            _check_object(value[name], f"{prefix}{name}.")


def _check_value(value: Any, field: Field) -> None:
    fits = type(value) in field.kinds  # a bool is no int here
    if fits and isinstance(value, (int, float)) and not isinstance(value, bool):
        fits = 0 <= value < float("inf")
    if not fits:
        raise EvidenceError(f"{field.name}={_shown(value)}, but it has to be {field.meaning}")
    if not isinstance(value, str):
        return
    if field.pattern and not re.fullmatch(field.pattern, value):
        raise EvidenceError(f"{field.name}={_shown(value)}, but it has to be {field.meaning}")
    found = _PRIVATE.search(value)
    if found:
        raise EvidenceError(
            f"{field.name} holds {_shown(found.group())}, a path or an address; take it out and send the rest"
        )
    if len(value) > _LONGEST:
        raise EvidenceError(f"{field.name} has {len(value):,} letters; more than {_LONGEST:,} are too many, cut it")


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."
