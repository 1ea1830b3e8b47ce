"""Reading logs and saved graphs, on small ones of our own making."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ascend_fixes.dryrun._ir import Value, read_graphs
from ascend_fixes.dryrun._log import read_log
from ascend_fixes.dryrun._reading import graph_of
from ascend_fixes.dryrun._refusals import explain
from ascend_fixes.dryrun._report import DryRunGraph, DryRunReport

WORD = "dryrun-0123"

GRAPH = """# IR entry: @kernel_graph7
# Total params: 2
%para1_x: <Tensor[Float32], (4, 8)> : [4, 8]  :  <Float32xDefaultFormat[const vector]{4, 8}>  :  IsWeight: false

subgraph @kernel_graph7() {
  %0(a) = PrimFunc_Cast(%para1_x, I64(42)) primitive_attrs: {stream_id: U32(0)}
      : (<Tensor[Float32], (4, 8)>, <Int64, NoShape>) -> (<Tensor[Float16], (4, 8)>)
      : (<Float32xDefaultFormat[const vector]{4, 8}>) -> (<Float16xDefaultFormat[const vector]{4, 8}>)
      # Fullname with scope: (Default/net-Net/Cast-op0)
      # In file /home/me/model.py:12, 8~20/        return x/
      # In file /usr/lib/mindspore/ops/basic.py:99, 8~20/    cast(x)/
  %1(b) = GraphKernel_Add_fusion(%0, Tensor(shape=[2], dtype=Float16, value=
[[ 1.0 (2]
 [ 3.0  4]])) primitive_attrs: {func_graph: inner__5, graph_kernel: "Add_fusion"}
      : (<Tensor[Float16], (4, 8)>, <Tensor[Float16], (2), value=...>) -> (<Tensor[Float16], (4, 8)>)
      : (<Float16xNZ[const vector]{4, 8}>, <Float16xNZ[const vector]{2}>) -> (<Float16xDefaultFormat[const vector]{4, 8}>)
      # Fullname with scope: (Default/GraphKernel_Add_fusion-op0)
  %2(c) = Sort3(%1) primitive_attrs: {primitive_target: "CPU"}
      : (<Tensor[Float16], (4, 8)>) -> (<Tensor[Float16], (4, -1)>)
      : (<Float16xDefaultFormat[const vector]{4, 8}>) -> (<Float16xDefaultFormat[const vector]{4, -1}>)
      # Fullname with scope: (Default/net-Net/Sort3-op0)
  %3(d) = MakeTuple(%2)
      : (<Tensor[Float16], (4, -1)>) -> (<Tuple[Tensor[Float16]], TupleShape((4, -1))>)
      # Fullname with scope: (Default/MakeTuple-op0)
  Return(%3)
      : (<Tuple[Tensor[Float16]], TupleShape((4, -1))>)
}
"""
INNER = """subgraph @inner__5(%para3_p, %para4_q) {
  %0(e) = PrimFunc_Add(%para3_p, %para4_q) cnode_attrs: {}
      : (<Tensor[Float16], (4, 8)>, <Tensor[Float16], (2)>) -> (<Tensor[Float16], (4, 8)>)
  %1(f) = PrimFunc_Cast(%0, I64(43))
      : (<Tensor[Float16], (4, 8)>, <Int64, NoShape>) -> (<Tensor[Float32], (4, 8)>)
  Return(%1)
}
"""


def announced(event, **facts):
    return f"{WORD} {json.dumps({'event': event, **facts})}"


def built(name, kind):
    return (
        f"[INFO] DEVICE(1,2,python):now [mindspore/x.cc:1] GenerateKernelMod] kernel opname:{name}, kernel type:{kind}"
    )


def log(*lines, end=("compiled", {"seconds": 1.5}), files=()):
    event, facts = end
    return "\n".join(
        [
            announced("start", mindspore="2.10.0"),
            built("Early", "acl_kernel"),
            announced("compile", graph=0, name="Net", because="the first graph of it"),
            *lines,
            announced(event, graph=0, files=list(files), **facts),
            "printed by the program",
            announced("end"),
        ]
    )


@pytest.fixture
def saved(tmp_path):
    (tmp_path / "graph_build_0_01.ir").write_text(GRAPH, encoding="utf-8")
    (tmp_path / "deal_with_side_effect_00.ir").write_text(INNER, encoding="utf-8")
    return tmp_path


FILES = ("deal_with_side_effect_00.ir", "graph_build_0_01.ir")
BUILT = (built("Cast", "opapi_kernel"), built("GraphKernel_Add_fusion", "akg_kernel"))


def graph(text, folder, unfinished="crashed", because="it was killed"):
    (compilation,) = read_log(text, WORD).compilations
    return graph_of(compilation, folder, unfinished, because)


def test_a_saved_graph_gives_nodes_with_place_types_and_members(saved):
    found = read_graphs([saved / name for name in FILES])
    cast, fused, sort, *_ = found.graphs["kernel_graph7"]
    assert (cast.operator, cast.cell, cast.source) == ("Cast", "Default/net-Net", "/home/me/model.py:12")
    assert cast.takes[0] == Value("Float32", (4, 8)) and cast.takes[0].bytes == 128
    assert fused.inputs[0].node == 0, "the constant over several lines cut the node short"
    assert found.members[fused.inner] == ("Add", "Cast")
    assert sort.gives[0].shape == (4, -1) and sort.gives[0].bytes is None
    assert [node.kernel for node in found.graphs["kernel_graph7"]] == [True, True, True, False, False]


def test_kernels_are_counted_by_kind_and_unknown_lengths_stay_unknown(saved):
    found = graph(log(*BUILT, files=FILES), saved)
    assert found.verdict == "compiled" and found.unknown == []
    assert found.kernels == {"aclnn": 1, "aclop": 0, "internal": 0, "host": 1, "hccl": 0, "fused": 1}
    assert found.fused == [{"kernel": "GraphKernel_Add_fusion", "members": ["Add", "Cast"], "cell": "Default"}]
    assert found.casts == 2
    assert found.fallbacks[0]["operator"] == "Sort3" and found.host_bytes is None


def test_log_and_graph_that_disagree_are_told(saved):
    found = graph(log(BUILT[0], BUILT[0], files=FILES), saved)
    assert found.unknown == [
        "Cast: 2 kernels in the log, 1 in the saved graph",
        "GraphKernel_Add_fusion: 0 kernels in the log, 1 in the saved graph",
    ]


def test_a_kernel_of_an_unknown_type_is_told_and_counted_nowhere(tmp_path):
    found = graph(log(built("New", "quantum_kernel")), tmp_path)
    assert sum(found.kernels.values()) == 0
    assert "quantum_kernel" in found.unknown[0]


def test_a_graph_of_which_nothing_was_read_is_unknown_never_compiled(tmp_path):
    found = graph(log(), tmp_path)
    assert found.verdict == "unknown"
    assert found.unknown


def test_fused_kernels_whose_members_are_in_no_file_leave_the_casts_unknown(saved):
    found = graph(log(*BUILT, files=FILES[1:]), saved)
    assert found.fused[0]["members"] is None and found.casts is None


def test_a_view_is_no_kernel(tmp_path):
    found = graph(log(built("Reshape", "rt_kernel"), built("MatMul", "opapi_kernel")), tmp_path)
    assert found.views == {"Reshape": 1} and sum(found.kernels.values()) == 1


def test_a_log_that_ends_in_a_compilation_has_the_verdict_of_the_process(tmp_path):
    text = log(*BUILT).split(announced("compiled", graph=0, files=[], seconds=1.5))[0]
    found = graph(text, tmp_path, "timed out", "it took 60 s")
    assert (found.verdict, found.reason) == ("timed out", "it took 60 s")


def test_kernels_of_a_graph_compiled_inside_another_are_its_own(tmp_path):
    inner = [
        announced("compile", graph=1, name="Inner"),
        built("Exp", "opapi_kernel"),
        announced("compiled", graph=1, files=[], seconds=0.1),
    ]
    outer, nested = read_log(log(built("Mul", "opapi_kernel"), *inner, built("Add", "opapi_kernel")), WORD).compilations
    assert [name for name, _ in outer.kernels] == ["Mul", "Add"]
    assert [name for name, _ in nested.kernels] == ["Exp"]


def test_the_program_cannot_announce_by_itself():
    transcript = read_log("dryrun-9999 {}\nhello\n" + log(), WORD)
    assert transcript.printed[:2] == ["dryrun-9999 {}", "hello"]


@given(st.text(max_size=200))
def test_any_text_is_read_without_an_error(text):
    lines = "\n".join(line for line in text.splitlines() if not line.startswith(WORD))
    transcript = read_log(log(lines), WORD)
    assert len(transcript.compilations) == 1


@given(st.text("%()=<>[]{}:,# \nPrimTensorFloat32subgraph@0123456789", max_size=300))
def test_any_saved_file_is_read_without_an_error(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("ir") / "graph_build_0.ir"
    path.write_text(GRAPH[:400] + text, encoding="utf-8")
    read_graphs([path])


@pytest.mark.parametrize(
    "error, verdict, parts",
    [
        (
            "RuntimeError: The dry run mode can not support dynamic shape graph which contains value depend or computing "
            "depend kernel:Default/NonZero-op0",
            "value-dependent",
            ["Default/NonZero-op0"],
        ),
        (
            "RuntimeError: selection failed. node is Default/net-Net/MapTensorGet-op0\n\nIn file /me/model.py:3, 4~9\n"
            "In file /lib/mindspore/nn.py:8, 1~2",
            "refused",
            ["MapTensorGet-op0", "source: /me/model.py:3"],
        ),
        ("TypeError: wrong type", "refused", ["wrong type"]),
    ],
)
def test_an_error_gives_verdict_and_place(error, verdict, parts):
    found, reason = explain(error)
    assert found == verdict
    assert all(part in reason for part in parts)


def report(*graphs, **facts):
    return DryRunReport("m:f", "Ascend910B", "O1", 1, "stand-ins", "2.10.0", graphs, **facts)


def one(verdict="compiled", **operators):
    kinds = {kind: operators.get(kind, {}) for kind in DryRunGraph("x", "").operators}
    return DryRunGraph(
        "Net", verdict, operators=kinds, kernels={kind: sum(n.values()) for kind, n in kinds.items()}, casts=1
    )


def test_the_verdict_is_the_first_that_is_not_compiled():
    assert report(one(), one()).verdict == "compiled"
    assert report(one(), one("refused"), one("crashed")).verdict == "refused"
    assert report(one(), ending="crashed").verdict == "crashed"
    assert report().verdict == "unknown", "nothing was compiled"


def test_a_comparison_names_what_changed_and_nothing_else():
    before = report(one(aclnn={"Add": 2, "Mul": 1}, aclop={"LayerNorm": 1}))
    after = report(one(aclnn={"Add": 1, "Mul": 1}, aclop={"LayerNorm": 1}))
    text = before.compare(after)
    assert "aclnn: 3 -> 2 (Add 2 -> 1)" in text
    assert "LayerNorm" not in text and "Mul" not in text
    assert "no difference" in before.compare(before)


def test_a_graph_with_the_kernels_of_an_earlier_one_takes_one_line():
    first, again, other = one(aclnn={"Add": 1}), one(aclnn={"Add": 1}), one(aclnn={"Add": 2})
    lines = report(first, dataclasses.replace(again, compiled_because="x changed"), other).show().splitlines()
    assert "graph 1: Net: compiled; as graph 0, but x changed" in lines
    assert sum("aclnn: Add" in line for line in lines) == 2


def test_json_has_the_statement_and_every_graph():
    printed = json.loads(report(one(host={"Sort": 1}), one()).to_json())
    assert printed["statement"] == "compiled by MindSpore's Ascend back end, nothing was executed"
    assert [graph["kernels"]["host"] for graph in printed["graphs"]] == [1, 0]
