from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ascend_fixes.shapes import Buckets, Grid, LengthError, SizesError

pairs_lists = st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=10)


def area(sizes, pairs):
    """The total area of pairs padded to the cheapest size that holds them."""
    total = 0
    for a, b in pairs:
        total += min((x * y for x, y in sizes if x >= a and y >= b), default=10**9)
    return total


@settings(max_examples=60)
@given(pairs_lists, st.integers(1, 4))
def test_fit_is_within_ten_percent_of_brute_force(pairs, k):
    candidates = list(itertools.product(sorted({a for a, _ in pairs}), sorted({b for _, b in pairs})))
    # With many candidates, all choices of two of them: k of them can only be better, so two bound them from above.
    counts = range(1, k + 1) if len(candidates) <= 16 else range(1, min(k, 2) + 1)
    best = min(area(chosen, pairs) for count in counts for chosen in itertools.combinations(candidates, count))
    grid = Grid.fit(pairs, k)
    assert len(grid) <= k
    assert area(grid.sizes, pairs) <= 1.1 * best


@settings(max_examples=60)
@given(pairs_lists)
@example([(6, 2), (4, 5), (2, 2), (1, 4), (1, 5), (2, 5), (4, 1), (6, 3), (3, 1)])  # none of the two holds the other
def test_two_sizes_are_the_best_two(pairs):
    candidates = list(itertools.product(sorted({a for a, _ in pairs}), sorted({b for _, b in pairs})))
    every = itertools.combinations_with_replacement(candidates, 2)
    assert area(Grid.fit(pairs, 2).sizes, pairs) == min(area(chosen, pairs) for chosen in every)


@settings(max_examples=30)
@given(pairs_lists, st.integers(1, 9))
def test_fit_is_never_worse_than_a_product_or_a_diagonal(pairs, k):
    best = area(Grid.fit(pairs, k).sizes, pairs)
    for rows in range(1, k + 1):
        firsts = Buckets.fit([a for a, _ in pairs], rows)
        seconds = Buckets.fit([b for _, b in pairs], max(1, k // rows))
        if rows * (k // rows) <= k and k // rows:
            assert best <= area(list(itertools.product(firsts, seconds)), pairs)
    square = Buckets.fit([max(pair) for pair in pairs], k, "quadratic")
    assert best <= area([(size, size) for size in square], pairs)


def corpus(n=20_000):
    rng = np.random.default_rng(0)
    source = np.clip(rng.lognormal(2.5, 0.5, n).astype(int), 1, 60)
    target = np.clip((source * rng.uniform(0.7, 1.4, n)).astype(int), 1, 60)
    return np.stack([source, target], 1)


@pytest.mark.parametrize("k", [1, 4, 8, 16])
def test_a_corpus_of_pairs_is_fitted_better_than_by_its_rivals(k):
    pairs = corpus()
    grid = Grid.fit(pairs, k)
    best = grid.waste(pairs)
    for rows in (r for r in (1, 2, 4, 8, 16) if r <= k):
        firsts, seconds = Buckets.fit(pairs[:, 0], rows), Buckets.fit(pairs[:, 1], k // rows)
        assert best <= Grid(itertools.product(firsts, seconds)).waste(pairs) * (1 + 1e-9)
    square = Buckets.fit(pairs.max(1), k, "quadratic")
    assert best <= Grid((size, size) for size in square).waste(pairs) * (1 + 1e-9)
    for rank in range(1, k + 1):
        chain = [tuple(np.quantile(pairs, i / rank, axis=0, method="higher").tolist()) for i in range(1, rank + 1)]
    assert best <= Grid(chain).waste(pairs) * (1 + 1e-9)


@given(pairs_lists, st.integers(1, 5), st.sampled_from([(1, 1), (2, 3), (8, 4)]))
def test_every_fitted_pair_is_held_by_the_least_area(pairs, k, multiple_of):
    grid = Grid.fit(pairs, k, multiple_of=multiple_of)
    for a, b in pairs:
        size = grid(a, b)
        assert size[0] >= a and size[1] >= b
        assert size[0] * size[1] == min(x * y for x, y in grid if x >= a and y >= b)
    assert all(a % multiple_of[0] == 0 and b % multiple_of[1] == 0 for a, b in grid)


def test_a_cost_of_ones_own_is_followed():
    pairs = [(1, 8)] * 10 + [(8, 1)] * 10 + [(8, 8)]
    assert set(Grid.fit(pairs, 2)) == {(1, 8), (8, 8)} or set(Grid.fit(pairs, 2)) == {(8, 1), (8, 8)}
    # Where only the first size costs, there is nothing to gain from the second.
    assert (1, 8) in Grid.fit(pairs, 2, cost=lambda a, b: float(a))


@given(pairs_lists, st.integers(1, 300), st.integers(1, 300))
def test_growing_holds_and_truncating_fits(pairs, first, second):
    grid = Grid.fit(pairs, 3)
    size = grid.grown(first, second)(first, second)
    assert size[0] >= first and size[1] >= second
    assert grid.truncated(first, second) in grid.sizes


@pytest.mark.parametrize(
    "call, said",
    [
        (lambda: Grid([]), "sizes is empty"),
        (lambda: Grid([(0, 3)]), r"sizes contain \(0, 3\)"),
        (lambda: Grid.fit([], 2), "pairs has shape"),
        (lambda: Grid.fit([(1, 2, 3)], 2), "pairs has shape"),
        (lambda: Grid.fit([(1.5, 2)], 2), "pairs has dtype"),
        (lambda: Grid.fit([(-1, 2)], 2), "pairs contain -1"),
        (lambda: Grid.fit([(1, 2)], 0), "k=0"),
        (lambda: Grid.fit([(1, 2)], 1, multiple_of=(0, 1)), "multiple_of"),
        (lambda: Grid.fit([(1, 2)], 1, cost=lambda a, b: float("inf")), "cost is not finite"),
        (lambda: Grid([(2, 2)]).waste([(0, 1)]), "no area"),
    ],
)
def test_wrong_use_is_one_clear_line(call, said):
    with pytest.raises(SizesError, match=said):
        call()


def test_the_error_names_lengths_largest_size_and_remedy():
    with pytest.raises(LengthError, match=r"lengths 5 x 5 are over every bucket; the largest is \(8, 4\): fit"):
        Grid([(4, 4), (8, 4)])(5, 5)


@pytest.mark.parametrize("epochs, fewest, most", [(0.001, 1, 1), (1000, 6, 6)])
def test_plan_buys_as_many_sizes_as_pay_for_themselves(epochs, fewest, most):
    pairs = corpus(2000)

    def seconds(grid):
        return epochs * sum(a * b * 1e-4 for a, b in (grid(*map(int, pair)) for pair in pairs)) + 3.0 * len(grid)

    grid = Grid.plan(pairs, lambda a, b: a * b * 1e-4, 3.0, epochs, max_sizes=6)
    assert fewest <= len(grid) <= most
    assert all(seconds(grid) <= seconds(Grid.fit(pairs, k)) * (1 + 1e-9) for k in range(1, 7))
    with pytest.raises(SizesError, match="max_sizes=0: no run to plan for"):
        Grid.plan(pairs, lambda a, b: 1.0, 3.0, max_sizes=0)
