"""An embedding whose rows and optimizer state lie on the host.

`nn.EmbeddingLookup(target="CPU")` keeps the table as a Parameter of the graph; a table
larger than the device, or than memory, does not fit there. `Embedding` keeps the rows in
NumPy, or in memory-mapped files, and enters the graph as a host operator: forward, it
copies in the rows of the batch; backward, it takes their gradients out. `Embedding.update`
then sums them per row and updates the rows of the batch alone.

    embedding = Embedding(5_000_000, 64, path="table", optimizer="adam")
    net = Net(embedding)                                  # calls self.embedding(ids) in construct
    loss = train_step(ids, labels)                        # any training step over net.trainable_params()
    embedding.update()                                    # or: Model.train(..., callbacks=embedding.updater())
    embedding.flush()                                     # what a later run resumes from

The rows are no Parameter, so the gradient reaches them through ``anchor``, a Parameter of
one zero: its gradient is 0, or NaN where a row's gradient is not finite, which tells
every overflow check to skip the step.
"""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any, Callable, Optional, Union

import mindspore
import numpy as np
from mindspore import Parameter, Tensor, nn, ops
from mindspore.train import Callback as TrainCallback

from ascend_fixes.errors import AscendFixesError
from ascend_fixes.host._files import PathLike, read_arrays, write_arrays
from ascend_fixes.host._optimizers import OPTIMIZERS, Optimizer
from ascend_fixes.host._rows import Folder, Memory
from ascend_fixes.host.host_function import host_operator

__all__ = ["Embedding", "EmbeddingError"]

_KIND = "ascend_fixes.host.Embedding checkpoint 1"
_BLOCK = 256  # rows updated at a time: what an update allocates stays in the cache


class EmbeddingError(AscendFixesError, ValueError):
    """Sizes, ids, an optimizer or gradients that an embedding cannot work with."""


class Embedding(nn.Cell):
    """Rows by id: integer ids of any shape to float32 of shape (..., dim).

    Args:
        num_embeddings: rows; ids are 0 to num_embeddings - 1.
        dim: width of a row.
        path: a folder for the rows and their state, made if it is not there; what it holds from the last `flush` is
            resumed. None keeps them in memory.
        optimizer: ``"sgd"``, ``"adagrad"`` or lazy ``"adam"``.
        init: the first rows: None for a normal distribution of deviation 0.01 (as `nn.Embedding`), one number, or
            an array (num_embeddings, dim). Not used where ``path`` holds rows.
        seed: of the first rows.
        options: of the optimizer: ``learning_rate``, and ``initial`` (Adagrad) or ``beta1``, ``beta2``, ``epsilon``
            (Adam).

    Raises:
        EmbeddingError: sizes below 1, an unknown optimizer or option, init of a wrong shape; when called, an id out
            of range.
        FileError: the folder cannot be written, is damaged, holds other sizes, or is open elsewhere.
    """

    def __init__(
        self,
        num_embeddings: int,
        dim: int,
        path: Optional[PathLike] = None,
        optimizer: str = "adam",
        init: Union[float, np.ndarray, None] = None,
        seed: int = 0,
        **options: float,
    ) -> None:
        super().__init__()
        if num_embeddings < 1 or dim < 1:
            raise EmbeddingError(f"num_embeddings={num_embeddings}, dim={dim}: both must be at least 1")
        self._optimizer = _optimizer(optimizer, options)
        if isinstance(init, np.ndarray) and init.shape != (num_embeddings, dim):
            raise EmbeddingError(f"init has shape {init.shape}; pass ({num_embeddings}, {dim})")
        first = np.random.default_rng(seed) if init is None else init if isinstance(init, np.ndarray) else float(init)
        sizes = (num_embeddings, dim, self._optimizer.slots, first)
        self._store: Any = Memory(*sizes) if path is None else Folder(path, *sizes)
        self._shape = (num_embeddings, dim)
        self._pending: list[tuple[np.ndarray, np.ndarray]] = []
        self.anchor = Parameter(Tensor(np.zeros(1, np.float32)), name="anchor")
        self._pull = host_operator(
            self._rows_of, lambda ids, anchor: (*ids, dim), mindspore.float32, _backward(self._take_gradient)
        )

    def construct(self, ids: Tensor) -> Tensor:
        return self._pull(ids, self.anchor)

    # --- called by the graph -----------------------------------------------------------------------

    def _rows_of(self, ids: np.ndarray, anchor: np.ndarray) -> np.ndarray:
        self._check(ids)
        return self._store.arrays["rows"][ids]

    def _take_gradient(self, ids: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        """Keep the gradients of the batch for `update`; 0, or NaN if one of them is not finite."""
        self._pending.append((ids.reshape(-1), gradient.reshape(-1, self._shape[1]).astype(np.float32)))
        return np.array([0.0 if np.isfinite(gradient).all() else np.nan], np.float32)

    def _check(self, ids: np.ndarray) -> None:
        if ids.dtype.kind not in "iu":
            raise EmbeddingError(f"ids have dtype {ids.dtype}; pass integers")
        if ids.size and not 0 <= ids.min() <= ids.max() < self._shape[0]:
            wrong = ids[(ids < 0) | (ids >= self._shape[0])].flat[0]
            raise EmbeddingError(f"id {wrong} is not in 0 to {self._shape[0] - 1}; look unknown keys up with a default")

    # --- training ------------------------------------------------------------------------------------

    def update(self, scale: float = 1.0, learning_rate: Optional[float] = None) -> bool:
        """Apply the gradients since the last update to their rows; call it after every step that was taken.

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
        if scale != 1:
            gradient = gradient / np.float32(scale)
        if not np.isfinite(gradient).all():
            self.discard()
            return False
        optimizer = self._optimizer
        if learning_rate is not None:
            optimizer = type(optimizer)(**{**asdict(optimizer), "learning_rate": learning_rate})
        arrays = self._store.arrays
        self._store.before_change(ids)
        self._pending = []
        self._store.step += 1
        for start in range(0, len(ids), _BLOCK):
            touched, part = ids[start : start + _BLOCK], gradient[start : start + _BLOCK]
            slots = {name: arrays[name][touched] for name in optimizer.slots}
            arrays["rows"][touched] = optimizer.update(arrays["rows"][touched], part, slots, self._store.step)
            for name, value in slots.items():
                arrays[name][touched] = value
        return True

    def discard(self) -> None:
        """Forget the gradients since the last update: what a skipped step calls instead of `update`."""
        self._wait()
        self._pending = []

    def _wait(self) -> None:
        """Let the step finish: a graph's call returns while its backward half runs; reading a Tensor waits for that."""
        self.anchor.asnumpy()

    def updater(self) -> TrainCallback:
        """A callback for `Model.train` that updates after every step."""
        return _Updater(self)

    # --- content -------------------------------------------------------------------------------------

    @property
    def step(self) -> int:
        """How many updates there were."""
        return self._store.step

    def rows(self, ids: Any) -> np.ndarray:
        """A copy of rows, float32 of shape (..., dim), outside any graph."""
        ids = np.asarray(ids.asnumpy() if isinstance(ids, Tensor) else ids)
        self._check(ids)
        return np.array(self._store.arrays["rows"][ids])

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
        write_arrays(path, _KIND, {**self._store.arrays, "step": np.array(self._store.step)})

    def load(self, path: PathLike) -> None:
        """Take over what `save` wrote for an embedding of these sizes and this optimizer.

        Raises:
            FileError: the file is missing, damaged or something else.
            EmbeddingError: its sizes or its optimizer differ. Nothing was changed.
        """
        arrays = read_arrays(path, _KIND, ("rows", "step"))
        step = int(arrays.pop("step"))
        shapes = {name: (array.shape, array.dtype.name) for name, array in arrays.items()}
        wanted = {name: (array.shape, array.dtype.name) for name, array in self._store.arrays.items()}
        if shapes != wanted:
            raise EmbeddingError(f"{path} holds {shapes}, this embedding has {wanted}; build one like it")
        self._store.before_change(np.arange(self._shape[0]))
        for name, array in arrays.items():
            self._store.arrays[name][...] = array
        self._store.step = step
        self.discard()


class _Updater(TrainCallback):
    def __init__(self, embedding: Embedding) -> None:
        super().__init__()
        self._embedding = embedding

    def on_train_step_end(self, run_context: Any) -> None:
        """Apply the step's gradients."""
        self._embedding.update()


def _backward(take: Callable) -> Callable:
    operator = host_operator(take, (1,), mindspore.float32)

    def bprop(ids, anchor, out, dout):  # type: ignore[no-untyped-def]
        return ops.zeros_like(ids), operator(ids, dout)

    return bprop


def _optimizer(name: str, options: dict[str, float]) -> Optimizer:
    if name not in OPTIMIZERS:
        raise EmbeddingError(f"optimizer={name!r} is none of {', '.join(OPTIMIZERS)}")
    known = [field.name for field in fields(OPTIMIZERS[name])]
    unknown = [option for option in options if option not in known]
    if unknown:
        raise EmbeddingError(f"{name} has no option {unknown[0]!r}; it has {', '.join(known)}")
    return OPTIMIZERS[name](**options)


def _summed(pending: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """The distinct ids, ascending, and the sum of the gradients of each."""
    ids = np.concatenate([ids for ids, _ in pending])
    gradient = np.concatenate([gradient for _, gradient in pending])
    if not len(ids):
        return ids.astype(np.int64), gradient
    order = np.argsort(ids, kind="stable")
    ordered = ids[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    return ordered[starts].astype(np.int64), np.add.reduceat(gradient[order], starts, axis=0)
