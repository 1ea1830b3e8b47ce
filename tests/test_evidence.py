"""Files of evidence: made without anything private, checked field by field, and what is generated from them."""

from __future__ import annotations

import copy
import getpass
import json
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ascend_fixes import evidence
from ascend_fixes.__main__ import main
from ascend_fixes.defects import catalogue
from ascend_fixes.doctor import ANSWERS, Row
from ascend_fixes.evidence import EvidenceError
from ascend_fixes.files import FileError
from benchmarks import records
from benchmarks.pages import support

ROWS = [
    Row("A1", "amp", "one", True, True, "1\nwith the cure: 2", "patch", "present", 3.5),
    Row("H4", "host", "two", None, None, "needs a device; looked", "patch", "needs a device", 1.0),
    Row("F1", "fusion", "three", False, None, "", "patch", "not present", 1.0),
    Row("F2", "fusion", "four", True, None, "", "patch", "no answer", 1.0),
    Row("F3", "fusion", "five", None, None, "", "patch", "failed", 1.0),
]


@pytest.fixture(scope="module")
def content():
    return evidence.record(ROWS, 12.34)


@pytest.fixture
def checked(tmp_path):
    """Write any content and check the file."""

    def check(content):
        (tmp_path / "some.json").write_text(evidence.written(content), encoding="utf-8")
        return evidence.check(tmp_path / "some.json")

    return check


def test_what_is_recorded_is_right_and_comes_back(content, checked):
    assert checked(content) == content
    assert content["versions"]["mindspore"].startswith("2.") and content["device"] == "CPU"
    assert content["seconds"] == 12.3 and [one["seconds"] for one in content["findings"]] == [3.5, 1, 1, 1, 1]


@pytest.mark.parametrize(
    "text",
    [
        "/home/somebody/venv/lib/x.py",
        "cannot open '/data/corpus.txt': No such file",
        "at file:///srv/a/b",
        "~/work/model.ckpt is missing",
        "~somebody/model",
        "x=/a/b.py:12",
        "connect to 10.1.2.3:8118",
        "who@example.org",
        f"on {socket.gethostname()} it fails",
    ],
)
def test_nothing_private_is_written_and_none_is_let_through(text, content, checked):
    if text.split()[-1] != "fails":
        with pytest.raises(EvidenceError, match=r"some\.json: finding 1: findings\.evidence holds .*take it out"):
            checked({**content, "findings": [{**content["findings"][0], "evidence": text}]})
    row = Row("A1", "amp", "", True, True, text, "patch", "present")
    (finding,) = checked(evidence.record([row], 1.0))["findings"]
    assert "<left out>" in finding["evidence"]
    private = ("somebody", "corpus", "srv", "model", "b.py", "10.1", "who@", socket.gethostname())
    assert not [word for word in private if word in finding["evidence"]]


@pytest.mark.parametrize(
    "text",
    [
        "float16/float32 and/or 3 / 4",
        "python3.11/site-packages",
        "mindspore/ccsrc/plugin/cpu/kernel.cc:123",
        "MindSpore 2.10.0, 1.5e-7 of 3.6",
        "2 x 12, 4 x 10",
        "10 steps/s; NaN in 3/4",
    ],
)
def test_what_is_not_private_stays(text):
    (finding,) = evidence.record([Row("A1", "amp", "", True, True, text, "patch", "present")], 1.0)["findings"]
    assert finding["evidence"] == text or getpass.getuser() in text


@given(text=st.text(max_size=300))
def test_whatever_a_probe_said_the_file_is_right(text, tmp_path_factory):
    path = tmp_path_factory.mktemp("any") / "x.json"
    path.write_text(
        evidence.written(evidence.record([Row("A1", "amp", "", True, True, text, "patch", "present")], 1.0)),
        encoding="utf-8",
    )
    evidence.check(path)


def set_in(content, place, value):
    """A copy in which one field is another; a missing one where the value is KeyError."""
    changed = copy.deepcopy(content)
    *way, last = place.split(".")
    inner = changed
    for step in way:
        inner = inner[int(step) if step.isdigit() else step]
    if value is KeyError:
        del inner[last]
    else:
        inner[last] = value
    return changed


@pytest.mark.parametrize(
    "place, value, words",
    [
        ("format", "ascend_fixes evidence 0", 'format="ascend_fixes evidence 0", but it has to be always'),
        ("how", "believed", "how="),
        ("any_version", "no", "any_version="),
        ("seconds", -1, "seconds=-1"),
        ("seconds", True, "seconds=true"),
        ("machine.cores", 2.5, "machine.cores=2.5"),
        ("versions.mindspore", "newest", "versions.mindspore="),
        ("versions.numpy", KeyError, "versions.numpy is missing; the fields are"),
        ("versions", [], "versions is [], not an object"),
        ("machine.name", "beast", "machine.name is unknown; the fields are"),
        ("device", "/dev/davinci0", "device="),
        ("wheel", "from here", "wheel="),
        ("findings", {}, "findings is {}, not a list"),
        ("findings", [], "findings is empty"),
        ("findings.0.id", "one", "finding 1: findings.id="),
        ("findings.1.id", "A1", "A1 is in findings twice"),
        ("findings.0.present", 1, "finding 1: findings.present=1"),
        ("findings.0.present", False, "contradicts"),
        ("findings.2.cured", True, "finding 3: answer='not present' contradicts"),
        ("findings.0.answer", "perhaps", "findings.answer="),
        ("findings.0.evidence", "x" * 5000, "5,000 letters"),
    ],
)
def test_a_wrong_field_is_named_with_its_value_and_the_remedy(content, checked, place, value, words):
    with pytest.raises(EvidenceError) as error:
        checked(set_in(content, place, value))
    assert words in str(error.value) and "some.json: " in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "null", '"x"', "[" * 100_000])
def test_anything_else_is_an_error_of_the_library(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises((FileError, EvidenceError)):
        evidence.check(tmp_path / "x.json")


def test_the_command_checks_every_file_and_goes_on_after_a_bad_one(tmp_path, capsys, content):
    (tmp_path / "good.json").write_text(evidence.written(content), encoding="utf-8")
    (tmp_path / "bad.json").write_text("{}")
    paths = [str(tmp_path / name) for name in ("absent.json", "bad.json", "good.json")]
    assert main(["evidence", "check", *paths]) == 2
    told = capsys.readouterr()
    assert len(told.err.splitlines()) == 2 and "5 defects examined, 2 present, 1 cured" in told.out
    assert main(["evidence", "check", paths[2]]) == 0


def test_the_doctor_shows_what_it_then_writes(tmp_path, capsys):
    path = tmp_path / "mine.json"
    assert main(["doctor", "--only", "E1", "--json", "--report", str(path)]) == 0
    told = capsys.readouterr()
    assert path.read_text(encoding="utf-8") in told.err and json.loads(told.out)[0]["id"] == "E1"
    assert [one["id"] for one in evidence.check(path)["findings"]] == ["E1"]


@pytest.mark.parametrize("path", ["nowhere/mine.json", "."])
def test_a_file_that_cannot_be_written_is_refused_before_the_work(tmp_path, capsys, path):
    assert main(["doctor", "--report", str(tmp_path / path)]) == 2
    assert "cannot write" in capsys.readouterr().err


# --- what is generated ------------------------------------------------------------------------------


def test_every_file_of_the_project_is_right_and_named_after_what_it_holds():
    found = support.files()
    assert found
    paths = sorted((records.ROOT / "evidence").glob("*.json"))
    assert len(found) <= 2 * len(paths)
    for path in paths:
        content = evidence.check(path)
        versions = content["versions"]
        assert f"mindspore{versions['mindspore']}_python{'.'.join(versions['python'].split('.')[:2])}" in path.name
        assert {one["id"] for one in content["findings"]} <= set(catalogue())


def test_the_documents_and_the_catalogue_say_what_the_files_say():
    stale = [
        str(path.relative_to(records.ROOT))
        for path, text in support.wanted().items()
        if path.read_text(encoding="utf-8") != text
    ]
    assert not stale, "run: python -m benchmarks.pages.support && ascend-fixes defects --markdown > docs/defects.md"


def test_what_the_doctor_compiled_does_not_count_as_run(tmp_path, content):
    said = {"A1": "1 of 2\nwith the cure: compiled for Ascend", "H9": "refused for Ascend: x\nwith the cure: compiled"}
    findings = [{**content["findings"][0], "id": id_, "evidence": text} for id_, text in said.items()]
    (tmp_path / "x.json").write_text(evidence.written({**content, "findings": findings}), encoding="utf-8")
    places = {file.where: set(file.findings) for file in support.files(tmp_path)}
    assert places == {"CPU": {"A1"}, "Ascend910B": {"H9"}}


def test_what_several_pythons_compiled_for_a_chip_is_one_column_and_the_worst_of_it_counts(tmp_path, content):
    finding = {**content["findings"][0], "id": "H9", "present": True, "evidence": "refused for Ascend: x"}
    for python, cured in (("3.10.13", True), ("3.11.7", False), ("3.12.1", True)):
        versions = {**content["versions"], "python": python}
        text = evidence.written({**content, "versions": versions, "findings": [{**finding, "cured": cured}]})
        (tmp_path / f"{python}.json").write_text(text, encoding="utf-8")
    (file,) = support.files(tmp_path)
    assert (file.where, file.python, file.score) == ("Ascend910B", None, "0 / 1")


def test_the_tables_of_some_files():
    def file(version, where, python=(3, 11), **states):
        findings = {
            id_: {"present": present, "cured": cured, "answer": ANSWERS[0]} for id_, (present, cured) in states.items()
        }
        return support.File(version, python, where, findings)

    found = [
        file((2, 9, 0), "CPU", (3, 9), A1=(True, True), F1=(True, False)),
        file((2, 10, 0), "CPU", A1=(True, True), F1=(False, None)),
        file((2, 10, 0), "Ascend910A", None, H9=(True, False)),
        file((2, 10, 0), "Ascend910B", None, H9=(True, True)),
    ]
    assert support.grid(found).splitlines() == [
        "| MindSpore | CPU, Python 3.9 | CPU, Python 3.11 | compiled for Ascend910A | compiled for Ascend910B | on an Ascend device |",
        "| --- | --- | --- | --- | --- | --- |",
        "| 2.9.0 | 1 / 2 |  |  |  |  |",
        "| 2.10.0 |  | 1 / 1 | 0 / 1 | 1 / 1 |  |",
    ]
    said = support.sentences(found)
    assert said["A1"] == "ran on CPU: present and cured on MindSpore 2.9.0, 2.10.0"
    assert said["F1"] == "ran on CPU: present, not cured on MindSpore 2.9.0, not there on MindSpore 2.10.0"
    assert said["H9"] == (
        "compiled for Ascend910A (dry run): present, not cured on MindSpore 2.10.0; "
        "compiled for Ascend910B (dry run): present and cured on MindSpore 2.10.0"
    )
    row = next(line for line in support.details(found).splitlines() if line.startswith("| F1 |"))
    assert row == "| F1 | **present** | not there |  |  |"
    same = file((2, 10, 0), "CPU", (3, 12), A1=(True, True), F1=(False, None))
    other = file((2, 10, 0), "CPU", (3, 10), A1=(True, False), F1=(False, None))
    head, _, *rows = support.details([other, found[1], same]).splitlines()
    assert head == "| defect | 2.10.0, Python 3.10, CPU | 2.10.0, Python 3.11, 3.12, CPU |"
    assert "| A1 | **present** | cured |" in rows
