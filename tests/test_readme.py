"""The README's Python runs as it stands, and its commands are the ones that CI and the tests rely on."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def test_the_snippets_run_one_after_the_other(tmp_path):
    code = "\n".join(re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.M | re.S))
    # A file, because the graph compiler reads the source of what it compiles.
    (tmp_path / "readme.py").write_text(code)
    done = subprocess.run([sys.executable, "readme.py"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = done.stdout.splitlines()
    assert "(2, 7, 4)" in lines and "(2, 8, 4) 1" in lines
    assert "updated" in lines and any(line.startswith("skipped, scale backed off") for line in lines)


def test_every_linked_file_is_there():
    text = README.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert links and all((README.parent / link).exists() for link in links), links


def test_ci_runs_the_test_command_to_the_letter():
    text = README.read_text(encoding="utf-8")
    block = text.split("<!-- the test command -->")[1].split("```")[1]
    assert block.splitlines()[1].startswith("python3 -m venv .venv-test && ")
    assert "<!-- the test command -->" in (README.parent / ".ci" / "run").read_text(encoding="utf-8")
