"""Packed batches as a `mindspore.dataset` pipeline: one shape, one graph, hardly any padding.

An epoch is a list of rows, each of which holds several samples one behind the other; which samples share a row follows
from the seed, the epoch and the lengths alone. Every rank computes the same rows and takes every num_shards-th row of
each batch. Beside the samples' own columns a batch says which position belongs to which sample, what its place in
that sample is, and how much it counts. A cell must not look from one sample into its neighbour: `segment_mask` makes the
attention mask, and `check_packing` finds what looks all the same.

Method: Krell et al. 2021, "Efficient Sequence Packing without Cross-contamination", https://arxiv.org/abs/2107.02027.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Union

import numpy as np
from mindspore import Tensor

from ascend_fixes.shapes._buckets import LengthError
from ascend_fixes.shapes._epochs import (
    DatasetError,
    Epochs,
    Planned,
    ResumableDataset,
    checked_lengths,
    ragged_columns,
    samples_of,
)
from ascend_fixes.shapes._packing import Packing, pack
from ascend_fixes.shapes._padding import fill_value

__all__ = ["PackedDataset", "pack_dataset", "segment_mask", "unpack"]

ADDED = ("segment_ids", "positions", "token_weight", "sample_weight", "sample")
OVERFLOWS = ("error", "drop", "truncate")
WEIGHTS = ("token", "sample")
Group = Union[Sequence[int], np.ndarray]  # the places of the samples that share a row


def pack_dataset(
    dataset: Any,
    lengths: Any,
    width: int,
    rows: int,
    max_samples: int | None = None,
    shuffle_seed: int | None = None,
    num_shards: int = 1,
    shard_id: int = 0,
    *,
    columns: Sequence[str] | None = None,
    packed: Sequence[str] | None = None,
    places: Sequence[str] = (),
    sizes: Mapping[str, int] | None = None,
    pad: Any = 0,
    weights: str = "token",
    overflow: str = "error",
) -> PackedDataset:
    """Batches of [rows, width] in which several samples share a row.

    A batch has the samples' own columns, packed ones [rows, width, ...] and the others [rows, slots, ...], where slots is
    the most samples of a row, and after them

    - ``segment_ids`` int32 [rows, width]: which sample of its row a position belongs to, from 1; 0 for padding;
    - ``positions`` int32 [rows, width]: its place in that sample, from 0;
    - ``token_weight`` float32 [rows, width]: how much it counts, 0 for padding;
    - ``sample_weight`` float32 [rows, slots]: 1 for samples, 0 for slots that hold none;
    - ``sample`` int32 [rows, slots]: the sample's place in the dataset, -1 where there is none.

    Args:
        dataset: samples with ``len()`` and ``[]``, each a mapping, or a tuple with the names in ``columns``, of NumPy
            arrays or scalars; or a `mindspore.dataset` pipeline, which is read into memory once.
        lengths: of every sample, integers [n].
        width: positions of a row.
        rows: of a batch, on each rank. The last batch of an epoch is filled up with rows of weight zero.
        max_samples: the most samples of a row; by default as many as the best packing has.
        shuffle_seed: shuffles which samples share a row, and the rows, anew in every epoch; None keeps them.
        num_shards, shard_id: the number of ranks, and this rank.
        columns: names for samples that are tuples.
        packed: the columns that are laid one behind the other along their first axis; by default those in which every
            sample has the length that ``lengths`` gives it.
        places: columns whose values are places in the sample, from 0, as the first and last token of an answer: they
            become places in the row.
        sizes: what the first axis of a column that is not packed is padded to, where samples differ in it.
        pad: the value of positions that nothing is written to, for all columns or by name.
        weights: what the token weights of a sample add up to: "token" its length, so that every token counts the same,
            "sample" one, so that every sample does.
        overflow: what becomes of samples longer than a row: "error", "drop" or "truncate"; see `PackedDataset.over_long`.

    Raises:
        LengthError: for an over-long sample, under overflow="error", or one of length 0.
        PackingError: for a width or a bound that is no positive integer.
        DatasetError: for anything else that does not fit together; when this is called, or with the sample's place
            when a sample turns out not to fit.
    """
    samples, names = samples_of(dataset, columns)
    if weights not in WEIGHTS or overflow not in OVERFLOWS:
        raise DatasetError(
            f"weights={weights!r}, overflow={overflow!r}: choose of {', '.join(WEIGHTS)} and of {', '.join(OVERFLOWS)}"
        )
    if isinstance(rows, bool) or not isinstance(rows, int) or rows < 1 or not 0 <= shard_id < num_shards:
        raise DatasetError(
            f"rows={rows!r} of shard_id={shard_id} in num_shards={num_shards}: pass a positive number of rows, and one of the ranks"
        )
    measured = checked_lengths(lengths, len(samples), 1)[:, 0]
    chosen = frozenset(ragged_columns(samples, names, measured) if packed is None else packed)
    fill = dict(pad) if isinstance(pad, Mapping) else dict.fromkeys(names, pad)
    _refuse_unknown(names, packed=chosen, places=places, sizes=sizes or (), pad=fill)
    kept = _kept(measured, width, overflow)
    packing = pack(np.minimum(measured[kept], width), width, max_samples)
    layout = Layout(
        tuple(names),
        chosen,
        frozenset(places),
        dict(sizes or {}),
        fill,
        width,
        packing.max_samples,
        weights,
        overflow == "truncate",
    )
    return PackedDataset(_Source(samples, measured, kept, layout, packing, rows, shuffle_seed, num_shards, shard_id))


class PackedDataset(ResumableDataset):
    """The pipeline that `pack_dataset` makes. A new iterator begins at the start of the current epoch.

    Operations put on top (``map``, ``repeat``) make a new pipeline, which no longer keeps the position.

    Attributes:
        batches: how many batches an epoch has, on every rank.
        packing: which samples share a row in the first epoch, a `Packing` of those that are kept.
        slots: the most samples of a row.
        over_long: how many samples were dropped or truncated.
        waste: padding over content, in an epoch, filled rows included.
    """

    def __init__(self, source: _Source):
        super().__init__(source)
        self.packing = source.packing
        self.slots = source.layout.slots
        self.over_long = int((source.lengths > source.layout.width).sum())
        content = int(np.minimum(source.lengths[source.kept], source.layout.width).sum())
        self.waste = self.batches * source.global_rows * source.layout.width / content - 1.0

    def batch_of(self, groups: Sequence[Group]) -> dict[str, np.ndarray]:
        """The batch that has these samples in its rows, by column; for looking at single samples."""
        source = self.source
        return dict(zip(source.names, source.layout.batch(groups, len(groups), source.samples)))


@dataclass(frozen=True)
class _Span:
    """One sample in a batch: its row, its slot there, from where to where it lies, its place in the dataset, its parts."""

    row: int
    slot: int
    begin: int
    end: int
    place: int
    parts: tuple


@dataclass(frozen=True)
class Layout:
    """How samples are laid into rows; the fields are the arguments of `pack_dataset`."""

    columns: tuple[str, ...]
    packed: frozenset[str]
    places: frozenset[str]
    sizes: Mapping[str, int]
    pad: Mapping[str, Any]
    width: int
    slots: int
    weights: str
    truncate: bool

    def batch(self, groups: Sequence[Group], real: int, samples: Any) -> tuple[np.ndarray, ...]:
        """The columns, and the added ones, of rows that hold these samples; the first ``real`` rows have weight."""
        spans = list(self._spans(groups, samples))
        columns = [self._column(index, name, spans, len(groups)) for index, name in enumerate(self.columns)]
        segments, positions = np.zeros((2, len(groups), self.width), dtype=np.int32)
        tokens = np.zeros((len(groups), self.width), dtype=np.float32)
        weights = np.zeros((len(groups), self.slots), dtype=np.float32)
        places = np.full((len(groups), self.slots), -1, dtype=np.int32)
        for span in spans:
            length = span.end - span.begin
            segments[span.row, span.begin : span.end] = span.slot + 1
            positions[span.row, span.begin : span.end] = np.arange(length)
            if span.row < real:
                tokens[span.row, span.begin : span.end] = 1.0 if self.weights == "token" else 1.0 / length
                weights[span.row, span.slot], places[span.row, span.slot] = 1.0, span.place
        return (*columns, segments, positions, tokens, weights, places)

    def _spans(self, groups: Sequence[Group], samples: Any) -> Iterable[_Span]:
        for row, group in enumerate(groups):
            begin = 0
            for slot, place in enumerate(map(int, group)):
                sample = samples[place]
                parts = tuple(sample[name] for name in self.columns) if isinstance(sample, Mapping) else tuple(sample)
                if len(parts) != len(self.columns):
                    raise DatasetError(
                        f"sample {place} has {len(parts)} values, not one for each of columns={list(self.columns)}"
                    )
                length = min(self._length(place, parts), self.width)
                yield _Span(row, slot, begin, begin + length, place, parts)
                begin += length

    def _length(self, place: int, parts: tuple) -> int:
        lengths = {name: np.shape(part)[:1] for name, part in zip(self.columns, parts) if name in self.packed}
        if len(set(lengths.values())) != 1 or () in lengths.values():
            raise DatasetError(f"sample {place} has packed columns of different lengths: {lengths}")
        return next(iter(lengths.values()))[0]

    def _column(self, index: int, name: str, spans: Sequence[_Span], rows: int) -> np.ndarray:
        """One column of the batch."""
        first = np.asarray(spans[0].parts[index])
        inner = (self.sizes[name], *first.shape[1:]) if name in self.sizes else first.shape
        shape = (self.width, *first.shape[1:]) if name in self.packed else (self.slots, *inner)
        column = np.full((rows, *shape), fill_value(first.dtype, self.pad.get(name, 0)), first.dtype)
        for span in spans:
            value = np.asarray(span.parts[index])
            target = (
                column[span.row, span.begin : span.end] if name in self.packed else column[span.row, span.slot, ...]
            )
            if name in self.packed:
                value = value[: len(target)] if self.truncate else value
            elif name in self.sizes and value.ndim and len(value) <= len(target):
                target = target[: len(value)]
            if value.shape != target.shape:
                raise DatasetError(
                    f"sample {span.place} has shape {list(value.shape)} in column {name!r}, where {list(target.shape)} is "
                    f"expected; say what its first axis is padded to with sizes={{{name!r}: ...}}, or correct lengths="
                )
            target[...] = self._moved(value, span, name) if name in self.places else value
        return column

    def _moved(self, value: np.ndarray, span: _Span, name: str) -> np.ndarray:
        """Places in the sample as places in the row."""
        if value.size and not 0 <= value.min() <= value.max() < span.end - span.begin:
            raise DatasetError(
                f"sample {span.place} has places {value.min()} to {value.max()} in column {name!r}, but "
                f"{span.end - span.begin} positions; correct them, or widen the rows"
            )
        return value + value.dtype.type(span.begin)


class _Source(Epochs):
    """Plans and makes packed batches."""

    def __init__(
        self,
        samples: Any,
        lengths: np.ndarray,
        kept: np.ndarray,
        layout: Layout,
        packing: Packing,
        rows: int,
        seed: int | None,
        num_shards: int,
        shard_id: int,
    ):
        super().__init__()
        self.samples, self.lengths, self.kept = samples, lengths, kept
        self.layout, self.packing = layout, packing
        self.names = [*layout.columns, *ADDED]
        self.rows, self.seed, self.num_shards, self.shard_id = rows, seed, num_shards, shard_id

    @property
    def global_rows(self) -> int:
        """Rows of a batch over all ranks."""
        return self.rows * self.num_shards

    def order(self, epoch: int) -> Sequence[list[np.ndarray]]:
        packing = self.packing if self.seed is None else self.packing.shuffled([self.seed, epoch])
        rows = range(len(packing))

        def described(first: int) -> list[np.ndarray]:
            return [self.kept[packing[row]] for row in rows[first : first + self.global_rows]]

        return Planned(rows[:: self.global_rows], described)

    def count(self) -> int:
        return -(-len(self.packing) // self.global_rows)

    def batch(self, planned: list[np.ndarray]) -> tuple[np.ndarray, ...]:
        own = planned[self.shard_id :: self.num_shards]
        filled = [*own, *[planned[0]] * (self.rows - len(own))]
        return self.layout.batch(filled, len(own), self.samples)

    def identity(self) -> dict[str, Any]:
        return {
            "samples": hashlib.sha256(self.lengths.tobytes()).hexdigest(),
            "width": self.layout.width,
            "slots": self.layout.slots,
            "seed": self.seed,
            "kept": len(self.kept),
            "truncate": self.layout.truncate,
            "global_rows": self.global_rows,
        }

    def sharing(self) -> dict[str, Any]:
        return {"per": "rows", "size": self.rows, "num_shards": self.num_shards}


def segment_mask(segment_ids: Tensor) -> Tensor:
    """Which positions may look at which: those of their own sample. For the graph compiler and outside it.

    Args:
        segment_ids: int32 [rows, width], 0 for padding.

    Returns:
        bool [rows, 1, width, width], to be broadcast over the heads of an attention; [r, 0, i, j] is whether i looks at j.
    """
    queries, keys = segment_ids.expand_dims(1).expand_dims(3), segment_ids.expand_dims(1).expand_dims(2)
    return (queries == keys).logical_and(keys > 0)


def unpack(values: Any, batch: Mapping[str, Any]) -> dict[int, np.ndarray]:
    """What was computed for the samples of a packed batch, by their place in the dataset.

    Args:
        values: [rows, width, ...], of positions, or [rows, slots, ...], of samples.
        batch: the batch, or its columns ``segment_ids`` and ``sample``.

    Raises:
        DatasetError: for values of another shape.
    """
    array, segments, places = (np.asarray(_array(part)) for part in (values, batch["segment_ids"], batch["sample"]))
    kinds = {"positions": segments.shape, "samples": places.shape}
    if array.shape[:2] not in kinds.values():
        raise DatasetError(
            f"values have shape {list(array.shape)}; pass [rows, width, ...] or [rows, slots, ...], of {kinds}"
        )
    found = {}
    for row, slot in zip(*np.nonzero(places >= 0)):
        of_positions = array.shape[:2] == segments.shape
        found[int(places[row, slot])] = array[row][segments[row] == slot + 1] if of_positions else array[row, slot]
    return found


def _array(value: Any) -> Any:
    return value.asnumpy() if isinstance(value, Tensor) else value


def _kept(lengths: np.ndarray, width: int, overflow: str) -> np.ndarray:
    """The places of the samples that take part."""
    over = lengths > width if isinstance(width, int) else np.zeros(len(lengths), bool)
    if overflow == "error" and over.any():
        place = int(over.argmax())
        raise LengthError(
            f"sample {place} has length {int(lengths[place])}, longer than width={width}: widen the rows, or pass "
            "overflow='drop' or overflow='truncate'"
        )
    kept = np.flatnonzero(~over) if overflow == "drop" else np.arange(len(lengths))
    if not len(kept):
        raise DatasetError(f"every sample is longer than width={width}; widen the rows")
    return kept


def _refuse_unknown(names: Sequence[str], **arguments: Iterable[str]) -> None:
    for argument, given in arguments.items():
        unknown = sorted(set(given) - set(names))
        if unknown or isinstance(given, str):
            raise DatasetError(
                f"{argument}={unknown or given}: there is no such column; the samples have {', '.join(names)}"
            )
    clash = sorted(set(ADDED) & set(names))
    if clash:
        raise DatasetError(f"the samples have columns called {', '.join(clash)}, which packing adds; rename them")
    if not arguments["packed"]:
        raise DatasetError("packed= names no column; name those that are as long as lengths= says")
