"""No graph of shapes, host and fusion enters Python at every step; those of amp are compiled in its own tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.ascend.cells import AMP_ROWS, ROWS

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
def test_no_graph_of_the_library_calls_python(tmp_path):
    graphs = tmp_path / "graphs"
    graphs.mkdir()
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "MS_DEV_SAVE_GRAPHS": "1",
        "MS_DEV_DUMP_IR_PASSES": "graph_build",  # all others would take most of the time
        "MS_DEV_SAVE_GRAPHS_PATH": str(graphs),
    }
    command = [sys.executable, str(Path(__file__).with_name("python_in_graphs.py")), str(graphs)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900)
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('["')]
    assert len(found) == len(ROWS) - len(AMP_ROWS) + 1, done.stderr[-2000:]
    (_, _, control), *rows = found
    assert control > 0, "the search no longer sees the call that None across a branch makes"
    assert all(saved for _, saved, _ in rows), "a graph was not saved"
    assert {name: calls for name, _, calls in rows if calls} == {}
