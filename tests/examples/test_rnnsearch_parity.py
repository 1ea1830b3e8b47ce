"""RNNSearch against a small PyTorch reference written from the paper's equations: scores, loss and every gradient."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from examples.rnnsearch.model import Loss, RNNSearch, Sizes

torch = pytest.importorskip("torch", reason="needs the extra: pip install 'ascend_fixes[parity]'")

WORDS, SIZES, SMOOTHING, TOLERANCE = 11, Sizes(6, 5, 4, 3), 0.1, 1e-4


class Reference(torch.nn.Module):
    """Sentence by sentence, so that no padding exists; parameters by the names that the MindSpore model has."""

    def __init__(self, values):
        super().__init__()
        self.values = {name: torch.tensor(value, requires_grad=True) for name, value in values.items()}
        self.gru = torch.nn.GRU(SIZES.embedding, SIZES.hidden, bidirectional=True, batch_first=True)
        self.gru_names = [name for name in values if name.startswith("encoder.gru.")]

    def forward(self, source, before):
        v = self.values
        x = v["encoder.embedding.embedding_table"][source][None]
        weights = {name.rpartition(".")[2]: v[name] for name in self.gru_names}
        annotations, last = torch.func.functional_call(self.gru, weights, (x,))
        keys = annotations @ v["encoder.keys.weight"].T
        state = torch.tanh(last[1] @ v["encoder.start.weight"].T + v["encoder.start.bias"])
        scores = []
        for word in before:
            y = v["decoder.embedding.embedding_table"][word][None]
            query = state @ v["decoder.recurrence.query.weight"].T + v["decoder.recurrence.query.bias"]
            energy = torch.tanh(keys + query[:, None]) @ v["decoder.recurrence.score.weight"].T
            context = (torch.softmax(energy, 1) * annotations).sum(1)
            names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            state = torch._VF.gru_cell(
                torch.cat((y, context), 1), state, *(v[f"decoder.recurrence.cell.{n}"] for n in names)
            )
            both = torch.cat((state, y, context), 1) @ v["decoder.readout.weight"].T + v["decoder.readout.bias"]
            best = both.reshape(1, 2, SIZES.maxout).amax(1)
            scores.append(best @ v["decoder.output.weight"].T + v["decoder.output.bias"])
        return torch.cat(scores)


@pytest.mark.parametrize("safe", [True, False])
@pytest.mark.parametrize("lengths, width", [((4, 4), 4), ((4, 1, 3), 6)])
def test_scores_loss_and_every_gradient(safe, lengths, width):
    ms.set_context(mode=ms.GRAPH_MODE)
    random, steps = np.random.default_rng(len(lengths)), 3
    network = RNNSearch(WORDS, WORDS, random, SIZES, safe)
    values = {p.name: random.normal(0, 0.5, p.shape).astype(np.float32) for p in network.get_parameters()}
    for parameter in network.get_parameters():
        parameter.set_data(Tensor(values[parameter.name]))
    mask = (np.arange(width) < np.array(lengths)[:, None]).astype(np.float32)
    source = random.integers(0, WORDS, mask.shape).astype(np.int32)
    before, target = random.integers(0, WORDS, (2, len(lengths), steps)).astype(np.int32)
    weights = (np.arange(steps) < random.integers(1, steps + 1, (len(lengths), 1))).astype(np.float32)

    inputs = [Tensor(array) for array in (source, mask, before)]
    scores = network(*inputs).asnumpy()
    parameters = network.trainable_params()
    loss, gradients = ms.value_and_grad(Loss(network, SMOOTHING), None, parameters)(
        *inputs, Tensor(target), Tensor(weights)
    )

    reference = Reference(values)
    wanted = torch.stack([reference(source[i, :length], before[i]) for i, length in enumerate(lengths)])
    losses = torch.nn.functional.cross_entropy(
        wanted.reshape(-1, WORDS), torch.tensor(target).long().reshape(-1), reduction="none", label_smoothing=SMOOTHING
    )
    expected = (losses * torch.tensor(weights).reshape(-1)).sum() / float(weights.sum())
    expected.backward()
    np.testing.assert_allclose(scores, wanted.detach().numpy(), atol=TOLERANCE * float(wanted.detach().abs().max()))
    assert float(loss) == pytest.approx(expected.item(), rel=TOLERANCE)
    for parameter, gradient in zip(parameters, gradients):
        right = reference.values[parameter.name].grad.numpy()
        assert np.abs(gradient.asnumpy() - right).max() <= TOLERANCE * max(np.abs(right).max(), 1e-3), parameter.name
