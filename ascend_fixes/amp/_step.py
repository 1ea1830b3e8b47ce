"""`TrainStep`: forward, scaled backward, finite check, unscale, clip, update and new scale, in one graph.

What an overflowed step leaves as it was: every weight, every optimizer slot, every schedule counter. The optimizer
is called in the branch of the graph that only a finite step takes, so this holds for any optimizer. No value
travels to the host during a step.

The finite check is exact and costs one reduction per gradient: sums of rows, or half the sum of squares where the
norm is wanted, are finite only where all gradients are. Only where they are not are the gradients looked at one by one,
because sums and squares overflow earlier than their terms. Gradients are unscaled in the same branch that applies them, by a
multiplication in float32.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import mindspore
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops
from mindspore.communication import get_group_size

from ascend_fixes.amp._autocast import autocast
from ascend_fixes.amp._policy import Policy
from ascend_fixes.amp._saturation import limit_of, saturates
from ascend_fixes.amp._scaler import LossScaler, StuckScaleError

__all__ = ["StepResult", "TrainStep"]

CHECK_EVERY = 20  # calls between two looks, from the host, at whether the run is stuck
LARGE = 4096  # elements; below, one kernel more costs more than it saves
STUCK_AFTER = 10  # overflows in a row, at a scale that cannot back off, after which no scale will help


class StepResult(NamedTuple):
    """What a training step did. Fields are Tensors on the device; reading one waits for the step.

    Attributes:
        loss: the loss as the cell returned it, not scaled; the first element where it returned several.
        finite: bool; whether loss and gradients were finite. With accumulation: all of them since the last update.
        scale: float32; the scale the gradients were computed with.
        grad_norm: float32; the global norm of the gradients before clipping, infinite or NaN where they were not
            finite; with accumulation, of their mean so far. None without ``clip_norm``: measuring it costs a pass over
            all gradients. ``clip_norm=math.inf`` measures and clips nothing.
        new_scale: float32; the scale of the next step: larger after growth, smaller after backing off.
        updated: bool; whether the optimizer ran. False for a skipped step, and between updates with accumulation.
    """

    loss: Any
    finite: Any
    scale: Any
    grad_norm: Any
    new_scale: Any
    updated: Any

    @property
    def event(self) -> str:
        """``"updated"``, ``"accumulated"`` or ``"skipped"``, and what the scale did: ``"skipped, scale backed off to 512"``."""
        what = "updated" if bool(self.updated) else "accumulated" if bool(self.finite) else "skipped"
        before, after = float(self.scale), float(self.new_scale)
        if before == after:
            return what
        return f"{what}, scale {'grew' if after > before else 'backed off'} to {after:g}"


class TrainStep(nn.Cell):
    """One training step in mixed precision: ``step(*inputs) -> StepResult``.

    A cell like `mindspore.nn.TrainOneStepCell`: for ``Model(step)``, in `shapes.bucketed`, in data parallel, in graph
    and
    in PyNative mode. Inside another graph it returns the fields of `StepResult` as a plain tuple. A checkpoint of it
    holds
    weights, optimizer, scale and counters: saved and loaded at any step, a run goes on as if it had not stopped.

    Args:
        cell: the network with its loss. Returns the loss (of any shape; its sum is differentiated), or a tuple that
        begins
            with it.
        optimizer: a MindSpore optimizer over parameters of ``cell``, or several over different ones.
        scaler: the loss scale; default ``LossScaler()``.
        policy: the precision of ``cell``, see `autocast`; None leaves the cell as it is.
        clip_norm: the largest global norm of the gradients, above 0; None neither clips nor measures the norm.
        accumulate: calls per update. Gradients of as many calls are averaged in float32; if one of them
            overflows, none is applied.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: ``clip_norm`` or ``accumulate`` out of range, a parameter given to two optimizers, or an embedding with
            sparse gradients.
        StuckScaleError: by a call: the scale cannot back off any more and gradients still overflow.
    """

    def __init__(
        self,
        cell: nn.Cell,
        optimizer: nn.Optimizer | Sequence[nn.Optimizer],
        scaler: LossScaler | None = None,
        policy: Policy | None = None,
        clip_norm: float | None = None,
        accumulate: int = 1,
    ) -> None:
        scaler = LossScaler() if scaler is None else scaler
        optimizers = tuple(optimizer) if isinstance(optimizer, (list, tuple)) else (optimizer,)
        _check(cell, optimizers, scaler, clip_norm, accumulate)
        super().__init__(auto_prefix=False)
        self.cell = cell if policy is None else autocast(cell, policy)
        self.cell.set_grad()
        self.optimizers = nn.CellList(list(optimizers), auto_prefix=False)
        self.weights = ParameterTuple([weight for one in optimizers for weight in one.parameters])
        self.parts = _parts(optimizers)
        self.scaler = scaler
        self.scaler_state = ParameterTuple(scaler.parameters())
        self.clip_norm = clip_norm
        self.accumulate = accumulate
        self.saturating = saturates(self.cell)
        self.limit = limit_of(policy)
        self.degree = _ranks()
        self.reducer = nn.DistributedGradReducer(self.weights, *_reduction()) if self.degree > 1 else None
        self.all_reduce = ops.AllReduce() if self.degree > 1 else None
        self.half_squares, self.row_sums = ops.L2Loss(), ops.ReduceSum()
        self.unscales = clip_norm is not None or accumulate > 1 or not scaler.is_off
        self.gradients = ops.value_and_grad(self.scaled_loss, None, self.weights, has_aux=True)
        # The weight nearest to the loss whose gradient was not finite (overflows spread towards the input), len(weights)
        # for the loss itself, -1 for one at the limit of some rank or call only, -2 for none so far.
        self.step_culprit = _counter("step_culprit", -2)
        self.loss_rank = len(self.weights) + 2
        scaler.settings_are_final = True
        self.sums = None
        if accumulate > 1:
            self.sums = self.weights.clone(prefix="step_sum", init="zeros")
            self.step_calls = _counter("step_calls", 0)
            self.step_bad_calls = _counter("step_bad_calls", [0, 0])
        self.slots = tuple(ParameterTuple(list(one.get_parameters())) for one in optimizers)
        object.__setattr__(self, "_until_check", CHECK_EVERY)
        # Now, not at the first compilation: a checkpoint of a step that has run must fit one that has not.
        self.check_names_and_refresh_name()

    def __call__(self, *inputs: Any) -> StepResult:
        result = StepResult(*super().__call__(*inputs))
        object.__setattr__(self, "_until_check", self._until_check - 1)
        if self._until_check == 0:
            object.__setattr__(self, "_until_check", CHECK_EVERY)
            self.check()
        return result

    def check(self) -> None:
        """Look whether the run is stuck. Every 20th call does; it waits for the device.

        Raises:
            StuckScaleError: ten or more overflows in a row at a scale that cannot back off.
        """
        stuck = int(self.scaler.stuck_steps.asnumpy())
        if stuck >= STUCK_AFTER:
            raise StuckScaleError(
                f"stuck at scale {_power(self.scaler.value)}: {self.overflowing()} overflows, {stuck} times in a "
                f"row, and "
                f"the scale cannot go lower; compute it in float32 (Policy(fp32=[...])), lower the learning rate or "
                f"the "
                "scaler's minimum"
            )

    def overflowing(self) -> str:
        """What was not finite in the last overflowed step: ``"loss"``, or ``"gradient of encoder.3.query.weight"``.

        Of several gradients the one nearest to the loss, by the optimizer's order of parameters: an overflow spreads
        from
        there towards the input. ``"nothing"`` before the first overflow.
        """
        index = int(self.step_culprit.asnumpy())
        if index < 0:
            return "nothing" if index < -1 else "a gradient at the type's limit"
        return "loss" if index == len(self.weights) else f"gradient of {self.weights[index].name}"

    # --- the graph ------------------------------------------------------------------------------

    def scaled_loss(self, *inputs: Any) -> Any:
        """The number that is differentiated, and the loss as it is."""
        output = self.cell(*inputs)
        loss = output[0] if isinstance(output, (tuple, list)) else output
        return self.scaler.scale(loss).sum(), loss

    def construct(self, *inputs: Any) -> Any:
        (_, loss), grads = self.gradients(*inputs)
        loss = self.anchored(loss)
        scale = self.scaler.loss_scale.value()
        bad = self.bad_parts(loss, grads)
        if self.sums is None:
            return self.update(loss, grads, scale, bad)
        return self.add(loss, grads, scale, bad)

    def anchored(self, loss: Any) -> Any:
        """``loss``, after a look at every Parameter that only a branch writes.

        Without it MindSpore keeps two copies of such a Parameter: a checkpoint would hold its first value, and
        loading one would
        not reach the graph (seen on 2.7.0 and 2.10.0, CPU).
        """
        for slots in self.slots:
            loss = ops.depend(loss, slots)
        loss = ops.depend(loss, ops.stop_gradient(self.step_culprit))
        if self.sums is not None:
            loss = ops.depend(loss, self.sums)
            loss = ops.depend(loss, self.scaler_state)
            loss = ops.depend(loss, ops.stop_gradient(self.step_calls))
            loss = ops.depend(loss, ops.stop_gradient(self.step_bad_calls))
        return loss

    def bad_parts(self, loss: Any, grads: Any) -> Any:
        """float32[2], above 0 for what the gradients' finiteness does not show: a loss, a gradient at the limit."""
        bad_loss = ops.logical_not(ops.isfinite(loss).all()).astype(mindspore.float32)
        at_limit = ops.zeros_like(bad_loss)
        if self.saturating:
            for grad in grads:
                at_limit = at_limit + (ops.abs(grad).max() >= self.limit).astype(mindspore.float32)
        return ops.stack((bad_loss, at_limit))

    def update(self, loss: Any, grads: Any, scale: Any, bad: Any) -> Any:
        """The end of a step: ``grads`` are scaled, and sums where the step accumulates."""
        if self.reducer is not None:
            grads = self.reducer(grads)
            bad = self.all_reduce(bad)  # a sum: the CPU backend has no AllReduce of a maximum
        finite, norm = self.examine(grads, bad)
        factor = 1.0 / (scale * self.accumulate)
        if self.clip_norm is not None:
            norm = norm * factor
        if finite:
            if self.clip_norm is not None:
                factor = factor * ops.minimum(self.clip_norm / norm, ops.ones_like(norm))
            loss = ops.depend(loss, self.apply(grads, factor))
        new_scale = self.scaler.update(finite)
        return loss, finite, scale, norm, new_scale, finite

    def add(self, loss: Any, grads: Any, scale: Any, bad: Any) -> Any:
        """A step of an accumulation: add up, and update when enough are together."""
        calls = self.step_calls + 1
        bad = bad + self.step_bad_calls
        sums = ()
        for total, grad in zip(self.sums, grads):
            sums = sums + (total + grad.astype(mindspore.float32),)
        if calls >= self.accumulate:
            result = self.update(loss, sums, scale, bad)
            for total in self.sums:
                ops.assign(total, ops.zeros_like(total))
            ops.assign(self.step_calls, ops.zeros_like(self.step_calls))
            ops.assign(self.step_bad_calls, ops.zeros_like(self.step_bad_calls))
        else:
            finite, norm = self.examine(sums, bad)
            if self.clip_norm is not None:
                norm = norm / (scale * calls)
            for total, new in zip(self.sums, sums):
                ops.assign(total, new)
            ops.assign(self.step_calls, calls)
            ops.assign(self.step_bad_calls, bad.astype(mindspore.int32))
            result = (loss, finite, scale, norm, scale, ops.zeros_like(finite))
        return result

    def examine(self, grads: Any, bad: Any) -> Any:
        """Whether all is finite, and the global norm of ``grads`` (None without ``clip_norm``)."""
        total = Tensor(0.0, mindspore.float32)
        for grad in grads:
            total = total + self.probe(grad.astype(mindspore.float32))
        finite = ops.logical_and(ops.isfinite(total), bad.max() == 0)
        norm = None
        if self.clip_norm is not None:
            norm = ops.sqrt(total * 2)
            if not finite:
                finite, norm = self.examine_each(grads, bad), self.norm_without_squares(grads)
        elif not finite:
            finite = self.examine_each(grads, bad)
        return finite, norm

    def probe(self, grad: Any) -> Any:
        """A number that is finite only where all of ``grad`` is: half the sum of squares, or that of the sums of rows.

        Sums of rows are several times cheaper on CPU, where the kernel L2Loss is not vectorized (measured, 2.10.0).
        """
        if self.clip_norm is None and grad.ndim > 1 and grad.size >= LARGE:
            grad = self.row_sums(grad, -1)
        return self.half_squares(grad)

    def examine_each(self, grads: Any, bad: Any) -> Any:
        """As `examine`, one by one, exact up to the largest float32. Notes which gradient was not finite."""
        rank = ops.maximum((bad[1] > 0).astype(mindspore.int32), (bad[0] > 0).astype(mindspore.int32) * self.loss_rank)
        for index in range(len(grads)):
            magnitude = ops.abs(grads[index].astype(mindspore.float32))
            is_bad = ops.logical_not(ops.isfinite(magnitude).all())
            if self.saturating:
                is_bad = ops.logical_or(is_bad, magnitude.max() >= self.limit)
            rank = ops.maximum(rank, is_bad.astype(mindspore.int32) * (index + 2))
        culprit = rank - 2
        finite = culprit < -1
        ops.assign(self.step_culprit, ops.select(finite, self.step_culprit, culprit))
        return finite

    def norm_without_squares(self, grads: Any) -> Any:
        """The global norm where squares leave float32's range."""
        largest = Tensor(0.0, mindspore.float32)
        for grad in grads:
            largest = ops.maximum(largest, ops.abs(grad.astype(mindspore.float32)).max())
        total = Tensor(0.0, mindspore.float32)
        for grad in grads:
            total = total + self.half_squares(grad.astype(mindspore.float32) / largest)
        return ops.sqrt(total * 2) * largest

    def apply(self, grads: Any, factor: Any) -> Any:
        """Call the optimizers with the gradients multiplied by ``factor``, in the weights' types."""
        unscaled = grads
        if self.unscales:
            unscaled = ()
            for grad, weight in zip(grads, self.weights):
                unscaled = unscaled + ((grad.astype(mindspore.float32) * factor).astype(weight.dtype),)
        done = True
        for optimizer, (start, stop) in zip(self.optimizers, self.parts):
            done = ops.depend(done, optimizer(unscaled[start:stop]))
        return done


def _counter(name: str, value: Any) -> Parameter:
    return Parameter(Tensor(value, mindspore.int32), name=name, requires_grad=False)


def _ranks() -> int:
    modes = (mindspore.ParallelMode.DATA_PARALLEL, mindspore.ParallelMode.HYBRID_PARALLEL)
    return get_group_size() if mindspore.get_auto_parallel_context("parallel_mode") in modes else 1


def _reduction() -> tuple[bool, int]:
    return mindspore.get_auto_parallel_context("gradients_mean"), get_group_size()


def _parts(optimizers: tuple[nn.Cell, ...]) -> tuple[tuple[int, int], ...]:
    parts, start = [], 0
    for optimizer in optimizers:
        parts.append((start, start + len(optimizer.parameters)))
        start = parts[-1][1]
    return tuple(parts)


def _power(scale: float) -> str:
    exponent = math.log2(scale)
    return f"2^{int(exponent)}" if exponent == int(exponent) else f"{scale:g}"


def _check(cell: Any, optimizers: tuple, scaler: Any, clip_norm: Any, accumulate: Any) -> None:
    if not isinstance(cell, nn.Cell):
        raise TypeError(f"cell={cell!r} is no mindspore.nn.Cell; pass the network together with its loss")
    if not optimizers or not all(isinstance(one, nn.Cell) and hasattr(one, "parameters") for one in optimizers):
        raise TypeError(f"optimizer={optimizers!r}: pass a MindSpore optimizer, or a list of them")
    if not isinstance(scaler, LossScaler):
        raise TypeError(
            f"scaler={scaler!r} is no LossScaler; use LossScaler(), LossScaler.static(1024) or LossScaler.off()"
        )
    for path, inner in cell.cells_and_names():
        if isinstance(inner, nn.EmbeddingLookup) and inner.sparse:
            raise ValueError(
                f"cell: {path or type(inner).__name__} has sparse=True; make it with sparse=False: MindSpore's compiler "
                "crashes on sparse gradients inside a branch (segmentation fault, 2.10.0)"
            )
    seen: set = set()
    for weight in (weight for one in optimizers for weight in one.parameters):
        if id(weight) in seen:
            raise ValueError(f"optimizer: two of them update {weight.name}; give each parameter to one")
        seen.add(id(weight))
    if clip_norm is not None and not (isinstance(clip_norm, (int, float)) and clip_norm > 0):
        raise ValueError(f"clip_norm={clip_norm!r} is no norm; use a number above 0, or None")
    if isinstance(accumulate, bool) or not isinstance(accumulate, int) or accumulate < 1:
        raise ValueError(f"accumulate={accumulate!r} is no number of calls; use an integer of at least 1")
