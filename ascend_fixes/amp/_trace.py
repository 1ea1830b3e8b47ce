"""`trace_overflow`: where a computation first leaves the range of its type, forward or backward, and what helps.

The cell is run once more, operation by operation in PyNative mode, on copies whose methods report every call and every
arithmetic operation in their source (`sites`). Results are looked at as they come; gradients by hooks on them, in
the order in which the backward pass reaches them. Slow, and meant for the one batch that overflowed.
"""

from __future__ import annotations

import ast
import os
import types
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, ClassVar

import mindspore
import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops
from mindspore.ops import Primitive

from ascend_fixes import _mindspore
from ascend_fixes.amp import _sites as sites
from ascend_fixes.amp._autocast import Autocast, autocast
from ascend_fixes.amp._policy import ArgumentTypeError, Policy, operators_of
from ascend_fixes.amp._saturation import Saturating
from ascend_fixes.amp._scaler import FLOAT16_LIMIT

__all__ = ["OverflowReport", "trace_overflow"]

_FLOATS = (mindspore.float16, mindspore.bfloat16, mindspore.float32)
_SYMBOLS = {"MatMult": "MatMul", "Mult": "Mul", "Mod": "FloorMod"}
_SYMBOLS.update({name: name for name in ("Add", "Sub", "Div", "Pow", "FloorDiv")})
_METHODS = {
    "astype": "Cast",
    "to": "Cast",
    "mean": "ReduceMean",
    "sum": "ReduceSum",
    "dot": "MatMul",
    "square": "Square",
}


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

    def __bool__(self) -> bool:
        """Whether anything left its range."""
        return self.phase != "none"

    def __str__(self) -> str:
        if not self:
            return "no overflow: loss and gradients are finite"
        where = f"cell {self.cell!r}" if self.cell else "the traced cell itself"
        lines = [
            f"{self.phase}: {self.operator} of {where} gives {self.value} in {self.dtype}",
            f"  {self.source}: {self.text}",
        ]
        if self.caller != self.source:
            lines.append(f"  called at {self.caller}")
        if self.parameter:
            lines.append(f"  gradient of {self.parameter} overflows ({len(self.parameters)} in all)")
        return "\n".join([*lines, f"  {self.advice}"])


def trace_overflow(cell: nn.Cell, *inputs: Any, policy: Policy | None = None, scale: float = 1.0) -> OverflowReport:
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

    Raises:
        ArgumentTypeError: ``cell`` is no `mindspore.nn.Cell`.
        PolicyError, UnknownTargetError: as `autocast`.
    """
    if not isinstance(cell, nn.Cell):
        raise ArgumentTypeError(f"cell={cell!r} is no mindspore.nn.Cell; pass the network together with its loss")
    policy, net = _unwrapped(cell, policy)
    net.check_names_and_refresh_name()
    trace = _Trace()
    copy = sites.instrumented(net, _Edit, lambda inner, path: {"overflow_trace": _At(trace, path)})
    traced = _Scaled(copy if policy is None else autocast(copy, policy), scale)
    weights = ParameterTuple(net.trainable_params())
    with _eager():
        loss = traced(*inputs)
        forward = trace.overflow
        if forward is not None or not _finite(loss):
            return _report("forward", forward or trace.last, (), policy)
        bad = _bad_gradients(traced, weights, inputs, trace)
    if not bad and trace.overflow is None:
        return OverflowReport("none")
    return _report("backward", trace.overflow or trace.using(bad[-1]), tuple(p.name for p in bad), policy)


def _unwrapped(cell: nn.Cell, policy: Policy | None) -> tuple[Policy | None, nn.Cell]:
    if isinstance(cell, Autocast):
        policy, cell = (cell.policy if policy is None else policy), cell.wrapped
    if isinstance(cell, Saturating):
        cell = cell.wrapped
    return policy, cell


def _eager() -> Any:
    return _mindspore.mode_set(mindspore.PYNATIVE_MODE)


class _Scaled(nn.Cell):
    """The scaled sum of a loss, as `TrainStep` differentiates it."""

    def __init__(self, cell: nn.Cell, scale: float) -> None:
        super().__init__(auto_prefix=False)
        self.cell = cell
        self.factor = float(scale)

    def construct(self, *inputs: Any) -> Any:
        output = self.cell(*inputs)
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
    array = value.asnumpy() if value.dtype != mindspore.bfloat16 else value.astype(mindspore.float32).asnumpy()
    if value.dtype == mindspore.float16:
        bad = ~(np.abs(array) < FLOAT16_LIMIT)
    else:
        bad = ~np.isfinite(array)
        if masks and np.all(array[bad] == -np.inf):  # a mask, or the logarithm of zero
            return None
    return float(array[bad].flat[0]) if bad.any() else None


# --- what is recorded ---------------------------------------------------------------------------


@dataclass
class _Event:
    """One operation that was run."""

    callee: Any
    site: sites.Site
    path: str
    caller: str
    dtypes: tuple[Any, ...] = ()
    value: float = 0.0
    dtype: Any = None


@dataclass
class _Trace:
    """The run so far: the operations under way, who computed and who used each Tensor, and the first overflow."""

    stack: list[_Event] = field(default_factory=list)
    backward: bool = False
    overflow: _Event | None = None
    last: _Event | None = None
    users: dict[int, list[_Event]] = field(default_factory=dict)
    kept: list[Any] = field(default_factory=list)  # ids are unique among objects that live

    def start_backward(self) -> None:
        self.backward = True
        self.users, self.kept = {}, []

    def using(self, value: Any) -> _Event | None:
        """The operation that used a Tensor last."""
        used = self.users.get(id(value))
        return used[-1] if used else self.last

    def call(self, path: str, site: sites.Site, callee: Any, args: tuple, kwargs: dict, run: Callable) -> Any:
        event = _Event(callee, site, path, self._caller(site))
        self.stack.append(event)
        try:
            result = run(*args, **kwargs)
        finally:
            self.stack.pop()
        self.last = event
        for used in _tensors((args, kwargs, getattr(callee, "__self__", None))):
            self.users.setdefault(id(used), []).append(event)
            self.kept.append(used)
        results = list(_tensors(result))
        event.dtypes = tuple(value.dtype for value in results)
        for value in results:
            if not self.backward:
                self._look(event, value)
            elif value.dtype in _FLOATS and not isinstance(value, Parameter):
                _mindspore.on_gradient(value, self._hook(event, value))
        return result

    def _look(self, event: _Event, value: Tensor) -> None:
        if self.overflow is None and value.dtype in _FLOATS and not isinstance(value, Parameter):
            self._found(event, value)

    def _found(self, event: _Event, value: Tensor) -> bool:
        bad = _out_of_range(value, masks=not self.backward)  # no gradient is meant to be infinite
        if bad is None:
            return False
        event.value, event.dtype, self.overflow = bad, value.dtype, event
        return True

    def _hook(self, producer: _Event, value: Tensor) -> Callable[[Any], None]:
        key = id(value)
        self.kept.append(value)

        def look(grad: Any) -> None:
            if self.overflow is None and isinstance(grad, Tensor):
                self._found(self._guilty(key, producer), grad)

        return look

    def _guilty(self, key: int, producer: _Event) -> _Event:
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


def _encloses(outer: _Event, inner: _Event) -> bool:
    return outer.path != inner.path and inner.path.startswith(f"{outer.path}.") and outer.site is not inner.site


def _is_platform(file: str) -> bool:
    return file.startswith(str(Path(nn.__file__).parents[1]) + os.sep)


def _place(site: sites.Site) -> str:
    return f"{os.path.basename(site.file)}:{site.line}"


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from _tensors(part)
    elif isinstance(value, dict):
        yield from _tensors(tuple(value.values()))


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
    if isinstance(callee, nn.Cell) and not isinstance(callee, Autocast) and not hasattr(callee, "overflow_trace"):
        run = sites.instrumented(callee, _Edit, lambda inner, path: {"overflow_trace": at})  # made by the method itself
    return at.trace.call(at.path, self.operation_sites[method][number], callee, args, kwargs, run)


class _Edit(sites.Edit):
    """``a * f(b)`` becomes ``self.traced_call("construct", 1, lambda x, y: x * y, a, self.traced_call(..., f, b))``."""

    methods: ClassVar[dict] = {"traced_call": _traced}

    def around(self, node: ast.expr) -> ast.expr:
        number = ast.Constant(self.site(node))
        method = ast.Constant(self.name)
        if isinstance(node, ast.Call):
            call = self.call("traced_call", method, number, node.func, *node.args)
            call.keywords = node.keywords
            return call
        assert isinstance(node, ast.BinOp)
        names = [ast.arg("left_"), ast.arg("right_")]
        body = ast.BinOp(ast.Name("left_", ast.Load()), node.op, ast.Name("right_", ast.Load()))
        function = ast.Lambda(ast.arguments([], names, None, [], [], None, []), body)
        return self.call("traced_call", method, number, function, node.left, node.right)


# --- what is said about it ----------------------------------------------------------------------


def _report(phase: str, event: _Event | None, parameters: tuple[str, ...], policy: Policy | None) -> OverflowReport:
    if event is None:
        return OverflowReport(phase, parameters=parameters, parameter=parameters[-1] if parameters else "")
    operator = _operator(event)
    dtype = "float32" if event.dtype is None else str(event.dtype).lower()
    return OverflowReport(
        phase,
        operator,
        event.path,
        _place(event.site),
        event.caller,
        event.site.text,
        event.value,
        dtype,
        parameters[-1] if parameters else "",
        parameters,
        _advice(event, operator, dtype, phase, policy),
    )


def _operator(event: _Event) -> str:
    callee = event.callee
    if isinstance(callee, Primitive):
        return callee.name
    if isinstance(callee, nn.Cell):
        return type(callee).__name__
    if event.site.callee in _SYMBOLS:
        return _SYMBOLS[event.site.callee]
    name = getattr(callee, "__name__", event.site.callee)
    if isinstance(callee, types.FunctionType):
        found = sorted(operators_of(callee))
        return found[0] if len(found) == 1 else name
    if isinstance(getattr(callee, "__self__", None), Tensor):
        known = {operator.lower(): operator for operator in _mindspore.operator_names()}
        return _METHODS.get(name, known.get(name.lower(), name))
    return name


def _advice(event: _Event, operator: str, dtype: str, phase: str, policy: Policy | None) -> str:
    known = operator in _mindspore.operator_names()
    inside = operators_of(event.callee) if isinstance(event.callee, types.FunctionType) else frozenset()
    if dtype == "float32" and (known or event.site.callee in _SYMBOLS) and not (policy and inside & policy.low):
        if phase == "backward":
            return "lower the loss scale: the gradient leaves float32's range"
        return "no precision helps: the value leaves float32's range; bound it, or look at the inputs and the weights"
    if event.path:
        return f'add to the policy: fp32=["{event.path}"]'
    if known:
        return f'add to the policy: fp32=["{operator}"]'
    return f"compute {event.site.text} in float32: cast its inputs with .astype(mindspore.float32)"
