from __future__ import annotations

import json

import mindspore as ms
import mindspore.dataset as ds
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapes_cells import pooled_step

from ascend_fixes.shapes import (
    AxesError,
    Buckets,
    DatasetError,
    Grid,
    LengthError,
    PadValueError,
    StateError,
    bucket_dataset,
    bucketed,
    graphs,
)

AXES = {"ids": 1, "mask": 1}


def samples_of(lengths):
    """Samples that carry their own number in every position."""
    return [
        {"ids": np.full(n, place + 1, np.int32), "mask": np.ones(n, np.float32), "label": np.int32(place)}
        for place, n in enumerate(lengths)
    ]


def made(lengths, sizes=(4, 8), batch_size=3, **options):
    options = {"axes": AXES, "shuffle_seed": 1, **options}
    if "tokens_per_batch" in options:
        batch_size = None
    return bucket_dataset(samples_of(lengths), lengths, Buckets(sizes), batch_size, **options)


def taken(dataset, epochs=1):
    iterator = dataset.create_dict_iterator(num_epochs=epochs, output_numpy=True)
    return [list(iterator) for _ in range(epochs)]


def labels(batches):
    """The samples that count, in order."""
    return [int(label) for batch in batches for label, weight in zip(batch["label"], batch["weight"]) if weight]


ragged = st.lists(st.integers(1, 8), min_size=1, max_size=30)
ranks = st.integers(1, 4)
seeds = st.one_of(st.none(), st.integers(0, 5))


@settings(max_examples=40)
@given(ragged, st.integers(1, 4), ranks, seeds, st.booleans(), st.booleans())
def test_every_sample_counts_once_and_every_bucket_has_one_shape(lengths, size, num_shards, seed, by_tokens, carry):
    how = {"tokens_per_batch": 8 * size} if by_tokens else {"batch_size": size}
    how["carry"] = carry
    shards = [made(lengths, shuffle_seed=seed, num_shards=num_shards, shard_id=r, **how) for r in range(num_shards)]
    by_rank = [list(shard.source) for shard in shards]
    assert len({len(batches) for batches in by_rank} | {shard.get_dataset_size() for shard in shards}) == 1
    seen, shapes = [], {}
    for step in zip(*by_rank):
        # All ranks have the same shape at the same step.
        assert len({tuple(column.shape for column in batch) for batch in step}) == 1
        shapes.setdefault(step[0][0].shape[1], set()).add(step[0][0].shape)
        for ids, mask, label, weight in step:
            for row in range(len(ids)):
                length = int(mask[row].sum())
                assert (ids[row, :length] == label[row] + 1).all() and (ids[row, length:] == 0).all()
                assert length == lengths[label[row]]
                if weight[row]:
                    seen.append(int(label[row]))
    assert sorted(seen) == list(range(len(lengths)))
    assert all(len(found) == 1 for found in shapes.values())


def test_epochs_differ_and_repeat_with_their_seed():
    lengths = [1 + n % 8 for n in range(40)]
    first, second = taken(made(lengths), epochs=2)
    assert labels(first) != labels(second) and sorted(labels(first)) == sorted(labels(second)) == list(range(40))
    again = made(lengths)
    assert [labels(epoch) for epoch in (taken(again)[0], taken(again)[0])] == [labels(first), labels(second)]
    assert labels(taken(made(lengths, shuffle_seed=None))[0])[:3] == [0, 1, 2]


@settings(max_examples=10)
@given(ragged, st.integers(0, 30), st.integers(0, 2))
def test_a_saved_position_resumes_with_exactly_the_remaining_batches(lengths, stop, epoch):
    dataset = made(lengths)
    whole = taken(made(lengths), epochs=epoch + 2)
    for _ in range(epoch):
        taken(dataset)
    iterator = dataset.create_dict_iterator(num_epochs=1, output_numpy=True)
    stop = min(stop, len(dataset.source.order(0)))
    before = [next(iterator) for _ in range(stop)]
    state = json.loads(json.dumps(dataset.state_dict()))
    resumed = made(lengths)
    resumed.load_state_dict(state)
    after = taken(resumed, epochs=2)
    assert labels(before) + labels(after[0]) == labels(whole[epoch])
    assert labels(after[1]) == labels(whole[epoch + 1])


@settings(max_examples=40)
@given(ragged, st.integers(1, 5), seeds)
def test_carrying_over_adds_neither_shapes_nor_steps(lengths, size, seed):
    plain, carried = (made(lengths, (2, 4, 8), size, shuffle_seed=seed, carry=carry) for carry in (False, True))
    shapes = [{batch[0].shape for batch in dataset.source} for dataset in (plain, carried)]
    assert shapes[1] <= shapes[0] and carried.batches <= plain.batches


def test_what_is_left_over_joins_the_next_larger_bucket():
    lengths = [2, 2, 2, 4, 4]
    sizes = [
        sorted(batch[0].shape for batch in made(lengths, (2, 4), 3, carry=carry).source) for carry in (False, True)
    ]
    assert sizes == [[(3, 2), (3, 4)], [(3, 2), (3, 4)]]
    lengths = [2, 2, 2, 2, 4, 4]
    sizes = [
        sorted(batch[0].shape for batch in made(lengths, (2, 4), 3, carry=carry).source) for carry in (False, True)
    ]
    assert sizes == [[(3, 2), (3, 2), (3, 4)], [(3, 2), (3, 4)]]


def test_a_new_iterator_begins_the_epoch_again():
    dataset = made([1 + n % 8 for n in range(20)])
    peek = dataset.create_dict_iterator(num_epochs=1, output_numpy=True)
    next(peek), next(peek)
    assert sorted(labels(taken(dataset)[0])) == list(range(20))


def test_a_differently_sized_world_resumes_with_the_same_global_batch_or_refuses():
    lengths = [1 + n % 8 for n in range(30)]
    state = made(lengths, batch_size=4, num_shards=1).state_dict()
    state["step"] = 2
    pair = [made(lengths, batch_size=2, num_shards=2, shard_id=r) for r in (0, 1)]
    rest = []
    for dataset in pair:
        dataset.load_state_dict(state)
        rest += labels(taken(dataset)[0])
    whole = taken(made(lengths, batch_size=4))[0]
    assert sorted(rest) == sorted(labels(whole[2:]))
    with pytest.raises(StateError, match=r"saved by 1 rank\(s\) with 4 rows each, here 3 have 2 rows"):
        made(lengths, batch_size=2, num_shards=3).load_state_dict(state)


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda state: state.pop("step"), "state lacks 'step'"),
        (lambda state: state.update(seed=9), r"other seed \(9, here 1\)"),
        (lambda state: state.update(samples="0"), "other samples"),
        (lambda state: state.update(buckets=[[4]]), "other buckets"),
        (lambda state: state.update(step=99), "step=99, which this data does not have"),
        (lambda state: state.update(epoch=-1), "epoch=-1"),
        (lambda state: state.update(epoch=True), "epoch=True"),
        (lambda state: state.update(epoch=1 << 70), "epoch=1180591620717411303424"),
        (lambda state: state.update(buckets=np.array([[4], [8]])), "other buckets"),
    ],
)
def test_a_state_of_something_else_is_refused_and_changes_nothing(change, said):
    dataset = made([3, 5, 7])
    state = dataset.state_dict()
    change(state)
    before = dataset.state_dict()
    with pytest.raises(StateError, match=said):
        dataset.load_state_dict(state)
    assert dataset.state_dict() == before and len(taken(dataset)[0]) == dataset.batches


@pytest.mark.parametrize("state", [None, [1, 2], "state"])
def test_a_state_that_is_no_mapping_is_refused(state):
    with pytest.raises(StateError, match="no mapping"):
        made([1, 2, 3], batch_size=2).load_state_dict(state)


def test_over_long_samples_are_refused_dropped_or_truncated_and_counted():
    lengths = [3, 9, 5, 12]
    with pytest.raises(LengthError, match="sample 1: length 9 is over the largest bucket 8.*overflow='drop'"):
        made(lengths)
    dropped = made(lengths, overflow="drop")
    assert dropped.over_long == 2 and sorted(labels(taken(dropped)[0])) == [0, 2]
    cut = made(lengths, overflow="truncate")
    assert cut.over_long == 2 and sorted(labels(taken(cut)[0])) == [0, 1, 2, 3]
    assert all(batch["ids"].shape[1] in (4, 8) for batch in taken(cut)[0])


def test_tokens_per_batch_gives_short_sizes_more_rows():
    shapes = {batch["ids"].shape for batch in taken(made([2] * 9 + [8] * 5, tokens_per_batch=16))[0]}
    assert shapes == {(4, 4), (2, 8)}


def test_pairs_take_a_grid():
    lengths = [(2, 5), (6, 3), (1, 1), (2, 6)]
    samples = [(np.full(a, 1, np.int32), np.full(b, 2, np.int32)) for a, b in lengths]
    dataset = bucket_dataset(
        samples,
        lengths,
        Grid([(2, 6), (6, 3)]),
        2,
        axes={"source": {1: "source"}, "target": {1: "target"}},
        columns=["source", "target"],
        pad={"target": 9},
    )
    shapes = [(batch["source"].shape, batch["target"].shape) for batch in taken(dataset)[0]]
    assert sorted(shapes) == [((2, 2), (2, 6)), ((2, 2), (2, 6)), ((2, 6), (2, 3))]
    assert {int(batch["target"].max()) for batch in taken(dataset)[0]} == {9, 2}


def test_a_mindspore_pipeline_is_taken_and_the_result_is_one():
    lengths = [3, 5, 7, 2]
    rows = [(s["ids"], s["mask"], s["label"]) for s in samples_of(lengths)]
    source = ds.GeneratorDataset(rows, ["ids", "mask", "label"], shuffle=False)
    dataset = bucket_dataset(source, lengths, Buckets([4, 8]), 2, axes=AXES)
    assert isinstance(dataset, ds.GeneratorDataset) and dataset.get_dataset_size() == 2
    mapped = dataset.map(lambda ids: ids + 1, input_columns=["ids"])
    assert [batch["ids"].shape for batch in mapped.create_dict_iterator(num_epochs=1, output_numpy=True)]


def test_model_trains_on_it_in_as_many_graphs_as_there_are_buckets():
    lengths = [1 + n % 8 for n in range(20)]
    samples = samples_of(lengths)
    for sample in samples:
        sample["label"] = np.int32(sample["label"] % 3)
    dataset = bucket_dataset(samples, lengths, Buckets([4, 8]), 4, shuffle_seed=0, axes=AXES)

    class Weighted(ms.nn.Cell):
        def __init__(self, step):
            super().__init__(auto_prefix=False)
            self.step = step

        def construct(self, ids, mask, label, weight):
            return self.step(ids, mask, label) * weight.mean()

    cell = bucketed(Weighted(pooled_step()), AXES, Buckets([4, 8]), max_graphs=2)
    ms.Model(cell).train(3, dataset, dataset_sink_mode=False)
    assert len(graphs(cell)) == 2 and dataset.state_dict()["epoch"] == 3


@pytest.mark.parametrize(
    "options, said",
    [
        ({"batch_size": 0}, "0 rows or tokens make no batch"),
        ({"tokens_per_batch": None}, "batch_size=None and tokens_per_batch=None: pass exactly one"),
        ({"shard_id": 2, "num_shards": 2}, "shard_id=2 is not one of num_shards=2"),
        ({"overflow": "wrap"}, "overflow='wrap' is unknown"),
        ({"weight": "label"}, "weight='label' is a column"),
        ({"axes": {"ids": 0}}, "axes of 'ids' contain 0, the batch"),
    ],
)
def test_wrong_use_is_one_clear_line(options, said):
    with pytest.raises(DatasetError, match=said) as error:
        made([3, 5], **options)
    assert "\n" not in str(error.value)


def test_samples_that_are_not_what_was_said_are_named():
    samples = samples_of([3, 5])
    with pytest.raises(DatasetError, match=r"lengths has shape \(1,\)"):
        bucket_dataset(samples, [3], Buckets([8]), 2, axes=AXES)
    with pytest.raises(DatasetError, match="samples are tuples.*pass columns="):
        bucket_dataset([(np.ones(3),)], [3], Buckets([8]), 2, axes={"ids": 1})
    with pytest.raises(DatasetError, match="has no samples"):
        bucket_dataset([], [], Buckets([8]), 2, axes=AXES)
    with pytest.raises(AxesError, match="axes= names 'idz'"):
        bucket_dataset(samples, [3, 5], Buckets([8]), 2, axes={"idz": 1})
    wrong = bucket_dataset(samples, [3, 6], Buckets([8]), 2, axes=AXES)
    with pytest.raises(DatasetError, match=r"sample 1 has shape \[5\] in column 'ids', but lengths= says .* 6"):
        list(wrong.source)
    unnamed = bucket_dataset(samples, [3, 5], Buckets([8]), 2, axes={"ids": 1})
    with pytest.raises(DatasetError, match="column 'mask' has samples of shapes"):
        list(unnamed.source)


@settings(max_examples=20)
@given(ragged)
def test_ragged_columns_are_those_as_long_as_their_lengths(lengths):
    given_axes, found = made(lengths), made(lengths, axes=None)
    for one, other in zip(taken(given_axes)[0], taken(found)[0]):
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


def test_axes_that_cannot_be_found_are_asked_for():
    with pytest.raises(DatasetError, match=r"no column of ids, mask, label has the lengths .* pass axes="):
        bucket_dataset(samples_of([3, 4]), [2, 5], Buckets([8]), 2)
    with pytest.raises(DatasetError, match="which says which column has which"):
        bucket_dataset(samples_of([3, 4]), [[3, 3], [4, 4]], Grid([(4, 4)]), 2)


@pytest.mark.parametrize(
    "dtype, pad", [(np.int32, 0.5), (np.uint8, -1), (np.float16, -1e9), (np.bool_, 2)], ids=["0.5", "-1", "-1e9", "2"]
)
def test_a_pad_value_that_the_column_cannot_hold_is_refused_as_bucketed_does(dtype, pad):
    samples = [{"x": np.ones(n, dtype)} for n in (3, 5)]
    with pytest.raises(PadValueError, match=f"pad value {pad} does not fit {np.dtype(dtype)}"):
        bucket_dataset(samples, [3, 5], Buckets([8]), 2, axes={"x": 1}, pad=pad)


def test_a_later_sample_of_another_dtype_is_refused_too():
    samples = [{"x": np.ones(3, np.float32)}, {"x": np.ones(5, np.int32)}]
    late = bucket_dataset(samples, [3, 5], Buckets([4, 8]), 1, axes={"x": 1}, pad=0.5)
    with pytest.raises(PadValueError, match="0.5 does not fit int32"):
        list(late.source)


def straightforward(lengths, buckets, rows, seed, epoch, carry):
    """The batches of an epoch as (size, places), made one after the other: what positions saved by any version count in."""
    members = {}
    for place, length in enumerate(lengths):
        members.setdefault(buckets(length), []).append(place)
    random, batches, carried = None if seed is None else np.random.default_rng([seed, epoch]), [], {}
    for size in sorted(members):
        places = np.array([*members[size], *carried.get(size, [])], dtype=np.int64)
        order = np.sort(places) if random is None else random.permutation(places)
        larger, left = [other for other in sorted(members) if other > size], len(order) % rows
        if carry and left and larger and left * larger[0] < rows * size:
            carried.setdefault(larger[0], []).extend(order[-left:])
            order = order[:-left]
        batches += [(size, order[first : first + rows].tolist()) for first in range(0, len(order), rows)]
    if random is None:
        return sorted(batches, key=lambda batch: batch[1][0])
    moments = []
    for size in sorted(members):
        count = sum(own == size for own, _ in batches)
        turns, parts = random.permutation(count), random.random(count)
        moments += [(turn + part) / count for turn, part in zip(turns, parts)]
    return [batch for _, batch in sorted(zip(moments, batches), key=lambda pair: pair[0])]


@settings(max_examples=60)
@given(ragged, st.integers(1, 4), seeds, st.integers(0, 3), st.booleans())
def test_the_order_of_an_epoch_is_the_same_as_made_one_by_one(lengths, rows, seed, epoch, carry):
    dataset = made(lengths, (2, 5, 8), rows, shuffle_seed=seed, carry=carry)
    found = [(batch.size[0], batch.places.tolist()) for batch in dataset.source.order(epoch)]
    assert found == straightforward(lengths, Buckets((2, 5, 8)), rows, seed, epoch, carry)
    assert dataset.batches == len(found)
    assert dataset.waste == pytest.approx(sum(size * rows for size, _ in found) / sum(lengths) - 1)


@settings(max_examples=60)
@given(ragged, st.integers(1, 4), st.integers(0, 2**32 - 1), st.integers(0, 3))
def test_batches_of_a_size_come_evenly_over_an_epoch(lengths, rows, seed, epoch):
    """However many batches have been taken, of every size about its share is among them."""
    sizes = [batch.size for batch in made(lengths, (2, 5, 8), rows, shuffle_seed=seed).source.order(epoch)]
    for size in set(sizes):
        share = sizes.count(size) / len(sizes)
        for taken_so_far in range(len(sizes) + 1):
            expected = share * taken_so_far
            assert abs(sizes[:taken_so_far].count(size) - expected) <= 2 + share * len(set(sizes))


def test_of_a_large_corpus_no_batch_is_made_ahead():
    lengths = np.random.default_rng(0).integers(1, 9, 300_000)

    class Lengths:
        def __len__(self):
            return len(lengths)

        def __getitem__(self, place):
            return {"ids": np.zeros(lengths[place], np.int32)}

    dataset = bucket_dataset(Lengths(), lengths, Buckets([4, 8]), 2, shuffle_seed=0)
    order = dataset.source.order(0)
    assert len(order) == dataset.batches >= 150_000
    assert order[7] is not order[7] and order[7].places.tolist() == order[5:9][2].places.tolist()
