"""Factories of the second set kept apart: whoever wrote these never looked at the rules of ``audit``, nor at what it says of them."""

from __future__ import annotations

from typing import Any

import mindspore as ms
import numpy as np
from mindspore import nn

from benchmarks.auditing.models.checkouts import MODELS, enter, ragged, settings, stand_in, tensors, valid
from benchmarks.auditing.models.text import Built

LAB = "mindspore-lab/models"
CONTRIB = "mindspore-ai/contrib"


class Reader(nn.Cell):
    """A head that reads text from features of images, and its loss; joined as ``mindocr``'s BaseModel and trainer do."""

    def __init__(self, head: nn.Cell, loss: nn.Cell) -> None:
        super().__init__()
        self.head, self.loss = head, loss

    def construct(self, features: Any, *targets: Any) -> Any:
        return self.loss(self.head(features, targets), targets[0])


def robustscanner() -> Built:
    """Text in images: two attention decoders over features of images of several widths."""
    enter("mindspore-lab/mindocr", "mindocr/losses")
    enter("mindspore-lab/mindocr", "mindocr/models/heads")
    from rec_loss import SARLoss
    from rec_robustscanner_head import RobustScannerHead

    start, padding, widths, words, longest = 11, 12, (16, 9), (7, 5), 10
    head = RobustScannerHead(
        out_channels=13,
        in_channels=8,
        enc_outchannles=8,
        hybrid_dec_rnn_layers=1,
        position_dec_rnn_layers=1,
        start_idx=start,
        padding_idx=padding,
    )
    cell = Reader(head, SARLoss(ignore_index=padding))
    cell.set_train()
    mask = valid(widths, 16)
    features = np.random.normal(size=(2, 8, 3, 16)).astype(np.float32) * mask[:, None, None, :]
    labels = np.where(valid(words, longest), ragged(words, longest, 11), padding).astype(np.int32)
    labels[:, 0] = start
    places = np.broadcast_to(np.arange(longest, dtype=np.int32), (2, longest)).copy()
    return cell, tensors(features.astype(np.float32), labels, mask[:, None, :], places)


def ecapa() -> Built:
    """Who speaks: convolutions over spectra, statistics pooled by attention, and an angular margin."""
    path = enter("mindspore-lab/mindaudio", "examples/ECAPA-TDNN").parents[1] / "mindaudio"
    inside = (f"mindaudio.{name}" for name in ("data", "data.io", "data.features", "data.processing", "data.voxceleb"))
    for name in ("wget", "config", "reader", "sampler", "spec_augment", *inside):
        stand_in(name, __getattr__=_nothing)
    for name in ("mindaudio", "mindaudio.models", "mindaudio.loss"):
        stand_in(name, __path__=[str(path.joinpath(*name.split(".")[1:]))])
    from mindaudio.loss.AdditiveAngularMargin import AdditiveAngularMargin
    from mindaudio.models.ecapatdnn import Classifier, EcapaTDNN
    from train_speaker_embeddings import BuildTrainNetwork

    network = EcapaTDNN(
        6,
        lin_neurons=12,
        channels=(16, 16, 16, 16, 48),
        attention_channels=8,
        res2net_scale=4,
        se_channels=8,
    )
    loss = nn.SoftmaxCrossEntropyWithLogits(sparse=False, reduction="mean")
    cell = BuildTrainNetwork(network, Classifier(1, 0, 12, 5), AdditiveAngularMargin(0.2, 30), loss, 4, 5)
    frames = valid((20, 13, 17, 11), 20)
    spectra = np.random.normal(size=(4, 20, 6)).astype(np.float32) * frames[:, :, None]
    return cell, tensors(spectra.astype(np.float32), np.array([0, 3, 1, 4], np.int32))


def conformer() -> Built:
    """Speech to text: convolution and attention over spectra a quarter as long, masks of both, CTC and a decoder."""
    path = enter("mindspore-lab/mindaudio", "examples/conformer").parents[1] / "mindaudio"
    for name in ("mindaudio", "mindaudio.models", "mindaudio.loss", "mindaudio.utils"):
        stand_in(name, __path__=[str(path.joinpath(*name.split(".")[1:]))])
    stand_in("mindaudio.utils.common", IGNORE_ID=-1)
    stand_in("mindaudio.utils.load_files", load_cmvn=None)
    from asr_model import CTC, ASRModel, ConformerEncoder, TransformerDecoder

    words, frames, sounds, longest = 12, (40, 28), (5, 3), 12
    sizes = {
        "attention_heads": 2,
        "linear_units": 16,
        "num_blocks": 1,
        "dropout_rate": 0.0,
        "positional_dropout_rate": 0.0,
        "compute_type": ms.float16,
    }
    encoder = ConformerEncoder(8, output_size=16, cnn_module_kernel=5, **sizes)
    decoder = TransformerDecoder(words, 16, **sizes)
    ctc = CTC(words, 16, compute_type=ms.float16)
    cell = ASRModel(words, encoder, decoder, ctc, ctc_weight=0.3, lsm_weight=0.1)
    own = valid(frames, 40)
    spectra = (np.random.normal(size=(2, 40, 8)) * own[:, :, None]).astype(np.float32)
    heard = own[:, None, :-2:2][:, :, :-2:2].astype(np.float32)
    end, lengths = words - 1, np.array(sounds, np.int32)
    said = ragged(sounds, longest, end)
    labels = np.where(said > 0, said, -1)
    told = valid((6, 4), longest + 1)
    before = np.where(told, np.pad(said, ((0, 0), (1, 0)), constant_values=end), end)
    after = np.pad(labels, ((0, 0), (0, 1)), constant_values=-1)
    after[np.arange(2), lengths] = end
    masks = (told[:, None] * np.tri(longest + 1, dtype=np.int32)).astype(np.float32), told[:, None].astype(np.float32)
    texts = [array.astype(np.int32) for array in (labels, before, after, before, after)]
    return cell, tensors(spectra, *texts, heard, *masks, lengths, heard)


def _nothing(name: str) -> None:
    """What a stand-in gives for any name."""


def bert4rec() -> Built:
    """What a user takes next: masked items of a history, each against one that was not taken."""
    enter(LAB, "research/huawei-noah/DiffuASR/models")
    from Bert4Rec import Bert4Rec

    lengths, width, items = (9, 5, 12, 7), 16, 30
    network = Bert4Rec(10, items, settings(num_heads=2, hidden_size=8, max_len=width, dropout_rate=0.2))
    network.set_train(False)
    random, own = np.random.default_rng(0), valid(lengths, width)
    history = ragged(lengths, width, items)
    masked = (random.random(history.shape) < 0.4) * own
    masked[:, 0] = 1
    taken, others = history * masked, ragged(lengths, width, items, seed=1) * masked
    seen = np.where(masked, items + 1, history)
    places = (np.arange(1, width + 1) * own).astype(np.int32)
    return network, tensors(seen.astype(np.int32), taken.astype(np.int32), others.astype(np.int32), places)


def gated_lm(width: int = 14) -> Built:
    """The next word: LSTMs over words and over the characters of each."""
    enter(CONTRIB, "application/gated-word-character-recurrent-language-model")
    from model import Model

    lengths, longest, words = (9, 5, 14, 7), 6, 30
    network = Model(words, 8, 8, width, 0.25, longest)
    ids = ragged(lengths, width, words)
    spelling = np.random.default_rng(1).integers(1, 16, (4, width, longest)) * (ids > 0)[:, :, None]
    return network, tensors(ids, spelling.astype(np.int32))


def patient2vec(width: int = 6) -> Built:
    """What a patient will have: codes of each visit, attention over codes and visits, and the batch's size as a Python int."""
    enter(CONTRIB, "intern/Patient2Vec-A-Personalized-Interpretable")
    from Patient2Vec import Patient2Vec

    rows, codes, features, hidden = 3, 4, 5, 4
    network = Patient2Vec(features, hidden, 1, 8, ms.Tensor(0.1), 3, "GRU", width, codes, 2, True, dropout_p=0.0)
    own = valid((6, 3, 5), width)[:, :, None, None]
    record = np.random.uniform(size=(rows, width, codes, features)).astype(np.float32) * own
    return network, (*tensors(record.astype(np.float32), np.random.uniform(size=(rows, 3)).astype(np.float32)), rows)


def dam() -> Built:
    """Whether an answer fits a conversation: attention within and between turns, with lengths, and 3-D convolutions."""
    enter(MODELS, "research/nlp/dam")
    from src import layers
    from src.net import DAMNet, DAMNetWithLoss

    turns, width, words = 3, 50, 30
    layers.DenseLayer.has_bias = True  # a Cell had an attribute of that name when this was written
    config = settings(
        max_turn_num=turns,
        max_turn_len=width,
        vocab_size=words,
        emb_size=8,
        stack_num=1,
        channel1_dim=4,
        channel2_dim=16,
        is_positional=False,
        attention_type="dot",
        is_layer_norm=True,
        is_mask=True,
    )
    spoken, answers = ((20, 45, 31), (50, 12, 27)), (33, 18)
    talk = np.stack([ragged(lengths, width, words, seed=seed) for seed, lengths in enumerate(spoken)])
    answer = ragged(answers, width, words, seed=7)
    lengths = np.array(spoken, np.int32), np.array(answers, np.int32)
    labels = np.array([[1.0], [0.0]], np.float32)
    return DAMNetWithLoss(DAMNet(config)), tensors(talk, lengths[0], answer, lengths[1], labels)


_FASTSPEECH = settings()


def fastspeech(width: int = 24) -> Built:
    """Text to spectra: transformers, as many frames for each sound as its duration says, convolutions and a GRU."""
    enter(MODELS, "research/audio/FastSpeech")
    rows, sounds, mels = 2, 10, 8
    vars(_FASTSPEECH).update(  # the one object: modules that were imported before have it, too
        batch_size=rows,
        character_max_length=sounds,
        mel_max_length=width,
        num_mels=mels,
        vocab_size=30,
        max_seq_len=64,
        encoder_dim=16,
        encoder_n_layer=1,
        encoder_head=2,
        encoder_conv1d_filter_size=32,
        decoder_dim=16,
        decoder_n_layer=1,
        decoder_head=2,
        decoder_conv1d_filter_size=32,
        fft_conv1d_kernel=[9, 1],
        fft_conv1d_padding=[4, 0],
        duration_predictor_filter_size=16,
        duration_predictor_kernel_size=3,
        dropout=0.0,
    )
    stand_in("src.cfg.config", config=_FASTSPEECH)
    from src.model import FastSpeech, LossWrapper

    lengths = (10, 6)
    durations = (np.random.default_rng(2).integers(1, 4, (rows, sounds)) * valid(lengths, sounds)).astype(np.int32)
    ends = tuple(int(end) for end in durations.sum(1))
    places = [np.arange(1, end + 1) * valid(own, end) for own, end in ((lengths, sounds), (ends, width))]
    spectra = np.random.normal(size=(rows, width, mels)) * valid(ends, width)[:, :, None]
    cell = LossWrapper(FastSpeech())
    cell.set_train()
    for _, part in cell.cells_and_names():
        if isinstance(part, nn.Dropout):
            part.p = 0.0  # that of attention is not in the configuration
    ids = ragged(lengths, sounds, 30)
    floats = [array.astype(np.float32) for array in (ids, *places)]
    return cell, tensors(*floats, durations, spectra.astype(np.float32), np.full(rows, width, np.int64))
