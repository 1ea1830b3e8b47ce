"""`trace_overflow`: where a computation first leaves the range of its type, forward or backward, and what helps.

The cell is run once more, operation by operation in PyNative mode, on copies whose methods report every call and every
arithmetic operation in their source (`sites`). Results are looked at as they come; gradients by hooks on them, in
the order in which the backward pass reaches them. Slow, and meant for the one batch that overflowed.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, ClassVar

import mindspore
import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops

from ascend_fixes import _mindspore
from ascend_fixes.amp import _sites as sites
from ascend_fixes.amp._autocast import Autocast, autocast
from ascend_fixes.amp._causes import Event, advice, cause, is_logarithm, operator_name
from ascend_fixes.amp._overrides import conflicts, overrides
from ascend_fixes.amp._policy import ArgumentTypeError, Policy
from ascend_fixes.amp._saturation import Saturating
from ascend_fixes.amp._scaler import FLOAT16_LIMIT
from ascend_fixes.tensors import array_of, tensors_in

__all__ = ["OverflowReport", "trace_overflow"]

_FLOATS = (mindspore.float16, mindspore.bfloat16, mindspore.float32)


@dataclass(frozen=True)
class OverflowReport:
    """Where a computation left the range of its type.

    Attributes:
        phase: "forward", "backward", or "none" where loss and gradients are finite.
        operator: the operator, "MatMul"; the text of the call where it is none of MindSpore's.
        cell: the path of the cell whose code calls it, "encoder.3.attention"; "" for the traced cell itself.
        source: file and line of that code, "model.py:31".
        caller: file and line of the nearest code outside MindSpore: ``source``, unless that is inside a MindSpore cell.
        text: the operation's source.
        value: the value that left the range: inf, -inf, nan, or the type's limit on a saturating device.
        dtype: the type of that value, "float16".
        parameter: the parameter whose gradient overflowed, by the same rule as `TrainStep.overflowing`: the last in the
            order of parameters, nearest to the loss. "" where no gradient did.
        parameters: all parameters whose gradient overflowed.
        advice: an entry for the policy, ``'fp32=["encoder.3.attention"]'``, or what else to do.
        cause: "overflow"; or what no precision cures: "0/0", "division by zero", "logarithm of zero", "undefined" (a
            function outside of its domain), "input" (an operand that was not finite before). "" where all is finite.
        notes: where ``.to_float`` of a cell and the policy contradict each other.
    """

    phase: str
    operator: str = ""
    cell: str = ""
    source: str = ""
    caller: str = ""
    text: str = ""
    value: float = 0.0
    dtype: str = ""
    parameter: str = ""
    parameters: tuple[str, ...] = ()
    advice: str = ""
    cause: str = ""
    notes: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Whether anything left its range."""
        return self.phase != "none"

    def __str__(self) -> str:
        notes = [f"note: {note}" for note in self.notes]
        if not self:
            return "\n".join(["no overflow: loss and gradients are finite", *notes])
        where = f"cell {self.cell!r}" if self.cell else "the traced cell itself"
        lines = [
            f"{self.phase}: {self.operator} of {where} gives {self.value} in {self.dtype}: {self.cause}",
            f"  {self.source}: {self.text}",
        ]
        if self.caller != self.source:
            lines.append(f"  called at {self.caller}")
        if self.parameter:
            lines.append(f"  gradient of {self.parameter} overflows ({len(self.parameters)} in all)")
        return "\n".join([*lines, f"  {self.advice}", *notes])


def trace_overflow(
    cell: nn.Cell, *inputs: Any, policy: Policy | None = None, scale: float = 1.0, **named: Any
) -> OverflowReport:
    """Run ``cell`` and its gradient on one batch and name the first operation whose result or gradient is not finite.

    Results of float16 at its limit, 65504, count as well: that is how a saturating device shows an overflow. A
    float32 result (not a gradient) that holds no other than negative infinities is taken for a mask. In the backward
    pass the operation named is the one that computed the gradient, or, where its result is only cast down, the one
    in float16 that receives it: what to take out of float16.

    Args:
        cell: the network with its loss, as `TrainStep` takes it (or that step's ``cell``). Not changed.
        inputs: the batch.
        policy: the precision to run in; None runs the cell as it is, with the policy of `autocast` if it has one.
        scale: the loss scale; a run's own is ``step.scaler.value``.
        named: the batch's arguments that are passed by name.

    Raises:
        ArgumentTypeError: ``cell`` is no `mindspore.nn.Cell`.
        PolicyError, UnknownTargetError: as `autocast`.
    """
    if not isinstance(cell, nn.Cell):
        raise ArgumentTypeError(f"cell={cell!r} is no mindspore.nn.Cell; pass the network together with its loss")
    policy, net = _unwrapped(cell, policy)
    net.check_names_and_refresh_name()
    notes = () if policy is None else tuple(conflicts(net, policy))
    told = _Telling(policy, overrides(net), notes)
    with _eager():
        return _mindspore.run_eagerly(lambda: _run(net, policy, scale, inputs, named, told))


def _run(
    net: nn.Cell, policy: Policy | None, scale: float, inputs: tuple, named: dict, told: _Telling
) -> OverflowReport:
    trace = _Trace()
    copy = sites.instrumented(net, _Edit, lambda inner, path: {"overflow_trace": _At(trace, path)})
    traced = _Scaled(copy if policy is None else autocast(copy, policy), scale, named)
    with contextlib.closing(trace):
        return _first(traced, trace, net, inputs, told)


def _first(traced: nn.Cell, trace: _Trace, net: nn.Cell, inputs: tuple, told: _Telling) -> OverflowReport:
    loss = traced(*inputs)
    forward = trace.overflow
    if forward is not None or not _finite(loss):
        return told.report("forward", forward or trace.infinite(), ())
    weights = ParameterTuple(net.trainable_params())
    bad = _bad_gradients(traced, weights, inputs, trace)
    if not bad and trace.overflow is None:
        return OverflowReport("none", notes=told.notes)
    return told.report("backward", trace.overflow or trace.using(bad[-1]), tuple(p.name for p in bad))


def _unwrapped(cell: nn.Cell, policy: Policy | None) -> tuple[Policy | None, nn.Cell]:
    if isinstance(cell, Autocast):
        policy, cell = (cell.policy if policy is None else policy), cell.wrapped
    if isinstance(cell, Saturating):
        cell = cell.wrapped
    return policy, cell


def _eager() -> Any:
    return _mindspore.mode_set(mindspore.PYNATIVE_MODE)


class _Scaled(nn.Cell):
    """The scaled sum of a loss, as `TrainStep` differentiates it.

    It keeps what the cell is given by name: before 2.9 MindSpore took an argument called ``weights`` for its own.
    """

    def __init__(self, cell: nn.Cell, scale: float, named: dict[str, Any]) -> None:
        super().__init__(auto_prefix=False)
        self.cell, self.named = cell, named
        self.factor = float(scale)

    def construct(self, *inputs: Any) -> Any:
        output = self.cell(*inputs, **self.named)
        loss = output[0] if isinstance(output, (tuple, list)) else output
        return (loss.astype(mindspore.float32) * self.factor).sum()


def _bad_gradients(traced: nn.Cell, weights: ParameterTuple, inputs: tuple, trace: _Trace) -> list[Parameter]:
    trace.start_backward()
    grads = ops.GradOperation(get_by_list=True)(traced, weights)(*inputs)
    return [weight for weight, grad in zip(weights, grads) if not _finite(getattr(grad, "values", grad))]


def _finite(value: Any) -> bool:
    return bool(np.isfinite(value.asnumpy().astype(np.float64)).all()) if isinstance(value, Tensor) else True


def _out_of_range(value: Tensor, masks: bool) -> float | None:
    """The first value that left the range of its type; None where none did, or where ``masks`` are let through."""
    array = array_of(value)
    if value.dtype == mindspore.float16:
        bad = ~(np.abs(array) < FLOAT16_LIMIT)
    else:
        bad = ~np.isfinite(array)
        if masks and np.all(array[bad] == -np.inf):  # a mask, or the logarithm of zero
            return None
    return float(array[bad].flat[0]) if bad.any() else None


# --- what is recorded ---------------------------------------------------------------------------


@dataclass
class _Trace:
    """The run so far: the operations under way, who computed and who used each Tensor, and the first overflow."""

    stack: list[Event] = field(default_factory=list)
    backward: bool = False
    overflow: Event | None = None
    last: Event | None = None
    users: dict[int, list[Event]] = field(default_factory=dict)
    kept: list[Any] = field(default_factory=list)  # ids are unique among objects that live
    origins: dict[int, Event] = field(default_factory=dict)  # of values at -inf: where that came from
    hooks: list[Callable[[], None]] = field(default_factory=list)  # on gradients: what takes them off

    def close(self) -> None:
        """Take the hooks off; some lie on Parameters and inputs."""
        for remove in self.hooks:
            remove()

    def start_backward(self) -> None:
        self.backward = True
        self.users, self.kept = {}, []

    def using(self, value: Any) -> Event | None:
        """The operation that used a Tensor last."""
        used = self.users.get(id(value))
        return used[-1] if used else self.last

    def infinite(self) -> Event | None:
        """What made the infinity that was let through as a mask: a logarithm, else the latest operation of them."""
        made = list(self.origins.values())
        return next((event for event in made if is_logarithm(event)), made[-1] if made else self.last)

    def call(self, path: str, site: sites.Site, callee: Any, args: tuple, kwargs: dict, run: Callable) -> Any:
        event = Event(callee, site, path, self._caller(site))
        self.stack.append(event)
        try:
            result = run(*args, **kwargs)
        finally:
            self.stack.pop()
        self.last = event
        for used in tensors_in((args, kwargs, getattr(callee, "__self__", None))):
            self.users.setdefault(id(used), []).append(event)
            self.kept.append(used)
        results = list(tensors_in(result))
        event.dtypes = tuple(value.dtype for value in results)
        owner = getattr(callee, "__self__", None)
        event.operands = (owner, *args) if isinstance(owner, Tensor) else args
        for value in results:
            if not self.backward:
                self._look(event, value)
            elif value.dtype in _FLOATS and not isinstance(value, Parameter):
                self.hooks.append(_mindspore.on_gradient(value, self._hook(event, value)))
        return result

    def _look(self, event: Event, value: Tensor) -> None:
        if self.overflow is None and value.dtype in _FLOATS and not isinstance(value, Parameter):
            self._found(event, value)

    def _found(self, event: Event, value: Tensor) -> bool:
        bad = _out_of_range(value, masks=not self.backward)  # no gradient is meant to be infinite
        if bad is None:
            if not self.backward:
                self._note_infinity(event, value)
            return False
        origin = self._origin(event)
        if origin is not None and is_logarithm(origin):
            event, bad = origin, -np.inf
        event.value, event.dtype, self.overflow = bad, value.dtype, event
        return True

    def _origin(self, event: Event) -> Event | None:
        return next((self.origins[id(one)] for one in tensors_in(event.operands) if id(one) in self.origins), None)

    def _note_infinity(self, event: Event, value: Tensor) -> None:
        """Remember where a value at -inf, which may be a mask, came from."""
        if value.dtype == mindspore.float32 and np.isneginf(value.asnumpy()).any():
            event.value, event.dtype = -np.inf, value.dtype
            self.origins[id(value)] = self._origin(event) or event
            self.kept.append(value)

    def _hook(self, producer: Event, value: Tensor) -> Callable[[Any], None]:
        key = id(value)
        self.kept.append(value)

        def look(grad: Any) -> None:
            if self.overflow is None and isinstance(grad, Tensor):
                self._found(self._guilty(key, producer), grad)

        return look

    def _guilty(self, key: int, producer: Event) -> Event:
        """Whose backward made the gradient of a Tensor: the one that used it last, unless that only casts it down."""
        users = [user for user in self.users.get(key, []) if user is not producer and not _encloses(user, producer)]
        low = (mindspore.float16, mindspore.bfloat16)
        if any(dtype in low for dtype in producer.dtypes):
            users = [user for user in users if any(dtype in low for dtype in user.dtypes)]
        return users[-1] if users else producer

    def _caller(self, site: sites.Site) -> str:
        for candidate in (site, *(event.site for event in reversed(self.stack))):
            if not _is_platform(candidate.file):
                return _place(candidate)
        return _place(site)


def _encloses(outer: Event, inner: Event) -> bool:
    return outer.path != inner.path and inner.path.startswith(f"{outer.path}.") and outer.site is not inner.site


def _is_platform(file: str) -> bool:
    return file.startswith(str(Path(nn.__file__).parents[1]) + os.sep)


def _place(site: sites.Site) -> str:
    return f"{os.path.basename(site.file)}:{site.line}"


@dataclass(frozen=True)
class _At:
    """The trace, as one cell's copy sees it."""

    trace: _Trace
    path: str

    def __deepcopy__(self, memo: dict) -> _At:
        return self


def _traced(self: Any, method: str, number: int, callee: Any, *args: Any, **kwargs: Any) -> Any:
    """What the rewritten methods call operations through."""
    at, run = self.overflow_trace, callee
    done = hasattr(callee, "overflow_trace") or isinstance(
        callee, (Autocast, *sites.CONTAINERS)
    )  # what these hold is rewritten
    if isinstance(callee, nn.Cell) and not done:
        run = sites.instrumented(callee, _Edit, lambda inner, path: {"overflow_trace": at})  # made by the method itself
    return at.trace.call(at.path, self.operation_sites[method][number], callee, args, kwargs, run)


class _Edit(sites.CallEdit):
    """Sends every operation through `_traced`."""

    methods: ClassVar[dict] = {"traced_call": _traced}


# --- what is said about it ----------------------------------------------------------------------


@dataclass(frozen=True)
class _Telling:
    """What the reports need to know besides the operation."""

    policy: Policy | None
    overrides: dict[str, str]
    notes: tuple[str, ...]

    def report(self, phase: str, event: Event | None, parameters: tuple[str, ...]) -> OverflowReport:
        last = parameters[-1] if parameters else ""
        if event is None:
            return OverflowReport(phase, parameters=parameters, parameter=last, notes=self.notes)
        why = cause(event, phase == "backward")
        return OverflowReport(
            phase,
            operator_name(event),
            event.path,
            _place(event.site),
            event.caller,
            event.site.text,
            event.value,
            "float32" if event.dtype is None else str(event.dtype).lower(),
            last,
            parameters,
            advice(event, why, phase == "backward", self.policy, self.overrides),
            why,
            self.notes,
        )
