"""Factories of the fifth set kept apart: whoever wrote these saw neither the rules of ``audit`` nor what it says of any model."""

from __future__ import annotations

from typing import Any

import mindspore as ms
import numpy as np
from mindspore import _checkparam, nn, ops
from mindspore.common import api

from benchmarks.auditing.models.checkouts import STILL, enter, ragged, settings, stand_in, tensors, valid
from benchmarks.auditing.models.fresh import older
from benchmarks.auditing.models.text import Built


def avg_pool2d(array: Any, size: int, strides: int, pad_mode: str) -> Any:
    """``ops.avg_pool2d`` by the arguments that it had."""
    return ops.AvgPool(size, strides, pad_mode)(array)


class Listed(nn.Cell):
    """A network that takes its inputs as one list, and its loss."""

    def __init__(self, network: nn.Cell, loss: nn.Cell) -> None:
        super().__init__(auto_prefix=False)
        self.network, self.loss = network, loss

    def construct(self, *arguments: Any) -> Any:
        return self.loss(self.network(list(arguments[:-1])), arguments[-1])


def dialogue(width: int = 8) -> Built:
    """What those who talk feel, utterance by utterance: a GRU of upstream's own over dialogues of padded length."""
    enter("LambdaWL/wkrpt_pytorch_mindspore", "src")
    stand_in("evaluation", Metrics=None)
    from config import Config
    from model_ms import MindsporeModel
    from train_ms import NetworkWithGrossEntropyLoss

    classes, size, lengths, random = 4, 6, (8, 5, 6), np.random.default_rng(0)
    cell = NetworkWithGrossEntropyLoss(MindsporeModel(Config(classes, size, 8, 0.0)))
    cell.set_train()
    own = valid(lengths, width)
    return cell, tensors(
        (random.normal(size=(3, width, size)) * own[..., None]).astype(np.float32),
        np.where(own, random.integers(0, classes, own.shape), -1).astype(np.int32),
    )


def dualpath() -> Built:
    """Two people who talk at once: LSTMs over pieces of sound and from piece to piece; whole utterances, as ``--segment -1`` says."""
    enter("ZhangYu-x/dprnn_mindspore", "src")
    from Loss import loss
    from model import Dual_RNN_model
    from network_define import WithLossCell

    lengths, random = (64, 40, 52), np.random.default_rng(0)
    network = Dual_RNN_model(8, 8, 8, 8, norm="gln", num_layers=1, dropout=0.0, K=8)
    cell = WithLossCell(network, loss())
    cell.set_train()
    own = valid(lengths, 64)
    voices = random.normal(size=(3, 2, 64)) * own[:, None]
    return cell, tensors(voices.sum(1).astype(np.float32), np.array(lengths, np.int32), voices.astype(np.float32))


def captions(width: int = 10) -> Built:
    """What a picture shows, word by word: attention over its places, an LSTM; the ResNet, which is frozen, has seen it already."""
    enter("lvyufeng/image_captioning_mindspore", "")
    from src.layers import CrossEntropyLoss
    from src.model import Decoder, Img2Seq

    words, size, lengths, random = 30, 12, (10, 6, 8), np.random.default_rng(0)
    cell = Img2Seq(nn.Identity(), Decoder(words, 8, size, 8, 8, 0.0), CrossEntropyLoss(ignore_index=0))
    cell.set_train()
    return cell, tensors(
        random.uniform(0, 1, (3, 4, 4, size)).astype(np.float32),
        ragged(lengths, width, words),
        np.array(lengths, np.int32),
    )


def _hidden(cell: Any) -> list[Any]:
    """The cells that upstream keeps in lists, where no cell sees their parameters."""
    layers = [one for pair in cell.char_embedding._highways._layers for one in pair]
    return [*layers, *cell.bilstm.forward_layers, *cell.bilstm.backward_layers]


def elmo(width: int = 10) -> Built:
    """The next word and the one before: letters of words, convolutions, LSTMs with projections, both ways."""
    enter("lvyufeng/elmo_mindspore", "")
    from elmo.model import LanguageModel
    from elmo.nn import rnn_cells

    # It takes one argument and is given two; what it makes is replaced right after.
    rnn_cells.glorot_uniform = lambda *shape: ms.Tensor(np.zeros(shape, np.float32))
    words, letters, longest, rows, random = 30, 262, 10, 2, np.random.default_rng(0)
    options = {
        "n_tokens_vocab": words,
        "batch_size": rows,
        "unroll_steps": width,
        "sample_softmax": False,  # as in upstream's options.json
        "n_negative_samples_batch": 8,
        "dropout": 0.0,
        "lstm": {"dim": 16, "projection_dim": 8, "n_layers": 2, "cell_clip": 3, "proj_clip": 3},
        "char_cnn": {
            "filters": [[1, 4], [2, 8], [3, 8]],
            "max_characters_per_token": longest,
            "embedding": {"dim": 4},
            "n_characters": letters,
            "activation": "relu",
            "n_highway": 2,
        },
    }
    cell = LanguageModel(options, True)
    for number, part in enumerate(_hidden(cell)):  # MindSpore 2 asks for names that differ
        part.update_parameters_name(f"{number}.")
    cell.set_train()
    spelt = random.integers(97, 123, (words, longest))
    ends = random.integers(4, longest + 1, words)
    spelt[:, 0] = 258
    spelt[np.arange(words), ends - 1] = 259
    spelt = np.where(valid(tuple(ends), longest), spelt, 260)
    forward, back = (random.integers(0, words, (rows, width + 1)) for _ in range(2))
    return cell, tensors(
        *(spelt[ids[:, :-1]].astype(np.int32) for ids in (forward, back)),
        *(ids[:, 1:].astype(np.int32) for ids in (forward, back)),
    )


def _neighbours(points: np.ndarray, among: np.ndarray, count: int) -> np.ndarray:
    """The nearest ``count`` of each point, itself first."""
    distances = ((points[:, :, None] - among[:, None]) ** 2).sum(-1)
    return np.argsort(distances, -1, kind="stable")[..., :count].astype(np.int32)


def points() -> Built:
    """What each point of a room belongs to: neighbours of neighbours, fewer points from layer to layer and back."""
    enter("NotACracker/RandLA-net_mindspore", "")
    from src.model.model import RandLANet, RandLAWithLoss

    classes, count, near, random = 13, 1024, 4, np.random.default_rng(0)
    network = RandLANet(6, classes, True)
    network.fc_end[2].keep_prob = 1  # no dropout
    shares = random.uniform(0, 0.2, (1, classes)).astype(np.float32)
    cell = RandLAWithLoss(network, ms.Tensor(1 / (shares + 0.02)), classes)
    cell.set_train()
    places = random.uniform(-1, 1, (2, count, 3)).astype(np.float32)
    features = np.concatenate([places, random.uniform(0, 1, (2, count, 3))], -1).astype(np.float32)
    layers: list[list[np.ndarray]] = [[], [], [], []]
    for ratio in (4, 4, 4, 4, 2):
        nearest, kept = _neighbours(places, places, near), places.shape[1] // ratio
        fewer = places[:, :kept]
        for layer, made in zip(layers, (places, nearest, nearest[:, :kept], _neighbours(places, fewer, 1))):
            layer.append(made)
        places = fewer
    labels = random.integers(0, classes, (2, count)).astype(np.int32)
    picked = np.tile(np.arange(count, dtype=np.int32), (2, 1))
    return cell, tensors(
        features, labels, picked, np.zeros((2, 1), np.int32), *(one for layer in layers for one in layer)
    )


def same(array: Any) -> Any:
    """A Tensor, which upstream makes an array of; a graph cannot."""
    return array


def tensor(array: Any, dtype: Any = None) -> Any:
    """``ms.tensor`` of a Tensor in a graph, and of what is no Tensor yet."""
    return array.astype(dtype) if isinstance(array, ms.Tensor) else ms.Tensor(array, dtype)


def aspects() -> Built:
    """What a review says of one thing in it: LSTMs with lengths, attention of each to the other; run as a graph."""
    path = enter("mindspore-courses/ABSA-MindSpore", "")
    stand_in("models", __path__=[str(path / "models")])
    from layers import dynamic_rnn

    from models import aoa

    aoa.np, aoa.mindspore = older(np, array=same), older(ms, tensor=tensor)
    dynamic_rnn.mindspore = aoa.mindspore
    words, width, hidden, random = 30, 12, 8, np.random.default_rng(0)
    texts, named, left = (12, 7, 9), (2, 1, 3), (3, 2, 4)
    network = aoa.AOA(
        random.normal(size=(words, hidden)), settings(embed_dim=hidden, hidden_dim=hidden, polarities_dim=3)
    )
    cell = Listed(network, nn.CrossEntropyLoss())
    cell.set_train()
    text = ragged(texts, width, words)
    aspect = np.zeros_like(text)
    for row, (begin, count) in enumerate(zip(left, named)):
        aspect[row, :count] = text[row, begin : begin + count]
    return cell, tensors(text, aspect, np.array([0, 2, 1], np.int32))


def entities(width: int = 14) -> Built:
    """Who and where, in texts: BERT, an LSTM with lengths, tags that follow one another."""
    enter("Winfred666/Mindspore-BERT-NER", "")
    vars(_checkparam).update(Validator=_checkparam, Rel=None)  # classes once, for an optimizer that is not built here
    vars(api)["ms_function"] = ms.jit  # its name once
    from src.bert_for_finetune import BertNER
    from src.bert_model import BertConfig

    words, lengths = 30, (12, 6, 9)
    tags = ["O", "B_PER", "I_PER", "B_LOC", "I_LOC", "<START>", "<STOP>"]
    sizes = BertConfig(seq_length=width, vocab_size=words, **STILL, max_position_embeddings=40, type_vocab_size=2)
    cell = BertNER(
        sizes,
        3,
        True,
        num_labels=len(tags),
        use_crf=True,
        with_lstm=True,
        tag_to_index={tag: n for n, tag in enumerate(tags)},
    )
    cell.set_train()
    own = valid(lengths, width)
    return cell, tensors(
        ragged(lengths, width, words),
        own,
        np.zeros_like(own),
        ragged(lengths, width, 5, seed=1),  # "O" beyond the end
        np.array(lengths, np.int32) + 2,  # upstream counts a start and an end
    )


class Forecast(nn.Cell):
    """What is forecast and the loss of it, as ``fit`` makes it of a batch, without what it adds of the weights alone."""

    def __init__(self, network: nn.Cell, loss: Any) -> None:
        super().__init__(auto_prefix=False)
        self.network, self.loss = network, loss

    def construct(self, was: Any, known: Any, there: Any, ahead: Any, still: Any, will: Any, counted: Any) -> Any:
        return self.loss(will, self.network(was, known, there, ahead, still), counted)


def electricity() -> Built:
    """What electricity will cost tomorrow: a week of hours, and what is known of the day; before a series begins there are zeros."""
    enter("XXXXXXXXXXXJ/Nbeatsx_MindSpore", "src")
    from nbeats.nbeats_mindspore import ExogenousBasisWavenet, IdentityBasis, NBeats, NBeatsBlock
    from utils.pytorch.losses_ms import MAELoss

    week, day, channels, random = 168, 24, 3, np.random.default_rng(0)
    columns = ["y", "Exogenous1", "Exogenous2", "week_day", "insample_mask", "outsample_mask"]
    used = {"y": [-2, -3], "Exogenous1": [-1, -2], "Exogenous2": [-1], "week_day": [-1]}
    bases = [(IdentityBasis(week, day), week + day), (ExogenousBasisWavenet(4, channels), 8)]
    blocks = [
        NBeatsBlock(day * 5 + 1, 0, 0, theta, basis, 2, [16, 16], used, columns, False, 0.0, "softplus")
        for basis, theta in bases
    ]
    cell = Forecast(NBeats(nn.CellList(blocks)), MAELoss)
    cell.set_train()
    begins = np.array([0, 100, 40])
    there = (np.arange(week) >= begins[:, None]).astype(np.float32)
    counted = valid((24, 16, 20), day).astype(np.float32)
    return cell, tensors(
        (random.normal(size=(3, week)) * there).astype(np.float32),
        (random.normal(size=(3, channels, week)) * there[:, None]).astype(np.float32),
        there,
        (random.normal(size=(3, channels, day)) * counted[:, None]).astype(np.float32),
        np.zeros((3, 0), np.float32),
        (random.normal(size=(3, day)) * counted).astype(np.float32),
        counted,
    )


def formula() -> Built:
    """Formulas written by hand: what is in the picture and how often, then symbol by symbol."""
    enter("CLaSLoVe/CAN-mindspore", "")
    import densenet
    from can import CAN

    densenet.ops = older(ops, avg_pool2d=avg_pool2d)
    symbols, high, wide, random = 111, 32, 64, np.random.default_rng(0)
    cell = CAN(
        {
            "use_label_mask": False,
            "counting_decoder": {"in_channel": 684, "out_channel": symbols},
            "densenet": {"ratio": 16, "growthRate": 24, "reduction": 0.5, "bottleneck": True, "use_dropout": False},
            "encoder": {"input_channel": 1, "out_channel": 684},
            "decoder": {"input_size": 8, "hidden_size": 8},
            "attention": {"attention_dim": 512, "word_conv_kernel": 1},
            "word_num": symbols,
            "dropout": False,
        }
    )
    cell.set_train()
    own, written = valid((64, 40, 52), wide)[:, None, None] * np.ones((1, 1, high, 1)), valid((5, 3, 4), 5)
    return cell, tensors(
        (random.uniform(0, 1, (3, 1, high, wide)) * own).astype(np.float32),
        own.astype(np.int32),
        (random.integers(2, 107, (3, 5)) * written).astype(np.int32),
        written,
    )
