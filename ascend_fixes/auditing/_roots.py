"""Roots of 1 less the square of a cosine, which rounding takes beyond 1: of equal directions it is 1.0000001 in float32.

Losses with an angular margin take them (ArcFace, Deng et al. 2019). Only sums of products are cosines; what stays within
bounds by itself, as tanh does, is no matter.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import mindspore
import numpy as np
from mindspore import Tensor

from ascend_fixes.auditing import _kinds as kinds
from ascend_fixes.auditing._looking import hazard
from ascend_fixes.auditing._recording import Event, Recording
from ascend_fixes.auditing._report import Hazard
from ascend_fixes.tensors import array_of

__all__ = ["roots"]

_BEYOND = 1.0000001  # what the cosine of two equal directions may be in float32
_PRODUCTS = re.compile("matmul|dense|linear|bmm|sum|cosine", re.I)
_Made = Mapping[int, Event]  # what made a Tensor, by its id


def roots(plain: Recording) -> Iterator[Hazard]:
    """Those of a plain run that are not finite beyond 1, a line once."""
    made: dict[int, Event] = {}
    for event in plain.events:
        for value in event.outputs:
            made.setdefault(id(value), event)  # the operation itself, not a function around it
    seen = set()
    for event in plain.events:
        if event.source not in seen and _is_sine(made, event):
            seen.add(event.source)
            value = _beyond(event)
            if not np.isfinite(value):
                yield hazard(
                    "not-an-overflow",
                    kinds.FAILED,
                    "the root of 1 less a squared cosine, which rounding takes beyond 1: no precision and no loss scale helps",
                    f"{event.text} gives {value} for a cosine of {_BEYOND}, as two equal directions have in float32",
                    "sine = ops.sqrt(ops.clamp(1.0 - cosine * cosine, 0.0, 1.0))  # its gradient at 0 is infinite: 1e-6 instead of 0",
                    operator=event.operator,
                    cell=event.cell,
                    source=event.source,
                )


def _beyond(event: Event) -> float:
    """What the operation gives for such a cosine; 0 where it takes more than a number."""
    try:
        return float(array_of(event.run(Tensor(1 - np.float32(_BEYOND) ** 2, mindspore.float32))))
    except Exception:
        return 0.0


def _is_sine(made: _Made, event: Event) -> bool:
    if event.operator.lower() not in ("sqrt", "rsqrt") or not event.inputs:
        return False
    less = made.get(id(event.inputs[0]))
    if less is None or not _is_from_one(less):
        return False
    squared = made.get(id(less.inputs[-1]))
    cosine = made.get(id(squared.inputs[0])) if squared is not None and _is_square(squared) else None
    return cosine is not None and bool(_PRODUCTS.search(cosine.operator))


def _is_from_one(event: Event) -> bool:
    """Whether it is a subtraction from 1."""
    if event.operator.lower() not in ("sub", "subext", "rsub"):
        return False
    first = event.args[-1] if event.operator == "rsub" else event.args[0]
    return _is_number(array_of(first) if isinstance(first, Tensor) and first.size == 1 else first, 1)


def _is_square(event: Event) -> bool:
    if event.operator.lower() in ("pow", "power"):
        return any(_is_number(one, 2) for one in event.args)
    return event.operator.lower() in ("mul", "square") and event.inputs[0] is event.inputs[-1]


def _is_number(value: Any, number: int) -> bool:
    return isinstance(value, (int, float, np.ndarray)) and bool(np.all(value == number))
