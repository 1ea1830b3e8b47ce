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
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from mindspore import Parameter, Tensor
from tqdm import tqdm

from examples.common import checkpoint
from examples.common.files import CheckpointError, UsageError

__all__ = ["Epoch", "Progress", "Step", "peak_memory", "summary", "train"]


@dataclass(frozen=True)
class Step:
    """What one training step returned: its loss, and whether gradients left the range so that it was not applied."""

    loss: float
    overflowed: bool


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


def train(run: Any, epochs: int, path: Path, resume: bool, title: str) -> Progress:
    """Train for ``epochs`` epochs, and leave the parameters of the best one in the network.

    What is validated, and in the end used, is the exponentially weighted mean of the parameters at the ends of the epochs
    so far, in which each epoch has ``run.average`` times the weight of the one after it; 0 for the last parameters alone.
    The best epoch has the highest validation metric, of equals the lowest loss; with ``run.by_loss``, the lowest loss, which
    is less noisy on a small validation set.

    Args:
        run: what to train: the `trainer.Trainer`, or something with its attributes.
        epochs: how many epochs the whole run has, those of an earlier process included.
        path: the checkpoint. A fresh run replaces it before its first step.
        resume: go on from the checkpoint at ``path``, if the run had come to writing one.
        title: stands before the progress bar.

    Raises:
        CheckpointError: the checkpoint is damaged or was written with other settings.
        UsageError: the checkpoint has more than ``epochs`` epochs.
    """
    resume = resume and path.exists()
    progress = _restore(run, path) if resume else Progress()
    if len(progress.epochs) > epochs:
        raise UsageError(f"--epochs {epochs}: the run in {path.parent} already has {len(progress.epochs)}")
    if not resume:
        _save(run, progress, path)
    parent = os.getppid()
    for number in range(len(progress.epochs), epochs):
        started = time.perf_counter()
        steps = []
        for batch in tqdm(run.batches(number), f"{title}, epoch {number + 1}/{epochs}", leave=False, mininterval=0.5):
            _end_with(parent)
            steps.append(run.step(batch))
        current = _values(run.parameters)
        progress.average = _mix(progress.average, number, current, run.average)
        _assign(run.parameters, progress.average)
        validated = run.validate()
        _assign(run.parameters, current)
        overflowed = sum(step.overflowed for step in steps)
        seconds = time.perf_counter() - started
        progress.epochs.append(Epoch([step.loss for step in steps], overflowed, seconds, *validated))
        if number == _best(progress.epochs, run.by_loss):
            progress.best_epoch = number
            progress.best = progress.average
        progress.peak_memory = max(progress.peak_memory, peak_memory())
        _end_with(parent)
        _save(run, progress, path)
    _assign(run.parameters, progress.best)
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


def _save(run: Any, progress: Progress, path: Path) -> None:
    groups = {"parameters": _values(run.parameters), "slots": _values(run.slots)}
    groups.update(average=progress.average, best=progress.best)
    arrays = {f"{group}/{name}": value for group, values in groups.items() for name, value in values.items()}
    description = {
        "settings": run.settings,
        "epochs": [asdict(epoch) for epoch in progress.epochs],
        "best_epoch": progress.best_epoch,
        "peak_memory": progress.peak_memory,
        "scaler": run.scaler.state_dict() if run.scaler is not None else None,
    }
    checkpoint.save(path, checkpoint.Checkpoint(arrays, description))


def _restore(run: Any, path: Path) -> Progress:
    stored = checkpoint.load(path)
    description = stored.description
    try:
        for name, value in run.settings.items():
            if description["settings"].get(name) != value:
                raise CheckpointError(
                    f"{path}: made with {name} {description['settings'].get(name)!r}, this run has {value!r}"
                )
        epochs = [Epoch(**epoch) for epoch in description["epochs"]]
        best_epoch, peak = int(description["best_epoch"]), float(description["peak_memory"])
        parameters, slots = (
            _group(stored, path, group) for group in ((run.parameters, "parameters"), (run.slots, "slots"))
        )
        average, best = (_group(stored, path, (run.parameters if epochs else (), name)) for name in ("average", "best"))
        if run.scaler is not None:
            run.scaler.load_state_dict(description["scaler"])
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path}: damaged ({type(error).__name__}: {error}); remove it to start afresh") from None
    _assign(run.parameters, parameters)
    _assign(run.slots, slots)
    return Progress(epochs, average, best, best_epoch, peak)


def _group(stored: checkpoint.Checkpoint, path: Path, group: tuple[Iterable[Parameter], str]) -> dict[str, np.ndarray]:
    """The stored values of a group of parameters, by name."""
    found = {}
    for parameter in group[0]:
        value = stored.arrays.get(f"{group[1]}/{parameter.name}")
        if value is None or value.shape != tuple(parameter.shape):
            there = "missing" if value is None else f"of shape {value.shape}"
            raise CheckpointError(f"{path}: {group[1]}/{parameter.name} is {there}, expected {tuple(parameter.shape)}")
        found[parameter.name] = value
    return found


def _assign(parameters: Iterable[Parameter], values: dict[str, np.ndarray]) -> None:
    for parameter in parameters:
        parameter.set_data(Tensor(values[parameter.name]))
