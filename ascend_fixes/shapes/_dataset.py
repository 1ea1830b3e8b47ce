"""Bucketed batches as a `mindspore.dataset` pipeline.

The order of an epoch is a list of batches, each from one bucket, computed from the
seed, the epoch and the lengths alone. Every rank computes the same order and takes
every num_shards-th row of each batch, so all ranks have the same shape at the same
step and compile the same graphs at the same time. What is left over in a bucket is
filled up to a whole batch with rows of weight zero, or first carried over to the next
larger bucket: no sample is lost, none counts twice, and no batch has a shape of its own.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ascend_fixes.shapes._buckets import Buckets, LengthError
from ascend_fixes.shapes._epochs import (
    DatasetError,
    Epochs,
    Planned,
    ResumableDataset,
    checked_lengths,
    ragged_columns,
    samples_of,
)
from ascend_fixes.shapes._grid import Grid
from ascend_fixes.shapes._padding import fill_value, pad_array
from ascend_fixes.shapes._ragged import RaggedInputs

__all__ = ["BucketDataset", "bucket_dataset", "spread"]

OVERFLOWS = ("error", "drop", "truncate")


def spread(counts: Sequence[int], random: np.random.Generator) -> np.ndarray:
    """The order of an epoch in which the batches of each size come evenly over all of it, so that neighbours differ.

    Drawn freely they come in runs, with which RNNSearch learns less by sample on Multi30k (benchmarks/shapes/learning.py).

    Args:
        counts: the batches of every size.
        random: draws the order among those of one size, and when each comes.

    Returns:
        The numbers of the batches, counted size by size, in the order of the epoch: (sum of counts,) int64.
    """
    moments = [(random.permutation(count) + random.random(count)) / max(count, 1) for count in counts]
    return np.argsort(np.concatenate([np.zeros(0), *moments]), kind="stable")


@dataclass(frozen=True)
class _Batch:
    """One global batch: the padded size of its samples, their places, and the rows to fill up."""

    size: tuple[int, ...]
    places: np.ndarray
    rows: int


@dataclass(frozen=True)
class _Share:
    """What is batched at one size: rows of a global batch, samples, and the size that takes those left over, if one does."""

    size: tuple[int, ...]
    rows: int
    samples: int
    target: tuple[int, ...] | None

    @property
    def batches(self) -> int:
        return -(-self.samples // self.rows)


def bucket_dataset(
    dataset: Any,
    lengths: Any,
    buckets: Buckets | Grid,
    batch_size: int | None = None,
    tokens_per_batch: int | None = None,
    shuffle_seed: int | None = None,
    num_shards: int = 1,
    shard_id: int = 0,
    *,
    axes: Mapping[str, Any] | None = None,
    columns: Sequence[str] | None = None,
    pad: Any = 0,
    weight: str = "weight",
    overflow: str = "error",
    carry: bool = False,
) -> BucketDataset:
    """Batches of ragged samples in which every bucket has one shape.

    Args:
        dataset: samples with ``len()`` and ``[]``, each a mapping, or a tuple with the names in ``columns``, of NumPy
            arrays or scalars; or a `mindspore.dataset` pipeline, which is read into memory once.
        lengths: of every sample, integers [n]; for a `Grid` pairs [n, 2].
        buckets: the padded sizes.
        batch_size: rows per batch and rank. Or
        tokens_per_batch: rows per batch and rank as many as fit, at least one: ``tokens_per_batch // size``.
        shuffle_seed: shuffles samples within their bucket, and batches, anew in every epoch, those of each size spread evenly
            over it; None keeps the order.
        num_shards, shard_id: the number of ranks, and this rank.
        axes: the ragged axes of the batch by column, as in `bucketed`; axis 0 is the batch. All others are stacked. None,
            for a single length: the first axis of a sample in every column in which it has that length.
        columns: names for samples that are tuples.
        pad: the value of padded positions, for all columns or by name.
        weight: the name of the added float32 column [rows]: 1 for samples, 0 for rows that fill a batch up (copies of
            the batch's first sample). A loss is the sum of weight times loss over the sum of the weights.
        overflow: what becomes of over-long samples: "error", "drop" or "truncate"; see `BucketDataset.over_long`.
        carry: samples that are left over in a bucket join the next larger one that holds them, where that costs fewer
            padded positions than filling a batch up: fewer steps, and no more shapes.

    Raises:
        LengthError: for an over-long sample, under overflow="error".
        PadValueError: a column's dtype cannot hold its pad value.
        DatasetError: for anything else that does not fit together; when this is called, or with the sample's place
            when a sample turns out not to have the length that ``lengths`` gives it.
    """
    samples, names = samples_of(dataset, columns)
    batching = _Batching(batch_size, tokens_per_batch, shuffle_seed, num_shards, shard_id, overflow, carry)
    if weight in names:
        raise DatasetError(f"weight={weight!r} is a column of the samples already; choose another name")
    ragged = RaggedInputs.make((names, False), axes or ragged_columns(samples, names, lengths), buckets, pad)
    return BucketDataset(_Source(samples, names, lengths, ragged, batching, weight))


@dataclass(frozen=True)
class _Batching:
    """How samples become batches; see `bucket_dataset`."""

    batch_size: int | None
    tokens_per_batch: int | None
    seed: int | None
    num_shards: int
    shard_id: int
    overflow: str
    carry: bool

    def __post_init__(self) -> None:
        if (self.batch_size is None) == (self.tokens_per_batch is None):
            raise DatasetError(
                f"batch_size={self.batch_size} and tokens_per_batch={self.tokens_per_batch}: pass exactly one of them"
            )
        size = self.tokens_per_batch if self.batch_size is None else self.batch_size
        if size is None or size < 1:
            raise DatasetError(f"{size} rows or tokens make no batch; pass a positive number")
        if not 0 <= self.shard_id < self.num_shards:
            raise DatasetError(f"shard_id={self.shard_id} is not one of num_shards={self.num_shards} ranks")
        if self.overflow not in OVERFLOWS:
            raise DatasetError(f"overflow={self.overflow!r} is unknown; choose one of {', '.join(OVERFLOWS)}")

    def rows(self, size: tuple[int, ...]) -> int:
        """Rows of a batch of this size, on one rank."""
        return self.batch_size or max(1, (self.tokens_per_batch or 0) // int(np.prod(size)))


class BucketDataset(ResumableDataset):
    """The pipeline that `bucket_dataset` makes. A new iterator begins at the start of the current epoch.

    Operations put on top (``map``, ``repeat``) make a new pipeline, which no longer keeps the position.

    Attributes:
        batches: how many batches an epoch has, on every rank.
        over_long: how many samples were dropped or truncated.
        waste: padding over content, in an epoch, filled rows included.
    """

    def __init__(self, source: _Source):
        super().__init__(source)
        self.over_long = source.over_long
        self.waste = source.waste()


class _Source(Epochs):
    """Orders and makes bucketed batches."""

    def __init__(
        self, samples: Any, names: list[str], lengths: Any, ragged: RaggedInputs, batching: _Batching, weight: str
    ) -> None:
        super().__init__()
        for argument in ragged.arguments:
            if any(axis == 0 for axis, _ in argument.axes):
                raise DatasetError(f"axes of {argument.name!r} contain 0, the batch; name axes of its samples, from 1")
        self.ragged, self.batching = ragged, batching
        self.samples, self.columns, self.names = samples, names, [*names, weight]
        self.lengths = checked_lengths(lengths, len(samples), len(ragged.sizers[0][0]))
        self.members, self.over_long = self._members(batching.overflow)
        first = self._sample(int(next(iter(self.members.values()))[0]))
        for argument in ragged.arguments:
            fill_value(np.asarray(first[argument.index]).dtype, argument.pad)

    # --- the order of an epoch --------------------------------------------------------------------

    def _members(self, overflow: str) -> tuple[dict[tuple[int, ...], np.ndarray], int]:
        """The places of the samples of every size, ascending, and how many are over-long."""
        distinct, first, which = _distinct(self.lengths)
        found: dict[tuple[int, ...], list[int]] = {}
        over_long = []
        _, sizer = self.ragged.sizers[0]
        for number in np.argsort(first).tolist():  # so that an error names the first sample
            length = distinct[number].tolist()
            try:
                size: Any = sizer(*length)
            except LengthError as error:
                if overflow == "error":
                    raise LengthError(
                        f"sample {first[number]}: {error}; or pass overflow='drop' or overflow='truncate'"
                    ) from None
                over_long.append(number)
                if overflow == "drop":
                    continue
                size = sizer.truncated(*length)
            found.setdefault(size if isinstance(size, tuple) else (size,), []).append(number)
        if not found:
            raise DatasetError("there is no sample to batch; pass samples that a bucket holds")
        sizes = np.full(len(distinct), -1)
        for place, size in enumerate(sorted(found)):
            sizes[found[size]] = place
        size_of = sizes[which]
        members = {size: np.flatnonzero(size_of == place) for place, size in enumerate(sorted(found))}
        return members, int(np.isin(which, over_long).sum()) if over_long else 0

    @functools.cached_property
    def shares(self) -> list[_Share]:
        """What is batched at every size, by area, so that what is carried over is never too late."""
        waiting, shares = {size: len(places) for size, places in self.members.items()}, []
        for size in sorted(self.members, key=lambda size: (int(np.prod(size)), size)):
            rows = self.batching.rows(size) * self.batching.num_shards
            left = waiting[size] % rows
            target = self._worth_carrying(size, left) if self.batching.carry and left else None
            if target is not None:
                waiting[target] += left
                waiting[size] -= left
            shares.append(_Share(size, rows, waiting[size], target))
        return shares

    def count(self) -> int:
        return sum(share.batches for share in self.shares)

    def order(self, epoch: int) -> Sequence[_Batch]:
        """All global batches of an epoch, in order."""
        random = None if self.batching.seed is None else np.random.default_rng([self.batching.seed, epoch])
        carried = {size: np.zeros(0, dtype=np.int64) for size in self.members}
        ordered = []
        for share in self.shares:
            places = np.concatenate((self.members[share.size], carried[share.size]))
            places = np.sort(places) if random is None else random.permutation(places)
            if share.target is not None:
                carried[share.target] = np.concatenate((carried[share.target], places[share.samples :]))
            ordered.append(places[: share.samples])
        ends = np.cumsum([share.batches for share in self.shares])

        def described(number: int) -> _Batch:
            which = int(np.searchsorted(ends, number, side="right"))
            share = self.shares[which]
            first = (number - int(ends[which]) + share.batches) * share.rows
            return _Batch(share.size, ordered[which][first : first + share.rows], share.rows)

        if random is not None:
            return Planned(spread([share.batches for share in self.shares], random), described)
        firsts = np.concatenate([places[:: share.rows] for share, places in zip(self.shares, ordered)])
        return Planned(np.argsort(firsts), described)

    def _worth_carrying(self, size: tuple[int, ...], left: int) -> tuple[int, ...] | None:
        """The next size that holds ``size``, if ``left`` rows there are fewer padded positions than a batch here."""
        area = int(np.prod(size))
        larger = [other for other in self.members if other != size and all(a >= b for a, b in zip(other, size))]
        target = min(larger, key=lambda other: (int(np.prod(other)), other), default=None)
        if target is None or left * int(np.prod(target)) >= self.batching.rows(size) * self.batching.num_shards * area:
            return None
        return target

    def waste(self) -> float:
        content = sum(int(self.lengths[places].prod(1).sum()) for places in self.members.values())
        padded = sum(int(np.prod(share.size)) * share.rows * share.batches for share in self.shares)
        return padded / content - 1.0 if content else 0.0

    # --- the batches -----------------------------------------------------------------------------

    def batch(self, batch: _Batch) -> tuple[np.ndarray, ...]:
        """This rank's rows of a global batch, and their weights."""
        places = batch.places[self.batching.shard_id :: self.batching.num_shards]
        rows = batch.rows // self.batching.num_shards
        filled = [self._sample(int(place)) for place in places] or [self._sample(int(batch.places[0]))]
        filled += [filled[0]] * (rows - len(filled))
        ragged = {argument.index: argument for argument in self.ragged.arguments}
        sizes = dict(zip(self.ragged.sizers[0][0], batch.size))
        columns = []
        for index, name in enumerate(self.columns):
            values = [np.asarray(sample[index]) for sample in filled]
            argument = ragged.get(index)
            if argument is not None:
                values = [self._padded(value, argument, sizes) for value in values]
            try:
                columns.append(np.stack(values))
            except ValueError:
                shapes = sorted({value.shape for value in values})
                raise DatasetError(f"column {name!r} has samples of shapes {shapes}; name its ragged axes") from None
        weights = np.zeros(rows, dtype=np.float32)
        weights[: len(places)] = 1.0
        return (*columns, weights)

    def _sample(self, place: int) -> tuple:
        sample = self.samples[place]
        values = tuple(sample[name] for name in self.columns) if isinstance(sample, Mapping) else tuple(sample)
        if len(values) != len(self.columns):
            raise DatasetError(f"sample {place} has {len(values)} values, not one for each of columns={self.columns}")
        expected = dict(zip(self.ragged.sizers[0][0], self.lengths[place].tolist()))
        for argument in self.ragged.arguments:
            shape = np.shape(values[argument.index])
            for axis, name in argument.axes:
                axis = axis - 1 if axis > 0 else axis
                if not -len(shape) <= axis < len(shape) or shape[axis] != expected[name]:
                    raise DatasetError(
                        f"sample {place} has shape {list(shape)} in column {argument.name!r}, "
                        f"but lengths= says that {name} is {expected[name]}"
                    )
        return values

    @staticmethod
    def _padded(value: np.ndarray, argument: Any, sizes: Mapping[str, int]) -> np.ndarray:
        shape = list(value.shape)
        for axis, name in argument.axes:
            shape[axis - 1 if axis > 0 else axis] = sizes[name]
        return pad_array(value, shape, argument.pad)

    # --- the position ----------------------------------------------------------------------------

    @functools.cached_property
    def _digest(self) -> str:
        return hashlib.sha256(self.lengths.tobytes()).hexdigest()

    def identity(self) -> dict[str, Any]:
        sizes = sorted(self.members)
        return {
            "samples": self._digest,
            "buckets": [list(map(int, size)) for size in sizes],
            "seed": self.batching.seed,
            "order": "kept" if self.batching.seed is None else "spread",
            "over_long": self.over_long,
            "truncate": self.batching.overflow == "truncate",
            "carry": self.batching.carry,
            "global_rows": [self.batching.rows(size) * self.batching.num_shards for size in sizes],
        }

    def sharing(self) -> dict[str, Any]:
        return {
            "per": "rows" if self.batching.batch_size else "tokens",
            "size": self.batching.batch_size or self.batching.tokens_per_batch,
            "num_shards": self.batching.num_shards,
        }


def _distinct(lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The distinct rows of [n, width], the first place of each, and which of them every row is."""
    base = int(lengths.max()) + 1
    if base ** lengths.shape[1] < 2**62:
        _, first, which = np.unique(
            lengths @ base ** np.arange(lengths.shape[1]), return_index=True, return_inverse=True
        )
    else:
        _, first, which = np.unique(lengths, axis=0, return_index=True, return_inverse=True)
    return lengths[first], first, which.reshape(-1)
