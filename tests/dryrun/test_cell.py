"""Dry runs of tiny cells, end to end."""

from __future__ import annotations

import dataclasses
import json
import platform
import sys
from pathlib import Path

import pytest

from ascend_fixes import dryrun
from ascend_fixes.__main__ import main
from ascend_fixes.errors import UnknownNameError
from ascend_fixes.factories import FactoryError
from ascend_fixes.testing import assert_compiles_for_ascend

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        platform.system() != "Linux" or platform.machine() not in ("x86_64", "aarch64"),
        reason="MindSpore's wheel has an Ascend back end on Linux, x86-64 and aarch64, only",
    ),
]


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


@pytest.fixture(scope="module")
def fused(request):
    sys.path.insert(0, str(Path(__file__).parent))
    request.addfinalizer(lambda: sys.path.remove(str(Path(__file__).parent)))
    return dryrun.cell("dryrun_cells:block")


def test_a_cell_compiles_with_its_kernels_by_kind(fused):
    (graph,) = fused.graphs
    assert (fused.verdict, graph.verdict, graph.unknown) == ("compiled", "compiled", [])
    assert graph.operators["aclnn"]["MatMul"] == 2
    assert graph.operators["aclop"]["LayerNorm"] == 1
    assert graph.kernels["host"] == graph.kernels["hccl"] == 0
    assert graph.kernels["fused"] == len(graph.fused) == sum(graph.operators["fused"].values())
    assert {"Add", "Mul"} <= {member for kernel in graph.fused for member in kernel["members"]}
    assert graph.peak_memory_bytes >= 2 * 16 * 16 * 4, "the weights alone take more"
    assert dryrun._report.STATEMENT in fused.show()


def test_nothing_is_fused_at_o0_nor_on_a_910a(fused):
    """The chip is told to MindSpore through the seam: the fuser DVM does not know a 910A."""
    for options in ({"jit_level": "O0"}, {"soc": "Ascend910A"}):
        report = dryrun.cell("dryrun_cells:block", **options)
        assert report.graphs[0].kernels["fused"] == 0
        assert "fused:" in report.compare(fused)


def test_the_first_of_several_devices_has_collectives():
    (graph,) = dryrun.cell("dryrun_cells:parallel_step", ranks=4).graphs
    assert graph.operators["hccl"] == {"AllReduce": 2}, "one for each parameter"


def test_a_script_keeps_its_arguments_and_folder_but_not_its_device_and_its_results(tmp_path, monkeypatch):
    (tmp_path / "data.txt").write_text("7")
    (tmp_path / "kept.ckpt").write_text("precious")
    script = Path(__file__).parent / "dryrun_script.py"
    monkeypatch.chdir(tmp_path)
    report = dryrun.script(script, "--lengths", "3,5,3", "--loop")
    assert report.failure == "" and report.verdict == "compiled"
    names = [(graph.name, graph.compiled_because) for graph in report.graphs]
    assert [name for name, _ in names] == ["Net", "Net", "Loop", "double"]
    assert names[0][1] == "the first graph of it"
    assert "changed from Float32[3, 8] to Float32[5, 8]" in names[1][1]
    assert report.graphs[0].kernels["fused"] > 0, "the script asks for O0 and a CPU"
    assert report.peak_memory_bytes > 8 * 8 * 4
    assert (tmp_path / "kept.ckpt").read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data.txt", "kept.ckpt"]


def test_a_script_ends_after_the_steps_asked_for():
    script = Path(__file__).parent / "dryrun_script.py"
    report = dryrun.script(script, "--lengths", "3,5,3", steps=1)
    assert [graph.name for graph in report.graphs] == ["Net"]
    assert report.failure == ""


def test_the_self_check_knows_a_log_that_it_cannot_read(fused):
    silent = dataclasses.replace(fused.graphs[0], fused=[], fallbacks=[])
    lacking = dryrun._selfcheck.missed(dataclasses.replace(fused, graphs=(silent,)))
    assert "fused kernels and their members" in lacking and "operators on the host" in lacking
    doubted = dryrun._selfcheck.without_belief(fused, lacking)
    assert doubted.verdict == "unknown" and "may be too small" in doubted.show()
    assert dryrun._selfcheck.missed(dryrun.cell(dryrun._selfcheck.KNOWN)) == []


def test_a_users_own_test_holds_the_line():
    assert_compiles_for_ascend("dryrun_cells:looked", kinds={"host": 1, "aclop": 0})
    with pytest.raises(AssertionError, match="1 kernels are host, where at most 0"):
        assert_compiles_for_ascend("dryrun_cells:looked", kinds={"host": 0})
    with pytest.raises(AssertionError, match="value-dependent"):
        assert_compiles_for_ascend("dryrun_cells:nonzero")
    with pytest.raises(UnknownNameError, match="did you mean 'host'"):
        assert_compiles_for_ascend("dryrun_cells:looked", kinds={"hots": 0})


@pytest.mark.parametrize(
    "factory, verdict, reason",
    [
        ("nonzero", "value-dependent", "Default/NonZero-op0"),
        ("mapped", "refused", "MapTensorGet"),
    ],
)
def test_what_the_back_end_does_not_take_is_told_with_its_place(factory, verdict, reason):
    report = dryrun.cell(f"dryrun_cells:{factory}")
    assert report.verdict == verdict
    assert reason in report.graphs[0].reason
    assert "source: " in report.graphs[0].reason


def test_an_operator_on_the_host_is_counted_with_the_bytes_that_cross():
    (graph,) = dryrun.cell("dryrun_cells:looked").graphs
    assert graph.operators["host"] == {"EmbeddingLookup": 1}
    assert graph.host_bytes == 3 * 4 * 8 * 4, "the rows that were looked up"


def test_a_cell_that_cannot_be_made_for_ascend_is_refused():
    report = dryrun.cell("dryrun_cells:narrow_gru")
    assert report.verdict == "refused"
    assert "divisible by 16" in report.failure


def test_a_crash_is_a_verdict():
    report = dryrun.cell("dryrun_cells:killed")
    assert report.verdict == "crashed"
    assert "SIGSEGV" in report.failure


def test_running_out_of_time_is_a_verdict():
    report = dryrun.cell("dryrun_cells:hanging", timeout=8)
    assert report.verdict == "timed out"


@pytest.mark.parametrize(
    "factory, message",
    [("dryrun_cells:broken", "own fault"), ("dryrun_cells:no_cell", "not int"), ("dryrun_cells:nowhere", "nowhere")],
)
def test_a_factory_that_makes_no_cell_is_wrong_usage(factory, message):
    with pytest.raises(FactoryError, match=message):
        dryrun.cell(factory)


@pytest.mark.parametrize(
    "options, message",
    [
        (["m:f", "--jit-level", "O2"], "GE"),
        (["m:f", "--soc", "Ascend310"], "Ascend910_93"),
        (["m:f", "--ranks", "0"], "ranks=0"),
        (["m:f", "--epochs", "3"], "--epochs 3"),
        (["no_such.py"], "no_such.py"),
        (["nonsense"], "package.module:function"),
    ],
)
def test_wrong_usage_ends_with_2_and_says_why(options, message, capsys):
    assert main(["dryrun", *options]) == 2
    assert message in capsys.readouterr().err


def test_the_command_line_prints_one_object(capfd):
    assert main(["dryrun", "dryrun_cells:nonzero", "--json"]) == 1
    printed = json.loads(capfd.readouterr().out)
    assert printed["graphs"][0]["verdict"] == "value-dependent"
    assert set(printed["graphs"][0]["kernels"]) == set(printed["graphs"][0]["operators"]) == set(dryrun._report.KINDS)


def test_a_script_that_ends_with_an_error_status_is_told_with_its_last_lines():
    report = dryrun.script(Path(__file__).parent / "dryrun_script.py")
    assert report.verdict == "unknown"
    assert "ended with status 2" in report.failure and "--lengths" in report.failure
