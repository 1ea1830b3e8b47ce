"""An embedding whose rows and optimizer state lie on the host.

`nn.EmbeddingLookup(target="CPU")` keeps the table as a Parameter of the graph; a table
larger than the device, or than memory, does not fit there. `Embedding` keeps the rows in
NumPy, or in a memory-mapped file, and enters the graph as a host operator. Forward, it
copies in each distinct row of the batch once, and the graph spreads them over the ids;
backward, the graph sums the gradients of each row and they are taken out. `Embedding.update`
then updates the rows of the batch alone.

    embedding = Embedding(5_000_000, 64, path="table", optimizer="adam")
    net = Net(embedding)                                  # calls self.embedding(ids) in construct
    loss = train_step(ids, labels)                        # any training step over net.trainable_params()
    embedding.update()                                    # or: Model.train(..., callbacks=embedding.updater())
    embedding.flush()                                     # what a later run resumes from

The rows are no Parameter, so the gradient reaches them through ``anchor``, a Parameter of
one zero: its gradient is 0, or NaN where a row's gradient is not finite, which tells
every overflow check to skip the step.

In data parallel every rank holds all rows. The graph gathers ids and gradients from all
ranks, so every rank applies the same update and the ranks stay equal, bit for bit.
"""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any, Callable

import mindspore
import numpy as np
from mindspore import Parameter, Tensor, nn, ops
from mindspore.train import Callback as TrainCallback

from ascend_fixes import _mindspore
from ascend_fixes.errors import AscendFixesError
from ascend_fixes.files import FileError, PathLike, read_arrays, write_arrays
from ascend_fixes.host._host_function import host_operator
from ascend_fixes.host._optimizers import OPTIMIZERS, Optimizer
from ascend_fixes.host._rows import Folder, Memory

__all__ = ["Embedding", "EmbeddingError"]

_KIND, _EARLIER = "ascend_fixes.host.Embedding checkpoint 2", "ascend_fixes.host.Embedding checkpoint 1"
_BLOCK = 512  # records updated at a time: what an update allocates stays in the cache


class EmbeddingError(AscendFixesError, ValueError):
    """Sizes, ids, an optimizer or gradients that an embedding cannot work with."""


class Embedding(nn.Cell):
    """Rows by id: integer ids of any shape to float32 of shape (..., dim).

    Args:
        num_embeddings: rows; ids are 0 to num_embeddings - 1.
        dim: width of a row.
        path: a folder for the rows and their state, made if it is not there; what it holds from the last `flush` is
            resumed. None keeps them in memory. In data parallel, a folder for each rank.
        optimizer: ``"sgd"``, ``"adagrad"`` or lazy ``"adam"``.
        init: the first rows: None for a normal distribution of deviation 0.01 (as `nn.Embedding`), one number, or
            an array or Tensor (num_embeddings, dim). Not used where ``path`` holds rows.
        seed: of the first rows.
        distinct: how many distinct rows a call needs at most. So many are copied to the graph, and so many gradients
            back; None for as many as there are ids.
        options: of the optimizer: ``learning_rate``, and ``initial`` (Adagrad) or ``beta1``, ``beta2``, ``epsilon``
            (Adam).

    Raises:
        EmbeddingError: sizes below 1, an unknown optimizer or option, init of a wrong shape; when called, an id out
            of range, or more distinct ids than announced.
        FileError: the folder cannot be written, is damaged, holds other sizes, or is open elsewhere.
    """

    def __init__(
        self,
        num_embeddings: int,
        dim: int,
        path: PathLike | None = None,
        optimizer: str = "adam",
        init: float | np.ndarray | Tensor | None = None,
        seed: int = 0,
        distinct: int | None = None,
        **options: float,
    ) -> None:
        super().__init__()
        if num_embeddings < 1 or dim < 1:
            raise EmbeddingError(f"num_embeddings={num_embeddings}, dim={dim}: both must be at least 1")
        if distinct is not None and distinct < 1:
            raise EmbeddingError(f"distinct={distinct} rows make no call; pass at least 1, or None")
        self._optimizer = _optimizer(optimizer, options)
        sizes = (num_embeddings, dim, self._optimizer.slots, _first(init, seed, (num_embeddings, dim)))
        self._store: Any = Memory(*sizes) if path is None else Folder(path, *sizes)
        self._count, self.dim = num_embeddings, dim
        self._most = num_embeddings if distinct is None else min(distinct, num_embeddings)
        self._ranks, self._mean = _mindspore.data_parallel()
        self._pending: list[tuple[np.ndarray, np.ndarray]] = []
        self.anchor = Parameter(Tensor(np.zeros(1, np.float32)), name="anchor")
        most = self._most
        self._pull = host_operator(
            self._rows_of,
            [
                lambda ids, anchor: (min(*ids, most), dim),
                lambda ids, anchor: ids,
                lambda ids, anchor: (min(*ids, most),),
            ],
            [mindspore.float32, mindspore.int32, mindspore.int64],
            _backward(self._take_gradient, self._ranks),
        )

    def construct(self, ids: Tensor) -> Tensor:
        if not isinstance(ids, Tensor):
            ids = Tensor(ids)
        if 0 in ids.shape:  # MindSpore hands no empty array to a host function
            return ops.zeros((*ids.shape, self.dim), mindspore.float32)
        rows, places, _ = self._pull(ops.reshape(ids, (-1,)), self.anchor)
        return ops.reshape(ops.gather(rows, places, 0), (*ids.shape, self.dim))

    # --- called by the graph -----------------------------------------------------------------------

    def _rows_of(self, ids: np.ndarray, anchor: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The distinct rows, where each id's row is among them, and the distinct ids; filled up with 0 and -1."""
        found, places = np.unique(ids, return_inverse=True)
        self._check(found)
        size = min(len(ids), self._most)
        if len(found) > size:
            raise EmbeddingError(f"a call has {len(found)} distinct ids for distinct={self._most}; raise it")
        rows, distinct = np.zeros((size, self.dim), np.float32), np.full(size, -1, np.int64)
        distinct[: len(found)] = found
        parts = self._store.records.reshape(-1, self.dim)  # of a record, the row comes first
        parts.take(distinct[: len(found)] * (len(parts) // self._count), 0, rows[: len(found)], "clip")
        return rows, places.astype(np.int32), distinct

    def _take_gradient(self, distinct: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        """Keep the gradients of the batch for `update`; 0, or NaN if one of them is not finite."""
        self._pending.append((distinct, gradient))
        return np.array([0.0 if _is_finite(gradient) else np.nan], np.float32)

    def _check(self, ids: np.ndarray) -> None:
        if ids.dtype.kind not in "iu":
            raise EmbeddingError(f"ids have dtype {ids.dtype}; pass integers")
        if ids.size and not 0 <= ids.min() <= ids.max() < self._count:
            wrong = ids[(ids < 0) | (ids >= self._count)].flat[0]
            raise EmbeddingError(f"id {wrong} is not in 0 to {self._count - 1}; look unknown keys up with a default")

    # --- training ------------------------------------------------------------------------------------

    def update(self, scale: float = 1.0, learning_rate: float | None = None) -> bool:
        """Apply the gradients since the last update to their rows; call it after every step that was taken.

        A row whose gradient is zero in every element, as that of an id which only pads, is not touched.

        Args:
            scale: of the loss; gradients are divided by it.
            learning_rate: for this update instead of the optimizer's own.

        Returns:
            Whether rows were updated: False for no gradients, or for ones that are not finite, which are discarded.

        Raises:
            EmbeddingError: a scale that is not positive and finite.
            FileError: the journal cannot be written; no row was changed and the gradients are kept.
        """
        if not 0 < scale < float("inf"):
            raise EmbeddingError(f"scale={scale} is no loss scale; pass a positive number")
        self._wait()
        if not self._pending:
            return False
        ids, gradient = _summed(self._pending)
        divisor = scale * self._ranks if self._mean else scale
        if divisor != 1:
            gradient = gradient / np.float32(divisor)
        if not _is_finite(gradient):
            self.discard()
            return False
        optimizer = self._optimizer
        if learning_rate is not None:
            optimizer = type(optimizer)(**{**asdict(optimizer), "learning_rate": learning_rate})
        self._store.before_change(ids)
        self._pending = []
        self._store.step += 1
        for start in range(0, len(ids), _BLOCK):
            touched = ids[start : start + _BLOCK]
            records = self._store.records.take(touched, axis=0)
            rows, *state = np.split(records, records.shape[1] // self.dim, axis=1)
            optimizer.update(rows, gradient[start : start + _BLOCK], state, self._store.step)
            self._store.records[touched] = records
        return True

    def discard(self) -> None:
        """Forget the gradients since the last update: what a skipped step calls instead of `update`."""
        self._wait()
        self._pending = []

    def follow(self, result: Any, accumulate: int = 1) -> bool:
        """Do what a step of `amp.TrainStep` did: update the rows, forget their gradients, or keep them for later.

        Args:
            result: the `amp.StepResult` of the step.
            accumulate: as of the `TrainStep`; the gradients of so many calls are averaged.

        Returns:
            Whether rows were updated.

        Raises:
            FileError: as `update`.
        """
        _, finite, scale, _, _, updated = result  # inside other cells it is a plain tuple
        if bool(updated):
            return self.update(scale=float(scale) * accumulate)
        if not bool(finite):
            self.discard()
        return False

    def updater(self, scale: float = 1.0) -> TrainCallback:
        """A callback for `Model.train` that updates the rows after every step that was taken.

        With `amp.TrainStep` and with a loss scale manager it takes scale and overflow from the step's result.

        Args:
            scale: of the loss, where the optimizer divides by it (``FixedLossScaleManager(drop_overflow_update=False)``).
        """
        return _Updater(self, scale)

    def _wait(self) -> None:
        """Let the step finish: a graph's call returns while its backward half runs; reading a Tensor waits for that."""
        self.anchor.asnumpy()

    # --- content -------------------------------------------------------------------------------------

    @property
    def step(self) -> int:
        """How many updates there were."""
        return self._store.step

    def rows(self, ids: Any) -> np.ndarray:
        """A copy of rows, float32 of shape (..., dim), outside any graph."""
        ids = np.asarray(ids.asnumpy() if isinstance(ids, Tensor) else ids)
        if not ids.size:
            return np.empty((*ids.shape, self.dim), np.float32)
        self._check(ids)
        return np.array(self._store.records[ids, : self.dim])

    def flush(self) -> None:
        """Make the rows, their state and the step what a later `Embedding` of this path resumes from.

        Raises:
            FileError: it could not be written; the last complete flush stays.
        """
        self._store.flush()

    def close(self) -> None:
        """Let go of the files. What was not flushed is taken back when the path is opened again."""
        self._store.close()

    def save(self, path: PathLike) -> None:
        """Write rows, state and step to one npz file, atomically and without pickle.

        Raises:
            FileError: it cannot be written; the old file is unchanged.
        """
        optimizer = np.array(list(self._optimizer.slots), "U")
        write_arrays(path, _KIND, {"records": self._store.records, "slots": optimizer, "step": np.array(self.step)})

    def load(self, path: PathLike) -> None:
        """Take over what `save` wrote for an embedding of these sizes and this optimizer.

        Raises:
            FileError: the file is missing, damaged or something else. Nothing was changed.
            EmbeddingError: its sizes or its optimizer differ. Nothing was changed.
        """
        arrays = read_arrays(path, _KIND, ("records", "slots", "step"), earlier=_EARLIER)
        slots, records = arrays["slots"].tolist(), arrays["records"]
        found = (records.shape, records.dtype.name, slots)
        wanted = (self._store.records.shape, "float32", list(self._optimizer.slots))
        if found != wanted:
            raise EmbeddingError(f"{path} holds rows with their state {found}, this has {wanted}; build one like it")
        step = arrays["step"]
        if step.shape != () or step.dtype.kind not in "iu" or step < 0:
            raise FileError(f"{path} has step={step!r}, not a number of updates; restore it from a copy")
        self.discard()
        self._store.before_change(np.arange(self._count))
        self._store.records[...] = records
        self._store.step = int(step)


class _Updater(TrainCallback):
    def __init__(self, embedding: Embedding, scale: float) -> None:
        super().__init__()
        self._embedding, self._scale = embedding, scale

    def on_train_step_end(self, run_context: Any) -> None:
        """Apply the step's gradients, unless the step was skipped."""
        from ascend_fixes.amp import TrainStep

        arguments = run_context.original_args()
        outputs = arguments.net_outputs
        cells = [cell for _, cell in arguments.train_network.cells_and_names()]
        steps = [cell for cell in cells if isinstance(cell, (TrainStep, nn.TrainOneStepWithLossScaleCell))]
        if steps and isinstance(steps[0], TrainStep):
            self._embedding.follow(outputs, steps[0].accumulate)
        elif steps:
            _, overflow, scale = outputs[:3]
            if bool(overflow):
                self._embedding.discard()
            else:
                self._embedding.update(float(scale))
        else:
            self._embedding.update(self._scale)


def _backward(take: Callable, ranks: int) -> Callable:
    operator = host_operator(take, (1,), mindspore.float32)
    if ranks > 1:
        gather = ops.AllGather()

        def bprop_of_all_ranks(ids, anchor, out, dout):  # type: ignore[no-untyped-def]
            return ops.zeros_like(ids), operator(gather(out[2]), gather(dout[0]))

        return bprop_of_all_ranks

    def bprop(ids, anchor, out, dout):  # type: ignore[no-untyped-def]
        return ops.zeros_like(ids), operator(out[2], dout[0])

    return bprop


def _optimizer(name: str, options: dict[str, float]) -> Optimizer:
    if name not in OPTIMIZERS:
        raise EmbeddingError(f"optimizer={name!r} is none of {', '.join(OPTIMIZERS)}")
    known = [field.name for field in fields(OPTIMIZERS[name])]
    unknown = [option for option in options if option not in known]
    if unknown:
        raise EmbeddingError(f"{name} has no option {unknown[0]!r}; it has {', '.join(known)}")
    return OPTIMIZERS[name](**options)


def _first(init: Any, seed: int, shape: tuple[int, int]) -> np.random.Generator | np.ndarray | float:
    """What the first rows are made from."""
    if init is None:
        return np.random.default_rng(seed)
    rows = np.asarray(init.asnumpy() if isinstance(init, Tensor) else init)
    if rows.dtype.kind not in "iuf" or rows.shape not in ((), shape):
        raise EmbeddingError(f"init has shape {rows.shape} and dtype {rows.dtype}; pass numbers {shape}, or one number")
    return rows if rows.shape else float(rows)


def _is_finite(gradient: np.ndarray) -> bool:
    flat = gradient.reshape(-1)
    with np.errstate(all="ignore"):
        return bool(
            np.isfinite(np.dot(flat, flat)) or np.isfinite(flat).all()
        )  # squares may overflow where these do not


def _summed(pending: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """The distinct ids with a gradient that is not zero, ascending, and the sum of the gradients of each."""
    ids, gradient = pending[0] if len(pending) == 1 else (np.concatenate(parts) for parts in zip(*pending))
    touched = (ids >= 0) & gradient.any(axis=1)
    if not touched.all():
        ids, gradient = ids[touched], gradient[touched]
    if (np.diff(ids) > 0).all():  # of one call, on one rank
        return ids, gradient
    order = np.argsort(ids, kind="stable")
    ordered = ids[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    return ordered[starts], np.add.reduceat(gradient[order], starts, axis=0)
