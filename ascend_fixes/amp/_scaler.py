"""`LossScaler`: the factor that keeps float16 gradients out of underflow, and how it follows what the run shows.

The loss is multiplied by the scale before the backward pass and the gradients are divided by it afterwards. The
scale grows while gradients stay finite and backs off when they overflow (Micikevicius et al., "Mixed Precision
Training", ICLR 2018; backing off only after several bad steps as in Megatron-LM). One step of the rule:

    finite:      good += 1, bad = 0; at good == growth_interval: scale = min(scale * growth, maximum), good = 0
    not finite:  bad += 1, good = 0; at bad == hysteresis: scale = max(scale * backoff, minimum), bad = 0

Unlike `mindspore.amp.DynamicLossScaler`, scale and gradients are multiplied and divided in float32 whatever their
own type, the scale has bounds on both sides, and its whole state can be saved.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import mindspore
import numpy as np
from mindspore import Parameter, Tensor, ops

from ascend_fixes.errors import AscendFixesError

__all__ = ["LossScaler", "ScalerError", "ScalerStateError", "StuckScaleError"]

FLOAT16_LIMIT = 65504.0  # the largest float16: on a device that saturates, every overflow is this number

_SETTINGS = ("initial", "minimum", "maximum", "growth", "backoff", "growth_interval", "hysteresis")
_COUNTERS = ("good_steps", "bad_steps", "stuck_steps")
_MOST = 2**31 - 1  # counters are int32, and the next step counts one more


class ScalerError(AscendFixesError, ValueError):
    """Settings of a `LossScaler` that cannot work."""


class ScalerStateError(AscendFixesError, ValueError):
    """A saved state that is incomplete, out of range or of a scaler with other settings."""


class StuckScaleError(AscendFixesError, RuntimeError):
    """The scale is at its minimum and gradients still overflow: no scale helps; the message names the parameter."""


@mindspore.jit_class
class LossScaler:
    """A loss scale and the rule that changes it. Dynamic by default; `static` and `off` make the other two kinds.

    Methods work inside a graph and outside. Numbers are float32: the scale keeps powers of two exact.

    Args:
        initial: the scale to start from.
        minimum: the scale never falls below; may be below 1.
        maximum: the scale never grows above.
        growth: the factor of growing, at least 1.
        backoff: the factor of backing off, above 0 and at most 1.
        growth_interval: finite steps in a row before the scale grows.
        hysteresis: overflowed steps in a row before the scale backs off; every such step is skipped all the same.

    Raises:
        ScalerError: a setting out of range; nothing is changed.
    """

    def __init__(
        self,
        initial: float = 2.0**16,
        minimum: float = 2.0**-14,
        maximum: float = 2.0**24,
        growth: float = 2.0,
        backoff: float = 0.5,
        growth_interval: int = 2000,
        hysteresis: int = 1,
    ) -> None:
        # In float32, as the scale is: a scale at a bound of 0.1 is within bounds, and its state is accepted again.
        initial, minimum, maximum = map(_in_float32, (initial, minimum, maximum))
        _check(initial, minimum, maximum, growth, backoff, growth_interval, hysteresis)
        self.initial = initial
        self.minimum = minimum
        self.maximum = maximum
        self.growth = float(growth)
        self.backoff = float(backoff)
        self.growth_interval = int(growth_interval)
        self.hysteresis = int(hysteresis)
        self.settings_are_final = False  # set by a `TrainStep`, whose graph they are part of
        self.loss_scale = _parameter("loss_scale", initial, mindspore.float32)
        self.good_steps = _parameter("good_steps", 0, mindspore.int32)
        self.bad_steps = _parameter("bad_steps", 0, mindspore.int32)
        self.stuck_steps = _parameter("stuck_steps", 0, mindspore.int32)

    @classmethod
    def static(cls, scale: float) -> LossScaler:
        """A scale that stays as it is. Overflowed steps are still found, and skipped by `TrainStep`."""
        return cls(initial=scale, minimum=scale, maximum=scale, growth=1.0, backoff=1.0)

    @classmethod
    def off(cls) -> LossScaler:
        """No scaling: a static scale of 1, for float32 and bfloat16."""
        return cls.static(1.0)

    @property
    def is_off(self) -> bool:
        """Whether the scale is 1 and stays so: there is nothing to multiply or divide."""
        return self.minimum == self.maximum == 1.0

    @property
    def value(self) -> float:
        """The scale now. Reading it waits for the device."""
        return float(self.loss_scale.asnumpy())

    def scale(self, loss: Any) -> Any:
        """``loss`` (a Tensor, or a tuple of Tensors, of any float type) times the scale, in float32."""
        if isinstance(loss, (tuple, list)):
            scaled = ()
            for part in loss:
                scaled = scaled + (ops.cast(part, mindspore.float32) * self.loss_scale,)
            return scaled
        return ops.cast(loss, mindspore.float32) * self.loss_scale

    def unscale(self, grads: Any) -> Any:
        """``grads`` (a Tensor, or a tuple of Tensors, of any float type) divided by the scale, in float32.

        A division, because the reciprocal of 2**25 is zero in float16.
        """
        if isinstance(grads, (tuple, list)):
            unscaled = ()
            for grad in grads:
                unscaled = unscaled + (ops.cast(grad, mindspore.float32) / self.loss_scale,)
            return unscaled
        return ops.cast(grads, mindspore.float32) / self.loss_scale

    def update(self, finite: Any) -> Any:
        """Change the scale after a step whose gradients were ``finite`` (a bool, or a scalar bool Tensor) or not.

        Returns:
            The new scale.
        """
        if not isinstance(finite, Tensor):
            finite = Tensor(bool(finite))
        state = ()
        for good, bad in zip(self.after_finite(), self.after_overflow(Tensor(True))):
            state = state + (ops.select(finite, good, bad),)
        return self.take(state)

    def after_finite(self) -> Any:
        """Scale, good, bad and stuck steps after a finite step. Changes nothing: `take` does."""
        good, zero = self.good_steps + 1, ops.zeros_like(self.good_steps)
        grows = good >= self.growth_interval
        grown = ops.minimum(self.loss_scale * self.growth, self.maximum)
        return ops.select(grows, grown, self.loss_scale.value()), ops.select(grows, zero, good), zero, zero

    def after_overflow(self, scaling_helps: Any) -> Any:
        """The same after a step that was not finite. A loss that is not finite by itself is no matter of the scale.

        Args:
            scaling_helps: scalar bool Tensor; False for such a loss: the scale and what it follows stay as they are.
        """
        bad, zero = self.bad_steps + 1, ops.zeros_like(self.bad_steps)
        backs_off = bad >= self.hysteresis
        lower = ops.maximum(self.loss_scale * self.backoff, self.minimum)
        scale = self.loss_scale.value()
        at_end = ops.logical_and(backs_off, lower >= scale)
        stuck = ops.logical_or(at_end, ops.logical_not(scaling_helps))
        backs_off_now = ops.logical_and(backs_off, scaling_helps)
        return (
            ops.select(backs_off_now, lower, scale),
            ops.select(scaling_helps, zero, self.good_steps.value()),
            ops.select(scaling_helps, ops.select(backs_off, zero, bad), self.bad_steps.value()),
            self.stuck_steps + stuck.astype(mindspore.int32),
        )

    def take(self, state: Any) -> Any:
        """Make a state the scaler's, and return its scale."""
        ops.assign(self.loss_scale, state[0])
        ops.assign(self.good_steps, state[1])
        ops.assign(self.bad_steps, state[2])
        ops.assign(self.stuck_steps, state[3])
        return state[0]

    def parameters(self) -> list[Parameter]:
        """The state as MindSpore Parameters, which a checkpoint of `TrainStep` contains."""
        return [self.loss_scale, self.good_steps, self.bad_steps, self.stuck_steps]

    def state_dict(self) -> dict[str, int | float]:
        """Settings and state as plain numbers: ``"scale"``, ``"good_steps"``, ``"bad_steps"``, ``"stuck_steps"`` and the settings."""
        state = {"scale": self.value}
        state.update({name: int(getattr(self, name).asnumpy()) for name in _COUNTERS})
        state.update({name: getattr(self, name) for name in _SETTINGS})
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned, exactly: the state, and the settings where the state has them.

        Raises:
            ScalerStateError: a field is missing or unknown, a number is out of range, or a setting differs from this
                scaler's and a `TrainStep` has been made with it, which has compiled the settings. Nothing is changed.
        """
        if not isinstance(state, Mapping):
            raise ScalerStateError(f"state={state!r} is no dictionary; pass what state_dict() returned")
        missing = sorted({"scale", *_COUNTERS} - set(state))
        unknown = sorted(map(str, set(state) - {"scale", *_COUNTERS, *_SETTINGS}))
        if missing or unknown:
            raise ScalerStateError(
                f"state: {', '.join(missing or unknown)} {'missing' if missing else 'unknown'}; pass what "
                f"state_dict() returned"
            )
        try:
            taken = LossScaler(**{name: state.get(name, getattr(self, name)) for name in _SETTINGS})
        except ScalerError as error:
            raise ScalerStateError(f"state: {error}") from None
        for name in _SETTINGS:
            if self.settings_are_final and getattr(taken, name) != getattr(self, name):
                raise ScalerStateError(
                    f"state: saved with {name}={state[name]!r}, but this scaler has {name}={getattr(self, name)!r}, and a "
                    "TrainStep holds it; load the state before, or use LossScaler.from_state_dict(state)"
                )
        scale = state["scale"]
        if not _is_number(scale) or not taken.minimum <= np.float32(scale) <= taken.maximum:
            raise ScalerStateError(f"state: scale={scale!r} is not within {taken.minimum:g} to {taken.maximum:g}")
        for name in _COUNTERS:
            if not _is_count(state[name], 0):
                raise ScalerStateError(f"state: {name}={state[name]!r} is no count; pass what state_dict() returned")
        for name in _SETTINGS:
            setattr(self, name, getattr(taken, name))
        self.loss_scale.set_data(Tensor(float(scale), mindspore.float32))
        for name in _COUNTERS:
            getattr(self, name).set_data(Tensor(int(state[name]), mindspore.int32))

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> LossScaler:
        """A scaler with the settings and the state of `state_dict`. Raises as `load_state_dict` and the constructor do."""
        missing = sorted(set(_SETTINGS) - set(state)) if isinstance(state, Mapping) else ["all"]
        if missing:
            raise ScalerStateError(f"state: {', '.join(missing)} missing; pass what state_dict() returned")
        scaler = cls(**{name: state[name] for name in _SETTINGS})
        scaler.load_state_dict(state)
        return scaler


def _parameter(name: str, value: float, dtype: Any) -> Parameter:
    return Parameter(Tensor(value, dtype), name=f"loss_scaler.{name}", requires_grad=False)


def _is_number(value: Any) -> bool:
    """Whether ``value`` is a finite number; integers may be beyond what floats hold, and are not numbers then."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        return False
    try:
        return bool(math.isfinite(value))
    except OverflowError:
        return False


def _in_float32(value: Any) -> Any:
    """The float32 nearest to a number in its range; anything else as it is, for `_check` to refuse."""
    return float(np.float32(value)) if _is_number(value) and abs(value) <= np.finfo(np.float32).max else value


def _is_count(value: Any, least: int) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and bool(least <= value < _MOST)


def _check(
    initial: float,
    minimum: float,
    maximum: float,
    growth: float,
    backoff: float,
    growth_interval: int,
    hysteresis: int,
) -> None:
    named = {"initial": initial, "minimum": minimum, "maximum": maximum, "growth": growth, "backoff": backoff}
    for name, value in named.items():
        if not _is_number(value):
            raise ScalerError(f"{name}={value!r} is no finite number")
    normal, largest = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)
    if not normal <= minimum <= maximum <= largest:
        raise ScalerError(
            f"minimum={minimum!r}, maximum={maximum!r}: need {normal:.4g} <= minimum <= maximum <= {largest:.4g} "
            f"(float32)"
        )
    if not minimum <= initial <= maximum:
        raise ScalerError(f"initial={initial!r} is not within minimum={minimum!r} and maximum={maximum!r}")
    if not 1 <= growth <= largest:
        raise ScalerError(f"growth={growth!r} would shrink the scale; use at least 1 (2 doubles it)")
    if not 0 < backoff <= 1:
        raise ScalerError(
            f"backoff={backoff!r} would not shrink the scale; use a number above 0 and at most 1 (0.5 halves it)"
        )
    for name, value in {"growth_interval": growth_interval, "hysteresis": hysteresis}.items():
        if not _is_count(value, 1):
            raise ScalerError(f"{name}={value!r} is no count of steps; use an integer of at least 1")
