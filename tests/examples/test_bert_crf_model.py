"""BERT-CRF's cells: the loop and `fusion.CRF` agree, padding changes nothing, tags are decoded right."""

from __future__ import annotations

import itertools

import mindspore as ms
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mindspore import Tensor

from examples.bert_crf.model import (
    BertCRF,
    Loss,
    Name,
    Sizes,
    Transitions,
    best_tags,
    best_tags_looping,
    entity_f1,
    names,
)

TAGS = 3
SIZES = Sizes(words=11, width=8, layers=1, heads=2, inner=12, places=16)
LENGTHS = np.array([4, 1, 3], np.int32)


def inputs(pieces, words, rows=3):
    """Three sentences of 4, 1 and 3 words; every word has two pieces but the last, which has one."""
    random = np.random.default_rng(0)
    words_ids, tags = random.integers(4, 11, (3, 9)), random.integers(0, TAGS, (3, 4))
    sizes = 2 * LENGTHS + 1
    inside, counted = np.arange(pieces) < sizes[:, None], np.arange(words) < LENGTHS[:, None]
    arrays = (
        np.where(inside, np.pad(words_ids, ((0, 0), (0, pieces - 9))), 7),
        inside.astype(np.float32),
        np.where(counted, 1 + 2 * np.arange(words), 0),
        LENGTHS,
        np.where(counted, np.pad(tags, ((0, 0), (0, words - 4))), 1),
    )
    arrays = [np.concatenate([a, np.zeros((rows - 3, *a.shape[1:]), a.dtype)]) for a in arrays]
    return [Tensor(a if a.dtype == np.float32 else a.astype(np.int32)) for a in arrays]


@pytest.fixture(scope="module")
def results():
    """Loss, gradients and emissions by (safe, padded): padded to more pieces, words and sentences of weight 0."""
    ms.set_context(mode=ms.GRAPH_MODE)
    found = {}
    for safe in (True, False):
        network = BertCRF(SIZES, TAGS, np.random.default_rng(1), safe)
        gradients = ms.value_and_grad(Loss(network), None, list(network.trainable_params()))
        for padded, sizes in ((False, (9, 4, 3)), (True, (12, 12, 4))):
            weights = Tensor(np.array([1, 1, 1, 0][: sizes[2]], np.float32))
            arrays = inputs(*sizes)
            loss, grads = gradients(*arrays, weights)
            emissions, losses = network(*arrays)
            found[safe, padded] = float(loss), [g.asnumpy() for g in grads], emissions.asnumpy(), losses.asnumpy()
        found[safe] = [parameter.name for parameter in network.get_parameters()]
    return found


def test_both_kinds_of_layers_have_the_same_parameters(results):
    assert results[True] == results[False]


@pytest.mark.parametrize(
    "first, second", [((True, False), (True, True)), ((True, False), (False, False)), ((False, False), (False, True))]
)
def test_padding_and_the_kind_of_layers_change_nothing(results, first, second):
    loss, gradients, emissions, losses = results[first]
    other_loss, other_gradients, other_emissions, other_losses = results[second]
    assert other_loss == pytest.approx(loss, rel=1e-5) and np.isfinite(other_losses).all()
    np.testing.assert_allclose(other_losses[:3], losses, rtol=1e-5)
    largest = max(np.abs(gradient).max() for gradient in gradients)
    for gradient, other in zip(gradients, other_gradients):
        np.testing.assert_allclose(other, gradient, atol=2e-5 * largest)
    for row, length in enumerate(LENGTHS):
        np.testing.assert_allclose(other_emissions[row, :length], emissions[row, :length], atol=1e-5)


def test_dropout_masks_act_and_ones_do_not(results):
    network = BertCRF(SIZES, TAGS, np.random.default_rng(1))
    hidden, weights = np.ones((4, 3, 9, 8), np.float32), np.ones((1, 3, 2, 9, 9), np.float32)
    arrays = inputs(9, 4)
    emissions, _ = network(*arrays, Tensor(hidden), Tensor(weights))
    np.testing.assert_allclose(emissions.asnumpy(), results[True, False][2], atol=1e-6)
    for place in range(4):
        dropped = hidden.copy()
        dropped[place, :, :, :4] = 0
        changed, _ = network(*arrays, Tensor(dropped), Tensor(weights))
        assert np.abs(changed.asnumpy() - emissions.asnumpy()).max() > 1e-3
    weights[..., :3] = 0
    changed, _ = network(*arrays, Tensor(hidden), Tensor(weights))
    assert np.abs(changed.asnumpy() - emissions.asnumpy()).max() > 1e-4


# --- from scores to names ----------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.lists(st.integers(1, 4), min_size=1, max_size=3))
def test_the_best_tags_are_the_best_of_all(seed, lengths):
    random, lengths = np.random.default_rng(seed), np.array(lengths)
    emissions = random.normal(size=(len(lengths), lengths.max(), TAGS)).astype(np.float32)
    scores = Transitions(random.normal(size=(TAGS, TAGS)), random.normal(size=TAGS), random.normal(size=TAGS))
    found = best_tags(emissions, scores, lengths)
    assert found == best_tags_looping(emissions, scores, lengths)
    for row, length in enumerate(lengths):
        assert tuple(found[row]) == max(
            itertools.product(range(TAGS), repeat=int(length)), key=lambda path: score(path, emissions[row], scores)
        )


def score(path, emissions, scores):
    between = sum(scores.between[pair] for pair in zip(path, path[1:]))
    return scores.start[path[0]] + scores.end[path[-1]] + between + sum(emissions[i, t] for i, t in enumerate(path))


def test_names_are_read_from_tags():
    tags = ["B-x", "I-x", "O", "I-y", "I-y", "B-y", "I-x", "B-x"]
    assert names(tags) == [Name("x", 0, 2), Name("y", 3, 5), Name("y", 5, 6), Name("x", 6, 7), Name("x", 7, 8)]


A_TAG = st.sampled_from(["O", "B-x", "I-x", "B-y", "I-y"])


@settings(deadline=None, max_examples=100)
@given(st.lists(st.lists(st.tuples(A_TAG, A_TAG), min_size=1, max_size=8), min_size=1, max_size=4))
def test_f1_is_seqevals(sentences):
    seqeval = pytest.importorskip("seqeval.metrics", reason="needs seqeval, which comes as source only")
    true, found = ([[pair[side] for pair in sentence] for sentence in sentences] for side in (0, 1))
    assert entity_f1(true, found) == pytest.approx(seqeval.f1_score(true, found, zero_division=0))


def test_f1_counts_whole_names():
    true = [["B-x", "I-x", "O"], ["B-y", "O", "O"]]
    assert entity_f1(true, true) == 1.0
    assert entity_f1(true, [["B-x", "O", "O"], ["B-y", "O", "O"]]) == 0.5  # half a name is none
    assert entity_f1(true, [["O"] * 3] * 2) == entity_f1([["O"]], [["O"]]) == 0.0
