"""The model against the paper's equations in NumPy, and what padding may not change."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from examples.common.randomness import Stream, generator
from examples.texting import data
from examples.texting.data import build
from examples.texting.model import Loss, TextING
from examples.texting.train import _vectors

HIDDEN = 8


def network(finite_masks: bool = True) -> TextING:
    random = np.random.default_rng(1)
    vectors = random.normal(size=(11, 5)).astype(np.float32)
    return TextING(vectors, 3, np.random.default_rng(2), hidden=HIDDEN, finite_masks=finite_masks)


@pytest.fixture(scope="module")
def batch():
    """Three documents of 1, 4 and 6 nodes, as collate makes them."""
    texts = [[3], [1, 2, 3, 4, 1], [5, 6, 7, 8, 9, 10, 5, 7]]
    graphs = build(np.concatenate(texts), np.array([len(text) for text in texts]))
    return data.collate(graphs, np.arange(11, dtype=np.int32), np.arange(3))


def call(cell, *arrays):
    return cell(*(None if array is None else Tensor(array) for array in arrays)).asnumpy()


def reference(net: TextING, nodes, adjacency, mask, keep_features=1.0, keep_readout=1.0):
    """Zhang et al. 2020, document by document, without padding."""
    weight = {parameter.name: parameter.asnumpy() for parameter in net.trainable_params()}

    def dense(name, x):
        return x @ weight[f"{name}.weight"].T + weight.get(f"{name}.bias", 0)

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    logits = []
    for document in range(len(nodes)):
        n = int(mask[document].sum())
        x = weight["vectors"][nodes[document, :n]] * np.broadcast_to(keep_features, (*nodes.shape, 5))[document, :n]
        x = np.tanh(dense("encode", x))
        for _ in range(2):
            neighbours = np.split(dense("layers.gathered", adjacency[document, :n, :n] @ x), 3, -1)
            itself = np.split(dense("layers.own", x), 2, -1)
            update, reset = sigmoid(neighbours[0] + itself[0]), sigmoid(neighbours[1] + itself[1])
            candidate = np.tanh(neighbours[2] + dense("layers.kept", reset * x))
            x = candidate * update + x * (1 - update)
        x = sigmoid(dense("attention", x)) * np.tanh(dense("embed", x))
        readout = (x.mean(0) + x.max(0)) * np.broadcast_to(keep_readout, (len(nodes), HIDDEN))[document]
        logits.append(dense("classify", readout))
    return np.stack(logits)


@pytest.mark.parametrize("finite_masks", [True, False])
def test_logits_are_those_of_the_paper(batch, finite_masks):
    net = network(finite_masks)
    np.testing.assert_allclose(call(net, *batch), reference(net, *batch), atol=2e-6)


def test_dropout_masks_act_on_word_vectors_and_readout(batch):
    net, random = network(), np.random.default_rng(3)
    keep_features = (random.random((3, 6, 5)) < 0.5).astype(np.float32) * 2
    keep_readout = (random.random((3, HIDDEN)) < 0.5).astype(np.float32) * 2
    found = call(net, *batch, keep_features, keep_readout)
    np.testing.assert_allclose(found, reference(net, *batch, keep_features, keep_readout), atol=2e-6)


def test_padding_changes_neither_logits_nor_loss_nor_gradients(batch):
    net = network()
    loss = Loss(net)
    weights = list(net.trainable_params())
    gradients = ms.value_and_grad(loss, None, weights)
    ones, labels = np.ones((3, 6, 5), np.float32), np.array([0, 1, 2], np.int32)
    arrays = (*batch, ones, np.ones((3, HIDDEN), np.float32), labels, np.ones(3, np.float32))
    wider = [
        np.pad(array, [(0, 2), *([(0, 4)] * nodes), *([(0, 0)] * (array.ndim - 1 - nodes))])
        for array, nodes in zip(arrays, (1, 2, 1, 1, 0, 0, 0))
    ]
    value, grads = gradients(*map(Tensor, arrays))
    padded_value, padded_grads = gradients(*map(Tensor, wider))
    assert float(padded_value) == pytest.approx(float(value), abs=1e-6)
    assert np.isfinite(float(value))
    for grad, padded in zip(grads, padded_grads):
        np.testing.assert_allclose(padded.asnumpy(), grad.asnumpy(), atol=1e-6)
    np.testing.assert_allclose(call(net, *wider[:3])[:3], call(net, *batch), atol=1e-6)


def test_finite_masks_survive_float16_and_additive_masks_do_not(batch):
    finite, additive = (call(network(kind).to_float(ms.float16), *batch) for kind in (True, False))
    np.testing.assert_allclose(finite.astype(np.float32), reference(network(), *batch), atol=5e-3)
    assert np.isnan(additive).any()


def test_words_without_a_vector_of_their_own_share_the_zero_vector(tmp_path, corpus_folder):
    index = (corpus_folder / "toy.clean.txt").read_text().split("\n")
    index[70] += " unseen exotic"
    (corpus_folder / "toy.clean.txt").write_text("\n".join(index))
    (tmp_path / "vectors.txt").write_text("good 1 2 3\nexotic 4 5 6\nelsewhere 7 8 9\n")
    corpus = data.read_folder(corpus_folder)
    train = np.arange(60)

    def vectors(**request):
        return _vectors(corpus, train, {"embeddings": None, "width": None, **request}, generator(0, Stream.WEIGHTS))

    place = {word: number for number, word in enumerate(corpus.vocabulary)}
    rows, table = vectors(width=7)
    assert table.shape == (len(corpus.vocabulary) - 1, 7) and rows.max() == len(table) - 1
    assert rows[place["unseen"]] == rows[place["exotic"]] == 0 and not table[0].any()
    rows, table = vectors(embeddings=str(tmp_path / "vectors.txt"))
    assert table.shape == (len(corpus.vocabulary), 3) and rows[place["unseen"]] == 0
    assert table[rows[place["good"]]].tolist() == [1, 2, 3] and table[rows[place["exotic"]]].tolist() == [4, 5, 6]
    assert np.abs(table[rows[place["bad"]]]).max() <= 0.01
    assert len(set(rows.tolist())) == len(rows)
