"""One look at a cell, with what an audit would give it."""

from __future__ import annotations

import pytest
from mindspore import Tensor

from ascend_fixes.auditing._audit import _names
from ascend_fixes.auditing._inferring import inferred_axes, normalised_axes
from ascend_fixes.auditing._looking import Cleared, Unknown, carry_out
from ascend_fixes.auditing._report import Hazard
from ascend_fixes.auditing._subject import Clock, Subject, leaves_of, rebuilt
from ascend_fixes.tensors import array_of


class Seen:
    """What a look gave: hazards by kind, cleared and unknown kinds, facts."""

    def __init__(self, outcome):
        assert not outcome.stopped, outcome.stopped
        self.hazards = [one for one in outcome.findings if isinstance(one, Hazard)]
        self.kinds = {one.kind for one in self.hazards}
        self.cleared = {one.kind for one in outcome.findings if isinstance(one, Cleared)} - self.kinds
        self.unknown = {one.kind: one.why for one in outcome.findings if isinstance(one, Unknown)}
        self.facts = {one.name: one.value for one in outcome.findings if hasattr(one, "value")}

    def __getitem__(self, kind):
        """The only hazard of a kind."""
        (found,) = (one for one in self.hazards if one.kind == kind)
        return found


@pytest.fixture
def looked():
    """``looked(LOOK, cell, *arrays, axes=None)``."""

    def carried_out(look, cell, *inputs, axes=None, **fields):
        names = _names(cell, inputs)
        inputs = tuple(
            rebuilt(names, inputs, lambda name, value: value if isinstance(value, Tensor) else Tensor(value))
        )
        leaves = {name: array_of(value) for name, value in leaves_of(names, inputs)}
        ragged = inferred_axes(leaves) if axes is None else normalised_axes(axes, leaves)
        given = {"factory": "", "target": "Ascend910B", **fields}
        return Seen(carry_out(look, Subject(cell, inputs, names, ragged, clock=Clock(300), **given), 300))

    return carried_out
