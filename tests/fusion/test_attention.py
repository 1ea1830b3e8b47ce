"""`fusion.AttentionGRU` against the loop that a newcomer writes and against float64, and what a layer in a loop has to keep."""

from __future__ import annotations

import functools

import mindspore as ms
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mindspore import ParameterTuple, Tensor, nn, ops
from recurrent_references import attention_gru, relative

from ascend_fixes import _mindspore
from ascend_fixes.fusion import AttentionGRU
from ascend_fixes.fusion._layers import LayerError
from examples.rnnsearch.model import AttentionGRU as Loop

BATCH, LENGTH, SOURCE, WIDTH, HIDDEN, CONTEXT, ATTENTION = 3, 9, 5, 2, 4, 3, 6  # two turns of the loop, and a rest


class Weighted(nn.Cell):
    """One number of states and contexts."""

    def __init__(self, layer: nn.Cell) -> None:
        super().__init__(auto_prefix=False)
        self.layer = layer

    def construct(
        self, ws: Tensor, wc: Tensor, x: Tensor, state: Tensor, annotations: Tensor, keys: Tensor, mask: Tensor
    ):
        states, contexts = self.layer(x, state, annotations, keys, mask)
        return (states * ws).sum() + (contexts * wc).sum()


class Gradients(nn.Cell):
    """Of that number, by the inputs and by the weights."""

    def __init__(self, layer: nn.Cell) -> None:
        super().__init__(auto_prefix=False)
        self.net, self.weights = Weighted(layer), ParameterTuple(layer.trainable_params())
        self.gradient = ops.GradOperation(get_all=True, get_by_list=True)

    def construct(self, *inputs: Tensor):
        return self.gradient(self.net, self.weights)(*inputs)


def drawn(rng: np.random.Generator, scale: float = 1.0, length: int = LENGTH) -> list[np.ndarray]:
    """Inputs of the layer; of every row of the source at least one counts."""
    mask = np.arange(SOURCE) < rng.integers(1, SOURCE + 1, BATCH)[:, None]
    shapes = (BATCH, length, WIDTH), (BATCH, HIDDEN), (BATCH, SOURCE, CONTEXT), (BATCH, SOURCE, ATTENTION)
    return [*((rng.standard_normal(shape) * scale).astype(np.float32) for shape in shapes), mask.astype(np.float32)]


@functools.cache
def pair() -> tuple[tuple[AttentionGRU, Loop], list[Gradients]]:
    made = AttentionGRU(WIDTH, HIDDEN, CONTEXT, ATTENTION), Loop(WIDTH, HIDDEN, CONTEXT, ATTENTION)
    redraw(made, 0)
    return made, [Gradients(one) for one in made]


def redraw(cells: tuple[nn.Cell, ...], seed: int) -> None:
    """New weights, the same for all."""
    rng = np.random.default_rng(seed)
    for same in zip(*(cell.get_parameters() for cell in cells)):
        assert len({parameter.name for parameter in same}) == 1
        value = rng.uniform(-0.6, 0.6, same[0].shape).astype(np.float32)
        for parameter in same:
            parameter.set_data(Tensor(value))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.1, 1.0, 3.0]))
def test_values_and_gradients_are_those_of_the_loop(seed, scale):
    layers, gradients = pair()
    rng = np.random.default_rng(seed)
    inputs = [Tensor(one) for one in drawn(rng, scale)]
    for got, wanted in zip(*(layer(*inputs) for layer in layers)):
        assert relative(got, wanted.asnumpy()) <= 1e-4  # the loop's own tanh is off by up to 1e-4
    weighting = [Tensor(rng.standard_normal((BATCH, LENGTH, size)).astype(np.float32)) for size in (HIDDEN, CONTEXT)]
    mine, others = (gradient(*weighting, *inputs) for gradient in gradients)
    # Without that of the mask, which is last: by it the loop's masked scores move by 1e9.
    mine, others = (
        [one.asnumpy() for one in (*by_inputs[:-1], *by_weights)] for by_inputs, by_weights in (mine, others)
    )
    largest = max(np.abs(other).max() for other in others)
    assert len(mine) == len(others) and max(np.abs(a - b).max() for a, b in zip(mine, others)) <= 1e-3 * largest


def test_values_are_those_of_float64_and_float16_is_near():
    (layer, _), _ = pair()
    redraw(pair()[0], 1)
    arrays = drawn(np.random.default_rng(1))
    wanted = attention_gru(*arrays, {p.name: p.asnumpy().astype(np.float64) for p in layer.get_parameters()})
    for kind, bound in ((ms.float32, 1e-5), (ms.float16, 1e-2)):
        found = layer(*(Tensor(one).astype(kind) for one in arrays))
        assert all(one.dtype == kind and relative(one, other) <= bound for one, other in zip(found, wanted))


def test_its_graph_does_not_grow_with_the_length_and_that_of_the_loop_does():
    counts = []
    for make in (AttentionGRU, Loop):
        for length in (16, 32):
            cell = make(WIDTH, HIDDEN, CONTEXT, ATTENTION)
            cell(*map(Tensor, drawn(np.random.default_rng(0), length=length)))
            counts.append(len(_mindspore.graph_nodes(cell)))
    assert counts[0] == counts[1] and counts[3] > 1.5 * counts[2]


def test_padding_changes_nothing():
    """Of the source, whatever stands there; and of the target, what comes before it."""
    (layer, _), _ = pair()
    x, state, annotations, keys, mask = drawn(np.random.default_rng(2))
    wanted = layer(*map(Tensor, (x, state, annotations, keys, mask)))
    spoilt = [np.where(mask[..., None] > 0, one, np.float32(77.0)) for one in (annotations, keys)]
    for got, other in zip(layer(*map(Tensor, (x, state, *spoilt, mask))), wanted):
        np.testing.assert_array_equal(got.asnumpy(), other.asnumpy())
    wider = [np.pad(one, [(0, 0), (0, 2), (0, 0)]) for one in (annotations, keys)]
    longer = np.pad(x, [(0, 0), (0, 3), (0, 0)], constant_values=9.0)
    padded = layer(*map(Tensor, (longer, state, *wider, np.pad(mask, [(0, 0), (0, 2)]))))
    for got, other in zip(padded, wanted):
        np.testing.assert_allclose(got.asnumpy()[:, :LENGTH], other.asnumpy(), atol=1e-6)


def test_a_source_of_which_nothing_counts_has_contexts_of_zeros_and_finite_gradients():
    (layer, _), gradients = pair()
    inputs = drawn(np.random.default_rng(3))
    inputs[-1][0] = 0.0
    _, contexts = layer(*map(Tensor, inputs))
    assert not contexts.asnumpy()[0].any() and contexts.asnumpy()[1:].any()
    weighting = [Tensor(np.ones((BATCH, LENGTH, size), np.float32)) for size in (HIDDEN, CONTEXT)]
    found = gradients[0](*weighting, *map(Tensor, inputs))
    assert all(np.isfinite(one.asnumpy()).all() for group in found for one in group)


def test_new_values_of_the_weights_reach_a_compiled_graph():
    layers, _ = pair()
    inputs = [Tensor(one) for one in drawn(np.random.default_rng(4))]
    for seed in range(2):
        redraw(layers, seed)
        for got, wanted in zip(*(layer(*inputs) for layer in layers)):
            np.testing.assert_allclose(got.asnumpy(), wanted.asnumpy(), atol=1e-4)


@pytest.mark.parametrize("sizes", [(0, 1, 1, 1), (1, True, 1, 1), (1, 1, 2.0, 1), (1, 1, 1, -3)])
def test_a_size_that_is_none_is_named(sizes):
    with pytest.raises(LayerError, match="_size must be a positive integer, not"):
        AttentionGRU(*sizes)
