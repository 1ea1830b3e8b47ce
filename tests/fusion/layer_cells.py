"""The layers under test, differentiated, with their float64 NumPy references."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import strategies as st
from mindspore import Tensor, nn, ops

from ascend_fixes.fusion._layers import GELU, LayerNorm, LogSumExp, MaskedMax, MaskedMean, Softmax

LOWEST = -3.0e38


def bound(name):
    """Units in the last place of the largest value, above what `benchmarks.fusion.accuracy` finds."""
    return 10.0 if name.startswith("Softmax") else 4.0  # a softmax of 16 equal terms that all err alike: 8


class Weighted(nn.Cell):
    """The sum of a layer's output times given weights."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def construct(self, weights, *inputs):
        return (self.layer(*inputs) * weights).astype(weights.dtype).sum()


class WithGradient(nn.Cell):
    """A layer's output and the gradient of its weighted sum by the first input."""

    def __init__(self, layer):
        super().__init__()
        self.layer, self.weighted = layer, Weighted(layer)
        self.gradient = ops.GradOperation(get_all=True)

    def construct(self, weights, *inputs):
        return self.layer(*inputs), self.gradient(self.weighted)(weights, *inputs)[1]


def softmax(x, mask):
    top = np.max(np.where(mask, x, LOWEST), -1, keepdims=True)
    parts = np.where(mask, np.exp(np.where(mask, x - top, 0)), 0)
    return parts / np.maximum(parts.sum(-1, keepdims=True), 1e-300)


def softmax_gradient(x, mask, weights):
    p = softmax(x, mask)
    return p * (weights - (p * weights).sum(-1, keepdims=True))


def log_sum_exp(x, mask):
    top = np.max(np.where(mask, x, LOWEST), -1)
    total = np.where(mask, np.exp(np.where(mask, x - top[..., None], 0)), 0).sum(-1)
    return np.where(mask.any(-1), top + np.log(np.maximum(total, 1)), LOWEST)


def log_sum_exp_gradient(x, mask, weights):
    return softmax(x, mask) * weights[..., None]


def layer_norm(x, mask, epsilon=1e-7):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + epsilon)


def layer_norm_gradient(x, mask, weights, epsilon=1e-7):
    normal = layer_norm(x, mask, epsilon)
    spread = np.sqrt(((x - x.mean(-1, keepdims=True)) ** 2).mean(-1, keepdims=True) + epsilon)
    projected = weights - weights.mean(-1, keepdims=True) - normal * (weights * normal).mean(-1, keepdims=True)
    return projected / spread


_erf = np.vectorize(math.erf, otypes=[np.float64])


def exact_gelu(x, mask):
    return 0.5 * x * (1 + _erf(x / math.sqrt(2)))


def exact_gelu_gradient(x, mask, weights):
    near = np.clip(x, -40, 40)
    return weights * (0.5 * (1 + _erf(x / math.sqrt(2))) + near * np.exp(-(near**2) / 2) / math.sqrt(2 * math.pi))


def tanh_gelu(x, mask):
    near = np.clip(x, -40, 40)
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (near + 0.044715 * near**3)))


def tanh_gelu_gradient(x, mask, weights):
    x = np.clip(x, -40, 40)  # beyond, the slope is 0 or 1
    t = np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))
    slope = math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x**2)
    return weights * (0.5 * (1 + t) + 0.5 * x * (1 - t**2) * slope)


def masked_mean(x, mask):
    return np.where(mask, x, 0).sum(-1) / np.maximum(mask.sum(-1), 1)


def masked_mean_gradient(x, mask, weights):
    return mask * (weights / np.maximum(mask.sum(-1), 1))[..., None]


def masked_max(x, mask):
    return np.where(mask.any(-1), np.max(np.where(mask, x, LOWEST), -1), 0)


def masked_max_gradient(x, mask, weights):
    reached = mask & (x == masked_max(x, mask)[..., None])
    return reached * (weights / np.maximum(reached.sum(-1), 1))[..., None]


# name: (layer, takes a mask, reference, gradient)
LAYERS = {
    "Softmax": (lambda n: Softmax(), True, softmax, softmax_gradient),
    "Softmax without a mask": (lambda n: Softmax(), False, softmax, softmax_gradient),
    "LogSumExp": (lambda n: LogSumExp(), True, log_sum_exp, log_sum_exp_gradient),
    "LogSumExp without a mask": (lambda n: LogSumExp(), False, log_sum_exp, log_sum_exp_gradient),
    "LayerNorm": (lambda n: LayerNorm((n,)), False, layer_norm, layer_norm_gradient),
    "GELU tanh": (lambda n: GELU(), False, tanh_gelu, tanh_gelu_gradient),
    "GELU exact": (lambda n: GELU(approximate=False), False, exact_gelu, exact_gelu_gradient),
    "MaskedMean": (lambda n: MaskedMean(-1), True, masked_mean, masked_mean_gradient),
    "MaskedMax": (lambda n: MaskedMax(-1), True, masked_max, masked_max_gradient),
}


def ulps(got, wanted, dtype, floor=0.0):
    """The largest error in units in the last place of the largest value wanted, or of ``floor`` if that is larger."""
    largest = max(float(np.abs(wanted).max(initial=0)), float(np.finfo(dtype).tiny), floor)
    unit = 2.0 ** np.floor(np.log2(min(largest, float(np.finfo(dtype).max)))) * float(np.finfo(dtype).eps)
    return float(np.abs(got.astype(np.float64) - wanted).max(initial=0)) / unit


@st.composite
def rows(draw, shapes):
    """A tensor with ordinary, constant, zero and far-off rows, of any magnitude, and a mask that may be empty."""
    shape, dtype = draw(st.sampled_from(shapes)), draw(st.sampled_from((np.float32, np.float16)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    x = rng.standard_normal(shape) * 10.0 ** draw(st.integers(-4, 4))
    kind = draw(st.sampled_from(("ordinary", "constant", "far off")))
    if kind == "constant":
        x[..., :] = x[..., :1]
    if kind == "far off":
        x = x + 100 * x.std()
    limit = np.finfo(dtype).max
    mask = rng.random(shape) < draw(st.sampled_from((0.0, 0.5, 1.0)))
    return np.clip(x, -limit, limit).astype(dtype), mask


def outcome(cell, name, x, mask):
    """The output and the gradient of a layer, compiled once per shape and dtype."""
    masked, inputs = LAYERS[name][1], [Tensor(x), Tensor(mask)]
    return [value.asnumpy() for value in cell(Tensor(_weights(name, x)), *inputs[: 1 + masked])]


def errors_of(result, name, x, mask):
    """(error of the output, error of the gradient) in ulps."""
    _, masked, reference, gradient = LAYERS[name]
    exact, mask = x.astype(np.float64), mask if masked else np.ones(x.shape, bool)
    wanted, limit = reference(exact, mask), float(np.finfo(x.dtype).max)
    (output, slope), lowest = result, max(-limit, LOWEST) if name.startswith("LogSumExp") else -limit
    assert output.dtype == x.dtype and np.isfinite(output).all() and np.isfinite(slope).all()
    weights = _weights(name, x).astype(np.float64)
    # Below 0 a GELU is far smaller than its argument, whose rounding within it then shows.
    size = float(np.abs(exact).max(initial=0)) if name.startswith("GELU") else 0.0
    return (
        ulps(output, np.clip(wanted, lowest, limit), x.dtype.type, floor=size),
        # Gradients may cancel to nothing; what is rounded are terms of the size of the weights, which are up to 1.
        ulps(slope, gradient(exact, mask, weights), x.dtype.type, floor=1.0),
    )


def check(cell, name, x, mask):
    """Errors of a compiled layer, in ulps."""
    return errors_of(outcome(cell, name, x, mask), name, x, mask)


def _weights(name, x):
    shape = LAYERS[name][2](x.astype(np.float64), np.ones(x.shape, bool)).shape
    return np.cos(np.arange(np.prod(shape, dtype=int))).reshape(shape).astype(x.dtype)
