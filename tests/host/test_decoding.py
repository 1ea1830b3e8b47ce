"""Viterbi and beam search against exhaustive search, greedy search and plain loops."""

from __future__ import annotations

import itertools

import mindspore
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mindspore import Tensor, nn, ops

from ascend_fixes.host import DecodingError, beam_search, viterbi

# --- Viterbi -------------------------------------------------------------------------------------


def path_score(path, scores, transitions, start, end):
    if not path:
        return 0.0
    total = start[path[0]] + end[path[-1]] + sum(scores[step][tag] for step, tag in enumerate(path))
    return total + sum(transitions[a][b] for a, b in zip(path, path[1:]))


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 3), st.integers(0, 2**32 - 1), st.booleans())
def test_viterbi_is_exhaustive_search(batch, steps, tags, seed, forbid):
    random = np.random.default_rng(seed)
    scores, transitions = random.normal(size=(batch, steps, tags)), random.normal(size=(tags, tags))
    if forbid:
        transitions[random.random((tags, tags)) < 0.3] = -np.inf
    start, end = random.normal(size=tags), random.normal(size=tags)
    lengths = random.integers(0, steps + 1, batch)
    paths, best = viterbi(scores, transitions, lengths, start, end, fill=-1)
    assert paths.dtype == np.int32
    for row, length in enumerate(lengths):
        every = itertools.product(range(tags), repeat=int(length))
        highest = max(path_score(path, scores[row], transitions, start, end) for path in every)
        found = paths[row, :length].tolist()
        assert best[row] == pytest.approx(highest, abs=1e-12)
        assert path_score(found, scores[row], transitions, start, end) == pytest.approx(highest, abs=1e-12)
        assert (paths[row, length:] == -1).all()


def loop_viterbi(scores, transitions, length):
    """What a port writes: one sentence, one tag at a time."""
    total, back = list(scores[0]), []
    for step in range(1, length):
        row, pointers = [], []
        for tag in range(len(total)):
            candidates = [total[before] + transitions[before][tag] for before in range(len(total))]
            pointers.append(candidates.index(max(candidates)))
            row.append(max(candidates) + scores[step][tag])
        total, back = row, [*back, pointers]
    path = [total.index(max(total))]
    for pointers in reversed(back):
        path.append(pointers[path[-1]])
    return path[::-1]


def test_viterbi_is_what_a_loop_finds():
    random = np.random.default_rng(0)
    scores = random.normal(size=(128, 60, 20)).astype(np.float32)
    transitions = random.normal(size=(20, 20)).astype(np.float32)
    lengths = random.integers(1, 61, 128)
    as_lists = scores.tolist()
    slow = [loop_viterbi(row, transitions.tolist(), length) for row, length in zip(as_lists, lengths.tolist())]
    paths, _ = viterbi(scores, transitions, lengths)
    assert [path[:length].tolist() for path, length in zip(paths, lengths)] == slow


def test_viterbi_takes_tensors_and_empty_batches():
    paths, best = viterbi(Tensor(np.zeros((2, 3, 4), np.float16)), Tensor(np.zeros((4, 4), np.float32)))
    assert paths.tolist() == [[0, 0, 0]] * 2 and best.dtype == np.float32
    assert viterbi(np.zeros((0, 3, 4)), np.zeros((4, 4)))[0].shape == (0, 3)
    assert viterbi(np.zeros((2, 0, 4)), np.zeros((4, 4)))[1].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros((2, 3)), np.zeros((3, 3))), "scores has shape"),
        ((np.zeros((2, 3, 4)), np.zeros((3, 3))), "transitions have shape"),
        ((np.zeros((2, 3, 4)), np.zeros((4, 4)), [1]), "lengths are"),
        ((np.zeros((2, 3, 4)), np.zeros((4, 4)), [1, 4]), "a length is 4"),
        ((np.zeros((2, 3, 4)), np.zeros((4, 4)), [-1, 2]), "a length is -1"),
        ((np.zeros((2, 3, 4)), np.zeros((4, 4)), [1.0, 2.0]), "float64"),
        ((np.full((1, 1, 1), np.nan), np.zeros((1, 1))), r"NaN at \(0, 0, 0\)"),
        ((np.zeros((1, 1, 2)), np.zeros((2, 2)), None, np.zeros(3)), "start has shape"),
    ],
)
def test_wrong_scores_are_named(arguments, message):
    with pytest.raises(DecodingError, match=message):
        viterbi(*arguments)


# --- beam search -----------------------------------------------------------------------------------


def model(words, depth, seed):
    """Log probabilities of the next token after every prefix, from a table; the state is the prefix's number."""
    table = np.random.default_rng(seed).normal(size=(words ** (depth + 1), words)) * 2

    def step(tokens, state):
        number = (state[0] * words + tokens.asnumpy()) % len(table)
        return table[number], (number,)

    return step, table


def normalised(logits):
    return logits - np.log(np.exp(logits).sum())


def every_hypothesis(table, words, first, number, end, length, penalty):
    """All sequences that end, or reach the length, with their scores."""
    found, open_ = [], [((), (number * words + first) % len(table), 0.0)]
    while open_:
        tokens, place, score = open_.pop()
        for token, value in enumerate(normalised(table[place])):
            extended, total = (*tokens, token), score + value
            if token == end or len(extended) == length:
                found.append((total / ((5 + len(extended)) / 6) ** penalty, extended))
            else:
                open_.append((extended, (place * words + token) % len(table), total))
    return sorted(found, reverse=True)


@settings(max_examples=40)
@given(
    st.integers(2, 3),
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(0, 999),
    st.booleans(),
    st.sampled_from([0.0, 0.6, -0.5]),
)
def test_a_wide_beam_is_exhaustive_search(words, length, batch, seed, early, penalty):
    step, table = model(words, length, seed)
    states, first = np.arange(batch), np.arange(batch) % words
    beam = words**length + 3
    result = beam_search(step, (states,), beam, length, first, 0, penalty, n_best=beam, early_stop=early)
    for row in range(batch):
        expected = every_hypothesis(table, words, int(first[row]), row, 0, length, penalty)
        kept = result.lengths[row] > 0
        assert kept.sum() == len(expected)
        np.testing.assert_allclose(result.scores[row][kept], [score for score, _ in expected], atol=1e-9)
        best = tuple(result.tokens[row, 0, : result.lengths[row, 0]].tolist())
        assert best == expected[0][1]
        assert (result.tokens[row, 0, result.lengths[row, 0] :] == 0).all()


@given(st.integers(2, 6), st.integers(1, 8), st.integers(0, 999), st.booleans())
def test_a_beam_of_one_is_greedy_search(words, length, seed, early):
    step, table = model(words, 3, seed)
    result = beam_search(step, (np.arange(3),), 1, length, np.array([1, 0, 1]), 1, early_stop=early)
    for row, first in enumerate([1, 0, 1]):
        tokens, place = [], (row * words + first) % len(table)
        while len(tokens) < length and (not tokens or tokens[-1] != 1):
            tokens.append(int(table[place].argmax()))
            place = (place * words + tokens[-1]) % len(table)
        found = result.tokens[row, 0, : result.lengths[row, 0]].tolist()
        if early:
            assert found == tokens
        else:  # a longer hypothesis may not score better without normalisation
            assert result.scores[row, 0] >= -1e9 and (found == tokens or tokens[-1] == 1)


@given(st.integers(1, 4), st.integers(1, 6), st.integers(0, 99))
def test_scores_are_those_of_the_tokens_and_sorted(beam, length, seed):
    words = 5
    step, table = model(words, 3, seed)
    result = beam_search(step, (np.arange(2),), beam, length, 2, 0, 0.7, n_best=beam)
    for row in range(2):
        for rank in range(beam):
            tokens, place, total = result.tokens[row, rank], (row * words + 2) % len(table), 0.0
            count = result.lengths[row, rank]
            for token in tokens[:count]:
                total += normalised(table[place])[token]
                place = (place * words + token) % len(table)
            if count:
                assert result.scores[row, rank] == pytest.approx(total / ((5 + count) / 6) ** 0.7)
                assert token == 0 or count == length
        assert (np.diff(result.scores[row][np.isfinite(result.scores[row])]) <= 1e-12).all()
        kept = [tuple(tokens[:count]) for tokens, count in zip(result.tokens[row], result.lengths[row]) if count]
        assert len(set(kept)) == len(kept)


class Step(nn.Cell):
    """One step of a GRU language model, the static graph that beam search drives."""

    def __init__(self):
        super().__init__()
        mindspore.set_seed(1)
        self.embedding = nn.Embedding(7, 5)
        self.gru = nn.GRUCell(5, 6)
        self.out = nn.Dense(6, 7)

    def construct(self, tokens, state):
        hidden = self.gru(self.embedding(tokens), state["hidden"])
        return self.out(hidden) * 4, {"hidden": hidden, "context": state["context"]}


def test_a_cell_is_driven_with_one_graph_whatever_happens():
    step = Step()

    def drive(tokens, state):
        hidden = step.gru(step.embedding(tokens), state["hidden"])
        return step.out(hidden) * 4, {"hidden": hidden, "context": state["context"]}

    hidden = np.random.default_rng(0).normal(size=(3, 6)).astype(np.float32)
    state = {"hidden": Tensor(hidden), "context": Tensor(np.arange(3), mindspore.int32)}
    result = beam_search(step, state, 4, 9, 1, 0, 0.6, n_best=2)
    assert len(step.compile_cache) == 1 and result.steps <= 9
    one_by_one = [
        beam_search(drive, {"hidden": Tensor(hidden[row : row + 1]), "context": None}, 4, 9, [1], 0, 0.6, n_best=2)
        for row in range(3)
    ]
    np.testing.assert_allclose(result.scores, np.concatenate([one.scores for one in one_by_one]), rtol=1e-4)
    np.testing.assert_array_equal(result.tokens, np.concatenate([one.tokens for one in one_by_one]))


@pytest.mark.parametrize("start", [1, [1, 1, 1]])
def test_a_state_whose_batch_is_another_axis_is_searched_as_one_whose_first_it_is(start):
    random = np.random.default_rng(0)
    table, first = random.normal(size=(9, 7)), random.integers(0, 9, 3)

    def scores(tokens, number):
        return table[number], (number * 7 + tokens.asnumpy() + 1) % 9

    def plain(tokens, state):
        found, number = scores(tokens, state[0])
        return found, (number,)

    def layered(tokens, state):
        assert state["fixed"].shape == (5,) and state["cache"].shape == (2, len(tokens), 4)
        found, number = scores(tokens, state["cache"][0, :, 0])
        return found, {**state, "cache": np.broadcast_to(number[:, None], (2, len(number), 4)).copy()}

    wanted = beam_search(plain, (first,), 4, 6, start, 0, n_best=2)
    state = {"cache": np.broadcast_to(first[:, None], (2, 3, 4)), "fixed": np.zeros(5)}
    found = beam_search(layered, state, 4, 6, start, 0, n_best=2, state_axes={"cache": 1, "fixed": None})
    np.testing.assert_array_equal(found.tokens, wanted.tokens)
    np.testing.assert_allclose(found.scores, wanted.scores)


def layered_step(tokens, state):
    """Two layers, then the batch; as a recurrent cell checks it."""
    if state.shape != (2, len(tokens), 4):
        raise ValueError(f"hidden state of shape {state.shape}")
    return np.zeros((len(tokens), 5)), state


@pytest.mark.parametrize("start, batch", [(1, 3), ([1, 1], 2), (1, 2)])
def test_a_state_whose_first_axis_is_not_the_batch_is_refused_with_the_remedy(start, batch):
    with pytest.raises(DecodingError, match=r"the first call of step failed .*hidden state.*pass state_axes="):
        beam_search(layered_step, np.zeros((2, batch, 4)), 3, 4, start, 0)
    assert beam_search(layered_step, np.zeros((2, batch, 4)), 3, 4, start, 0, state_axes=1).steps > 0


def test_an_empty_batch_has_no_hypotheses():
    result = beam_search(
        lambda tokens, state: (tokens, state), np.zeros((0, 1)), 2, 3, np.zeros(0, np.int32), 0, n_best=2
    )
    assert result.tokens.shape == (0, 2, 3) and result.scores.shape == (0, 2) and result.steps == 0


def test_early_stop_saves_steps():
    def ending(tokens, state):
        return np.tile([3.0, 1.0, 0.0], (len(tokens.asnumpy()), 1)), state

    few = beam_search(ending, np.zeros((2, 1)), 2, 50, 1, 0)
    assert few.steps < 5 and (few.lengths == 1).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"beam": 0}, "beam=0"),
        ({"n_best": 3}, "n_best=3"),
        ({"max_length": 0}, "max_length=0"),
        ({"end": 9}, "end=9 is not a token"),
        ({"state": np.zeros((3, 1)), "start": [1, 1]}, r"shape \(3, 1\)"),
        ({"state": None, "start": 1}, "pass start of shape"),
        ({"state": (np.zeros((2, 1)), np.zeros((3, 2))), "start": 1}, r"batch axes of \[2, 3\] rows"),
        ({"state": np.zeros((2, 1)), "state_axes": 2}, r"batch axes of \[-1\] rows"),
        ({"state": (np.zeros((2, 1)),), "state_axes": (0, 1)}, r"state_axes=\(0, 1\) has not the form"),
        ({"state": {"a": np.zeros((2, 1))}, "state_axes": {"b": 0}}, "has not the form"),
        ({"state": np.zeros((2, 1)), "state_axes": "0"}, "state_axes has '0'"),
        ({"step": lambda tokens, state: (np.zeros((1, 5)), state)}, "step 1 returned scores of shape"),
        ({"step": lambda tokens, state: (np.full((4, 5), np.nan), state)}, "NaN for row 0"),
    ],
)
def test_wrong_use_of_beam_search_is_named(change, message):
    arguments = {
        "step": lambda tokens, state: (np.zeros((4, 5)), state),
        "state": np.zeros((2, 1)),
        "beam": 2,
        "max_length": 3,
        "start": 1,
        "end": 0,
    }
    with pytest.raises(DecodingError, match=message):
        beam_search(**{**arguments, **change})


def test_gathering_keeps_tensors_on_their_side():
    seen = []

    def step(tokens, state):
        seen.append(type(state[0]))
        return ops.zeros((4, 5), mindspore.float32), state

    beam_search(step, (Tensor(np.zeros((2, 3), np.float32)),), 2, 2, 1, 0)
    assert set(seen) == {Tensor}
