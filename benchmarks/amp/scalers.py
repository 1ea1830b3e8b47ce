"""A graph that updates a loss scale and does nothing else."""

from __future__ import annotations

from typing import Any

from mindspore import nn, ops


class Update(nn.Cell):
    """``cell(finite)``: one update of a scaler of ours or of MindSpore's; without a scaler, the smallest graph there is."""

    def __init__(self, scaler: Any) -> None:
        super().__init__(auto_prefix=False)
        self.scaler = scaler
        self.ours = hasattr(scaler, "update")

    def construct(self, finite: Any) -> Any:
        if self.scaler is None:
            return ops.logical_not(finite)
        if self.ours:
            return self.scaler.update(finite)
        self.scaler.adjust(finite)
        return self.scaler.scale_value.value()
