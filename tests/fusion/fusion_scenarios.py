"""Scenarios that change MindSpore's process-wide state: ``python fusion_scenarios.py NAME`` runs one, prints JSON.

Each returns numbers; the tests judge them.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from ascend_fixes import _mindspore, cures, fusion
from ascend_fixes.defects.f1_transpose_gradient import Attention
from ascend_fixes.patching import Replacement

_X = np.random.default_rng(1).standard_normal((4, 10, 64)).astype(np.float32)


class Network(nn.Cell):
    """An undecorated network around an attention block."""

    def __init__(self, attention: nn.Cell) -> None:
        super().__init__()
        self.body = nn.SequentialCell(attention, nn.Identity())

    def construct(self, x):
        return self.body(x)


class Gradient(nn.Cell):
    """The gradients of a network as a cell, compiled in graph mode."""

    def __init__(self, net: nn.Cell) -> None:
        super().__init__()
        self.net = net
        self.weights = ms.ParameterTuple(net.trainable_params())
        self.grad = ops.GradOperation(get_by_list=True)

    def construct(self, x):
        def loss(inputs):
            return (self.net(inputs) ** 3).sum()

        return self.grad(loss, self.weights)(x)


def attention() -> Attention:
    ms.set_seed(0)
    return Attention()


def key_gradient(net: nn.Cell, by_jit: bool = True) -> np.ndarray:
    which = next(i for i, parameter in enumerate(net.trainable_params()) if parameter.name.endswith("key.weight"))

    def loss(x):
        return (net(x) ** 3).sum()

    if by_jit:
        _, grads = ms.jit(ms.value_and_grad(loss, None, net.trainable_params()))(Tensor(_X))
    else:
        grads = Gradient(net)(Tensor(_X))
    return grads[which].asnumpy()


def eager_key_gradient(net: nn.Cell) -> np.ndarray:
    """PyNative mode: the function is compiled, the gradient is taken outside of it."""
    forward = ms.jit(net.construct)
    names = [parameter.name for parameter in net.trainable_params()]

    def loss(x):
        return (forward(x) ** 3).sum()

    _, grads = ms.value_and_grad(loss, None, net.trainable_params())(Tensor(_X))
    return grads[names.index("key.weight")].asnumpy()


def error(got: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.abs(got - wanted).max() / np.abs(wanted).max())


def patched_f3() -> float:
    """The error of the fused gradient under the cure of F3, which is not that of F1, and under what was learnt."""
    right = key_gradient(attention())
    ms.set_context(enable_graph_kernel=True)
    with cures.patched("F3"):
        return error(key_gradient(attention()), right)


class SeenFlags:
    """Records the flags in force at the very compilation, below every guard."""

    def __init__(self) -> None:
        self.flags: list[str] = []
        targets = _mindspore.compilation_targets()
        cures.ledger.hold(self, {"0.recorder": [Replacement(target, self._around) for target in targets]})

    def _around(self, original: Any) -> Any:
        def compile_recorded(executor, *args, **kwargs):
            self.flags.append(os.environ.get("MS_DEV_GRAPH_KERNEL_FLAGS") or _mindspore.graph_kernel_flags())
            return original(executor, *args, **kwargs)

        return compile_recorded


def guarding() -> dict[str, Any]:
    """One gradient: unfused, fused, guarded, fused again, safe inside a network."""
    right = key_gradient(attention())
    ms.set_context(enable_graph_kernel=True)
    found: dict[str, Any] = {"fused": error(key_gradient(attention()), right)}
    with fusion.guard("Transpose"):
        found["guarded"] = error(key_gradient(attention()), right)
    found["left"] = fusion.flags().text
    found["fused again"] = error(key_gradient(attention()), right)
    found["safe, jit"] = error(key_gradient(Network(fusion.safe(attention()))), right)
    found["safe, cell"] = error(key_gradient(Network(fusion.safe(attention())), by_jit=False), right)
    return found


def eager() -> dict[str, Any]:
    """The gradient of a compiled function, taken in PyNative mode."""
    ms.set_context(mode=ms.PYNATIVE_MODE)
    right = eager_key_gradient(attention())
    ms.set_context(enable_graph_kernel=True)
    found = {"fused": error(eager_key_gradient(attention()), right)}
    found["safe"] = error(eager_key_gradient(fusion.safe(attention())), right)
    with cures.patched("F1"):
        found["patched"] = error(eager_key_gradient(attention()), right)
    return found


def flags_seen() -> dict[str, Any]:
    """What a compilation sees of guards, of the user's flags in both places, and what is left of it."""
    seen, x = SeenFlags(), Tensor(np.ones((2, 2), np.float32))
    found: dict[str, Any] = {}
    with fusion.guard("cluster:Add"):
        nn.ReLU()(x)
    found["fusion off"] = seen.flags[-1]
    ms.set_context(enable_graph_kernel=True)
    nn.ReLU()(x)
    found["no guard"] = seen.flags[-1]
    _mindspore.set_graph_kernel_flags("--disable_cluster_ops=Pow")
    with fusion.guard("cluster:Add"):
        nn.ReLU()(x)
    found["context"] = [seen.flags[-1], _mindspore.graph_kernel_flags()]
    os.environ["MS_DEV_GRAPH_KERNEL_FLAGS"] = "--disable_cluster_ops=Mul"
    with fusion.guard("cluster:Add"):
        nn.ReLU()(x)
    found["environment"] = [seen.flags[-1], os.environ["MS_DEV_GRAPH_KERNEL_FLAGS"], _mindspore.graph_kernel_flags()]
    with cures.patched("F1"):
        nn.ReLU()(x)
    found["patch"] = [seen.flags[-1], os.environ["MS_DEV_GRAPH_KERNEL_FLAGS"]]
    failing = fusion.safe(Mismatched(), keep_out=["cluster:Sub"])
    try:
        failing(x)
    except ValueError:
        found["failed"] = [seen.flags[-1], os.environ["MS_DEV_GRAPH_KERNEL_FLAGS"], _mindspore.graph_kernel_flags()]
    return found


class Mismatched(nn.Cell):
    """A graph that cannot be compiled."""

    def construct(self, x):
        return ops.add(x, ops.ones((5, 7), ms.float32))


def late() -> dict[str, Any]:
    """The warnings of guards around cells and functions that were compiled before, and of those that were not."""
    x, net = Tensor(np.ones((2, 2), np.float32)), nn.ReLU()
    found: dict[str, Any] = {}

    def heard(*names: str, call: Any = net) -> list[str]:
        with warnings.catch_warnings(record=True) as caught, fusion.guard(*names):
            warnings.simplefilter("always")
            call(x)
        return [str(w.message) for w in caught if issubclass(w.category, fusion.LateGuardWarning)]

    net(x)
    found["fusion off"] = heard("cluster:Add")
    ms.set_context(enable_graph_kernel=True)
    found["cell"] = heard("cluster:Add", "cluster:Mul")
    fresh = nn.ReLU()
    found["fresh"] = [heard("cluster:Add", call=fresh), heard("cluster:Add", call=fresh)]
    found["another guard"] = heard("cluster:Add", "cluster:Mul", call=fresh)
    compiled = ms.jit(Network(nn.ReLU()).construct)
    compiled(x)
    found["function"] = heard("cluster:Add", call=compiled)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fusion.safe(net)
    found["safe"] = [str(w.message) for w in caught]
    return found


def litter() -> dict[str, Any]:
    """Fused compilation under F5 with the user's own cache folder, and with none."""
    ms.set_context(enable_graph_kernel=True)
    if len(sys.argv) > 2:
        os.environ["MS_COMPILER_CACHE_PATH"] = sys.argv[2]
    from ascend_fixes.defects.f5_litter import Fusible

    with cures.patched("F5"):
        total = float(Fusible()(Tensor(np.ones((4, 4), np.float32))).sum())
    return {"total": total, "here": sorted(os.listdir(".")), "path": ms.get_context("compile_cache_path")}


def layers() -> dict[str, Any]:
    """The largest errors of every safe layer, fused, in units in the last place: of the value, of the gradient."""
    from layer_cells import LAYERS, WithGradient, check

    ms.set_context(enable_graph_kernel=True)
    worst = {}
    for name, (make, *_) in LAYERS.items():
        cell, found = WithGradient(make(16)), []
        for seed in range(20):
            rng = np.random.default_rng(seed)
            x = rng.standard_normal((8, 16)) * 10.0 ** rng.integers(-3, 5)
            x[1], x[2], x[3] = x[1, 0], 0, x[3] + 100 * x.std()
            mask = rng.random(x.shape) < 0.6
            mask[4] = False
            for dtype in (np.float32, np.float16):
                found.append(check(cell, name, np.clip(x, -65504, 65504).astype(dtype), mask))
        worst[name] = [max(errors) for errors in zip(*found)]
    return worst


def recurrent() -> dict[str, dict[str, float]]:
    """Largest errors relative to the largest value, of value and gradients: against float64, and fused to unfused.

    Every case is run on full and on ragged rows, by one graph.
    """
    from recurrent_references import Everything

    found: dict[str, dict[str, float]] = {}
    for name, build in CASES.items():
        for dtype in (np.float32, np.float16):
            results: dict[bool, list[np.ndarray]] = {}
            for fused in (False, True):
                ms.set_context(enable_graph_kernel=fused)
                ms.set_seed(0)
                layer, inputs, rows, reference = build(dtype)
                cell, results[fused] = Everything(layer), []
                for row in rows:
                    wanted, gradients, weighting = reference(row)
                    value, by_input, by_weights = cell(Tensor(weighting), *inputs, Tensor(row))
                    results[fused] += [item.asnumpy().astype(np.float64) for item in (value, by_input, *by_weights)]
                    here = results[fused][-2 - len(by_weights) :]
                    errors = [error(got, want) for got, want in zip(here, [wanted, *gradients])]
                    key = f"{name} {np.dtype(dtype)} {'fused' if fused else 'unfused'}"
                    old = found.get(key, {"value": 0.0, "gradient": 0.0})
                    found[key] = {
                        "value": max(old["value"], errors[0]),
                        "gradient": max(old["gradient"], *errors[1:]),
                    }
            apart = [error(got, want) for got, want in zip(results[True], results[False])]
            found[f"{name} {np.dtype(dtype)} fused to unfused"] = {"value": max(apart)}
    return found


def _double(values: Any) -> list[np.ndarray]:
    return [value.asnumpy().astype(np.float64) for value in values]


def gru_case(dtype: type) -> tuple:
    from recurrent_references import differences, gru

    from ascend_fixes.fusion.recurrent import GRU

    rng = np.random.default_rng(0)
    layer = GRU(3, 4)
    x, h = rng.standard_normal((11, 3, 3)).astype(dtype), rng.uniform(-1, 1, (1, 3, 4)).astype(dtype)
    weighting = np.cos(np.arange(11 * 3 * 4)).reshape(11, 3, 4).astype(np.float32)
    parameters = _double(layer.trainable_params())  # w_ih, w_hh, b_ih, b_hh

    def reference(lengths: np.ndarray) -> tuple:
        def output(values):
            return gru(values[0], h[0].astype(np.float64), values[1:], lengths)[0]

        values = [x.astype(np.float64), *parameters]
        return output(values), differences(lambda v: (output(v) * weighting).sum(), values), weighting

    rows = [np.array(lengths, np.int32) for lengths in ([11, 11, 11], [11, 5, 0])]
    return layer, [Tensor(x), Tensor(h)], rows, reference


def crf_case(dtype: type) -> tuple:
    from recurrent_references import crf_loss, differences

    from ascend_fixes.fusion.crf import CRF

    rng = np.random.default_rng(0)
    layer = CRF(4)
    emissions, tags = rng.standard_normal((3, 9, 4)).astype(dtype), rng.integers(0, 4, (3, 9)).astype(np.int32)
    weighting = np.array([1.0, -0.5, 0.7], np.float32)
    parameters = _double(layer.trainable_params())

    def reference(lengths: np.ndarray) -> tuple:
        def loss(values):
            return crf_loss(values[0], tags, lengths, *values[1:])

        values = [emissions.astype(np.float64), *parameters]
        return loss(values), differences(lambda v: (loss(v) * weighting).sum(), values), weighting

    rows = [np.array(lengths, np.int32) for lengths in ([9, 9, 9], [9, 5, 1])]
    return layer, [Tensor(emissions), Tensor(tags)], rows, reference


def graph_case(dtype: type) -> tuple:
    from recurrent_references import differences, gated_graph

    from ascend_fixes.fusion.graphs import GatedGraph

    rng = np.random.default_rng(0)
    layer = GatedGraph(4)
    layer.to_float(ms.float16 if dtype is np.float16 else ms.float32)
    x, links = rng.standard_normal((2, 5, 4)).astype(dtype), rng.random((2, 5, 5)).astype(dtype)
    weighting = np.cos(np.arange(40)).reshape(2, 5, 4).astype(np.float32)
    names = ("gathered.weight", "gathered.bias", "own.weight", "kept.weight")
    parameters = {parameter.name: parameter for parameter in layer.trainable_params()}
    assert tuple(parameters) == names, tuple(parameters)

    def reference(mask: np.ndarray) -> tuple:
        def output(values):
            return gated_graph(values[0], links.astype(np.float64), mask, values[1:], 2)

        values = [x.astype(np.float64), *_double(parameters.values())]
        return output(values), differences(lambda v: (output(v) * weighting).sum(), values), weighting

    rows = [np.ones((2, 5), bool), np.array([[True] * 5, [True, False, True, False, False]])]
    return layer, [Tensor(x), Tensor(links)], rows, reference


CASES = {"GRU": gru_case, "CRF": crf_case, "GatedGraph": graph_case}


if __name__ == "__main__":
    ms.set_device("CPU")
    ms.set_context(mode=ms.GRAPH_MODE)
    print(
        json.dumps(
            {
                "guarding": guarding,
                "eager": eager,
                "patched_f3": patched_f3,
                "layers": layers,
                "recurrent": recurrent,
                "flags_seen": flags_seen,
                "late": late,
                "litter": litter,
            }[sys.argv[1]]()
        )
    )
