"""`audit_script`: a training script, watched for its first steps; what was seen becomes the hazards of an `AuditReport`."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ascend_fixes import processes
from ascend_fixes.auditing import _kinds as kinds
from ascend_fixes.auditing._looking import hazard
from ascend_fixes.auditing._report import AuditError, AuditReport, Hazard
from ascend_fixes.auditing._watching import Task
from ascend_fixes.dryrun._run import work_folder

__all__ = ["STEPS", "audit_script"]

STEPS = 20
_START = "import sys; from ascend_fixes.auditing._watching import main; main(sys.argv.pop(1))"
_RECOMPILES = ("recompile-ragged", "recompile-scalar", "recompile-container", "recompile-dict", "recompile-function")

Event = Mapping[str, Any]


def audit_script(path: str | os.PathLike[str], *arguments: str, steps: int = STEPS, budget: float = 120) -> AuditReport:
    """Run a training script for a few steps, on this machine's backend, and name what will hurt on Ascend.

    Seen are: what compiles and which argument makes it compile again (ragged Tensors, Python values, tuples, lists and
    dicts of Tensors, functions under `mindspore.jit`); string columns of its `mindspore.dataset` pipelines; data that is to
    be sunk and cannot be; MindSpore's loss scales. The script works in a folder of its own, in which what is in the
    current folder appears as links.

    Args:
        path: the script.
        arguments: its own arguments.
        steps: it is ended after so many calls of compiled graphs or, where it runs operator by operator, of an optimizer.
        budget: seconds after which it is ended; what was seen until then counts.

    Returns:
        The report. Where it sinks and what loss scales it makes is "read only": a CPU does not sink, and a few steps seldom
        overflow.

    Raises:
        AuditError: there is no script, an option is wrong, or the script fails before it has compiled anything.
    """
    if not os.path.isfile(path):
        raise AuditError(f"there is no script {os.fspath(path)}")
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise AuditError(f"steps={steps!r} must be a positive number")
    if isinstance(budget, bool) or not isinstance(budget, (int, float)) or not 0 < budget < float("inf"):
        raise AuditError(f"budget={budget!r} must be a positive number of seconds")
    with processes.scratch("ascend_fixes-audit-") as own:
        task = Task(os.path.abspath(path), tuple(map(str, arguments)), steps, str(own / "events"))
        (own / "task.json").write_text(json.dumps(asdict(task)), encoding="utf-8")
        (own / "events").touch()
        command = [sys.executable, "-c", _START, str(own / "task.json")]
        outcome = processes.run(command, folder=work_folder(own, linked=True), timeout=budget)
        seen = _Seen.of(own / "events")
    failure = seen.failure or ("" if seen.last("end") or outcome.timed_out else f"it {outcome.failure}")
    report = _report(Path(path).name, seen, failure, outcome)
    if failure and not seen.events("graph") and not report.certain:
        raise AuditError(f"{os.fspath(path)} does not run as it is: {failure}")
    return report


@dataclass(frozen=True)
class _Seen:
    """The events of a run, in order."""

    every: tuple[Event, ...]

    @classmethod
    def of(cls, log: Path) -> _Seen:
        found = []
        for line in log.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(ValueError):  # cut off by the end of the process
                found.append(json.loads(line))
        return cls(tuple(found))

    def events(self, name: str) -> list[Event]:
        return [one for one in self.every if one["event"] == name]

    def last(self, name: str) -> Event | None:
        found = self.events(name)
        return found[-1] if found else None

    @property
    def failure(self) -> str:
        """How the script ended, where it ended badly."""
        failed = self.last("failed")
        if failed is None:
            return ""
        return failed["error"] + (f" at {failed['source']}" if failed["source"] else "")

    @property
    def steps(self) -> int:
        end = self.last("end")
        return int(end["steps"]) if end else 0

    @property
    def applied(self) -> set[str]:
        """The cures that were in force."""
        end = self.last("end")
        return set(end["applied"]) if end else set()


def _report(name: str, seen: _Seen, failure: str, outcome: processes.Outcome) -> AuditReport:
    told = _told(seen)
    hazards = [*_compilations(seen), *_data(seen), *_loss_scales(seen, failure)]
    hazards.sort(key=lambda one: kinds.CERTAINTIES.index(one.certainty))
    found = {one.kind for one in hazards}
    cleared, missed = _others(seen, told)
    notes = [f"{told}; what later steps do was not seen"]
    notes += [f"the script ended early: {failure}"] if failure else []
    notes += (
        [f"it was ended after {outcome.seconds:.0f} s, before so many steps were done"] if outcome.timed_out else []
    )
    return AuditReport(
        cell=name,
        target="this machine's backend",
        hazards=tuple(dict.fromkeys(hazards)),
        cleared={kind: how for kind, how in cleared.items() if kind not in found},
        not_looked_at={kind: why for kind, why in missed.items() if kind not in found},
        notes=tuple(notes),
        seconds=outcome.seconds,
    )


def _told(seen: _Seen) -> str:
    graphs = seen.events("graph")
    seconds = sum(one["seconds"] for one in graphs)
    return f"{len(graphs)} graphs were compiled in {seen.steps} steps ({seconds:.1f} s of compilation)"


def _others(seen: _Seen, told: str) -> tuple[dict[str, str], dict[str, str]]:
    """What was watched for, with how, and what could not be, with why; whatever is a hazard is taken out."""
    cleared, missed = {}, {}
    if seen.events("graph"):
        cleared.update(dict.fromkeys(_RECOMPILES, f"{told}, none because of it"))
    else:
        missed.update(dict.fromkeys(_RECOMPILES, "nothing was compiled: the script runs operator by operator"))
    if seen.events("column"):
        cleared["string"] = "no column of a pipeline that was read holds strings"
    else:
        missed["string"] = "no mindspore.dataset pipeline was read"
    cleared["sinking"] = (
        "every batch of what is to be sunk had one shape"
        if seen.events("sink")
        else "neither Model nor data_sink was asked to sink"
    )
    cleared["loss-scale"] = (
        "what is wrong with the loss scales that were made is cured by the patches in force"
        if seen.events("loss scale")
        else "no loss scale of MindSpore's was made"
    )
    return cleared, missed


# --- what compiles --------------------------------------------------------------------------------


@dataclass
class _Changes:
    """Why one cell or function was compiled again: the arguments by kind, each with its texts in order."""

    name: str
    jit: bool
    bucketed: bool
    graphs: list[Event] = field(default_factory=list)
    by_kind: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    # Arguments that are constants, where others changed as well.
    read: dict[str, list[str]] = field(default_factory=dict)

    def add(self, graph: Event) -> None:
        """Enter a graph, and what made it differ from the most similar one before."""
        arguments, past = graph["arguments"], self.graphs
        if past:
            nearest = max(past, key=lambda one: sum(_text(one, name) == _text(graph, name) for name in arguments))
            changed = [name for name in arguments if _text(nearest, name) != _text(graph, name)]
            constant = [name for name, one in arguments.items() if one["how"] in ("container", "dict")]
            for name in constant if changed else ():
                self.read.setdefault(arguments[name]["how"], []).append(name)
            for name in changed or constant:
                kind = self._kind(arguments[name], nearest["arguments"].get(name))
                if kind:
                    texts = self.by_kind.setdefault(kind, {}).setdefault(name, [_text(nearest, name)])
                    texts.append(_text(graph, name))
        past.append(graph)

    def _kind(self, new: Mapping[str, Any], old: Mapping[str, Any] | None) -> str:
        if old is None:
            return ""
        how = {new["how"], old["how"]}
        if "dict" in how:
            return "recompile-dict"
        if "container" in how:
            return "recompile-container"
        if how == {"value"}:
            return "recompile-scalar"
        if self.bucketed or (how == {"tensor"} and new["shape"] == old["shape"]):  # padded on purpose; another type
            return ""
        return "recompile-function" if self.jit else "recompile-ragged"

    @property
    def axes(self) -> dict[str, list[int]]:
        """The axes along which the ragged Tensors among the arguments differ."""
        found = {}
        for name in self.graphs[0]["arguments"]:
            shapes = [one["arguments"][name]["shape"] for one in self.graphs if name in one["arguments"]]
            if len({len(shape) for shape in shapes}) == 1:
                axes = [axis for axis, sizes in enumerate(zip(*shapes)) if len(set(sizes)) > 1]
                found.update({name: axes} if axes else {})
        return found


def _text(graph: Event, name: str) -> str:
    return graph["arguments"].get(name, {}).get("text", "absent")


def _compilations(seen: _Seen) -> Iterator[Hazard]:
    subjects: dict[str, _Changes] = {}
    for graph in seen.events("graph"):
        new = _Changes(graph["name"], graph["kind"] == "jit", graph["bucketed"])
        subjects.setdefault(graph["subject"], new).add(graph)
    for one in subjects.values():
        seconds = sum(graph["seconds"] for graph in one.graphs)
        for kind, arguments in one.by_kind.items():
            changed = "; ".join(f"{name!r} was {', '.join(_few(texts))}" for name, texts in arguments.items())
            yield hazard(
                kind,
                kinds.DIFFERED,
                f"{_because(kind, list(arguments))}: {one.name} compiles again",
                f"{len(one.graphs)} graphs of it in {seen.steps} steps, {seconds:.1f} s of compilation; {changed}",
                _cure(kind, list(arguments), one),
                cell=one.name,
                source=one.graphs[-1]["source"],
            )
        for how, names in one.read.items():
            kind, names = f"recompile-{how}", list(dict.fromkeys(names))
            if kind not in one.by_kind:
                yield hazard(
                    kind,
                    kinds.READ,
                    f"{_because(kind, names)}: {one.name} will compile at every call with new Tensors",
                    "other arguments changed at every call that was seen, so it was not seen by itself",
                    _cure(kind, names, one),
                    cell=one.name,
                    source=one.graphs[-1]["source"],
                )


def _few(texts: Sequence[str]) -> list[str]:
    once = list(dict.fromkeys(texts))
    return [*once[:4], f"and {len(once) - 4} more"] if len(once) > 4 else once


def _because(kind: str, names: Sequence[str]) -> str:
    which = ", ".join(map(repr, names))
    return {
        "recompile-ragged": f"the shape of {which} differs from step to step",
        "recompile-function": f"the shape of {which} differs from call to call",
        "recompile-scalar": f"{which} is a Python value, which is part of the graph",
        "recompile-container": f"{which} holds Tensors in a tuple or list, whose values are part of the graph",
        "recompile-dict": f"{which} holds Tensors in a dict, whose values are part of the graph",
    }[kind]


def _cure(kind: str, names: Sequence[str], changes: _Changes) -> str:
    if kind == "recompile-scalar":
        return f"{names[0]} = Tensor({names[0]})  # a Tensor is an input of the graph"
    if kind in ("recompile-container", "recompile-dict"):
        return f"{names[0]} = mindspore.mutable({names[0]})  # or shapes.bucketed, which does it"
    if kind == "recompile-function":
        return "shapes.limit_graphs(function, 4)  # and pad its arguments to shapes.Buckets.fit(lengths, k=4)"
    ragged = {name: axes for name, axes in changes.axes.items() if name in names}
    if ragged and all(axes == [0] for axes in ragged.values()):
        return "dataset = dataset.batch(rows, drop_remainder=True)  # or shapes.bucket_dataset, which fills the last batch up"
    axes = {name: found[0] if len(found) == 1 else tuple(found) for name, found in ragged.items()}
    return f"step = shapes.bucketed(step, {axes or '{...}'}, shapes.Buckets.fit(lengths, k=4))"


# --- data -----------------------------------------------------------------------------------------


def _data(seen: _Seen) -> Iterator[Hazard]:
    columns: dict[int, dict[str, list[Event]]] = {}
    for one in seen.events("column"):
        columns.setdefault(one["dataset"], {}).setdefault(one["name"], []).append(one)
    strings = {
        name: "a column of strings"
        for named in columns.values()
        for name, found in named.items()
        if any(one["kind"] == "string" for one in found)
    }
    for name in strings:
        yield hazard(
            "string",
            kinds.READ,
            f"column {name!r} holds strings: no graph and no device takes them",
            f"batches of a pipeline that was read have it as {name!r}",
            f'dataset = dataset.map(host.Table(words, default=0), ["{name}"])  # ids; or leave the column out: '
            "dataset.project([...])",
            operator=name,
            cell="the data",
        )
    for sink in seen.events("sink"):
        wrong = dict(_unsinkable(columns.get(sink["dataset"], {})))
        if wrong and "H4" not in seen.applied:
            yield hazard(
                "sinking",
                kinds.READ,
                f"{sink['call']} sinks data that a device cannot take from its queue: GetNext times out, or training hangs",
                "; ".join(wrong.values()) + "; a CPU does not sink, so it was fed from the host",
                'ascend_fixes.patch("H4")  # feeds it from the host and says so; or bring every batch to one shape: '
                "shapes.bucket_dataset",
                operator=sink["call"],
                cell="the script",
                source=sink["source"],
            )


def _unsinkable(columns: Mapping[str, Sequence[Event]]) -> Iterator[tuple[str, str]]:
    for name, found in columns.items():
        if any(one["kind"] == "string" for one in found):
            yield name, f"column {name!r} holds strings"
        elif len(found) > 1:
            yield name, f"column {name!r} has shapes {', '.join(_few([str(one['shape']) for one in found]))}"


# --- loss scales ----------------------------------------------------------------------------------

_SCALER = (
    "scaler = amp.LossScaler(65536)  # with amp.TrainStep: bounded, never lost, a step that overflows leaves no trace"
)
_CELL = "reads the float status register of an Ascend device: on a CPU it does not run"
_WRONG = {
    "DynamicLossScaler": ("A4", "it grows to 1.7e38, cannot go below 1, and a float16 loss times the scale is inf"),
    "StaticLossScaler": ("", "its scale never moves: a loss that grows overflows at every step from then on"),
    "DynamicLossScaleManager": ("A5", f"the step that Model makes for it {_CELL}"),
    "DynamicLossScaleUpdateCell": ("A5", f"the step that takes it {_CELL}"),
    "FixedLossScaleUpdateCell": ("A5", f"the step that takes it {_CELL}"),
    "TrainOneStepWithLossScaleCell": ("A5", f"it {_CELL}"),
    "FixedLossScaleManager": ("", "with drop_overflow_update=False every gradient is applied, an infinite one too"),
}
"""By class: the defect, which a patch cures, and what is wrong."""


def _loss_scales(seen: _Seen, failure: str) -> Iterator[Hazard]:
    for one in seen.events("loss scale"):
        defect, wrong = _WRONG[one["name"]]
        keeps = one["name"] == "FixedLossScaleManager" and "False" not in (
            one["arguments"].get("drop_overflow_update"),
            one["arguments"].get("1"),
        )
        if keeps or (defect and defect in seen.applied):
            continue
        failed = "NPU" in failure or "FloatStatus" in failure
        yield hazard(
            "loss-scale",
            kinds.FAILED if failed and defect == "A5" else kinds.READ,
            wrong,
            f"{one['name']} is made at {one['source']}" + (f"; {failure}" if failed and defect == "A5" else ""),
            _SCALER + (f'\nascend_fixes.patch("{defect}")  # the same class, made sound' if defect else ""),
            operator=one["name"],
            cell="the script",
            source=one["source"],
        )
