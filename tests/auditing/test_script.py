"""Training scripts that are watched: each kind seen where it is, and not where it is not."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

import pytest

from ascend_fixes import processes
from ascend_fixes.__main__ import main
from ascend_fixes.auditing import AuditError, audit_script
from ascend_fixes.auditing._script import _report, _Seen

KINDS = {
    "recompile-ragged",
    "recompile-scalar",
    "recompile-container",
    "recompile-dict",
    "recompile-function",
    "string",
    "sinking",
    "loss-scale",
}

HEAD = """
import sys
import mindspore as ms
import numpy as np
from mindspore import Tensor, dataset, mutable, nn, ops

ms.set_context(mode=ms.GRAPH_MODE)
ROWS = int(sys.argv[1])


class Sum(nn.Cell):
    def construct(self, x, other=1):
        return x.sum() * other


class Loss(nn.Cell):
    def __init__(self):
        super().__init__()
        self.weight = ms.Parameter(np.ones(1, np.float32), name="weight")

    def construct(self, x):
        return (x.sum() * self.weight).sum()


class OfTuple(nn.Cell):
    def construct(self, pair):
        return pair[0] + pair[1]


class OfDict(nn.Cell):
    def construct(self, batch):
        return batch["x"] + batch["y"]


@ms.jit
def doubled(x):
    return x * 2


def x(length):
    return Tensor(np.ones((ROWS, length), np.float32))


def trained(rows, names, sink):
    net = Loss()
    data = dataset.GeneratorDataset(rows, names, shuffle=False)
    ms.Model(net, optimizer=nn.SGD(net.trainable_params(), 0.1)).train(1, data, dataset_sink_mode=sink)
"""

WRONG = (
    HEAD
    + """
ragged, scaled, of_tuple, of_dict = Sum(), Sum(), OfTuple(), OfDict()
for length in (3, 4, 6):
    ragged(x(length))
    scaled(x(2), length)
    of_tuple((x(2), x(2)))
    of_dict({"x": x(2), "y": x(2)})
    doubled(x(length))
for batch in dataset.NumpySlicesDataset({"word": ["a", "b"]}, shuffle=False).create_dict_iterator():
    pass
trained(lambda: ((np.ones((1, n), np.float32),) for n in (2, 3)), ["x"], True)
scaler = ms.amp.DynamicLossScaler(1024, 2, 10)
"""
)

SOUND = (
    HEAD
    + """
import ascend_fixes
from ascend_fixes import shapes

ragged, scaled = shapes.bucketed(Sum(), {"x": 1}, shapes.Buckets([4, 8]), outputs=None), Sum()
of_tuple, of_dict = OfTuple(), OfDict()
for length in (3, 4, 6):
    ragged(x(length))
    scaled(x(2), Tensor(float(length)))
    of_tuple(mutable((x(2), x(2))))
    of_dict(mutable({"x": x(2), "y": x(2)}))
    doubled(x(2))
trained(lambda: ((np.ones((1, 2), np.float32),) for _ in range(2)), ["x"], True)
ascend_fixes.patch("A4")
scaler = ms.amp.DynamicLossScaler(1024, 2, 10)
"""
)


def script(folder: Path, text: str) -> str:
    path = folder / "train.py"
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return str(path)


@pytest.mark.slow
def test_every_kind_is_named_with_argument_and_line(tmp_path):
    report = audit_script(script(tmp_path, WRONG), "2", steps=100, budget=300)
    found = {hazard.kind: hazard for hazard in report.hazards}
    assert set(found) == KINDS, report
    assert {hazard.kind for hazard in report.certain} == {kind for kind in KINDS if kind.startswith("recompile")}
    by_model, ragged = (
        next(h for h in report.hazards if h.kind == "recompile-ragged" and h.cell == cell) for cell in ("Loss", "Sum")
    )
    assert "'x' was Float32[1, 2], Float32[1, 3]" in by_model.evidence
    assert "'x' was Float32[2, 3], Float32[2, 4], Float32[2, 6]" in ragged.evidence and "3 graphs" in ragged.evidence
    assert ragged.source.startswith("train.py:") and "{'x': 1}" in ragged.cure
    assert "'other' is a Python value" in found["recompile-scalar"].reason
    assert "'pair'" in found["recompile-container"].reason and "'batch'" in found["recompile-dict"].reason
    assert found["recompile-function"].cell == "doubled" and found["string"].operator == "word"
    assert "'x' has shapes [1, 2], [1, 3]" in found["sinking"].evidence
    assert "DynamicLossScaler" in found["loss-scale"].evidence and "A4" in found["loss-scale"].cure


@pytest.mark.slow
def test_a_sound_script_is_cleared(tmp_path):
    report = audit_script(script(tmp_path, SOUND), "2", steps=100, budget=300)
    assert not report.hazards, report
    assert set(report.cleared) == KINDS


@pytest.mark.slow
def test_the_command_ends_the_script_after_so_many_steps_and_passes_its_arguments_on(tmp_path, capsys, monkeypatch):
    text = HEAD + "assert sys.argv[1:] == ['3', '--epochs', '7']\nfor length in range(2, 99):\n    Sum()(x(2))\n"
    path = script(tmp_path, text)
    monkeypatch.chdir(tmp_path)
    assert main(["audit", path, "3", "--steps", "2", "--epochs", "7", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["notes"][0].startswith("2 graphs were compiled in 2 steps")


@pytest.mark.slow
def test_a_script_that_does_not_run_is_one_clear_line(tmp_path):
    path = script(tmp_path, "import mindspore\n\nraise KeyError('data')\n")
    with pytest.raises(AuditError, match=r"train.py does not run as it is: KeyError: 'data' at train.py:3"):
        audit_script(path)


def test_wrong_use_is_one_clear_line(tmp_path, capsys):
    with pytest.raises(AuditError, match="there is no script missing.py"):
        audit_script("missing.py")
    path = script(tmp_path, "")
    with pytest.raises(AuditError, match="steps=0 must be a positive number"):
        audit_script(path, steps=0)
    with pytest.raises(AuditError, match="budget=0 must be a positive number of seconds"):
        audit_script(path, budget=0)
    assert main(["audit", path, "--axes", '{"ids": 1}']) == 2
    assert main(["audit", "package:factory", "--steps", "3"]) == 2
    said = capsys.readouterr().err
    assert "--axes and --soc are for cells" in said and "--steps=3 is for scripts" in said


# --- from events ----------------------------------------------------------------------------------


def graph(how: str = "tensor", bucketed: bool = False, **arguments: Any) -> dict[str, Any]:
    described = {
        name: {"text": str(value), "shape": list(value) if how == "tensor" else [], "how": how}
        for name, value in arguments.items()
    }
    facts = {"subject": "1", "kind": "cell", "seconds": 1.0, "source": "train.py:9", "name": "Net"}
    return {"event": "graph", "bucketed": bucketed, "arguments": described, **facts}


def kinds_of(*events: dict[str, Any], applied: tuple[str, ...] = (), failure: str = "") -> dict[str, Any]:
    end = {"event": "end", "steps": len(events), "applied": list(applied)}
    report = _report("train.py", _Seen((*events, end)), failure, processes.Outcome(0, "", 1.0))
    return {hazard.kind: hazard for hazard in report.hazards}


def test_a_last_smaller_batch_is_told_from_ragged_lengths():
    assert "drop_remainder=True" in kinds_of(graph(x=(8, 4)), graph(x=(3, 4)))["recompile-ragged"].cure
    both = kinds_of(graph(x=(8, 4), y=(8, 4, 4)), graph(x=(8, 5), y=(8, 5, 5)))["recompile-ragged"].cure
    assert "{'x': 1, 'y': (1, 2)}" in both


def test_graphs_that_differ_on_purpose_are_no_hazard():
    assert not kinds_of(graph(bucketed=True, x=(8, 4)), graph(bucketed=True, x=(8, 8)))
    assert not kinds_of(graph(x=(8, 4)), graph(x=(8, 4)))  # another phase, or another cell of the same class
    assert not kinds_of(graph(x=(8, 4)))


def test_a_container_beside_what_changes_is_read_only():
    first, second = graph(x=(8, 4)), graph(x=(8, 5))
    for one in (first, second):
        one["arguments"]["state"] = {"text": "(Float32[2])", "shape": [], "how": "container"}
    found = kinds_of(first, second)
    assert found["recompile-ragged"].certain and not found["recompile-container"].certain


def test_loss_scales_by_class_arguments_and_the_patches_in_force():
    def made(name: str, **arguments: str) -> dict[str, Any]:
        return {"event": "loss scale", "name": name, "source": "train.py:3", "arguments": arguments}

    assert not kinds_of(made("FixedLossScaleManager"))
    assert kinds_of(made("FixedLossScaleManager", drop_overflow_update="False"))
    assert kinds_of(made("DynamicLossScaler")) and not kinds_of(made("DynamicLossScaler"), applied=("A4",))
    manager = made("DynamicLossScaleManager")
    assert not kinds_of(manager)["loss-scale"].certain
    failed = kinds_of(manager, failure="RuntimeError: Unsupported op [NPUGetFloatStatusV2] on CPU")
    assert failed["loss-scale"].certain


def test_what_is_sunk_is_judged_by_its_own_columns():
    def column(dataset: int, kind: str, *shape: int) -> dict[str, Any]:
        return {"event": "column", "dataset": dataset, "name": "x", "kind": kind, "shape": list(shape)}

    sink = {"event": "sink", "dataset": 1, "call": "data_sink(...)", "source": "train.py:5"}
    assert set(kinds_of(sink, column(1, "number", 2), column(1, "number", 3))) == {"sinking"}
    assert set(kinds_of(sink, column(1, "string", 2))) == {"sinking", "string"}
    assert not kinds_of(sink, column(1, "number", 2), column(2, "number", 2), column(2, "number", 3))
    assert not kinds_of(sink, column(1, "number", 2), column(1, "number", 3), applied=("H4",))
