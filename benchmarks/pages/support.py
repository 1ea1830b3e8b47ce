"""Tables of the documents, and the catalogue's "seen", generated from the files in ``evidence/``; and `index_pages`.

python -m benchmarks.pages.support           # writes them
python -m benchmarks.pages.support --check   # names what is not up to date; tests/test_evidence.py does the same
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ascend_fixes import evidence
from ascend_fixes.defects import catalogue
from benchmarks import records
from benchmarks.pages import index_pages

BEGIN, END = "<!-- from evidence/ -->", "<!-- end -->"
_COMPILED = re.compile(r"(compiled|refused) for Ascend")
_CHIP = "Ascend910B"  # that a probe compiles for
_RAN = ("CPU", "device")
TESTS = records.RESULTS / "versions.json"

WORDS = {
    "en": {
        "dry run": "compiled for {chip}",
        "device": "on an Ascend device",
        "cured": "cured",
        "not cured": "**present**",
        "absent": "not there",
        "needs a device": "needs a device",
        "silent": "no answer",
        "defect": "defect",
        "tests": "fast tests",
    },
    "zh": {
        "dry run": "为 {chip} 编译",
        "device": "昇腾设备上",
        "cured": "治愈",
        "not cured": "**存在**",
        "absent": "没有",
        "needs a device": "需要设备",
        "silent": "没有回答",
        "defect": "缺陷",
        "tests": "快速测试",
    },
}


@dataclass(frozen=True)
class File:
    """One file of evidence: the versions as numbers, where it is from, and its findings by defect.

    What was compiled for a chip is one, whatever Pythons compiled it: ``python`` is None.
    """

    mindspore: tuple[int, ...]
    python: tuple[int, int] | None
    where: str  # "CPU", "device", or in a dry run the chip, "Ascend910B"
    findings: Mapping[str, Mapping[str, Any]]

    @property
    def score(self) -> str:
        """``33 / 33``: cured of present."""
        present = [one for one in self.findings.values() if one["present"]]
        return f"{sum(one['cured'] is True for one in present)} / {len(present)}"


def files(folder: Path = records.ROOT / "evidence") -> list[File]:
    """Every file of evidence, checked, by version; what was compiled for Ascend beside what ran."""
    found: list[File] = []
    compiled: dict[tuple[tuple[int, ...], str], dict[str, Any]] = {}
    for path in sorted(folder.glob("*.json")):
        content = evidence.check(path)
        versions = content["versions"]
        where = content["device"] if content["how"] != "ran" else "CPU" if content["device"] == "CPU" else "device"
        mindspore, python = _numbers(versions["mindspore"]), _numbers(versions["python"])
        ran: dict[str, Any] = {}
        for one in content["findings"]:
            # Some of the doctor's probes compile for Ascend, and run nothing.
            dry = where not in _RAN or _COMPILED.match(one["evidence"])
            chip = _CHIP if where in _RAN else where
            together = compiled.setdefault((mindspore, chip), {}) if dry else ran
            together[one["id"]] = max(together.get(one["id"], one), one, key=_worst)
        if ran:
            found.append(File(mindspore, (python[0], python[1]), where, ran))
    found += [File(mindspore, None, chip, findings) for (mindspore, chip), findings in compiled.items()]
    return sorted(found, key=lambda file: (file.mindspore, file.python or (), file.where))


def _worst(one: Mapping[str, Any]) -> tuple[bool, bool]:
    """For `max`: a defect that is present before one that is not, and one that is not cured before one that is."""
    return bool(one["present"]), one["cured"] is not True


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)[:3]))


def _text(version: Iterable[int]) -> str:
    return ".".join(map(str, version))


# --- the catalogue's "seen" ------------------------------------------------------------------------


def sentences(found: list[File]) -> dict[str, str]:
    """For each defect where it was seen."""
    result = {}
    for id_ in catalogue():
        parts = [
            _seen(found, id_, "CPU", "ran on CPU"),
            *(_seen(found, id_, chip, f"compiled for {chip} (dry run)") for chip in _chips(found)),
        ]
        parts.append(_seen(found, id_, "device", "ran on Ascend"))
        text = "; ".join(filter(None, parts))
        if text:
            result[id_] = text
    return result


def _seen(found: list[File], id_: str, where: str, words: str) -> str:
    """``ran on CPU, MindSpore 2.7.0, 2.8.0: present, cured; not there on 2.7.0``."""
    groups: dict[str, list[str]] = {}
    for file in found:
        one = file.findings.get(id_)
        if file.where != where or one is None or one["present"] is None:
            continue
        state = "not there" if not one["present"] else "present and cured" if one["cured"] else "present, not cured"
        versions = groups.setdefault(state, [])
        if _text(file.mindspore) not in versions:
            versions.append(_text(file.mindspore))
    order = ("present and cured", "present, not cured", "not there")
    told = [f"{state} on MindSpore {', '.join(groups[state])}" for state in order if state in groups]
    return f"{words}: {', '.join(told)}" if told else ""


# --- tables ---------------------------------------------------------------------------------------


def grid(found: list[File], language: str = "en") -> str:
    """MindSpore by Python, and beside them the dry run and the device."""
    words = WORDS[language]
    pythons = sorted({file.python for file in found if file.where == "CPU" and file.python})
    compiled = [words["dry run"].format(chip=chip) for chip in _chips(found)]
    head = ["MindSpore", *(f"CPU, Python {_text(python)}" for python in pythons), *compiled, words["device"]]
    rows = []
    for version in sorted({file.mindspore for file in found}):
        here = [file for file in found if file.mindspore == version]
        cells = [_score(here, "CPU", python) for python in pythons]
        cells += [_score(here, chip) for chip in _chips(found)]
        rows.append([_text(version), *cells, _score(here, "device")])
    return _table(head, rows)


def _chips(found: list[File]) -> list[str]:
    """What was compiled for."""
    return sorted({file.where for file in found} - {*_RAN})


def _score(found: list[File], where: str, python: tuple[int, int] | None = None) -> str:
    scores = [file.score for file in found if file.where == where and python in (None, file.python)]
    return ", ".join(dict.fromkeys(scores))


def details(found: list[File], language: str = "en") -> str:
    """Defect by defect; Pythons that say the same of a MindSpore share a column."""
    words = WORDS[language]
    places = {"CPU": "CPU", "device": words["device"]}
    places |= {chip: words["dry run"].format(chip=chip) for chip in _chips(found)}
    columns: dict[tuple[Any, ...], list[str]] = {}
    for file in found:
        states = tuple(_state(file.findings.get(id_), words) for id_ in catalogue())
        pythons = columns.setdefault((_text(file.mindspore), places[file.where], states), [])
        pythons += [_text(file.python)] if file.python else []
    head = [words["defect"]]
    for (mindspore, place, _), pythons in columns.items():
        head.append(", ".join(filter(None, [mindspore, pythons and f"Python {', '.join(pythons)}", place])))
    rows = zip(catalogue(), *(states for _, _, states in columns))
    return _table(head, [list(row) for row in rows])


def _state(one: Mapping[str, Any] | None, words: Mapping[str, str]) -> str:
    if one is None:
        return ""
    if one["present"] is None:
        return words["needs a device"] if one["answer"] == "needs a device" else words["silent"]
    if not one["present"]:
        return words["absent"]
    return words["cured"] if one["cured"] else words["not cured"]


def tests(language: str = "en") -> str:
    """What the fast tests said, version by version."""
    results = records.read(TESTS, [])
    rows = [
        [
            one["mindspore"],
            _text(_numbers(one["python"])[:2]),
            " ".join(f"`{path}`" for path in one["paths"]),
            ", ".join(
                f"{one[word]} {word}" for word in ("passed", "skipped", "failed", "error", "errors") if word in one
            ),
        ]
        for one in results
    ]
    return _table(["MindSpore", "Python", WORDS[language]["tests"], ""], rows)


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


# --- where they go --------------------------------------------------------------------------------


def wanted() -> dict[Path, str]:
    """Every generated text by the file that holds it."""
    found = files()
    result = {records.ROOT / "ascend_fixes/evidence/seen.json": json.dumps(sentences(found), indent=1) + "\n"}
    for language, readme, page in (
        ("en", "README.md", "docs/support.md"),
        ("zh", "README.zh.md", "docs/zh/support.md"),
    ):
        result[records.ROOT / readme] = _between(records.ROOT / readme, [grid(found, language)])
        blocks = [grid(found, language), details(found, language), tests(language)]
        result[records.ROOT / page] = _between(records.ROOT / page, blocks)
    guide = records.ROOT / "docs/evidence.md"
    result[guide] = _between(guide, [schema()], "<!-- the schema -->")
    result.update({records.ROOT / name: text for name, text in index_pages.wanted().items()})
    return result


def schema() -> str:
    """The fields of a file, one a line."""
    kinds = {str: "text", bool: "true or false", int: "number", float: "number", type(None): "null"}
    rows = [
        [f"`{field.name}`", " or ".join(dict.fromkeys(kinds[kind] for kind in field.kinds)), field.meaning]
        for field in evidence.SCHEMA
    ]
    return _table(["field", "type", "what it says"], rows)


def _between(path: Path, blocks: list[str], begin: str = BEGIN) -> str:
    """The file's text with what stands between its markers replaced."""
    parts = re.split(f"({re.escape(begin)}\n.*?{re.escape(END)})", path.read_text(encoding="utf-8"), flags=re.S)
    if len(parts) != 2 * len(blocks) + 1:
        raise SystemExit(f"{path}: {len(blocks)} places between {begin} and {END} are expected")
    parts[1::2] = [f"{begin}\n{block}\n{END}" for block in blocks]
    return "".join(parts)


def main() -> int:
    """See above."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args().check
    stale = [path for path, text in wanted().items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    for path in stale:
        print(f"{path.relative_to(records.ROOT)} {'is not up to date' if check else 'written'}")
        if not check:
            path.write_text(wanted()[path], encoding="utf-8")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
