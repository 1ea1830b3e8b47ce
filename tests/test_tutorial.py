"""The tutorial runs as it stands, in both languages with the same code."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ENGLISH, CHINESE = ROOT / "docs" / "tutorial.md", ROOT / "docs" / "zh" / "tutorial.md"


def blocks(path):
    return re.findall(r"^```python\n(.*?)^```", path.read_text(encoding="utf-8"), re.M | re.S)


@pytest.mark.slow
def test_the_tutorial_runs(tmp_path):
    model, *script = blocks(ENGLISH)
    assert model.startswith("# model.py\n")
    (tmp_path / "model.py").write_text(model, encoding="utf-8")
    (tmp_path / "port.py").write_text("\n".join(script), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "port.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "2 graphs for 6 lengths" in done.stdout and "sub-cell 'pool' (Pool)" in done.stdout
    assert done.stdout.count("updated") >= 3 and "skipped" in done.stdout


def test_the_chinese_tutorial_has_the_same_code():
    assert [bare(block) for block in blocks(CHINESE)] == [bare(block) for block in blocks(ENGLISH)]


def bare(block):
    """The lines of a block without comments and docstrings."""
    return [line for line in re.sub(r'""".*?"""|  #.*|^#.*', "", block, flags=re.M).splitlines() if line.strip()]
