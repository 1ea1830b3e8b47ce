"""H7: a decoding step whose state is a tuple of Tensors compiles a graph at every step."""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from ascend_fixes.defects import Defect, Finding, Tool
from ascend_fixes.host import beam_search

__all__ = ["DEFECT", "Step", "probe", "probe_beam_search"]

_STEPS, _WORDS = 4, 6


class Step(nn.Cell):
    """One step of a decoder: tokens ``(rows,)`` and a state of two Tensors ``(rows, 6)`` to scores and a state."""

    def construct(self, tokens: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Scores that fall with every token taken."""
        total, count = state
        total = total + ops.one_hot(tokens, _WORDS, Tensor(1.0), Tensor(0.0))
        return -total, (total, count + 1)


def _state() -> tuple[Tensor, Tensor]:
    return Tensor(np.zeros((1, _WORDS), np.float32)), Tensor(np.zeros((1, _WORDS), np.float32))


def probe() -> Finding:
    """Greedy decoding as it is written first; count the graphs."""
    ms.set_context(mode=ms.GRAPH_MODE)
    step, state, tokens = Step(), _state(), Tensor([1], ms.int32)
    for _ in range(_STEPS):
        scores, state = step(tokens, state)
        tokens = scores.argmax(-1).astype(ms.int32)
    graphs = len(step.compile_cache)
    return Finding(graphs > 1, f"{graphs} graphs for {_STEPS} steps of one shape")


def probe_beam_search() -> Finding:
    """The same step in `host.beam_search`."""
    ms.set_context(mode=ms.GRAPH_MODE)
    step = Step()
    result = beam_search(step, _state(), beam=2, max_length=_STEPS, start=[1], end=0)
    graphs = len(step.compile_cache)
    return Finding(graphs > 1, f"{graphs} graphs for {result.steps} steps, beam 2")


DEFECT = Defect(
    id="H7",
    family="host",
    symptom="a decoding loop whose state is a tuple of Tensors compiles a graph at every step",
    symptom_zh="状态是 Tensor 元组的解码循环，每一步都编译一张图",
    error="",
    cause="Tensors inside a tuple, list or dict are constants to the compiler unless the container is marked mutable",
    seen="",
    upstream="none found; documented for mindspore.mutable",
    removal="Tensors in containers are data by default",
    probe=probe,
    tool=Tool("host.beam_search", probe_beam_search),
)
