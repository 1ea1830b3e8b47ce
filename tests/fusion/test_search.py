"""The search: minimal by construction, and right on cells whose guilty operator is known."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ascend_fixes import cures, fusion
from ascend_fixes.__main__ import main
from ascend_fixes.files import FileError
from ascend_fixes.fusion._learned import learned, learned_file
from ascend_fixes.fusion._search import minimal

_HERE = Path(__file__).parent
_PATHS = os.pathsep.join([str(_HERE), str(_HERE.parents[1])])  # the factories, and the package that is tested


@given(st.integers(1, 24), st.data())
def test_a_planted_set_is_found_in_few_runs(count, data):
    candidates = tuple(f"cluster:{index}" for index in range(count))
    planted = set(data.draw(st.lists(st.sampled_from(candidates), min_size=1, max_size=3, unique=True)))
    tried = []

    def cured(keep_out):
        tried.append(keep_out)
        return planted <= set(keep_out)

    assert set(minimal(candidates, cured)) == planted
    assert len(tried) <= 2 * len(planted) * (count.bit_length() + 1)


@given(st.integers(1, 12), st.data())
def test_what_is_found_is_minimal_where_several_sets_cure(count, data):
    candidates = tuple(map(str, range(count)))
    ways = data.draw(st.lists(st.sets(st.sampled_from(candidates), min_size=1), min_size=1, max_size=3))

    def cured(keep_out):
        return any(way <= set(keep_out) for way in ways)

    found = minimal(candidates, cured)
    assert cured(found)
    assert not any(cured([name for name in found if name != left]) for left in found)


@given(st.integers(1, 8), st.randoms(use_true_random=False))
def test_what_is_found_is_minimal_whatever_the_oracle_says(count, random):
    """Leaving out more may bring an error back: the answer still cures, and each of its members is needed."""
    candidates = tuple(map(str, range(count)))
    answers = {frozenset(candidates): True, frozenset(): False}

    def cured(keep_out):
        return answers.setdefault(frozenset(keep_out), random.random() < 0.4)

    found = minimal(candidates, cured)
    assert cured(found)
    assert not any(cured([name for name in found if name != left]) for left in found)


def search(factory, folder, *options):
    env = {**os.environ, "PYTHONPATH": _PATHS}
    command = [sys.executable, "-m", "ascend_fixes.fusion._search", f"bisect_cases:{factory}", *options]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=1200)


def report_of(done):
    assert done.returncode == 0, done.stderr[-2000:]
    return fusion.BisectReport.from_json(done.stdout)


@pytest.mark.slow
def test_a_healthy_cell_takes_two_compilations_and_leaves_nothing(tmp_path):
    report = report_of(search("healthy", tmp_path))
    assert report.keep_out == () and report.compilations == 2 and report.error_before < 1e-5
    assert str(report).startswith("nothing to do") and list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_transposes_of_attention_are_found(tmp_path):
    report = report_of(search("attention", tmp_path))
    assert report.keep_out == ("cluster:Transpose",) and report.flags == "--disable_cluster_ops=Transpose"
    assert report.error_before > 1 and report.error_after < 1e-3 and report.seconds < 120
    assert any("Gradients" in path for path in report.cells["cluster:Transpose"]), "made by the gradient"


@pytest.mark.slow
@pytest.mark.parametrize(
    "factory, said",
    [
        ("broken", "does not run without fusion"),
        ("unsteady", "differs from run to run"),
        ("no_cell", "must return a cell"),
        ("absent", "cannot be found"),
        ("no_inputs", "does not run without fusion"),
        ("numpy_input", "input 0 is a NumPy array"),
        ("raising", "cannot be called: ValueError: no weights here ("),
    ],
)
def test_what_cannot_be_searched_gets_one_line(factory, said, tmp_path):
    done = search(factory, tmp_path)
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("bisect: ")]
    assert done.returncode == 1 and said in line


@pytest.mark.slow
def test_a_hang_is_a_finding(tmp_path):
    done = search("healthy", tmp_path, "--limit", "0.01")
    assert done.returncode == 1 and "hung for 0.01 s" in done.stderr


def test_a_cell_is_asked_for():
    with pytest.raises(fusion.BisectError, match="factory"):
        fusion.bisect(3)


@pytest.fixture
def report(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    from ascend_fixes import _mindspore

    return fusion.BisectReport(
        ("cluster:Select",),
        "--disable_cluster_ops=Select",
        "",
        "output 0",
        0.5,
        1e-7,
        {"cluster:Select": ("Default",)},
        5,
        1.0,
        _mindspore.version_text(),
        _mindspore.backend(),
    )


def test_learning_adds_a_row_once_and_patch_heeds_it(report):
    assert fusion.BisectReport.from_json(report.to_json()) == report
    assert learned() == ()
    row = fusion.learn(report)
    assert fusion.learn(report) == row and learned() == (row,) and row.keep_out == ("cluster:Select",)
    assert len(json.loads(learned_file().read_text())["rows"]) == 1
    assert "Select" not in fusion.flags().text
    with cures.patched("F1"):
        assert "Select" in fusion.flags().text and "patch learned" in str(fusion.flags())


def test_another_version_is_not_heeded(report):
    fusion.learn(dataclasses.replace(report, mindspore="1.0.0"))
    assert learned() == ()


def test_an_operator_that_another_version_had_damages_nothing(report):
    fusion.learn(dataclasses.replace(report, mindspore="1.0.0"))
    path = learned_file()
    old = json.loads(path.read_text().replace("Select", "GoneSince"))["rows"]
    path.write_text(json.dumps(old))
    assert learned() == ()
    fusion.learn(dataclasses.replace(report, keep_out=("pass:some_pass",)))
    assert [quirk.keep_out for quirk in learned()] == [("pass:some_pass",)]


def test_nothing_to_keep_out_is_nothing_to_learn(report):
    with pytest.raises(fusion.LearnError, match="nothing to keep out"):
        fusion.learn(dataclasses.replace(report, keep_out=()))


def row(*keep_out):
    from ascend_fixes import _mindspore

    facts = {"backend": "CPU", "mindspore": _mindspore.version_text(), "symptom": "wrong"}
    return json.dumps([{"keep_out": list(keep_out), **facts}]).encode()


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"{}",
        b"\xff\xfe",
        b'[{"keep_out": ["cluster:Add"]}]',
        b"[[]]",
        row(),
        row(3),
        row("cluster:Nonsense"),
        row("no:Add"),
    ],
)
def test_a_damaged_file_is_not_used_and_nothing_in_it_is_lost(report, content):
    path = learned_file()
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.warns(RuntimeWarning, match="damaged"):
        assert learned() == ()
    with pytest.raises(FileError, match="damaged"):
        fusion.learn(report)
    assert path.read_bytes() == content


def test_findings_of_the_version_before_the_checksum_are_read_and_kept(report):
    path = learned_file()
    path.parent.mkdir(parents=True)
    path.write_bytes(row("cluster:Add"))
    fusion.learn(report)
    assert [quirk.keep_out for quirk in learned()] == [("cluster:Add",), ("cluster:Select",)]
    damaged = path.read_bytes().replace(b"cluster:Add", b"cluster:Abs")
    path.write_bytes(damaged)
    with pytest.warns(RuntimeWarning, match="its checksum differs"):
        assert learned() == ()


def test_processes_that_learn_at_once_lose_nothing(report):
    children = []
    for number in range(4):
        child = os.fork()
        if not child:
            for finding in range(15):
                fusion.learn(dataclasses.replace(report, mindspore=f"{number}.{finding}"))
            os._exit(0)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    found = json.loads(learned_file().read_text())["rows"]
    assert {one["mindspore"] for one in found} == {
        f"{number}.{finding}" for number in range(4) for finding in range(15)
    }


def test_text_that_is_no_report_is_named():
    for text in ("{", "[]", '{"cells": {}}', "[" * 100_000):
        with pytest.raises(fusion.BisectError, match="no report"):
            fusion.BisectReport.from_json(text)


@pytest.mark.slow
def test_what_one_process_learns_cures_the_next(tmp_path):
    """The command line finds and keeps; a new process that patches a cure of something else has the right gradient."""
    env = {**os.environ, "PYTHONPATH": _PATHS}
    env.update(XDG_CONFIG_HOME=str(tmp_path / "config"), XDG_CACHE_HOME=str(tmp_path / "cache"))

    def run(*arguments):
        done = subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=1200
        )
        return done.returncode, done.stdout, done.stderr[-2000:]

    scenario = (str(_HERE / "fusion_scenarios.py"), "patched_f3")
    status, said, trouble = run(*scenario)
    assert status == 0 and json.loads(said.splitlines()[-1]) > 1, trouble
    status, said, trouble = run("-m", "ascend_fixes", "bisect", "bisect_cases:attention", "--learn")
    assert status == 1 and "keep out of fusion: cluster:Transpose" in said and "kept in" in said, trouble
    status, said, trouble = run(*scenario)
    assert status == 0 and json.loads(said.splitlines()[-1]) < 1e-5, trouble


@pytest.mark.parametrize(
    "factory, said",
    [
        ("nonsense", "must be written"),
        (":f", "must be written"),
        ("no_such_module:f", "No module named 'no_such_module'"),
        ("bisect_cases:no_cell", "must return a cell"),
        ("broken_file:f", "broken_file cannot be imported: SyntaxError"),
    ],
)
def test_a_wrong_factory_is_one_line_on_the_command_line(factory, said, tmp_path, monkeypatch, capsys):
    (tmp_path / "broken_file.py").write_text("def f(:\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), _PATHS]))
    assert main(["bisect", factory]) == 2
    written = capsys.readouterr()
    assert written.out == "" and said in written.err and written.err.count("\n") == 1


@pytest.mark.slow
def test_a_process_that_has_compiled_and_fused_can_search_too(tmp_path):
    done = subprocess.run(
        [sys.executable, str(_HERE / "bisect_after_fusing.py")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=1200,
    )
    said = [line for line in done.stdout.splitlines() if line.startswith("(")]
    assert said == ["('cluster:Transpose',)", "()", "(4, 10, 64)"], done.stderr[-2000:]
