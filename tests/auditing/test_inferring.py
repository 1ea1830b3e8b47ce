"""Which axes are taken for ragged, where nobody says."""

from __future__ import annotations

import numpy as np
import pytest

from ascend_fixes.auditing._inferring import inferred_axes, row_ends, zero_ends

LENGTH = {1: "length"}


def ints(*shape, top=50):
    return np.random.default_rng(0).integers(0, top, shape).astype(np.int32)


def floats(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def padded(width, *lengths):
    return (ints(len(lengths), width) + 1) * (np.arange(width) < np.array(lengths)[:, None])


def valid(width, *lengths):
    return (np.arange(width) < np.array(lengths)[:, None]).astype(np.float32)


@pytest.mark.parametrize(
    "array, ends",
    [
        (padded(8, 8, 3, 5), [8, 3, 5]),
        (padded(8, 8, 3, 5).astype(np.float32), [8, 3, 5]),
        (np.where(padded(8, 8, 3, 5) == 0, 12, padded(8, 8, 3, 5) % 12), [8, 3, 5]),
        (padded(8, 8, 8, 8), None),
        (np.zeros((3, 8), np.int32), None),
        (ints(3, 8, top=3), None),
        (floats(3, 8), None),
        (padded(8, 8, 3, 5)[0], None),
    ],
)
def test_rows_end_where_one_value_fills_them_up(array, ends):
    found = row_ends(array)
    assert (found is None) if ends is None else (found.tolist() == ends)


def test_zeros_in_the_middle_of_rows_end_nothing():
    whole = floats(3, 6, 4)
    assert zero_ends(whole, 1) is None and zero_ends(whole * valid(6, 6, 3, 5)[:, :, None], 1).tolist() == [6, 3, 5]
    holed = whole * valid(6, 6, 3, 5)[:, :, None]
    holed[0, 2] = 0
    assert zero_ends(holed, 1) is None


def test_axes_as_long_as_an_argument_says_are_not_ragged():
    leaves = {"ids": ints(4, 8), "negatives": ints(4, 5)}
    assert inferred_axes(leaves, [5]) == {"ids": LENGTH}


@pytest.mark.parametrize(
    "leaves, axes",
    [
        ({"ids": ints(4, 8)}, {"ids": LENGTH}),
        ({"ids": ints(4, 8), "mask": np.ones((4, 8), np.float32), "label": ints(4)}, {"ids": LENGTH, "mask": LENGTH}),
        ({"ids": ints(4, 8), "mask": np.ones((4, 1, 8, 8))}, {"ids": LENGTH, "mask": {2: "length", 3: "length"}}),
        ({"ids": ints(4, 8), "mask": np.ones((4, 1, 1, 8))}, {"ids": LENGTH, "mask": {3: "length"}}),
        ({"source": ints(4, 8), "target": ints(4, 6)}, {"source": {1: "source"}, "target": {1: "target"}}),
        ({"x": floats(4, 9, 16), "lengths": np.array([9, 7, 3, 1])}, {"x": LENGTH}),
        ({"x": floats(4, 9, 16)}, {"x": LENGTH}),
        (
            {"ids": ints(4, 8), "keep": floats(6, 4, 8, 64), "keep_weights": floats(2, 4, 4, 8, 8)},
            {"ids": LENGTH, "keep": {2: "length"}, "keep_weights": {3: "length", 4: "length"}},
        ),
        ({"image": floats(4, 3, 32, 32)}, {}),
        ({"record": floats(3, 6, 4, 5) * valid(6, 6, 3, 5)[:, :, None, None]}, {"record": LENGTH}),
        ({"picture": floats(2, 8, 3, 16) * valid(16, 16, 9)[:, None, None]}, {"picture": {3: "length"}}),
        ({"codes": (floats(3, 6, 4) > 0).astype(np.float32), "rows": np.array(3)}, {"codes": LENGTH}),
        (
            {"characters": padded(10, 10, 6).astype(np.float32), "durations": padded(10, 10, 6), "x": floats(2, 24, 8)},
            {"characters": {1: "characters"}, "durations": {1: "characters"}, "x": {1: "x"}},
        ),
        ({"columns": ints(4, 39), "weights": floats(4, 39), "label": ints(4, top=2)}, {}),
        ({"user": ints(4, 1), "item": ints(4, 1)}, {}),
        ({"user": ints(4), "item": ints(4), "history": ints(4, 7)}, {"history": LENGTH}),
        ({"x": floats(4, 9, 9)}, {"x": {1: "length", 2: "length"}}),
        ({"x": floats(9, 4, 16), "lengths": np.array([9, 7, 3, 1])}, {"x": {0: "length"}}),  # time first
        (
            {
                "ids": ints(9, 4),
                "lengths": np.array([9, 7, 3, 1]),
                "target": ints(6, 4),
                "mask": padded(9, 9, 7, 3, 1) > 0,
            },
            {"ids": {0: "ids"}, "target": {0: "target"}, "mask": {1: "ids"}},
        ),
        ({"sound": floats(2, 5, 16) * valid(16, 16, 9)[:, None]}, {"sound": {2: "length"}}),  # channels first
        (
            {"x": floats(6, 16), "adjacency": floats(6, 6)},
            {"x": {0: "length"}, "adjacency": {0: "length", 1: "length"}},
        ),
        ({"dense_features": floats(4, 13)}, {}),
        ({"inputs": floats(2, 1, 81, 40), "input_length": np.array([40, 28])}, {"inputs": {3: "length"}}),
        ({"content": ints(4, 16), "solution": np.eye(3, dtype=np.float32)[[0, 1, 2, 0]]}, {"content": LENGTH}),
        (
            {"title": ints(2, 4, 8), "news": ints(2, 4), "label": ints(2, 3)},
            {"title": {2: "title"}, "label": {1: "label"}},
        ),
        ({"item": ints(4), "negatives": ints(4, 2)}, {}),
        (
            {
                "item": ints(4),
                "attributes": ints(4, 2),
                "history": padded(8, 8, 3, 5, 6),
                "seen": np.stack([padded(8, 8, 3, 5, 6)] * 2, -1),
            },
            {"history": LENGTH, "seen": LENGTH},
        ),
        (
            {"waves": floats(2, 5, 30, 3) * valid(5, 5, 3)[:, :, None, None], "targets": floats(2, 3, 3)},
            {"waves": LENGTH},
        ),
        ({"feature": ints(4, 16), "label": ints(4, 16, top=5)}, {"feature": LENGTH, "label": LENGTH}),
        ({"x": floats(2, 20, 6), "units": np.ones((2, 20, 16), np.float32)}, {"x": LENGTH, "units": LENGTH}),
        ({}, {}),
        # a name that speaks of columns counts only where nothing in the values says otherwise
        ({"feature": ints(4, 8), "label": ints(4, 8)}, {"feature": LENGTH, "label": LENGTH}),
        ({"feature": padded(8, 3, 5)}, {"feature": LENGTH}),
        (
            {"feature": floats(2, 8, 6), "masks": (padded(8, 8, 5) > 0)[..., None] * np.ones(4)},
            {"feature": LENGTH, "masks": LENGTH},
        ),
        ({"spectra": floats(2, 1, 81, 40), "lengths": np.array([40, 28])}, {"spectra": {3: "length"}}),
        # first states are zeros, squares of zeros no graph, and what is as wide as the ids is resized with them
        ({"seen": floats(3, 8, 5), "hidden": np.zeros((6, 8), np.float32)}, {"seen": LENGTH}),
        (
            {
                "ids": ints(3, 12),
                "extra": np.zeros((3, 3), np.float32),
                "context": np.zeros((3, 16), np.float32),
                "coverage": np.zeros((3, 12), np.float32),
            },
            {"ids": LENGTH, "coverage": LENGTH},
        ),
        # letters of words, of which lengths tell how many there are, filled up with 1
        (
            {"letters": ints(3, 12, 5) + 1, "words": ints(3, 12), "lengths": np.array([12, 7, 9])},
            {"letters": LENGTH, "words": LENGTH},
        ),
        # a speaker's vector, the same at every position
        ({"ids": padded(8, 8, 5, 7), "voice": floats(3, 512, 1)}, {"ids": LENGTH}),
        # classes one-hot, coordinates of sparse labels
        ({"ids": ints(4, 8), "solution": np.eye(3, dtype=np.int32)[[0, 1, 2, 1]]}, {"ids": LENGTH}),
        ({"ids": ints(4, 8), "places": ints(10, 2), "values": ints(10)}, {"ids": LENGTH}),
    ],
)
def test_axes(leaves, axes):
    assert inferred_axes(leaves) == axes
