"""`shapes.bucketed`: padded, called, cut back; the life of the wrapper; training."""

from __future__ import annotations

import copy
import sys
import threading

import mindspore as ms
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mindspore import Tensor, nn
from shapes_cells import (
    Decorated,
    Graphs,
    Pairs,
    Pooled,
    PooledLoss,
    Same,
    Scorer,
    assert_same,
    batch,
    copy_parameters,
    pooled_step,
    tensors,
)

from ascend_fixes import amp
from ascend_fixes.shapes import (
    Buckets,
    GraphLimitError,
    Grid,
    LengthError,
    bucketed,
    graphs,
    limit_graphs,
    padding_counts,
)
from ascend_fixes.shapes._bucketed import bucketing_of

BOTH = {"ids": 1, "mask": 1}
SCORES = {0: 1, 1: {"states": 1, "pooled": {1: 1}}}


# --- inference ------------------------------------------------------------------------------------


def test_without_it_every_length_is_a_graph_and_with_it_every_bucket():
    bare = Pooled()
    for length in range(1, 6):
        bare(*tensors(*batch(length)))
    assert len(graphs(bare)) == 5
    cell = bucketed(Pooled(), BOTH, Buckets([3, 5]))
    for length in range(1, 6):
        cell(*batch(length))
    assert len(graphs(cell)) == 2


@settings(max_examples=25)
@given(st.integers(1, 16), st.booleans(), st.booleans())
def test_every_output_is_the_bare_cells_and_is_cut_back(scorer, wrapped, length, as_tensors, by_name):
    ids, mask = batch(length)
    given_ids, given_mask = tensors(ids, mask) if as_tensors else (ids, mask)
    found = wrapped(given_ids, mask=given_mask) if by_name else wrapped(given_ids, given_mask)
    # The reference runs in few graphs of its own: the same rows, alone in a batch padded by hand.
    reference = scorer(*tensors(np.pad(ids, ((0, 0), (0, 20 - length))), np.pad(mask, ((0, 0), (0, 20 - length)))))
    assert found[0].shape == (2, length, 3) and found[1]["states"].shape == (2, length, 8)
    assert_same(found[0], reference[0][:, :length])
    assert_same(found[1]["states"], reference[1]["states"][:, :length])
    assert_same(found[1]["pooled"][0], reference[1]["pooled"][0])
    assert_same(found[1]["pooled"][1], reference[1]["pooled"][1][:, :length])
    assert len(graphs(wrapped)) <= 3


def test_outputs_that_are_not_named_are_returned_as_they_are():
    cell = bucketed(Scorer().set_train(False), BOTH, Buckets([8]), outputs={1: {"pooled": {1: 1}}})
    scores, rest = cell(*batch(5))
    assert scores.shape == (2, 8, 3) and rest["states"].shape == (2, 8, 8) and rest["pooled"][1].shape == (2, 5)


@settings(max_examples=20)
@given(
    st.sampled_from(["int8", "int32", "int64", "uint8", "bool", "float16", "float32", "float64"]),
    st.integers(1, 6),
    st.integers(1, 3),
    st.sampled_from([0, 1]),
)
def test_padding_keeps_dtype_and_content_and_fills_with_the_pad_value(dtype, length, rows, pad):
    cell = bucketed(Same(), {"x": {0: "rows", 1: "length"}}, {"rows": Buckets([3]), "length": Buckets([6])}, pad=pad)
    values = np.random.default_rng(length).integers(0, 2, (rows, length)).astype(dtype)
    for given_values in (values, Tensor(values)):
        found = cell(given_values).asnumpy()
        assert found.dtype == values.dtype and found.shape == (3, 6)
        assert (found[:rows, :length] == values).all()
        found[:rows, :length] = pad
        assert (found == pad).all()


def test_bfloat16_is_padded_too():
    cell = bucketed(Same(), {"x": 1}, Buckets([4]), pad=-1e9, outputs=1)
    found = cell(Tensor(np.ones((2, 3)), ms.bfloat16))
    assert found.dtype == ms.bfloat16 and found.shape == (2, 3) and (found.float().asnumpy() == 1).all()
    assert cell.cell(Tensor(np.ones((2, 4)), ms.bfloat16)).shape == (2, 4) and len(graphs(cell)) == 1


def test_named_lengths_pad_several_axes_and_the_batch():
    cell = bucketed(
        Graphs(),
        {"nodes": {0: "batch", 1: "nodes"}, "adjacency": {0: "batch", 1: "nodes", 2: "nodes"}},
        {"batch": Buckets([4]), "nodes": Buckets([3, 6])},
        outputs={0: {0: "batch", 1: "nodes"}},
        max_graphs=2,
    )
    rng = np.random.default_rng(0)
    for rows, count in [(1, 2), (3, 5), (4, 6), (2, 3)]:
        nodes, adjacency = rng.random((rows, count), np.float32), rng.random((rows, count, count), np.float32)
        found = cell(nodes, adjacency)
        np.testing.assert_allclose(found.asnumpy(), np.einsum("bij,bj->bi", adjacency, nodes), rtol=1e-5)
    assert padding_counts(cell).content == 1 * 2 + 3 * 5 + 4 * 6 + 2 * 3
    assert padding_counts(cell).padded == 4 * (3 + 6 + 6 + 3)


def test_a_grid_pads_two_lengths():
    cell = bucketed(
        Pairs(),
        {"source": {1: "source"}, "target": {1: "target"}},
        Grid([(4, 8), (8, 4)]),
        outputs={0: {1: "source", 2: "target"}},
    )
    source, target = np.ones((2, 3), np.float32), np.ones((2, 7), np.float32)
    scores, sums = cell(source, target)
    assert scores.shape == (2, 3, 7) and sums.asnumpy().tolist() == [10, 10]
    assert cell(target, source)[0].shape == (2, 7, 3)
    with pytest.raises(LengthError, match="source x target 5 x 5, over the largest bucket"):
        cell(np.ones((2, 5), np.float32), np.ones((2, 5), np.float32))


def test_masks_are_built_where_the_caller_leaves_them_out():
    cell = bucketed(Pooled(), BOTH, Buckets([8]), masks={"mask": "ids"})
    ids, _ = batch(5)
    full = np.ones((2, 5), np.float32)
    assert_same(cell(ids), cell(ids, full))
    assert_same(cell(ids), cell(ids, None))
    assert len(graphs(cell)) == 1
    other = np.array([[1, 1, 0, 0, 0], [1, 1, 1, 1, 0]], np.float32)
    assert not np.allclose(cell(ids).asnumpy(), cell(ids, other).asnumpy())


def test_other_arguments_are_left_alone(scorer, wrapped):
    ids, mask = batch(4)
    assert_same(wrapped(ids, mask, 3)[0], 3 * wrapped(ids, mask)[0])


def test_arrays_that_are_not_ragged_do_not_become_constants_of_the_graph():
    cell = bucketed(Pairs(), {"source": 1}, Buckets([8]), max_graphs=1)
    for value in (1, 2, 3):
        target = np.full((2, 8), value, np.float32)
        assert cell(np.ones((2, 5), np.float32), target)[1].asnumpy().tolist() == [5 + 8 * value] * 2


def test_a_bucketed_class_keeps_its_body_and_its_names():
    cls = bucketed(type("Own", (Scorer,), {}), BOTH, Buckets([8]), outputs=SCORES)
    cell = cls().set_train(False)
    assert isinstance(cell, Scorer) and cls.__name__ == "Own"
    assert [p.name for p in cell.get_parameters()] == [p.name for p in Scorer().get_parameters()]
    for length in (2, 5, 8):
        assert cell(*batch(length))[0].shape == (2, length, 3)
    assert len(graphs(cell)) == 1 and padding_counts(cell).calls == 3
    assert copy.deepcopy(cell)(*batch(3))[0].shape == (2, 3, 3)


def test_a_decorated_class_may_name_itself_in_super():
    cell = Decorated()
    assert isinstance(cell, Decorated) and [cell(*batch(n)).shape for n in (3, 7, 2)] == [(2, n, 8) for n in (3, 7, 2)]
    assert len(graphs(cell)) == 2 and cell.embedding.embedding_table.name == "embedding.embedding_table"


def test_the_decorator_is_called_with_options_only():
    decorator = bucketed(axes={"x": 0}, buckets=Buckets([4]), outputs=0)
    cell = decorator(type("Own", (Same,), {}))()
    assert cell(np.arange(3)).shape == (3,) and len(graphs(cell)) == 1


def test_a_call_does_little_beside_the_graph():
    """Binding, padding, counting, cutting one output back; benchmarks/shapes/overhead.py has the microseconds."""
    cell = bucketed(Scorer(), {"ids": 1, "mask": 1, "scale": 1}, Buckets([16, 32]), outputs={0: 1})
    arrays = [np.ones((16, 20), np.int32), np.ones((16, 20), np.float32), np.ones((16, 20), np.float32)]
    wide = Tensor(np.ones((16, 32), np.float32))
    for inputs in (arrays, [Tensor(array) for array in arrays]):

        def call(inputs=tuple(inputs)):
            return bucketing_of(cell).call(cell, lambda *args: (wide, wide), inputs, {})

        assert call()[0].shape == (16, 20)
        calls = []
        sys.setprofile(lambda frame, event, argument, seen=calls: seen.append(event) if event == "call" else None)
        try:
            call()
        finally:
            sys.setprofile(None)
        assert len(calls) < 150, f"{len(calls)} calls of Python functions"


# --- the life of a cell ---------------------------------------------------------------------------


def test_train_and_eval_are_different_graphs(wrapped):
    ids, mask = batch(4)
    quiet = wrapped(ids, mask)[0]
    wrapped.set_train(True)
    assert not np.allclose(wrapped(ids, mask)[0].asnumpy(), quiet.asnumpy())
    wrapped.set_train(False)
    assert (wrapped(ids, mask)[0].asnumpy() == quiet.asnumpy()).all()


def test_checkpoints_load_both_ways(tmp_path):
    bare, cell = Pooled(), bucketed(Pooled(), BOTH, Buckets([8]))
    names = [p.name for p in bare.get_parameters()]
    ids, mask = batch(5)
    for source, target in ((bare, cell), (bucketed(Pooled(), BOTH, Buckets([8])), Pooled())):
        path = str(tmp_path / f"{type(source).__name__}.ckpt")
        ms.save_checkpoint(source, path)
        assert sorted(ms.load_checkpoint(path)) == sorted(names)
        missing, unexpected = ms.load_param_into_net(target, ms.load_checkpoint(path))
        assert not missing and not unexpected
        assert_same(source(*tensors(ids, mask)), target(*tensors(ids, mask)))


def test_the_state_dictionary_has_the_cells_own_keys():
    bare, cell = Pooled(), bucketed(Pooled(), BOTH, Buckets([8]))
    assert list(cell.state_dict()) == list(bare.state_dict())
    assert not any(cell.load_state_dict(bare.state_dict()))
    assert_same(cell(*batch(8)), bare(*tensors(*batch(8))))


def test_a_deep_copy_is_independent():
    cell = bucketed(Pooled(), BOTH, Buckets([8]), max_graphs=1)
    expected = cell(*batch(5))
    other = copy.deepcopy(cell)
    assert graphs(other) == [] and padding_counts(other).calls == 0
    assert_same(other(*batch(5)), expected)
    other.cell.head.bias.set_data(other.cell.head.bias + 1)
    assert_same(other(*batch(5)), expected + 1)
    assert_same(cell(*batch(5)), expected)
    assert len(graphs(cell)) == len(graphs(other)) == 1
    with pytest.raises(GraphLimitError):
        other(*batch(5, rows=3))


def test_a_bucket_can_be_exported(tmp_path):
    cell = bucketed(Pooled(), BOTH, Buckets([8]))
    inputs = tensors(*batch(8))
    ms.export(cell, *inputs, file_name=str(tmp_path / "bucket"), file_format="MINDIR")
    loaded = nn.GraphCell(ms.load(str(tmp_path / "bucket.mindir")))
    assert_same(loaded(*inputs), cell(*inputs))


def test_pynative_mode_keeps_the_gradients():
    cell, bare = bucketed(Pooled(), BOTH, Buckets([8])), Pooled()
    copy_parameters(cell, bare)
    ids, mask = tensors(*batch(5))
    ms.set_context(mode=ms.PYNATIVE_MODE)
    try:
        # With respect to a padded input, and through an output that is cut back.
        expected = ms.grad(lambda m: bare(ids, m).sum())(mask)
        assert_same(ms.grad(lambda m: cell(ids, m).sum())(mask), expected)
        same = bucketed(Same(), {"x": 1}, Buckets([8]), outputs=1)
        assert_same(ms.grad(lambda m: (same(m) ** 2).sum())(mask), 2 * mask)
    finally:
        ms.set_context(mode=ms.GRAPH_MODE)


# --- training -------------------------------------------------------------------------------------


def trained(step, lengths):
    return [float(step(*batch(n), np.array([0, 2], np.int32))) for n in lengths]


def test_a_training_cell_trains_as_the_bare_one():
    lengths = [3, 7, 8, 3]
    steps = pooled_step(), pooled_step()
    copy_parameters(steps[0], steps[1])
    cell = bucketed(steps[1], BOTH, Buckets([4, 8]), max_graphs=2)
    assert [p.name for p in cell.get_parameters()] == [p.name for p in steps[0].get_parameters()]
    expected = [float(steps[0](*tensors(*batch(n), np.array([0, 2], np.int32)))) for n in lengths]
    np.testing.assert_allclose(trained(cell, lengths), expected, rtol=1e-5)
    assert len(graphs(steps[0])) == len(set(lengths)) and len(graphs(cell)) == 2
    assert graphs(cell)[0].arguments["label"] == "Int32[2]"
    for own, bare in zip(cell.get_parameters(), steps[0].get_parameters()):
        np.testing.assert_allclose(own.asnumpy(), bare.asnumpy(), rtol=1e-4, atol=1e-6)


def test_the_batch_axis_of_a_training_cell_with_an_ignored_label():
    cell = bucketed(
        pooled_step(),
        {"ids": {0: "batch", 1: "length"}, "mask": {0: "batch", 1: "length"}, "label": {0: "batch"}},
        {"batch": Buckets([4]), "length": Buckets([8])},
        pad={"mask": 1.0, "label": -100},
        max_graphs=1,
    )
    losses = [float(cell(*batch(5, rows), np.arange(rows, dtype=np.int32) % 3)) for rows in (4, 3, 1)]
    assert np.isfinite(losses).all()


def test_an_amp_step_keeps_its_own_call_and_attributes():
    network = PooledLoss(Pooled())
    optimizer = nn.SGD(network.trainable_params(), learning_rate=0.1)
    step = amp.TrainStep(network, optimizer, amp.LossScaler.static(8))
    cell = bucketed(step, BOTH, Buckets([4, 8]), max_graphs=2)
    results = [cell(*batch(n), np.array([0, 2], np.int32)) for n in (3, 7, 2)]
    assert all(isinstance(result, amp.StepResult) and result.event == "updated" for result in results)
    assert cell.overflowing() == "nothing" and cell.scaler is step.scaler and cell.optimizers is step.optimizers
    assert len(graphs(cell)) == 2 and [p.name for p in cell.get_parameters()] == [p.name for p in step.get_parameters()]


def test_calls_of_the_cell_inside_are_not_counted_for_the_wrapper():
    bare = Pooled()
    cell = bucketed(bare, BOTH, Buckets([8]), max_graphs=1)
    for length in (3, 4):
        bare(*tensors(*batch(length)))
    cell(*batch(5))
    assert len(graphs(cell)) == 1 and len(graphs(bare)) == 3
    bare(*tensors(*batch(6)))
    with pytest.raises(GraphLimitError, match="graph 2 of at most 1"):
        cell(*batch(5, rows=3))


def test_wrapping_leaves_a_bound_of_the_cell_in_force():
    cell = bucketed(limit_graphs(Pooled(), 1), BOTH, Buckets([4, 8]))
    cell(*batch(3))
    with pytest.raises(GraphLimitError, match="graph 2 of at most 1"):
        cell(*batch(7))


def test_threads_call_a_bucketed_cell_in_turn():
    cell, results = bucketed(Pooled(), BOTH, Buckets([4, 8])), {}

    def call(length):
        results[length] = cell(*batch(length)).asnumpy()

    threads = [threading.Thread(target=call, args=(length,)) for length in (2, 3, 5, 6, 7, 8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(results) == [2, 3, 5, 6, 7, 8] and len(graphs(cell)) == 2
    for length, found in results.items():
        np.testing.assert_allclose(found, cell(*batch(length)).asnumpy(), rtol=1e-6)


def test_compile_ahead_makes_the_graph_that_a_call_runs():
    cell = bucketed(Pooled(), BOTH, Buckets([8]), masks={"mask": "ids"})
    ids, _ = batch(5)
    cell.compile(ids)
    assert len(cell.cell.compile_cache) == 1 and padding_counts(cell).calls == 0
    cell(ids)
    assert len(cell.cell.compile_cache) == 1
