"""`TrainStep`: forward, scaled backward, finite check, unscale, clip, update and new scale, in one graph.

What an overflowed step leaves as it was: every weight, every optimizer slot, every schedule counter, and what the
forward pass itself writes. The optimizer is called in the branch of the graph that only a finite step takes, so this
holds for any optimizer; Parameters that the forward pass writes are kept before it and put back in the other branch.
No value travels to the host during a step.

Nothing else is in the branches, and little beside them, because a training graph is compiled for every shape: one exact
check for all gradients (`_gradients`), and the search for the gradient that overflowed is a graph of its own that is compiled
when somebody asks (`_culprit`). Gradients are unscaled by the multiplication that also clips them, in float32.
"""

from __future__ import annotations

import collections
import math
from collections.abc import Sequence
from typing import Any

import mindspore
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops

from ascend_fixes import _mindspore
from ascend_fixes.amp import _arguments as arguments
from ascend_fixes.amp import _writes as writes
from ascend_fixes.amp._autocast import autocast
from ascend_fixes.amp._culprit import Call, Culprit
from ascend_fixes.amp._gradients import Gradients, added, multiplied, unscaled
from ascend_fixes.amp._policy import Policy
from ascend_fixes.amp._result import StepResult
from ascend_fixes.amp._saturation import limit_of, saturates
from ascend_fixes.amp._scaler import LossScaler, StuckScaleError

__all__ = ["TrainStep"]

CHECK_EVERY = 20  # calls between two looks, from the host, at whether the run is stuck
TINY = 2.0**-126  # the smallest normal float32
STUCK_AFTER = 10  # skipped steps in a row that no scale could have saved, after which no scale will help


class TrainStep(_mindspore.SwiftCall):
    """One training step in mixed precision: ``step(*inputs, **named_inputs) -> StepResult``.

    A cell like `mindspore.nn.TrainOneStepCell`: for ``Model(step)``, in `shapes.bucketed`, in data parallel, in graph and
    in PyNative mode. Inside another graph it returns the fields of `StepResult` as a plain tuple, with NaN for a norm that is
    not measured. A checkpoint of it holds weights, optimizer, scale and counters: saved and loaded at any step, a run goes
    on as if it had not stopped.

    Args:
        cell: the network with its loss. Returns the loss (of any shape; its sum is differentiated), or a tuple that
            begins with it.
        optimizer: a MindSpore optimizer over parameters of ``cell``, or several over different ones.
        scaler: the loss scale; default ``LossScaler()``.
        policy: the precision of ``cell``, see `autocast`; None leaves the cell as it is.
        clip_norm: the largest global norm of the gradients, above 0; None neither clips nor measures the norm.
        accumulate: calls per update. Gradients of as many calls are averaged in float32; if one of them
            overflows, none is applied. `flush` updates before the window is full.
        weight_output: the position, in the tuple that ``cell`` returns, of how much a call counts beside the others of its
            window and of the other ranks: a number above 0, the batch's tokens where the loss is their mean. The update is
            then that of the mean over all tokens. None counts every call alike.
        written: Parameters that the forward pass of ``cell`` writes, beside those that are found: see `UndeclaredWriteError`.

    Raises:
        ArgumentTypeError: an argument of the wrong kind.
        StepError: ``clip_norm``, ``accumulate`` or ``weight_output`` out of range, a parameter given to two optimizers, or
            an embedding with sparse gradients.
        UndeclaredWriteError: by the first call: the forward pass writes a Parameter that a skipped step could not undo.
        StuckScaleError: by a call: the scale cannot back off any more and gradients still overflow, or the loss was not
            finite many times in a row.
    """

    def __init__(
        self,
        cell: nn.Cell,
        optimizer: nn.Optimizer | Sequence[nn.Optimizer],
        scaler: LossScaler | None = None,
        policy: Policy | None = None,
        clip_norm: float | None = None,
        accumulate: int = 1,
        weight_output: int | None = None,
        written: Sequence[Parameter] = (),
    ) -> None:
        scaler = LossScaler() if scaler is None else scaler
        optimizers = tuple(optimizer) if isinstance(optimizer, (list, tuple)) else (optimizer,)
        arguments.check(cell, optimizers, scaler, clip_norm, accumulate, weight_output)
        writes.check(cell, written)
        super().__init__(auto_prefix=False)
        self.cell = cell if policy is None else autocast(cell, policy)
        self.cell.set_grad()
        self.optimizers = nn.CellList(list(optimizers), auto_prefix=False)
        self.weights = ParameterTuple([weight for one in optimizers for weight in one.parameters])
        self.parts = _parts(optimizers)
        self.scaler = scaler
        self.scaler_state = ParameterTuple(scaler.parameters())
        scaler.settings_are_final = True
        self.clip_norm = clip_norm
        self.accumulate = accumulate
        self.weight_output = weight_output
        self.saturating = saturates(self.cell)
        self.limit = limit_of(policy)
        self.degree, self.averages = _mindspore.data_parallel()
        self.reducer = nn.DistributedGradReducer(self.weights, self.averages, self.degree) if self.degree > 1 else None
        self.all_reduce = ops.AllReduce() if self.degree > 1 else None
        self.unscales = clip_norm is not None or accumulate > 1 or weight_output is not None or not scaler.is_off
        self.look = Gradients(self.weights)
        self.map = ops.HyperMap()
        self.gradients = ops.value_and_grad(self.scaled_loss, None, self.weights, has_aux=True)
        self.named_gradients = ops.value_and_grad(self.scaled_loss_of, None, self.weights, has_aux=True)
        found = writes.found(cell, self.weights, written)
        self.written = ParameterTuple(found) if found else ()
        self.kept = self.written.clone(prefix="step_kept", init="same") if found else ()
        self.sums = None
        if accumulate > 1:
            self.sums = self.weights.clone(prefix="step_sum", init="zeros")
            self.step_calls = _counter("step_calls", 0)
            self.step_bad_calls = _counter("step_bad_calls", [0, 0])  # of the window: losses, gradients at the limit
            self.step_weight = Parameter(Tensor(0.0, mindspore.float32), name="step_weight", requires_grad=False)
        self.slots = tuple(ParameterTuple(list(one.get_parameters())) for one in optimizers)
        self._on_host(_until_check=CHECK_EVERY, _recent=collections.deque(maxlen=accumulate), _beside={}, _graphs=0)
        # Now, not at the first compilation: a checkpoint of a step that has run must fit one that has not.
        self.check_names_and_refresh_name()

    def __call__(self, *inputs: Any, **named: Any) -> StepResult:
        result = StepResult(*super().__call__(*inputs, **named))
        self._recent.append(Call(inputs, named, result.scale))
        self._on_host(_until_check=self._until_check - 1)
        if self._until_check == 0:
            self._on_host(_until_check=CHECK_EVERY)
            self.check()
        return self._reported(result)

    def compile(self, *inputs: Any, **named: Any) -> None:
        """Compile for these inputs, and refuse a graph that writes what a skipped step could not undo.

        Raises:
            UndeclaredWriteError: the Parameters are named.
        """
        super().compile(*inputs, **named)
        if len(self.compile_cache) != self._graphs:
            writes.check_graph(self)
            self._on_host(_graphs=len(self.compile_cache))

    def flush(self) -> StepResult | None:
        """Update with the calls since the last update, where ``accumulate`` has not been reached: the end of an epoch.

        Returns:
            What the update did, its ``loss`` being None; None where there is nothing to update with.
        """
        if self.sums is None or int(self.step_calls.asnumpy()) == 0:
            return None
        return self._reported(StepResult(*self._cell("flush", lambda: _Flush(self))())._replace(loss=None))

    def check(self) -> None:
        """Look whether the run is stuck. Every 20th call does; it waits for the device.

        Raises:
            StuckScaleError: ten or more steps skipped in a row, at a scale that cannot back off or by a loss not finite.
        """
        stuck = int(self.scaler.stuck_steps.asnumpy())
        if stuck < STUCK_AFTER:
            return
        what = self.overflowing()
        if what == "loss":
            raise StuckScaleError(
                f"stuck: the loss itself is not finite, {stuck} times in a row, and no scale changes that; look for a mean "
                "over nothing (all labels ignored), or with amp.trace_overflow(cell, *inputs) for what overflows"
            )
        raise StuckScaleError(
            f"stuck at scale {_power(self.scaler.value)}: {what} overflows, {stuck} times in a row, and the scale cannot "
            "go lower; compute it in float32 (Policy(fp32=[...])), lower the learning rate or the scaler's minimum"
        )

    def overflowing(self) -> str:
        """What was not finite in the last call, or the last window: ``"loss"``, or ``"gradient of encoder.3.query.weight"``.

        The gradients are computed once more, in a graph of their own that the first such question compiles, with the
        batch, the scale and the weights of that call (dropout draws anew). Of several gradients the one nearest to the loss, by
        the optimizer's order of parameters: an overflow spreads from there towards the input. ``"nothing"`` where
        all is finite. In data parallel each rank looks at its own batch; ask on all of them.
        """
        find = self._cell("culprit", lambda: Culprit(self))
        for call in reversed(self._recent):
            found = find.search(call, self.training)
            if found is not None:
                return "loss" if found == len(self.weights) else f"gradient of {self.weights[found].name}"
        return "nothing"

    def _on_host(self, **attributes: Any) -> None:
        """Attributes that are no part of the graph."""
        for name, value in attributes.items():
            object.__setattr__(self, name, value)

    def _cell(self, name: str, make: Any) -> Any:
        """A cell beside this one, made at first use."""
        if name not in self._beside:
            self._beside[name] = make()
        return self._beside[name]

    def _reported(self, result: StepResult) -> StepResult:
        return result if self.clip_norm is not None else result._replace(grad_norm=None)

    # --- the graph ------------------------------------------------------------------------------

    def scaled_loss(self, *inputs: Any) -> Any:
        """The number that is differentiated, the loss as it is, and how much the call counts."""
        return self.parts_of(self.cell(*inputs))

    def scaled_loss_of(self, inputs: Any, named: Any) -> Any:
        """The same with named inputs, which MindSpore's gradients do not take by themselves."""
        return self.parts_of(self.cell(*inputs, **named))

    def parts_of(self, output: Any) -> Any:
        loss = output[0] if isinstance(output, (tuple, list)) else output
        weight = Tensor(1.0, mindspore.float32)
        if self.weight_output is not None:
            weight = ops.stop_gradient(output[self.weight_output]).astype(mindspore.float32).reshape(())
        return self.scaler.scale(loss).sum(), loss, weight

    def construct(self, *inputs: Any, **named: Any) -> Any:
        self.keep()
        if named:
            (_, loss, weight), grads = self.named_gradients(inputs, named)
        else:
            (_, loss, weight), grads = self.gradients(*inputs)
        loss_finite = ops.isfinite(loss)
        if loss.ndim > 0:
            loss_finite = loss_finite.all()
        loss = self.anchored(loss)
        if self.sums is None:
            if self.weight_output is not None and self.reducer is not None:
                grads = self.weighed(grads, weight)
            return self.update(loss, grads, weight, loss_finite, self.in_range(grads))
        return self.add(loss, grads, weight, loss_finite, self.in_range(grads))

    def keep(self) -> None:
        """Copies of what the forward pass writes, as it is before the step, or before the window."""
        for kept, parameter in zip(self.kept, self.written):
            if self.sums is None:
                ops.assign(kept, parameter)
            else:
                ops.assign(kept, ops.select(self.step_calls == 0, parameter.value(), kept.value()))

    def undo(self) -> None:
        for kept, parameter in zip(self.kept, self.written):
            ops.assign(parameter, kept)

    def anchored(self, loss: Any) -> Any:
        """``loss``, after a look at every Parameter that only a branch writes.

        Without it MindSpore keeps two copies of such a Parameter: a checkpoint would hold its first value, and
        loading one would not reach the graph (seen on 2.7.0 and 2.10.0, CPU).
        """
        for slots in self.slots:
            loss = ops.depend(loss, slots)
        loss = ops.depend(loss, self.scaler_state)
        if self.sums is not None:
            loss = ops.depend(loss, self.sums)
            loss = ops.depend(loss, ops.stop_gradient(self.step_calls))
            loss = ops.depend(loss, ops.stop_gradient(self.step_bad_calls))
            loss = ops.depend(loss, ops.stop_gradient(self.step_weight))
        return loss

    def in_range(self, grads: Any) -> Any:
        """Where overflows show as the largest finite value: whether no gradient has it. A look at this rank's alone."""
        if self.saturating:
            return self.look.largest(self.look.rows(grads)) < self.limit
        return True

    def update(self, loss: Any, grads: Any, weight: Any, loss_finite: Any, in_range: Any) -> Any:
        """The end of a step: ``grads`` are scaled, and sums of total ``weight`` where the step accumulates."""
        if self.reducer is not None:
            grads = self.reducer(grads)
            loss_finite = self.on_all_ranks(loss_finite)
            if self.saturating:
                in_range = self.on_all_ranks(in_range)
            if self.weight_output is not None:
                weight = self.all_reduce(weight)
                if self.averages:
                    weight = weight / self.degree
        finite, norm = self.examine(grads, loss_finite, in_range)
        scale = self.scaler.loss_scale.value()
        factor = self.factor(scale, weight)
        if self.clip_norm is not None:
            norm = norm * factor
        # One Tensor leaves the branches: more of them, or a Parameter's value, make several graphs of it on Ascend.
        if finite:
            if self.clip_norm is not None:
                factor = factor * ops.minimum(self.clip_norm / norm, ops.ones_like(norm))
            new_scale = ops.depend(self.scaler.take(self.scaler.after_finite()), self.apply(grads, factor))
        else:
            self.undo()
            new_scale = self.scaler.take(self.scaler.after_overflow(loss_finite))
        return loss, finite, scale, norm, new_scale, finite

    def on_all_ranks(self, flag: Any) -> Any:
        """Whether a flag is set on every rank; by a sum, for the CPU backend has no AllReduce of a maximum."""
        return self.all_reduce(ops.logical_not(flag).astype(mindspore.float32)) == 0

    def factor(self, scale: Any, weight: Any) -> Any:
        """What scaled gradients are multiplied by. Nothing but padding weighs 0, and its gradients are 0 as well."""
        if self.accumulate > 1 or (self.weight_output is not None and self.reducer is not None):
            return 1.0 / (scale * ops.maximum(weight, Tensor(TINY, mindspore.float32)))
        return 1.0 / scale

    def weighed(self, grads: Any, weight: Any) -> Any:
        return self.map(ops.partial(multiplied, weight), grads)

    def add(self, loss: Any, grads: Any, weight: Any, loss_finite: Any, in_range: Any) -> Any:
        """A step of an accumulation: add up, and update when enough are together."""
        calls = self.step_calls + 1
        if self.weight_output is not None:
            grads = self.weighed(grads, weight)
        weight = weight + self.step_weight
        sums = self.map(added, self.sums, grads)
        bad = self.step_bad_calls + self.bad_calls(loss_finite, in_range)
        if calls >= self.accumulate:
            result = self.update(loss, sums, weight, bad[0] == 0, bad[1] == 0)
            self.new_window()
        else:
            finite, norm = self.examine(sums, bad[0] == 0, bad[1] == 0)
            scale = self.scaler.loss_scale.value()
            if self.clip_norm is not None:
                norm = norm * self.factor(scale, weight)
            if not finite:
                self.undo()
            for total, new in zip(self.sums, sums):
                ops.assign(total, new)
            ops.assign(self.step_calls, calls)
            ops.assign(self.step_bad_calls, bad)
            ops.assign(self.step_weight, weight)
            result = (loss, finite, scale, norm, scale, ops.zeros_like(finite))
        return result

    def bad_calls(self, loss_finite: Any, in_range: Any) -> Any:
        """int32[2], 0 or 1: what this call adds to `step_bad_calls`."""
        bad_loss = ops.logical_not(loss_finite).astype(mindspore.int32)
        at_limit = ops.zeros_like(bad_loss)
        if self.saturating:
            at_limit = ops.logical_not(in_range).astype(mindspore.int32)
        return ops.stack((bad_loss, at_limit))

    def new_window(self) -> None:
        for total in self.sums:
            ops.assign(total, ops.zeros_like(total))
        ops.assign(self.step_calls, ops.zeros_like(self.step_calls))
        ops.assign(self.step_bad_calls, ops.zeros_like(self.step_bad_calls))
        ops.assign(self.step_weight, ops.zeros_like(self.step_weight))

    def end_window(self) -> Any:
        """`update` with what has been added up so far."""
        bad, sums = self.step_bad_calls.value(), ()
        for total in self.sums:
            sums = sums + (total.value(),)
        loss = self.anchored(Tensor(0.0, mindspore.float32))
        result = self.update(loss, sums, self.step_weight.value(), bad[0] == 0, bad[1] == 0)
        self.new_window()
        return result

    def examine(self, grads: Any, loss_finite: Any, in_range: Any) -> Any:
        """Whether all is finite, and the global norm of ``grads`` (NaN without ``clip_norm``)."""
        rows = self.look.rows(grads)
        if self.clip_norm is not None:
            norm, total = self.look.norm(rows)
        else:
            norm, total = Tensor(math.nan, mindspore.float32), self.look.probe(rows)
        finite = ops.logical_and(ops.isfinite(total), loss_finite)
        if self.saturating:
            finite = ops.logical_and(finite, in_range)
        return finite, norm

    def apply(self, grads: Any, factor: Any) -> Any:
        """Call the optimizers with the gradients multiplied by ``factor``, in the weights' types."""
        if self.unscales:
            grads = self.map(ops.partial(unscaled, factor), grads, self.weights)
        done = True
        for optimizer, (start, stop) in zip(self.optimizers, self.parts):
            done = ops.depend(done, optimizer(grads[start:stop]))
        return done


class _Flush(nn.Cell):
    """The update of a window that is not full, as a graph."""

    def __init__(self, step: TrainStep) -> None:
        super().__init__(auto_prefix=False)
        self.step = step

    def construct(self) -> Any:
        return self.step.end_window()


def _counter(name: str, value: Any) -> Parameter:
    return Parameter(Tensor(value, mindspore.int32), name=name, requires_grad=False)


def _parts(optimizers: tuple[nn.Cell, ...]) -> tuple[tuple[int, int], ...]:
    parts, start = [], 0
    for optimizer in optimizers:
        parts.append((start, start + len(optimizer.parameters)))
        start = parts[-1][1]
    return tuple(parts)


def _power(scale: float) -> str:
    exponent = math.log2(scale)
    return f"2^{int(exponent)}" if exponent == int(exponent) else f"{scale:g}"
