"""TrainStep: an overflowed step changes nothing but the scale, whatever the optimizer; the rest is ordinary training."""

from __future__ import annotations

import math

import mindspore as ms
import numpy as np
import pytest
from amp_cells import Injected
from hypothesis import given, settings
from hypothesis import strategies as st
from mindspore import Tensor, nn
from test_amp_scaler import Reference, state_of

from ascend_fixes.amp import LossScaler, Policy, StuckScaleError, TrainStep

IDS = Tensor(np.array([[1, 2], [3, 3]]), ms.int32)
GOOD = Tensor(np.ones(3, np.float32))
WEIGHTS = ("table.embedding_table", "first.weight", "first.bias", "last.weight", "last.bias")


class Schedule(nn.learning_rate_schedule.LearningRateSchedule):
    def construct(self, step):
        return 0.1 / (step.astype(ms.float32) + 1.0)


OPTIMIZERS = {
    "adam": lambda p, lr: nn.Adam(p, lr),
    "sgd": lambda p, lr: nn.SGD(p, lr, momentum=0.9),
    "momentum": lambda p, lr: nn.Momentum(p, lr, 0.9),
    "adamw": lambda p, lr: nn.AdamWeightDecay(p, lr, weight_decay=0.01),
    "lazyadam": lambda p, lr: nn.LazyAdam(p, lr),
    "adagrad": lambda p, lr: nn.Adagrad(p, learning_rate=lr),
    "rmsprop": lambda p, lr: nn.RMSProp(p, lr, centered=True),
    "adamax": lambda p, lr: nn.AdaMax(p, lr),
    "adadelta": lambda p, lr: nn.Adadelta(p, lr),
    "rprop": lambda p, lr: nn.Rprop(p, lr),
    "asgd": lambda p, lr: nn.ASGD(p, lr),
    "proximal": lambda p, lr: nn.ProximalAdagrad(p, learning_rate=lr),
    "ftrl": lambda p, lr: nn.FTRL(p, learning_rate=0.1),  # takes no schedule
}


def build(optimizer="adam", lr=0.1, scaler=None, seed=0, **options) -> TrainStep:
    ms.set_seed(seed)
    net = Injected()
    step = TrainStep(net, OPTIMIZERS[optimizer](net.trainable_params(), lr), scaler or LossScaler(1024.0), **options)
    step.set_train()
    return step


def faults(where: int, value: float) -> Tensor:
    factors = np.ones(3, np.float32)
    factors[where] = value
    return Tensor(factors)


def snapshot(step: TrainStep, but=("loss_scaler", "step_")) -> dict[str, np.ndarray]:
    return {p.name: p.asnumpy().copy() for p in step.get_parameters() if not p.name.startswith(but)}


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


@pytest.mark.slow
@pytest.mark.parametrize(
    "lr", [0.1, [0.1 * 0.9**i for i in range(20)], Schedule()], ids=["constant", "list", "schedule"]
)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_an_overflow_changes_no_weight_no_slot_and_no_counter(optimizer, lr):
    step = build(optimizer, lr)
    step(IDS, GOOD)
    before = snapshot(step)
    for where, value in ((0, np.inf), (2, np.nan), (1, -np.inf)):
        result = step(IDS, faults(where, value))
        assert not bool(result.finite) and not bool(result.updated)
        assert same(snapshot(step), before)
    assert bool(step(IDS, GOOD).updated)
    after = snapshot(step)
    changed = [not np.array_equal(after[name], before[name]) for name in WEIGHTS if name != "last.bias"]
    # Rprop leaves a weight alone where its gradient has changed its sign.
    assert any(changed) if optimizer == "rprop" else all(changed)


@pytest.fixture(scope="module")
def shared():
    """One compiled step; tests put it back to its first state."""
    scaler = LossScaler(2.0**10, minimum=2.0**-3, maximum=2.0**12, growth_interval=3, hysteresis=2)
    step = build(scaler=scaler, clip_norm=math.inf)
    step(IDS, GOOD)
    return step, {p.name: p.asnumpy().copy() for p in step.get_parameters()}


def restore(shared) -> TrainStep:
    step, state = shared
    for parameter in step.get_parameters():
        parameter.set_data(Tensor(state[parameter.name]))
    return step


FAULTS = st.none() | st.tuples(st.integers(0, 2), st.sampled_from([np.inf, -np.inf, np.nan]))


@settings(max_examples=25)
@given(st.lists(FAULTS, min_size=1, max_size=12))
def test_any_sequence_of_overflows_equals_the_run_without_them(shared, run):
    """Weights, slots and counters are those of the finite steps alone; the scale follows the reference model."""
    step = restore(shared)
    reference = Reference(step.scaler)
    reference.scale, reference.good, reference.bad, reference.stuck = state_of(step.scaler)
    for fault in run:
        result = step(IDS, GOOD if fault is None else faults(*fault))
        assert bool(result.finite) == bool(result.updated) == (fault is None)
        assert float(result.scale) == reference.scale
        reference.update(fault is None)
        assert float(result.new_scale) == reference.scale
        assert state_of(step.scaler) == (float(reference.scale), *reference.state()[1:])
    mixed = snapshot(step)
    step = restore(shared)
    for fault in run:
        if fault is None:
            step(IDS, GOOD)
    assert same(snapshot(step), mixed) or _differ_by_scale(snapshot(step), mixed)


def _differ_by_scale(one: dict, other: dict) -> bool:
    """The scales of the two runs differ, which only powers of two let pass without rounding."""
    return all(np.allclose(one[name], other[name], rtol=1e-5, atol=1e-7) for name in one)


@pytest.mark.parametrize("where, name", [(0, "table.embedding_table"), (1, "first.bias"), (2, "last.bias")])
def test_names_the_gradient_nearest_to_the_loss(shared, where, name):
    step = restore(shared)
    step(IDS, faults(where, np.inf))
    assert step.overflowing() == f"gradient of {name}"


def test_a_large_but_finite_gradient_is_no_overflow(shared):
    """Its square is beyond float32, which the cheap check must not take for an overflow."""
    step = restore(shared)
    result = step(IDS, faults(0, 1e30))
    assert bool(result.finite) and bool(result.updated)
    assert 1e20 < float(result.grad_norm) < 1e38
    assert np.isfinite(float(result.grad_norm))


def test_equals_plain_training():
    step, plain = build("momentum"), build("momentum").cell
    reference = nn.TrainOneStepCell(plain, nn.Momentum(plain.trainable_params(), 0.1, 0.9)).set_train()
    for _ in range(5):
        assert np.allclose(step(IDS, GOOD).loss.asnumpy(), reference(IDS, GOOD).asnumpy(), rtol=1e-6)
    for name, parameter in plain.parameters_dict().items():
        assert np.allclose(step.cell.parameters_dict()[name].asnumpy(), parameter.asnumpy(), rtol=1e-5, atol=1e-7)


def test_clips_by_the_global_norm():
    free, clipped = build("sgd", clip_norm=math.inf), build("sgd", clip_norm=1e-3)
    before = {p.name: p.asnumpy().copy() for p in clipped.weights}
    norm = float(free(IDS, GOOD).grad_norm)
    result = clipped(IDS, GOOD)
    moved = np.sqrt(sum(((p.asnumpy() - before[p.name]) ** 2).sum() for p in clipped.weights))
    assert np.isclose(float(result.grad_norm), norm, rtol=1e-5) and norm > 1e-3
    assert np.isclose(moved, 0.1 * 1e-3, rtol=1e-3)


def test_accumulation_averages_and_drops_a_window_with_an_overflow():
    step, whole = build("sgd", accumulate=3), build("sgd")
    for _ in range(2):
        result = step(IDS, GOOD)
        assert not bool(result.updated) and result.event == "accumulated"
    assert step(IDS, GOOD).event == "updated"
    whole(IDS, GOOD)
    assert all(
        np.allclose(one.asnumpy(), other.asnumpy(), rtol=1e-5, atol=1e-7)
        for one, other in zip(step.weights, whole.weights)
    )
    before = snapshot(step)
    for bad in range(3):
        for call in range(3):
            result = step(IDS, faults(1, np.inf) if call == bad else GOOD)
        assert result.event.startswith("skipped, scale backed off") and same(snapshot(step), before)
    assert [bool(step(IDS, GOOD).updated) for _ in range(3)] == [False, False, True]


def test_two_optimizers_skip_together():
    net = Injected()
    table, rest = net.trainable_params()[:1], net.trainable_params()[1:]
    step = TrainStep(net, [nn.SGD(table, 0.1), nn.Adam(rest, 0.01)], LossScaler(64.0))
    names = [p.name for p in step.get_parameters()]
    step(IDS, GOOD)
    assert [p.name for p in step.get_parameters()] == names and len(set(names)) == len(names)  # for checkpoints
    before = snapshot(step)
    step(IDS, faults(0, np.inf))
    assert same(snapshot(step), before)
    step(IDS, GOOD)
    after = snapshot(step)
    assert not np.array_equal(after["table.embedding_table"], before["table.embedding_table"])
    assert not np.array_equal(after["first.weight"], before["first.weight"])


def test_parameters_can_be_loaded_into_a_step_that_has_run(shared):
    """MindSpore alone keeps two copies of a Parameter that only a branch writes: slots would stay as they were."""
    ends = []
    for _ in range(2):
        step = restore(shared)
        for _ in range(2):
            step(IDS, GOOD)
        ends.append(snapshot(step))
    assert same(*ends) and int(ends[0]["global_step"][0]) == 3


def test_stops_a_run_that_no_scale_can_help():
    step = build(scaler=LossScaler(4.0, minimum=2.0**-10))
    with pytest.raises(StuckScaleError, match=r"stuck at scale 2\^-10: gradient of first.bias overflows"):
        for _ in range(120):
            step(IDS, faults(1, np.inf))


@pytest.mark.slow
def test_a_checkpoint_continues_the_run_exactly(tmp_path):
    run = [None, (0, np.inf), None, None, (2, np.nan), (1, np.inf), None, None, None]
    options = dict(accumulate=2, clip_norm=0.5)
    whole = build(scaler=LossScaler(256.0, growth_interval=2, hysteresis=2), **options)
    results = [whole(IDS, GOOD if fault is None else faults(*fault)) for fault in run]
    for stop in (1, 4, 6):
        first = build(scaler=LossScaler(256.0, growth_interval=2, hysteresis=2), **options)
        for fault in run[:stop]:
            first(IDS, GOOD if fault is None else faults(*fault))
        ms.save_checkpoint(first, str(tmp_path / f"{stop}.ckpt"))
        second = build(scaler=LossScaler(2.0, growth_interval=2, hysteresis=2, minimum=2.0), seed=9, **options)
        ms.load_param_into_net(second, ms.load_checkpoint(str(tmp_path / f"{stop}.ckpt")), strict_load=True)
        for fault, expected in zip(run[stop:], results[stop:]):
            found = second(IDS, GOOD if fault is None else faults(*fault))
            assert np.array_equal(found.loss.asnumpy(), expected.loss.asnumpy())
            assert found.event == expected.event
        assert same(snapshot(second, but=("none",)), snapshot(whole, but=("none",)))


def test_half_precision_trains_and_reports():
    step = build("sgd", policy=Policy(fp32=["last"]), scaler=LossScaler(2.0**17, growth_interval=2))
    losses = [step(IDS, GOOD) for _ in range(4)]
    assert float(losses[-1].loss) < float(losses[0].loss)
    assert losses[1].event == "updated, scale grew to 262144"
    assert {p.dtype for p in step.weights} == {ms.float32}


def test_pynative_mode_gives_the_same_numbers():
    graph = build("adam", clip_norm=1.0)
    expected = [graph(IDS, fault).loss.asnumpy() for fault in (GOOD, faults(0, np.inf), GOOD)]
    ms.set_context(mode=ms.PYNATIVE_MODE)
    try:
        eager = build("adam", clip_norm=1.0)
        found = [eager(IDS, fault).loss.asnumpy() for fault in (GOOD, faults(0, np.inf), GOOD)]
    finally:
        ms.set_context(mode=ms.GRAPH_MODE)
    assert np.allclose(found, expected, rtol=1e-5)


def test_model_trains_with_it():
    ms.set_seed(0)
    data = ms.dataset.NumpySlicesDataset(
        (np.tile([[1, 2]], (8, 1)).astype(np.int32), np.ones((8, 3), np.float32)), shuffle=False
    )
    step = build()
    before = snapshot(step)
    ms.Model(step).train(1, data, dataset_sink_mode=False)
    assert int(step.scaler.state_dict()["good_steps"]) == 8 and not same(before, snapshot(step))


def test_mistakes_are_named():
    net = Injected()
    optimizer = nn.SGD(net.trainable_params(), 0.1)
    for arguments, error, text in (
        ((lambda x: x, optimizer), TypeError, "cell="),
        ((net, 3), TypeError, "optimizer="),
        ((net, optimizer, 1024.0), TypeError, r"scaler=1024.0 is no LossScaler"),
        ((net, optimizer, LossScaler(), None, 0.0), ValueError, "clip_norm=0.0"),
        ((net, optimizer, LossScaler(), None, None, 0), ValueError, "accumulate=0"),
        (
            (net, [optimizer, nn.SGD(net.trainable_params(), 0.1)]),
            ValueError,
            "two of them update table.embedding_table",
        ),
    ):
        with pytest.raises(error, match=text):
            TrainStep(*arguments)


def test_several_losses_have_a_scale_each():
    """Two losses over one network: an overflow of one backs off its own scale, and the other goes on."""
    ms.set_seed(0)
    net = Injected()
    first, second = (
        TrainStep(net, nn.SGD(net.trainable_params(), 0.01), LossScaler(scale, minimum=1.0)).set_train()
        for scale in (64.0, 16.0)
    )
    before = snapshot(first)
    for _ in range(2):
        assert not bool(first(IDS, faults(0, np.inf)).updated)
    assert all(np.array_equal(value, before[name]) for name, value in snapshot(first).items())
    assert second(IDS, GOOD).event == "updated"
    assert (first.scaler.value, second.scaler.value) == (16.0, 16.0)  # 64 halved twice, 16 as it was
    assert first(IDS, GOOD).event == "updated"
    assert not np.array_equal(net.last.weight.asnumpy(), before["last.weight"])
