"""Fused against unfused, compiled for Ascend, and the whole audit within its budget."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from audit_cells import IDS, LABELS, MASK, Classifier, Positions
from audit_odd_cells import Nothing
from mindspore import Tensor

import ascend_fixes
from ascend_fixes.auditing import KINDS, _audit
from ascend_fixes.auditing._for_ascend import FOR_ASCEND
from ascend_fixes.auditing._fusing import FUSING
from ascend_fixes.auditing._looking import Fact, Outcome

X = np.random.default_rng(0).standard_normal((4, 8, 32)).astype(np.float32)

OF_SCRIPTS = {"recompile-ragged", "sinking", "loss-scale"}


def test_a_cell_that_fuses_well_is_cleared(looked):
    assert looked(FUSING, Classifier(), IDS).cleared == {"fusion-inexact", "fusion-fails"}


def test_what_is_not_finite_is_still_compiled_fused(looked):
    found = looked(FUSING, Nothing(), X)
    assert found.cleared == {"fusion-fails"} and found.unknown == {"fusion-inexact": "unfused it is not finite"}


# In a process of its own: what other tests have fused in this one decides how fused graphs differ.
_FUSED = """
import json
import sys

import numpy as np
from audit_cells import Scores
from audit_odd_cells import Distant
from mindspore import Tensor

from ascend_fixes.auditing._fusing import FUSING
from ascend_fixes.auditing._looking import Fact, Outcome
from ascend_fixes.auditing._looking import carry_out
from ascend_fixes.auditing._report import Hazard
from ascend_fixes.auditing._subject import Clock, Subject

np.random.seed(0)
x = Tensor(np.random.default_rng(0).standard_normal((4, 8, 32)).astype(np.float32))
inputs = (x,) if sys.argv[1] == "Scores" else (x, Tensor(np.zeros(3, np.float32)))
cell = {"Scores": Scores, "Distant": Distant}[sys.argv[1]]()
subject = Subject(cell, inputs, ("x", "point")[: len(inputs)], {}, clock=Clock(300), factory="", target="Ascend910B")
found = [one for one in carry_out(FUSING, subject, 300).findings if isinstance(one, Hazard)]
print(json.dumps([[one.kind, one.operator, one.cure] for one in found]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("cell", ["Scores", "Distant"])
def test_what_fusion_gets_wrong_is_named_with_its_operator(cell, tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])}
    done = subprocess.run(
        [sys.executable, "-c", _FUSED, cell], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-2000:]
    first, last = json.loads(done.stdout.splitlines()[-1])  # seen at once, named after the search
    assert first[0] == last[0] == "fusion-inexact"
    assert last[1] == "Transpose" and "fusion.guard('cluster:Transpose')" in last[2]


def test_a_cell_in_memory_is_not_compiled_for_ascend(looked):
    assert "module:factory" in looked(FOR_ASCEND, Classifier(), IDS).unknown["missing-kernel-ascend"]


@pytest.mark.slow
def test_a_factory_is_compiled_for_ascend(looked, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    found = looked(FOR_ASCEND, Classifier(), IDS, factory="audit_cells:tagger")
    assert found.kinds == {"aclop-per-shape"} and "missing-kernel-ascend" in found.cleared
    assert "compiled for Ascend" in found["aclop-per-shape"].evidence


def test_what_the_budget_does_not_reach_is_named():
    start = time.monotonic()
    report = ascend_fixes.audit(Positions(), IDS, MASK, LABELS, budget=0.01)
    assert not report.hazards and "budget of 0.01 s was spent" in report.not_looked_at["fusion-inexact"]
    assert time.monotonic() - start < 30


def test_every_kind_is_a_hazard_cleared_or_not_looked_at():
    report = ascend_fixes.audit(Classifier(), Tensor(IDS), budget=300)
    assert {one.kind for one in report.hazards} | set(report.cleared) | set(report.not_looked_at) == set(
        KINDS
    ) - OF_SCRIPTS
    assert {"padding-leak-output"} == {one.kind for one in report.certain}


@pytest.mark.slow
def test_the_command(tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])}
    command = [sys.executable, "-m", "ascend_fixes", "audit", "audit_cells:tagger", "--budget", "20", "--json"]
    done = subprocess.run(
        [*command, "--axes", '{"ids": 1, "mask": 1, "labels": 1}', "--html", "audit.html"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    report = json.loads(done.stdout)
    assert report["cell"] == "Tagger" and report["axes"]["ids"] == {"1": "length"}
    assert done.returncode == (1 if any(one["certainty"] != "read only" for one in report["hazards"]) else 0)
    assert (tmp_path / "audit.html").read_text().startswith("<!doctype html>")


def test_no_look_may_take_more_than_half_of_what_is_left(monkeypatch):
    shares = []

    def carried_out(look, subject, seconds):
        shares.append((look, seconds, subject.clock.left))
        return Outcome((Fact("mode", "training"),), "")

    monkeypatch.setattr(_audit, "carry_out", carried_out)
    ascend_fixes.audit(Classifier(), Tensor(IDS), budget=100)
    assert [look for look, _, _ in shares] == list(_audit.LOOKS)
    assert all(seconds <= left / 2 + 0.1 or seconds == look.needs for look, seconds, left in shares[:-1])
    assert shares[-1][1] > 90  # the last one may take all
