"""Epochs of batches that go on where they stopped: what every dataset of this toolbox has in common.

A source orders an epoch from the seed, the epoch and the lengths alone, and makes any batch of it. The position is
that of the consumer, not of the threads that run ahead of it, and is saved as plain numbers and strings.
"""

from __future__ import annotations

import abc
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Callable

import mindspore.dataset as ds
import numpy as np

from ascend_fixes.errors import AscendFixesError

__all__ = [
    "DatasetError",
    "Epochs",
    "Planned",
    "ResumableDataset",
    "StateError",
    "checked_lengths",
    "ragged_columns",
    "samples_of",
]

_LOOKED_AT = 100  # samples that tell which columns are ragged


class DatasetError(AscendFixesError, ValueError):
    """Samples, lengths, batch sizes or ranks from which no batches can be made."""


class StateError(AscendFixesError, ValueError):
    """A saved position that belongs to other data, sizes or another global batch."""


class Planned(Sequence):
    """Batches of an epoch, each described when it is asked for: of millions only numbers are kept.

    Args:
        numbers: the batches' own, in order.
        describe: what a batch of such a number is.
    """

    def __init__(self, numbers: Any, describe: Callable[[int], Any]) -> None:
        self._numbers, self._describe = numbers, describe

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return Planned(self._numbers[index], self._describe)
        return self._describe(int(self._numbers[index]))


class Epochs(abc.ABC):
    """Makes the batches of one rank, epoch after epoch, and keeps the consumer's position.

    Subclasses set ``names``, the columns of a batch, and say what an epoch is made of.
    """

    names: list[str]

    def __init__(self) -> None:
        self.epoch = self.step = 0
        self._start, self._producing = 0, 0

    @abc.abstractmethod
    def order(self, epoch: int) -> Sequence[Any]:
        """All global batches of an epoch, in order."""

    def count(self) -> int:
        """How many batches an epoch has."""
        return len(self.order(0))

    @abc.abstractmethod
    def batch(self, planned: Any) -> tuple[np.ndarray, ...]:
        """This rank's part of a global batch."""

    @abc.abstractmethod
    def identity(self) -> dict[str, Any]:
        """What a position belongs to; must be the same where it is loaded."""

    @abc.abstractmethod
    def sharing(self) -> dict[str, Any]:
        """How the global batch is shared out; may differ where ``global_rows`` of the identity is the same."""

    def begin(self) -> None:
        """A new iterator: it begins with the current epoch, in its middle only right after `load_state_dict`."""
        self._producing = self.epoch
        self.step = self._start

    def took(self) -> None:
        """The consumer has a further batch."""
        self.step += 1

    def ended(self) -> None:
        """The consumer has seen the epoch's end."""
        self.epoch, self.step = self.epoch + 1, 0

    def __iter__(self) -> Iterator[tuple[np.ndarray, ...]]:
        epoch, first = self._producing, self._start
        self._producing, self._start = epoch + 1, 0
        for planned in self.order(epoch)[first:]:
            yield self.batch(planned)

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "step": self.step, **self.identity(), **self.sharing()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        own, shared = self.identity(), self.sharing()
        if not isinstance(state, Mapping):
            raise StateError(f"state={_brief(state)} is no mapping; pass what state_dict() returned")
        missing = [name for name in ("epoch", "step", *own, *shared) if name not in state]
        if missing:
            raise StateError(f"state lacks {', '.join(map(repr, missing))}; pass what state_dict() returned")
        for name in own:
            if name != "global_rows" and repr(state[name]) != repr(own[name]):
                raise StateError(
                    f"state was saved with other {name} ({_brief(state[name])}, here {_brief(own[name])}); "
                    f"resume with the same data and settings"
                )
        if repr(state["global_rows"]) != repr(own["global_rows"]):
            raise StateError(
                f"state was saved by {state['num_shards']} rank(s) with {state['size']} {state['per']} each, here "
                f"{shared['num_shards']} have {shared['size']} {shared['per']}: the batches differ; choose "
                f"rows x num_shards as it was"
            )
        epoch, step = state["epoch"], state["step"]
        if not (type(epoch) is type(step) is int and 0 <= epoch < 1 << 63 and 0 <= step <= self.count()):
            raise StateError(f"state has epoch={_brief(epoch)}, step={_brief(step)}, which this data does not have")
        self.epoch, self.step, self._start = epoch, step, step


class ResumableDataset(ds.GeneratorDataset):
    """A pipeline over a source. A new iterator begins at the start of the current epoch.

    Operations put on top (``map``, ``repeat``) make a new pipeline, which no longer keeps the position.

    Attributes:
        batches: how many batches an epoch has, on every rank.
    """

    def __init__(self, source: Epochs):
        super().__init__(source, source.names, shuffle=False, python_multiprocessing=False)
        self.batches = source.count()

    def get_dataset_size(self) -> int:
        """The batches of an epoch."""
        return self.batches

    def create_tuple_iterator(self, *args: Any, **kwargs: Any) -> Iterator:
        """As in MindSpore; counts the batches that are taken."""
        self.source.begin()
        return _Counted(super().create_tuple_iterator(*args, **kwargs), self.source)

    def create_dict_iterator(self, *args: Any, **kwargs: Any) -> Iterator:
        """As in MindSpore; counts the batches that are taken."""
        self.source.begin()
        return _Counted(super().create_dict_iterator(*args, **kwargs), self.source)

    def state_dict(self) -> dict[str, Any]:
        """The position after the last batch that was taken, as plain numbers and strings."""
        return self.source.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue with exactly the batches that remained: the next iterator begins in the middle of its epoch.

        The number of ranks may be another one if the global batch is the same.

        Raises:
            StateError: for a state of other samples, sizes, seed or global batch; nothing is changed.
        """
        self.source.load_state_dict(state)


class _Counted:
    """An iterator of MindSpore's that notes how far its consumer has come."""

    def __init__(self, inner: Any, source: Epochs):
        self._inner, self._source = inner, source

    def __iter__(self) -> _Counted:
        iter(self._inner)
        return self

    def __next__(self) -> Any:
        try:
            batch = next(self._inner)
        except StopIteration:
            self._source.ended()
            raise
        self._source.took()
        return batch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def samples_of(dataset: Any, columns: Sequence[str] | None) -> tuple[Any, list[str]]:
    """Samples by place, and the names of their columns."""
    if isinstance(dataset, ds.Dataset):
        names = dataset.get_col_names()
        return list(dataset.create_tuple_iterator(num_epochs=1, output_numpy=True)), list(columns or names)
    if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        raise DatasetError(f"dataset={type(dataset).__name__} has no length and places; pass a sequence of samples")
    if len(dataset) == 0:
        raise DatasetError("dataset has no samples; pass at least one")
    first = dataset[0]
    if isinstance(first, Mapping):
        return dataset, list(columns or first)
    if columns is None:
        raise DatasetError("samples are tuples, whose parts have no names; pass columns=")
    return dataset, list(columns)


def ragged_columns(samples: Any, names: Sequence[str], lengths: Any) -> dict[str, int]:
    """Columns whose samples are as long as ``lengths`` says, from some samples spread over all."""
    lengths = np.asarray(lengths)
    if lengths.shape != (len(samples),):
        raise DatasetError(
            f"lengths has shape {lengths.shape} for {len(samples)} samples; with several lengths pass axes=, which says "
            "which column has which"
        )
    ragged = dict.fromkeys(names, 1)
    for place in np.unique(np.linspace(0, len(samples) - 1, _LOOKED_AT).astype(int)).tolist():
        sample = samples[place]
        values = [sample[name] for name in names] if isinstance(sample, Mapping) else sample
        for name, value in zip(names, values):
            if np.shape(value)[:1] != (lengths[place],):
                ragged.pop(name, None)
    if not ragged:
        raise DatasetError(f"no column of {', '.join(names)} has the lengths that lengths= gives; pass axes=")
    return ragged


def checked_lengths(lengths: Any, samples: int, width: int) -> np.ndarray:
    """int64 [samples, width]."""
    array = np.asarray(lengths)
    wanted = (samples,) if width == 1 else (samples, width)
    if array.shape != wanted or not np.issubdtype(array.dtype, np.integer) or array.min() < 0:
        raise DatasetError(
            f"lengths has shape {array.shape} and dtype {array.dtype}; pass non-negative integers of shape {wanted}"
        )
    return array.astype(np.int64).reshape(samples, width)


def _brief(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else text[:37] + "..."
