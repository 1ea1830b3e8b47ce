"""Guards: what is asked for, by whom, and that nothing of it outlives the compilation."""

from __future__ import annotations

import contextlib
import inspect

import fusion_cells as cells
import numpy as np
import pytest
from mindspore import Tensor, get_context, nn, ops

from ascend_fixes import _mindspore, compiling, cures, fusion
from ascend_fixes.errors import UnknownNameError
from ascend_fixes.fusion._compiler import why_empty
from ascend_fixes.fusion._guarding import ENVIRONMENT, MARK, exclusions
from ascend_fixes.fusion._reach import marks, reachable


@pytest.fixture(autouse=True)
def unchanged(monkeypatch):
    """Flags, environment and the ledger are as they were."""
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    tokens, flags = cures.ledger.tokens, _mindspore.graph_kernel_flags()
    yield
    _mindspore.set_graph_kernel_flags(flags)
    cures.ledger.release(*(token for token in cures.ledger.tokens if token not in tokens))


def test_a_bare_name_is_kept_from_fusing_and_from_being_expanded():
    with fusion.guard("Softmax") as report:
        assert report.text == "--disable_cluster_ops=Softmax --disable_expand_ops=Softmax"
        assert "guard" in str(report)
    assert fusion.flags().text == ""


@pytest.mark.parametrize(
    "name, text",
    [
        ("cluster:Transpose", "--disable_cluster_ops=Transpose"),
        ("expand:Softmax", "--disable_expand_ops=Softmax"),
        ("packet:Reshape", "--disable_packet_ops=Reshape"),
        ("pass:gather_pre_rms_norm_fusion", "--disable_pass=gather_pre_rms_norm_fusion"),
        ("pattern:anything", "--disable_fusion_pattern=anything"),
    ],
)
def test_prefixes(name, text):
    with fusion.guard(name):
        assert fusion.flags().text == text


@pytest.mark.parametrize(
    "name, hint", [("Transpos", "Transpose"), ("expand:SoftMax", "Softmax"), ("no:Add", "cluster"), ("", "no operator")]
)
def test_unknown_names_are_errors_that_help(name, hint):
    with pytest.raises(UnknownNameError, match=hint), fusion.guard(name):
        pass
    with pytest.raises(UnknownNameError, match=hint):
        fusion.safe(nn.Dense(2, 2), keep_out=[name])


@pytest.mark.parametrize(
    "missing, operator, told",
    [
        (("decorator",), "Softmax", r"Response is empty: .* lacks decorator \(F4\); pip install decorator"),
        ((), "Softmax", r"Response is empty: .* a fused cast breaks it \(F6\)"),
        ((), "Cast", r"Response is empty: .* no cast is fused: another operator breaks it; fusion.bisect"),
    ],
)
def test_an_empty_response_is_a_missing_package_or_a_cast(monkeypatch, missing, operator, told):
    @contextlib.contextmanager
    def failing(compilation):
        raise RuntimeError("a first line\nResponse is empty.")
        yield

    net = nn.ReLU()
    compiling.on_cell(net, compiling.Hook("place", failing))
    monkeypatch.setattr("ascend_fixes.fusion._compiler.missing_packages", lambda: missing)
    monkeypatch.setattr("ascend_fixes.fusion._guarding.is_fusing", lambda options: True)
    with fusion.guard(operator), pytest.raises(fusion.FusionCompileError, match=told):
        net(Tensor(np.ones(2, np.float32)))
    assert why_empty(RuntimeError("something else")) == ""


def test_guards_nest_and_unite():
    with fusion.guard("cluster:Add"):
        with fusion.guard("cluster:Mul", "cluster:Add"):
            assert fusion.flags().text == "--disable_cluster_ops=Add,Mul"
        assert fusion.flags().text == "--disable_cluster_ops=Add"


def test_the_users_flags_are_merged_from_both_places(monkeypatch):
    monkeypatch.setenv(ENVIRONMENT, "--disable_cluster_ops=Pow")
    _mindspore.set_graph_kernel_flags("--disable_cluster_ops=Select --dump_as_text")
    assert fusion.flags().text == "--disable_cluster_ops=Pow", "without a guard, MindSpore reads the variable alone"
    with fusion.guard("cluster:Transpose") as report:
        (cluster,) = [flag for flag in report.flags if flag.key == "disable_cluster_ops"]
        assert dict(zip(cluster.values, cluster.origins)) == {
            "Pow": ENVIRONMENT,
            "Select": "set_context",
            "Transpose": "guard",
        }
        assert "--dump_as_text" in report.text


def test_a_contradiction_is_an_error_and_changes_nothing():
    _mindspore.set_graph_kernel_flags("--enable_cluster_ops=Transpose")
    before = cures.ledger.tokens
    with pytest.raises(fusion.FlagConflictError, match="guard.*set_context"), fusion.guard("Transpose"):
        pass
    assert cures.ledger.tokens == before and _mindspore.graph_kernel_flags() == "--enable_cluster_ops=Transpose"


def test_says_whether_fusion_is_on_and_why():
    assert not get_context("enable_graph_kernel")
    assert not fusion.flags().enabled and "enable_graph_kernel" in fusion.flags().reason
    _mindspore.set_graph_kernel_flags("--opt_level=2")
    assert fusion.flags().enabled and fusion.flags().reason == "--opt_level=2"


def test_safe_returns_the_same_object_and_keeps_its_source():
    cell = cells.Plain()
    assert fusion.safe(cell, keep_out=["Exp"]) is cell
    assert inspect.getsource(type(cell)).startswith("class Plain")
    assert fusion.flags(cell).text == "--disable_cluster_ops=Exp --disable_expand_ops=Exp"


def test_requirements_come_from_the_whole_tree():
    net = cells.Outer()
    assert "Softmax" not in fusion.flags(net).text
    fusion.safe(net.inner.leaf, keep_out=["Softmax"])
    assert "--disable_expand_ops=Softmax" in fusion.flags(net).text
    assert "safe Plain" in str(fusion.flags(net))


def test_a_function_requires_what_it_names():
    net = fusion.safe(cells.Plain(), keep_out=["cluster:Log"])

    def forward(x):
        return net(x)

    def loss(x):
        return forward(x).sum()

    assert fusion.flags(loss).text == "--disable_cluster_ops=Log"
    assert net in list(reachable([ops.grad(loss)])), "the closure of a transformation is followed"


def test_subclasses_and_later_marks_add_up():
    class Marked(cells.Plain):
        pass

    fusion.safe(Marked, keep_out=["cluster:Add"])

    class Child(Marked):
        pass

    child = fusion.safe(Child(), keep_out=["cluster:Mul"])
    assert fusion.flags(child).text == "--disable_cluster_ops=Add,Mul"
    assert [wanted for _, wanted in marks([Marked()], MARK)] == [("cluster:Add",)]


def test_decorator_with_and_without_arguments():
    assert "Exp" in fusion.flags(cells.Decorated()).text
    assert "--disable_cluster_ops=Transpose" in fusion.flags(cells.DecoratedByDefault()).text, "known bad on CPU"


@pytest.mark.parametrize("wrong", [3, "Softmax", len, [nn.Dense(1, 1)]])
def test_safe_rejects_what_is_not_compiled(wrong):
    with pytest.raises(fusion.GuardTypeError, match="cell_or_class"):
        fusion.safe(wrong)


def test_the_table_of_quirks_names_real_operators_and_sources():
    table = fusion.quirks(everywhere=True)
    for quirk in table:
        assert exclusions(quirk.keep_out, "test")
        assert quirk.source.startswith(("https://", "reported: ")) or quirk.verified
    assert {name for quirk in fusion.quirks() for name in quirk.keep_out} >= {"cluster:Transpose"}


@pytest.mark.parametrize(
    "reported",
    [
        ("cluster:Pow", "cluster:Select"),
        ("expand:Softmax", "expand:Dropout"),
        ("cluster:ReduceMax", "cluster:Reshape"),
        ("packet:Reshape",),
        ("pass:gather_pre_rms_norm_fusion",),
        ("cluster:Sqrt",),
        ("cluster:Select",),
        ("expand:LayerNorm",),
        ("expand:GeLU", "expand:Dropout"),
        ("cluster:Concat",),
    ],
)
def test_the_table_holds_what_people_report_and_heeds_none_of_it_unasked(reported):
    rows = [quirk for quirk in fusion.quirks(everywhere=True) if quirk.keep_out == reported]
    assert rows and all(row.symptom and row.removal and row.backends == ("Ascend",) for row in rows)
    assert not any(row.verified for row in rows)


def test_the_table_holds_every_operator_that_a_defect_here_keeps_out():
    from ascend_fixes.defects import catalogue

    rows = {quirk.source: quirk for quirk in fusion.quirks(learned=False) if quirk.verified}
    assert set(rows) == {"F1", "F2", "F3", "F6", "F7"} <= set(catalogue())
    assert all(row.symptom and row.removal and row.backends == ("CPU",) for row in rows.values())


def test_a_platform_without_a_compiler_is_named(monkeypatch):
    from ascend_fixes.fusion._compiler import require_compiler

    monkeypatch.setattr(_mindspore, "has_fusion_compiler", lambda: False)
    assert not fusion.flags().enabled and "no compiler of fused kernels for CPU" in fusion.flags().reason
    with pytest.raises(fusion.FusionUnsupportedError, match="for CPU; run without it"):
        require_compiler()
    with pytest.raises(fusion.FusionUnsupportedError, match="brings no compiler"):
        fusion.bisect(cells.Plain())


def test_missing_packages_are_named(monkeypatch):
    from ascend_fixes.fusion import _compiler as compiler

    monkeypatch.setattr(compiler, "missing_packages", lambda: ("decorator",))
    with pytest.raises(fusion.MissingCompilerError, match="pip install decorator$"):
        fusion.bisect(cells.Plain())
