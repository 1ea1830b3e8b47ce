"""What trace_overflow says of values that are no overflow, and of cells that fix their own precision."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn, ops

from ascend_fixes.amp import Policy, PrecisionWarning, autocast, overrides, trace_overflow

ONES = Tensor(np.ones((2, 3), np.float32))
ZEROS = Tensor(np.zeros((2, 3), np.float32))


class Weighted(nn.Cell):
    """A base of the losses below: something to train."""

    def __init__(self):
        super().__init__()
        self.scale = Parameter(Tensor(1.0, ms.float32), name="scale")


class Counted(Weighted):
    def construct(self, x, weights):
        return (x * self.scale * weights).sum() / weights.sum()


class Ratio(Weighted):
    def construct(self, x, weights):
        return (x * self.scale / weights).sum()


class Likelihood(Weighted):
    def construct(self, x, weights):
        return -ops.log(x * weights * self.scale).sum()


class Chosen(Weighted):
    def construct(self, x, weights):
        return (ops.log(weights * self.scale) * weights).sum()


class Ignored(Weighted):
    def construct(self, x, weights):
        labels = ops.cast(weights.sum(1), ms.int32) - 100
        return ops.cross_entropy(x * self.scale, labels)


class Masked(Weighted):
    def construct(self, x, weights):
        scores = ops.masked_fill(x * self.scale, weights == 0, Tensor(-np.inf, ms.float32))
        return ops.exp(scores - scores.max(-1, keepdims=True)).sum()


class Large(Weighted):
    def construct(self, x, weights):
        return (x * self.scale * 1e30 * 1e30).sum()


class Rooted(Weighted):
    def construct(self, x, weights):
        return ops.sqrt(weights * self.scale).sum()


@pytest.mark.parametrize(
    "cell, phase, cause, operator, helps",
    [
        (Counted, "forward", "0/0", "Div", "nothing is counted; divide by ops.maximum"),
        (Ratio, "forward", "division by zero", "Div", "the divisor is 0"),
        (Likelihood, "forward", "logarithm of zero", "Log", "bound it from below"),
        (Chosen, "forward", "logarithm of zero", "Log", "log_softmax"),
        (Ignored, "forward", "0/0", "", "nothing is counted"),
        (Masked, "forward", "undefined", "Sub", "a row masked with -inf throughout"),
        (Large, "forward", "overflow", "Mul", "leaves float32's range"),
        (Rooted, "backward", "division by zero", "", "the divisor is 0"),
    ],
)
def test_each_cause_is_told_apart(cell, phase, cause, operator, helps):
    report = trace_overflow(cell(), ONES, ZEROS)
    assert (report.phase, report.cause) == (phase, cause), str(report)
    assert not operator or report.operator == operator
    assert helps in report.advice and "fp32=" not in report.advice and f": {cause}" in str(report)


def test_an_operand_that_was_not_finite_is_named_as_that():
    report = trace_overflow(Counted(), Tensor(np.full((2, 3), np.nan, np.float32)), ONES)
    assert report.cause == "input" and "look at the inputs" in report.advice


def test_arguments_may_be_given_by_name():
    assert trace_overflow(Counted(), ONES, weights=ZEROS).cause == "0/0"
    assert not trace_overflow(Counted(), x=ONES, weights=ONES)


class Fixed(Weighted):
    """A dense layer whose result is 1e5, beyond float16, in a type that it fixes itself."""

    def __init__(self, dtype):
        super().__init__()
        self.dense = nn.Dense(3, 2)
        self.dense.weight.set_data(Tensor(np.full((2, 3), 4e4, np.float32)))
        if dtype is not None:
            self.dense.to_float(dtype)

    def construct(self, x):
        return self.dense(x * self.scale).astype(ms.float32).sum()


def test_to_float_beats_the_policy_and_is_said():
    assert trace_overflow(Fixed(None), ONES, policy=Policy()).cause == "overflow"
    with pytest.warns(PrecisionWarning, match="'dense' has .to_float.float32.: the policy does not reach"):
        full = trace_overflow(Fixed(ms.float32), ONES, policy=Policy())
    assert not full and "the policy does not reach" in full.notes[0]
    with pytest.warns(PrecisionWarning, match=r"defeats fp32=\['dense'\]"):
        half = trace_overflow(Fixed(ms.float16), ONES, policy=Policy(fp32=["dense"]))
    assert half.cause == "overflow" and "take .to_float(mindspore.float16) off 'dense'" in half.advice
    assert overrides(Fixed(ms.float16)) == {"dense": "float16"} and overrides(Fixed(None)) == {}


class Product(nn.Cell):
    """A matrix product that states its gradient."""

    def construct(self, x, weight):
        return ops.matmul(x, weight)

    def bprop(self, x, weight, out, dout):
        return ops.matmul(dout, weight.swapaxes(0, 1)), ops.matmul(x.swapaxes(0, 1), dout)


class Stated(nn.Cell):
    def __init__(self):
        super().__init__()
        self.dense, self.product = nn.Dense(3, 3), Product()
        self.weight = Parameter(Tensor(np.eye(3), ms.float32), name="weight")

    def construct(self, x):
        return self.product(self.dense(x), self.weight).sum()


@pytest.mark.parametrize("mode", [ms.GRAPH_MODE, ms.PYNATIVE_MODE])
def test_a_stated_gradient_is_taken_in_float32(mode):
    ms.set_context(mode=mode)
    try:
        net = Stated()
        wanted = ms.value_and_grad(net, None, net.trainable_params())(ONES)[1]
        found = ms.value_and_grad(autocast(net, Policy()), None, net.trainable_params())(ONES)[1]
    finally:
        ms.set_context(mode=ms.GRAPH_MODE)
    for one, other in zip(wanted, found):
        assert other.dtype == ms.float32
        np.testing.assert_allclose(one.asnumpy(), other.asnumpy(), rtol=1e-2, atol=1e-2)
