"""Factories of the third set kept apart: whoever wrote these saw neither the rules of ``audit`` nor what it says of any model."""

from __future__ import annotations

import sys
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import nn

from benchmarks.auditing.models.checkouts import MODELS, enter, ragged, settings, stand_in, tensors, valid
from benchmarks.auditing.models.text import Built

CONTRIB = "mindspore-ai/contrib"
LAB = "mindspore-lab/models"
SCIENCE = "mindspore-ai/mindscience"
NLP = "mindspore-lab/mindnlp"
AUDIO = "mindspore-lab/mindaudio"


class Translator(nn.Cell):
    """An encoder and a decoder that is told the word before; its loss as in the notebook on translation, without padding."""

    def __init__(self, encoder: nn.Cell, decoder: nn.Cell) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.loss = nn.CrossEntropyLoss(ignore_index=0)

    def construct(self, sources: Any, lengths: Any, mask: Any, targets: Any) -> Any:
        scores, _ = self.decoder(targets[:, :-1], self.encoder(sources, lengths, mask))
        return self.loss(scores.view(-1, scores.shape[-1]), targets[:, 1:].reshape(-1))


class Several(nn.Cell):
    """A model that returns a list of three, as a tuple."""

    def __init__(self, network: nn.Cell) -> None:
        super().__init__(auto_prefix=False)
        self.network = network

    def construct(self, *inputs: Any) -> Any:
        first, second, third = self.network(*inputs)
        return first, second, third


def sakt(width: int = 16) -> Built:
    """What a pupil will answer: attention from exercises to what was answered before."""
    enter(CONTRIB, "application/a-self-attentive-model-for-knowledge-tracing")
    import model

    exercises, lengths = 20, (9, 5, 12, 7)
    model.d = 8  # the constructor reads its size from what the module's test sets
    network = model.sakt(ex_total=exercises, seq_len=width, dim=8, heads=2, dout=0.2)
    answered, asked = ragged(lengths, width, 2 * exercises), ragged(lengths, width, exercises, seed=1)
    return network, tensors(answered, asked)


def hstu() -> Built:
    """Generative recommendation: gated attention without a softmax, positions in buckets; inputs are embedded before."""
    enter(CONTRIB, "intern/GR-HSTU")
    from hstu import GenRec

    lengths, width, size = (9, 5, 12, 7), 16, 8
    history = np.random.normal(size=(4, width, size)) * valid(lengths, width)[:, :, None]
    return GenRec(d_model=size, num_heads=2, num_layers=2), tensors(history.astype(np.float32))


def kar(width: int = 12) -> Built:
    """Whether a user clicks: attention from the item to a history with lengths, and experts for what a language model said."""
    enter(LAB, "research/huawei-noah/KAR/src")
    mode = ms.get_context("mode")
    from models import KAR, KARWithLossCell

    ms.set_context(mode=mode)  # the module chooses one when it is imported
    items, attributes, lengths = 30, 2, (9, 5, 12, 7)
    rows = len(lengths)
    sizes = settings(
        augment=True,
        max_hist_len=width,
        embed_dim=4,
        final_mlp_arch=[16, 8],
        dropout=0.0,
        convert_dropout=0.0,
        din_mlp=[16, 8],
        expert_num=2,
        specific_expert_num=2,
        convert_arch=[8, 4],
    )
    data = settings(item_num=items, attr_num=items, attr_ft_num=attributes, rating_num=5, dense_dim=6)
    cell = KARWithLossCell(KAR(sizes, data), nn.BCELoss(reduction="mean"))
    cell.set_train()
    random = np.random.default_rng(3)
    history = np.stack([ragged(lengths, width, items, seed=seed) for seed in (1, 2)], -1)
    said = [random.normal(size=(rows, 6)).astype(np.float32) for _ in range(2)]
    return cell, tensors(
        random.integers(1, items, rows).astype(np.int32),
        random.integers(1, items, (rows, attributes)).astype(np.int32),
        ragged(lengths, width, items),
        history,
        ragged(lengths, width, 6, seed=4),
        np.array(lengths, np.int32),
        *said,
        np.array([0, 1, 1, 0], np.float32),
    )


def esm2() -> Built:
    """Language model of proteins: rotary positions, padding known by its id."""
    path = enter(SCIENCE, "MindSPONGE/src/mindsponge/pipeline/models")
    for name in ("esm2", "esm2.module", "esm_if1", "esm_if1.module"):
        stand_in(f"sponge.{name}", __path__=[str(path.joinpath(*name.split(".")))])
    stand_in("sponge", __path__=[str(path)])
    biotite = ("biotite", "biotite.sequence", "biotite.structure", "biotite.structure.io", "biotite.structure.residues")
    for name in biotite:
        stand_in(name, __getattr__=_nothing)
    vars(sys.modules["biotite"]).update(structure=settings(AtomArray=None))
    from sponge.esm2.nn_arch import ESM2

    network = ESM2(num_layers=1, embed_dim=128, attention_heads=2)  # a head is of 64, its halves are written in
    lengths, width, end, padding = (12, 7, 9), 14, 2, 1
    ids = np.where(valid(lengths, width), np.random.default_rng(0).integers(4, 24, (3, width)), padding)
    ids[:, 0] = 0
    ids[np.arange(3), np.array(lengths) - 1] = end
    return network, tensors(ids.astype(np.int32))


def _nothing(name: str) -> None:
    """What a stand-in gives for any name."""


def gteam() -> Built:
    """Earthquakes: waves at several stations, where they stand, and how strong it shakes elsewhere."""
    enter(SCIENCE, "MindEarth/applications/earthquake/G-TEAM/src")
    from models import WaveformFullmodel

    network = WaveformFullmodel(
        output_mlp_dims=(20, 7), output_location_dims=(20, 8), hidden_dim=16, transformer_layers=1, n_pga_targets=3
    )
    stations, width = (5, 3), 5
    own, random = valid(stations, width), np.random.default_rng(0)
    waves = random.normal(size=(2, width, 3000, 3)) * own[:, :, None, None]
    places = random.uniform(0, 1, (2, width, 3)) * own[:, :, None]
    targets = random.uniform(0, 1, (2, 3, 3))
    return Several(network), tensors(*(array.astype(np.float32) for array in (waves, places, targets)))


def recurrent() -> Built:
    """Translation: a GRU reads, cells of one write with attention under a mask, word by word."""
    path = enter(NLP, "mindnlp")
    for name in ("", ".abc", ".modules", "._legacy"):
        stand_in(f"mindnlp{name}", __path__=[str(path.joinpath(*name.split(".")))])
    from mindnlp.abc.modules.decoder import DecoderBase
    from mindnlp.abc.modules.encoder import EncoderBase

    vars(sys.modules["mindnlp.abc"]).update(DecoderBase=DecoderBase, EncoderBase=EncoderBase)
    from mindnlp.modules.decoder.rnn_decoder import RNNDecoder
    from mindnlp.modules.encoder.rnn_encoder import RNNEncoder

    words, size, hidden, width = 30, 8, 8, 12
    encoder = RNNEncoder(nn.Embedding(words, size), nn.GRU(size, hidden, batch_first=True))
    cells = [nn.GRUCell(size + hidden, hidden)]
    decoder = RNNDecoder(nn.Embedding(words, size), cells, encoder_output_units=hidden, mode="GRU")
    lengths, answers = (9, 5, 12, 7), (6, 3, 9, 4)
    sources, targets = ragged(lengths, width, words), ragged(answers, 9, words, seed=1)
    return Translator(encoder, decoder), tensors(sources, np.array(lengths, np.int32), valid(lengths, width), targets)


def tasnet() -> Built:
    """Two speakers apart: an LSTM over pieces of a wave, and the best of both orders as the loss."""
    path = enter(AUDIO, "mindaudio")
    for name in ("", ".models", ".loss"):
        stand_in(f"mindaudio{name}", __path__=[str(path.joinpath(*name.split(".")))])
    from mindaudio.loss.separation_loss import NetWithLoss, Separation_Loss
    from mindaudio.models.tasnet import TasNet

    piece, width, lengths = 6, 20, (20, 13)
    network = TasNet(piece, 8, 8, 1).to_float(ms.float16)  # as train.py does
    cell = NetWithLoss(network, Separation_Loss())
    cell.set_train()
    speakers = np.random.normal(size=(2, 2, width, piece)) * valid(lengths, width)[:, None, :, None]
    waves = [array.astype(np.float32) for array in (speakers.sum(1), speakers)]
    return cell, tensors(waves[0], np.array(lengths, np.int32), waves[1])


def duconv() -> Built:
    """Which answer fits a talk: BERT over both, and attention to a bidirectional GRU over what is known, with lengths."""
    enter(MODELS, "research/nlp/duconv")
    from src.bert import BertConfig
    from src.model import RetrievalWithLoss

    width = 16
    config = BertConfig(
        seq_length=width,
        vocab_size=30,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        max_position_embeddings=40,
    )
    said, known = (16, 9, 12), (10, 16, 7)
    own = valid(said, width)
    return RetrievalWithLoss(config, True), tensors(
        ragged(said, width, 30),
        (np.arange(width) > 4).astype(np.int32) * own,
        np.arange(width, dtype=np.int32) * own,
        ragged(known, width, 30, seed=1),
        np.array(known, np.int32)[:, None],
        np.array([[1], [0], [1]], np.int32),
    )
