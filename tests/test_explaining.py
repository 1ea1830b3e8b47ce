"""`ascend-fixes explain`: every known text is found, whole, cut, with other numbers and in a log; other lines are not."""

import json
import random
import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ascend_fixes.__main__ import main
from ascend_fixes.defects import catalogue
from ascend_fixes.explaining import _of_the_library, explain, explain_lines

TEXTS = [(defect.id, line) for defect in catalogue().values() for line in defect.error.splitlines()]
MESSAGES = sorted({(known.id, known.text) for known in _of_the_library()})
SAME = {"F4": "F6", "F6": "F4"}  # defects with one text; which of them it is depends on the machine


def found(text):
    return [one.id for one in explain(text)]


@pytest.mark.parametrize(("name", "text"), TEXTS)
def test_every_text_of_the_catalogue_is_found(name, text):
    if catalogue()[name].elsewhere():
        name = SAME[name]
    assert name in found(text)[:2]  # two defects may have one text
    assert (
        name in found(f"[ERROR] ME(4711:140,MainProcess):2026-05-04-10:11:12.345 [file.cc:99] {text}; see the log")[:2]
    )
    digits = random.Random(0)
    assert name in found(re.sub(r"\d+", lambda match: str(digits.randint(0, 10**6)), text))[:2]


@pytest.mark.parametrize(("missing", "name"), [((), "F6"), (("decorator",), "F4")])
def test_an_empty_response_is_a_cast_where_the_package_is_there(monkeypatch, missing, name):
    for module in ("f4_compiler_packages", "f6_fused_casts"):
        monkeypatch.setattr(f"ascend_fixes.defects.{module}.missing_packages", lambda: missing)
    assert found("RuntimeError: Response is empty.") == [name]


@given(st.sampled_from(TEXTS), st.floats(0.6, 1), st.booleans())
def test_a_text_that_was_cut_is_found(known, share, front):
    name, text = known
    if catalogue()[name].elsewhere():
        name = SAME[name]
    words = text.split()
    kept = max(3, round(share * len(words)))
    cut = " ".join(words[:kept] if front else words[-kept:])
    assert name in found(cut), cut


@given(st.sampled_from(MESSAGES))
def test_the_messages_of_this_library_are_found_without_their_class(known):
    name, text = known
    assert name in found(text.partition(": ")[2])


@pytest.mark.parametrize(
    "line",
    [
        "",
        "hello world",
        "epoch 3: loss 0.23",
        "KeyError: 'a'",
        "Traceback (most recent call last):",
        "3.5",
        "loss = inf",
    ],
)
def test_other_lines_are_not(line):
    assert explain(line) == []


def test_one_operator_is_not_taken_for_another():
    line = "RuntimeError: Unsupported op [SparseGatherV2] on CPU, Please confirm whether the device target setting is correct"
    assert found(line) == ["H1"]


def test_a_log_gives_each_defect_once_with_its_line():
    lines = ["start", "x [SparseGatherV2] on CPU", "step 1", f"GetNext: {dict(TEXTS)['H4']}", dict(TEXTS)["H4"], "end"]
    explanations = explain_lines(lines)
    assert [one.id for one in explanations] == ["H4", "H1"] and explanations[0].number in (4, 5)
    assert any("patch" in line for line in explanations[0].remedy)


def test_the_command_reads_a_text_a_file_and_standard_input(tmp_path, capsys):
    text = dict(TEXTS)["H1"]
    (tmp_path / "log.txt").write_bytes(b"\xff\xfe one\n" + text.encode() + b"\n")
    for given_ in (text, str(tmp_path / "log.txt")):
        assert main(["explain", given_, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)[0]["id"] == "H1"
    assert main(["explain", "epoch 3 took a while"]) == 1
    assert "nothing known resembles it" in capsys.readouterr().out
    assert main(["explain", str(tmp_path)]) == 2
    done = subprocess.run(
        [sys.executable, "-m", "ascend_fixes", "explain", "-"], input=text, capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stdout.startswith("H1")
