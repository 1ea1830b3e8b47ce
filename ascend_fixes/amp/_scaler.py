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
        _check(initial, minimum, maximum, growth, backoff, growth_interval, hysteresis)
        self.initial = float(initial)
        self.minimum = float(minimum)
        self.maximum = float(maximum)
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
        scale = self.loss_scale.value()
        good = self.good_steps + 1
        bad = ops.select(finite, ops.zeros_like(self.bad_steps), self.bad_steps + 1)
        grows = ops.logical_and(finite, good >= self.growth_interval)
        backs_off = bad >= self.hysteresis
        grown = ops.clamp(scale * self.growth, self.minimum, self.maximum)
        backed_off = ops.clamp(scale * self.backoff, self.minimum, self.maximum)
        new = ops.select(grows, grown, ops.select(backs_off, backed_off, scale))
        refused = ops.logical_and(backs_off, backed_off >= scale)
        stuck = ops.select(finite, ops.zeros_like(self.stuck_steps), self.stuck_steps + refused.astype(mindspore.int32))
        zero = ops.zeros_like(good)
        ops.assign(self.good_steps, ops.select(ops.logical_or(grows, ops.logical_not(finite)), zero, good))
        ops.assign(self.bad_steps, ops.select(backs_off, zero, bad))
        ops.assign(self.stuck_steps, stuck)
        ops.assign(self.loss_scale, new)
        return new

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
        missing = sorted({"scale", *_COUNTERS} - set(state))
        unknown = sorted(set(state) - {"scale", *_COUNTERS, *_SETTINGS})
        if missing or unknown:
            raise ScalerStateError(
                f"state: {', '.join(missing or unknown)} {'missing' if missing else 'unknown'}; pass what "
                f"state_dict() returned"
            )
        settings = {name: state.get(name, getattr(self, name)) for name in _SETTINGS}
        for name, value in settings.items():
            if self.settings_are_final and value != getattr(self, name):
                raise ScalerStateError(
                    f"state: saved with {name}={value!r}, but this scaler has {name}={getattr(self, name)!r}, and a "
                    "TrainStep holds it; load the state before, or use LossScaler.from_state_dict(state)"
                )
        try:
            _check(**settings)
        except ScalerError as error:
            raise ScalerStateError(f"state: {error}") from None
        scale, minimum, maximum = state["scale"], settings["minimum"], settings["maximum"]
        if not _is_number(scale) or not minimum <= scale <= maximum:
            raise ScalerStateError(f"state: scale={scale!r} is not within {minimum:g} to {maximum:g}")
        for name in _COUNTERS:
            if isinstance(state[name], bool) or not isinstance(state[name], (int, np.integer)) or state[name] < 0:
                raise ScalerStateError(f"state: {name}={state[name]!r} is no count; pass what state_dict() returned")
        for name, value in settings.items():
            setattr(self, name, type(getattr(self, name))(value))
        self.loss_scale.set_data(Tensor(scale, mindspore.float32))
        for name in _COUNTERS:
            getattr(self, name).set_data(Tensor(int(state[name]), mindspore.int32))

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> LossScaler:
        """A scaler with the settings and the state of `state_dict`. Raises as `load_state_dict` and the constructor do."""
        missing = sorted(set(_SETTINGS) - set(state))
        if missing:
            raise ScalerStateError(f"state: {', '.join(missing)} missing; pass what state_dict() returned")
        scaler = cls(**{name: state[name] for name in _SETTINGS})
        scaler.load_state_dict(state)
        return scaler


def _parameter(name: str, value: float, dtype: Any) -> Parameter:
    return Parameter(Tensor(value, dtype), name=f"loss_scaler.{name}", requires_grad=False)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool) and math.isfinite(value)


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
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not 1 <= value < 2**31:
            raise ScalerError(f"{name}={value!r} is no count of steps; use an integer of at least 1")
