"""H3: unique, nonzero and masked_select make every later shape dynamic, and run on Ascend's AICPU."""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from ascend_fixes import _mindspore, host
from ascend_fixes.defects import Defect, Finding, Tool

__all__ = ["DEFECT", "Distinct", "FixedSize", "Positions", "Selected", "probe", "probe_fixed_size"]


class Distinct(nn.Cell):
    """Two operators behind `unique`: ``(n,)`` to a vector of unknown length."""

    def construct(self, x: Tensor) -> Tensor:
        """The distinct values, doubled, plus one."""
        return ops.unique(x)[0] * 2 + 1


class Positions(nn.Cell):
    """Two operators behind `nonzero`."""

    def construct(self, x: Tensor) -> Tensor:
        """The positions of what is not zero, doubled, plus one."""
        return ops.nonzero(x) * 2 + 1


class Selected(nn.Cell):
    """Two operators behind `masked_select`."""

    def construct(self, x: Tensor) -> Tensor:
        """The values above one, doubled, plus one."""
        return ops.masked_select(x, x > 1) * 2 + 1


def probe() -> Finding:
    """Compile each and count the operators whose shape is not known before it runs."""
    ms.set_context(mode=ms.GRAPH_MODE)
    x = Tensor(np.array([3, 1, 3, 0, 2, 0]), ms.int32)
    told, dynamic = [], 0
    for net, operator in ((Distinct(), "unique"), (Positions(), "nonzero"), (Selected(), "maskedselect")):
        net(x)
        shapes = [shape for _, shape in _mindspore.graph_nodes(net)]
        unknown = sum(-1 in shape for shape in shapes)
        dynamic += unknown
        told.append(f"{operator} {unknown} of {len(shapes)}" + " (AICPU)" * (operator in _mindspore.aicpu_operators()))
    return Finding(dynamic > 0, f"operators of unknown shape behind {', '.join(told)}")


class FixedSize(nn.Cell):
    """The same three with outputs of 6 elements, two operators behind each."""

    def construct(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The distinct values, the positions and the values above one, each doubled, plus one."""
        distinct = host.unique(x, 6)[0] * 2 + 1
        positions = host.nonzero(x, 6)[0] * 2 + 1
        return distinct, positions, host.masked_select(x, x > 1, 6)[0] * 2 + 1


def probe_fixed_size() -> Finding:
    """Compile the operators of `host`, check the values, and count the operators of unknown shape.

    MindSpore's own `unique` must be on the host in the graph of a cell that `host.place` was given.
    """
    ms.set_context(mode=ms.GRAPH_MODE)
    x, net, placed = Tensor(np.array([3, 1, 3, 0, 2, 0]), ms.int32), FixedSize(), Distinct()
    found = [output.asnumpy().ravel().tolist() for output in net(x)]
    expected = [[1, 3, 5, 7, 1, 1], [1, 3, 5, 9, 1, 1], [7, 7, 5, 1, 1, 1]]
    shapes = [shape for _, parts, _ in _mindspore.graph_operators(net) for shape in parts]
    unknown = sum(-1 in shape for shape in shapes)
    right = "right" if found == expected else f"wrong: {found}"
    host.place(placed)
    placed(x)
    operators = _mindspore.graph_operators(placed)
    (target,) = [attributes.get("primitive_target") for name, _, attributes in operators if name == "Unique"]
    return Finding(
        unknown > 0 or found != expected or target != "CPU",
        f"unknown shapes {unknown} of {len(shapes)}; values {right}; ops.unique under host.place runs on {target}",
    )


DEFECT = Defect(
    id="H3",
    family="host",
    symptom="unique, nonzero and masked_select make every later shape dynamic; on Ascend they are AICPU kernels",
    symptom_zh="unique、nonzero、masked_select 之后的形状全部变成动态；在昇腾上它们是 AICPU kernel",
    error="aclnnNonzeroV2 ... AICPU exception",
    cause="the output's shape is data, so every operator behind it is compiled without one: not fused, not planned",
    seen="the shapes in the compiled graph; the AICPU by the wheel's own table; the error in reports from Ascend",
    upstream="https://github.com/vllm-project/vllm-ascend/issues/1006",
    removal="the operators take a fixed output size",
    probe=probe,
    tool=Tool("host.unique, host.nonzero, host.masked_select, host.place", probe_fixed_size),
)
