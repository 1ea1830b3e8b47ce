"""The four minimal examples: short, and each shows its defect and its cure."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "examples" / "minimal"


def run(name, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(FOLDER.parents[1])}
    command = [sys.executable, "-m", f"examples.minimal.{name}"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_shapes_compiles_three_graphs_for_forty_lengths(tmp_path):
    assert re.findall(r": (\d+) graphs", run("shapes", tmp_path)) == ["40", "3", "3"]


def test_host_knows_its_shapes(tmp_path):
    said = run("host", tmp_path)
    assert "ids: [0 3 1 0 2]" in said and "(3, 1), known only when it has run" in said
    assert "(5, 1), known to the compiler; real ones: 3, [ 2  4  8 -2 -2]" in said


def test_fusion_is_wrong_without_the_patch(tmp_path):
    pytest.importorskip("decorator")
    unfused, fused, patched = map(float, re.findall(r"off by (\S+) of", run("fusion", tmp_path)))
    assert unfused == 0 and fused > 1e-2 and patched < 1e-5


def test_amp_keeps_its_weights(tmp_path):
    steps = run("amp", tmp_path).splitlines()
    assert "weights finite: False" in steps[1] and "weights finite: False" in steps[2]
    assert all(line.endswith("finite: True") for line in steps) and "skipped" in steps[1] and "updated" in steps[2]


@pytest.mark.parametrize("name", ["shapes", "host", "fusion", "amp"])
def test_each_is_short(name):
    assert len((FOLDER / f"{name}.py").read_text(encoding="utf-8").splitlines()) <= 30
