"""Mixed precision that never loses the run: a precision policy, loss scaling and the training step.

step = amp.TrainStep(loss_cell, optimizer, amp.LossScaler(), policy=amp.Policy("compute=float16"), clip_norm=1.0)
for batch in batches:
    result = step(*batch)               # an overflowed step changes nothing but the scale
"""

from ascend_fixes.amp._arguments import StepError
from ascend_fixes.amp._autocast import Autocast, PrecisionWarning, autocast
from ascend_fixes.amp._functional import train_step
from ascend_fixes.amp._overrides import conflicts, overrides
from ascend_fixes.amp._policy import ArgumentTypeError, Policy, PolicyError, UnknownTargetError
from ascend_fixes.amp._result import StepResult
from ascend_fixes.amp._saturation import saturating
from ascend_fixes.amp._scaler import LossScaler, ScalerError, ScalerStateError, StuckScaleError
from ascend_fixes.amp._step import TrainStep
from ascend_fixes.amp._trace import OverflowReport, trace_overflow
from ascend_fixes.amp._writes import UndeclaredWriteError, WrittenError

__all__ = [
    "ArgumentTypeError",
    "Autocast",
    "LossScaler",
    "OverflowReport",
    "Policy",
    "PolicyError",
    "PrecisionWarning",
    "ScalerError",
    "ScalerStateError",
    "StepError",
    "StepResult",
    "StuckScaleError",
    "TrainStep",
    "UndeclaredWriteError",
    "UnknownTargetError",
    "WrittenError",
    "autocast",
    "conflicts",
    "overrides",
    "saturating",
    "trace_overflow",
    "train_step",
]
