"""The README's Python runs as it stands, and its commands are the ones that CI and the tests rely on."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"
CHINESE = README.with_name("README.zh.md")


def test_the_snippets_run_one_after_the_other(tmp_path):
    code = "\n".join(re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.M | re.S))
    # A file, because the graph compiler reads the source of what it compiles.
    (tmp_path / "readme.py").write_text(code)
    done = subprocess.run([sys.executable, "readme.py"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = done.stdout.splitlines()
    assert "(2, 7, 4)" in lines and "(2, 8, 4) 1" in lines
    assert "updated" in lines and any(line.startswith("skipped, the loss is") for line in lines)


def test_every_linked_file_is_there():
    text = README.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert links and all((README.parent / link).exists() for link in links), links


def test_ci_runs_the_test_command_to_the_letter():
    text = README.read_text(encoding="utf-8")
    block = text.split("<!-- the test command -->")[1].split("```")[1]
    assert block.splitlines()[1].startswith("python3 -m venv .venv-test && ")
    assert "<!-- the test command -->" in (README.parent / ".ci" / "run").read_text(encoding="utf-8")


def parts(path):
    """What two languages share: the levels of headings, commands and code without comments, links, and figures in prose."""
    text = path.read_text(encoding="utf-8")
    code = [
        re.sub(r" +#.*|^ *#.*\n|\"\"\".*?\"\"\"", "", block, flags=re.M)
        for block in re.findall(r"^```(.*?)^```", text, re.M | re.S)
    ]
    prose = re.sub(r"^```.*?^```|`[^`]*`|\]\([^)]*\)", "", text, flags=re.M | re.S)
    return {
        "headings": re.findall(r"^(#+) ", prose, re.M),
        "code": [re.sub(r"\s+\n", "\n", block) for block in code],
        "links": sorted(
            link for link in re.findall(r"\]\(([^)]+)\)", text) if not link.startswith(("README", "docs/zh/"))
        ),
        "tables": [line.count("|") for line in prose.splitlines() if line.startswith("|")],
        "figures": sorted(re.findall(r"\d+(?:,\d{3})*(?:\.\d+)*(?:e-?\d+)?", prose)),
    }


def test_the_chinese_readme_says_the_same():
    english, chinese = parts(README), parts(CHINESE)
    for what in english:
        assert chinese[what] == english[what], what
