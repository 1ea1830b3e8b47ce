"""A skipped step leaves no trace: not in what the forward pass writes, not in the scale where scaling is not to blame."""

from __future__ import annotations

import itertools

import mindspore as ms
import numpy as np
import pytest
from amp_cells import Injected, InsideAnother, MeanOver, Named, Writing
from mindspore import Tensor, nn

from ascend_fixes import _mindspore
from ascend_fixes.amp import (
    ArgumentTypeError,
    LossScaler,
    Policy,
    StepError,
    StuckScaleError,
    TrainStep,
    UndeclaredWriteError,
    WrittenError,
    train_step,
)
from ascend_fixes.amp._gradients import Gradients

GOOD = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
BAD = np.where(np.arange(24).reshape(6, 4) == 5, np.nan, GOOD).astype(np.float32)
OWN = ("loss_scaler", "step_")


@pytest.fixture(params=[ms.GRAPH_MODE, ms.PYNATIVE_MODE], ids=["graph", "pynative"])
def mode(request):
    ms.set_context(mode=request.param)
    yield
    ms.set_context(mode=ms.GRAPH_MODE)


def state(step: TrainStep) -> dict[str, np.ndarray]:
    return {p.name: p.asnumpy().copy() for p in step.get_parameters() if not p.name.startswith(OWN)}


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("calls", [1, 2])
def test_what_the_forward_pass_writes_is_put_back(mode, calls):
    """MindSpore's own running mean, moved by the batch that made NaN, stays NaN; here the whole window leaves none."""
    net = Writing()
    step = TrainStep(net, nn.SGD(net.trainable_params(), 0.01), LossScaler(4.0), accumulate=calls).set_train()
    for _ in range(calls):
        result = step(Tensor(GOOD))
    assert bool(result.updated)
    before = state(step)
    assert before["norm.moving_mean"].any() and before["average"].any() and before["count"] == calls
    for at in range(calls):
        for call in range(calls):
            result = step(Tensor(BAD if call == at else GOOD))
            assert all(np.isfinite(array).all() for array in state(step).values())
        assert not bool(result.updated) and same(state(step), before)
    for _ in range(calls):
        assert bool(step(Tensor(GOOD)).finite)
    assert not same(state(step), before)


def test_a_write_that_cannot_be_undone_is_named_before_anything_has_run():
    net = Writing(clamps=True)
    step = TrainStep(net, nn.SGD(net.trainable_params(), 0.01)).set_train()
    before = state(step)
    for _ in range(2):
        with pytest.raises(UndeclaredWriteError, match="writes table, which a skipped step could not undo"):
            step(Tensor(GOOD))
    assert same(state(step), before)
    with pytest.raises(WrittenError, match="other is no Parameter of the cell"):
        TrainStep(net, nn.SGD(net.trainable_params(), 0.01), written=[ms.Parameter(Tensor(1.0), name="other")])
    step = TrainStep(net, nn.SGD(net.trainable_params(), 0.01), written=[net.table]).set_train()
    net.table.set_data(Tensor(np.full((70, 1000), 2.0, np.float32)))
    step(Tensor(BAD))
    assert (net.table.asnumpy() == 2).all()  # the forward pass made it 1
    step(Tensor(GOOD))
    assert (net.table.asnumpy() == 1).all()


ROWS = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)


def test_a_loss_that_is_nan_without_scaling_leaves_the_scale(mode):
    """All labels ignored: 0/0. 40 such steps took the scale from 65536 to 0.0625 in MindSpore's way of counting."""
    net = MeanOver()
    step = TrainStep(net, nn.SGD(net.trainable_params(), 0.01), LossScaler(65536.0)).set_train()
    labels = Tensor(np.array([0.0, 1.0, 2.0, 3.0], np.float32))
    assert step(Tensor(ROWS), labels).event == "updated"
    for _ in range(8):
        result = step(Tensor(ROWS), Tensor(np.full(4, -1, np.float32)))
    assert result.event == "skipped, the loss is nan" and not result.loss_finite
    assert step.scaler.value == 65536.0 and step.overflowing() == "loss"
    assert step(Tensor(ROWS), labels).event == "updated" and step.overflowing() == "nothing"
    with pytest.raises(StuckScaleError, match="the loss itself is not finite, 1[0-9] times in a row"):
        for _ in range(20):
            step(Tensor(ROWS), Tensor(np.full(4, -1, np.float32)))


def ragged(step: TrainStep, net: nn.Cell, parts: list, flush: bool) -> np.ndarray:
    for rows, labels in parts:
        result = step(Tensor(rows), Tensor(labels))
    if flush:
        result = step.flush()
        assert result.loss is None and step.flush() is None
    assert bool(result.updated)
    return net.dense.weight.asnumpy()


@pytest.mark.parametrize("flush", [False, True])
def test_windows_of_ragged_batches_are_the_mean_over_all_tokens(flush):
    random = np.random.default_rng(2)
    rows, labels = random.normal(size=(9, 3)).astype(np.float32), random.uniform(0, 3, 9).astype(np.float32)
    parts = [(rows[a:b], labels[a:b]) for a, b in ((0, 1), (1, 3), (3, 9))]
    found = {}
    for name, options, batches in (
        ("whole", {}, [(rows, labels)]),
        ("weighed", {"accumulate": 4 if flush else 3, "weight_output": 1}, parts),
        ("alike", {"accumulate": 3}, parts),
    ):
        net = MeanOver()
        step = TrainStep(net, nn.SGD(net.trainable_params(), 0.1), LossScaler(8.0), **options).set_train()
        found[name] = ragged(step, net, batches, flush and name == "weighed")
    assert np.allclose(found["weighed"], found["whole"], rtol=1e-5)
    assert not np.allclose(found["alike"], found["whole"], atol=0.01)


def test_flush_forgets_a_window_with_an_overflow_and_does_nothing_without_one():
    net = Injected()
    step = TrainStep(
        net, nn.Adam(net.trainable_params(), 0.1), LossScaler(64.0), accumulate=3, clip_norm=1.0
    ).set_train()
    ids, good = Tensor(np.array([[1, 2], [3, 3]]), ms.int32), Tensor(np.ones(3, np.float32))
    assert step.flush() is None
    step(ids, good)
    before = state(step)
    step(ids, Tensor(np.array([1, np.inf, 1], np.float32)))
    assert step.flush().event == "skipped, scale backed off to 32" and same(state(step), before)
    step(ids, good)
    result = step.flush()
    assert result.event == "updated" and float(result.grad_norm) > 0 and not same(state(step), before)


def test_takes_inputs_by_name(mode):
    x, y = np.ones((2, 3), np.float32), np.float32(3)
    losses = []
    for inputs, named in (((x, y), {}), ((x,), {"y": y}), ((), {"y": y, "x": x})):
        net = Named()
        step = TrainStep(net, nn.SGD(net.trainable_params(), 0.01), LossScaler(8.0), policy=Policy("compute=float32"))
        named = {name: Tensor(value) for name, value in named.items()}
        losses += [float(step(*map(Tensor, inputs), **named).loss) for _ in range(2)]
    assert losses == losses[:2] * 3 and losses[0] != losses[1]


def test_a_result_keeps_its_numbers_when_later_steps_change_them():
    net = Named()
    step = TrainStep(net, nn.SGD(net.trainable_params(), 1e-3), LossScaler(8.0, growth_interval=1)).set_train()
    results = [step(Tensor(np.ones((2, 3), np.float32)), Tensor(np.float32(1))) for _ in range(3)]
    assert [(float(r.scale), float(r.new_scale)) for r in results] == [(8, 16), (16, 32), (32, 64)]


# Eight of the 32: every three of the first four together in every way, and optimizers beside each of them in both.
OPTIONS = [
    (
        (LossScaler, LossScaler.off)[scaler],
        (None, Policy("compute=float16"))[policy],
        (None, 1.0)[clips],
        1 + (scaler + policy + clips) % 2,
        ("one", "two")[(scaler + policy) % 2],
    )
    for scaler, policy, clips in itertools.product((0, 1), repeat=3)
]


@pytest.mark.slow
@pytest.mark.parametrize("scaler, policy, clip_norm, accumulate, optimizers", OPTIONS)
def test_no_graph_enters_python(scaler, policy, clip_norm, accumulate, optimizers):
    """A None across a tensor branch is a call of Python in the graph: slow on CPU, refused by Ascend."""
    net = Injected()
    weights = net.trainable_params()
    optimizer = nn.Adam(weights) if optimizers == "one" else [nn.SGD(weights[:1]), nn.Adam(weights[1:])]
    step = TrainStep(net, optimizer, scaler(), policy=policy, clip_norm=clip_norm, accumulate=accumulate).set_train()
    step.compile(Tensor(np.array([[1, 2], [3, 3]]), ms.int32), Tensor(np.ones(3, np.float32)))
    operators = _mindspore.whole_graph_operators(step)
    assert "Adam" in operators  # the branches were looked into
    assert not [name for name in operators if "PyExecute" in name or "PyInterpret" in name]


def test_inside_another_graph_it_is_a_plain_tuple():
    net = Writing()
    step = TrainStep(net, nn.SGD(net.trainable_params(), 0.01), LossScaler(4.0)).set_train()
    before = state(step)
    loss, finite, norm, updated = InsideAnother(step).set_train()(Tensor(BAD))
    assert np.isnan(float(loss)) and np.isnan(float(norm)) and not bool(finite) and not bool(updated)
    assert same(state(step), before)


@pytest.mark.parametrize("value", [3.3e38, -3.3e38])
@pytest.mark.parametrize("clip_norm", [None, 1.0])
def test_is_exact_up_to_the_largest_float32(value, clip_norm):
    """Sums and squares of such gradients are infinite; the gradients are not."""
    net = nn.Dense(64, 64, has_bias=True)
    weights = net.trainable_params()
    look = Gradients(weights)
    grads = tuple(Tensor(np.full(weight.shape, value, np.float32)) for weight in weights)
    rows = look.rows(grads)
    total = look.norm(rows)[1] if clip_norm else look.probe(rows)
    assert np.isfinite(float(total))
    for bad in (np.inf, -np.inf, np.nan):
        array = np.full(weights[0].shape, value, np.float32)
        array[3, 5] = bad
        rows = look.rows((Tensor(array), grads[1]))
        assert not np.isfinite(float(look.norm(rows)[1] if clip_norm else look.probe(rows)))


def test_wrong_arguments_are_named():
    net = MeanOver()
    for arguments, text in (({"weight_output": 0}, "weight_output=0"), ({"accumulate": 0}, "accumulate=0")):
        with pytest.raises(StepError, match=text):
            TrainStep(net, nn.SGD(net.trainable_params(), 0.1), **arguments)


FUNCTION_NET = Writing()


def forward(x):
    return FUNCTION_NET(x)


def test_a_function_makes_a_step_too(mode):
    step = train_step(forward, nn.SGD(FUNCTION_NET.trainable_params(), 0.01), LossScaler(4.0)).set_train()
    assert FUNCTION_NET.norm.training
    assert step(Tensor(GOOD)).event == "updated"
    before = {p.name: p.asnumpy().copy() for p in FUNCTION_NET.get_parameters()}
    assert step(Tensor(BAD)).event == "skipped, the loss is nan"
    assert same({p.name: p.asnumpy() for p in FUNCTION_NET.get_parameters()}, before)


def test_what_is_no_function_or_names_cells_is_refused():
    optimizer = nn.SGD(FUNCTION_NET.trainable_params(), 0.01)
    for function in (FUNCTION_NET, 3):
        with pytest.raises(ArgumentTypeError, match="forward_function="):
            train_step(function, optimizer)
    with pytest.raises(StepError, match="names cells"):
        train_step(forward, optimizer, policy=Policy(fp32=["dense"]))
