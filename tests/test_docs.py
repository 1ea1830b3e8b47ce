"""The examples of the guides: they parse, and every name of the library in them is there."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest

DOCS = sorted((Path(__file__).parents[1] / "docs").glob("*.md"))
NAME = re.compile(r"(?<![\w./])(shapes|host|fusion|amp|dryrun)\.([A-Za-z_]\w*)\(")


def fenced(text):
    """The fenced blocks of Python."""
    return [part.split("```")[0] for part in text.split("```python\n")[1:]]


def code(text):
    """Fenced Python and indented lines."""
    return "\n".join([*fenced(text), *(line for line in text.splitlines() if line.startswith("    "))])


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.stem)
def test_every_function_in_an_example_is_there(path):
    missing = [
        f"{family}.{name}"
        for family, name in sorted(set(NAME.findall(code(path.read_text(encoding="utf-8")))))
        if not hasattr(importlib.import_module(f"ascend_fixes.{family}"), name)
    ]
    assert not missing


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.stem)
def test_fenced_examples_parse(path):
    for block in fenced(path.read_text(encoding="utf-8")):
        ast.parse(block)


def test_the_guides_have_examples():
    assert sum(len(NAME.findall(code(path.read_text(encoding="utf-8")))) for path in DOCS) > 30
