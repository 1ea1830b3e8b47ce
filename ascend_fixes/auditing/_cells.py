"""What the cells themselves say: flags of `.to_float`, gradients of their own, hidden sizes, types, Python values, strings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import mindspore
import numpy as np
from mindspore import Tensor, nn

from ascend_fixes.amp._overrides import states_gradient
from ascend_fixes.auditing import _kinds as kinds
from ascend_fixes.auditing._looking import Cleared, Finding, Look, hazard
from ascend_fixes.auditing._subject import Subject

__all__ = ["CELLS", "WITHOUT_MARKS", "own_gradients"]

WITHOUT_MARKS = (
    "# take .to_float out, and say it once, from outside\n"
    'step = amp.TrainStep(net, optimizer, amp.LossScaler(), policy=amp.Policy("compute=float16"))'
)
"""The cure of marks of `.to_float`."""

_WIDE = (mindspore.float64, mindspore.complex64, mindspore.complex128)


def look(subject: Subject) -> Iterator[Finding]:
    """Walk the cells and the inputs; nothing is run."""
    yield from _hidden_sizes(subject.cell)
    yield from _strings(subject)
    yield from _types(subject)


def own_gradients(cell: nn.Cell) -> dict[str, nn.Cell]:
    """The cells of the user's own that define ``bprop``, by path."""
    return {
        path: inner
        for path, inner in cell.cells_and_names()
        if states_gradient(inner) and not type(inner).__module__.startswith("mindspore.")
    }


def _hidden_sizes(cell: nn.Cell) -> Iterator[Finding]:
    found = False
    for path, inner in cell.cells_and_names():
        size = getattr(inner, "hidden_size", None)
        if isinstance(inner, nn.GRU) and isinstance(size, int) and size % 16:
            found = True
            yield hazard(
                "hidden-size",
                kinds.READ,
                f"nn.GRU raises on Ascend for a hidden size that is not divisible by 16, here {size}",
                f"hidden_size={size}",
                f"fusion.GRU(input_size, {size})  # takes any size; or hidden_size={-(-size // 16) * 16}",
                operator="GRU",
                cell=path,
            )
    if not found:
        yield Cleared("hidden-size", "no nn.GRU has a hidden size that is not divisible by 16")


def _strings(subject: Subject) -> Iterator[Finding]:
    found = [name for name, value in zip(subject.names, subject.inputs) if _has_strings(value)]
    for name in found:
        yield hazard(
            "string",
            kinds.READ,
            f"argument {name!r} holds strings: a device has no operators for them, and as a constant each is a graph of its own",
            f"{name} is a {type(subject.inputs[subject.names.index(name)]).__name__} with strings",
            f"table = host.Table(words)\n{name} = table({name})  # ids, on the host",
        )
    if not found:
        yield Cleared("string", "no argument holds strings")


def _has_strings(value: Any) -> bool:
    if isinstance(value, str):
        return True
    if isinstance(value, (Tensor, np.ndarray)):
        return value.dtype == mindspore.string if isinstance(value, Tensor) else value.dtype.kind in "US"
    if isinstance(value, Mapping):
        return any(map(_has_strings, value.values()))
    return isinstance(value, (tuple, list)) and any(map(_has_strings, value))


def _types(subject: Subject) -> Iterator[Finding]:
    wide = {f"parameter {one.name}": one.dtype for one in subject.cell.get_parameters() if one.dtype in _WIDE}
    wide.update(
        (f"argument {name!r}", value.dtype)
        for name, value in zip(subject.names, subject.inputs)
        if isinstance(value, Tensor) and value.dtype in _WIDE
    )
    if not wide:
        yield Cleared("dtype", "no parameter and no argument is float64 or complex")
    for what, dtype in wide.items():
        yield hazard(
            "dtype",
            kinds.READ,
            f"{what} is {dtype}: products of matrices have no such kernel on Ascend, and others run on the host's CPU",
            f"{what}: {dtype}",
            "x = x.astype(mindspore.float32)",
        )


CELLS = Look("the cells", ("hidden-size", "string", "dtype"), look, needs=0.1, without_running=True)
