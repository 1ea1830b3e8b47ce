"""Sequences of finite and overflowed steps through a `LossScaler`, compiled, against the rule written out with NumPy.

Sequences with the same settings run side by side: the scaler's Parameters hold one state for each of them, so that one graph
updates thousands. Some of each group run alone as well, through the scaler as it is and through its `state_dict`.
"""

from __future__ import annotations

import json
import random
from typing import Any

import mindspore
import numpy as np
from mindspore import Parameter, Tensor, nn

from ascend_fixes.amp import LossScaler

STEPS = 16  # of a sequence
TOGETHER = 2  # of them in one graph
GROUP = 25_000  # sequences of the same settings
ALONE = 100  # of a group run alone, too
STATE = ("scale", "good_steps", "bad_steps", "stuck_steps")
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
    """``TOGETHER`` updates, and the scale after each; ``finite`` is bool, (TOGETHER) or (TOGETHER, sequences)."""

    def __init__(self, scaler: LossScaler) -> None:
        super().__init__()
        self.scaler = scaler

    def construct(self, finite: Tensor) -> Tensor:
        scales = ()
        for step in range(TOGETHER):
            scales = scales + (self.scaler.update(finite[step]) * 1.0,)
        return mindspore.ops.stack(scales)


def settings_of(chance: random.Random) -> dict[str, Any]:
    """Any that a `LossScaler` takes."""
    low, initial, high = sorted(2 ** chance.uniform(-126, 127) for _ in range(3))
    if chance.random() < 0.1:
        low = high = initial
    return {
        "initial": initial,
        "minimum": low,
        "maximum": high,
        "growth": chance.choice((1.0, 2.0, chance.uniform(1, 4), 2.0 ** chance.uniform(1, 100))),
        "backoff": chance.choice((0.5, 1.0, chance.uniform(0.01, 1))),
        "growth_interval": chance.choice((1, 2, 3, 5, 9, 2000)),
        "hysteresis": chance.randrange(1, 5),
    }


def states_of(scaler: LossScaler, count: int, random_: np.random.Generator) -> dict[str, np.ndarray]:
    """The scaler's own state, and states from anywhere within its bounds."""
    own = scaler.state_dict()
    low, high = np.log2([scaler.minimum, scaler.maximum])
    anywhere = {
        "scale": np.clip(2 ** random_.uniform(low, high, count), scaler.minimum, scaler.maximum).astype(np.float32),
        "good_steps": random_.integers(0, 2 * scaler.growth_interval, count).astype(np.int32),
        "bad_steps": random_.integers(0, 2 * scaler.hysteresis, count).astype(np.int32),
        "stuck_steps": random_.integers(0, 20, count).astype(np.int32),
    }
    untouched = random_.random(count) < 0.5
    return {name: np.where(untouched, np.array(own[name], state.dtype), state) for name, state in anywhere.items()}


def expected(
    scaler: LossScaler, state: dict[str, np.ndarray], finite: np.ndarray
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The rule at the head of ascend_fixes/amp/_scaler.py, in float32; ``finite`` is (steps, sequences)."""
    low, high = np.float32(scaler.minimum), np.float32(scaler.maximum)
    scale, good, bad, stuck = (state[name].copy() for name in STATE)
    scales = []
    for fine in finite:
        good, bad = np.where(fine, good + 1, 0), np.where(fine, 0, bad + 1)
        grows, backs_off = fine & (good >= scaler.growth_interval), ~fine & (bad >= scaler.hysteresis)
        with np.errstate(over="ignore"):
            larger = np.clip(scale * np.float32(scaler.growth), low, high)
        smaller = np.clip(scale * np.float32(scaler.backoff), low, high)
        stuck = np.where(fine, 0, stuck + (backs_off & (smaller >= scale)))
        scale = np.where(grows, larger, np.where(backs_off, smaller, scale))
        good, bad = np.where(grows, 0, good), np.where(backs_off, 0, bad)
        scales.append(scale)
    return np.array(scales), dict(zip(STATE, (scale, good, bad, stuck)))


def side_by_side(settings: dict[str, Any], state: dict[str, np.ndarray]) -> Steps:
    """A scaler whose Parameters hold the states of many sequences."""
    scaler = LossScaler(**settings)
    for name, single in zip(STATE, scaler.parameters()):
        many = Parameter(Tensor(state[name].astype(single.asnumpy().dtype)), name=single.name, requires_grad=False)
        setattr(scaler, "loss_scale" if name == "scale" else name, many)
    return Steps(scaler)


def scales_of(cell: Steps, finite: np.ndarray) -> np.ndarray:
    parts = [finite[start : start + TOGETHER] for start in range(0, STEPS, TOGETHER)]
    return np.concatenate([cell(Tensor(part)).asnumpy() for part in parts])


def group(settings: dict[str, Any], count: int, random_: np.random.Generator) -> tuple[int, int]:
    """Run ``count`` sequences; the number of overflowed steps, and of the sequences that ran alone, too."""
    scaler = LossScaler(**settings)
    state = states_of(scaler, count, random_)
    finite = random_.random((STEPS, count)) < random_.choice([0.2, 0.8, 0.97], count)
    scales, after = expected(scaler, state, finite)
    cell = side_by_side(settings, state)
    assert np.array_equal(scales_of(cell, finite), scales), (settings, "scales")
    for name, parameter in zip(STATE, cell.scaler.parameters()):
        assert np.array_equal(parameter.asnumpy(), after[name]), (settings, name)
    cell = Steps(scaler)
    for one in range(min(ALONE, count)):
        before = {**scaler.state_dict(), **{name: state[name][one].item() for name in STATE}}
        scaler.load_state_dict(json.loads(json.dumps(before)))
        assert scaler.state_dict() == before, (settings, before)
        assert np.array_equal(scales_of(cell, finite[:, one]), scales[:, one]), (before, finite[:, one])
        found = scaler.state_dict()
        assert found == {**before, **{name: after[name][one].item() for name in STATE}}, (before, finite[:, one], found)
        assert LossScaler.from_state_dict(json.loads(json.dumps(found))).state_dict() == found
    return int((~finite).sum()), min(ALONE, count)


def run(sequences: int, seed: int) -> dict[str, int]:
    """Sequences of random settings from random states."""
    chance, random_ = random.Random(seed), np.random.default_rng(seed)
    found = {"sequences": 0, "steps": 0, "overflowed steps": 0, "settings": 0, "alone and through state_dict": 0}
    while found["sequences"] < sequences:
        count = min(GROUP, sequences - found["sequences"])
        number = found["settings"]
        settings = SETTINGS[number] if number < len(SETTINGS) else settings_of(chance)
        overflowed, alone = group(settings, count, random_)
        found["sequences"] += count
        found["steps"] += count * STEPS
        found["overflowed steps"] += overflowed
        found["settings"] += 1
        found["alone and through state_dict"] += alone
    return found
