"""What `adapt` did: plain data."""

from __future__ import annotations

from dataclasses import dataclass

from ascend_fixes.auditing import AuditReport, Hazard

__all__ = ["AdaptReport", "Comparison", "Cured"]


@dataclass(frozen=True)
class Comparison:
    """The losses of a few steps on the batch, with the cell as it was and as it is now.

    Attributes:
        what: what was run, "float32, padded to length 16".
        plain: the losses of `mindspore.nn.TrainOneStepCell`.
        adapted: those of the adapted step.
        tolerance: how far they may be apart, relative to the plain ones.
    """

    what: str
    plain: tuple[float, ...]
    adapted: tuple[float, ...]
    tolerance: float

    @property
    def apart(self) -> float:
        """The largest difference, relative to the plain loss; NaN where one is not finite."""
        return max(abs(a - b) / max(abs(a), 1e-12) for a, b in zip(self.plain, self.adapted))

    @property
    def ok(self) -> bool:
        """Whether the losses are the same within the tolerance."""
        return self.apart <= self.tolerance

    def __str__(self) -> str:
        told = ", ".join(f"{loss:.6g}" for loss in self.adapted)
        return f"{self.what}: losses {told}, apart from the plain ones by {self.apart:.2g} (allowed {self.tolerance:g})"


@dataclass(frozen=True)
class Cured:
    """A hazard that is gone: what was done, and how it was seen."""

    hazard: Hazard
    how: str

    def __str__(self) -> str:
        return f"{self.hazard.kind} ({self.hazard.place}): {self.how}"


@dataclass(frozen=True)
class AdaptReport:
    """What `ascend_fixes.adapt` did and measured.

    Attributes:
        before: the audit.
        cured: the hazards that are gone.
        left: the hazards that are not, each with its cure for a person to write.
        choices: what was inferred and chosen: axes, pad values, masks, sizes, precision, guards; one sentence each.
        equality: the losses before and after.
        graphs: how many graphs the step compiles at most; None where nothing is ragged.
    """

    before: AuditReport
    cured: tuple[Cured, ...]
    left: tuple[Hazard, ...]
    choices: tuple[str, ...]
    equality: tuple[Comparison, ...]
    graphs: int | None

    @property
    def ok(self) -> bool:
        """Whether every comparison holds."""
        return all(one.ok for one in self.equality)

    def show(self) -> str:
        """The report for a terminal."""
        lines = [f"{self.before.cell}: {len(self.cured)} hazards cured, {len(self.left)} left"]
        lines += [f"chosen: {choice}" for choice in self.choices]
        lines += [f"measured: {one}" for one in self.equality]
        lines += [f"cured: {one}" for one in self.cured]
        for hazard in self.left:
            lines += [f"left: {hazard}"]
        return "\n".join(lines)

    __str__ = show
