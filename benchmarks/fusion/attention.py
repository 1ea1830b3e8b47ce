"""What `fusion.Attention` saves: value and gradient of attention, unfused on CPU, against the ways to write it out.

    python -m benchmarks.fusion.attention [--rounds 15] [--json benchmarks/results/attention.json]

``transposed`` is what ports have: `ops.matmul` with a transposed key, a mask by `ops.masked_fill`, `ops.softmax`, `ops.matmul`.
``products`` has MindSpore's `BatchMatMul`, which takes the key as it is. All three are in one process and take turns; seconds are
medians of the rounds, and a ratio is the median of a round's time over that of `fusion.Attention` in the same round, with its
quartiles. Rows of a batch have different numbers of keys; with ``dropout`` a tenth of the weights is left out.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import mindspore
import numpy as np
from mindspore import Tensor, nn, ops

from ascend_fixes import fusion
from benchmarks import records

SHAPES = {  # (batch, heads, length, size of a head)
    "ALBERT example, 137": (16, 4, 137, 16),
    "ALBERT example, 384": (16, 4, 384, 16),
    "BERT base, 128": (4, 12, 128, 64),
    "BERT base, 384": (2, 12, 384, 64),
}


class Transposed(nn.Cell):
    """Written out by `ops.matmul`."""

    def construct(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, keep: Tensor | None = None) -> Tensor:
        scores = ops.matmul(query * query.shape[-1] ** -0.5, key.transpose(0, 1, 3, 2))
        weights = _softmax(scores, mask)
        return ops.matmul(weights if keep is None else weights * keep, value)


class Products(nn.Cell):
    """Written out by `ops.BatchMatMul`."""

    def __init__(self) -> None:
        super().__init__()
        self.scores, self.product = ops.BatchMatMul(False, True), ops.BatchMatMul()

    def construct(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, keep: Tensor | None = None) -> Tensor:
        weights = _softmax(self.scores(query * query.shape[-1] ** -0.5, key), mask)
        return self.product(weights if keep is None else weights * keep, value)


def _softmax(scores: Tensor, mask: Tensor) -> Tensor:
    hidden = ops.broadcast_to((mask <= 0).expand_dims(1).expand_dims(1), scores.shape)
    return ops.softmax(ops.masked_fill(scores, hidden, Tensor(-6e4, scores.dtype)), -1)


class Loss(nn.Cell):
    """A number of what an attention finds."""

    def __init__(self, attention: nn.Cell) -> None:
        super().__init__()
        self.attention = attention

    def construct(self, weights: Tensor, *inputs: Tensor) -> Tensor:
        return (self.attention(*inputs) * weights).sum()


class Gradient(nn.Cell):
    """Of that number, by query, key and value."""

    def __init__(self, attention: nn.Cell) -> None:
        super().__init__()
        self.loss, self.gradient = Loss(attention), ops.GradOperation(get_all=True)

    def construct(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return self.gradient(self.loss)(*inputs)[1:4]


WAYS = {"fusion.Attention": fusion.Attention, "transposed": Transposed, "products": Products}


def drawn(shape: tuple[int, int, int, int], dropout: bool) -> list[Tensor]:
    """Weights of the loss; query, key and value; a mask; and what is kept of the weights."""
    random, (batch, heads, length, _) = np.random.default_rng(0), shape
    values = [random.standard_normal(shape).astype(np.float32) for _ in range(4)]
    mask = (np.arange(length) < random.integers(length // 2, length + 1, batch)[:, None]).astype(np.float32)
    kept = (random.random((batch, heads, length, length)) < 0.9).astype(np.float32) / np.float32(0.9)
    return [Tensor(one) for one in (*values, mask, *([kept] if dropout else []))]


def measured(shape: tuple[int, int, int, int], dropout: bool, rounds: int) -> dict[str, dict[str, float]]:
    """Of every way the seconds, its ratio to `fusion.Attention`, and how far its gradients are from that one's."""
    inputs, cells = drawn(shape, dropout), {name: Gradient(way()) for name, way in WAYS.items()}
    found = {name: [one.asnumpy().copy() for one in cell(*inputs)] for name, cell in cells.items()}
    seconds: dict[str, list[float]] = {name: [] for name in cells}
    for _ in range(rounds):
        for name, cell in cells.items():
            start = time.perf_counter()
            cell(*inputs)[-1].asnumpy()
            seconds[name].append(time.perf_counter() - start)
    ours = np.array(seconds["fusion.Attention"])
    return {
        name: {
            "seconds": float(np.median(times)),
            **dict(
                zip(("quarter", "ratio", "three quarters"), map(float, np.quantile(times / ours, (0.25, 0.5, 0.75))))
            ),
            "apart": max(apart(one, other) for one, other in zip(found[name], found["fusion.Attention"])),
        }
        for name, times in seconds.items()
    }


def apart(one: np.ndarray, other: np.ndarray) -> float:
    """The largest difference over the largest value."""
    return float(np.abs(one - other).max() / np.abs(other).max())


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    mindspore.set_device("CPU")
    mindspore.set_context(mode=mindspore.GRAPH_MODE)
    results = {}
    for name, shape in SHAPES.items():
        for dropout in (False, True):
            row = f"{name}{', dropout' if dropout else ''}"
            results[row] = measured(shape, dropout, options.rounds)
            shown = (f"{way} {one['seconds'] * 1e3:.1f} ms ({one['ratio']:.2f})" for way, one in results[row].items())
            print(f"{row}: {', '.join(shown)}", flush=True)
    records.write(options.json, results)


if __name__ == "__main__":
    main()
