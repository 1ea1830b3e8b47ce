"""Corpora: the published format and its errors, the built-in corpus, splits and batches."""

from __future__ import annotations

import numpy as np
import pytest
from example_support import CORPORA, write_corpus
from hypothesis import given, settings
from hypothesis import strategies as st

from ascend_fixes.errors import AscendFixesError
from examples.common.files import ExampleError
from examples.common.randomness import chunks
from examples.texting import data
from examples.texting.data import build


def test_reads_the_published_format(corpus_folder):
    corpus = data.read_folder(corpus_folder)
    assert (len(corpus), corpus.is_train.sum(), corpus.label_names) == (80, 60, ("no", "yes"))
    words = [corpus.vocabulary[i] for i in corpus.words[: corpus.lengths[:3].sum()]]
    assert words == ["good", "bad", "w1", "good", "w2", "w4"]
    assert corpus.labels[:4].tolist() == [1, 0, 1, 0]


@pytest.mark.parametrize(
    "name, documents, train, labels, vocabulary",
    [("mr", 10662, 7108, 2, 18764), ("r8", 7674, 5485, 8, 7688)],
)
def test_reads_the_real_corpora(name, documents, train, labels, vocabulary):
    if not (CORPORA / name).is_dir():
        pytest.skip(f"the corpus is not there: {CORPORA / name}")
    corpus = data.read_folder(CORPORA / name)
    assert len(corpus) == documents and corpus.is_train.sum() == train
    assert len(corpus.label_names) == labels and len(corpus.vocabulary) == vocabulary


def replace_line(path, number, text):
    lines = path.read_text(encoding="utf-8").split("\n")
    lines[number - 1] = text
    path.write_text("\n".join(lines), encoding="utf-8")


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda f: (f / "toy.clean.txt").unlink(), "exactly one file named <name>.clean.txt, found 0"),
        (lambda f: (f / "other.clean.txt").write_text("a"), "found 2"),
        (lambda f: (f / "toy.txt").unlink(), "toy.txt: No such file"),
        (lambda f: (f / "toy.txt").write_text("0\ttrain\tyes\n"), "has 80 documents but toy.txt labels 1"),
        (lambda f: replace_line(f / "toy.txt", 3, "2\tdev\tyes"), "line 3: expected id<TAB>train|test<TAB>label"),
        (lambda f: replace_line(f / "toy.txt", 3, "2 train yes"), "toy.txt, line 3"),
        (lambda f: replace_line(f / "toy.txt", 80, "2\ttest\tmaybe"), "label 'maybe' occurs in the test set only"),
        (lambda f: replace_line(f / "toy.clean.txt", 5, "  "), "toy.clean.txt, line 5: empty document"),
        (lambda f: (f / "toy.clean.txt").write_bytes(b"good \xff"), "toy.clean.txt: not UTF-8 (byte 5)"),
    ],
)
def test_malformed_folders_are_refused_in_one_line(corpus_folder, damage, message):
    damage(corpus_folder)
    with pytest.raises(AscendFixesError) as error:
        data.read_folder(corpus_folder)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("train, test", [(10, 5), (30, 0)])
def test_a_corpus_without_enough_documents_is_refused(tmp_path, train, test):
    with pytest.raises(ExampleError, match="needs at least 20 training documents"):
        data.read_folder(write_corpus(tmp_path / "small", train, test))


def test_one_label_is_refused(tmp_path):
    folder = write_corpus(tmp_path / "one", 40, 10)
    index = folder / "toy.txt"
    index.write_text(index.read_text().replace("yes", "no"))
    with pytest.raises(ExampleError, match="only one label"):
        data.read_folder(folder)


def test_built_in_corpus_is_seeded_and_balanced():
    corpus, again, other = data.built_in(seed=1), data.built_in(seed=1), data.built_in(seed=2)
    assert corpus.digest() == again.digest() != other.digest()
    assert np.bincount(corpus.labels[corpus.is_train]).tolist() == [1200, 1200]
    assert corpus.lengths.max() > 4 * np.median(corpus.lengths)


def test_built_in_corpus_needs_more_than_its_words():
    """Naive Bayes over words stays near chance; over pairs of neighbouring words it does not."""
    corpus = data.built_in()
    document = np.repeat(np.arange(len(corpus)), corpus.lengths)
    same = document[:-1] == document[1:]
    pairs = (corpus.words[:-1] * len(corpus.vocabulary) + corpus.words[1:])[same]
    assert naive_bayes(corpus, document, corpus.words) < 0.6
    assert naive_bayes(corpus, document[:-1][same], np.unique(pairs, return_inverse=True)[1]) > 0.85


def naive_bayes(corpus, document, features):
    counts = np.ones((2, features.max() + 1))
    train = corpus.is_train[document]
    np.add.at(counts, (corpus.labels[document[train]], features[train]), 1)
    evidence = np.log(counts / counts.sum(1, keepdims=True))
    scores = np.stack([np.bincount(document, evidence[label][features], len(corpus)) for label in (0, 1)])
    return (scores.argmax(0) == corpus.labels)[~corpus.is_train].mean()


def test_split_parts_are_disjoint_and_keep_the_test_set(corpus_folder):
    corpus = data.read_folder(corpus_folder)
    parts = data.split(corpus, seed=3)
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(80))
    assert parts["test"].tolist() == list(range(60, 80)) and len(parts["validation"]) == 6
    assert not np.array_equal(parts["validation"], data.split(corpus, seed=4)["validation"])


@settings(deadline=None, max_examples=100)
@given(st.lists(st.sampled_from([4, 8, 16]), min_size=1, max_size=60), st.integers(1, 9), st.integers(0, 5))
def test_chunks_hold_every_document_once_and_few_mixed_widths(widths, size, seed):
    widths = np.array(widths)
    found = chunks(np.arange(len(widths)), widths, size, np.random.default_rng(seed))
    assert sorted(np.concatenate(found).tolist()) == list(range(len(widths)))
    assert sorted(map(len, found))[1:] == [size] * (len(found) - 1)
    assert sum(len(set(widths[chunk])) > 1 for chunk in found) <= len(set(widths)) - 1


@settings(deadline=None, max_examples=50)
@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=15), min_size=2, max_size=6), st.integers(0, 4))
def test_collated_arrays_hold_the_documents_and_zeros(texts, extra):
    words = np.array([word for text in texts for word in text])
    graphs = build(words, np.array([len(text) for text in texts]))
    rows = np.arange(1, 11, dtype=np.int32)
    chosen = np.arange(len(texts))[::-1]
    width = max(len(graph.nodes) for graph in graphs) + extra
    nodes, adjacency, mask = data.collate(graphs, rows, chosen, width)
    assert nodes.shape == mask.shape[:2] == (len(texts), width) and adjacency.shape == (len(texts), width, width)
    for place, number in enumerate(chosen):
        distinct = sorted(set(texts[number]))
        assert nodes[place].tolist() == [word + 1 for word in distinct] + [0] * (width - len(distinct))
        assert mask[place, :, 0].tolist() == [1.0] * len(distinct) + [0.0] * (width - len(distinct))
        assert not adjacency[place, len(distinct) :].any() and not adjacency[place, :, len(distinct) :].any()
        np.testing.assert_array_equal(adjacency[place], adjacency[place].T)
