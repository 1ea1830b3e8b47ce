"""Saturation: the emulation does what a 910A does, and a training step notices what a check for infinities passes."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from amp_cells import HalfSum, Saturable
from hypothesis import given, settings
from hypothesis import strategies as st
from mindspore import Tensor, nn, ops

from ascend_fixes import _mindspore
from ascend_fixes._mindspore import context
from ascend_fixes.amp import ArgumentTypeError, LossScaler, Policy, TrainStep, autocast, saturating
from ascend_fixes.amp._saturation import Clipped, limit_of

X = Tensor(np.array([[12.0, 300.0], [1.0, -2.0]], np.float16))
ROWS = Tensor(np.ones((2, 4), np.float32))


@pytest.fixture(params=[ms.GRAPH_MODE, ms.PYNATIVE_MODE], ids=["graph", "pynative"])
def mode(request):
    ms.set_context(mode=request.param)
    yield
    ms.set_context(mode=ms.GRAPH_MODE)


def test_every_float16_result_is_held_in_range(mode):
    plain = [output.asnumpy() for output in Saturable()(X)]
    found = [output.asnumpy() for output in saturating(Saturable())(X)]
    assert [array.dtype for array in found] == [array.dtype for array in plain]
    assert not all(np.isfinite(array).all() for array in plain[:5])
    assert all(np.isfinite(array).all() for array in found[:5])
    high, square, difference, product, doubled, full = found
    assert high[0].tolist() == [65504.0, 65504.0] and square[0, 1] == -65504.0
    assert np.isnan(plain[2][0]).all() and (difference == 0).all()  # inf - inf; on the device 65504 - 65504
    assert product[0, 0] == 65504.0 and doubled[0, 1] == 65504.0
    assert np.array_equal(full, plain[5]) and full[0, 1] > 65504.0  # float32 is left alone


class Clip(nn.Cell):
    def __init__(self):
        super().__init__()
        self.clipped = Clipped()

    def construct(self, x):
        return self.clipped(x)


CLIP = Clip()


@settings(max_examples=60)
@given(st.lists(st.floats(width=16) | st.sampled_from([np.inf, -np.inf, np.nan]), min_size=6, max_size=6))
def test_clipping_is_exact(values):
    exact = np.array(values, np.float16)
    wanted = np.clip(np.nan_to_num(exact.astype(np.float32), nan=0.0), -65504, 65504).astype(np.float16)
    assert np.array_equal(CLIP(Tensor(exact)).asnumpy(), wanted)


def test_the_gradient_is_held_in_range_too(mode):
    net = HalfSum(1e6)
    weights = ms.ParameterTuple(net.trainable_params())
    plain = ops.GradOperation(get_by_list=True)(autocast(net), weights)(ROWS[:1])[0]
    found = ops.GradOperation(get_by_list=True)(autocast(saturating(net)), weights)(ROWS[:1])[0]
    assert np.isinf(plain.asnumpy()).all() and np.isfinite(found.asnumpy()).all()
    assert (np.abs(found.asnumpy()) >= 65504).all()


def test_the_cell_is_left_as_it_is():
    net = Saturable()
    methods, children = type(net).construct, net.name_cells()
    wrapped = saturating(net)
    assert wrapped.wrapped is net and saturating(wrapped) is wrapped
    assert type(net) is Saturable and type(net).construct is methods and net.name_cells() == children
    dense = HalfSum()
    assert [p.name for p in saturating(dense).get_parameters()] == [p.name for p in dense.get_parameters()]
    with pytest.raises(ArgumentTypeError, match="no mindspore.nn.Cell"):
        saturating(lambda x: x)


def test_a_step_notices_what_a_check_for_infinities_passes():
    """The first step overflows: unnoticed where only infinities count, skipped by TrainStep until the scale fits."""
    net = HalfSum()
    step = TrainStep(
        saturating(net), nn.SGD(net.trainable_params(), 1e-3), LossScaler(2.0**28, maximum=2.0**28), policy=Policy()
    )
    before = net.dense.weight.asnumpy().copy()
    result = step(ROWS)
    assert not bool(result.finite) and np.isfinite(float(result.loss))
    assert step.overflowing() == "gradient of dense.weight"
    assert np.array_equal(net.dense.weight.asnumpy(), before)
    for _ in range(10):
        result = step(ROWS)
    assert bool(result.updated) and not np.array_equal(net.dense.weight.asnumpy(), before)
    assert 2.0**-14 <= float(result.scale) < 2.0**28


def test_with_accumulation_one_saturated_call_drops_the_window():
    net = HalfSum()
    step = TrainStep(
        saturating(net),
        nn.SGD(net.trainable_params(), 1e-3),
        LossScaler(2.0**28, maximum=2.0**28),
        Policy(),
        accumulate=2,
    )
    before = net.dense.weight.asnumpy().copy()
    for _ in range(2):
        result = step(ROWS)
    assert result.event.startswith("skipped, scale backed off")
    assert np.array_equal(net.dense.weight.asnumpy(), before)


def test_the_limit_is_that_of_the_computing_type():
    assert limit_of(None) == limit_of(Policy()) == np.finfo(np.float16).max
    assert limit_of(Policy("compute=float32")) == np.finfo(np.float32).max
    assert limit_of(Policy("compute=bfloat16")) == 2.0**127 * (2 - 2.0**-7)


@pytest.mark.parametrize(
    "device, variable, saturates",
    [("910a", "", True), ("910b", "", False), ("910b", "SATURATION_MODE", True), ("910b", "INFNAN_MODE", False)],
)
def test_the_mode_comes_from_device_and_environment(monkeypatch, device, variable, saturates):
    """The device is played by the seam: no Ascend is at hand."""
    monkeypatch.setattr(context, "backend", lambda: "Ascend")
    monkeypatch.setattr(context, "_is_910a", lambda: device == "910a")
    monkeypatch.setattr(context, "_is_910b", lambda: device == "910b")
    monkeypatch.setenv("MS_ASCEND_CHECK_OVERFLOW_MODE", variable)
    assert _mindspore.saturates() == saturates
    net = HalfSum()
    assert TrainStep(net, nn.SGD(net.trainable_params(), 0.1)).saturating == saturates
