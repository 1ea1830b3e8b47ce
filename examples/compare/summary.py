"""What the runs of the quick comparison say: a row for every family and model, and a sentence for every family."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Callable, NamedTuple

from examples.common import report
from examples.common.files import write_text
from examples.compare import page
from examples.compare.jobs import MODELS, REPEATS, SIDES

__all__ = ["off", "results", "write"]

Found = dict[str, Any]
_SAME = 1e-3  # relative difference of two losses that counts as none; rounding stays well below


def results(models: Sequence[str], found: Mapping[tuple[str, str, str], Found]) -> dict[str, Any]:
    """The rows, the sentences and everything that was measured, as JSON can hold it."""
    rows = [_row(family, model, found) for family in _FAMILIES for model in MODELS if model in models]
    sentences = {
        family: judged.sentence([row for row in rows if row["family"] == family])
        for family, judged in _FAMILIES.items()
    }
    versions = {name: metadata.version(name) for name in ("mindspore", "numpy")}
    measured = {f"{model} {side} {kind}": one for (model, side, kind), one in found.items()}
    return {
        "versions": {"python": platform.python_version(), **versions},
        "rows": rows,
        "sentences": sentences,
        "measured": measured,
    }


def _row(family: str, model: str, found: Mapping[tuple[str, str, str], Found]) -> Found:
    """``plain`` and ``cured`` in words, whether the cured side did what it should, and whether the plain one did."""
    judged = _FAMILIES[family]
    jobs = [found[model, side, judged.kind] for side in SIDES]
    sides = [job.get(judged.part) or {"crash": job.get("ended") or "no result"} for job in jobs]
    reference = found[model, "plain", "running"].get("ragged") or {}
    plain, cured = ((one["crash"], False) if "crash" in one else judged.judge(one, reference) for one in sides)
    if family == "host" and not _agree(*sides):
        cured = f"{cured[0]}; ANOTHER ANSWER", False
    row = {"family": family, "model": model, "plain": plain[0], "cured": cured[0], "hit": not plain[1], "ok": cured[1]}
    return {
        **row,
        "figures": {"plain": sides[0], "cured": sides[1]},
        "unfused": (reference.get("losses") or [])[:REPEATS],
    }


# --- one side of one model: what it did, and whether that is what it should do ------------------


def _shapes(one: Found, reference: Found) -> tuple[str, bool]:
    done = f"{len(one['at']) + 1} batches in {one['training_seconds']:.0f} s"
    said = f"{done}, {one['graphs']} graphs, {one['padded_share']:.0%} padding"
    return said, _finite(one["losses"]) and off(one, reference) < _SAME


def _amp(one: Found, reference: Found) -> tuple[str, bool]:
    lost = [loss is None or not math.isfinite(loss) for loss in one["losses"]]
    if lost[-1]:
        where = f": {one['where']}" if one.get("where") else ""
        return f"NaN from step {lost.index(True) + 1}{where}", False
    apart = off(one, reference)
    said = f"trains; {one['skipped']} of {REPEATS} steps skipped; losses within {apart:.1%} of float32's"
    return said, one["skipped"] < REPEATS


def _fusion(one: Found, reference: Found) -> tuple[str, bool]:
    apart = off(one, reference)
    one["error"] = apart if math.isfinite(apart) else None
    return f"losses off by {apart:.0e}", apart < _SAME


def _host(one: Found, reference: Found) -> tuple[str, bool]:
    if one["unit"] != "translations":
        return f"{one['rate']:,.0f} {one['unit']}/s", bool(one["answer"])
    done = (
        f"{one['rate']:,.1f} translations/s" if one["rate"] else f"none translated after {len(one['tokens'][0])} words"
    )
    beam = f" ({one['beam_rate']:,.1f} with 5 hypotheses)" if "beam_rate" in one else ""
    return f"{done}{beam}, {one['graphs']} graphs", bool(one["rate"])


def _agree(plain: Found, cured: Found) -> bool:
    """Whether both sides gave the same answer, as far as both gave one."""
    if "tokens" in plain and "tokens" in cured:
        count = min(len(plain["tokens"][0]), len(cured["tokens"][0]))
        return [row[:count] for row in plain["tokens"]] == [row[:count] for row in cured["tokens"]]
    return "answer" not in plain or "answer" not in cured or plain["answer"] == cured["answer"]


def _ascend(one: Found, reference: Found) -> tuple[str, bool]:
    if one["verdict"] != "compiled":
        return f"{one['verdict']}: {one['reason'].splitlines()[0][:160]}", False
    kernels = ", ".join(f"{count} {kind}" for kind, count in one["kernels"].items())
    return f"compiled: {kernels}", True


def off(one: Found, reference: Found) -> float:
    """The largest relative difference of the losses over the batches that every run begins with; inf where one is not finite.

    Of losses near zero, which are learnt by heart, it is that against a hundredth of the first.
    """
    pairs = list(zip(one.get("losses") or [], reference.get("losses") or []))[:REPEATS]
    if not pairs:
        return math.inf
    least = abs(pairs[0][1] or 0) / 100
    apart = [abs(a - b) / max(abs(b), least) if a is not None and b is not None else math.inf for a, b in pairs]
    return math.inf if any(math.isnan(value) for value in apart) else max(apart)


def _finite(losses: Sequence[float | None]) -> bool:
    return all(loss is not None and math.isfinite(loss) for loss in losses)


# --- one sentence a family ----------------------------------------------------------------------


def _names(rows: Sequence[Found]) -> str:
    names = [MODELS[row["model"]].title for row in rows]
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def _troubled(rows: Sequence[Found]) -> str:
    """What is not as it should be with ascend_fixes; it is never left out."""
    bad = [row for row in rows if not row["ok"]]
    return f" NOT as it should be with ascend_fixes: {_names(bad)}." if bad else ""


def _hit_and_cured(rows: Sequence[Found], hit: str, cured: str) -> str:
    """Which models a defect hits, which of them are cured, and which it spares."""
    struck, spared = [row for row in rows if row["hit"]], [row for row in rows if not row["hit"]]
    well = [row for row in struck if row["ok"]]
    said = []
    if struck:
        said.append(f"{hit} {_names(struck)}; {cured} {'all of them' if well == struck else _names(well) or 'none'}.")
    if spared:
        said.append(f"{_names(spared)} {'was' if len(spared) == 1 else 'were'} not hit in these few steps.")
    return " ".join(said) + _troubled(rows)


def _amp_sentence(rows: Sequence[Found]) -> str:
    hit = "In float16 a newcomer's code crashes or turns to NaN for"
    return _hit_and_cured(rows, hit, "with ascend_fixes float16 trains")


def _fusion_sentence(rows: Sequence[Found]) -> str:
    return _hit_and_cured(rows, "Graph-kernel fusion crashes or changes the losses of", "ascend_fixes cures")


def _shapes_sentence(rows: Sequence[Found]) -> str:
    def total(side: str) -> str:
        done = [row["figures"][side] for row in rows if "crash" not in row["figures"][side]]
        batches, graphs = sum(len(one["at"]) + 1 for one in done), sum(one["graphs"] for one in done)
        return f"{sum(one['training_seconds'] for one in done):.0f} s for {batches} batches and compile {graphs} graphs"

    said = f"As they are, the models take {total('plain')}; with ascend_fixes they take {total('cured')}."
    slower = [row for row in rows if _rate(row, "cured") <= _rate(row, "plain")]
    return said + (f" It did not help {_names(slower)}." if slower else "") + _troubled(rows)


def _rate(row: Found, side: str) -> float:
    """Batches a second, compilation included; the common first one apart."""
    one = row["figures"][side]
    return 0.0 if "crash" in one else len(one["at"]) / one["training_seconds"]


def _host_sentence(rows: Sequence[Found]) -> str:
    uses = {
        "albert": "words to ids",
        "texting": "training word vectors",
        "bert_crf": "tagging",
        "rnnsearch": "translating",
    }
    said = []
    for row in rows:
        plain, cured = (row["figures"][side].get("rate") for side in ("plain", "cured"))
        if plain and cured:
            said.append(f"{uses[row['model']]} at {cured / plain:.1f} times the rate")
        elif cured:
            said.append(f"{uses[row['model']]} at {cured:,.1f} a second, where a growing prefix had none in the time")
    return f"On the host: {', '.join(said)}." + _troubled(rows) if said else _troubled(rows).strip()


def _ascend_sentence(rows: Sequence[Found]) -> str:
    if all(row["figures"]["cured"].get("verdict") == "not run" for row in rows):
        return f"No dry run for Ascend on this machine: {rows[0]['figures']['cured']['reason']}"
    refused, compiled = [row for row in rows if row["hit"]], [row for row in rows if row["ok"]]
    said = f"MindSpore's Ascend back end refuses {_names(refused)} in float16 as written" if refused else ""
    said += f"{'; it' if said else 'The Ascend back end'} compiles {_names(compiled)} with ascend_fixes. Nothing was executed."
    return said + _troubled(rows)


class Family(NamedTuple):
    """How a family is judged.

    Attributes:
        kind, part: the job, and what of its result.
        judge: what one side of one model did, given float32's result, and whether that is what it should do.
        sentence: what its rows say together.
    """

    kind: str
    part: str
    judge: Callable[[Found, Found], tuple[str, bool]]
    sentence: Callable[[Sequence[Found]], str]


_FAMILIES = {
    "shapes": Family("running", "ragged", _shapes, _shapes_sentence),
    "amp": Family("running", "float16", _amp, _amp_sentence),
    "fusion": Family("running", "fused", _fusion, _fusion_sentence),
    "host": Family("hosted", "host", _host, _host_sentence),
    "ascend": Family("ascend", "ascend", _ascend, _ascend_sentence),
}


# --- for people ---------------------------------------------------------------------------------


def write(found: Mapping[str, Any], folder: Path) -> None:
    """Print table and sentences; write them as ``table.md`` and, with figures, as ``index.html``."""
    lines = [["family", "model", "as it is", "with ascend_fixes"]]
    for row in found["rows"]:
        lines.append([row["family"], MODELS[row["model"]].title, row["plain"], row["cured"]])
    sentences = [f"{family}: {found['sentences'][family]}" for family in _FAMILIES]
    text = "\n".join([report.markdown(lines), *(f"- {one}" for one in sentences), ""])
    write_text(folder / "table.md", text)
    write_text(folder / "index.html", page.html(found, lines))
    short = [[*line[:2], *(_short(cell) for cell in line[2:])] for line in lines]
    print(f"\n{report.aligned(short)}")
    print("", *sentences, "", f"{found['seconds']:.0f} s; page: {folder / 'index.html'}", sep="\n")


def _short(text: str) -> str:
    return text if len(text) <= 64 else f"{text[:61]}..."
