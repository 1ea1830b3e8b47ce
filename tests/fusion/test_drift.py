"""Training with fusion on: it drifts, and with the cures it does not. The benchmark's own run, on its small models."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("model", ["attention", "float16 GRU"])
def test_patched_training_follows_the_unfused_run(model, tmp_path):
    path = tmp_path / "found.json"
    options = ["--only", "train", "--models", model, "--steps", "12", "--rounds", "1", "--json", str(path)]
    env = {**os.environ, "PYTHONPATH": str(_ROOT)}
    command = [sys.executable, "-m", "benchmarks.fusion", *options]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr[-2000:]
    runs = json.loads(path.read_text())["train"][model]
    if model == "attention":
        assert runs["fused"]["parameter drift"] > 1e-2, "the defect"
        assert runs["patched"]["loss drift"] < 1e-4 and runs["patched"]["parameter drift"] < 1e-4
    else:
        assert runs["fused"]["NaN"] > 0, "the defect"
        assert runs["patched"]["NaN"] == 0 and runs["patched"]["loss drift"] < 5e-3
