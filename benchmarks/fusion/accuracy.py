"""The largest errors of the safe layers, searched for: what docs/fusion.md and the tests state as bounds.

    python -m benchmarks.fusion.accuracy [--stride 1] [--json benchmarks/results/fusion_accuracy.json]

GELU, exact and by tanh, value and gradient, over every ``stride``-th float32 of magnitudes from 2**-24 to 16, where it does
something, and every 64 * ``stride``-th of the others from 2**-124 on, against float64. Errors are in units in the last place
of float32: of the value itself, where that is at least 1e-30, and of the larger of value and input (gradient: of value and 1).
Softmax and LogSumExp over 2 million random rows, 2 to 16 wide, and over rows in which all but the largest element are equal,
a difference for every (32 * ``stride``)-th float32 from -104 to 0; in units in the last place of the row's largest value
(gradient: of that and 1). Unfused, on the backend that is there.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops
from scipy import special

from ascend_fixes.fusion import GELU, LogSumExp, Softmax
from benchmarks import records

RESULT = records.RESULTS / "fusion_accuracy.json"
CHUNK = 1 << 22
TINY, EPSILON = 2.0**-126, 2.0**-23


class WithGradient(nn.Cell):
    """A layer's output and the gradient of its weighted sum."""

    def __init__(self, layer: nn.Cell) -> None:
        super().__init__()
        self.layer, self.gradient = layer, ops.GradOperation(sens_param=True)

    def construct(self, x: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        return self.layer(x), self.gradient(self.layer)(x, weights)


def units(values: np.ndarray) -> np.ndarray:
    """One unit in the last place of each value."""
    return 2.0 ** np.floor(np.log2(np.maximum(np.abs(values), TINY))) * EPSILON


class Worst:
    """The largest error of each kind, and where."""

    def __init__(self) -> None:
        self.found: dict[str, dict[str, float]] = {}

    def see(self, kind: str, errors: np.ndarray, places: np.ndarray) -> None:
        at = int(errors.argmax())
        if errors.flat[at] > self.found.get(kind, {"units": -1.0})["units"]:
            self.found[kind] = {"units": round(float(errors.flat[at]), 2), "at": float(places.flat[at])}


# --- elementwise -----------------------------------------------------------------------------------


def exact(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    share, near = 0.5 * special.erfc(-x / np.sqrt(2)), np.clip(x, -40, 40)
    return x * share, share + near * np.exp(-near * near / 2) / np.sqrt(2 * np.pi)


def by_tanh(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    near, factor = np.clip(x, -40, 40), 2 * np.sqrt(2 / np.pi)
    share = special.expit(factor * (near + 0.044715 * near**3))
    rest = special.expit(-factor * (near + 0.044715 * near**3))
    return x * share, share + near * share * rest * factor * (1 + 3 * 0.044715 * near**2)


def floats(stride: int) -> Iterator[np.ndarray]:
    """Float32 of both signs, in chunks of one size: of the magnitudes in the middle ``stride`` times 64 as many."""
    ends = [int(np.float32(end).view(np.uint32)) for end in (2.0**-124, 2.0**-24, 16.0, np.finfo(np.float32).max)]
    for low, high, step in zip(ends, ends[1:], (64 * stride, stride, 64 * stride)):
        for start in range(low, high, CHUNK * step):
            bits = np.minimum(np.arange(CHUNK, dtype=np.int64) * step + start, high)
            x = bits.astype(np.uint32).view(np.float32)
            yield x
            yield -x


def elementwise(stride: int) -> dict[str, Any]:
    """GELU over all float32."""
    found = {}
    for name, layer, reference in (("GELU exact", GELU(False), exact), ("GELU tanh", GELU(), by_tanh)):
        cell, worst, ones, count = WithGradient(layer), Worst(), Tensor(np.ones(CHUNK, np.float32)), 0
        for x in floats(stride):
            value, slope = (part.asnumpy().astype(np.float64) for part in cell(Tensor(x), ones))
            wide = x.astype(np.float64)
            wanted, wanted_slope = reference(wide)
            normal = np.abs(wanted) >= 1e-30
            error = np.abs(value - wanted)
            worst.see("value, of itself", np.where(normal, error / units(wanted), 0), x)
            worst.see("value, of it and the input", error / units(np.maximum(np.abs(wanted), np.abs(wide))), x)
            far = np.abs(slope - wanted_slope) / units(np.maximum(np.abs(wanted_slope), 1))
            worst.see("gradient, of it and 1", far, x)
            count += len(x)
        found[name] = {"inputs": count, **worst.found}
    return found


# --- rows ------------------------------------------------------------------------------------------


def rows_of(width: int, count: int, random: np.random.Generator) -> np.ndarray:
    return (random.standard_normal((count, width)) * 10.0 ** random.uniform(-2, 2, (count, 1))).astype(np.float32)


def lone_top(width: int, stride: int) -> Iterator[np.ndarray]:
    """Rows of one 0 and, else, one difference: every ``stride``-th float32 from -104 to -2 ** -25."""
    low, high = (int(np.float32(end).view(np.uint32)) for end in (2.0**-25, 104.0))
    for start in range(low, high, stride * (CHUNK // width)):
        bits = np.minimum(np.arange(CHUNK // width, dtype=np.int64) * stride + start, high)
        x = np.repeat(-bits.astype(np.uint32).view(np.float32)[:, None], width, 1)
        x[:, 0] = 0
        yield x


def in_rows(stride: int, count: int = 2_000_000) -> dict[str, Any]:
    """Softmax and LogSumExp."""
    random, found = np.random.default_rng(0), {}
    for name, layer in (("Softmax", Softmax()), ("LogSumExp", LogSumExp(keep_dims=True))):
        worst, seen = Worst(), 0
        for width in (2, 7, 16):
            cell, size = WithGradient(layer), CHUNK // width
            drawn = (rows_of(width, size, random) for _ in range(-(-count // size)))
            for x in (part for source in (drawn, lone_top(width, 32 * stride)) for part in source):
                one = name == "LogSumExp"
                weights = random.uniform(-1, 1, (len(x), 1 if one else width)).astype(np.float32)
                value, slope = (part.asnumpy() for part in cell(Tensor(x), Tensor(weights)))
                wide = x.astype(np.float64)
                p, g = special.softmax(wide, -1), weights.astype(np.float64)
                wanted = special.logsumexp(wide, -1, keepdims=True) if one else p
                wanted_slope = p * (g if one else g - (p * g).sum(-1, keepdims=True))
                for kind, got, want, floor in (
                    ("value", value, wanted, 0),
                    ("gradient, of it and 1", slope, wanted_slope, 1),
                ):
                    largest = np.maximum(np.abs(want).max(-1, keepdims=True), floor)
                    if one and not floor:  # the logarithm of nearly 1 is the difference of its terms
                        largest = np.maximum(largest, np.abs(wide).max(-1, keepdims=True))
                    error = (np.abs(got - want) / units(largest)).max(-1)
                    worst.see(kind, error, wide[:, 1])
                seen += len(x)
        found[name] = {"rows": seen, **worst.found}
    return found


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stride", type=int, default=1)
    parser.add_argument("--json", type=Path, default=RESULT)
    options = parser.parse_args()
    ms.set_context(mode=ms.GRAPH_MODE)
    begin = time.time()
    found = {"stride": options.stride, **elementwise(options.stride), **in_rows(options.stride)}
    found["mindspore"], found["seconds"] = ms.__version__, round(time.time() - begin)
    records.write(options.json, found)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
