"""trace_overflow names the place where an overflow was planted, and what it advises helps."""

from __future__ import annotations

import ast
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from amp_cells import Injected
from mindspore import Tensor, nn

from ascend_fixes.amp import ArgumentTypeError, Policy, autocast, saturating, trace_overflow
from benchmarks.amp import models as amp_models

SOURCE = Path(amp_models.__file__).read_text().splitlines()


def line_of(text: str) -> str:
    """Where the models' code says this: ``models.py:33``."""
    (number,) = [number for number, line in enumerate(SOURCE, 1) if text in line]
    return f"models.py:{number}"


def plant(name: str, weight: str, factor: float):
    net = amp_models.network(name)
    parameter = net.parameters_dict()[weight]
    parameter.set_data(parameter.value() * factor + (factor if weight == "transitions" else 0.0))
    return net, next(amp_models.batches(name))


def advised(report) -> Policy:
    _, _, entry = report.advice.partition("fp32=")
    return Policy(fp32=ast.literal_eval(entry))


@pytest.mark.parametrize(
    "model, weight, cell, line",
    [
        ("attention", "key.weight", "key", "self.key(x)"),
        ("attention", "inner.weight", "inner", "self.inner(x)))"),
        ("translation", "head.weight", "head", "self.head(states)"),
        ("tagger", "inner.weight", "inner", "self.inner(self.embedding"),
        ("graph", "gates.1.weight", "gates.1", "self.gates[1](both)"),
        ("tagger", "transitions", "", "self.transitions) * chosen"),
        pytest.param("translation", "decoder.weight_ih_l0", "decoder.rnn", "self.decoder(", marks=pytest.mark.slow),
    ],
)
def test_names_the_planted_forward_overflow(model, weight, cell, line):
    net, batch = plant(model, weight, 1e7)
    report = trace_overflow(net, *batch, policy=Policy())
    assert (report.phase, report.cell, report.caller) == ("forward", cell, line_of(line))
    assert not np.isfinite(report.value) and report
    better = trace_overflow(net, *batch, policy=advised(report))
    assert (better.phase, better.cell, better.source) != (report.phase, report.cell, report.source)


@pytest.mark.parametrize(
    "model, cell, parameter",
    [("attention", "head", "head.weight"), ("graph", "head", "head.weight"), ("tagger", "", "head.weight")]
    + [pytest.param("translation", "head", "head.weight", marks=pytest.mark.slow)],
)
def test_names_the_backward_overflow_of_too_large_a_scale(model, cell, parameter):
    net, batch = amp_models.network(model), next(amp_models.batches(model))
    assert not trace_overflow(net, *batch, policy=Policy(), scale=2.0**8)
    report = trace_overflow(net, *batch, policy=Policy(), scale=2.0**24)
    assert (report.phase, report.cell) == ("backward", cell)
    assert report.parameter in report.parameters and report.dtype == "float16"
    if cell:
        assert report.operator == "MatMul" and f'fp32=["{cell}"]' in str(report)


@pytest.mark.parametrize("factor", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("where, parameter", [(0, "table.embedding_table"), (1, "first.bias"), (2, "last.bias")])
def test_names_the_operation_whose_gradient_is_wrong(where, parameter, factor):
    factors = np.ones(3, np.float32)
    factors[where] = factor
    ids = Tensor(np.array([[1, 2], [3, 3]]), ms.int32)
    report = trace_overflow(Injected(), ids, Tensor(factors), policy=None)
    assert (report.phase, report.operator, report.parameter) == ("backward", "GradientFault", parameter)
    assert f"faults[{where}]" in report.text and "lower the loss scale" not in str(report.parameters)


@pytest.mark.parametrize("sign", [1, -1])
def test_gradients_that_are_all_of_one_infinity_are_no_mask(sign):
    net, factors = Injected(), np.array([1, 1, np.inf], np.float32)
    net.last.bias.set_data(Tensor(np.full(3, 9.0 * sign), ms.float32))
    report = trace_overflow(net, Tensor(np.array([[1, 2], [3, 3]]), ms.int32), Tensor(factors))
    assert (report.operator, report.value) == ("GradientFault", sign * np.inf)


def test_nothing_is_changed_and_nothing_is_found_in_a_sound_cell():
    net, batch = amp_models.network("attention"), next(amp_models.batches("attention"))
    before = {name: p.asnumpy().copy() for name, p in net.parameters_dict().items()}
    report = trace_overflow(net, *batch, policy=Policy())
    assert not report and str(report) == "no overflow: loss and gradients are finite"
    assert type(net) is amp_models.Attention and ms.get_context("mode") == ms.GRAPH_MODE
    assert all(np.array_equal(before[name], p.asnumpy()) for name, p in net.parameters_dict().items())


def test_the_policy_may_be_that_of_autocast_and_saturation_is_seen_through():
    net, batch = plant("graph", "gates.1.weight", 1e7)
    expected = str(trace_overflow(net, *batch, policy=Policy()))
    assert str(trace_overflow(autocast(net, Policy()), *batch)) == expected
    assert str(trace_overflow(saturating(net), *batch, policy=Policy())) == expected
    with pytest.raises(ArgumentTypeError, match="no mindspore.nn.Cell"):
        trace_overflow(lambda x: x, *batch)


def test_no_hook_is_left_on_parameters_and_inputs_and_the_cell_compiles_afterwards():
    """A Tensor of a run may be a Parameter, or an input, under another name: casts to the type it has give it back."""

    class Masked(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.norm = nn.Dense(4, 4), nn.LayerNorm((4,))

        def construct(self, x: Tensor, mask: Tensor) -> Tensor:
            return (self.norm(self.inner(x)) * mask.astype(x.dtype)).sum()

    net, x, mask = Masked(), Tensor(np.ones((2, 4), np.float32)), Tensor(np.ones((2, 1), np.float32))
    assert not trace_overflow(net, x, mask, policy=Policy())
    assert not any(one.hooks() for one in (*net.get_parameters(), x, mask))
    nn.TrainOneStepCell(net, nn.SGD(net.trainable_params(), 0.1))(x, mask)


def test_a_cell_that_takes_what_graphs_give_for_a_maximum_is_traced():
    """``x.max(1)`` is a pair operator by operator, and values in a graph."""

    class Pooled(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Dense(4, 4, weight_init=Tensor(np.full((4, 4), 1e5, np.float32)))

        def construct(self, x: Tensor) -> Tensor:
            x = self.inner(x)
            return (x.max(1) + x.sum(1)).sum()

    report = trace_overflow(Pooled(), Tensor(np.ones((2, 3, 4), np.float32)), policy=Policy())
    assert report.cell == "inner"
