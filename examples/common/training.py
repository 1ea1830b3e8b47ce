"""The training loop of every example: steps, validation, best epoch, and a checkpoint after every epoch.

A run can be interrupted at any moment, by Ctrl-C or by force, and goes on from
the end of its last whole epoch: parameters, optimizer slots, the loss scaler,
the best parameters so far and the history are in the checkpoint; random numbers
are keyed by epoch and step (`examples.common.randomness`) and need no state.
"""

from __future__ import annotations

import math
import os
import resource
import sys
import time
from collections.abc import Iterable, Sequence, Sized
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Callable, Protocol

import numpy as np
from mindspore import Parameter, Tensor
from tqdm import tqdm

from examples.common import checkpoint
from examples.common.errors import CheckpointError, UsageError

__all__ = ["Epoch", "Progress", "Stateful", "Step", "Task", "peak_memory", "summary", "train"]


class Stateful(Protocol):
    """Something with a state that JSON can express, for example `ascend_fixes.amp.LossScaler`."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> Any: ...


@dataclass(frozen=True)
class Step:
    """What one training step returned: its loss, and whether gradients left the range so that it was not applied."""

    loss: float
    overflowed: bool


@dataclass(frozen=True)
class Task:
    """One training run, as the loop sees it.

    Attributes:
        settings: everything that must be equal for a checkpoint to fit, as JSON.
        batches: the batches of an epoch, in order.
        step: runs one batch.
        validate: the validation metric (higher is better) and the validation loss.
        parameters: model parameters, without the optimizer's.
        slots: the optimizer's own parameters: moments, counters, learning rates.
        scaler: the loss scaler, if there is one.
        average: what is validated, and in the end used, is the exponentially weighted mean of the
            parameters at the ends of the epochs so far, in which each epoch has ``average`` times the
            weight of the one after it; 0 for the last parameters alone.
        by_loss: the best epoch is the one with the lowest validation loss, which is less noisy on a
            small validation set, instead of the one with the highest metric (the loss breaks ties).
    """

    settings: dict[str, Any]
    batches: Callable[[int], Sequence[Any]]
    step: Callable[[Any], Step]
    validate: Callable[[], tuple[float, float]]
    parameters: Sequence[Parameter]
    slots: Sequence[Parameter]
    scaler: Stateful | None = None
    average: float = 0.0
    by_loss: bool = False


@dataclass(frozen=True)
class Epoch:
    """One finished epoch: the loss of every step, steps that overflowed, wall seconds with validation, its outcome."""

    losses: list[float]
    overflowed: int
    seconds: float
    validation: float
    validation_loss: float


@dataclass
class Progress:
    """What the checkpoint holds besides the parameters: epochs, averaged and best parameters by name."""

    epochs: list[Epoch] = field(default_factory=list)
    average: dict[str, np.ndarray] = field(default_factory=dict)
    best: dict[str, np.ndarray] = field(default_factory=dict)
    best_epoch: int = -1
    peak_memory: float = 0.0


def train(task: Task, epochs: int, path: Path, resume: bool, title: str) -> Progress:
    """Train for ``epochs`` epochs, and leave the parameters of the best one in the network.

    Args:
        task: what to train.
        epochs: how many epochs the whole run has, those of an earlier process included.
        path: the checkpoint. A fresh run replaces it before its first step.
        resume: go on from the checkpoint at ``path``, if the run had come to writing one.
        title: stands before the progress bar.

    Raises:
        CheckpointError: the checkpoint is damaged or was written with other settings.
        UsageError: the checkpoint has more than ``epochs`` epochs.
    """
    resume = resume and path.exists()
    progress = _restore(task, path) if resume else Progress()
    if len(progress.epochs) > epochs:
        raise UsageError(f"--epochs {epochs}: the run in {path.parent} already has {len(progress.epochs)}")
    if not resume:
        _save(task, progress, path)
    parent = os.getppid()
    for number in range(len(progress.epochs), epochs):
        started = time.perf_counter()
        batches = task.batches(number)
        losses, overflowed = [], 0
        for batch in _bar(batches, f"{title}, epoch {number + 1}/{epochs}"):
            _end_with(parent)
            step = task.step(batch)
            losses.append(step.loss)
            overflowed += step.overflowed
        current = _values(task.parameters)
        progress.average = _mix(progress.average, number, current, task.average)
        _assign(task.parameters, progress.average)
        validation, validation_loss = task.validate()
        _assign(task.parameters, current)
        seconds = time.perf_counter() - started
        progress.epochs.append(Epoch(losses, overflowed, seconds, validation, validation_loss))
        if number == _best(progress.epochs, task.by_loss):
            progress.best_epoch = number
            progress.best = progress.average
        progress.peak_memory = max(progress.peak_memory, peak_memory())
        _end_with(parent)
        _save(task, progress, path)
    _assign(task.parameters, progress.best)
    return progress


def _end_with(parent: int) -> None:
    """Exit if the process that started this one was killed: a resumed run may be writing the same checkpoint."""
    if os.getppid() != parent:
        raise SystemExit("the run that started this training has ended")


def _best(epochs: Sequence[Epoch], by_loss: bool) -> int:
    """The best epoch so far; of equals the first. A loss that is not a number is the worst."""

    def rank(number: int) -> tuple[float, float]:
        epoch = epochs[number]
        loss = epoch.validation_loss if math.isfinite(epoch.validation_loss) else math.inf
        return (-loss, epoch.validation) if by_loss else (epoch.validation, -loss)

    return max(range(len(epochs)), key=rank)


def _values(parameters: Iterable[Parameter]) -> dict[str, np.ndarray]:
    return {parameter.name: parameter.asnumpy().copy() for parameter in parameters}


def _mix(mean: dict[str, np.ndarray], epochs: int, now: dict[str, np.ndarray], average: float) -> dict[str, np.ndarray]:
    """The mean of ``epochs`` epochs taken one epoch further, without a bias towards the first (as Adam's moments)."""
    weight = np.float32(1 / sum(average**age for age in range(epochs + 1)))
    return {name: (1 - weight) * mean.get(name, 0) + weight * value for name, value in now.items()}


def _bar(batches: Sized, title: str) -> Iterable[Any]:
    return tqdm(batches, desc=title, leave=False, file=sys.stderr, mininterval=0.5, dynamic_ncols=True)


def summary(progress: Progress) -> dict[str, Any]:
    """The numbers of a finished run that every example reports; seconds include compilation and validation."""
    seconds = [epoch.seconds for epoch in progress.epochs]
    history = [
        {
            "loss": float(np.mean(epoch.losses)),
            "validation": epoch.validation,
            "validation_loss": epoch.validation_loss,
            "elapsed": sum(seconds[: number + 1]),
            "overflowed": epoch.overflowed,
        }
        for number, epoch in enumerate(progress.epochs)
    ]
    return {
        "wall_seconds": sum(seconds),
        "epoch_seconds": float(np.median(seconds)),
        "steps": sum(len(epoch.losses) for epoch in progress.epochs),
        "overflowed": sum(epoch.overflowed for epoch in progress.epochs),
        "best_epoch": progress.best_epoch + 1,
        "validation": progress.epochs[progress.best_epoch].validation,
        "peak_memory_gb": progress.peak_memory,
        "losses": [loss for epoch in progress.epochs for loss in epoch.losses],
        "history": history,
    }


def peak_memory() -> float:
    """The largest resident size of this process so far, in GB (10^9 bytes)."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


# --- the checkpoint ----------------------------------------------------------------------------


def _save(task: Task, progress: Progress, path: Path) -> None:
    arrays = {f"parameters/{p.name}": p.asnumpy() for p in task.parameters}
    arrays.update({f"slots/{p.name}": p.asnumpy() for p in task.slots})
    for group in ("average", "best"):
        arrays.update({f"{group}/{name}": value for name, value in getattr(progress, group).items()})
    description = {
        "settings": task.settings,
        "epochs": [asdict(epoch) for epoch in progress.epochs],
        "best_epoch": progress.best_epoch,
        "peak_memory": progress.peak_memory,
        "scaler": task.scaler.state_dict() if task.scaler is not None else None,
    }
    checkpoint.save(path, checkpoint.Checkpoint(arrays, description))


def _restore(task: Task, path: Path) -> Progress:
    stored = checkpoint.load(path)
    arrays, description = dict(stored.arrays), stored.description
    try:
        for name, value in task.settings.items():
            if description["settings"].get(name) != value:
                raise CheckpointError(
                    f"{path}: made with {name} {description['settings'].get(name)!r}, this run has {value!r}"
                )
        progress = Progress(
            epochs=[Epoch(**epoch) for epoch in description["epochs"]],
            average=_group(arrays, "average"),
            best=_group(arrays, "best"),
            best_epoch=int(description["best_epoch"]),
            peak_memory=float(description["peak_memory"]),
        )
        _check(path, "parameters", task.parameters, arrays)
        _check(path, "slots", task.slots, arrays)
        if progress.epochs:
            _check(path, "average", task.parameters, arrays)
            _check(path, "best", task.parameters, arrays)
        if task.scaler is not None:
            task.scaler.load_state_dict(description["scaler"])
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path}: damaged ({type(error).__name__}: {error}); remove it to start afresh") from None
    _assign(task.parameters, {p.name: arrays[f"parameters/{p.name}"] for p in task.parameters})
    _assign(task.slots, {p.name: arrays[f"slots/{p.name}"] for p in task.slots})
    return progress


def _group(arrays: dict[str, np.ndarray], group: str) -> dict[str, np.ndarray]:
    return {name[len(group) + 1 :]: value for name, value in arrays.items() if name.startswith(f"{group}/")}


def _check(path: Path, group: str, parameters: Iterable[Parameter], arrays: dict[str, np.ndarray]) -> None:
    for parameter in parameters:
        value = arrays.get(f"{group}/{parameter.name}")
        if value is None or value.shape != tuple(parameter.shape):
            found = "missing" if value is None else f"of shape {value.shape}"
            raise CheckpointError(f"{path}: {group}/{parameter.name} is {found}, expected {tuple(parameter.shape)}")


def _assign(parameters: Iterable[Parameter], values: dict[str, np.ndarray]) -> None:
    for parameter in parameters:
        parameter.set_data(Tensor(values[parameter.name]))
