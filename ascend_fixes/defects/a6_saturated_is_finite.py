"""A6: `all_finite` accepts 65504: on a device that saturates, every overflow passes.

A 910A replaces infinity by the largest finite value. A gradient that overflowed there is 65504, which is a number
like any other to a check for infinities. The cure counts the end of float16's range as an overflow.
"""

from __future__ import annotations

import numpy as np
from mindspore import Tensor, amp

from ascend_fixes.defects import Defect, Finding, Patch
from ascend_fixes.defects._loss_scaling import limit_checked
from ascend_fixes.patching import Replacement

__all__ = ["DEFECT", "probe"]


def probe() -> Finding:
    """Ask `all_finite` about gradients as a saturating device returns them: exp(12) and -exp(12) in float16, clipped to the range."""
    with np.errstate(over="ignore"):
        exact = np.array([np.exp(12.0), 1.0, -np.exp(12.0)])
        saturated = np.clip(exact, -65504.0, 65504.0).astype(np.float16)
    accepted = bool(amp.all_finite((Tensor(saturated),)).asnumpy())
    ordinary = bool(amp.all_finite((Tensor(np.array([60000.0, 1.0], np.float16)),)).asnumpy())
    infinite = bool(amp.all_finite((Tensor(np.array([np.inf, 1.0], np.float16)),)).asnumpy())
    return Finding(
        accepted or infinite or not ordinary,
        f"all_finite of exp(12) saturated at {saturated[0]:g}: {accepted}; of inf: {infinite}; of 60000: {ordinary} "
        "(saturation emulated; a 910A's own check reads a register and needs a device)",
    )


DEFECT = Defect(
    id="A6",
    family="amp",
    symptom="all_finite accepts 65504: where the device saturates instead of giving inf, overflows pass as finite",
    symptom_zh="all_finite 接受 65504：设备以饱和代替 inf 时，溢出被当作正常值放过",
    error="",
    cause="the check looks for inf and NaN, which a saturating device (910A, or "
    "MS_ASCEND_CHECK_OVERFLOW_MODE=SATURATION_MODE) never makes",
    seen="with values as a 910A returns them",
    upstream="https://github.com/DeepLink-org/deeplink.framework/pull/684 (reported: saturation hides inf)",
    removal="all_finite is exact on saturating devices",
    probe=probe,
    patch=Patch(replacements=(Replacement("mindspore.amp:all_finite", limit_checked),)),
)
