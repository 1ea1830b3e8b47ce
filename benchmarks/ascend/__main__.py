"""``python -m benchmarks.ascend``: everything public and the four examples, compiled for Ascend; nothing is executed.

Writes ``benchmarks/results/ascend.json``, a record after each compilation, and the page ``docs/ascend.md`` from it. One
process a record; what is recorded already is not compiled again, so the run can be interrupted, and split:

    python -m benchmarks.ascend                            # everything: see "seconds" in the page for the time it takes
    python -m benchmarks.ascend --only fusion,ALBERT       # families, names or parts of names
    python -m benchmarks.ascend --again                    # compile what is recorded, too
    python -m benchmarks.ascend --page                     # the page alone
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ascend_fixes import dryrun
from ascend_fixes.dryrun import DryRunReport
from ascend_fixes.files import replacing
from benchmarks import records
from benchmarks.ascend.cells import ROWS

RESULTS, PAGE = records.RESULTS / "ascend.json", records.ROOT / "docs" / "ascend.md"
SETTINGS = (("Ascend910B", "O1"), ("Ascend910B", "O0"), ("Ascend910A", "O0"), ("Ascend910A", "O1"))
EXAMPLES = {"albert": "ALBERT", "bert_crf": "BERT-CRF", "rnnsearch": "RNNSearch", "texting": "TextING"}
RANKS = 8
_PATIENCE = 900  # seconds for one process
KINDS = ("aclnn", "aclop", "fused", "internal", "host", "hccl")


@dataclass(frozen=True)
class Work:
    """One compilation.

    Attributes:
        family, name: of the row.
        variant: "tool" or "plain"; for examples fixes and precision.
        soc, jit_level, ranks: what is compiled for.
    """

    family: str
    name: str
    variant: str
    soc: str
    jit_level: str
    ranks: int = 1

    @property
    def key(self) -> str:
        return " | ".join((self.family, self.name, self.variant, self.soc, self.jit_level, str(self.ranks)))


def works() -> Iterator[Work]:
    """Everything, what tells most first."""
    for soc, level in SETTINGS:
        for row in ROWS:
            yield Work(row.family, row.name, "tool", soc, level)
            if row.plain and soc == "Ascend910B":
                yield Work(row.family, row.name, "plain", soc, level)
        for name in EXAMPLES.values():
            for precision in ("float16", "float32"):
                for fixes in ("none", "all"):
                    yield Work("examples", name, f"{fixes} {precision}", soc, level)
        if soc == "Ascend910B":
            for name in EXAMPLES.values():
                yield Work("examples", name, "all float16", soc, level, RANKS)


def compiled(work: Work) -> DryRunReport:
    options: dict[str, Any] = {"soc": work.soc, "jit_level": work.jit_level, "ranks": work.ranks, "timeout": _PATIENCE}
    if work.family != "examples":
        row = next(row for row in ROWS if (row.family, row.name) == (work.family, work.name))
        return dryrun.cell(f"benchmarks.ascend.cells:{row.factory if work.variant == 'tool' else row.plain}", **options)
    example = next(key for key, name in EXAMPLES.items() if name == work.name)
    fixes, precision = work.variant.split()
    script = Path(__file__).with_name("example.py")
    return dryrun.script(script, example, fixes, precision, str(work.ranks), **options)


def record(work: Work) -> dict[str, Any]:
    """What is kept of a compilation; whatever it ends in is a verdict."""
    start = time.perf_counter()
    try:
        report = compiled(work)
    except ValueError as error:  # of a factory: MindSpore refused to make the cell
        return {"verdict": "refused", "reason": str(error).splitlines()[0][:300]}
    operators: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
    for graph in report.graphs:
        for kind in KINDS:
            operators[kind].update(graph.operators.get(kind, {}))
    reasons = [graph.reason for graph in report.graphs if graph.reason] + [report.failure]
    crossing = [graph.host_bytes for graph in report.graphs]
    return {
        "verdict": report.verdict,
        "reason": next((reason.splitlines()[0][:300] for reason in reasons if reason), ""),
        "kernels": {kind: sum(operators[kind].values()) for kind in KINDS},
        "operators": {kind: dict(operators[kind]) for kind in KINDS if kind not in ("aclnn", "fused")},
        "host_bytes": None if None in crossing else sum(crossing),
        "graphs": len(report.graphs),
        "kernel_graphs": sum(graph.kernel_graphs for graph in report.graphs),
        "compile_seconds": round(sum(graph.seconds or 0 for graph in report.graphs), 2),
        "seconds": round(time.perf_counter() - start, 1),
        "mindspore": report.mindspore,
    }


# --- the page --------------------------------------------------------------------------------------


def page(results: dict[str, Any]) -> str:
    """The table as Markdown."""
    seconds = sum(one.get("seconds", 0) for one in results.values())
    versions = ", ".join(sorted({one["mindspore"] for one in results.values() if one.get("mindspore")}))
    lines = [
        "# Compiled for Ascend",
        "",
        "Written by `python -m benchmarks.ascend` from `benchmarks/results/ascend.json`; what it means stands in "
        "[dryrun.md](dryrun.md).",
        f"**Compiled by MindSpore's Ascend back end (MindSpore {versions}); nothing was executed.** {len(results)} compilations, "
        f"{seconds / 60:.0f} minutes, one process each.",
        "",
        "Kernels: aclnn are precompiled, aclop are built by the device's compiler for every shape, fused are made by DVM, "
        "host run on the CPU. Beside each tool, in italics, the same in MindSpore's own words. A cell shows "
        "aclnn + aclop + fused, and host where there is one; `-` is not compiled yet.",
    ]
    for family in ("shapes", "host", "fusion", "amp"):
        rows = [row for row in ROWS if row.family == family]
        if rows:
            lines += ["", f"## {family}", "", *_table(results, rows)]
    return "\n".join([*lines, "", "## The four examples", "", *_examples(results), "", *_unsettled(results)]) + "\n"


def _table(results: dict[str, Any], rows: Sequence[Any]) -> Iterator[str]:
    yield (
        "| | "
        + " | ".join(f"{soc[6:]}, {level}" for soc, level in SETTINGS)
        + " | built for every shape | on the host |"
    )
    yield "|---" * (len(SETTINGS) + 3) + "|"
    for row in rows:
        for variant, title in (("tool", row.name), ("plain", f"*{row.name}, plain*")):
            if variant == "plain" and not row.plain:
                continue
            found = [results.get(Work(row.family, row.name, variant, *setting).key) for setting in SETTINGS]
            known = next((one for one in (found[1], found[0]) if one and "operators" in one), None)
            named = [_names(known["operators"][kind]) if known else "" for kind in ("aclop", "host")]
            yield f"| {title} | " + " | ".join([*map(_cell, found), *named]) + " |"


def _examples(results: dict[str, Any]) -> Iterator[str]:
    yield "One training step on the first batch of the built-in data. `all` is with every family of fixes."
    yield ""
    yield (
        "| | " + " | ".join(f"{soc[6:]}, {level}" for soc, level in SETTINGS) + " | kernel graphs | bytes to the host |"
    )
    yield "|---" * (len(SETTINGS) + 3) + "|"
    for name in EXAMPLES.values():
        variants = [(f"{f} {p}", 1) for p in ("float32", "float16") for f in ("none", "all")] + [("all float16", RANKS)]
        for variant, count in variants:
            found = [results.get(Work("examples", name, variant, *setting, count).key) for setting in SETTINGS]
            known = next((one for one in found if one and "kernel_graphs" in one), {})
            title = f"{name}, {variant}" + (f", rank 0 of {count}" if count > 1 else "")
            bytes_ = known.get("host_bytes")
            crossing = f"{bytes_:,}" if bytes_ is not None else ""
            yield (
                f"| {title} | " + " | ".join(map(_cell, found)) + f" | {known.get('kernel_graphs', '')} | {crossing} |"
            )


def _cell(one: dict[str, Any] | None) -> str:
    if one is None:
        return "-"
    if one["verdict"] != "compiled":
        return f"**{one['verdict']}**"
    kernels = one["kernels"]
    text = " + ".join(str(kernels[kind]) for kind in ("aclnn", "aclop", "fused"))
    return text + "".join(f", {kernels[kind]} {kind}" for kind in ("internal", "host", "hccl") if kernels[kind])


def _names(operators: dict[str, int]) -> str:
    return ", ".join(f"{name}{f' x{count}' if count > 1 else ''}" for name, count in sorted(operators.items()))


def _unsettled(results: dict[str, Any]) -> Iterator[str]:
    """Why what did not compile did not."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for key, one in results.items():
        if one["verdict"] != "compiled":
            _, name, variant, soc, level, ranks = key.split(" | ")
            where = f"{soc[6:]} {level}" + (f" of {ranks}" if ranks != "1" else "")
            what = f"{name}, plain" if variant == "plain" else name if variant == "tool" else f"{name}, {variant}"
            reasons.setdefault((what, f"{one['verdict']}: {one['reason']}"), []).append(where)
    if reasons:
        yield "## What does not compile, and why"
        yield ""
    for (what, reason), places in reasons.items():
        yield f"- {what} ({', '.join(places)}): {reason}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ascend", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", default="", metavar="LIST", help="families, names or parts of what --list shows")
    parser.add_argument("--again", action="store_true", help="also what is recorded already")
    parser.add_argument("--page", action="store_true", help="write the page from the records and end")
    parser.add_argument("--list", action="store_true", help="what would be compiled")
    chosen = parser.parse_args(arguments)
    results = _recorded()
    words = [word.strip() for word in chosen.only.split(",") if word.strip()]
    wanted = [work for work in works() if not words or any(word in work.key for word in words)]
    wanted = [work for work in wanted if chosen.again or work.key not in results]
    if chosen.list:
        print("\n".join(work.key for work in wanted))
        return 0
    for number, work in enumerate([] if chosen.page else wanted, 1):
        one = record(work)
        print(f"{number} of {len(wanted)}: {work.key}: {one['verdict']} {one['reason'][:100]}", flush=True)
        results = {**_recorded(), work.key: one}  # another process may be at another part
        known = {work.key: results[work.key] for work in works() if work.key in results}
        _write(RESULTS, json.dumps(known, indent=1) + "\n")
    _write(PAGE, page(_recorded()))
    return 0


def _recorded() -> dict[str, Any]:
    return records.read(RESULTS)


def _write(path: Path, text: str) -> None:
    with replacing(path) as file:
        file.write(text.encode())


if __name__ == "__main__":
    sys.exit(main())
