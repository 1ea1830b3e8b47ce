"""`fusion.DynamicRNN` against float64 and against the operator's own arguments. Fused, and its gradients: `test_recurrent`."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mindspore import Tensor, ops
from recurrent_references import dynamic_rnn_weights, lstm_step, relative, sigmoid

from ascend_fixes.fusion import DynamicRNN
from ascend_fixes.fusion._layers import LayerError

LENGTH, BATCH, WIDTH, HIDDEN = 9, 3, 4, 5
LAYERS = {bias: DynamicRNN(forget_bias=bias) for bias in (0.0, 1.0)}
BOUNDS = {np.float32: 1e-5, np.float16: 5e-2}  # of float16 as for the GRU


def drawn(seed, dtype):
    random = np.random.default_rng(seed)
    shapes = (LENGTH, BATCH, WIDTH), (WIDTH + HIDDEN, 4 * HIDDEN), (4 * HIDDEN,), (1, BATCH, HIDDEN), (1, BATCH, HIDDEN)
    return [random.uniform(-1, 1, shape).astype(dtype) for shape in shapes]


def expected(x, w, b, h, c, forget_bias):
    """The eight results, step by step."""
    weights, h, c, steps = dynamic_rnn_weights(w, b, forget_bias), h[0], c[0], []
    for row in x:
        i, f, j, o = np.split(row @ weights[0].T + h @ weights[1].T + weights[2], 4, -1)
        h, c = lstm_step(row, h, c, *weights)
        steps.append((h, h, c, sigmoid(i), np.tanh(j), sigmoid(f), sigmoid(o), np.tanh(c)))
    return [np.stack(one) for one in zip(*steps)]


@settings(max_examples=15)
@given(st.integers(0, 2**32 - 1), st.sampled_from([np.float32, np.float16]), st.sampled_from(list(LAYERS)))
def test_the_eight_results_are_those_of_the_literature(seed, dtype, forget_bias):
    x, w, b, h, c = drawn(seed, dtype)
    got = LAYERS[forget_bias](Tensor(x), Tensor(w), Tensor(b), None, Tensor(h), Tensor(c))
    wanted = expected(*(one.astype(np.float64) for one in (x, w, b, h, c)), forget_bias)
    assert len(got) == len(wanted) == 8
    for one, other in zip(got, wanted):
        assert one.asnumpy().dtype == dtype and relative(one, other) <= BOUNDS[dtype]


@settings(max_examples=10)
@given(st.lists(st.integers(0, LENGTH), min_size=BATCH, max_size=BATCH), st.integers(0, 2**32 - 1))
def test_past_a_row_s_end_its_state_is_frozen(lengths, seed):
    x, w, b, h, c = drawn(seed, np.float32)
    spoilt = np.where(np.arange(LENGTH)[:, None, None] < np.array(lengths)[:, None], x, np.float32("nan"))
    got = LAYERS[0.0](*map(Tensor, (spoilt, w, b)), Tensor(np.array(lengths, np.int32)), Tensor(h), Tensor(c))
    wanted = expected(x, w, b, h, c, 0.0)
    for row, size in enumerate(lengths):
        y, state, cell = (one.asnumpy()[:, row] for one in got[:3])
        np.testing.assert_allclose(y[:size], wanted[0][:size, row], atol=1e-5)
        assert not y[size:].any()
        last = (wanted[1][size - 1, row], wanted[2][size - 1, row]) if size else (h[0, row], c[0, row])
        np.testing.assert_allclose(state[size:], np.broadcast_to(last[0], state[size:].shape), atol=1e-5)
        np.testing.assert_allclose(cell[size:], np.broadcast_to(last[1], cell[size:].shape), atol=1e-5)


def test_the_operator_itself_has_no_kernel_here():
    x, w, b, h, c = map(Tensor, drawn(0, np.float16))
    with pytest.raises(Exception, match="DynamicRNN"):
        ops.DynamicRNN()(x, w, b, None, h, c)[0].asnumpy()


@pytest.mark.parametrize(
    "argument", [{"direction": "BIDIRECTIONAL"}, {"use_peephole": True}, {"cell_clip": 1.0}, {"time_major": False}]
)
def test_what_the_operator_does_not_compute_is_refused(argument):
    (name,) = argument
    with pytest.raises(LayerError, match=f"{name}=.* is not supported"):
        DynamicRNN(**argument)
