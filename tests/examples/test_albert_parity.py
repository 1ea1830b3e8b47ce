"""The same weights as Hugging Face's AlbertForQuestionAnswering give the same logits, loss and gradients.

Padding is no candidate here, so that a bucketed batch trains as an unpadded one; the reference for a padded batch is
therefore the mean over its rows, each of them unpadded.
"""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, ops

from examples.albert import model as pretrained
from examples.albert.model import Albert, SpanLoss
from examples.common.checkpoint import assign

torch = pytest.importorskip("torch", reason="the extra 'parity' is not installed")
transformers = pytest.importorskip("transformers", reason="the extra 'parity' is not installed")

CLOSE = 1e-4
LENGTHS = {"one": [7, 7, 7], "unpadded": [33, 33], "padded": [5, 19, 33], "long": [128], "much padding": [3, 64]}


@pytest.fixture(scope="module", params=["gelu_new"])
def models(request, tmp_path_factory):
    """The reference, and what is read from the checkpoint that it saved."""
    folder = tmp_path_factory.mktemp("checkpoint")
    torch.manual_seed(0)
    config = transformers.AlbertConfig(
        vocab_size=50,
        embedding_size=12,
        hidden_size=24,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=40,
        max_position_embeddings=128,
        hidden_act=request.param,
        initializer_range=0.2,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    reference = transformers.AlbertForQuestionAnswering(config).eval()
    with torch.no_grad():
        for parameter in reference.parameters():  # biases and norms off their defaults as well
            parameter.add_(0.1 * torch.randn(parameter.shape))
    reference.save_pretrained(folder)
    config, arrays = pretrained.read(folder)
    assert "span.weight" in arrays
    cells = {}
    for safe in (True, False):
        network = Albert(config, np.random.default_rng(1), safe)
        assign(network.get_parameters(), arrays)
        cells[safe] = network
    return reference, cells


def batch(lengths):
    random = np.random.default_rng(len(lengths))
    mask = (np.arange(max(lengths)) < np.array(lengths)[:, None]).astype(np.float32)
    ids = (random.integers(5, 50, mask.shape) * mask).astype(np.int32)
    segments = ((np.arange(max(lengths)) >= np.array(lengths)[:, None] // 2) * mask).astype(np.int32)
    first = np.array([random.integers(length) for length in lengths], np.int32)
    last = np.array([random.integers(place, length) for place, length in zip(first, lengths)], np.int32)
    return ids, segments, mask, first, last


def reference_results(reference, lengths):
    """Logits per row, and loss and gradients of the mean over rows, each row on its own and unpadded."""
    ids, segments, _, first, last = (torch.tensor(array).long() for array in batch(lengths))
    reference.zero_grad()
    rows, total = [], 0.0
    for row, length in enumerate(lengths):
        output = reference(
            input_ids=ids[row : row + 1, :length],
            token_type_ids=segments[row : row + 1, :length],
            start_positions=first[row : row + 1],
            end_positions=last[row : row + 1],
        )
        rows.append((output.start_logits[0].detach().numpy(), output.end_logits[0].detach().numpy()))
        total = total + output.loss / len(lengths)
    total.backward()
    return rows, total.item()


def relative(found, expected):
    return np.abs(found - expected).max() / np.abs(expected).max()


CASES = [*(("gelu_new", kind, True) for kind in LENGTHS), ("gelu_new", "padded", False), ("gelu", "padded", True)]


@pytest.mark.slow
@pytest.mark.parametrize("models, kind, safe", CASES, indirect=["models"])
def test_logits_loss_and_gradients(models, kind, safe):
    reference, cells = models
    lengths, network = LENGTHS[kind], cells[safe]
    rows, expected_loss = reference_results(reference, lengths)
    arrays = tuple(map(Tensor, (*batch(lengths), np.ones(len(lengths), np.float32))))
    starts, ends = (logits.asnumpy() for logits in network(*arrays[:3]))
    for row, (length, expected) in enumerate(zip(lengths, rows)):
        assert relative(starts[row, :length], expected[0]) < CLOSE
        assert relative(ends[row, :length], expected[1]) < CLOSE
    loss = SpanLoss(network, finite_masks=safe)
    parameters = network.trainable_params()
    value, gradients = ops.value_and_grad(loss, None, parameters)(*arrays)
    assert float(value) == pytest.approx(expected_loss, rel=CLOSE)
    expected = {name: dict(reference.named_parameters())[key].grad.numpy() for name, key in names(network).items()}
    assert set(expected) == {parameter.name for parameter in parameters}
    largest = max(np.abs(gradient).max() for gradient in expected.values())
    for parameter, gradient in zip(parameters, gradients):
        error = np.abs(gradient.asnumpy() - expected[parameter.name]).max()
        if parameter.name in ("block.attention.key.bias", "span.bias"):  # no softmax sees them: their gradient is 0
            assert error < CLOSE * largest
        else:
            assert error < CLOSE * np.abs(expected[parameter.name]).max(), parameter.name


def names(network):
    """The checkpoint's name of every parameter."""
    return {
        name: key if key.startswith("qa_outputs") else f"albert.{key}"
        for name, key, _ in pretrained.parameters(network.config)
    }


def test_padding_is_no_candidate_in_the_loss(models):
    """Hugging Face's own loss counts padded places, so a batch padded further has another loss; here it has not."""
    reference, cells = models
    ids, segments, mask, first, last = batch([5, 9])
    losses, theirs = [], []
    for extra in (0, 7):
        wide = [np.pad(array, ((0, 0), (0, extra))) for array in (ids, segments, mask)]
        losses.append(float(SpanLoss(cells[True])(*map(Tensor, (*wide, first, last, np.ones(2, np.float32))))))
        tensors = [torch.tensor(array).long() for array in (*wide, first, last)]
        keys = ("input_ids", "token_type_ids", "attention_mask", "start_positions", "end_positions")
        theirs.append(reference(**dict(zip(keys, tensors))).loss.item())
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert abs(theirs[1] - theirs[0]) > 1e-2


@pytest.fixture(autouse=True)
def graph_mode():
    ms.set_context(mode=ms.GRAPH_MODE)
