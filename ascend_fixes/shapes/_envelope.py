"""The partition of a sorted histogram into k groups of least total cost (lower envelope of lines)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["best_boundaries"]


def best_boundaries(costs: Sequence[Any], counts: Sequence[int], k: int) -> list[int]:
    """The last index of each of ``k`` groups that minimise the sum of ``costs[last] * (count of the group)``.

    Args:
        costs: of one sample in a group that ends at each index; must not fall.
        counts: of the samples at each index, positive.
        k: number of groups, 1 <= k <= len(costs).

    Integer costs are handled exactly.
    """
    total = [0]
    for count in counts:
        total.append(total[-1] + count)
    # best[j]: least cost of the first j entries in the groups so far. One group holds them all.
    best: list[Any] = [0] + [cost * total[j] for j, cost in enumerate(costs, start=1)]
    rows: list[list[int]] = []
    for groups in range(2, k + 1):
        best, previous = _one_more_group(best, costs, total, groups)
        rows.append(previous)
    boundaries, j = [], len(costs)
    for previous in reversed(rows):
        boundaries.append(j - 1)
        j = previous[j]
    boundaries.append(j - 1)
    return boundaries[::-1]


def _one_more_group(
    best: list[Any], costs: Sequence[Any], total: Sequence[int], groups: int
) -> tuple[list[Any], list[int]]:
    """Row ``groups`` from row ``groups - 1``: best cost and where the last group starts, for every prefix.

    The choice to start the last group after prefix i is the line ``best[i] - total[i] * cost``: slopes fall
    with i and are asked at rising costs, so the envelope is a queue.
    """
    result, previous = list(best), list(range(len(best)))
    lines: list[int] = []
    head = 0
    for j in range(groups, len(best)):
        lines, head = _push(lines, head, j - 1, best, total)
        cost = costs[j - 1]
        while head + 1 < len(lines) and _value(lines[head + 1], cost, best, total) <= _value(
            lines[head], cost, best, total
        ):
            head += 1
        result[j] = _value(lines[head], cost, best, total) + cost * total[j]
        previous[j] = lines[head]
    return result, previous


def _value(i: int, cost: Any, best: Sequence[Any], total: Sequence[int]) -> Any:
    return best[i] - total[i] * cost


def _push(lines: list[int], head: int, new: int, best: Sequence[Any], total: Sequence[int]) -> tuple[list[int], int]:
    """Append line ``new``, dropping the lines it hides. Crossings are compared without division."""
    while len(lines) - head >= 2:
        a, b = lines[-2], lines[-1]
        # b is hidden where new crosses a no later than b does.
        if (best[new] - best[a]) * (total[b] - total[a]) <= (best[b] - best[a]) * (total[new] - total[a]):
            lines.pop()
        else:
            break
    lines.append(new)
    return lines, head
