"""Data parallel training: the ranks that `msrun` starts, and what each of them computes of a batch.

Every rank runs the same program on the same batches and takes its own rows of each; MindSpore averages the gradients.
Outside such a run there is one rank, and everything here leaves its input as it is.
"""

from __future__ import annotations

import importlib.util
import shutil
import socket
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Tensor, ops
from mindspore.communication import GlobalComm, get_group_size, get_rank, init

__all__ = ["command", "mean", "own_folder", "rows", "share", "start"]

_CHECKPOINT = "checkpoint.npz"


def command(module: str, count: int, folder: Path) -> list[str]:
    """What starts ``count`` ranks of a module; the first one's output is shown, the others' is in ``folder``/ranks.

    It starts the first ``python`` of PATH.
    """
    specification = importlib.util.find_spec(module)
    assert specification is not None and specification.origin is not None
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = [f"--worker_num={count}", f"--local_worker_num={count}", f"--master_port={port}", "--join=True"]
    options += [f"--log_dir={folder.resolve() / 'ranks'}", "--tail_worker_log=0"]
    return [sys.executable, "-m", "mindspore.parallel.cluster.run", *options, specification.origin]


def start(count: int) -> None:
    """Make this process one of ``count`` data-parallel ranks."""
    ms.set_context(mode=ms.GRAPH_MODE)
    init()
    ms.set_auto_parallel_context(parallel_mode=ms.ParallelMode.DATA_PARALLEL, gradients_mean=True, device_num=count)


def _here() -> tuple[int, int]:
    """The number of this rank, and how many there are."""
    return (get_rank(), get_group_size()) if GlobalComm.INITED else (0, 1)


def own_folder(folder: Path, resume: bool) -> Path:
    """Where this rank writes: the first one to ``folder``, the others below it, beginning with the first one's checkpoint."""
    rank, _ = _here()
    if rank == 0:
        return folder
    own = folder / f"rank{rank}"
    own.mkdir(exist_ok=True)
    (own / _CHECKPOINT).unlink(missing_ok=True)
    if resume and (folder / _CHECKPOINT).exists():  # the first rank cannot replace it before all have taken a step
        shutil.copyfile(folder / _CHECKPOINT, own / _CHECKPOINT)
    return own


def rows(batch: int) -> int:
    """How many rows of a batch a rank has at most."""
    return -(-batch // _here()[1])


def share(arrays: Iterable[np.ndarray], axes: Mapping[int, int] | None = None) -> list[np.ndarray]:
    """This rank's rows of a batch: every n-th; of a batch with fewer rows than ranks, one that another rank has too.

    Args:
        arrays: of the whole batch.
        axes: the axis of the rows, for those arrays, by position, in which it is not the first.
    """
    arrays = list(arrays)
    rank, count = _here()
    if count == 1:
        return arrays
    size = len(arrays[0])
    own = np.arange(rank, size, count) if rank < size else np.array([rank % size])
    return [np.take(array, own, (axes or {}).get(number, 0)) for number, array in enumerate(arrays)]


def mean(value: float) -> float:
    """The mean of a number over all ranks; each of them has to ask."""
    _, count = _here()
    if count == 1:
        return value
    return float(ops.AllReduce()(Tensor([value], ms.float32)).asnumpy()[0]) / count
