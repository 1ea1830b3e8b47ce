"""The loop of every training: epochs with validation, the best one, and a checkpoint after each.

A run can be interrupted at any moment, by Ctrl-C or by force, and goes on from the end of its last whole epoch: parameters,
optimizer slots, the loss scaler, the best parameters so far and the history are in the checkpoint; random numbers are keyed
by epoch and step (`examples.common.randomness`) and need no state.
"""

from __future__ import annotations

import math
import os
import resource
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from mindspore import Parameter
from tqdm import tqdm

from examples.common import checkpoint
from examples.common.checkpoint import Values, assign, group
from examples.common.files import ExampleError, expect


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
    average: Values = field(default_factory=dict)
    best: Values = field(default_factory=dict)
    best_epoch: int = 0
    peak_memory: float = 0.0


def train(run: Any, epochs: int, path: Path, resume: bool, title: str) -> Progress:
    """Train a `Trainer` up to ``epochs`` epochs, with a checkpoint at ``path`` after each; its best parameters stay in it.

    What is validated, and is best, is the running mean of the parameters at the ends of epochs, in which an epoch weighs
    ``run.average`` times as much as the next; 0 takes the last alone. Raises `ExampleError` where the checkpoint is
    damaged, was written with other settings, or has more epochs.
    """
    resume = resume and path.exists()
    progress = _restore(run, path) if resume else Progress()
    more = f"--epochs {epochs}: the run in {path.parent} already has {len(progress.epochs)}"
    expect(len(progress.epochs) <= epochs, more)
    if not resume:
        _save(run, progress, path)
    parent = os.getppid()
    for number in range(len(progress.epochs), epochs):
        started = time.perf_counter()
        steps = []
        for batch in tqdm(run.batches(number), f"{title}, epoch {number + 1}/{epochs}", leave=False, mininterval=0.5):
            _end_with(parent)
            steps.append(run.step(batch))
        now, before = _values(run.parameters), progress.average
        weight = np.float32(1 / sum(run.average**age for age in range(number + 1)))  # no bias towards the first epoch
        progress.average = {name: (1 - weight) * before.get(name, 0) + weight * value for name, value in now.items()}
        assign(run.parameters, progress.average)
        validated = run.evaluate("validation")
        assign(run.parameters, now)
        overflowed, seconds = sum(step.overflowed for step in steps), time.perf_counter() - started
        progress.epochs.append(Epoch([step.loss for step in steps], overflowed, seconds, *validated))
        ranks = [_rank(epoch, run.by_loss) for epoch in progress.epochs]
        if ranks.index(max(ranks)) == number:  # of equals the first is the best
            progress.best_epoch, progress.best = number, progress.average
        resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9  # the largest so far, in GB
        progress.peak_memory = max(progress.peak_memory, resident)
        _end_with(parent)
        _save(run, progress, path)
    assign(run.parameters, progress.best)
    return progress


def _end_with(parent: int) -> None:
    """Exit if the process that started this one was killed: a resumed run may be writing the same checkpoint."""
    if os.getppid() != parent:
        raise SystemExit("the run that started this training has ended")


def _rank(epoch: Epoch, by_loss: bool) -> tuple[float, float]:
    """How good an epoch is. A loss that is not a number is the worst."""
    loss = epoch.validation_loss if math.isfinite(epoch.validation_loss) else math.inf
    return (-loss, epoch.validation) if by_loss else (epoch.validation, -loss)


def summary(progress: Progress) -> dict[str, Any]:
    """The numbers of a finished run that every example reports; seconds include compilation and validation."""
    epochs, kept = progress.epochs, ("validation", "validation_loss", "overflowed")
    elapsed = np.cumsum([epoch.seconds for epoch in epochs]).tolist()
    history = [
        {"loss": float(np.mean(epoch.losses)), "elapsed": end, **{name: getattr(epoch, name) for name in kept}}
        for epoch, end in zip(epochs, elapsed)
    ]
    losses = [loss for epoch in epochs for loss in epoch.losses]
    return {
        "wall_seconds": elapsed[-1],
        "epoch_seconds": float(np.median([epoch.seconds for epoch in epochs])),
        "steps": len(losses),
        "overflowed": sum(epoch.overflowed for epoch in epochs),
        "best_epoch": progress.best_epoch + 1,
        "validation": epochs[progress.best_epoch].validation,
        "peak_memory_gb": progress.peak_memory,
        "losses": losses,
        "history": history,
    }


def _save(run: Any, progress: Progress, path: Path) -> None:
    if run.rank > 0:  # the first rank writes what all begin with when they resume
        return
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
    arrays, description = checkpoint.load(path)
    try:
        for name, value in run.settings.items():
            there = description["settings"].get(name)
            expect(there == value, f"{path}: made with {name} {there!r}, this run has {value!r}")
        epochs = [Epoch(**epoch) for epoch in description["epochs"]]
        best_epoch, peak = int(description["best_epoch"]), float(description["peak_memory"])
        kept = run.parameters if epochs else ()
        groups = {"parameters": run.parameters, "slots": run.slots, "average": kept, "best": kept}
        found = {name: group(arrays, path, name, own) for name, own in groups.items()}
        if run.scaler is not None:
            run.scaler.load_state_dict(description["scaler"])
    except ExampleError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise ExampleError(f"{path}: damaged ({type(error).__name__}: {error}); remove it to start afresh") from None
    assign(run.parameters, found["parameters"])
    assign(run.slots, found["slots"])
    return Progress(epochs, found["average"], found["best"], best_epoch, peak)


def _values(parameters: Iterable[Parameter]) -> Values:
    return {parameter.name: parameter.asnumpy().copy() for parameter in parameters}
