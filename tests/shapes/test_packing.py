"""`shapes.pack`: no sample lost, no row too full, no more rows than are needed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ascend_fixes.shapes import LengthError, PackingError, pack

bins = st.integers(1, 30).flatmap(
    lambda width: st.tuples(st.lists(st.integers(1, width), min_size=1, max_size=9), st.just(width))
)


def fewest_rows(lengths, width, most):
    """By trying every row for every sample."""
    best = [len(lengths)]

    def put(position, rows):
        if len(rows) >= best[0]:
            return
        if position == len(lengths):
            best[0] = len(rows)
            return
        for i, (used, held) in enumerate(rows):
            if used + lengths[position] <= width and held < most and (used, held) not in rows[:i]:
                put(position + 1, [*rows[:i], (used + lengths[position], held + 1), *rows[i + 1 :]])
        put(position + 1, [*rows, (lengths[position], 1)])

    put(0, [])
    return best[0]


def whole(packing, lengths, width, most):
    assert sorted(np.concatenate(list(packing)).tolist()) == list(range(len(lengths)))
    for row in packing:
        assert 1 <= len(row) <= most
        assert sum(lengths[place] for place in row) <= width


@given(bins, st.integers(1, 9), st.one_of(st.none(), st.integers(0, 9)))
def test_few_samples_get_the_fewest_rows(case, most, seed):
    lengths, width = case
    packing = pack(lengths, width, most, seed)
    whole(packing, lengths, width, most)
    assert packing.optimal
    assert len(packing) == fewest_rows(sorted(lengths, reverse=True), width, most)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=400), st.integers(50, 80), st.integers(1, 20))
def test_many_samples_are_all_there_and_fit(lengths, width, most):
    packing = pack(lengths, width, most, seed=0)
    whole(packing, lengths, width, most)
    content = sum(lengths)
    assert packing.waste == pytest.approx(len(packing) * width / content - 1)
    assert len(packing) >= max(-(-content // width), -(-len(lengths) // most))
    # Best-fit decreasing needs at most 11/9 of the fewest rows and 4 more (Johnson 1973), where rows hold any number.
    unbounded = pack(lengths, width)
    assert len(unbounded) <= 11 / 9 * len(lengths) and len(unbounded) <= len(packing)


def test_best_fit_alone_would_need_one_row_more():
    lengths = [44, 24, 24, 22, 21, 17, 8, 8, 6, 6]  # best fit opens a third row
    assert len(pack(lengths, 61)) == fewest_rows(lengths, 61, 10) == 3
    lengths = [6, 5, 5, 4, 3, 3, 2, 2]
    assert len(pack(lengths, 10)) == 3 and pack(lengths, 10).optimal


def test_a_million_samples_are_packed_on_their_histogram():
    random = np.random.default_rng(0)
    lengths = np.clip(random.lognormal(4, 0.7, 1_000_000).astype(int) + 1, 1, 512)
    packing = pack(lengths, 512)
    assert np.array_equal(np.sort(packing.places), np.arange(len(lengths)))
    filled = np.add.reduceat(lengths[packing.places], packing.starts[:-1])
    assert filled.max() <= 512 and packing.waste < 0.01
    assert len(packing.kinds) < 5_000  # so few kinds of rows: that is why it does not take long


def test_a_further_epoch_has_rows_of_the_same_kinds_with_other_samples():
    lengths = np.random.default_rng(1).integers(1, 20, 200)
    first = pack(lengths, 40)
    one, same, other = first.shuffled(1), first.shuffled(1), first.shuffled(2)
    for packing in (one, other):
        whole(packing, lengths.tolist(), 40, first.max_samples)
        assert len(packing) == len(first)
    assert np.array_equal(one.places, same.places) and not np.array_equal(one.places, other.places)


def test_rows_are_read_like_a_list():
    packing = pack([4, 3, 2], 6)
    assert [row.tolist() for row in packing] == [packing[0].tolist(), packing[1].tolist()]
    assert packing[-1].tolist() == packing[1].tolist()
    with pytest.raises(IndexError):
        packing[2]


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        (([3, 9], 8), LengthError, "sample 1 has length 9, longer than width=8"),
        (([3, 0], 8), LengthError, "sample 1 has length 0"),
        (([3, -2], 8), LengthError, "sample 1 has length -2"),
        (([], 8), PackingError, "lengths has shape"),
        (([[1, 2]], 8), PackingError, "lengths has shape"),
        (([1.5], 8), PackingError, "dtype float64"),
        (([1], 0), PackingError, "width=0"),
        (([1], True), PackingError, "width=True"),
        (([1], 8, 0), PackingError, "max_samples=0"),
        (([1], 8, 2.0), PackingError, "max_samples=2.0"),
    ],
)
def test_what_cannot_be_packed_is_named(arguments, error, said):
    with pytest.raises(error, match=said.replace("(", r"\(")):
        pack(*arguments)
