"""Feeding: everything arrives in order, and nothing, whatever the dataset does, makes the loop hang."""

from __future__ import annotations

import collections
import gc
import sys
import threading
import time
import traceback

import mindspore.dataset as ds
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mindspore import Tensor

from ascend_fixes.host import FeedError, FeedTimeoutError, feed


def readers():
    return [thread for thread in threading.enumerate() if thread.name == "ascend_fixes.host.feed"]


def gone(seconds=3.0):
    """Have the reading threads ended?"""
    deadline = time.monotonic() + seconds
    while readers() and time.monotonic() < deadline:
        time.sleep(0.02)
    return not readers()


@settings(max_examples=50)
@given(st.integers(0, 30), st.integers(1, 5), st.integers(0, 30))
def test_everything_arrives_in_order_and_leaving_early_stops_the_reading(count, prefetch, taken):
    read = []

    def numbers():
        for number in range(count):
            read.append(number)
            yield number

    seen = []
    for number in feed(numbers(), 10, prefetch):
        seen.append(number)
        if len(seen) > taken:
            break
    assert seen == list(range(min(count, taken + 1)))
    assert len(read) <= len(seen) + prefetch + 1
    assert gone()


def test_every_loop_reads_from_the_beginning():
    source = feed([1, 2, 3])
    assert [list(source), list(source)] == [[1, 2, 3]] * 2


def test_numbers_become_tensors_and_strings_stay():
    Pair = collections.namedtuple("Pair", "a b")
    item = {
        "x": np.ones(3, np.float32),
        "words": np.array(["a", "b"]),
        "pair": Pair(np.int32(1), [np.zeros(2)]),
        "n": 7,
    }
    (found,) = feed([item])
    assert (
        isinstance(found["x"], Tensor)
        and isinstance(found["pair"].a, Tensor)
        and isinstance(found["pair"].b[0], Tensor)
    )
    assert isinstance(found["words"], np.ndarray) and found["n"] == 7
    (plain,) = feed([item], output_numpy=True)
    assert plain is item


def test_a_mindspore_pipeline_with_ragged_and_string_columns():
    def rows():
        for length in (1, 3, 2):
            yield np.arange(length), np.array([f"word{length}"])

    pipeline = ds.GeneratorDataset(lambda: rows(), ["ids", "words"], shuffle=False)
    for _ in range(2):
        found = list(feed(pipeline, 20))
        assert [ids.asnumpy().tolist() for ids, _ in found] == [[0], [0, 1, 2], [0, 1]]
        assert [words.tolist() for _, words in found] == [["word1"], ["word3"], ["word2"]]


def test_an_iterator_of_a_mindspore_pipeline_keeps_its_form_and_its_epochs():
    pipeline = ds.NumpySlicesDataset([1, 2, 3], ["x"], shuffle=False)
    items = pipeline.create_dict_iterator(num_epochs=2)
    for _ in range(2):
        assert [item["x"].asnumpy() for item in feed(items, 20)] == [1, 2, 3]
    pairs = pipeline.create_tuple_iterator(num_epochs=1, output_numpy=True)
    assert [type(x) for (x,) in feed(pairs, 20, output_numpy=True)] == [np.ndarray] * 3


# --- faults --------------------------------------------------------------------------------------


def failing():
    yield 0
    yield 1
    raise KeyError("row 2 is missing")


def test_an_error_comes_at_once_after_the_items_before_it_with_its_traceback():
    seen, begin = [], time.monotonic()
    with pytest.raises(KeyError, match="row 2 is missing") as error:
        for item in feed(failing(), 60):
            seen.append(item)
    assert seen == [0, 1] and time.monotonic() - begin < 60
    assert "in failing" in "".join(traceback.format_exception(error.type, error.value, error.tb))
    assert gone()


class Failing:
    """Six rows of which one is bad, as a generator or by place."""

    def __init__(self, bad):
        self.bad = bad

    def __len__(self):
        return 6

    def __getitem__(self, place):
        if place == self.bad:
            raise KeyError(f"row {place} is missing")
        return (np.array([place]),)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("bad", range(6))
def test_an_error_in_a_pipelines_source_comes_after_the_items_before_it(bad, workers):
    pipeline = ds.GeneratorDataset(
        Failing(bad), ["x"], shuffle=False, num_parallel_workers=workers, python_multiprocessing=False
    )
    for _ in range(3):
        seen = []
        with pytest.raises(Exception, match=f"row {bad} is missing"):
            for (item,) in feed(pipeline, 60, output_numpy=True):
                threading.Event().wait(0.01)  # the pipeline reads ahead, and meets the bad row, meanwhile
                seen.append(int(item[0]))
        assert seen == list(range(bad))


def test_a_worker_that_exits_is_reported():
    def leaving():
        yield 0
        raise SystemExit("the worker left")

    with pytest.raises(SystemExit, match="the worker left"):
        list(feed(leaving(), 60))


def hanging(released):
    yield 0
    released.wait()
    yield 1


def test_a_stage_that_stalls_is_named_with_its_line():
    released = threading.Event()
    items = iter(feed(hanging(released), 0.5))
    assert next(items) == 0
    begin = time.monotonic()
    with pytest.raises(FeedTimeoutError, match=r"timeout=0.5 s: the reader has been reading item 1 for .* in wait"):
        next(items)
    assert 0.4 < time.monotonic() - begin < 60
    released.set()
    assert gone()


def test_nothing_is_collected_while_the_stalled_stage_is_looked_for(monkeypatch):
    """What is collected then, a pipeline of MindSpore's, may wait for a thread that cannot end: the report would hang."""
    current, collects = sys._current_frames, []

    def watched():
        collects.append(gc.isenabled())
        return current()

    monkeypatch.setattr(sys, "_current_frames", watched)
    released = threading.Event()
    items = iter(feed(hanging(released), 0.3))
    assert next(items) == 0
    with pytest.raises(FeedTimeoutError):
        next(items)
    assert collects == [False] and gc.isenabled()
    released.set()
    assert gone()


def test_opening_that_stalls_is_named():
    class Slow:
        def __iter__(self):
            time.sleep(2)
            return iter([])

    with pytest.raises(TimeoutError, match="opening the dataset"):
        list(feed(Slow(), 0.3))
    assert gone(5)


def test_a_slow_consumer_is_no_stall():
    for _ in feed(range(3), 0.3, 1):
        time.sleep(0.5)


def test_an_error_inside_a_mindspore_pipeline_is_raised():
    def rows():
        yield (np.zeros(2),)
        raise ValueError("bad file 17")

    pipeline = ds.GeneratorDataset(lambda: rows(), ["x"], shuffle=False)
    for source in (pipeline, pipeline.create_dict_iterator(num_epochs=1)):  # read in another thread, it would crash
        with pytest.raises(RuntimeError, match="bad file 17"):
            list(feed(source, 30))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], 0), "timeout=0"),
        (([], -1), "timeout=-1"),
        (([], None), "timeout=None"),
        (([], "2"), "timeout='2'"),
        (([], True), "timeout=True"),
        (([], float("nan")), "timeout=nan"),
        (([], 1, 0), "prefetch=0"),
        (([], 1, "2"), "prefetch='2'"),
        (([], 1, 1.5), "prefetch=1.5"),
        (([], 1, None), "prefetch=None"),
        ((3,), "not iterable"),
    ],
)
def test_wrong_use_is_named(arguments, message):
    with pytest.raises(FeedError, match=message):
        feed(*arguments)
