"""autocast: what computes in which type, and that the caller's network is left alone."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from amp_cells import Branching, Containers, Gradients, Inner, Masked, Mixture, Sum
from hypothesis import given, settings
from hypothesis import strategies as st
from mindspore import Tensor, nn, ops

from ascend_fixes.amp import ArgumentTypeError, Policy, PolicyError, UnknownTargetError, autocast

X = Tensor(np.linspace(-1, 1, 8).reshape(2, 4).astype(np.float32))


@pytest.fixture(params=[ms.GRAPH_MODE, ms.PYNATIVE_MODE], ids=["graph", "pynative"])
def mode(request):
    ms.set_context(mode=request.param)
    yield
    ms.set_context(mode=ms.GRAPH_MODE)


def types(cell: nn.Cell, policy: Policy) -> str:
    """The types of a cell's outputs inside autocast: ``l`` for the lower one, ``f`` for float32."""
    cast = autocast(cell, policy)
    cast.output = None
    return "".join("l" if output.dtype == policy.compute else "f" for output in cast(X))


@pytest.mark.parametrize(
    "policy, expected",
    [
        (Policy(), "lllfffff"),
        (Policy(fp32=["b"]), "lflfffff"),
        (Policy(fp32=[Inner]), "fflfffff"),
        (Policy(fp32=["Inner"], fp16=[ops.exp]), "ffllffff"),
        (Policy(fp32=[ops.matmul]), "llffffff"),
        (Policy(fp32=["a.dense"]), "fllfffff"),
        (Policy(fp32=["MatMul"], fp16=["b"]), "fllfffff"),
    ],
)
def test_operators_and_cells_compute_as_the_policy_says(mode, policy, expected):
    assert types(Mixture(), policy) == expected
    outputs = autocast(Mixture(), policy)(X)
    assert {output.dtype for output in outputs} == {ms.float32}


@pytest.mark.parametrize(
    "policy, expected",
    [(Policy(), "llll"), (Policy(fp32=["sequence.1", "list.0"]), "ffll"), (Policy(fp32=["again"]), "lllf")],
)
def test_lists_and_cells_under_two_names(mode, policy, expected):
    assert types(Containers(), policy) == expected


def test_the_network_is_not_changed(mode):
    net = Mixture()
    before = [output.asnumpy() for output in net(X)]  # compiling leaves attributes of MindSpore's own
    attributes, children = set(net.__dict__), net.name_cells()
    cast = autocast(net, Policy(fp32=["b"], fp16=["a"]))
    cast(X)
    assert [output.dtype for output in net(X)] == [ms.float32] * 8
    assert all(np.array_equal(old, new.asnumpy()) for old, new in zip(before, net(X)))
    assert net.name_cells() == children and set(net.__dict__) == attributes
    assert cast.wrapped is net
    assert [p.name for p in cast.get_parameters()] == [p.name for p in net.get_parameters()]
    assert {id(p) for p in cast.get_parameters()} == {id(p) for p in net.get_parameters()}


def test_a_policy_of_float32_lowers_nothing(mode):
    for exact, found in zip(Mixture()(X), autocast(Mixture(), Policy("compute=float32"))(X)):
        assert found.dtype == exact.dtype == ms.float32


def test_policies_do_not_nest():
    net = Mixture()
    assert autocast(autocast(net), Policy(fp32=["b"])).wrapped is net


def test_control_flow_and_outputs_that_are_no_floats(mode):
    cast = autocast(Branching(), Policy("output=float16"))
    for x in (X + 2, X - 2):
        output = cast(x)
        assert (output["x"].dtype, output["best"].dtype) == (ms.float16, ms.int64)


def test_gradients_of_float32_parameters_are_float32(mode):
    net = Sum(Mixture())
    exact = Gradients(net)(X)
    for policy in (Policy(), Policy(fp32=["cell.b"]), Policy(fp16=["cell.a"])):
        found = Gradients(autocast(net, policy))(X)
        assert {gradient.dtype for gradient in found} == {ms.float32}
        for one, other in zip(found, exact):
            assert np.allclose(one.asnumpy(), other.asnumpy(), atol=5e-3)


@settings(max_examples=4)
@given(st.lists(st.sampled_from([0.0, 1.0]), min_size=2, max_size=2), st.floats(-100, 100, width=16))
def test_masks_stay_finite_and_equal_float32(row, height):
    keep = Tensor(np.array([[1.0, 1.0], row], np.float32))
    x = Tensor(np.array([[1.0, 0.0], [0.5, height / 100]], np.float32))
    for exact, found in zip(Masked()(x, keep), autocast(Masked())(x, keep)):
        assert np.isfinite(found.asnumpy()).all()
        assert np.allclose(found.asnumpy(), exact.asnumpy(), atol=2e-3)


def test_mistakes_are_named():
    with pytest.raises(UnknownTargetError, match="'Iner'.*did you mean 'Inner'"):
        autocast(Mixture(), Policy(fp32=["Iner"]))
    with pytest.raises(UnknownTargetError, match="'a.dens'.*did you mean 'a.dense'"):
        autocast(Mixture(), Policy(fp32=["a.dens"]))
    with pytest.raises(PolicyError, match="'a' into fp32= .*as a.* fp16= .*as Inner"):
        autocast(Mixture(), Policy(fp32=["a"], fp16=[Inner]))
    with pytest.raises(PolicyError, match="CPU has no bfloat16"):
        autocast(Mixture(), Policy("compute=bfloat16"))
    with pytest.raises(ArgumentTypeError, match="no mindspore.nn.Cell"):
        autocast(lambda x: x)
    with pytest.raises(ArgumentTypeError, match="is no Policy"):
        autocast(Mixture(), "compute=float16")
