"""Sequences of finite and overflowed steps through a `LossScaler`, compiled, against the rule written out in Python."""

from __future__ import annotations

import random
from typing import Any

import mindspore
import numpy as np
from mindspore import Tensor, nn

from ascend_fixes.amp import LossScaler

STEPS = 16  # of a sequence, one graph
SETTINGS: tuple[dict[str, Any], ...] = (
    {"growth_interval": 3},
    {"growth_interval": 1, "hysteresis": 2, "initial": 1.0},
    {"growth_interval": 4, "growth": 3.0, "backoff": 0.3, "minimum": 0.5, "maximum": 5e5},
    {
        "growth_interval": 2,
        "hysteresis": 3,
        "growth": 1.0,
        "initial": 7.0,
        "minimum": 7.0,
        "maximum": 7.0,
        "backoff": 1.0,
    },
)


class Steps(nn.Cell):
    """``STEPS`` updates, and the scale after each."""

    def __init__(self, scaler: LossScaler) -> None:
        super().__init__()
        self.scaler = scaler

    def construct(self, finite: Tensor) -> Tensor:
        scales = ()
        for step in range(STEPS):
            scales = scales + (self.scaler.update(finite[step]) * 1.0,)
        return mindspore.ops.stack(scales)


def expected(state: dict[str, Any], finite: list[bool]) -> tuple[list[float], dict[str, Any]]:
    """The rule at the head of ascend_fixes/amp/_scaler.py, in float32."""
    state, scales = dict(state), []
    low, high = np.float32(state["minimum"]), np.float32(state["maximum"])
    scale = np.float32(state["scale"])
    for good in finite:
        if good:
            state["good_steps"], state["bad_steps"], state["stuck_steps"] = state["good_steps"] + 1, 0, 0
            if state["good_steps"] >= state["growth_interval"]:
                scale = np.clip(scale * np.float32(state["growth"]), low, high)
                state["good_steps"] = 0
        else:
            state["good_steps"], state["bad_steps"] = 0, state["bad_steps"] + 1
            if state["bad_steps"] >= state["hysteresis"]:
                smaller = np.clip(scale * np.float32(state["backoff"]), low, high)
                state["stuck_steps"] += int(smaller >= scale)
                scale, state["bad_steps"] = smaller, 0
        scales.append(float(scale))
    return scales, {**state, "scale": float(scale)}


def run(sequences: int, seed: int) -> dict[str, int]:
    """Sequences from random states; after each, the state goes through `state_dict` and back."""
    chance = random.Random(seed)
    cells = [Steps(LossScaler(**settings)) for settings in SETTINGS]
    found = {"sequences": sequences, "steps": sequences * STEPS, "overflowed steps": 0}
    for _ in range(sequences):
        cell = chance.choice(cells)
        finite = [chance.random() < chance.choice((0.2, 0.8, 0.97)) for _ in range(STEPS)]
        before = cell.scaler.state_dict()
        if chance.random() < 0.2:  # from anywhere
            before["scale"] = float(np.float32(chance.uniform(before["minimum"], min(before["maximum"], 1e6))))
            cell.scaler.load_state_dict(before)
        wanted, after = expected(before, finite)
        got = cell(Tensor(finite, mindspore.bool_)).asnumpy().tolist()
        assert got == wanted, (before, finite, got, wanted)
        state = cell.scaler.state_dict()
        assert state == after, (before, finite, state, after)
        cell.scaler.load_state_dict(state)
        assert cell.scaler.state_dict() == state
        found["overflowed steps"] += finite.count(False)
    return found
