"""Factories of the fourth set kept apart: whoever wrote these saw neither the rules of ``audit`` nor what it says of any model."""

from __future__ import annotations

import sys
from inspect import isfunction
from types import ModuleType
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import _checkparam, nn, ops
from mindspore.ops.primitive import constexpr

from benchmarks.auditing.models.checkouts import STILL, WithLoss, enter, ragged, settings, stand_in, tensors, valid
from benchmarks.auditing.models.text import Built


class Episodes(nn.Cell):
    """Episodes and their loss; what ``QLearner.train`` makes of a batch before it calls the cell is made of it here."""

    def __init__(self, network: nn.Cell) -> None:
        super().__init__(auto_prefix=False)
        self.network = network

    def construct(
        self, seen: Any, states: Any, moves: Any, may: Any, rewards: Any, ends: Any, filled: Any, hidden: Any
    ) -> Any:
        rows, steps, agents, size = seen.shape
        mask = filled[:, :-1]
        mask = ops.concat((mask[:, :1], mask[:, 1:] * (1 - ends[:, :-2])), 1)
        inputs = seen.transpose(1, 0, 2, 3).reshape(steps, rows * agents, size)
        return self.network(
            rewards[:, :-1], moves[:, :-1], ends[:, :-1], mask, may, states, steps, inputs, inputs, hidden, hidden
        )


def older(module: ModuleType, **members: Any) -> ModuleType:
    """A module of MindSpore's with these members as they were when upstream was written."""
    name = f"older_{module.__name__.rsplit('.')[-1]}"
    stand_in(name, **{**vars(module), "__name__": name, **members})
    return sys.modules[name]


def place_and_value(array: Any, axis: int = 0) -> Any:
    """What ``ops.max`` returned before MindSpore 2."""
    value, place = ops.max(array, axis)
    return place, value


def norm(array: Any, axis: int) -> Any:
    """``ops.norm`` by the name that its axis had."""
    return ops.norm(array, dim=axis)


def softmax(x: Any, axis: int) -> Any:
    """``ops.softmax`` by the name that its argument had."""
    return ops.softmax(x, axis)


def same(array: Any) -> Any:
    """A Tensor of a Tensor, which a graph leaves to Python."""
    return array


class Answered(nn.Cell):
    """Where an answer begins and where it ends; its loss as in ``run.py``."""

    def __init__(self, network: nn.Cell) -> None:
        super().__init__(auto_prefix=False)
        self.network, self.loss = network, nn.CrossEntropyLoss()

    def construct(self, *arguments: Any) -> Any:
        begins, ends = self.network(*arguments[:-2])
        return self.loss(begins, arguments[-2]) + self.loss(ends, arguments[-1])


def qmix() -> Built:
    """Several agents that play together: a GRU over the steps of episodes, values mixed by what is seen of all."""
    enter("allyouneeds/QMIX-MindSpore", "qmix/ascend_src")
    from modules.agents.rnn_agent import RNNAgent
    from modules.cells import netWithLossCell
    from modules.mixers.qmix import QMixer

    rows, agents, actions, size, state, lengths = 3, 2, 4, 6, 5, (7, 4, 5)
    steps = max(lengths) + 1  # what is seen after the last move goes on
    sizes = settings(
        batch_size=rows,
        n_agents=agents,
        n_actions=actions,
        rnn_hidden_dim=8,
        state_shape=state,
        mixing_embed_dim=4,
        hypernet_layers=2,
        hypernet_embed=8,
        double_q=True,
        gamma=0.99,
    )
    made = [settings(agent=RNNAgent(size, sizes), n_agents=agents) for _ in range(2)]
    cell = netWithLossCell(sizes, *made, QMixer(sizes), QMixer(sizes))
    for parameter in [*cell.target_agent.get_parameters(), *cell.target_mixer.get_parameters()]:
        parameter.requires_grad = False  # the optimizer is not given these
    cell.set_train()
    random, own = np.random.default_rng(0), valid(lengths, steps)
    there = valid(tuple(length + 1 for length in lengths), steps)
    may = random.integers(0, 2, (rows, steps, agents, actions))
    may[..., 0] = 1
    ends = np.zeros((rows, steps, 1))
    ends[np.arange(rows), np.array(lengths) - 1] = 1
    return Episodes(cell), tensors(
        (random.normal(size=(rows, steps, agents, size)) * there[..., None, None]).astype(np.float32),
        (random.normal(size=(rows, steps, state)) * there[..., None]).astype(np.float32),
        (random.integers(0, actions, (rows, steps, agents, 1)) * own[..., None, None]).astype(np.int32),
        (may * there[..., None, None]).astype(np.int32),
        (random.normal(size=(rows, steps, 1)) * own[..., None]).astype(np.float32),
        ends.astype(np.float32),
        own[..., None].astype(np.float32),
        np.zeros((rows * agents, 8), np.float32),
    )


def bidaf() -> Built:
    """Where a text answers a question: letters of words, LSTMs with lengths, and attention both ways."""
    enter("WarruzuEndo/BiDAF_mindspore", "")
    import model

    model.ops = older(ops, max=place_and_value)

    words, letters, hidden, padding = 30, 20, 8, 1
    random = np.random.default_rng(0)
    network = model.BiDAF(
        letters, 4, 3, hidden, random.normal(size=(words, hidden)).astype(np.float32), padding, hidden, 0.0
    )
    network.set_train()
    texts, questions, width, longest = (12, 7, 9), (6, 4, 5), 12, 12

    def written(lengths: tuple[int, ...], width: int) -> tuple[np.ndarray, np.ndarray]:
        own = valid(lengths, width)
        ids = np.where(own, random.integers(2, words, own.shape), padding)
        spelt = np.where(own[..., None], random.integers(2, letters, (*own.shape, 5)), padding)
        return spelt.astype(np.int32), ids.astype(np.int32)

    text, question = written(texts, width), written(questions, longest)
    return Answered(network), tensors(
        text[0],
        question[0],
        text[1],
        question[1],
        np.array(texts, np.int32),
        np.array(questions, np.int32),
        np.array([2, 0, 5], np.int32),
        np.array([4, 1, 8], np.int32),
    )


def pointer(width: int = 12) -> Built:
    """Summaries: a bidirectional LSTM reads, another writes word by word, words of the text or of the vocabulary."""
    enter("lvyufeng/pointer_summarizer_mindspore", "")
    vars(_checkparam)["Validator"] = _checkparam  # a class once, whose methods are its functions now
    from src.model import Decoder, Encoder, PointerNet, ReduceState
    from src.rnns import rnns

    rnns.mstype = older(rnns.mstype, tensor_type=rnns.mstype.TensorType)
    words, hidden, size, unknown = 30, 8, 8, 3
    texts, summaries = (12, 7, 9), (6, 3, 8)
    rows = len(texts)
    sizes = settings(max_dec_steps=width, eps=1e-12, cov_loss_wt=1.0, is_coverage=True)
    decoder = Decoder(words, size, hidden, pointer_gen=True, is_coverage=True)
    cell = PointerNet(Encoder(words, size, hidden), decoder, ReduceState(hidden), sizes)
    cell.set_train()
    own = valid(texts, width)
    read, written = ragged(texts, width, words), ragged(summaries, width, words, seed=1)
    extended = read.copy()
    extended[:, 2] = words + np.arange(rows)  # words that the vocabulary has not
    return cell, tensors(
        read,
        own.astype(np.float32),
        np.array(texts, np.int32),
        extended,
        np.zeros((rows, unknown), np.float32),
        np.zeros((rows, 2 * hidden), np.float32),
        np.zeros((rows, width), np.float32),
        written,
        valid(summaries, width).astype(np.float32),
        np.array(width, np.int32),
        np.array(summaries, np.float32),
        ragged(summaries, width, words, seed=2),
    )


def luke() -> Built:
    """Where a text answers a question: words, the entities it names, and attention that tells one from the other."""
    enter("hyliu-nlp/LUKE_mindspore", "")
    from model.luke import LukeConfig
    from readingcomprehension.models.luke import LukeForReadingComprehension, LukeForReadingComprehensionWithLoss

    words, entities, width, most = 30, 20, 14, 5
    sizes = LukeConfig(
        vocab_size=words,
        entity_vocab_size=entities,
        entity_emb_size=8,
        **STILL,
        max_position_embeddings=40,
        type_vocab_size=2,
    )
    cell = LukeForReadingComprehensionWithLoss(LukeForReadingComprehension(sizes))
    texts, named, random = (14, 8, 11), (4, 2, 5), np.random.default_rng(0)
    own, known = valid(texts, width), valid(named, most)
    places = np.where(known[..., None], random.integers(0, 8, (3, most, 1)) + np.arange(3), -1)
    places[:, :, 2] = -1  # of two words
    return cell, tensors(
        np.where(own, random.integers(4, words, own.shape), 1).astype(np.int32),
        np.zeros_like(own),
        own,
        ragged(named, most, entities),
        places.astype(np.int32),
        np.zeros_like(known),
        known,
        np.array([[2], [0], [5]], np.int32),
        np.array([[4], [1], [8]], np.int32),
    )


def interaction() -> Built:
    """Whether a drug binds: atoms of a graph ask the pieces of a protein; all of it in float16, as ``train.py`` does."""
    enter("2024-MindSpore-1/Code3", "TransformerCPI")
    stand_in("src.args", args=settings(amp_level="O3"))
    stand_in("src.data", __path__=[])
    from src.models import TransformerCPI
    from src.tools.criterion import NetWithLoss

    vars(sys.modules["src.models.TransformerCPI"])["ops"] = older(ops, norm=norm)

    atoms, pieces, random = (7, 5, 4), (12, 8, 10), np.random.default_rng(0)
    most, longest, rows = max(atoms), max(pieces), len(atoms)
    network = TransformerCPI()
    network.decoder.batch_size = rows  # 32 is written in
    cell = NetWithLoss(ms.amp.auto_mixed_precision(network, "O3"), None)
    bonds = np.triu(random.integers(0, 2, (rows, most, most)), 1)
    own = valid(atoms, most)
    bonds = (bonds + bonds.transpose(0, 2, 1) + np.eye(most)) * own[:, None] * own[:, :, None]
    return cell, tensors(
        (random.normal(size=(rows, most, 34)) * own[..., None]).astype(np.float32),
        bonds.astype(np.float32),
        (random.normal(size=(rows, longest, 100)) * valid(pieces, longest)[..., None]).astype(np.float32),
        np.array([0, 1, 1], np.int32),
    )


def stgcn() -> Built:
    """What people do: convolutions over their joints and over time; who is missing is 0."""
    enter("MysticFace-0/st_gcn_mindspore", "model/stgcn")
    from st_gcn import STGCN

    frames, people, random = 16, ((2,), (1,), (2,)), np.random.default_rng(0)
    network = STGCN(3, frames, 5, {"layout": "coco", "mode": "stgcn_spatial"}, True)
    network.set_train()
    own = (np.arange(2) < np.array(people)[..., None]).astype(np.float32)
    joints = random.normal(size=(3, 1, 2, frames, 17, 3)) * own[..., None, None, None]
    return WithLoss(network, nn.CrossEntropyLoss()), tensors(joints.astype(np.float32), np.array([0, 3, 1], np.int32))


def forecast(width: int = 16) -> Built:
    """Time series go on: an encoder of what was, a decoder of what is to come, told apart by hours and days."""
    enter("LeVoyageur1222/FEDformer_MindSpore", "")
    from models.Transformer import Transformer

    sizes = settings(
        factor=1,
        pred_len=8,
        output_attention=False,
        enc_in=3,
        dec_in=3,
        c_out=3,
        d_model=16,
        n_heads=2,
        d_ff=32,
        e_layers=1,
        d_layers=1,
        embed="fixed",
        freq="h",
        dropout=0.05,
        activation="gelu",
    )
    random, ahead = np.random.default_rng(0), width // 2 + 8

    def times(width: int) -> np.ndarray:
        marks = [random.integers(low, high, (2, width)) for low, high in ((1, 13), (1, 32), (0, 7), (0, 24))]
        return np.stack(marks, -1).astype(np.float32)

    return Transformer(sizes), tensors(
        random.normal(size=(2, width, 3)).astype(np.float32),
        times(width),
        (random.normal(size=(2, ahead, 3)) * (np.arange(ahead) < width // 2)[:, None]).astype(np.float32),
        times(ahead),
    )


def sovits() -> Built:
    """Speech of a text: units of a voice and phonemes, each with lengths, and attention of the first to the second."""
    path = enter("ultranationalism/GPT-SoVITS-mindspore", "GPT_SoVITS")
    for name in ("mindnlp", "mindnlp.modules", "mindnlp.modules.weight_norm", "mindnlp.amp"):
        stand_in(name, weight_norm=None, remove_weight_norm=None, autocast=None)
    stand_in("module", __path__=[str(path / "module")])
    stand_in("module.quantize", ResidualVectorQuantizer=None)
    from module import attentions, commons
    from module.models import TextEncoder

    attentions.ops, attentions.ms = older(ops, softmax=softmax), older(ms, Tensor=same)
    if isfunction(commons.convert_pad_shape):  # Python of numbers, which no graph can hold
        trimmed = attentions.remove_trailing_zeros
        commons.convert_pad_shape = constexpr(commons.convert_pad_shape)
        attentions.remove_trailing_zeros = constexpr(lambda sizes: trimmed(list(sizes)))

    units, phonemes, random = (14, 9, 11), (8, 5, 7), np.random.default_rng(0)
    network = TextEncoder(8, 192, 32, 2, 2, 3, 0.0)
    voice = random.normal(size=(3, 768, 14)) * valid(units, 14)[:, None]
    return network, tensors(
        voice.astype(np.float32),
        np.array(units, np.int32),
        ragged(phonemes, 8, 60),
        np.array(phonemes, np.int32),
        random.normal(size=(3, 512, 1)).astype(np.float32),
    )


def deepfm() -> Built:
    """Whether a user clicks, from a table: factorization machine and dense layers, these in float16."""
    enter("mindspore-lab/mindrec", "models/deepfm")
    for name in ("sklearn", "sklearn.metrics"):
        stand_in(name, roc_auc_score=None)
    from src.deepfm import DeepFMModel, NetWithLossClass

    rows, fields, values, random = 4, 6, 40, np.random.default_rng(0)
    sizes = settings(
        batch_size=rows,
        data_field_size=fields,
        data_vocab_size=values,
        data_emb_dim=4,
        deep_layer_args=[[8, 8, 8, 8], "relu"],
        init_args=[-0.01, 0.01],
        weight_bias_init=["normal", "normal"],
        keep_prob=0.9,
        convert_dtype=True,
    )
    cell = NetWithLossClass(DeepFMModel(sizes), 8e-5)
    return cell, tensors(
        random.integers(0, values, (rows, fields)).astype(np.int32),
        random.uniform(0, 1, (rows, fields)).astype(np.float32),
        np.array([[0], [1], [1], [0]], np.float32),
    )
