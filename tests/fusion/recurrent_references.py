"""Float64 NumPy references of the recurrent layers, the CRF by enumeration, and a cell that differentiates."""

from __future__ import annotations

import itertools

import numpy as np
from mindspore import ParameterTuple, nn, ops


def relative(got, wanted):
    """The largest difference of a Tensor from an array, over the largest value."""
    return float(np.abs(got.asnumpy() - wanted).max() / max(np.abs(wanted).max(), 1e-30))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def gru_step(x, h, w_ih, w_hh, b_ih, b_hh):
    gi, gh = x @ w_ih.T + b_ih, h @ w_hh.T + b_hh
    size = h.shape[-1]
    r, z = (sigmoid(gi[:, s] + gh[:, s]) for s in (slice(0, size), slice(size, 2 * size)))
    n = np.tanh(gi[:, 2 * size :] + r * gh[:, 2 * size :])
    return n + z * (h - n)


def gru(x, h, weights, lengths, reverse=False):
    """One direction: (length, batch, input) to every state, zero past the end, and the last state."""
    outputs = np.zeros((*x.shape[:2], h.shape[-1]))
    for row in range(x.shape[1]):
        steps = range(lengths[row])
        state = h[row : row + 1]
        for t in reversed(steps) if reverse else steps:
            state = gru_step(x[t, row : row + 1], state, *weights)
            outputs[t, row] = state[0]
        h = np.concatenate([h[:row], state, h[row + 1 :]])
    return outputs, h


def attention_gru(x, h, annotations, keys, mask, weights):
    """States and contexts of all steps; ``weights`` by the names of the layer's parameters."""
    x, h, annotations, keys = (np.asarray(one, np.float64) for one in (x, h, annotations, keys))
    cell = [weights[f"cell.{name}"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    states, contexts = [], []
    for step in range(x.shape[1]):
        asked = h @ weights["query.weight"].T + weights["query.bias"]
        energies = (np.tanh(keys + asked[:, None]) @ weights["score.weight"].T)[..., 0]
        shares = np.exp(energies - energies.max(1, keepdims=True)) * (np.asarray(mask) > 0)
        context = ((shares / shares.sum(1, keepdims=True))[..., None] * annotations).sum(1)
        h = gru_step(np.concatenate([x[:, step], context], -1), h, *cell)
        states.append(h)
        contexts.append(context)
    return np.stack(states, 1), np.stack(contexts, 1)


def attention(query, key, value, mask, keep=1.0):
    """What every query finds by products; ``mask`` is of the weights' shape, and a query without a key finds zeros."""
    query, key, value = (np.asarray(one, np.float64) for one in (query, key, value))
    scores = np.einsum("bhqd,bhkd->bhqk", query * query.shape[-1] ** -0.5, key)
    top = scores.max(-1, keepdims=True, where=mask, initial=-1e300)
    parts = np.exp(np.where(mask, scores - top, -1e300))
    weights = parts / np.maximum(parts.sum(-1, keepdims=True), 1e-300)
    return np.einsum("bhqk,bhkd->bhqd", weights * keep, value)


def two_sided_gru(x, h, parameters, lengths):
    """Both directions' states beside each other; parameters in MindSpore's order: kind by kind, direction by direction."""
    sides = [gru(x, h[side], parameters[side::2], lengths, reverse=bool(side))[0] for side in (0, 1)]
    return np.concatenate(sides, -1)


def lstm_step(x, h, c, w_ih, w_hh, b_ih, b_hh):
    gates, size = x @ w_ih.T + b_ih + h @ w_hh.T + b_hh, h.shape[-1]
    i, f, g, o = (gates[:, k * size : (k + 1) * size] for k in range(4))
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def lstm(x, h, c, weights, lengths, reverse=False):
    """One direction: (length, batch, input) to every state, zero past the end, and the last state and cell."""
    outputs, h, c = np.zeros((*x.shape[:2], h.shape[-1])), h.copy(), c.copy()
    for row in range(x.shape[1]):
        one = slice(row, row + 1)
        for t in reversed(range(lengths[row])) if reverse else range(lengths[row]):
            h[one], c[one] = lstm_step(x[t, one], h[one], c[one], *weights)
            outputs[t, row] = h[row]
    return outputs, h, c


def dynamic_rnn_weights(w, b, forget_bias=0.0):
    """The weights of `ops.DynamicRNN`, gates i, j, f, o in columns, as those of `lstm`, gates i, f, j, o in rows."""
    hidden = w.shape[1] // 4
    order = np.concatenate([np.arange(k * hidden, (k + 1) * hidden) for k in (0, 2, 1, 3)])
    rows, bias = w.T[order], b[order].copy()
    bias[hidden : 2 * hidden] += forget_bias
    return rows[:, :-hidden], rows[:, -hidden:], bias, np.zeros_like(bias)


def two_sided_lstm(x, h, c, parameters, lengths):
    """Both directions' states beside each other; parameters as in `two_sided_gru`."""
    sides = [lstm(x, h[side], c[side], parameters[side::2], lengths, reverse=bool(side))[0] for side in (0, 1)]
    return np.concatenate(sides, -1)


def gated_graph(x, adjacency, mask, parameters, steps):
    gathered, bias, own, kept = parameters
    size, h = x.shape[-1], x * mask[..., None]
    for _ in range(steps):
        around, mine = adjacency @ h @ gathered.T + bias, h @ own.T
        z = sigmoid(around[..., :size] + mine[..., :size])
        r = sigmoid(around[..., size : 2 * size] + mine[..., size:])
        n = np.tanh(around[..., 2 * size :] + (r * h) @ kept.T)
        h = (h + z * (n - h)) * mask[..., None]
    return h


def crf_by_enumeration(emissions, lengths, transitions, start, end):
    """(log partition, marginals, best tags) of every sequence, from all tag sequences."""
    batch, length, count = emissions.shape
    partition, marginals = np.zeros(batch), np.zeros(emissions.shape)
    best = np.full((batch, length), -1)
    for row, size in enumerate(lengths):
        paths = list(itertools.product(range(count), repeat=int(size)))
        scores = np.array([crf_score(emissions[row], path, transitions, start, end) for path in paths])
        top = scores.max()
        partition[row] = top + np.log(np.exp(scores - top).sum())
        best[row, :size] = paths[int(scores.argmax())]
        for path, probability in zip(paths, np.exp(scores - partition[row])):
            marginals[row, np.arange(size), path] += probability
    return partition, marginals, best


def crf_score(emissions, path, transitions, start, end):
    score = start[path[0]] + end[path[-1]] + sum(emissions[t, tag] for t, tag in enumerate(path))
    return score + sum(transitions[a, b] for a, b in zip(path, path[1:]))


def crf_loss(emissions, tags, lengths, transitions, start, end):
    """The negative log-likelihood by the forward recursion, (batch,)."""
    found = []
    for row, size in enumerate(lengths):
        alpha = emissions[row, 0] + start
        for t in range(1, size):
            scores = alpha[:, None] + transitions
            top = scores.max(0)
            alpha = top + np.log(np.exp(scores - top).sum(0)) + emissions[row, t]
        alpha = alpha + end
        partition = alpha.max() + np.log(np.exp(alpha - alpha.max()).sum())
        found.append(partition - crf_score(emissions[row], tags[row, :size], transitions, start, end))
    return np.array(found)


def crf_marginals(emissions, lengths, transitions, start, end):
    """The probability of every tag at every step, by the recursions forwards and backwards; zero past the end."""
    found = np.zeros(emissions.shape)
    for row, size in enumerate(lengths):
        ahead, back = np.zeros((2, size, emissions.shape[-1]))
        ahead[0], back[-1] = emissions[row, 0] + start, end
        for t in range(1, size):
            ahead[t] = log_sum(ahead[t - 1][:, None] + transitions, 0) + emissions[row, t]
        for t in range(size - 2, -1, -1):
            back[t] = log_sum(transitions + emissions[row, t + 1] + back[t + 1], 1)
        found[row, :size] = np.exp(ahead + back - log_sum(ahead[-1] + end, 0))
    return found


def log_sum(x, axis):
    top = x.max(axis, keepdims=True)
    return top.squeeze(axis) + np.log(np.exp(x - top).sum(axis))


def differences(function, values, step=1e-6):
    """The gradients of a float64 scalar function by each of the arrays, from central differences."""
    gradients = []
    for which, value in enumerate(values):
        gradient = np.zeros(value.shape)
        for index in np.ndindex(value.shape):
            moved = []
            for sign in (1, -1):
                changed = [v.copy() for v in values]
                changed[which][index] += sign * step
                moved.append(function(changed))
            gradient[index] = (moved[0] - moved[1]) / (2 * step)
        gradients.append(gradient)
    return gradients


class Everything(nn.Cell):
    """The first output, and the gradients of its weighted sum by the first input and the parameters.

    The layer is called once: MindSpore 2.10.0 does not compile the GRU's loop in a graph that takes its gradient, calls
    it again and unpacks its tuple under an ``if`` ("Illegal AnfNode for evaluating").
    """

    def __init__(self, layer):
        super().__init__(auto_prefix=False)
        self.weighted, self.weights = WeightedAndFirst(layer), ParameterTuple(layer.trainable_params())
        self.gradient = ops.value_and_grad(self.weighted, 1, self.weights, has_aux=True)

    def construct(self, weighting, *inputs):
        (_, outputs), (by_input, by_weights) = self.gradient(weighting, *inputs)
        return outputs, by_input, by_weights


class WeightedAndFirst(nn.Cell):
    """The weighted sum of a layer's first output, and that output."""

    def __init__(self, layer):
        super().__init__(auto_prefix=False)
        self.layer = layer

    def construct(self, weighting, *inputs):
        outputs = self.layer(*inputs)
        if isinstance(outputs, tuple):
            outputs = outputs[0]
        return (outputs.astype(weighting.dtype) * weighting).sum(), outputs


class WeightedFirst(nn.Cell):
    """The weighted sum of a layer's first output."""

    def __init__(self, layer):
        super().__init__(auto_prefix=False)
        self.both = WeightedAndFirst(layer)

    def construct(self, weighting, *inputs):
        return self.both(weighting, *inputs)[0]


class Gradients(nn.Cell):
    """Gradients by the parameters of the weighted sum of the first output."""

    def __init__(self, layer):
        super().__init__(auto_prefix=False)
        self.weighted, self.gradient = WeightedFirst(layer), ops.GradOperation(get_by_list=True)
        self.weights = ParameterTuple(layer.trainable_params())

    def construct(self, weighting, *inputs):
        return self.gradient(self.weighted, self.weights)(weighting, *inputs)
