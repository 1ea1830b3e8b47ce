"""Factories: text classification, tagging and matching."""

from __future__ import annotations

from typing import Any

import mindspore as ms
import numpy as np
from mindspore import nn

from benchmarks.auditing.models.checkouts import (
    MODELS,
    STILL,
    WithLoss,
    enter,
    ragged,
    settings,
    stand_in,
    tensors,
    valid,
)

LENGTHS = (9, 5, 12, 7)
WIDTH, VOCABULARY, CLASSES = 16, 30, 2
LABELS = np.array([0, 1, 1, 0], np.int32)
Built = tuple[nn.Cell, tuple[Any, ...]]


def textcnn() -> Built:
    """Convolutions over the text, pooled over a stored width."""
    enter(MODELS, "research/nlp/textcnn")
    from src.textcnn import SoftmaxCrossEntropyExpand, TextCNN

    network = TextCNN(vocab_len=VOCABULARY, word_len=WIDTH, num_classes=CLASSES, vec_length=8)
    return WithLoss(network, SoftmaxCrossEntropyExpand(sparse=True)), tensors(
        ragged(LENGTHS, WIDTH, VOCABULARY), LABELS
    )


def sentiment() -> Built:
    """A bidirectional LSTM that reads its outputs at 0 and at 499."""
    enter(MODELS, "official/nlp/LSTM")
    stand_in("gensim")
    from src.lstm import SentimentNet

    table = ms.Tensor(np.random.normal(size=(VOCABULARY, 8)).astype(np.float32))
    network = SentimentNet(VOCABULARY, 8, 4, 1, True, CLASSES, table, batch_size=4)
    loss = nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")
    return WithLoss(network, loss), tensors(ragged((300, 120, 500, 260), 500, VOCABULARY), LABELS)


def lstm_crf(width: int = WIDTH) -> Built:
    """A tagger: BiLSTM and CRF, without a mask."""
    enter(MODELS, "research/nlp/lstm_crf")
    from src.LSTM_CRF import Lstm_CRF

    table = ms.Tensor(np.random.normal(size=(VOCABULARY, 8)).astype(np.float32))
    cell = Lstm_CRF(
        vocab_size=VOCABULARY,
        tag_to_index={"O": 0, "B": 1, "I": 2},
        embedding_size=8,
        hidden_size=4,
        num_layers=1,
        weight=table,
        bidirectional=True,
        batch_size=4,
        seq_length=width,
    )
    return cell, tensors(ragged(LENGTHS, width, VOCABULARY), ragged(LENGTHS, width, 3, seed=1))


def atae_lstm() -> Built:
    """Aspect sentiment: an LSTM unrolled in Python, with lengths, and attention without them."""
    enter(MODELS, "research/nlp/atae_lstm")
    from src.atae_for_train import NetWithLoss
    from src.model import AttentionLstm

    config = settings(
        dim_word=8,
        dim_hidden=8,
        dim_aspect=8,
        vocab_size=VOCABULARY,
        grained=3,
        aspect_num=5,
        dropout_prob=0.5,
        batch_size=4,
    )
    table = ms.Tensor(np.random.normal(size=(VOCABULARY, 8)).astype(np.float32))
    cell = NetWithLoss(AttentionLstm(config, table), batch_size=4)
    solution = np.eye(3, dtype=np.int32)[[0, 1, 2, 1]]
    return cell, tensors(
        ragged(LENGTHS, WIDTH, VOCABULARY), np.array(LENGTHS, np.int32), np.array([0, 1, 2, 3], np.int32), solution
    )


def fasttext() -> Built:
    """The mean of the word vectors, then one float16 layer."""
    enter(MODELS, "research/nlp/fasttext")
    from src.fasttext_train import FastTextNetWithLoss

    lengths = np.array(LENGTHS, np.float32)[:, None]
    cell = FastTextNetWithLoss(VOCABULARY, 8, CLASSES)
    return cell, tensors(ragged(LENGTHS, WIDTH, VOCABULARY), lengths, LABELS[:, None])


def hypertext() -> Built:
    """Hyperbolic embeddings in float16, and their Einstein midpoint."""
    enter(MODELS, "research/nlp/hypertext")
    from src.hypertext_train import HModelWithLoss

    config = settings(embed=8, n_vocab=VOCABULARY, bucket=20, dropout=0.0, num_classes=CLASSES)
    return HModelWithLoss(config), tensors(
        ragged(LENGTHS, WIDTH, VOCABULARY), ragged(LENGTHS, WIDTH, 20, seed=1), LABELS[:, None]
    )


def textrcnn() -> Built:
    """Two GRUs unrolled in Python, in float16, and the maximum over the text."""
    enter(MODELS, "research/nlp/textrcnn")
    from src.textrcnn import textrcnn as network

    table = ms.Tensor(np.random.normal(size=(VOCABULARY, 300)).astype(np.float32))
    loss = nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")
    ids = ragged((6, 3, 8, 5), 8, VOCABULARY)
    return WithLoss(network(table, VOCABULARY, "gru", 4), loss), tensors(ids, LABELS)


def emotect() -> Built:
    """ERNIE for classification; ``compute_type`` float16, as published."""
    enter(MODELS, "research/nlp/emotect")
    from src.ernie_for_finetune import ErnieCLS
    from src.ernie_model import ErnieConfig

    config = ErnieConfig(
        seq_length=WIDTH,
        vocab_size=VOCABULARY,
        **STILL,
        max_position_embeddings=32,
        dtype=ms.float32,
        compute_type=ms.float16,
    )
    cell = ErnieCLS(config, is_training=True, num_labels=CLASSES)
    return cell, tensors(
        ragged(LENGTHS, WIDTH, VOCABULARY), valid(LENGTHS, WIDTH), np.zeros((4, WIDTH), np.int32), LABELS[:, None]
    )
