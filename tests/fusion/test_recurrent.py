"""GRU, CRF and gated graph against float64: unfused here, fused in a process of its own."""

from __future__ import annotations

import copy
import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mindspore import Tensor, nn
from recurrent_references import Gradients, crf_by_enumeration, crf_marginals, crf_score, gated_graph, gru, relative

from ascend_fixes.fusion._crf import CRF
from ascend_fixes.fusion._graphs import GatedGraph
from ascend_fixes.fusion._layers import LayerError
from ascend_fixes.fusion._recurrent import GRU, GRUCell

LENGTH, BATCH, WIDTH, HIDDEN = 6, 3, 4, 16
# float16 rounds a sum of products of up to 25 (scale 30, weights up to 1/4) to 1/64 and more; where the sum ends near 0,
# so much of it comes out of a gate.
BOUNDS = {np.float32: 1e-5, np.float16: 5e-2}


def exact(*parameters):
    return [parameter.asnumpy().astype(np.float64) for parameter in parameters]


@functools.cache
def shared_gru():
    return GRU(WIDTH, HIDDEN, bidirectional=True)


@settings(max_examples=15)
@given(
    st.lists(st.integers(0, LENGTH), min_size=BATCH, max_size=BATCH),
    st.sampled_from([np.float32, np.float16]),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.1, 1.0, 30.0]),
)
def test_gru_freezes_and_zeroes_past_the_end(lengths, dtype, seed, scale):
    layer, rng = shared_gru(), np.random.default_rng(seed)
    x = (rng.standard_normal((LENGTH, BATCH, WIDTH)) * scale).astype(dtype)
    h = rng.uniform(-1, 1, (2, BATCH, HIDDEN)).astype(dtype)
    output, last = layer(Tensor(x), Tensor(h), Tensor(np.array(lengths, np.int32)))
    weights = [
        exact(*(group[side] for group in (layer.w_ih_list, layer.w_hh_list, layer.b_ih_list, layer.b_hh_list)))
        for side in (0, 1)
    ]
    sides = [
        gru(x.astype(np.float64), h[side].astype(np.float64), weights[side], lengths, bool(side)) for side in (0, 1)
    ]
    assert relative(output, np.concatenate([out for out, _ in sides], -1)) <= BOUNDS[dtype]
    assert relative(last, np.stack([state for _, state in sides])) <= BOUNDS[dtype]
    for row, size in enumerate(lengths):
        assert not output.asnumpy()[size:, row].any()


@pytest.mark.parametrize(
    "options", [{}, {"bidirectional": True, "num_layers": 2}, {"batch_first": True, "has_bias": False}]
)
def test_gru_is_a_drop_in(options):
    ours, theirs = GRU(WIDTH, HIDDEN, **options), nn.GRU(WIDTH, HIDDEN, **options)
    assert [p.name for p in ours.get_parameters()] == [p.name for p in theirs.get_parameters()]
    for mine, other in zip(ours.get_parameters(), theirs.get_parameters()):
        other.set_data(mine)
    rng = np.random.default_rng(0)
    x = Tensor(rng.standard_normal((LENGTH, LENGTH, WIDTH)).astype(np.float32))
    h = Tensor(rng.standard_normal((4 if options.get("num_layers") else 1, LENGTH, HIDDEN)).astype(np.float32))
    for got, wanted in zip(ours(x, h), theirs(x, h)):
        np.testing.assert_allclose(got.asnumpy(), wanted.asnumpy(), atol=5e-6)


def test_gru_cell_is_a_drop_in():
    ours, theirs = GRUCell(WIDTH, HIDDEN), nn.GRUCell(WIDTH, HIDDEN)
    assert [p.name for p in ours.get_parameters()] == [p.name for p in theirs.get_parameters()]
    for mine, other in zip(ours.get_parameters(), theirs.get_parameters()):
        other.set_data(mine)
    rng = np.random.default_rng(0)
    x, h = (Tensor(rng.standard_normal((BATCH, size)).astype(np.float32)) for size in (WIDTH, HIDDEN))
    np.testing.assert_allclose(ours(x, h).asnumpy(), theirs(x, h).asnumpy(), atol=5e-6)


@functools.cache
def shared_crf():
    return CRF(3)


@pytest.mark.slow
@settings(max_examples=8)
@given(
    st.sampled_from([1, 2, 5]),
    st.lists(st.integers(1, 5), min_size=2, max_size=2),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.1, 1.0, 100.0]),
)
def test_crf_equals_enumeration(length, lengths, seed, scale):
    crf, rng = shared_crf(), np.random.default_rng(seed)
    sizes = np.minimum(lengths, length).astype(np.int32)
    emissions = (rng.standard_normal((2, length, 3)) * scale).astype(np.float32)
    tags = rng.integers(0, 3, (2, length)).astype(np.int32)
    scores = exact(crf.transitions, crf.start, crf.end)
    full = emissions.astype(np.float64)
    partition, marginals, best = crf_by_enumeration(full, sizes, *scores)
    likelihood = partition - [crf_score(full[row], tags[row, : sizes[row]], *scores) for row in range(2)]
    got = crf(Tensor(emissions), Tensor(tags), Tensor(sizes)).asnumpy()
    assert np.abs(got - likelihood).max() <= 1e-5 * max(np.abs(partition).max(), 1)
    found = crf.marginals(Tensor(emissions), Tensor(sizes)).asnumpy()
    np.testing.assert_allclose(found, marginals, atol=1e-5 * max(scale, 1))
    decoded = crf.decode(Tensor(emissions), Tensor(sizes))
    for row in range(2):  # ties may fall either way: what counts is the score
        path = decoded[row, : sizes[row]]
        wanted = crf_score(full[row], best[row, : sizes[row]], *scores)
        assert abs(crf_score(full[row], path, *scores) - wanted) < 1e-9 * max(abs(wanted), 1)
        assert (decoded[row, sizes[row] :] == -1).all()


def test_crf_without_lengths_counts_every_step():
    crf, rng = shared_crf(), np.random.default_rng(0)
    emissions, tags = (
        Tensor(rng.standard_normal((2, 4, 3)).astype(np.float32)),
        Tensor(np.array([[0, 1, 2, 0]] * 2, np.int32)),
    )
    full = Tensor(np.array([4, 4], np.int32))
    np.testing.assert_allclose(crf(emissions, tags).asnumpy(), crf(emissions, tags, full).asnumpy(), rtol=1e-6)
    np.testing.assert_array_equal(crf.decode(emissions), crf.decode(emissions, full))


@settings(max_examples=8)
@given(
    st.lists(st.integers(1, 100), min_size=2, max_size=2),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.1, 1.0, 10.0, 100.0]),
)
def test_marginals_of_a_long_chain_keep_their_last_places(lengths, seed, scale):
    crf, rng = shared_crf(), np.random.default_rng(seed)
    emissions = (rng.standard_normal((2, 100, 3)) * scale).astype(np.float32)
    wanted = crf_marginals(emissions.astype(np.float64), lengths, *exact(crf.transitions, crf.start, crf.end))
    found = crf.marginals(Tensor(emissions), Tensor(np.array(lengths, np.int32))).asnumpy()
    assert np.abs(found - wanted).max() <= 3e-6


def test_marginals_are_compiled_once_and_a_copy_has_its_own():
    crf = CRF(3)
    emissions = Tensor(np.random.default_rng(0).standard_normal((2, 4, 3)).astype(np.float32))
    first = crf.marginals(emissions)
    graphs = [id(crf.__dict__["_ascend_fixes_marginals"]), *crf.__dict__["_ascend_fixes_marginals"].compile_cache]
    crf.marginals(emissions * 2.0)
    assert graphs == [
        id(crf.__dict__["_ascend_fixes_marginals"]),
        *crf.__dict__["_ascend_fixes_marginals"].compile_cache,
    ]
    assert len(crf.trainable_params()) == 3 and not list(crf.cells())[2:], "it is no part of the layer"
    twin = copy.deepcopy(crf)
    twin.transitions.set_data(twin.transitions + 5.0 * ms.ops.eye(3))
    assert np.abs(twin.marginals(emissions).asnumpy() - first.asnumpy()).max() > 0.01
    np.testing.assert_array_equal(crf.marginals(emissions).asnumpy(), first.asnumpy())


def test_crf_gradient_against_differences():
    crf, rng = CRF(3), np.random.default_rng(1)
    emissions = rng.standard_normal((2, 5, 3)).astype(np.float32)
    tags, sizes = rng.integers(0, 3, (2, 5)).astype(np.int32), np.array([5, 3], np.int32)
    inputs = (Tensor(emissions), Tensor(tags), Tensor(sizes))
    gradients = [g.asnumpy() for g in Gradients(crf)(Tensor(np.ones(2, np.float32)), *inputs)]
    values = exact(crf.transitions, crf.start, crf.end)

    def loss(scores):
        partition, *_ = crf_by_enumeration(emissions.astype(np.float64), sizes, *scores)
        return (partition - [crf_score(emissions[r], tags[r, : sizes[r]], *scores) for r in range(2)]).sum()

    for which, value in enumerate(values):
        for index in np.ndindex(value.shape):
            moved = []
            for step in (1e-5, -1e-5):
                changed = [v.copy() for v in values]
                changed[which][index] += step
                moved.append(loss(changed))
            assert abs((moved[0] - moved[1]) / 2e-5 - gradients[which][index]) < 1e-4


def test_the_graph_of_a_crf_grows_with_the_logarithm_of_the_length():
    from ascend_fixes import _mindspore

    counts = {}
    for length in (16, 128):
        crf = CRF(2)
        crf(Tensor(np.zeros((1, length, 2), np.float32)), Tensor(np.zeros((1, length), np.int32)))
        counts[length] = len(_mindspore.graph_nodes(crf))
    assert counts[128] < 2 * counts[16]


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_gated_graph(dtype):
    layer, rng = GatedGraph(8), np.random.default_rng(0)
    x, links = rng.standard_normal((2, 5, 8)).astype(dtype), rng.random((2, 5, 5)).astype(dtype)
    mask = np.array([[True] * 5, [True, True, False, False, False]])
    layer.to_float(ms.float16 if dtype is np.float16 else ms.float32)
    output = layer(Tensor(x), Tensor(links), Tensor(mask))
    weights = exact(layer.gathered.weight, layer.gathered.bias, layer.own.weight, layer.kept.weight)
    wanted = gated_graph(x.astype(np.float64), links.astype(np.float64), mask, weights, 2)
    assert relative(output, wanted) <= BOUNDS[dtype] and not output.asnumpy()[1, 2:].any()


@pytest.mark.parametrize(
    "make", [lambda: CRF(0), lambda: CRF(2.0), lambda: GatedGraph(0), lambda: GatedGraph(4, steps=True)]
)
def test_sizes_are_positive_integers(make):
    with pytest.raises(LayerError, match="must be a positive integer"):
        make()


@pytest.mark.slow
def test_fused_equals_the_reference_and_unfused(tmp_path):
    script = str(Path(__file__).parent / "layer_properties.py")
    env = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, script, "recurrent"], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1])["CRF float32"]["fused value"] <= 1e-6


@pytest.mark.parametrize("bidirectional", [False, True])
def test_gru_equals_torch(bidirectional):
    """Values and gradients, on rows of different lengths."""
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install ascend_fixes[parity]")
    length, lengths = 13, np.array([13, 1, 6], np.int32)  # three turns of the loop and a rest
    layer = GRU(WIDTH, HIDDEN, bidirectional=bidirectional)
    twin = torch.nn.GRU(WIDTH, HIDDEN, bidirectional=bidirectional)
    sides = [f"_l0{suffix}" for suffix in (["", "_reverse"] if bidirectional else [""])]
    names = [kind + side for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh") for side in sides]
    parameters = dict(zip(names, layer.trainable_params()))
    for name, parameter in parameters.items():
        assert parameter.name == name
        getattr(twin, name).data = torch.tensor(parameter.asnumpy())
    rng = np.random.default_rng(0)
    x = rng.standard_normal((length, BATCH, WIDTH)).astype(np.float32)
    h = rng.uniform(-1, 1, (len(sides), BATCH, HIDDEN)).astype(np.float32)
    weighting = rng.standard_normal((length, BATCH, HIDDEN * len(sides))).astype(np.float32)
    packed = torch.nn.utils.rnn.pack_padded_sequence(torch.tensor(x), torch.tensor(lengths), enforce_sorted=False)
    outputs, last = twin(packed, torch.tensor(h))
    wanted, _ = torch.nn.utils.rnn.pad_packed_sequence(outputs, total_length=length)
    (wanted * torch.tensor(weighting)).sum().backward()
    inputs = (Tensor(x), Tensor(h), Tensor(lengths))
    got, state = layer(*inputs)
    assert relative(got, wanted.detach().numpy()) <= 1e-5 and relative(state, last.detach().numpy()) <= 1e-5
    for name, gradient in zip(parameters, Gradients(layer)(Tensor(weighting), *inputs)):
        assert relative(gradient, getattr(twin, name).grad.numpy()) <= 1e-5, name


def test_what_stands_past_the_end_may_be_anything():
    rng = np.random.default_rng(0)
    x, sizes = rng.standard_normal((LENGTH, BATCH, WIDTH)).astype(np.float32), np.array([6, 2, 4], np.int32)
    spoilt = np.where(np.arange(LENGTH)[:, None, None] < sizes[:, None], x, np.float32("nan"))
    h = Tensor(np.zeros((2, BATCH, HIDDEN), np.float32))
    for got, wanted in zip(*(shared_gru()(Tensor(value), h, Tensor(sizes)) for value in (spoilt, x))):
        np.testing.assert_array_equal(got.asnumpy(), wanted.asnumpy())
    emissions = rng.standard_normal((2, 5, 3)).astype(np.float32)
    tags, sizes = Tensor(np.ones((2, 5), np.int32)), np.array([5, 2], np.int32)
    spoilt = np.where(np.arange(5)[:, None] < sizes[:, None, None], emissions, np.float32("inf"))
    got, wanted = (shared_crf()(Tensor(value), tags, Tensor(sizes)).asnumpy() for value in (spoilt, emissions))
    np.testing.assert_array_equal(got, wanted)


def test_the_graph_of_a_gru_does_not_grow_with_the_length():
    from ascend_fixes import _mindspore

    counts = []
    for length in (16, 64):
        cell = Gradients(GRU(2, 3))
        cell(
            Tensor(np.zeros((length, 1, 3), np.float32)),
            Tensor(np.zeros((length, 1, 2), np.float32)),
            Tensor(np.zeros((1, 1, 3), np.float32)),
        )
        counts.append(len(_mindspore.graph_nodes(cell)))
    assert counts[0] == counts[1]


class Stacked(nn.Cell):
    """Parameters before, between and behind the loops of two GRUs."""

    def __init__(self, kind):
        super().__init__()
        self.first, self.second = kind(3, 4, num_layers=2), kind(4, 4, bidirectional=True)
        self.last = nn.Dense(8, 2)

    def construct(self, x):
        return self.last(self.second(self.first(x)[0])[0])


@pytest.mark.slow
def test_new_values_of_the_weights_reach_a_compiled_graph():
    """A graph that first reads a Parameter behind a loop keeps the value that it was compiled with."""
    x = Tensor(np.random.default_rng(0).standard_normal((12, 2, 3)).astype(np.float32))
    ours, theirs = Stacked(GRU), Stacked(nn.GRU)
    for seed in range(2):
        random = np.random.default_rng(seed)
        for mine, other in zip(ours.get_parameters(), theirs.get_parameters()):
            value = Tensor(random.normal(0, 0.5, mine.shape).astype(np.float32))
            mine.set_data(value)
            other.set_data(value)
        np.testing.assert_allclose(ours(x).asnumpy(), theirs(x).asnumpy(), atol=1e-5)
