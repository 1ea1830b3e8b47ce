"""When a size deserves a graph of its own.

One dynamic graph runs every size, slowly; a static graph runs one size fast but has to
be compiled first. Whether a size comes often enough to pay for its compilation is known
only afterwards. The ski-rental rule (Karlin, Manasse, Rudolph and Sleator, 1988) stays on
the dynamic graph until the time lost there would pass the cost of compiling, and then
compiles: whatever comes, no more than twice the least that could have been paid, given
the dynamic graph.

Both costs are measured as the cell runs.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

__all__ = ["Tiers"]

SAMPLES = 3  # steps that are timed, with a synchronisation, for each size and kind of graph
USUAL_SPEED_UP = 2.0  # of a static step over a dynamic one, until one has been measured: 1.2 to 2.0 on CPU


@dataclass
class _Times:
    """Seconds of steps: how many were measured, and the least. The first steps after a compilation are slow."""

    count: int = 0
    least: float = float("inf")

    def add(self, seconds: float) -> None:
        self.count, self.least = self.count + 1, min(self.least, seconds)


@dataclass
class Tiers:
    """The ski-rental rule over the sizes of one cell, and what it has measured.

    Attributes:
        compile_seconds: of the graphs compiled so far.
        lost: by size, the seconds lost to the dynamic graph.
        static: the sizes that have a graph of their own.
    """

    compile_seconds: list[float] = field(default_factory=list)
    lost: dict[Hashable, float] = field(default_factory=dict)
    static: set = field(default_factory=set)
    _dynamic_times: dict[Hashable, _Times] = field(default_factory=dict)
    _static_times: dict[Hashable, _Times] = field(default_factory=dict)

    def wants_static(self, size: Hashable) -> bool:
        """Whether the next step of ``size`` is to run on a graph of its own (compiled now, if it has none)."""
        if size in self.static:
            return True
        cost, loss = self.compile_cost(), self.loss(size)
        if cost is None or loss is None:
            return False
        return self.lost.get(size, 0.0) + loss > cost

    def wants_time(self, size: Hashable, static: bool) -> bool:
        """Whether a step of ``size`` is to be timed."""
        times = self._static_times if static else self._dynamic_times
        return size not in times or times[size].count < SAMPLES

    def ran(self, size: Hashable, static: bool, seconds: float | None, compile_seconds: float | None) -> None:
        """A step was run: its seconds where it was timed, and those of a compilation where there was one."""
        if compile_seconds is not None:
            self.compile_seconds.append(compile_seconds)
        if seconds is not None:
            times = self._static_times if static else self._dynamic_times
            times.setdefault(size, _Times()).add(seconds)
        if static:
            self.static.add(size)
        else:
            self.lost[size] = self.lost.get(size, 0.0) + (self.loss(size) or 0.0)

    def compile_cost(self) -> float | None:
        """Seconds that another graph is expected to take: the mean so far."""
        return sum(self.compile_seconds) / len(self.compile_seconds) if self.compile_seconds else None

    def loss(self, size: Hashable) -> float | None:
        """Seconds lost by a step of ``size`` on the dynamic graph; None before it was timed."""
        times = self._dynamic_times.get(size)
        return None if times is None else times.least * (1.0 - 1.0 / self.speed_up())

    def speed_up(self) -> float:
        """Of a static step over a dynamic one: the median over the sizes that have run on both."""
        both = sorted(
            self._dynamic_times[size].least / times.least
            for size, times in self._static_times.items()
            if size in self._dynamic_times and times.least > 0
        )
        return max(1.0, both[len(both) // 2]) if both else USUAL_SPEED_UP
