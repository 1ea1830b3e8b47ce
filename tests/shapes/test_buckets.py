from __future__ import annotations

import bisect
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ascend_fixes.shapes import Buckets, LengthError, SizesError, attention_cost

lengths_lists = st.lists(st.integers(0, 14), min_size=1, max_size=12)
costs = st.one_of(
    st.just(lambda size: float(size)),
    st.just(lambda size: float(size * size)),
    st.just(attention_cost(4)),
    # Any cost at all, falling ones included.
    st.lists(st.floats(0.1, 9), min_size=64, max_size=64).map(lambda table: lambda size: table[size]),
)


def total(sizes, lengths, cost):
    sizes = sorted(sizes)
    return sum(cost(sizes[bisect.bisect_left(sizes, n)]) for n in lengths)


def coverings(lengths, k, multiple_of=1):
    """Every choice of at most k sizes that holds all lengths."""
    candidates = sorted({max(1, -(-n // multiple_of)) * multiple_of for n in lengths})
    for count in range(1, min(k, len(candidates)) + 1):
        for sizes in itertools.combinations(candidates, count):
            if sizes[-1] >= max(lengths):
                yield sizes


@given(lengths_lists, st.integers(1, 5), costs, st.sampled_from([1, 2, 3, 8]))
def test_fit_is_the_brute_force_optimum(lengths, k, cost, multiple_of):
    buckets = Buckets.fit(lengths, k, cost, multiple_of)
    best = min(total(sizes, lengths, cost) for sizes in coverings(lengths, k, multiple_of))
    assert total(buckets.sizes, lengths, cost) == pytest.approx(best, rel=1e-9)
    assert len(buckets) <= k and all(size % multiple_of == 0 for size in buckets)


@given(lengths_lists, costs, st.floats(0, 30), st.floats(0.1, 20), st.sampled_from([1, 4]))
def test_plan_is_the_brute_force_optimum(lengths, cost, compile_cost, epochs, multiple_of):
    def run(sizes):
        return epochs * total(sizes, lengths, cost) + sum(compile_cost + 0.1 * size for size in sizes)

    buckets = Buckets.plan(lengths, cost, lambda size: compile_cost + 0.1 * size, epochs, multiple_of)
    best = min(run(sizes) for sizes in coverings(lengths, 99, multiple_of))
    assert run(buckets.sizes) == pytest.approx(best, rel=1e-9)


@given(lengths_lists, costs, st.floats(0, 30), st.integers(1, 4))
def test_a_bounded_plan_is_the_brute_force_optimum(lengths, cost, compile_cost, limit):
    def run(sizes):
        return 2 * total(sizes, lengths, cost) + sum(compile_cost + 0.1 * size for size in sizes)

    buckets = Buckets.plan(lengths, cost, lambda size: compile_cost + 0.1 * size, 2, max_sizes=limit)
    best = min(run(sizes) for sizes in coverings(lengths, limit))
    assert len(buckets) <= limit and run(buckets.sizes) == pytest.approx(best, rel=1e-9)


def test_plan_buys_more_graphs_for_a_longer_run():
    lengths = np.random.default_rng(0).integers(1, 65, 500)
    counts = [len(Buckets.plan(lengths, lambda n: n * 1e-3, 3.0, epochs)) for epochs in (1, 10, 1000)]
    assert counts[0] < counts[1] < counts[2]


@pytest.mark.parametrize("cost", [None, "quadratic", attention_cost(64)])
def test_fit_is_never_worse_than_the_usual_choices(cost):
    rng = np.random.default_rng(3)
    lengths = np.clip(rng.lognormal(3, 0.7, 5000).astype(int), 1, 300)
    price = cost if callable(cost) else {None: float, "quadratic": lambda n: float(n) ** 2}[cost]
    high = int(lengths.max())
    for k in (2, 4, 8, 9):
        powers = [2**p for p in range(20) if 2**p < 2 * high][-k:]
        rivals = [
            powers,
            Buckets.geometric(int(lengths.min()), high, k).sizes,
            [-(-high * i // k) for i in range(1, k + 1)],
            sorted({int(np.percentile(lengths, 100 * i / k)) for i in range(1, k)} | {high}),
        ]
        best = total(Buckets.fit(lengths, k, cost).sizes, lengths.tolist(), price)
        assert all(best <= total(sizes, lengths.tolist(), price) * (1 + 1e-12) for sizes in rivals)


def test_a_million_lengths_are_fitted():
    lengths = np.random.default_rng(0).integers(1, 4097, 1_000_000)
    buckets = Buckets.fit(lengths, 8)
    assert len(buckets) == 8 and buckets.sizes[-1] == 4096


@given(lengths_lists, st.integers(1, 5))
def test_a_call_is_the_smallest_size_that_holds(lengths, k):
    buckets = Buckets.fit(lengths, k)
    for n in lengths:
        assert buckets(n) == min(size for size in buckets if size >= n)
    assert buckets.assign(lengths).tolist() == [buckets(n) for n in lengths]
    if sum(lengths):
        assert buckets.waste(lengths) == pytest.approx(sum(map(buckets, lengths)) / sum(lengths) - 1)


@given(st.integers(1, 500), st.integers(0, 500), st.integers(1, 12), st.sampled_from([1, 8]))
def test_geometric_covers_its_range(low, more, k, multiple_of):
    buckets = Buckets.geometric(low, low + more, k, multiple_of)
    assert len(buckets) <= k and low + more <= buckets.sizes[-1] < low + more + multiple_of
    assert all(size % multiple_of == 0 for size in buckets)


def test_the_error_names_length_bucket_and_remedy():
    with pytest.raises(LengthError, match="length 9 is over the largest bucket 8: fit"):
        Buckets([4, 8])(9)
    with pytest.raises(LengthError, match="length 11"):
        Buckets([4, 8]).assign([3, 11, 2])


@given(st.lists(st.integers(1, 50), min_size=1), st.integers(1, 2000))
def test_grown_buckets_hold_the_length_and_keep_the_old_sizes(sizes, length):
    buckets = Buckets(sizes).grown(length)
    assert set(sizes) <= set(buckets) and buckets(length) >= length


@pytest.mark.parametrize(
    "call, said",
    [
        (lambda: Buckets([]), "sizes is empty"),
        (lambda: Buckets([4, 0]), "sizes contain 0"),
        (lambda: Buckets([4.5]), "sizes contain 4.5"),
        (lambda: Buckets.fit([], 3), "lengths has shape"),
        (lambda: Buckets.fit([3, -1], 3), "lengths contain -1"),
        (lambda: Buckets.fit([3.5], 3), "lengths has dtype float64"),
        (lambda: Buckets.fit([3], 0), "k=0"),
        (lambda: Buckets.fit([3], 1, "area"), "cost='area'"),
        (lambda: Buckets.fit([3], 1, lambda n: float("nan")), r"cost\(3\) is nan"),
        (lambda: Buckets.fit([3], 1, multiple_of=0), "multiple_of=0"),
        (lambda: Buckets.plan([3], float, -1.0), "none may be negative"),
        (lambda: Buckets.plan([3], float, 1.0, epochs=0), "epochs=0"),
        (lambda: Buckets.plan([3], float, 1.0, max_sizes=0), "max_sizes=0"),
        (lambda: Buckets.geometric(9, 3, 2), "low=9, high=3"),
        (lambda: Buckets([3]).waste([0, 0]), "no token at all"),
        (lambda: attention_cost(0), "hidden=0"),
    ],
)
def test_wrong_use_is_one_clear_line(call, said):
    with pytest.raises(SizesError, match=said) as error:
        call()
    assert "\n" not in str(error.value)
