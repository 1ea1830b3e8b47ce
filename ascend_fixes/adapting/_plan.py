"""What is put around a cell: one frozen value, from which the step is made and the code is written."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mindspore import nn

from ascend_fixes import amp, fusion, shapes

__all__ = ["Plan"]

Sizes = Mapping[Any, Any]  # by the name of a length: its sizes; or by two names: their pairs


@dataclass(frozen=True)
class Plan:
    """The cures of one cell.

    Attributes:
        axes, pad: as `shapes.bucketed` takes them; empty where nothing is padded.
        sizes: of every length by name, or pairs of two; empty where nothing is padded.
        half: whether products are computed in float16.
        fp32: entries of the policy that stay in float32.
        scale: of the loss, to start with.
        written: names of the parameters that the forward pass writes.
    """

    axes: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    pad: Mapping[str, Any] = field(default_factory=dict)
    sizes: Sizes = field(default_factory=dict)
    half: bool = True
    fp32: tuple[str, ...] = ()
    scale: float = 65536.0
    written: tuple[str, ...] = ()

    @property
    def graphs(self) -> int | None:
        """How many graphs the step compiles at most."""
        if not self.sizes:
            return None
        count = 1
        for some in self.sizes.values():
            count *= len(some)
        return count

    def policy(self) -> amp.Policy | None:
        """The precision; None for float32."""
        return amp.Policy(fp32=self.fp32) if self.half else None

    def step(self, cell: nn.Cell, optimizer: Any) -> nn.Cell:
        """The training step that `code` writes down."""
        fusion.safe(cell)
        parameters = cell.parameters_dict()
        scaler = amp.LossScaler(self.scale) if self.half else amp.LossScaler.off()
        step = amp.TrainStep(
            cell, optimizer, scaler, policy=self.policy(), written=[parameters[name] for name in self.written]
        )
        return self.padded(step, max_graphs=self.graphs)

    def network(self, cell: nn.Cell) -> nn.Cell:
        """The cell itself in the same precision and padding, to evaluate with."""
        policy = self.policy()
        return self.padded(cell if policy is None else amp.autocast(cell, policy), max_graphs=None)

    def padded(self, cell: nn.Cell, max_graphs: int | None) -> nn.Cell:
        """``cell`` bucketed, if anything is ragged."""
        if not self.axes:
            return cell
        buckets = {
            name: shapes.Grid(some) if isinstance(name, tuple) else shapes.Buckets(some)
            for name, some in self.sizes.items()
        }
        return shapes.bucketed(cell, axes=dict(self.axes), buckets=buckets, pad=dict(self.pad), max_graphs=max_graphs)

    def code(self) -> str:
        """The same by hand: takes ``cell`` and ``optimizer``, makes ``step``."""
        lines = [f"from ascend_fixes import amp, fusion{', shapes' if self.axes else ''}", ""]
        lines += ["fusion.safe(cell)  # graph-kernel fusion leaves alone what it gets wrong"]
        options = ""
        if self.half:
            fp32 = f"fp32={list(self.fp32)!r}" if self.fp32 else ""
            lines += [f"policy = amp.Policy({fp32})", f"scaler = amp.LossScaler({self.scale!r})"]
            options = ", policy=policy"
        else:
            lines += ["scaler = amp.LossScaler.off()"]
        if self.written:
            lines += [f"written = [cell.parameters_dict()[name] for name in {list(self.written)!r}]"]
            options += ", written=written"
        lines += [f"step = amp.TrainStep(cell, optimizer, scaler{options})"]
        if self.axes:
            lines += [*self._buckets(), "step = shapes.bucketed(", *self._arguments(), ")"]
        return "\n".join(lines) + "\n"

    def _buckets(self) -> list[str]:
        lines = ["buckets = {"]
        for name, some in self.sizes.items():
            kind = "Grid" if isinstance(name, tuple) else "Buckets"
            text = f"{name!r}: shapes.{kind}({list(some)!r}),"
            lines += textwrap.wrap(text, 100, initial_indent="    ", subsequent_indent="        ")
        return [*lines, "}"]

    def _arguments(self) -> list[str]:
        axes = [f"        {name!r}: {dict(by_axis)!r}," for name, by_axis in self.axes.items()]
        lines = ["    step,", "    axes={", *axes, "    },", "    buckets=buckets,"]
        lines += [f"    pad={dict(self.pad)!r},"] if self.pad else []
        return [*lines, f"    max_graphs={self.graphs},"]
