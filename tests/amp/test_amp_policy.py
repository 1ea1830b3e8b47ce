"""Policy: its notation, its lists and what it refuses."""

from __future__ import annotations

import mindspore as ms
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mindspore import nn, ops

from ascend_fixes import _mindspore
from ascend_fixes.amp import Policy, PolicyError, UnknownTargetError
from ascend_fixes.amp import _operators as operators


def test_default_string_form_round_trips():
    assert str(Policy()) == "params=float32,compute=float16,output=float32"
    assert Policy(str(Policy())) == Policy() == Policy("") and hash(Policy()) == hash(Policy(""))
    assert Policy("output=float16, compute = bfloat16").compute == ms.bfloat16


@given(
    st.sampled_from(["float16", "bfloat16", "float32"]),
    st.sampled_from(["float32", "float16", "bfloat16"]),
    st.randoms(),
)
def test_any_order_of_keys_is_the_same_policy(compute, output, random):
    pairs = [f"compute={compute}", f"output={output}", "params=float32"]
    random.shuffle(pairs)
    policy = Policy(",".join(pairs))
    assert policy == Policy(f"params=float32,compute={compute},output={output}")
    assert policy.mixed == (compute != "float32")


def test_no_operator_is_in_two_groups_and_all_exist():
    names = [name for group in (*operators.LOW, *operators.FULL) for name in group.names]
    assert len(names) == len(set(names))
    later = {"Vdot", "CosineEmbeddingLoss", "MaskedFillScalar"}  # not in every supported version
    assert set(names) - _mindspore.operator_names() <= later


@pytest.mark.parametrize(
    "entry, operator",
    [
        (ops.softmax, "Softmax"),
        (ops.matmul, "MatMulExt"),
        (ops.MatMul, "MatMul"),
        (ops.MatMul(), "MatMul"),
        ("Tanh", "Tanh"),
    ],
)
def test_entries_move_operators_between_the_lists(entry, operator):
    assert operator in Policy(fp32=[entry]).full and operator not in Policy(fp32=[entry]).low
    assert operator in Policy(fp16=[entry]).low and operator not in Policy(fp16=[entry]).full


def test_cells_are_no_operators():
    policy = Policy(fp32=[nn.Dense, "encoder.3"], fp16=["Head"])
    assert (policy.low, policy.full) == (Policy().low, Policy().full)
    assert [str(selector) for selector in policy.full_cells] == ["Dense", "encoder.3"]


def test_explains_every_operator_in_a_line():
    policy = Policy(fp16=["Add"], fp32=["Tanh"])
    assert policy.explain("Exp") == f"Exp: float32 ({operators.reason('Exp')})"
    assert policy.explain("Add").startswith("Add: float16 (named")
    assert policy.explain("Tanh").startswith("Tanh: float32 (named")
    assert policy.explain("Reshape") == "Reshape: the type of its inputs"
    with pytest.raises(UnknownTargetError, match="did you mean 'Softmax'"):
        policy.explain("Sofmax")


@pytest.mark.parametrize(
    "arguments, error, text",
    [
        (dict(spec="compute=float15"), PolicyError, "did you mean 'float16'"),
        (dict(spec="compue=float16"), PolicyError, "did you mean 'compute'"),
        (dict(spec="compute=float16,compute=float32"), PolicyError, "stands twice"),
        (dict(spec="params=float16"), PolicyError, "params is one of float32"),
        (dict(spec=ms.float16), PolicyError, "is no policy"),
        (dict(fp32="Exp"), PolicyError, "write it as a list"),
        (dict(fp32=[ops.softmax], fp16=["Softmax"]), PolicyError, "both name Softmax"),
        (dict(fp32=["encoder"], fp16=["encoder"]), PolicyError, "both name encoder"),
        (dict(fp32=[3]), UnknownTargetError, "3 is no operator"),
        (dict(fp32=[int]), UnknownTargetError, "neither a primitive nor a cell"),
        (dict(fp16=[lambda x: x]), UnknownTargetError, "calls no operator"),
    ],
)
def test_contradictions_and_unknown_names_are_refused(arguments, error, text):
    with pytest.raises(error, match=text):
        Policy(**arguments)
