"""Factories: speech, and audio without lengths."""

from __future__ import annotations

import numpy as np
from mindspore import nn

from benchmarks.auditing.models.checkouts import MODELS, WithLoss, enter, settings, tensors, valid
from benchmarks.auditing.models.text import Built


def _labels(rows: int, longest: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Sparse labels for CTC: where they stand [rows * longest, 2], int64, and what they are, int32."""
    places = np.stack(np.meshgrid(np.arange(rows), np.arange(longest), indexing="ij"), -1).reshape(-1, 2)
    return places.astype(np.int64), np.random.default_rng(0).integers(0, classes - 1, rows * longest).astype(np.int32)


def deepspeech2() -> Built:
    """Strided convolutions with BatchNorm over padded spectra, LSTMs without lengths, CTC with them."""
    enter(MODELS, "official/audio/DeepSpeech2")
    from src.deepspeech2 import DeepSpeechModel, NetWithLossClass

    config = settings(sample_rate=800, window_size=0.2)
    network = DeepSpeechModel(2, labels="_abcd", rnn_hidden_size=8, nb_layers=1, audio_conf=config, bidirectional=True)
    spectra = np.random.normal(size=(2, 1, 81, 40)).astype(np.float32)
    lengths = np.array([40, 28], np.int32)
    spectra *= valid((40, 28), 40)[:, None, None, :]
    places, labels = _labels(2, 4, 5)
    return NetWithLossClass(network), tensors(spectra, lengths, places, labels)


def ctcmodel() -> Built:
    """A bidirectional LSTM without lengths, a mask after it, float16 in ``construct``, and CTC."""
    enter(MODELS, "research/audio/ctcmodel")
    from src.loss import CTC_Loss
    from src.model import CTCModel
    from src.model_for_train import WithCtcLossCell

    network = CTCModel(input_size=6, batch_size=2, hidden_size=8, num_class=7, num_layers=1)
    lengths, width = (20, 11), 20
    masks = np.broadcast_to(valid(lengths, width)[:, :, None], (2, width, 16)).astype(np.float32)
    features = np.random.normal(size=(2, width, 6)).astype(np.float32) * masks[:, :, :6]
    labels = _labels(2, 3, 7)[1].reshape(2, 3)
    return WithCtcLossCell(network, CTC_Loss(2, 3)), tensors(features, masks, labels, np.array(lengths, np.int32))


def dscnn() -> Built:
    """Separable convolutions with BatchNorm over a fixed spectrum: nothing in it is ragged."""
    enter(MODELS, "research/audio/dscnn")
    from src.ds_cnn import DSCNN

    sizes = settings(
        model_setting_label_count=4,
        model_setting_dct_coefficient_count=10,
        model_setting_spectrogram_length=12,
        model_setting_dropout1=1.0,
    )
    network = DSCNN(sizes, [2, 8, 4, 4, 2, 2, 8, 3, 3, 1, 1])
    loss = nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")
    spectra = np.random.normal(size=(4, 1, 12, 10)).astype(np.float32)
    return WithLoss(network, loss), tensors(spectra, np.array([0, 1, 2, 3], np.int32))
