"""A cell whose kernels are known, for the self-check: imported by the child only."""

from __future__ import annotations

from typing import Any

from mindspore import Tensor, float32, nn, ops

from ascend_fixes.dryrun._selfcheck import SIZE

__all__ = ["Known", "known"]


class Known(nn.Cell):
    """A product, element-wise operations that are fused at O1, and an operator that the device has no kernel for."""

    def __init__(self) -> None:
        super().__init__()
        self.product = nn.Dense(SIZE, SIZE, has_bias=False)

    def construct(self, x: Any) -> Any:
        return ops.cholesky(ops.exp(self.product(x) * 2.0 + 1.0))


def known() -> tuple[nn.Cell, Tensor]:
    """The cell and its input."""
    return Known(), ops.ones((SIZE, SIZE), float32)
