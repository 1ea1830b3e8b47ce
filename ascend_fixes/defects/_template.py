"""F0: what goes wrong, in one line, as a user would say it.

What happens and why, in a paragraph. What the cure does about it, and what was tried and did not work.

Copy this file to ``<id>_<name>.py`` beside it: the first letter of the family (S, H, F, A, E), the next free number,
a word or two. It is in the catalogue from then on, and `tests/test_catalogue.py` tests it. CONTRIBUTING.md has the steps.
"""

from __future__ import annotations

import functools
from typing import Any, Callable

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from ascend_fixes.defects import Defect, Finding, Patch, Tool, first_line
from ascend_fixes.patching import Replacement

__all__ = ["DEFECT", "Rectified", "probe", "probe_tool"]


class Rectified(nn.Cell):
    """The smallest cell that shows it: float32 of any shape to the same."""

    def construct(self, x):
        return ops.relu(x)


def probe() -> Finding:
    """What is run, in one line. The process and its working folder are the probe's own; it may leave them in any state."""
    ms.set_context(mode=ms.GRAPH_MODE)
    try:
        found = Rectified()(Tensor(np.array([-1.0, 2.0]), ms.float32)).asnumpy()
    except RuntimeError as error:  # only what the defect raises: anything else is a failed probe
        return Finding(True, first_line(error))
    return Finding(found.tolist() != [0.0, 2.0], f"relu of -1 and 2 is {found[0]:g} and {found[1]:g}")


# --- the cure: a patch, bound to MindSpore's own names, or a tool that the user's code calls; drop the other -------------


def _rectified_in_float32(original: Callable[..., Any]) -> Callable[..., Any]:
    """In place of `mindspore.ops.relu`. What the graph compiler parses takes `_loss_scaling.in_place_of` instead."""

    @functools.wraps(original)
    def relu(input: Any) -> Any:
        return original(input.astype(ms.float32)).astype(input.dtype)

    return relu


def probe_tool() -> Finding:
    """The same scenario, written with the tool."""
    return Finding(False, "...")


DEFECT = Defect(
    id="F0",
    family="fusion",
    symptom="relu of a negative number is not zero",  # at most 120 characters
    symptom_zh="同一句话的中文",
    error="",  # word for word what is printed, so that a search finds it; "" where nothing is
    cause="why",
    seen="float16 alone",  # amounts, reports; the versions are generated from evidence/
    upstream="none found",  # or the address of a report
    removal="the probe finds zero on every supported MindSpore",
    probe=probe,
    patch=Patch((Replacement("mindspore.ops:relu", _rectified_in_float32),), since=(2, 10), before=(2, 11)),
    tool=Tool("fusion.something", probe_tool),
    # needs_device=True,  # where only a device shows it: the probe then returns Finding(None, "needs a device; ...")
)
