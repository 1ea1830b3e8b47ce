"""Factories of the models kept apart: ``audit`` was never looked at on them while its rules were written."""

from __future__ import annotations

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
from benchmarks.auditing.models.text import CLASSES, LABELS, LENGTHS, VOCABULARY, WIDTH, Built


def gpt2() -> Built:
    """A language model with its mask; ``compute_type`` float16, as published."""
    enter(MODELS, "research/nlp/gpt2")
    from src.gpt2_for_finetune import GPT2LM
    from src.GPT2_model import GPT2Config

    config = GPT2Config(
        batch_size=4,
        seq_length=WIDTH,
        vocab_size=VOCABULARY,
        d_model=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        max_position_embeddings=64,
        summary_first_dropout=0.0,
    )
    ids, mask = ragged(LENGTHS, WIDTH, VOCABULARY), valid(LENGTHS, WIDTH)
    return GPT2LM(config, is_training=True), tensors(ids, mask, ids.copy())


def speech_transformer() -> Built:
    """Spectra to text: masks of the source, of the target, and weights of the labels."""
    enter(MODELS, "research/audio/speech_transformer")
    from src.transformer_for_train import TransformerNetworkWithLoss
    from src.transformer_model import TransformerConfig

    config = TransformerConfig(
        batch_size=2,
        seq_length=WIDTH,
        vocab_size=VOCABULARY,
        **STILL,
        max_position_embeddings=64,
        compute_type=ms.float16,
    )
    config.input_feature_size = 6
    frames, words = (14, 9), (7, 5)
    mask = valid(frames, WIDTH)
    features = np.random.normal(size=(2, WIDTH, 6)).astype(np.float32) * mask[:, :, None]
    targets, labels = ragged(words, 10, VOCABULARY), ragged(words, 10, VOCABULARY, seed=1)
    weights = valid(words, 10)
    return TransformerNetworkWithLoss(config, True), tensors(
        features.astype(np.float32), mask, targets, weights, labels, weights
    )


def gcn() -> Built:
    """Graph convolutions on one graph, its labels and mask stored. Nothing in it is ragged."""
    enter(MODELS, "official/gnn/GCN")
    from src.gcn import GCN
    from src.metrics import LossWrapper

    nodes, classes, random = 14, 3, np.random.default_rng(0)
    labels = np.eye(classes, dtype=np.float32)[random.integers(0, classes, nodes)]
    network = GCN(settings(hidden1=8, dropout=0.0), 6, classes)
    adjacency = (random.random((nodes, nodes)) < 0.3).astype(np.float32) / 4
    features = random.normal(size=(nodes, 6)).astype(np.float32)
    return LossWrapper(network, labels, np.ones(nodes), 5e-4), tensors(adjacency, features)


def tinybert() -> Built:
    """TinyBERT for classification, with the loss of its distillation's labels; ``compute_type`` float16."""
    enter(MODELS, "research/nlp/tinybert")
    from src.tinybert_model import BertConfig, BertModelCLS

    config = BertConfig(
        seq_length=WIDTH,
        vocab_size=VOCABULARY,
        **STILL,
        max_position_embeddings=64,
        type_vocab_size=2,
        compute_type=ms.float16,
    )
    network = BertModelCLS(config, True, num_labels=CLASSES)
    network.set_train(False)  # in training it returns what a student is compared by, too
    inputs = ragged(LENGTHS, WIDTH, VOCABULARY), np.zeros((4, WIDTH), np.int32), valid(LENGTHS, WIDTH)
    return WithLoss(network, nn.NLLLoss()), tensors(*inputs, LABELS)


def seq2seq() -> Built:
    """LSTMs by ``ops.DynamicRNN``, for which CPU has no kernel."""
    enter(MODELS, "research/nlp/seq2seq")
    for name in ("subword_nmt", "subword_nmt.apply_bpe", "sacremoses", "onnx", "onnxruntime"):
        stand_in(name)
    from config import Seq2seqConfig
    from src.seq2seq_model.seq2seq_for_train import Seq2seqTraining

    config = Seq2seqConfig(
        batch_size=2,
        seq_length=9,
        vocab_size=VOCABULARY,
        hidden_size=16,
        num_hidden_layers=2,
        max_decode_length=8,
        hidden_dropout_prob=0.1,
    )
    sources, targets = ragged((9, 6), 9, VOCABULARY), ragged((7, 5), 8, VOCABULARY, seed=1)
    return Seq2seqTraining(config, True, False), tensors(sources, valid((9, 6), 9), targets)


def wavenet() -> Built:
    """Dilated causal convolutions over audio, its loss the cross-entropy of all samples but the first."""
    enter(MODELS, "research/audio/wavenet")
    from wavenet_vocoder import WaveNet

    network = WaveNet(
        out_channels=8,
        layers=2,
        stacks=1,
        residual_channels=8,
        gate_channels=8,
        skip_out_channels=8,
        kernel_size=2,
        dropout=0.0,
    )
    audio = np.eye(8, dtype=np.float32)[np.random.default_rng(0).integers(0, 8, (2, 20))].transpose(0, 2, 1)
    return network, tensors(audio * valid((20, 13), 20)[:, None, :].astype(np.float32))
