"""The quick comparison: jobs side by side on the cores, a row for every family and model, a sentence for every family.

Every job (`jobs`) is a process on one core: a model's training runs, its use of the host family, or its dry run for Ascend, for
one of the two sides. The jobs of both sides follow each other in the queue, so that on two cores they run side by side.
"""

from __future__ import annotations

import functools
import math
import os
import platform
import queue
import sys
import time
from collections.abc import Hashable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from importlib import metadata
from pathlib import Path
from typing import Any, Callable, NamedTuple, TypeVar

from ascend_fixes.processes import Children
from examples.common import report
from examples.common.files import read_answer, write_text
from examples.compare.jobs import MODELS, REPEATS, SIDES
from examples.compare.page import panels, rendered

PATIENCE = 1200.0  # seconds after which a job is ended: it hangs, or the machine is busy beyond measure
Found = dict[str, Any]
Work = TypeVar("Work", bound=Hashable)
Done = TypeVar("Done")
_KINDS = {"running": "trained on the CPU", "ascend": "compiled for Ascend", "hosted": "host at work"}
_STYLES = {
    "plain": {"label": "as it is", "color": "#d1495b"},
    "cured": {"label": "with ascend_fixes", "color": "#2a9d8f"},
}
_SAME = 1e-3  # relative difference of two losses that counts as none; rounding stays well below


class Job(NamedTuple):
    """A model, a side of it, and what is done."""

    model: str
    side: str
    kind: str


def jobs(models: Sequence[str]) -> list[Job]:
    """The jobs, those first that take longest."""
    return [Job(model, side, kind) for kind in _KINDS for model in MODELS if model in models for side in SIDES]


def run(models: Sequence[str], folder: Path, json: Path | None, most: int | None) -> int:
    """Run the comparison, print and write its results; 0 if everything with ascend_fixes did what it should, else 1."""
    start, work, done = time.perf_counter(), jobs(models), {}
    cores = sorted(os.sched_getaffinity(0))[: most or 2]
    print(f"{len(work)} jobs on {len(cores)} cores, a few minutes in all", flush=True)
    for job, (one, seconds) in side_by_side(work, lambda job, children: _done(job, folder, children), cores):
        done[job] = one
        what = f"{MODELS[job.model].title}, {_STYLES[job.side]['label']}: {_KINDS[job.kind]}"
        print(f"[{len(done):2}/{len(work)}] {what} ({seconds:.0f} s)", flush=True)
    found = results(models, {job: done[job] for job in work})
    found.update(seconds=round(time.perf_counter() - start, 1), cores=len(cores))
    report.save(found, folder, json)
    lines = [["family", "model", "as it is", "with ascend_fixes"]]
    lines += [[row["family"], MODELS[row["model"]].title, row["plain"], row["cured"]] for row in found["rows"]]
    sentences = [f"{family}: {said}" for family, said in found["sentences"].items()]
    write_text(folder / "table.md", "\n".join([report.markdown(lines), *(f"- {one}" for one in sentences), ""]))
    write_text(folder / "index.html", page(found))
    short = [[cell if len(cell) <= 64 else f"{cell[:61]}..." for cell in line] for line in lines]
    print(f"\n{report.aligned(short)}")
    print("", *sentences, "", f"{found['seconds']:.0f} s; page: {folder / 'index.html'}", sep="\n")
    return 0 if all(row["ok"] for row in found["rows"]) else 1


def side_by_side(
    work: Sequence[Work], do: Callable[[Work, Children], Done], cores: Sequence[int]
) -> Iterator[tuple[Work, Done]]:
    """Every piece of work with what came of it, as soon as it is done; as many at a time as ``cores``, so that times compare.

    ``do`` does a piece in a thread that is bound to a core, and so is a process that it starts with the `Children`, which end
    with the iteration, whatever ends it.
    """
    free: queue.SimpleQueue[int] = queue.SimpleQueue()
    for core in cores:
        free.put(core)
    with Children() as children:
        pool = ThreadPoolExecutor(len(cores), initializer=lambda: os.sched_setaffinity(0, {free.get()}))
        try:
            futures = {pool.submit(do, piece, children): piece for piece in work}
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _done(job: Job, folder: Path, children: Children) -> tuple[Found, float]:
    """What a job's process wrote, and the seconds it took; "ended" where it came to a bad end."""
    own = (folder / "-".join(job)).resolve()
    own.mkdir(parents=True, exist_ok=True)
    (own / "result.json").unlink(missing_ok=True)
    command = [sys.executable, "-m", "examples.compare.jobs", job.kind, job.model, job.side, str(own)]
    environment = {"GLOG_v": "3", "OMP_NUM_THREADS": "1"}  # errors only
    outcome = children.run(command, folder=own, environment=environment, timeout=PATIENCE)
    write_text(own / "output.log", outcome.output)
    ended = {"ended": outcome.failure} if outcome.failure else {}
    return {**read_answer(own / "result.json"), **ended}, outcome.seconds


def results(models: Sequence[str], found: Mapping[Any, Found]) -> Found:
    """The rows, the sentences and everything that was measured, by `Job`, as JSON can hold it."""
    rows, sentences = [], {}
    for family, judged in FAMILIES.items():
        own = [_row(family, model, found) for model in MODELS if model in models]
        bad = [row for row in own if not row["ok"]]  # it is never left out
        troubled = f"NOT as it should be with ascend_fixes: {_names(bad)}." if bad else ""
        sentences[family] = " ".join(filter(None, [judged.sentence(own), troubled]))
        rows += own
    installed = {name: metadata.version(name) for name in ("mindspore", "numpy")}
    versions = {"python": platform.python_version(), **installed}
    measured = {" ".join(job): one for job, one in found.items()}
    return {"versions": versions, "rows": rows, "sentences": sentences, "measured": measured}


def _row(family: str, model: str, found: Mapping[Any, Found]) -> Found:
    """``plain`` and ``cured`` in words, whether the cured side did what it should, and whether the plain one did."""
    judged = FAMILIES[family]
    done = [found[model, side, judged.kind] for side in SIDES]
    sides = [job.get(judged.part) or {"crash": job.get("ended") or "no result"} for job in done]
    reference = found[model, "plain", "running"].get("ragged") or {}
    (plain, right), (cured, ok) = (
        (one["crash"], False) if "crash" in one else judged.judge(one, reference) for one in sides
    )
    if family == "host" and not _agree(*sides):
        cured, ok = f"{cured}; ANOTHER ANSWER", False
    row = {"family": family, "model": model, "plain": plain, "cured": cured, "hit": not right, "ok": ok}
    return {**row, "figures": dict(zip(SIDES, sides)), "unfused": (reference.get("losses") or [])[:REPEATS]}


def _shapes(one: Found, reference: Found) -> tuple[str, bool]:
    done = f"{len(one['at']) + 1} batches in {one['training_seconds']:.0f} s"
    leaks = "; PADDING LEAKS" if one.get("leaks") else ""
    same = not any(map(_lost, one["losses"])) and off(one, reference) < _SAME
    return f"{done}, {one['graphs']} graphs, {one['padded_share']:.0%} padding{leaks}", same and not leaks


def _amp(one: Found, reference: Found) -> tuple[str, bool]:
    lost = [_lost(loss) for loss in one["losses"]]
    if lost[-1]:
        where = f": {one['where']}" if one.get("where") else ""
        return f"NaN from step {lost.index(True) + 1}{where}", False
    apart = f"losses within {off(one, reference):.1%} of float32's"
    return f"trains; {one['skipped']} of {REPEATS} steps skipped; {apart}", one["skipped"] < REPEATS


def _fusion(one: Found, reference: Found) -> tuple[str, bool]:
    apart = off(one, reference)
    one["error"] = apart if math.isfinite(apart) else None
    return f"losses off by {apart:.0e}", apart < _SAME


def _host(one: Found, reference: Found) -> tuple[str, bool]:
    if one["unit"] != "translations":
        return f"{one['rate']:,.0f} {one['unit']}/s", bool(one["answer"])
    none = f"none translated after {len(one['tokens'][0])} words"
    done = f"{one['rate']:,.1f} translations/s" if one["rate"] else none
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
    return f"compiled: {', '.join(f'{count} {kind}' for kind, count in one['kernels'].items())}", True


def off(one: Found, reference: Found) -> float:
    """The largest relative difference of the losses over the batches that every run begins with; inf where one is not finite.

    Of losses near zero, which are learnt by heart, it is that against a hundredth of the first.
    """
    pairs = list(zip(one.get("losses") or [], reference.get("losses") or []))[:REPEATS]
    if not pairs or any(_lost(a) or _lost(b) for a, b in pairs):
        return math.inf
    return max(abs(a - b) / max(abs(b), abs(pairs[0][1]) / 100) for a, b in pairs)


def _lost(loss: float | None) -> bool:
    return loss is None or not math.isfinite(loss)


def _names(rows: Sequence[Found]) -> str:
    names = [MODELS[row["model"]].title for row in rows]
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def _hit_and_cured(hit: str, cured: str, rows: Sequence[Found]) -> str:
    """Which models a defect hits, which of them are cured, and which it spares."""
    struck, spared = [row for row in rows if row["hit"]], [row for row in rows if not row["hit"]]
    well = [row for row in struck if row["ok"]]
    said = []
    if struck:
        said.append(f"{hit} {_names(struck)}; {cured} {'all of them' if well == struck else _names(well) or 'none'}.")
    if spared:
        said.append(f"{_names(spared)} {'was' if len(spared) == 1 else 'were'} not hit in these few steps.")
    return " ".join(said)


def _shapes_sentence(rows: Sequence[Found]) -> str:
    def total(side: str) -> str:
        done = [row["figures"][side] for row in rows if "crash" not in row["figures"][side]]
        batches, graphs = sum(len(one["at"]) + 1 for one in done), sum(one["graphs"] for one in done)
        return f"{sum(one['training_seconds'] for one in done):.0f} s for {batches} batches and compile {graphs} graphs"

    def rate(row: Found, side: str) -> float:  # batches a second, compilation included; the common first one apart
        one = row["figures"][side]
        return 0.0 if "crash" in one else len(one["at"]) / one["training_seconds"]

    said = f"As they are, the models take {total('plain')}; with ascend_fixes they take {total('cured')}."
    slower = [row for row in rows if rate(row, "cured") <= rate(row, "plain")]
    return said + (f" It did not help {_names(slower)}." if slower else "")


def _host_sentence(rows: Sequence[Found]) -> str:
    said = []
    for row in rows:
        plain, cured = (row["figures"][side].get("rate") for side in SIDES)
        use = MODELS[row["model"]].use
        if plain and cured:
            said.append(f"{use} at {cured / plain:.1f} times the rate")
        elif cured:
            said.append(f"{use} at {cured:,.1f} a second, where a growing prefix had none in the time")
    return f"On the host: {', '.join(said)}." if said else ""


def _ascend_sentence(rows: Sequence[Found]) -> str:
    if all(row["figures"]["cured"].get("verdict") == "not run" for row in rows):
        return f"No dry run for Ascend on this machine: {rows[0]['figures']['cured']['reason']}"
    refused, compiled = [row for row in rows if row["hit"]], [row for row in rows if row["ok"]]
    said = f"MindSpore's Ascend back end refuses {_names(refused)} in float16 as written; it" if refused else ""
    cured = f"compiles {_names(compiled)} with ascend_fixes. Nothing was executed."
    return f"{said or 'The Ascend back end'} {cured}"


def page(found: Found) -> str:
    """The page of the comparison, of its results."""
    figures = {}
    for family, draw, label in (
        ("shapes", _draw_trained, "batches after the first shape"),
        ("fusion", _draw_losses, "relative error of the loss"),
    ):
        shown = {MODELS[row["model"]].title: row for row in found["rows"] if row["family"] == family}
        figures[family] = panels(shown, draw, label)
    return rendered("quick.html", **found, models=MODELS, figures=figures)


def _draw_trained(axes: Any, row: Found) -> None:
    """Batches trained over seconds."""
    for side, style in _STYLES.items():
        at, end = (row["figures"][side].get(name, none) for name, none in (("at", []), ("training_seconds", 0)))
        axes.plot([0, *at, end], [0, *range(1, len(at) + 1), len(at)], drawstyle="steps-post", **style)
    axes.set(xlabel="seconds of CPU time", xlim=(0, None), ylim=(0, None))


def _draw_losses(axes: Any, row: Found) -> None:
    """How far each step's loss is from the unfused one."""
    for side, style in _STYLES.items():
        pairs = enumerate(zip(row["figures"][side].get("losses", []), row["unfused"]), 1)
        apart = {step: max(abs(a - b) / abs(b), 1e-9) for step, (a, b) in pairs if a is not None and b}
        axes.plot(list(apart), list(apart.values()), **style)
    axes.set(xlabel="step", yscale="log", xlim=(1, REPEATS), ylim=(1e-9, 10))


class Family(NamedTuple):
    """How a family is judged: of which job what part; what one side did, given float32's result; what its rows say together."""

    kind: str
    part: str
    judge: Callable[[Found, Found], tuple[str, bool]]
    sentence: Callable[[Sequence[Found]], str]


_LOST = "In float16 a newcomer's code crashes or turns to NaN for", "with ascend_fixes float16 trains"
_FUSED = "Graph-kernel fusion crashes or changes the losses of", "ascend_fixes cures"
FAMILIES = {
    "shapes": Family("running", "ragged", _shapes, _shapes_sentence),
    "amp": Family("running", "float16", _amp, functools.partial(_hit_and_cured, *_LOST)),
    "fusion": Family("running", "fused", _fusion, functools.partial(_hit_and_cured, *_FUSED)),
    "host": Family("hosted", "host", _host, _host_sentence),
    "ascend": Family("ascend", "ascend", _ascend, _ascend_sentence),
}
