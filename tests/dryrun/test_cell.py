"""Dry runs of tiny cells, end to end."""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path

import pytest

from ascend_fixes import dryrun
from ascend_fixes.__main__ import main
from ascend_fixes.factories import FactoryError

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


def test_nothing_is_fused_at_o0(fused):
    report = dryrun.cell("dryrun_cells:block", jit_level="O0")
    assert report.graphs[0].kernels["fused"] == 0
    assert "fused:" in report.compare(fused)


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
