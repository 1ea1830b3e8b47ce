"""`shapes.pack_dataset`: every sample once an epoch, in a place that the batch tells, on any number of ranks."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mindspore import Tensor

from ascend_fixes.shapes import DatasetError, LengthError, PadValueError, StateError, pack_dataset, segment_mask, unpack

LENGTHS = [3, 5, 2, 7, 4, 4, 6, 1, 3, 8, 2, 2]


def samples(lengths=LENGTHS):
    random = np.random.default_rng(0)
    return [
        {
            "ids": random.integers(1, 99, length).astype(np.int32),
            "vectors": random.normal(size=(length, 2)).astype(np.float32),
            "last": np.int32(length - 1),
            "label": np.int64(place),
        }
        for place, length in enumerate(lengths)
    ]


def packed(lengths=LENGTHS, **options):
    options = {"width": 12, "rows": 2, "places": ["last"], "shuffle_seed": 3, **options}
    return pack_dataset(samples(lengths), lengths, **options)


def epoch(dataset):
    return list(dataset.create_dict_iterator(output_numpy=True, num_epochs=1))


def read_back(batches, width=12):
    """What the batches say of each sample: ids, vectors and the id at its last place."""
    found = {}
    for batch in batches:
        for name in ("ids", "vectors"):
            for place, value in unpack(batch[name], batch).items():
                found.setdefault(place, {})[name] = value
        for place, (last, label) in unpack(np.stack([batch["last"], batch["label"]], -1), batch).items():
            row = int(np.argwhere(batch["sample"] == place)[0][0])
            found[place].update(last=batch["ids"][row, last], label=label)
    return found


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=30), st.integers(1, 3), st.sampled_from([None, 0, 5]))
def test_every_sample_is_in_an_epoch_once_and_whole(lengths, rows, seed):
    dataset = packed(lengths, rows=rows, shuffle_seed=seed)
    batches = epoch(dataset)
    assert len(batches) == dataset.batches == dataset.get_dataset_size()
    held = np.concatenate([batch["sample"].ravel() for batch in batches])
    assert sorted(held[held >= 0]) == list(range(len(lengths)))
    found, expected = read_back(batches), samples(lengths)
    for place, sample in enumerate(expected):
        assert np.array_equal(found[place]["ids"], sample["ids"])
        assert np.array_equal(found[place]["vectors"], sample["vectors"])
        assert found[place]["last"] == sample["ids"][-1] and found[place]["label"] == place
    assert dataset.waste == pytest.approx(len(batches) * rows * 12 / sum(lengths) - 1)
    assert len({batch["ids"].shape for batch in batches}) == 1


def test_a_batch_says_what_every_position_is():
    batch = epoch(packed(rows=3))[0]
    for segments, positions in zip(batch["segment_ids"], batch["positions"]):
        for segment, group in itertools.groupby(range(12), key=lambda place: segments[place]):
            group = list(group)
            if segment:
                assert positions[group].tolist() == list(range(len(group)))
    counted = batch["segment_ids"] > 0
    assert np.array_equal(batch["token_weight"][counted] == 1, np.ones(counted.sum(), bool))
    assert batch["token_weight"][~counted].sum() == 0
    assert np.array_equal(batch["sample_weight"] > 0, batch["sample"] >= 0)


def test_filled_up_rows_have_no_weight():
    last = epoch(packed([5, 5, 5], width=5, rows=2, shuffle_seed=None))[-1]
    assert last["sample"].tolist() == [[2], [-1]] and last["sample_weight"].tolist() == [[1], [0]]
    assert last["token_weight"].sum() == 5
    assert np.array_equal(last["ids"][1], last["ids"][0])  # finite values, as of a real row


def test_weights_by_sample_add_up_to_one_for_each():
    batches = epoch(packed(weights="sample"))
    for batch in batches:
        for weights in unpack(batch["token_weight"], batch).values():
            assert weights.sum() == pytest.approx(1)


@pytest.mark.parametrize("shards", [1, 2, 4])
def test_ranks_share_what_one_process_would_have(shards):
    whole = epoch(packed(rows=4))
    ranks = [epoch(packed(rows=4 // shards, num_shards=shards, shard_id=rank)) for rank in range(shards)]
    for step, batch in enumerate(whole):
        for rank in range(shards):
            assert np.array_equal(ranks[rank][step]["sample"], batch["sample"][rank::shards]) or step == len(whole) - 1
        together = np.concatenate([ranks[rank][step]["sample"].ravel() for rank in range(shards)])
        assert sorted(together[together >= 0]) == sorted(batch["sample"][batch["sample"] >= 0])
    assert all(len(rank) == len(whole) for rank in ranks)


@pytest.mark.parametrize("stop", range(6))
def test_a_stopped_epoch_goes_on_with_what_was_left(stop):
    dataset = packed(rows=1, num_shards=2, shard_id=1)
    assert dataset.batches > 1
    expected = [batch["sample"] for _ in range(3) for batch in epoch(dataset)]
    first, again = packed(rows=1, num_shards=2, shard_id=1), packed(rows=1, num_shards=2, shard_id=1)
    taken = 0
    while taken < stop:
        for _ in first.create_dict_iterator(output_numpy=True, num_epochs=1):
            taken += 1
            if taken == stop:
                break
    again.load_state_dict(first.state_dict())
    rest = [batch["sample"] for _ in range(3) for batch in epoch(again)]
    assert np.array_equal(rest[: len(expected) - stop], expected[stop:])


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"width": 13}, "width"),
        ({"shuffle_seed": 4}, "seed"),
        ({"rows": 3}, "rows x num_shards"),
        ({"max_samples": 2}, "slots"),
    ],
)
def test_a_position_in_other_rows_is_refused(other, said):
    dataset = packed()
    with pytest.raises(StateError, match=said):
        dataset.load_state_dict(packed(**other).state_dict())


def test_over_long_samples():
    with pytest.raises(LengthError, match="sample 3 has length 7, longer than width=6"):
        packed(width=6)
    dropped = packed(width=6, overflow="drop")
    assert dropped.over_long == 2 and set(read_back(epoch(dropped))) == set(range(12)) - {3, 9}
    cut = packed(width=6, overflow="truncate", places=())
    assert cut.over_long == 2
    values = {place: value for batch in epoch(cut) for place, value in unpack(batch["ids"], batch).items()}
    assert np.array_equal(values[9], samples()[9]["ids"][:6]) and len(values) == 12


def test_per_sample_parts_of_different_length_need_a_size():
    ragged = [{"ids": np.ones(n, np.int32), "tags": np.full(n // 2 + 1, n, np.int32)} for n in LENGTHS]
    with pytest.raises(DatasetError, match=r"'tags'.*sizes="):
        epoch_of(pack_dataset(ragged, LENGTHS, 12, 2))
    batch = epoch_of(pack_dataset(ragged, LENGTHS, 12, 2, sizes={"tags": 6}, pad={"tags": -100}))[0]
    assert batch["tags"].shape[2] == 6 and (batch["tags"] == -100).any()


def epoch_of(dataset):
    """The batches as the source makes them, without MindSpore's pipeline around its errors."""
    return [dict(zip(dataset.source.names, dataset.source.batch(planned))) for planned in dataset.source.order(0)]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"weights": "rows"}, "weights='rows'"),
        ({"overflow": "cut"}, "overflow='cut'"),
        ({"rows": 0}, "rows=0"),
        ({"num_shards": 2, "shard_id": 2}, "shard_id=2"),
        ({"places": ["end"]}, "places=.*end"),
        ({"packed": ["idz"]}, "packed=.*idz"),
        ({"sizes": {"x": 3}}, "sizes=.*x"),
    ],
)
def test_wrong_use_is_named(options, said):
    with pytest.raises(DatasetError, match=said):
        packed(**options)


def test_what_does_not_fit_its_column_is_refused():
    with pytest.raises(PadValueError, match="0.5"):
        epoch_of(packed(pad=0.5))
    outside = [{"ids": np.ones(n, np.int32), "last": np.int32(n)} for n in LENGTHS]
    with pytest.raises(DatasetError, match="sample .* has places"):
        epoch_of(pack_dataset(outside, LENGTHS, 12, 2, places=["last"]))
    clash = [{"ids": np.ones(n, np.int32), "positions": np.int32(0)} for n in LENGTHS]
    with pytest.raises(DatasetError, match="positions, which packing adds"):
        pack_dataset(clash, LENGTHS, 12, 2)
    with pytest.raises(DatasetError, match="pass .rows, width"):
        unpack(np.zeros((2, 99)), epoch_of(packed())[0])


def test_a_segment_mask_joins_the_positions_of_one_sample():
    mask = segment_mask(Tensor(np.array([[1, 1, 2, 0]], np.int32))).asnumpy()
    assert mask.shape == (1, 1, 4, 4)
    assert mask[0, 0].astype(int).tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
