"""Safe layers against float64: value and gradient within a few units in the last place, fused and unfused."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from layer_cells import LAYERS, WithGradient, bound, check, rows
from mindspore import Tensor, nn

from ascend_fixes.fusion._functions import Gate, Tanh
from ascend_fixes.fusion._layers import GELU, LayerError, LayerNorm, LogSumExp, MaskedMax, MaskedMean, Softmax

SHAPES = ((1, 1), (8, 16), (2, 3, 7))


@functools.cache
def compiled(name, width):
    return WithGradient(LAYERS[name][0](width))


@pytest.mark.parametrize("name", LAYERS)
@settings(max_examples=25)
@given(data=rows(SHAPES))
def test_value_and_gradient(name, data):
    x, mask = data
    value, gradient = check(compiled(name, x.shape[-1]), name, x, mask)
    assert max(value, gradient) <= bound(name)


@pytest.mark.parametrize("name", LAYERS)
def test_magnitudes_at_the_limit(name):
    x = np.array([[1e30, -1e30, 3e38, -3e38, 0, 1, -1, 1e-30] * 2] * 8, np.float32)
    x[0], x[1] = 3e38, np.linspace(1, 2, 16) * 1e38
    if name == "LayerNorm":  # a constant row so large that epsilon is lost beside it has no gradient to compare
        x[0] = 0
    mask = np.ones(x.shape, bool)
    mask[2], mask[3, :3] = False, False
    value, gradient = check(compiled(name, 16), name, x, mask)
    assert max(value, gradient) <= bound(name)


@pytest.mark.slow
def test_fused_equals_the_reference_and_unfused(tmp_path):
    script = str(Path(__file__).parent / "layer_properties.py")
    env = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, script, "elementwise"], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert set(json.loads(done.stdout.splitlines()[-1])) == set(LAYERS)


@pytest.mark.parametrize(
    "function, wanted, bound", [(Gate(), lambda x: 1 / (1 + np.exp(-x)), 9e-7), (Tanh(), np.tanh, 3e-7)]
)
def test_gates_of_recurrent_layers(function, wanted, bound):
    """Absolutely, as docs/fusion.md says of them; unfused, as every layer that takes them keeps Tanh out of fusion."""
    x = np.concatenate([np.linspace(-20, 20, 200_001), np.logspace(-6, 0, 10_000)]).astype(np.float32)
    assert np.abs(function(Tensor(x)).asnumpy() - wanted(x.astype(np.float64))).max() <= bound


def test_drop_in_for_the_namesakes():
    x = Tensor(np.random.default_rng(0).standard_normal((3, 8)).astype(np.float32))
    ours, theirs = LayerNorm([8], epsilon=1e-5), nn.LayerNorm([8], epsilon=1e-5)
    assert [p.name for p in ours.get_parameters()] == [p.name for p in theirs.get_parameters()]
    np.testing.assert_allclose(ours(x).asnumpy(), theirs(x).asnumpy(), atol=1e-5)
    for mine, other in (
        (GELU(), nn.GELU()),
        (GELU(approximate=False), nn.GELU(approximate=False)),
        (Softmax(axis=0), nn.Softmax(axis=0)),
    ):
        np.testing.assert_allclose(mine(x).asnumpy(), other(x).asnumpy(), atol=1e-5)


def test_axes_and_short_masks():
    x = np.random.default_rng(0).standard_normal((2, 5, 3)).astype(np.float32)
    mask = np.array([[True, True, False, False, False], [False] * 5])
    mean = MaskedMean()(Tensor(x), Tensor(mask)).asnumpy()
    np.testing.assert_allclose(mean, [x[0, :2].mean(0), np.zeros(3)], rtol=1e-6)
    top = MaskedMax()(Tensor(x), Tensor(mask)).asnumpy()
    np.testing.assert_array_equal(top, [x[0, :2].max(0), np.zeros(3)])
    kept = LogSumExp(axis=1, keep_dims=True)(Tensor(x)).asnumpy()
    np.testing.assert_allclose(kept, np.log(np.exp(x.astype(np.float64)).sum(1, keepdims=True)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("layer", [Softmax, LogSumExp, MaskedMean, MaskedMax])
@pytest.mark.parametrize("axis", [(0, 1), 1.0, None, True])
def test_one_integer_axis_is_asked_for(layer, axis):
    with pytest.raises(LayerError, match="axis must be one integer"):
        layer(axis)
