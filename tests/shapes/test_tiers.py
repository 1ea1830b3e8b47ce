from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shapes_cells import Scorer, batch, copy_parameters, pooled_step

from ascend_fixes.shapes import AxesError, Buckets, GraphLimitError, bucketed, graphs, padding_counts
from ascend_fixes.shapes._tiers import SAMPLES, Tiers

BOTH = {"ids": 1, "mask": 1}


def simulated(sizes, compile_cost, static, dynamic):
    """The seconds that the rule pays for a sequence of sizes, all costs known, given the dynamic graph."""
    tiers, paid = Tiers(compile_seconds=[compile_cost]), 0.0
    tiers.speed_up = lambda: dynamic / static
    for size in sizes:
        # What a step of this size costs is known before its first one: measured times only refine it.
        tiers._dynamic_times.setdefault(size, tiers_times(dynamic))
        wanted = tiers.wants_static(size)
        if wanted:
            paid += static + (0.0 if size in tiers.static else compile_cost)
        else:
            paid += dynamic
        tiers.ran(size, wanted, static if wanted else dynamic, None)
    return paid


def tiers_times(seconds):
    from ascend_fixes.shapes._tiers import _Times

    return _Times(1, seconds)


@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=80),
    st.floats(0.01, 20),
    st.floats(0.05, 1),
    st.floats(1.0, 4.0),
)
def test_no_sequence_costs_more_than_twice_the_best_in_hindsight(sizes, compile_cost, static, slower):
    dynamic = static * slower
    best = 0.0
    for size in set(sizes):
        count = sizes.count(size)
        best += min(count * dynamic, count * static + compile_cost)
    assert simulated(sizes, compile_cost, static, dynamic) <= 2 * best * (1 + 1e-9)


def test_the_rule_waits_for_what_it_knows_nothing_about():
    tiers = Tiers()
    assert not tiers.wants_static("a")
    tiers.ran("a", False, 1.0, 3.0)
    assert tiers.compile_cost() == 3.0 and tiers.loss("a") == 0.5
    steps = 1
    while not tiers.wants_static("a"):
        tiers.ran("a", False, 1.0, None)
        steps += 1
    assert steps == 6
    tiers.ran("a", True, 0.25, 2.0)
    assert tiers.speed_up() == 4.0 and tiers.compile_cost() == 2.5 and tiers.wants_static("a")
    assert [tiers.wants_time("a", True) for _ in range(1)] == [SAMPLES > 1]


def test_a_run_that_tiers_ends_with_the_same_losses():
    steps = pooled_step(), pooled_step()
    copy_parameters(*steps)
    plain = bucketed(steps[0], BOTH, Buckets([4, 8]))
    tiered = bucketed(steps[1], BOTH, Buckets([4, 8]), tier="auto")
    rule = tiered.__dict__["_ascend_fixes_bucketing"].tiers
    losses = []
    for place, length in enumerate([3, 7, 4, 8, 3, 3, 6, 5, 2, 7] * 2):
        inputs = (*batch(length, seed=place), np.array([0, 2], np.int32))
        losses.append([float(plain(*inputs)), float(tiered(*inputs))])
        if place == 8:  # as if much had been lost: from here on each size has its own graph
            assert len(graphs(tiered)) == 1 and not rule.static
            rule.lost = dict.fromkeys(rule.lost, 1e6)
    np.testing.assert_allclose(*np.transpose(losses), rtol=1e-5)
    assert [graph.arguments["ids"] for graph in graphs(tiered)] == ["Int32[2, ?]", "Int32[2, 8]", "Int32[2, 4]"]
    assert padding_counts(tiered).dynamic == 9 and len(rule.compile_seconds) == 3
    for own, other in zip(tiered.get_parameters(), plain.get_parameters()):
        np.testing.assert_allclose(own.asnumpy(), other.asnumpy(), rtol=1e-4, atol=1e-6)


def test_rare_sizes_cost_one_graph_together():
    cell = bucketed(pooled_step(), BOTH, Buckets(range(1, 17)), tier="auto", max_graphs=1)
    for length in range(1, 17):
        cell(*batch(length), np.array([0, 2], np.int32))
    assert len(graphs(cell)) == 1 and padding_counts(cell).dynamic == 16
    with pytest.raises(GraphLimitError):
        cell(*batch(3, rows=3), np.array([0, 2, 1], np.int32))


def test_train_and_eval_are_told_apart_and_outputs_cut_back():
    cell = bucketed(Scorer(), BOTH, Buckets([4, 8]), outputs={0: 1}, tier="auto").set_train(False)
    quiet = cell(*batch(3))[0]
    assert quiet.shape == (2, 3, 3)
    cell.set_train(True)
    assert not np.allclose(cell(*batch(3))[0].asnumpy(), quiet.asnumpy())
    cell.set_train(False)
    assert np.allclose(cell(*batch(3))[0].asnumpy(), quiet.asnumpy(), atol=1e-6)
    assert {graph.phase for graph in graphs(cell)} == {"predict", "train"}  # a static graph may pay by now, too


def test_pynative_mode_has_no_tiers():
    cell = bucketed(Scorer().set_train(False), BOTH, Buckets([8]), outputs={0: 1}, tier="auto")
    ms.set_context(mode=ms.PYNATIVE_MODE)
    try:
        assert cell(*batch(3))[0].shape == (2, 3, 3)
    finally:
        ms.set_context(mode=ms.GRAPH_MODE)
    assert graphs(cell) == [] and padding_counts(cell).dynamic == 0


def test_an_unknown_tier_is_refused():
    with pytest.raises(AxesError, match="tier='dynamic' is unknown; choose static or auto"):
        bucketed(Scorer(), BOTH, Buckets([8]), tier="dynamic")
