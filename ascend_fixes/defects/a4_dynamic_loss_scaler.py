"""A4: `DynamicLossScaler` has no bounds and computes in the loss's own type.

The cure puts bounds and float32 arithmetic into MindSpore's classes; a state that can be saved is
`amp.LossScaler`'s.
"""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Tensor, amp

from ascend_fixes.defects import Defect, Finding, Patch
from ascend_fixes.defects._loss_scaling import adjust, in_place_of, scale_in_float32, unscale_in_float32
from ascend_fixes.patching import Replacement

__all__ = ["DEFECT", "probe"]


def probe() -> Finding:
    """Grow for 130 finite steps, shrink for 150 overflows, scale a float16 loss by 2**17, unscale a float16 gradient by 2**25."""
    scaler = amp.DynamicLossScaler(2.0**16, 2, 1)
    for _ in range(130):
        scaler.adjust(Tensor(True))
    grown = float(scaler.scale_value.asnumpy())
    for _ in range(150):
        scaler.adjust(Tensor(False))
    shrunk = float(scaler.scale_value.asnumpy())
    scaled = float(amp.DynamicLossScaler(2.0**17, 2, 1000).scale(Tensor(0.5, ms.float16)).asnumpy())
    (unscaled,) = amp.DynamicLossScaler(2.0**25, 2, 1000).unscale((Tensor([32768.0], ms.float16),))
    unscaled = float(unscaled.asnumpy()[0])
    present = grown > 2.0**32 or shrunk >= 1 or not np.isfinite(scaled) or unscaled == 0
    return Finding(
        present,
        f"scale {grown:.3g} after 130 finite steps, {shrunk:.3g} after 150 overflows; "
        f"float16 0.5 x 2**17 = {scaled:g}; float16 32768 / 2**25 = {unscaled:.3g}",
    )


_SCALERS = ("mindspore.amp:DynamicLossScaler", "mindspore.amp:StaticLossScaler")

DEFECT = Defect(
    id="A4",
    family="amp",
    symptom="DynamicLossScaler grows to 1.7e38, cannot go below 1, and float16 losses times the scale are inf",
    symptom_zh="DynamicLossScaler 涨到 1.7e38，不能低于 1，float16 的损失乘以它就是 inf",
    error="",
    cause="no maximum; a minimum of 1; the scale is cast to the loss's type (2**17 is inf in float16) and its "
    "reciprocal to the gradient's (2**-25 is 0)",
    seen="",
    upstream="https://github.com/mindspore-lab/mindyolo/issues/440 (reported: overflow, then NaN)",
    removal="the probe finds bounds and finite products on every supported MindSpore",
    probe=probe,
    patch=Patch(
        replacements=(
            *(Replacement(f"{name}.scale", in_place_of(scale_in_float32)) for name in _SCALERS),
            *(Replacement(f"{name}.unscale", in_place_of(unscale_in_float32)) for name in _SCALERS),
            Replacement("mindspore.amp:DynamicLossScaler.adjust", in_place_of(adjust)),
        )
    ),
)
