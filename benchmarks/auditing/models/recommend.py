"""Factories: recommendation, knowledge tracing and graphs."""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import nn

from benchmarks.auditing.models.checkouts import MODELS, enter, ragged, settings, tensors
from benchmarks.auditing.models.text import Built


def naml() -> Built:
    """News by their titles, abstracts and categories; users by the news they read. No masks anywhere."""
    enter(MODELS, "research/recommend/naml")
    from src.naml import NAML, NAMLWithLossCell

    read, candidates, title, abstract = 4, 3, 8, 12
    config = settings(
        n_categories=5,
        category_embedding_dim=8,
        n_filters=8,
        n_sub_categories=6,
        n_words=30,
        word_embedding_dim=8,
        window_size=3,
        phase="train",
        dropout_ratio=0.2,
        query_vector_dim=8,
        n_words_title=title,
        n_words_abstract=abstract,
        batch_size=2,
        n_browsed_news=read,
        neg_sample=candidates - 1,
    )

    def news(count: int, seed: int) -> list[np.ndarray]:
        random = np.random.default_rng(seed)
        titles = ragged(tuple(random.integers(3, title, 2 * count)), title, 30, seed).reshape(2, count, title)
        texts = ragged(tuple(random.integers(5, abstract, 2 * count)), abstract, 30, seed).reshape(2, count, abstract)
        kinds = [random.integers(1, high, (2, count)).astype(np.int32) for high in (5, 6)]
        return [*kinds, titles, texts]

    labels = np.eye(candidates, dtype=np.int32)[[0, 2]]
    return NAMLWithLossCell(NAML(config)), tensors(*news(read, 0), *news(candidates, 1), labels)


def ncf() -> Built:
    """Users and items, one pair a row: nothing in it is ragged."""
    enter(MODELS, "research/recommend/ncf")
    from src.ncf import NCFModel, NetWithLossClass

    network = NCFModel(10, 12, 8, [16, 16, 8], [0.0], [0.0, 0.0, 0.0], 8)
    random = np.random.default_rng(0)
    users, items = (random.integers(0, high, (6, 1)).astype(np.int32) for high in (10, 12))
    labels = random.integers(0, 2, (6, 1)).astype(np.int32)
    return NetWithLossClass(network), tensors(users, items, labels, np.ones((6, 1), np.float32))


def dkt() -> Built:
    """Deep knowledge tracing: an LSTM, BatchNorm, and the answers a mask selects."""
    ms.ms_function = ms.jit
    enter(MODELS, "research/recommend/SRC")
    from KTScripts.PredictModel import ModelWithLoss, PredictModel

    network = PredictModel(20, 8, 8, [8], 0.0, model_name="DKT")
    lengths = (7, 12, 5, 9)
    items, right = ragged(lengths, 12, 20), np.random.default_rng(0).integers(0, 2, (4, 12)).astype(np.float32)
    mask = np.arange(12) < np.array(lengths)[:, None]
    return ModelWithLoss(network, nn.BCELoss(reduction="mean")), tensors(items, right * mask, mask)


def bgcf() -> Built:
    """Graph filtering: float16 aggregators over fixed numbers of neighbours, and their number as a Python int."""
    enter(MODELS, "research/gnn/bgcf")
    from src.bgcf import BGCF

    network = BGCF([8, 10, 12], 8, "tanh", [0.0, 0.0, 0.0], 10, 12, 8)
    random = np.random.default_rng(0)

    def ids(high: int, *shape: int) -> np.ndarray:
        return random.integers(0, high, shape).astype(np.int32)

    rows, negatives = 4, 2
    arrays = [ids(10, rows), ids(12, rows), ids(12, rows, negatives), ids(10, rows), ids(12, rows)]
    arrays += [ids(10, 2 * rows), ids(12, 2 * rows, 3), ids(12, 2 * rows, 3)]
    arrays += [ids(12, 2 * rows), ids(10, 2 * rows, 3), ids(10, 2 * rows, 3)]
    arrays += [ids(12, rows * negatives), ids(10, rows * negatives, 3), ids(10, rows * negatives, 3)]
    return network, (*tensors(*arrays), negatives)


def gat() -> Built:
    """Graph attention on one graph, its labels and mask stored."""
    enter(MODELS, "research/gnn/gat")
    from src.gat import GAT
    from src.utils import LossNetWrapper

    nodes, classes = 14, 3
    network = GAT(6, classes, nodes, hidden_units=[4], num_heads=[2, 1])
    random = np.random.default_rng(0)
    labels = np.eye(classes, dtype=np.float32)[random.integers(0, classes, nodes)][None]
    edges = (random.random((nodes, nodes)) < 0.3) | np.eye(nodes, dtype=bool)
    biases = np.where(edges, 0.0, -1e9).astype(np.float32)[None]
    features = random.normal(size=(1, nodes, 6)).astype(np.float32)
    return LossNetWrapper(network, classes, labels, np.ones((1, nodes)), 5e-4), tensors(features, biases)
