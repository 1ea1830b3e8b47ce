"""The doctor on planted defects of every temper, and the command line."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest

from ascend_fixes import doctor
from ascend_fixes.__main__ import main
from ascend_fixes.defects import Defect, Finding, Tool

HEADER = """
import os, signal, sys, time, threading
from ascend_fixes.defects import Defect, Finding, Patch, Tool
from ascend_fixes.patching import Replacement
def there(): return Finding(True, "there")
def gone(): return Finding(False, "gone")
def raising(): raise RuntimeError("first line\\nsecond line")
def hanging():
    if os.fork() == 0:
        time.sleep(600)
    time.sleep(600)
def killed(): os.kill(os.getpid(), signal.SIGKILL)
def crashing(): os.kill(os.getpid(), signal.SIGSEGV)
def leaving(): os._exit(3)
def silent(): os._exit(0)
def elsewhere(): return Finding(None, "needs a device; nothing could be run here")
def forgetful(): import tempfile; tempfile.mkdtemp(); return there()
def littering(): open("litter", "w").close(); return Finding(True, os.getcwd())
"""


@pytest.fixture
def plant(tmp_path, monkeypatch):
    """Write a module with a defect and import it; probes are named by the functions above."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(name, probe, tool=None):
        cure = f'Tool("toy.tool", {tool})' if tool else "None"
        (tmp_path / f"{name}.py").write_text(
            HEADER.replace("def there", f"def probe(): return {probe}()\ndef there")
            + f'DEFECT = Defect("{name.upper()}", "amp", "planted", "", "", "", "", "", probe=probe, tool={cure})\n'
        )
        return __import__(name).DEFECT

    return make


def examine(*defects, timeout=60.0):
    return doctor.examine(defects, jobs=2, timeout=timeout)


def test_present_and_cured(plant):
    rows = examine(
        plant("x1", "there", "gone"), plant("x2", "there", "there"), plant("x3", "gone", "gone"), plant("x4", "there")
    )
    assert [(row.id, row.present, row.cured) for row in rows] == [
        ("X1", True, True),
        ("X2", True, False),
        ("X3", False, None),
        ("X4", True, False),
    ]
    assert rows[0].evidence == "there\nwith the cure: gone"
    assert [doctor.healthy([row]) for row in rows] == [True, False, True, False]
    assert rows[3].cure == "not cured yet"


@pytest.mark.parametrize(
    "probe, evidence",
    [
        ("raising", "ended with status 1: second line"),
        ("killed", "was killed by SIGKILL"),
        ("crashing", "was killed by SIGSEGV"),
        ("leaving", "ended with status 3: nothing was printed"),
        ("silent", "ended without an answer"),
    ],
)
def test_a_probe_that_fails_is_a_row(plant, probe, evidence):
    (row,) = examine(plant(f"y{probe}", probe, "gone"))
    assert (row.present, row.cured, row.answer) == (None, None, "failed") and row.evidence == evidence
    assert not doctor.healthy([row])


def test_a_probe_that_hangs_is_stopped_with_its_children(plant):
    (row,) = examine(plant("z1", "hanging"), timeout=8.0)
    assert (row.present, row.cured, row.answer) == (None, None, "no answer")
    assert row.evidence == "gave no answer within 8 s and was stopped"
    assert doctor.healthy([row])
    left = subprocess.run(["pgrep", "-f", "ascend_fixes.doctor z1"], capture_output=True, text=True).stdout
    assert left == ""


def test_a_cure_that_fails_is_a_row(plant):
    (row,) = examine(plant("z2", "there", "raising"))
    assert (row.present, row.cured, row.answer) == (True, False, "failed")
    assert "with the cure: ended with status 1" in row.evidence


def test_a_cure_out_of_time_is_neither_cured_nor_uncured(plant):
    (row,) = examine(plant("z4", "there", "hanging"), timeout=8.0)
    assert (row.present, row.cured, row.answer) == (True, None, "no answer")
    assert row.evidence == "there\nwith the cure: gave no answer within 8 s and was stopped"


def test_what_only_a_device_can_show(plant):
    (row,) = examine(plant("z5", "elsewhere", "gone"))
    assert (row.present, row.cured, row.answer) == (None, None, "needs a device") and doctor.healthy([row])


def test_no_temporary_files_are_left(plant, tmp_path, monkeypatch):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    (row,) = examine(plant("z6", "forgetful", "gone"))
    assert row.cured and list((tmp_path / "temporary").iterdir()) == []


def test_any_version_tries_a_cure_beyond_the_versions_it_was_checked_on(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "v1.py").write_text(
        HEADER
        + textwrap.dedent("""
        def probe():
            import mindspore
            return Finding(mindspore.amp.all_finite is None or not hasattr(mindspore.amp.all_finite, "cured"), "looked")
        def make(original):
            def all_finite(inputs): return original(inputs)
            all_finite.cured = True
            return all_finite
        cure = Patch((Replacement("mindspore.amp:all_finite", make),), since=(99, 0), before=(100, 0))
        DEFECT = Defect("V1", "amp", "planted", "", "", "", "", "", probe=probe, patch=cure)
        """)
    )
    defect = __import__("v1").DEFECT
    (left_out,), (tried,) = (doctor.examine([defect], any_version=tried) for tried in (False, True))
    assert (left_out.present, left_out.cured) == (True, False)
    assert "with the cure: not applied, checked on MindSpore >=99.0,<100.0" in left_out.evidence
    assert (tried.present, tried.cured) == (True, True)


def test_a_probe_works_in_a_folder_of_its_own(plant, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (row,) = examine(plant("z3", "littering"))
    assert row.present and list((tmp_path / "here").iterdir()) == []


def test_the_table_aligns_and_counts():
    rows = [
        doctor.Row("A1", "amp", "one", True, True, "1\n2", "patch", "present"),
        doctor.Row("F10", "fusion", "two", None, None, "", "tool: fusion.guard", "failed"),
        doctor.Row("H1", "host", "three", None, None, "", "patch", "no answer"),
    ]
    lines = doctor.to_table(rows).splitlines()
    assert lines[0].split() == ["id", "family", "present", "cured", "cure", "symptom"]
    assert lines[0].index("symptom") == lines[1].index("one") == lines[4].index("two")
    assert lines[4].split()[2] == "failed" and lines[5].split()[2:4] == ["no", "answer"]
    assert lines[2:4] == ["    1", "    2"]
    assert lines[-1] == (
        "1 of 3 defects present, 1 cured, 1 probes failed, 1 gave no answer in time (more patience: --timeout)"
    )


def test_json_has_the_published_keys():
    (row,) = json.loads(doctor.to_json([doctor.Row("A1", "amp", "one", True, True, "1", "patch", "present")]))
    assert list(row) == ["id", "family", "symptom", "present", "cured", "evidence", "cure", "answer", "seconds"]


def test_the_environment_of_the_user_does_not_reach_a_probe(plant, tmp_path, monkeypatch):
    monkeypatch.setenv("MS_DEV_GRAPH_KERNEL_FLAGS", "--opt_level=0")
    (tmp_path / "w1.py").write_text(
        textwrap.dedent("""
        import os
        from ascend_fixes.defects import Defect, Finding
        def probe(): return Finding("MS_DEV_GRAPH_KERNEL_FLAGS" in os.environ, "")
        DEFECT = Defect("W1", "amp", "planted", "", "", "", "", "", probe=probe)
        """)
    )
    assert doctor.examine([__import__("w1").DEFECT])[0].present is False


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["doctor", "--only", "A1,Q7"], "'Q7' is neither"),
        (["doctor", "--only", ",,"], "--only ',,' names nothing"),
        (["doctor", "--only", ""], "--only '' names nothing"),
        (["defects", "Q7"], "'Q7' is neither"),
    ],
)
def test_wrong_names_end_with_2_and_one_line(capsys, arguments, words):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert words in error and len(error.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [[], ["nothing"], ["doctor", "--jobs", "0"], ["doctor", "--timeout", "-1"], ["doctor", "--timeout", "inf"]],
)
def test_wrong_usage_ends_with_2(capsys, arguments):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2


def test_defects_lists_and_explains(capsys):
    assert main(["defects"]) == 0
    listing = capsys.readouterr().out
    assert listing.splitlines()[0].startswith("S1") and "NumPy 2" in listing
    assert main(["defects", "E1"]) == 0
    page = capsys.readouterr().out
    assert page.startswith("E1  NumPy 2") and "pyboost_add_ext" in page and "removal" in page
    assert main(["defects", "fusion"]) == 0
    assert all(line.startswith("F") for line in capsys.readouterr().out.splitlines())


def test_the_module_is_a_command_and_its_status_is_the_doctors(tmp_path):
    command = [sys.executable, "-m", "ascend_fixes", "doctor", "--only", "E1", "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0
    (row,) = json.loads(done.stdout)
    assert row["id"] == "E1" and row["present"] is False


def test_defect_says_how_it_is_cured():
    plain = Defect("X1", "amp", "", "", "", "", "", "", probe=lambda: Finding(False, ""))
    assert plain.cure == "not cured yet"
    assert Defect(**{**vars(plain), "tool": Tool("a.b", plain.probe)}).cure == "tool: a.b"


def test_the_page_of_the_catalogue_is_up_to_date(capsys):
    page = Path(__file__).parents[1] / "docs" / "defects.md"
    assert main(["defects", "--markdown"]) == 0
    assert page.read_text(encoding="utf-8") == capsys.readouterr().out, (
        "run: ascend-fixes defects --markdown > docs/defects.md"
    )


def test_bisect_says_what_is_wrong_with_a_factory(capsys):
    assert main(["bisect", "nowhere:factory"]) == 2
    error = capsys.readouterr().err
    assert "nowhere:factory cannot be found" in error and len(error.splitlines()) == 1
