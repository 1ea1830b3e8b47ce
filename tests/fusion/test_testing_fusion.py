"""The assertions for users' tests: they pass on what is right and name what is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_assertions(tmp_path):
    """In a process of its own, for fusion is a setting of the process."""
    script = str(Path(__file__).parent / "testing_scenarios.py")
    env = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    work = tmp_path / "work"
    work.mkdir()
    done = subprocess.run([sys.executable, script], cwd=work, env=env, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["attention"].startswith("fused, gradient of") and "fusion.bisect" in found["attention"]
    assert found["attention, guarded"] == found["step"] == found["float16 GRU, guarded"] == ""
    assert "does not run: Response is empty" in found["lowered casts"]
    assert "differs from run to run without fusion" in found["dropout"]
    assert found["product"] == ""
    assert found["overflow"].startswith("in float16, Overflow gives infinity or NaN in: output 0 (4 of 4)")
    assert found["float16 GRU"].startswith("fused, in float16, UnrolledGRU gives infinity or NaN in: gradient of")
    assert found["context"] == [1, False], "as the process had set it"
    assert found["weights moved"] is False and found["litter"] == []
