"""The reports to the platform: every script shows its defect with MindSpore alone, and both pages name every script."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ascend_fixes import dryrun
from ascend_fixes.defects import catalogue

ROOT = Path(__file__).parents[1]
SCRIPTS = {path.stem: path for path in sorted((ROOT / "docs" / "reports").glob("*.py"))}
PAGES = {"en": ROOT / "docs" / "platform.md", "zh": ROOT / "docs" / "zh" / "platform.md"}
ON_ASCEND = {"h8", "h9", "s9"}
RAISED = {  # what MindSpore itself says; every other script ends with WRONG: and the words here
    "a1": "The name '_get_softmax_implicit_dim' is not defined",
    "a2": "the input type must be same",
    "a5": "Unsupported op [NPUGetFloatStatusV2] on CPU",
    "f4": "Response is empty",
    "f6": "Response is empty",
    "h1": "Unsupported op [SparseGatherV2] on CPU",
    "h2": "Unsupported op [MapTensorGet] on CPU",
}
SAID = {
    "a3": "exp(12) is inf",
    "a4": "the scale is 1.7e+38",
    "a6": "two of three values have overflowed",
    "a7": "the caller's LayerNorm has become",
    "a8": "AllReduce only support reduce sum on CPU",
    "a9": "a momentum set to 0 reads",
    "f1": "of its largest value",
    "f2": "NaN in the gradients: unfused 0",
    "f3": "the relative error of exp is",
    "f5": "akg_kernel_meta",
    "f7": "Adam's moments have seen",
    "h6": "2 numbers came back as 64",
    "h7": "4 steps of one shape compiled 4 graphs",
    "s1": "4 lengths compiled 4 graphs",
    "s2": "a process that compiles lengths",
    "s4": "boundaries [8, 16] pad to [7, 15]",
    "s5": "10 values of step compiled 10 graphs",
    "s6": "",  # what becomes of two threads varies
    "s8": "every further graph keeps",
}


@pytest.fixture(scope="module")
def ends(tmp_path_factory):
    """What became of each script that runs on CPU: all in one process that has imported MindSpore, each in a fork of it."""
    paths = [str(path) for name, path in SCRIPTS.items() if name not in ON_ASCEND]
    command = [sys.executable, str(Path(__file__).with_name("reports_run.py")), str(tmp_path_factory.mktemp("reports"))]
    done = subprocess.run([*command, *paths], capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, done.stderr[-2000:]
    answers = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {answer["script"]: answer for answer in answers}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({*RAISED, *SAID}))
def test_the_script_shows_the_defect(name, ends):
    answer = ends[name]
    assert answer["status"] == 1, f"is it mended? {answer['said'][-500:]}"
    if name in RAISED:
        assert RAISED[name] in answer["said"]
    else:
        (line,) = [line for line in answer["said"].splitlines() if line.startswith("WRONG: ")]
        assert SAID[name] in line


@pytest.mark.slow
@pytest.mark.parametrize("name, verdict", [("h8", "refused"), ("h9", "refused"), ("s9", "compiled")])
def test_the_script_shows_the_defect_when_it_is_compiled_for_ascend(name, verdict):
    report = dryrun.script(SCRIPTS[name], jit_level="O0")
    assert report.verdict == verdict
    if name == "s9":
        built = set().union(*(graph.operators.get("aclop", {}) for graph in report.graphs))
        assert {"BiasAdd", "Gather", "LayerNorm", "Split", "TopK"} <= built


def test_every_script_is_about_a_defect_and_is_tried():
    assert set(SCRIPTS) == {*RAISED, *SAID, *ON_ASCEND}
    assert {name.upper() for name in SCRIPTS} <= set(catalogue())


@pytest.mark.parametrize("path", SCRIPTS.values(), ids=SCRIPTS)
def test_a_script_needs_mindspore_alone_and_is_short(path):
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    known = {"mindspore", "numpy", *sys.stdlib_module_names} if hasattr(sys, "stdlib_module_names") else None
    assert known is None or {name.partition(".")[0] for name in imported} <= known
    assert ast.get_docstring(tree) and len(text.splitlines()) <= 50


@pytest.mark.parametrize("path", PAGES.values(), ids=PAGES)
def test_the_page_names_every_script_and_every_defect_of_its_headings(path):
    text = path.read_text(encoding="utf-8")
    assert set(re.findall(r"reports/(\w+)\.py\)", text)) == set(SCRIPTS)
    headings = re.findall(r"^### (.*)$", text, re.M)
    named = {id_ for heading in headings for id_ in re.findall(r"\b[SHFAE]\d+\b", heading)}
    assert named <= set(catalogue()) and {name.upper() for name in SCRIPTS} <= named


def test_both_languages_have_the_same_reports_in_the_same_order():
    def ids(path):
        headings = re.findall(r"^### (.*)$", path.read_text(encoding="utf-8"), re.M)
        return [re.findall(r"\b[SHFAE]\d+\b|910A", heading) for heading in headings]

    assert ids(PAGES["en"]) == ids(PAGES["zh"])
