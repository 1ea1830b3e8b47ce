"""Safe layers against float64: value and gradient within 4 units in the last place, fused and unfused."""

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
from hypothesis import strategies as st
from layer_cells import LAYERS, WithGradient, check
from mindspore import Tensor, nn

from ascend_fixes.fusion.layers import GELU, LayerError, LayerNorm, LogSumExp, MaskedMax, MaskedMean, Softmax

SHAPES = ((1, 1), (8, 16), (2, 3, 7))
BOUND = 4.0


@functools.cache
def compiled(name, width):
    return WithGradient(LAYERS[name][0](width))


@st.composite
def rows(draw):
    """A tensor with ordinary, constant, zero and far-off rows, of any magnitude, and a mask with an empty row."""
    shape, dtype = draw(st.sampled_from(SHAPES)), draw(st.sampled_from((np.float32, np.float16)))
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


@pytest.mark.parametrize("name", LAYERS)
@settings(max_examples=25)
@given(data=rows())
def test_value_and_gradient(name, data):
    x, mask = data
    value, gradient = check(compiled(name, x.shape[-1]), name, x, mask)
    assert value <= BOUND and gradient <= BOUND


@pytest.mark.parametrize("name", LAYERS)
def test_magnitudes_at_the_limit(name):
    x = np.array([[1e30, -1e30, 3e38, -3e38, 0, 1, -1, 1e-30] * 2] * 8, np.float32)
    x[0], x[1] = 3e38, np.linspace(1, 2, 16) * 1e38
    if name == "LayerNorm":  # a constant row so large that epsilon is lost beside it has no gradient to compare
        x[0] = 0
    mask = np.ones(x.shape, bool)
    mask[2], mask[3, :3] = False, False
    value, gradient = check(compiled(name, 16), name, x, mask)
    assert value <= BOUND and gradient <= BOUND


@pytest.mark.slow
def test_fused_equals_the_reference(tmp_path):
    script = str(Path(__file__).parent / "fusion_scenarios.py")
    env = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, script, "layers"], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert set(found) == set(LAYERS)
    assert max(max(errors) for errors in found.values()) <= BOUND, found


def test_drop_in_for_the_namesakes():
    x = Tensor(np.random.default_rng(0).standard_normal((3, 8)).astype(np.float32))
    ours, theirs = LayerNorm([8], epsilon=1e-5), nn.LayerNorm([8], epsilon=1e-5)
    assert [p.name for p in ours.get_parameters()] == [p.name for p in theirs.get_parameters()]
    np.testing.assert_allclose(ours(x).asnumpy(), theirs(x).asnumpy(), atol=1e-5)
    for mine, other in ((GELU(), nn.GELU()), (GELU(approximate=False), nn.GELU(approximate=False)),
                        (Softmax(axis=0), nn.Softmax(axis=0))):  # fmt: skip
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
