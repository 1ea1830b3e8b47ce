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


class Skipped(nn.Cell):
    """``exp(2 x) + 1`` of a primitive with the attribute by which the fuser leaves a single node alone."""

    def __init__(self) -> None:
        super().__init__()
        self.exp = ops.Exp().add_prim_attr("skip", True)

    def construct(self, x):
        return self.exp(x * 2.0) + 1.0


def skip() -> list[list[float]]:
    """What that gives for 0 and 1, unfused and fused."""
    found = []
    for fused in (False, True):
        ms.set_context(enable_graph_kernel=fused)
        found.append(Skipped()(Tensor(np.array([0.0, 1.0], np.float32))).asnumpy().tolist())
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


if __name__ == "__main__":
    ms.set_device("CPU")
    ms.set_context(mode=ms.GRAPH_MODE)
    print(
        json.dumps(
            {
                "guarding": guarding,
                "eager": eager,
                "patched_f3": patched_f3,
                "flags_seen": flags_seen,
                "late": late,
                "skip": skip,
                "litter": litter,
            }[sys.argv[1]]()
        )
    )
