"""The tree at the head of errors.py is what is there, and messages about unknown names."""

from __future__ import annotations

import importlib
import pkgutil
import re

import pytest

import ascend_fixes
from ascend_fixes import errors
from ascend_fixes.errors import AscendFixesError, UnknownNameError, first_line, nearest


def subclasses(base):
    return {one for child in base.__subclasses__() for one in (child, *subclasses(child))}


@pytest.fixture(scope="module")
def library_errors():
    """Every error of the library by name, its modules imported."""
    for module in pkgutil.walk_packages(ascend_fixes.__path__, "ascend_fixes."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    return {e.__name__: e for e in subclasses(AscendFixesError) if e.__module__.startswith("ascend_fixes")}


def test_the_tree_names_every_error_and_no_other(library_errors):
    drawn = set(re.findall(r"\b[A-Z]\w+Error\b", errors.__doc__))
    builtin = {name for name in drawn if isinstance(getattr(__import__("builtins"), name, None), type)}
    assert drawn - builtin == {*library_errors, "AscendFixesError"}


def test_the_tree_tells_the_built_in_type_of_each(library_errors):
    known = {**vars(__import__("builtins")), **library_errors}
    rows = re.findall(r"((?:\w+Error,? *)+)\(([\w, ]+)\)", errors.__doc__)
    assert rows
    for names, bases in rows:
        for name in re.findall(r"\w+", names):
            for base in bases.split(", "):
                assert issubclass(library_errors[name], known[base]), f"{name} is no {base}"


@pytest.mark.parametrize(
    "name, remedy",
    [
        ("relu", "; did you mean 'ReLU'?"),
        ("Transpos", "; did you mean 'Transpose'?"),
        ("zzzzz", "; look it up"),
        (7, "; look it up"),
    ],
)
def test_the_nearest_name_is_offered(name, remedy):
    assert nearest(name, ["ReLU", "Transpose", "MatMul"], "look it up") == remedy


def test_where_nothing_is_near_nothing_is_said():
    assert nearest("zzzzz", ["ReLU"]) == ""


def test_an_error_in_one_line():
    error = ValueError("\n  \n first\n the operator\n")
    assert first_line(error) == "ValueError: first"
    assert first_line(error, "operator") == "ValueError: the operator"
    assert first_line(error, "absent") == "ValueError: first"
    assert first_line(ValueError()) == "ValueError: "
    path = "/home/somebody/venv/lib/python3.11/site-packages/mindspore/nn/cell.py"
    assert (
        first_line(ValueError(f'in "{path}", {path}:7'))
        == 'ValueError: in "mindspore/nn/cell.py", mindspore/nn/cell.py:7'
    )


def test_a_remedy_of_ours_is_never_cut_and_a_word_of_others_neither():
    assert first_line(UnknownNameError("word " * 100 + "remedy")).endswith("remedy")
    line = first_line(ValueError("word " * 100))
    assert len(line) <= 200 and line.endswith(" word ...")
