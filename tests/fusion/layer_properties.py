"""Every safe layer, fused and unfused, on what hypothesis draws: ``python layer_properties.py NAME`` checks one family.

In a process of its own, for fusion is a setting of the process. What is compiled is shared by all examples: of every
layer one graph per shape and dtype, once fused and once unfused. Prints the largest errors as JSON; a bound that is
passed is hypothesis's own report and exit status 1.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import mindspore as ms
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_cells import LAYERS, WithGradient, bound, errors_of, outcome, rows, ulps
from mindspore import Parameter, Tensor, nn, ops
from recurrent_references import (
    Everything,
    attention,
    attention_gru,
    crf_loss,
    differences,
    dynamic_rnn_weights,
    gated_graph,
    gru_step,
    lstm,
    two_sided_gru,
    two_sided_lstm,
)

from ascend_fixes.fusion import CRF, GRU, LSTM, Attention, AttentionGRU, DynamicRNN, GatedGraph, GRUCell

MODES = {"unfused": False, "fused": True}
BOUNDS = {np.dtype(np.float32): 1e-5, np.dtype(np.float16): 5e-3}


def examples(count: int) -> Callable:
    return settings(max_examples=count, deadline=None, derandomize=True, database=None)


def elementwise() -> dict[str, list[float]]:
    """Errors of value, gradient, and fused to unfused, in units in the last place of the largest value."""
    return {name: check_layer(name) for name in LAYERS}


def check_layer(name: str) -> list[float]:
    cells = {(mode, width): WithGradient(LAYERS[name][0](width)) for mode in MODES for width in (7, 16)}
    worst = [0.0, 0.0, 0.0]

    def holds(data):
        x, mask = data
        results, kind, errors = {}, x.dtype.type, []
        for mode, fused in MODES.items():
            ms.set_context(enable_graph_kernel=fused)
            results[mode] = outcome(cells[mode, x.shape[-1]], name, x, mask)
            errors.append(errors_of(results[mode], name, x, mask))
        (value, slope), fused_ones = ([a.astype(np.float64) for a in results["unfused"]], results["fused"])
        size = float(np.abs(x.astype(np.float64)).max()) if name.startswith("GELU") else 0.0
        apart = max(ulps(fused_ones[0], value, kind, floor=size), ulps(fused_ones[1], slope, kind, floor=1.0))
        worst[:] = map(max, zip(worst, *((*pair, apart) for pair in errors)))
        assert max(worst) <= bound(name), worst

    examples(20)(given(rows(((8, 16), (2, 3, 7))))(holds))()
    return worst


# --- recurrent layers, CRF and gated graph ---------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A layer, what it is given, and what it should give.

    Attributes:
        layer: the cell.
        inputs: random arrays of a magnitude and a dtype; the gradient is taken by the first.
        rows: the last input, or None where there is none.
        reference: the output in float64, from the first input and the parameters, the other inputs, and the rows.
        scales: magnitudes of the first input.
    """

    layer: nn.Cell
    inputs: Callable[[np.random.Generator, float, Any], list[np.ndarray]]
    rows: st.SearchStrategy
    reference: Callable[[list[np.ndarray], list[np.ndarray], Any], np.ndarray]
    scales: tuple[float, ...]


LENGTH, BATCH = 9, 2  # of the GRU: two turns of the loop and a rest


def lengths_of(low: int, high: int) -> st.SearchStrategy:
    sizes = st.lists(st.integers(low, high), min_size=BATCH, max_size=BATCH)
    return sizes.map(lambda found: np.array(found, np.int32))


def gru_case(masked: bool) -> Case:
    def inputs(rng, scale, dtype):
        return [
            (rng.standard_normal((LENGTH, BATCH, 2)) * scale).astype(dtype),
            rng.uniform(-1, 1, (2, BATCH, 3)).astype(dtype),
        ]

    def reference(values, others, lengths):
        lengths = [LENGTH] * BATCH if lengths is None else lengths
        return two_sided_gru(values[0], others[0].astype(np.float64), values[1:], lengths)

    rows = lengths_of(0, LENGTH) if masked else st.none()
    return Case(GRU(2, 3, bidirectional=True), inputs, rows, reference, (0.1, 1.0, 30.0))


class WithStates(nn.Cell):
    """An LSTM that takes state and cell apart, and lengths."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.lstm = LSTM(2, 3, bidirectional=True)

    def construct(self, x: Tensor, h: Tensor, c: Tensor, lengths: Tensor) -> Tensor:
        return self.lstm(x, (h, c), lengths)[0]


def lstm_case() -> Case:
    def inputs(rng, scale, dtype):
        states = rng.uniform(-1, 1, (2, 2, BATCH, 3)).astype(dtype)
        return [(rng.standard_normal((LENGTH, BATCH, 2)) * scale).astype(dtype), *states]

    def reference(values, others, lengths):
        h, c = (other.astype(np.float64) for other in others)
        return two_sided_lstm(values[0], h, c, values[1:], lengths)

    return Case(WithStates(), inputs, lengths_of(0, LENGTH), reference, (0.1, 1.0, 30.0))


class Operator(nn.Cell):
    """A DynamicRNN with its weights."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        random = np.random.default_rng(0)
        self.rnn = DynamicRNN(forget_bias=1.0)
        self.w = Parameter(Tensor(random.uniform(-0.6, 0.6, (5, 12)).astype(np.float32)), name="w")
        self.b = Parameter(Tensor(random.uniform(-0.6, 0.6, 12).astype(np.float32)), name="b")

    def construct(self, x: Tensor, h: Tensor, c: Tensor, lengths: Tensor) -> Tensor:
        return self.rnn(x, self.w, self.b, lengths, h, c)[0]


def operator_case() -> Case:
    def inputs(rng, scale, dtype):
        states = rng.uniform(-1, 1, (2, 1, BATCH, 3)).astype(dtype)
        return [(rng.standard_normal((LENGTH, BATCH, 2)) * scale).astype(dtype), *states]

    def reference(values, others, lengths):
        h, c = (other[0].astype(np.float64) for other in others)
        return lstm(values[0], h, c, dynamic_rnn_weights(*values[1:], 1.0), lengths)[0]

    return Case(Operator(), inputs, lengths_of(0, LENGTH), reference, (0.1, 1.0, 30.0))


class States(nn.Cell):
    """The states and contexts of an `AttentionGRU` beside each other."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.layer = AttentionGRU(2, 3, 4, 5)

    def construct(self, x: Tensor, h: Tensor, annotations: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
        return ops.concat(self.layer(x, h, annotations, keys, mask), -1)


def decoder_case() -> Case:
    case = States()
    names = [parameter.name for parameter in case.layer.trainable_params()]

    def inputs(rng, scale, dtype):
        x = (rng.standard_normal((BATCH, LENGTH, 2)) * scale).astype(dtype)
        others = [rng.uniform(-1, 1, shape).astype(dtype) for shape in ((BATCH, 3), (BATCH, 5, 4), (BATCH, 5, 5))]
        return [x, *others]

    def reference(values, others, mask):
        return np.concatenate(attention_gru(values[0], *others, mask, dict(zip(names, values[1:]))), -1)

    masks = st.lists(st.integers(1, 5), min_size=BATCH, max_size=BATCH)
    rows = masks.map(lambda found: np.arange(5) < np.array(found)[:, None])
    return Case(case, inputs, rows, reference, (0.1, 1.0, 30.0))


class OfOne(nn.Cell):
    """An `Attention` whose queries, keys and values are parts of one input, so that the gradient is that of all."""

    def __init__(self) -> None:
        super().__init__(auto_prefix=False)
        self.layer = Attention()

    def construct(self, x: Tensor, keep: Tensor, mask: Tensor) -> Tensor:
        return self.layer(x[:, :, :3], x[:, :, 3:8], x[:, :, 8:], mask, keep if keep.shape[1] > 0 else None)


def attention_case(dropout: bool) -> Case:
    """Each of three queries has a mask of its own over five keys, and may have no key."""

    def inputs(rng, scale, dtype):
        x = rng.standard_normal((BATCH, 2, 13, 4))
        x[:, :, :3] *= scale
        keep = (rng.random((BATCH, 2, 3, 5)) < 0.7) / 0.75
        return [x.astype(dtype), (keep if dropout else keep[:, :0]).astype(dtype)]

    def reference(values, others, mask):
        query, key, value = np.split(values[0], (3, 8), 2)
        return attention(query, key, value, mask, others[0].astype(np.float64) if dropout else 1.0)

    counts = st.lists(st.integers(0, 5), min_size=3, max_size=3)
    rows = counts.map(lambda found: np.arange(5) < np.array(found)[None, None, :, None])
    return Case(OfOne(), inputs, rows, reference, (0.1, 1.0, 3.0))


def cell_case() -> Case:
    def inputs(rng, scale, dtype):
        return [(rng.standard_normal((5, 2)) * scale).astype(dtype), rng.uniform(-1, 1, (5, 3)).astype(dtype)]

    def reference(values, others, _):
        return gru_step(values[0], others[0].astype(np.float64), *values[1:])

    return Case(GRUCell(2, 3), inputs, st.none(), reference, (0.1, 1.0, 30.0))


def crf_case(masked: bool) -> Case:
    def inputs(rng, scale, dtype):
        return [
            (rng.standard_normal((BATCH, 9, 4)) * scale).astype(dtype),
            rng.integers(0, 4, (BATCH, 9)).astype(np.int32),
        ]

    def reference(values, others, lengths):
        return crf_loss(values[0], others[0], [9] * BATCH if lengths is None else lengths, *values[1:])

    return Case(CRF(4), inputs, lengths_of(1, 9) if masked else st.none(), reference, (0.1, 1.0, 100.0))


def graph_case() -> Case:
    layer = GatedGraph(3)
    assert [p.name for p in layer.trainable_params()] == [
        "gathered.weight",
        "gathered.bias",
        "own.weight",
        "kept.weight",
    ]

    def inputs(rng, scale, dtype):
        return [(rng.standard_normal((2, 4, 3)) * scale).astype(dtype), rng.random((2, 4, 4)).astype(dtype)]

    def reference(values, others, mask):
        return gated_graph(values[0], others[0].astype(np.float64), mask, values[1:], 2)

    masks = st.lists(st.booleans(), min_size=8, max_size=8).map(lambda found: np.array(found).reshape(2, 4))
    return Case(layer, inputs, masks, reference, (0.1, 1.0, 3.0))


CASES = {
    "GRUCell": cell_case,
    "GRU": partial(gru_case, True),
    "GRU without lengths": partial(gru_case, False),
    "LSTM": lstm_case,
    "Attention": partial(attention_case, False),
    "Attention with dropout": partial(attention_case, True),
    "AttentionGRU": decoder_case,
    "DynamicRNN": operator_case,
    "CRF": partial(crf_case, True),
    "CRF without lengths": partial(crf_case, False),
    "GatedGraph": graph_case,
}


def recurrent() -> dict[str, dict[str, float]]:
    """Largest errors of value and gradients, relative to the largest; against float64, and fused to unfused."""
    found: dict[str, dict[str, float]] = {}
    for name, build in CASES.items():
        for dtype in map(np.dtype, (np.float32, np.float16)):
            check_case(f"{name} {dtype}", build(), dtype, found.setdefault(f"{name} {dtype}", {}))
    return found


def check_case(name: str, case: Case, dtype: np.dtype, found: dict[str, float]) -> None:
    if dtype == np.float16:
        if isinstance(case.layer, GatedGraph):
            case.layer.to_float(ms.float16)
        for parameter in case.layer.trainable_params():  # what is rounded before the layer begins is not its error
            parameter.set_data(Tensor(parameter.asnumpy().astype(np.float16).astype(np.float32)))
    parameters = [parameter.asnumpy().astype(np.float64) for parameter in case.layer.trainable_params()]
    cells = {mode: Everything(case.layer) for mode in MODES}

    def holds(seed, scale, row):
        rng = np.random.default_rng(seed)
        x, *others = case.inputs(rng, scale, dtype)
        values = [x.astype(np.float64), *parameters]
        wanted = case.reference(values, others, row)
        weighting = rng.uniform(-1, 1, wanted.shape).astype(np.float32)
        slopes = differences(lambda v: (case.reference(v, others, row) * weighting).sum(), values)
        given_row = [] if row is None else [Tensor(row)]
        results = {}
        for mode, fused in MODES.items():
            ms.set_context(enable_graph_kernel=fused)
            value, by_input, by_weights = cells[mode](Tensor(weighting), Tensor(x), *map(Tensor, others), *given_row)
            results[mode] = [array.asnumpy().astype(np.float64) for array in (value, by_input, *by_weights)]
        floor = 1.0 if scale > 1 else 1e-2  # saturated gates: a small gradient is a difference of terms of size one
        errors = {f"{mode} value": apart(results[mode][:1], [wanted], floor) for mode in MODES}
        errors.update({f"{mode} gradient": apart(results[mode][1:], slopes, floor) for mode in MODES})
        errors["fused to unfused value"] = apart(results["fused"][:1], results["unfused"][:1], floor)
        errors["fused to unfused gradient"] = apart(results["fused"][1:], results["unfused"][1:], floor)
        for kind, error in errors.items():
            found[kind] = max(error, found.get(kind, 0.0))
        assert max(errors.values()) <= BOUNDS[dtype], (name, scale, errors)

    scales, seeds = st.sampled_from(case.scales), st.integers(0, 2**32 - 1)
    examples(8)(given(seeds, scales, case.rows)(holds))()


def apart(got: list[np.ndarray], wanted: list[np.ndarray], floor: float) -> float:
    """The largest difference over the largest value of all the arrays: a gradient may be zero but for rounding."""
    largest = max(float(np.abs(array).max()) for array in wanted)
    return max(float(np.abs(g - w).max()) for g, w in zip(got, wanted)) / max(largest, floor)


if __name__ == "__main__":
    ms.set_device("CPU")
    ms.set_context(mode=ms.GRAPH_MODE)
    ms.set_seed(1)  # the weights
    print(json.dumps({f.__name__: f for f in (elementwise, recurrent)}[sys.argv[1]]()))
