"""`fusion.Attention` against float64 and what a newcomer writes, and what a mask has to keep out."""

from __future__ import annotations

import functools

import mindspore as ms
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mindspore import Tensor, nn, ops
from recurrent_references import attention, relative

from ascend_fixes import _mindspore, amp
from ascend_fixes.fusion import Attention
from ascend_fixes.fusion._layers import LayerError
from examples.common.transformer import PlainAttention as Written

BATCH, HEADS, QUERIES, KEYS, SIZE, WIDTH = 3, 2, 5, 7, 4, 6
WEIGHTS = (BATCH, HEADS, QUERIES, KEYS)


class Gradients(nn.Cell):
    """Of the weighted sum, by all inputs."""

    def __init__(self, layer: nn.Cell) -> None:
        super().__init__(auto_prefix=False)
        self.layer, self.gradient = layer, ops.GradOperation(get_all=True)

    def weighted(self, weighting: Tensor, *inputs: Tensor) -> Tensor:
        return (self.layer(*inputs) * weighting).sum()

    def construct(self, *inputs: Tensor):
        return self.gradient(self.weighted)(*inputs)[1:4]


@functools.cache
def gradients(layer: type[nn.Cell]) -> Gradients:
    return Gradients(layer())


def drawn(seed: int, scale: float = 1.0, queries: int = QUERIES) -> list[np.ndarray]:
    """Query, key and value."""
    random = np.random.default_rng(seed)
    shapes = (BATCH, HEADS, queries, SIZE), (BATCH, HEADS, KEYS, SIZE), (BATCH, HEADS, KEYS, WIDTH)
    return [(random.standard_normal(shape) * scale).astype(np.float32) for shape in shapes]


def lengths(seed: int, least: int = 1) -> np.ndarray:
    """(batch, keys) bool: the keys of every row that count."""
    return np.arange(KEYS) < np.random.default_rng(seed).integers(least, KEYS + 1, BATCH)[:, None]


def spread(mask: np.ndarray) -> np.ndarray:
    """A mask of keys in the weights' shape."""
    return np.broadcast_to(mask[:, None, None], WEIGHTS)


@pytest.mark.parametrize(("kind", "bound"), [(ms.float32, 1e-5), (ms.float16, 3e-3)])
@pytest.mark.parametrize("form", ["none", "keys", "causal", "numbers", "all"])
def test_values_are_those_of_float64(form, kind, bound):
    masks = {
        "none": (None, np.ones(WEIGHTS, bool)),
        "keys": (lengths(1), spread(lengths(1))),
        "causal": (
            np.tri(QUERIES, KEYS, dtype=bool)[None, None],
            np.broadcast_to(np.tri(QUERIES, KEYS, dtype=bool), WEIGHTS),
        ),
        "numbers": (lengths(2).astype(np.float32), spread(lengths(2))),
        "all": ((np.random.default_rng(3).random(WEIGHTS) < 0.6).astype(np.int32),) * 2,
    }
    mask, full = masks[form]
    arrays = [one.astype(np.float16) for one in drawn(0)] if kind == ms.float16 else drawn(0)
    found = Attention()(*map(Tensor, arrays), None if mask is None else Tensor(mask))
    assert found.dtype == kind and relative(found, attention(*arrays, full > 0)) <= bound


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.1, 1.0, 5.0]), st.booleans())
def test_gradients_are_those_of_what_is_written_out(seed, scale, of_keys):
    """By query, key and value; of keys of rows, and of keys of every query; with weights dropped."""
    random = np.random.default_rng(seed)
    full = spread(lengths(seed)) if of_keys else np.maximum(random.random(WEIGHTS) < 0.6, np.arange(KEYS) == 0)
    keep = ((random.random(WEIGHTS) < 0.8) / 0.8).astype(np.float32)
    weighting = random.standard_normal((BATCH, HEADS, QUERIES, WIDTH)).astype(np.float32)
    inputs = [Tensor(one) for one in (weighting, *drawn(seed, scale))]
    given_mask = Tensor(lengths(seed) if of_keys else full)
    mine = gradients(Attention)(*inputs, given_mask, Tensor(keep))
    others = gradients(Written)(*inputs, Tensor(full.astype(np.float32)), Tensor(keep))
    largest = max(np.abs(one.asnumpy()).max() for one in others)
    assert max(np.abs(a.asnumpy() - b.asnumpy()).max() for a, b in zip(mine, others)) <= 1e-5 * largest


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 3, 6]), st.sampled_from(["none", "keys", "queries"]))
def test_heads_that_share_a_key_are_as_if_it_were_repeated(seed, shared, form):
    """Value and gradients, of which those of a key and a value are the sums over the heads that they serve."""
    random, heads = np.random.default_rng(seed), 6
    query, key, value, weighting = (
        random.standard_normal((BATCH, own, length, size)).astype(np.float32)
        for own, length, size in (
            (heads, QUERIES, SIZE),
            (heads // shared, KEYS, SIZE),
            (heads // shared, KEYS, WIDTH),
            (heads, QUERIES, WIDTH),
        )
    )
    every = np.maximum(random.random((BATCH, heads, QUERIES, KEYS)) < 0.6, np.arange(KEYS) == 0)
    mask = {"none": [], "keys": [Tensor(lengths(seed))], "queries": [Tensor(every)]}[form]
    own = [Tensor(one) for one in (query, key, value)]
    repeated = [own[0], *(Tensor(np.repeat(one, shared, 1)) for one in (key, value))]
    layer = gradients(Attention).layer
    np.testing.assert_allclose(layer(*own, *mask).asnumpy(), layer(*repeated, *mask).asnumpy(), rtol=0, atol=1e-5)
    found, wanted = (gradients(Attention)(Tensor(weighting), *inputs, *mask) for inputs in (own, repeated))
    for one, many in zip(found, wanted):
        summed = many.asnumpy().reshape(*one.shape[:2], -1, *one.shape[2:]).sum(2)
        np.testing.assert_allclose(one.asnumpy(), summed, rtol=0, atol=1e-5 * max(1, np.abs(summed).max()))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([np.nan, np.inf, -3e38, 77.0]))
def test_what_stands_in_padding_changes_nothing(seed, garbage):
    """Neither the result nor a gradient, to the last bit."""
    query, key, value = drawn(seed)
    mask = lengths(seed, 0)
    gone = ~mask[:, None, :, None]
    weighting = np.random.default_rng(seed).standard_normal((BATCH, HEADS, QUERIES, WIDTH)).astype(np.float32)
    results = []
    for filling in (np.float32(0.0), np.float32(garbage)):
        inputs = [Tensor(one) for one in (query, np.where(gone, filling, key), np.where(gone, filling, value), mask)]
        results.append([gradients(Attention).layer(*inputs), *gradients(Attention)(Tensor(weighting), *inputs)])
    for clean, spoilt in zip(*results):
        assert np.isfinite(spoilt.asnumpy()).all()
        np.testing.assert_array_equal(clean.asnumpy(), spoilt.asnumpy())


@pytest.mark.parametrize("of_keys", [True, False])
def test_a_query_without_a_key_finds_zeros_and_has_no_gradient(of_keys):
    mask = np.ones(WEIGHTS, bool)
    mask[1] = False
    inputs = [Tensor(one) for one in drawn(4)] + [Tensor(mask[:, 0, 0] if of_keys else mask)]
    assert not Attention()(*inputs).asnumpy()[1].any()
    weighting = Tensor(np.ones((BATCH, HEADS, QUERIES, WIDTH), np.float32))
    for gradient in gradients(Attention)(weighting, *inputs):
        assert not gradient.asnumpy()[1].any() and gradient.asnumpy()[0].any()
    written = Written()(*inputs[:3], Tensor(mask.astype(np.float32)), Tensor(np.ones(WEIGHTS, np.float32)))
    assert written.asnumpy()[1].any()  # the mean of what does not count


def test_scores_beyond_any_mask_that_is_added():
    """Where 1e9 is lost beside them, or float16 ends."""
    query, key, value = drawn(5)
    mask = lengths(5)
    arrays = [query * np.float32(1e8), key * np.float32(1e8), value]
    found = Attention()(*map(Tensor, arrays), Tensor(mask))
    assert relative(found, attention(*arrays, spread(mask))) <= 1e-5


def test_a_scale_of_ones_own():
    arrays = drawn(6)
    found = Attention(scale=0.125)(*map(Tensor, arrays))
    assert relative(found, attention(arrays[0] * 0.25, *arrays[1:], True)) <= 1e-5


def test_its_gradient_has_no_product_transposed_and_what_is_written_has():
    inputs = [Tensor(np.ones((BATCH, HEADS, QUERIES, WIDTH), np.float32)), *map(Tensor, drawn(7))]
    mask, keep = Tensor(np.ones(WEIGHTS, np.float32)), Tensor(np.ones(WEIGHTS, np.float32))
    found = {}
    for layer in (Attention, Written):
        cell = Gradients(layer())
        cell(*inputs, mask, keep)
        found[layer] = [name for name, _ in _mindspore.graph_nodes(cell)]
    assert "Transpose" not in found[Attention] and "Transpose" in found[Written]


def test_under_a_float16_policy_it_stays_in_range():
    class Tagger(nn.Cell):
        def __init__(self):
            super().__init__()
            self.enter, self.attention, self.leave = (
                nn.Dense(SIZE, HEADS * SIZE),
                Attention(),
                nn.Dense(HEADS * SIZE, 3),
            )

        def construct(self, x, mask):
            heads = self.enter(x).reshape(x.shape[0], x.shape[1], HEADS, SIZE).swapaxes(1, 2)
            found = self.attention(heads, heads, heads, mask)
            return self.leave(found.swapaxes(1, 2).reshape(x.shape[0], x.shape[1], -1)).mean()

    x = np.random.default_rng(8).standard_normal((BATCH, KEYS, SIZE)).astype(np.float32)
    step = amp.TrainStep(net := Tagger(), nn.SGD(net.trainable_params(), 0.01), policy=amp.Policy("compute=float16"))
    result = step(Tensor(x), Tensor(lengths(8)))
    assert result.updated and np.isfinite(result.loss.asnumpy())


SHAPES = {"query": (2, 3, 4, 5), "key": (2, 3, 6, 5), "value": (2, 3, 6, 7)}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"query": (2, 4, 5)}, r"query must be \(batch, heads, length, size\), not \(2, 4, 5\)"),
        (
            {"key": (2, 2, 6, 5), "value": (2, 2, 6, 7)},
            r"key must be \(2, 3, keys, 5\).* a number of heads that divides 3",
        ),
        ({"key": (2, 1, 6, 5)}, r"value must be \(2, 1, 6\) and a size"),
        ({"key": (2, 3, 6, 4)}, r"key must be \(2, 3, keys, 5\)"),
        ({"value": (2, 3, 5, 7)}, r"value must be \(2, 3, 6\) and a size"),
        (
            {"mask": (2, 4, 6)},
            r"mask must be \(batch, keys\), \(2, 6\), or broadcast to \(2, 3, 4, 6\), not \(2, 4, 6\)",
        ),
        ({"mask": (4, 6)}, r"mask must be .* not \(4, 6\)"),
        ({"mask": (2, 6), "keep": (2, 1, 4, 6)}, r"keep must be .*\(2, 3, 4, 6\), not \(2, 1, 4, 6\)"),
    ],
)
def test_shapes_that_do_not_fit_are_named(changed, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a failed compilation leaves a file
    inputs = {name: Tensor(np.ones(shape, np.float32)) for name, shape in {**SHAPES, **changed}.items()}
    with pytest.raises(LayerError, match=said):
        Attention()(*inputs.values())


@pytest.mark.parametrize("scale", [0, -1.0, True, float("nan"), float("inf"), "1"])
def test_a_scale_that_is_none_is_named(scale):
    with pytest.raises(LayerError, match="scale must be a positive number or None, not"):
        Attention(scale)
