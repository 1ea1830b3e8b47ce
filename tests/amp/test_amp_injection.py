"""Overflows injected in every way: nothing changes on a bad step, training recovers, the scale stays in bounds."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from amp_cells import Injected, SparseTable
from mindspore import Tensor, nn

from ascend_fixes.amp import LossScaler, StepResult, StuckScaleError, TrainStep, saturating
from ascend_fixes.shapes import Buckets, bucketed

IDS = Tensor(np.array([[1, 2], [3, 3]]), ms.int32)


def options(kind: str, net: nn.Cell) -> dict:
    table, rest = net.trainable_params()[:1], net.trainable_params()[1:]
    return {
        "plain": {},
        "clipped": {"clip_norm": 0.5},
        "accumulating": {"accumulate": 2},
        "two optimizers": {"optimizer": [nn.Momentum(table, 0.1, 0.9), nn.Adam(rest, 0.1)]},
        "saturating": {},
    }[kind]


@pytest.fixture(scope="module", params=["plain", "clipped", "accumulating", "two optimizers", "saturating"])
def case(request):
    """A compiled step of one kind, and the state it had at first."""
    ms.set_seed(0)
    net = Injected()
    chosen = options(request.param, net)
    optimizer = chosen.pop("optimizer", None) or nn.Adam(net.trainable_params(), 0.1)
    scaler = LossScaler(2.0**10, minimum=2.0**-6, maximum=2.0**12, growth_interval=4, hysteresis=2)
    cell = saturating(net) if request.param == "saturating" else net
    step = TrainStep(cell, optimizer, scaler, **chosen).set_train()
    before = {p.name: p.asnumpy().copy() for p in step.get_parameters()}
    step(IDS, Tensor(np.ones(3, np.float32)))
    return step, before, request.param


def state_of(step: TrainStep) -> dict:
    return {
        p.name: p.asnumpy().copy() for p in step.get_parameters() if not p.name.startswith(("loss_scaler", "step_"))
    }


@pytest.mark.parametrize("value", [np.inf, np.nan])
@pytest.mark.parametrize("where", [0, 2, "random"])
@pytest.mark.parametrize("start, length", [(0, 1), ("random", 1), (1, 5), (2, 20)])
def test_bad_steps_change_nothing_and_training_recovers(case, value, where, start, length):
    step, first, kind = case
    if kind == "saturating" and value == np.inf:
        value = 1e9  # large and finite: an overflow on a saturating device only
    for parameter in step.get_parameters():
        parameter.set_data(Tensor(first[parameter.name]))
    random = np.random.default_rng([length, 7 if where == "random" else where])
    where = int(random.integers(3)) if where == "random" else where
    start = int(random.integers(1, 6)) if start == "random" else start
    low, high, calls = step.scaler.minimum, step.scaler.maximum, step.accumulate
    for number in range(start + length + 3):
        bad = start <= number < start + length
        before = state_of(step)
        at = int(random.integers(calls))  # the call of the window that overflows
        for call in range(calls):
            factors = np.ones(3, np.float32)
            if bad and call == at:
                factors[where] = value
            result = step(IDS, Tensor(factors))
        after = state_of(step)
        assert bool(result.updated) != bad
        assert all(np.array_equal(before[name], after[name]) for name in before) == bad
        assert all(np.isfinite(array).all() for array in after.values())
        assert low <= float(result.new_scale) <= high
    assert np.isfinite(float(result.loss))


def test_sparse_gradients_are_refused_by_name():
    """MindSpore's compiler crashes on a RowTensor inside a branch."""
    net = SparseTable()
    with pytest.raises(ValueError, match="table has sparse=True"):
        TrainStep(net, nn.LazyAdam(net.trainable_params(), 0.1))


def test_inside_bucketed_a_step_is_a_step():
    ms.set_seed(0)
    net = Injected()
    step = TrainStep(net, nn.SGD(net.trainable_params(), 0.01), LossScaler(4.0, minimum=2.0**-2)).set_train()
    cell = bucketed(step, {0: 1}, Buckets([2, 4]))
    for length in (1, 2, 3):
        result = cell(np.ones((2, length), np.int32), np.ones(3, np.float32))
        assert isinstance(result, StepResult) and result.event == "updated"
    with pytest.raises(StuckScaleError, match="gradient of first.bias"):
        for _ in range(120):
            cell(np.ones((2, 2), np.int32), np.array([1, np.inf, 1], np.float32))
