"""RNNSearch: padding changes nothing, both kinds of layers agree, and its step drives a beam search."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from ascend_fixes import host
from examples.rnnsearch.model import Loss, RNNSearch, Sizes, Start, Step

WORDS, SIZES = 11, Sizes(6, 5, 4, 3)
LENGTHS = np.array([4, 1, 3])


def network(safe=True):
    return RNNSearch(WORDS, WORDS, np.random.default_rng(0), SIZES, safe)


def batch(width, garbage=0):
    """Three sentences whose words do not depend on the width; past their ends stands ``garbage``."""
    random = np.random.default_rng(1)
    words = [random.integers(1, WORDS, length) for length in LENGTHS]
    source = np.full((3, width), garbage, np.int32)
    for row, sentence in enumerate(words):
        source[row, : len(sentence)] = sentence
    mask = (np.arange(width) < LENGTHS[:, None]).astype(np.float32)
    return Tensor(source), Tensor(mask)


@pytest.fixture(scope="module")
def cells():
    ms.set_context(mode=ms.GRAPH_MODE)
    return {safe: network(safe) for safe in (True, False)}


def before():
    return Tensor(np.random.default_rng(2).integers(0, WORDS, (3, 3)).astype(np.int32))


@pytest.mark.parametrize("safe", [True, False])
def test_padding_changes_no_score(cells, safe):
    tight = cells[safe](*batch(4), before()).asnumpy()
    wide = cells[safe](*batch(7, garbage=5), before()).asnumpy()
    np.testing.assert_allclose(wide, tight, atol=2e-6)


def test_both_kinds_of_layers_agree(cells):
    scores = [cells[safe](*batch(4), before()).asnumpy() for safe in (True, False)]
    np.testing.assert_allclose(*scores, atol=2e-6)


def test_parameters_have_the_same_names(cells):
    names = [[parameter.name for parameter in cells[safe].get_parameters()] for safe in (True, False)]
    assert names[0] == names[1]


@pytest.mark.parametrize("safe", [True, False])
def test_annotations_end_and_the_decoder_starts_at_the_words(cells, safe):
    """A published port started from the last padded step, and its annotations went on past the end."""
    encoder = cells[safe].encoder
    wide, keys, start = (part.asnumpy() for part in encoder(*batch(7, garbage=5)))
    for row, length in enumerate(LENGTHS):
        assert not wide[row, length:].any() and not keys[row, length:].any()
        source, mask = (Tensor(part.asnumpy()[row : row + 1, :length]) for part in batch(4))
        alone, _, start_alone = (part.asnumpy() for part in encoder(source, mask))
        np.testing.assert_allclose(wide[row, :length], alone[0], atol=2e-6)
        np.testing.assert_allclose(start[row], start_alone[0], atol=2e-6)


def test_words_of_weight_zero_do_not_count(cells):
    loss = Loss(cells[True])
    random = np.random.default_rng(3)
    target = random.integers(0, WORDS, (3, 3)).astype(np.int32)
    weights = np.array([[1, 1, 1], [1, 0, 0], [1, 1, 0]], np.float32)
    inputs = (*batch(4), before())
    value = float(loss(*inputs, Tensor(target), Tensor(weights)))
    target[weights == 0] = 0
    assert float(loss(*inputs, Tensor(target), Tensor(weights))) == pytest.approx(value, rel=1e-6)
    scores = cells[True](*inputs).asnumpy().astype(np.float64)
    logs = scores - np.log(np.exp(scores).sum(-1, keepdims=True))
    right = np.take_along_axis(logs, target[..., None].astype(np.int64), -1)[..., 0]
    expected = -((0.9 * right + 0.1 * logs.mean(-1)) * weights).sum() / weights.sum()
    assert value == pytest.approx(expected, rel=1e-5)


def test_beam_search_of_one_follows_the_best_word(cells):
    """The decoder's step gives, word by word, what the whole decoder gives for the words that the search chose."""
    net = cells[True]
    start = Start(net)(*batch(4))
    found = host.beam_search(Step(net), start, 1, 5, start=np.zeros(3, np.int32), end=1)
    tokens = found.tokens[:, 0]
    fed = np.concatenate([np.zeros((3, 1), np.int32), tokens[:, :-1]], 1)
    best = net(*batch(4), Tensor(fed)).asnumpy().argmax(-1)
    for row, length in enumerate(found.lengths[:, 0]):
        np.testing.assert_array_equal(best[row, :length], tokens[row, :length])
