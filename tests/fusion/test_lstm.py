"""`fusion.LSTM` against float64, `nn.LSTM` and torch; padding changes nothing. Fused: `test_recurrent`."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mindspore import Tensor, nn
from recurrent_references import Gradients, lstm, relative

from ascend_fixes import _mindspore
from ascend_fixes.fusion import LSTM
from ascend_fixes.testing import assert_padding_equivalent

LENGTH, BATCH, WIDTH, HIDDEN = 6, 3, 4, 5
BOUNDS = {np.float32: 1e-5, np.float16: 5e-2}  # of float16 as for the GRU


@functools.cache
def shared() -> LSTM:
    return LSTM(WIDTH, HIDDEN, bidirectional=True)


def sides(layer: LSTM) -> list[list[np.ndarray]]:
    groups = (layer.w_ih_list, layer.w_hh_list, layer.b_ih_list, layer.b_hh_list)
    return [[group[side].asnumpy().astype(np.float64) for group in groups] for side in (0, 1)]


@settings(max_examples=15)
@given(
    st.lists(st.integers(0, LENGTH), min_size=BATCH, max_size=BATCH),
    st.sampled_from([np.float32, np.float16]),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.1, 1.0, 30.0]),
)
def test_it_is_the_lstm_of_the_literature_frozen_and_zero_past_the_end(lengths, dtype, seed, scale):
    layer, rng = shared(), np.random.default_rng(seed)
    x = (rng.standard_normal((LENGTH, BATCH, WIDTH)) * scale).astype(dtype)
    h, c = rng.uniform(-1, 1, (2, 2, BATCH, HIDDEN)).astype(dtype)
    output, (state, cell) = layer(Tensor(x), (Tensor(h), Tensor(c)), Tensor(np.array(lengths, np.int32)))
    exact = [array.astype(np.float64) for array in (x, h, c)]
    ran = [
        lstm(exact[0], exact[1][side], exact[2][side], weights, lengths, bool(side))
        for side, weights in enumerate(sides(layer))
    ]
    assert relative(output, np.concatenate([one[0] for one in ran], -1)) <= BOUNDS[dtype]
    assert relative(state, np.stack([one[1] for one in ran])) <= BOUNDS[dtype]
    assert relative(cell, np.stack([one[2] for one in ran])) <= BOUNDS[dtype]
    for row, size in enumerate(lengths):
        assert not output.asnumpy()[size:, row].any()


def twins(**options: object) -> tuple[LSTM, nn.LSTM]:
    """Ours and MindSpore's, with the same weights."""
    ours, theirs = LSTM(WIDTH, HIDDEN, **options), nn.LSTM(WIDTH, HIDDEN, **options)
    assert [p.name for p in ours.get_parameters()] == [p.name for p in theirs.get_parameters()]
    for mine, other in zip(ours.get_parameters(), theirs.get_parameters()):
        other.set_data(mine)
    return ours, theirs


@functools.cache
def pair() -> tuple[tuple[LSTM, nn.LSTM], list[Gradients]]:
    made = twins()
    return made, [Gradients(one) for one in made]


@settings(max_examples=10)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.1, 1.0, 10.0]))
def test_values_and_gradients_are_those_of_nn_lstm(seed, scale):
    (ours, theirs), gradients = pair()
    rng = np.random.default_rng(seed)
    x = Tensor((rng.standard_normal((9, BATCH, WIDTH)) * scale).astype(np.float32))
    hx = tuple(map(Tensor, rng.uniform(-1, 1, (2, 1, BATCH, HIDDEN)).astype(np.float32)))
    for got, wanted in zip((ours(x, hx)[0], *ours(x, hx)[1]), (theirs(x, hx)[0], *theirs(x, hx)[1])):
        assert relative(got, wanted.asnumpy()) <= 1e-5
    weighting = Tensor(rng.standard_normal((9, BATCH, HIDDEN)).astype(np.float32))
    mine, others = ([one.asnumpy() for one in gradient(weighting, x, hx)] for gradient in gradients)
    largest = max(np.abs(other).max() for other in others)
    assert max(np.abs(a - b).max() for a, b in zip(mine, others)) <= 1e-5 * largest


@pytest.mark.parametrize(
    "options", [{"bidirectional": True, "num_layers": 2}, {"batch_first": True, "has_bias": False}]
)
def test_it_is_a_drop_in(options):
    ours, theirs = twins(**options)
    x = Tensor(np.random.default_rng(0).standard_normal((LENGTH, LENGTH, WIDTH)).astype(np.float32))
    (output, states), (wanted, others) = ours(x), theirs(x)
    for got, other in zip((output, *states), (wanted, *others)):
        assert relative(got, other.asnumpy()) <= 1e-5


def test_padding_changes_nothing():
    """Neither outputs, states nor gradients; what stands past the end may be anything."""

    class Net(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = LSTM(WIDTH, HIDDEN, batch_first=True, bidirectional=True)

        def construct(self, x: Tensor, lengths: Tensor):
            output, states = self.lstm(x, None, lengths)
            return output, states[0], states[1]

    rng = np.random.default_rng(0)
    x, sizes = rng.standard_normal((BATCH, LENGTH, WIDTH)).astype(np.float32), np.array([6, 2, 4], np.int32)
    assert_padding_equivalent(Net(), {"x": x, "lengths": sizes}, {"x": 1}, [LENGTH + 3, 2 * LENGTH])
    spoilt = np.where(np.arange(LENGTH)[:, None] < sizes[:, None, None], x, np.float32("nan"))
    layer = shared()
    runs = [layer(Tensor(one.transpose(1, 0, 2)), None, Tensor(sizes)) for one in (x, spoilt)]
    for wanted, got in zip((runs[0][0], *runs[0][1]), (runs[1][0], *runs[1][1])):
        np.testing.assert_array_equal(got.asnumpy(), wanted.asnumpy())


def test_its_graph_does_not_grow_with_the_length():
    counts = []
    for length in (16, 64):
        cell = Gradients(LSTM(2, 3))
        cell(Tensor(np.zeros((length, 1, 3), np.float32)), Tensor(np.zeros((length, 1, 2), np.float32)))
        counts.append(len(_mindspore.graph_nodes(cell)))
    assert counts[0] == counts[1]


def test_new_values_of_the_weights_reach_a_compiled_graph():
    ours, theirs = twins(bidirectional=True)
    x = Tensor(np.random.default_rng(0).standard_normal((12, 2, WIDTH)).astype(np.float32))
    for seed in range(2):
        random = np.random.default_rng(seed)
        for mine, other in zip(ours.get_parameters(), theirs.get_parameters()):
            value = Tensor(random.normal(0, 0.5, mine.shape).astype(np.float32))
            mine.set_data(value)
            other.set_data(value)
        np.testing.assert_allclose(ours(x)[0].asnumpy(), theirs(x)[0].asnumpy(), atol=1e-5)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_it_equals_torch(bidirectional):
    """Values and gradients, on rows of different lengths, weights taken over by name."""
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install ascend_fixes[parity]")
    length, lengths = 13, np.array([13, 1, 6], np.int32)  # three turns of the loop and a rest
    layer = LSTM(WIDTH, HIDDEN, bidirectional=bidirectional)
    twin = torch.nn.LSTM(WIDTH, HIDDEN, bidirectional=bidirectional)
    parameters = {parameter.name: parameter for parameter in layer.trainable_params()}
    for name, parameter in parameters.items():
        getattr(twin, name).data = torch.tensor(parameter.asnumpy())
    rng, directions = np.random.default_rng(0), 1 + bidirectional
    x = rng.standard_normal((length, BATCH, WIDTH)).astype(np.float32)
    h, c = rng.uniform(-1, 1, (2, directions, BATCH, HIDDEN)).astype(np.float32)
    weighting = rng.standard_normal((length, BATCH, HIDDEN * directions)).astype(np.float32)
    packed = torch.nn.utils.rnn.pack_padded_sequence(torch.tensor(x), torch.tensor(lengths), enforce_sorted=False)
    outputs, last = twin(packed, (torch.tensor(h), torch.tensor(c)))
    wanted, _ = torch.nn.utils.rnn.pad_packed_sequence(outputs, total_length=length)
    (wanted * torch.tensor(weighting)).sum().backward()
    inputs = (Tensor(x), (Tensor(h), Tensor(c)), Tensor(lengths))
    got, states = layer(*inputs)
    assert relative(got, wanted.detach().numpy()) <= 1e-5
    assert all(relative(one, other.detach().numpy()) <= 1e-5 for one, other in zip(states, last))
    for name, gradient in zip(parameters, Gradients(layer)(Tensor(weighting), *inputs)):
        assert relative(gradient, getattr(twin, name).grad.numpy()) <= 1e-5, name
