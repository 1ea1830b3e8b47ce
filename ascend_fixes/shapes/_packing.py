"""Choosing which short samples share a row.

A row of fixed width takes several samples, one behind the other, so that every batch has one shape and almost no
padding. Which samples go together is bin packing; samples of one length are alike, so the whole choice is made on
the histogram of the lengths, and takes no longer for a million samples than for a thousand.

Method: best-fit decreasing (Johnson 1973) on the histogram, as Krell et al. 2021, "Efficient Sequence Packing without
Cross-contamination" (https://arxiv.org/abs/2107.02027), pack BERT's pre-training data. It needs at most 11/9 of the
fewest rows, and a row more. Where the lower bound of Martello and Toth 1990 does not prove it best and few samples
are to be packed, a search over the completions of a row (Korf 2002) decides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate

import numpy as np

from ascend_fixes.errors import AscendFixesError
from ascend_fixes.shapes._buckets import LengthError

__all__ = ["Packing", "PackingError", "pack"]

EXACT_SAMPLES = 40  # up to so many, more than the lower bound is worth a search
EXACT_NODES = 20_000  # about a second; a search that is not through by then keeps what best fit found

Row = tuple[tuple[int, int], ...]  # of a kind of row: (length, how many), longest first


class PackingError(AscendFixesError, ValueError):
    """A width, a bound or lengths from which no rows can be made."""


@dataclass(frozen=True)
class Packing:
    """Which samples share which row.

    ``packing[i]`` are the places of the samples in row i, in their order, int64; ``len(packing)`` is the number of rows.

    Attributes:
        width: positions of a row.
        max_samples: the most samples that a row holds, or may hold where a bound was given.
        optimal: whether no packing has fewer rows; False where that is not known.
        waste: padding over content, as `Buckets.waste` gives it.
        lengths: of the samples, int64 [n].
        kinds: how many rows there are of which kind; a kind is ``((length, how many), ...)``.
        places, starts: the places of the samples row by row, and where in them each row begins, int64 [n] and [rows + 1].
    """

    width: int
    max_samples: int
    optimal: bool
    waste: float
    lengths: np.ndarray = field(repr=False, compare=False)
    kinds: Mapping[Row, int] = field(repr=False, compare=False)
    places: np.ndarray = field(repr=False, compare=False)
    starts: np.ndarray = field(repr=False, compare=False)

    def shuffled(self, seed: int | Sequence[int]) -> Packing:
        """As many rows of the same kinds, with other samples in them, in another order: the packing of a further epoch."""
        places, starts = _assigned(self.lengths, self.kinds, np.random.default_rng(seed))
        return replace(self, places=places, starts=starts)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, row: int) -> np.ndarray:
        if not -len(self) <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        row %= len(self)
        return self.places[self.starts[row] : self.starts[row + 1]]

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[row] for row in range(len(self)))


def pack(lengths: Iterable[int], width: int, max_samples: int | None = None, seed: int | None = None) -> Packing:
    """Put samples into as few rows of ``width`` positions as can be found.

    Args:
        lengths: of every sample, positive integers [n].
        width: positions of a row; no sample is longer.
        max_samples: the most samples of a row; what is computed for each sample of a row needs so many places.
        seed: shuffles which of the samples of one length go where, and the order of the rows; None keeps the order of
            the samples, and puts full rows first.

    Raises:
        LengthError: for a sample that is longer than a row, or has no positions.
        PackingError: for lengths, a width or a bound that are no positive integers.
    """
    sizes = _checked(lengths, width, max_samples)
    counts = np.bincount(sizes, minlength=width + 1)
    kinds = [(length, int(counts[length])) for length in range(width, 0, -1) if counts[length]]
    rows, optimal = _rows(kinds, width, max_samples or len(sizes))
    held = max(sum(number for _, number in row) for row in rows)
    waste = sum(rows.values()) * width / int(sizes.sum()) - 1.0
    packing = Packing(width, max_samples or held, optimal, waste, sizes, rows, *_assigned(sizes, rows, None))
    return packing if seed is None else packing.shuffled(seed)


def _checked(lengths: Iterable[int], width: int, max_samples: int | None) -> np.ndarray:
    for name, value in (("width", width), ("max_samples", 1 if max_samples is None else max_samples)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
            raise PackingError(
                f"{name}={value!r} is no number of {'positions' if name == 'width' else 'samples'}; "
                "pass a positive integer"
            )
    sizes = np.asarray(lengths if isinstance(lengths, np.ndarray) else list(lengths))
    if sizes.ndim != 1 or not len(sizes) or not np.issubdtype(sizes.dtype, np.integer):
        raise PackingError(
            f"lengths has shape {sizes.shape} and dtype {sizes.dtype}; pass at least one positive integer, in one axis"
        )
    for fault, remedy in (
        (sizes > width, f"longer than width={width}: cut it, leave it out or widen the rows"),
        (sizes < 1, "which nothing can be packed of: leave it out"),
    ):
        if fault.any():
            place = int(fault.argmax())
            raise LengthError(f"sample {place} has length {int(sizes[place])}, {remedy}")
    return sizes.astype(np.int64)


# --- kinds of rows ------------------------------------------------------------------------------


def _rows(kinds: list[tuple[int, int]], width: int, most: int) -> tuple[Counter[Row], bool]:
    """How many rows of which kind hold samples of these ``(length, number)``, longest first; and is that the fewest?"""
    found = _best_fit_decreasing(kinds, width, most)
    number, bound = sum(found.values()), _lower_bound(kinds, width, most)
    if number == bound:
        return found, True
    items = (
        [length for length, count in kinds for _ in range(count)] if sum(c for _, c in kinds) <= EXACT_SAMPLES else []
    )
    if not items:
        return found, False
    search = _Search(width, most, EXACT_NODES)
    better = search.fewer_than(number, items, bound)
    rows = Counter(map(_kind, better)) if better else found
    return rows, not search.exhausted or sum(rows.values()) == bound


def _kind(row: Iterable[int]) -> Row:
    return tuple(sorted(Counter(row).items(), reverse=True))


def _best_fit_decreasing(kinds: list[tuple[int, int]], width: int, most: int) -> Counter[Row]:
    """Every sample, longest first, goes to the fullest row that still holds it; alike rows are filled together."""
    closed: Counter[Row] = Counter()
    spaces: list[dict[Row, int]] = [{} for _ in range(width + 1)]  # open rows, by the positions they have left
    for length, count in kinds:
        for space in range(length, width):
            if spaces[space]:
                count = _fill(spaces, closed, space, length, count, most)
                if not count:
                    break
        spaces[width] = {(): count}  # as many new rows as samples: more are never needed
        _fill(spaces, closed, width, length, count, most)
    spaces[width] = {}
    for rows in spaces:
        for row, number in rows.items():
            closed[row] += number
    return closed


def _fill(spaces: list[dict[Row, int]], closed: Counter[Row], space: int, length: int, count: int, most: int) -> int:
    """Put ``count`` samples of one length into the rows with this space, as many into each as fit; how many are left?"""
    for row in list(spaces[space]):
        held = sum(number for _, number in row)
        each = min(space // length, most - held)
        full, rest = divmod(count, each)
        for number, wanted in ((each, full), (rest, 1)):
            rows = min(wanted, spaces[space].get(row, 0))
            if not number or not rows:
                continue
            _take(spaces[space], row, rows)
            left = spaces[space - number * length] if held + number < most else closed
            filled = (*row, (length, number))
            left[filled] = left.get(filled, 0) + rows
            count -= number * rows
        if not count:
            break
    return count


def _take(rows: dict[Row, int], row: Row, number: int) -> None:
    rows[row] -= number
    if not rows[row]:
        del rows[row]


def _lower_bound(kinds: list[tuple[int, int]], width: int, most: int) -> int:
    """No packing has fewer rows: by content, by number, and by samples that cannot share (Martello and Toth's L2)."""
    number, total = np.zeros((2, width + 2), dtype=np.int64)  # of the samples that are at least so long
    for length, count in kinds:
        number[length], total[length] = count, length * count
    number, total = number[::-1].cumsum()[::-1], total[::-1].cumsum()[::-1]
    bound = max(_divided(int(total[0]), width), _divided(int(number[0]), most))
    half = width // 2 + 1
    small = np.arange(1, half)
    # Beside a sample over half a row stands at most one that is as long as `small`, or none where even that is too long:
    # what samples between `small` and half a row do not find free there must go to rows of their own.
    alone = width - small + 1
    free = (number[half] - number[alone]) * width - (total[half] - total[alone])
    rest = total[small] - total[half] - free
    return max(bound, int((number[half] + np.maximum(0, -(-rest // width))).max(initial=0)))


def _divided(a: int, b: int) -> int:
    return -(-a // b)


class _Search:
    """Looks for a packing with fewer rows: the longest sample left opens a row, which is completed in every way."""

    def __init__(self, width: int, most: int, nodes: int):
        self.width, self.most, self.nodes = width, most, nodes

    @property
    def exhausted(self) -> bool:
        """Did the search end before it was through?"""
        return self.nodes <= 0

    def fewer_than(self, number: int, items: list[int], bound: int) -> list[tuple[int, ...]] | None:
        """A packing of ``items``, longest first, in fewer than ``number`` rows; the fewest, if the search gets through."""
        best = None
        for allowed in range(bound, number):
            best = self._complete(items, allowed)
            if best is not None or self.exhausted:
                break
        return best

    def _complete(self, items: list[int], rows: int) -> list[tuple[int, ...]] | None:
        if not items:
            return []
        self.nodes -= 1
        if self.exhausted or rows < max(_divided(sum(items), self.width), _divided(len(items), self.most)):
            return None
        first, rest = items[0], items[1:]
        for more in sorted(_subsets(rest, self.width - first, self.most - 1), key=sum, reverse=True):
            others = list(rest)
            for item in more:
                others.remove(item)
            found = self._complete(others, rows - 1)
            if found is not None:
                return [(first, *more), *found]
        return None


def _subsets(items: list[int], space: int, most: int) -> list[tuple[int, ...]]:
    """The different choices of items that fit, to which no further item could be added."""
    found: set[tuple[int, ...]] = set()
    left = list(accumulate(reversed(items)))[::-1]

    def choose(position: int, chosen: tuple[int, ...], room: int, skipped: int) -> None:
        # `skipped` is the shortest item that was left out: a choice that it still fits into is not complete.
        if position == len(items) or len(chosen) == most or (left[position] <= room and len(items) - position <= most):
            taken = () if position == len(items) or len(chosen) == most else tuple(items[position:])
            if len(chosen) + len(taken) <= most:
                final = (*chosen, *taken)
                if len(final) == most or not skipped or skipped > room - sum(taken):
                    found.add(final)
                return
        item = items[position]
        following = next((p for p in range(position + 1, len(items)) if items[p] != item), len(items))
        for number in range(min(following - position, room // item, most - len(chosen)), -1, -1):
            out = item if number < following - position else skipped
            choose(following, chosen + (item,) * number, room - number * item, out)

    if space <= 0 or not items or most <= 0:
        return [()]
    choose(0, (), space, 0)
    return list(found) or [()]


# --- samples to rows ----------------------------------------------------------------------------


def _assigned(
    sizes: np.ndarray, rows: Mapping[Row, int], random: np.random.Generator | None
) -> tuple[np.ndarray, np.ndarray]:
    """The places of the samples row by row, and where each row begins in them."""
    order = np.arange(len(sizes)) if random is None else random.permutation(len(sizes))
    order = order[np.argsort(sizes[order], kind="stable")]
    taken = np.searchsorted(sizes[order], np.arange(sizes.max() + 1))  # of each length, where the next ones lie
    parts, numbers = [], []
    for row, count in sorted(rows.items(), key=lambda item: (-sum(a * b for a, b in item[0]), item[0])):
        columns = []
        for length, number in row:
            columns.append(order[taken[length] : taken[length] + number * count].reshape(count, number))
            taken[length] += number * count
        parts.append(np.concatenate(columns, 1))
        numbers += [parts[-1].shape[1]] * count
    starts = np.concatenate(([0], np.cumsum(numbers)))
    places = np.concatenate([part.ravel() for part in parts])
    return (places, starts) if random is None else _permuted(places, starts, random.permutation(len(numbers)))


def _permuted(places: np.ndarray, starts: np.ndarray, order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows in another order."""
    numbers = np.diff(starts)[order]
    ends = np.cumsum(numbers)
    offsets = np.repeat(starts[:-1][order] - (ends - numbers), numbers)
    return places[np.arange(len(places)) + offsets], np.concatenate(([0], ends))
