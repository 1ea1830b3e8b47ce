"""The graph builder against a plain reading of the paper."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from examples.texting.data import Graph, build

documents = st.lists(st.lists(st.integers(0, 12), max_size=20), min_size=1, max_size=6)


def flat(texts):
    words = np.array([word for text in texts for word in text], np.int64)
    return words, np.array([len(text) for text in texts], np.int64)


def dense(graph: Graph) -> tuple[list[int], np.ndarray]:
    """The words of a document's nodes and its adjacency matrix."""
    matrix = np.zeros((len(graph.nodes), len(graph.nodes)))
    matrix[graph.rows, graph.columns] = graph.weights
    return graph.nodes.tolist(), matrix


def by_sliding_a_window(text: list[int], window: int) -> tuple[list[int], np.ndarray]:
    """Window by window, pair by pair, then D^-1/2 A D^-1/2."""
    words = sorted(set(text))
    matrix = np.zeros((len(words), len(words)))
    for start in range(max(1, len(text) - window + 1)):
        for a, b in itertools.permutations(text[start : start + window], 2):
            if a != b:
                matrix[words.index(a), words.index(b)] = 1
    degree = matrix.sum(1)
    scale = np.array([d**-0.5 if d else 0.0 for d in degree])
    return words, scale[:, None] * matrix * scale


@settings(deadline=None, max_examples=200)
@given(documents, st.integers(2, 5))
def test_graphs_are_those_of_a_sliding_window(texts, window):
    graphs = build(*flat(texts), window=window)
    assert len(graphs) == len(texts)
    for number, text in enumerate(texts):
        words, matrix = dense(graphs[number])
        expected_words, expected = by_sliding_a_window(text, window)
        assert words == expected_words
        np.testing.assert_allclose(matrix, expected, atol=1e-6)


@settings(deadline=None, max_examples=50)
@given(documents, st.randoms())
def test_a_document_does_not_depend_on_its_neighbours(texts, random):
    order = list(range(len(texts)))
    random.shuffle(order)
    here, there = build(*flat(texts)), build(*flat([texts[i] for i in order]))
    for place, number in enumerate(order):
        words, matrix = dense(here[number])
        moved_words, moved = dense(there[place])
        assert words == moved_words
        np.testing.assert_array_equal(matrix, moved)
