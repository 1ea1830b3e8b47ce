"""The training loop: averaging, best epoch, and going on from a checkpoint after any step."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from mindspore import Parameter, Tensor

from examples.common import checkpoint, loop, training
from examples.common.files import ExampleError
from examples.common.randomness import Stream, generator


class Momentum:
    """A training run in NumPy with everything a real one has: weights, a slot, a scaler, random numbers."""

    rank = 0

    def __init__(self, fail_at: int = -1, average: float = 0.0, settings: Any = None) -> None:
        self.weight = Parameter(Tensor(np.zeros(3, np.float32)), name="weight")
        self.slot = Parameter(Tensor(np.zeros(3, np.float32)), name="slot")
        self.scale = 8.0
        self.steps_left = fail_at
        self.validated: list[list[float]] = []
        self.settings, self.average, self.by_loss = settings or {"seed": 0}, average, False
        self.parameters, self.slots, self.scaler = [self.weight], [self.slot], self

    def batches(self, epoch: int) -> list[tuple[int, int]]:
        return [(epoch, number) for number in range(4)]

    def step(self, batch: tuple[int, int]) -> training.Step:
        if self.steps_left == 0:
            raise KeyboardInterrupt
        self.steps_left -= 1
        noise = generator(0, Stream.DROPOUT, *batch).normal(size=3).astype(np.float32)
        overflowed = batch[1] == 2
        self.scale *= 0.5 if overflowed else 1.25
        gradient = self.weight.asnumpy() - 1 + noise
        self.slot.set_data(Tensor(np.float32(0.9) * self.slot.asnumpy() + gradient))
        self.weight.set_data(Tensor(self.weight.asnumpy() - np.float32(0.1) * self.slot.asnumpy()))
        return training.Step(float((gradient**2).sum()) * self.scale, overflowed)

    def evaluate(self, part: str) -> tuple[float, float]:
        self.validated.append(self.weight.asnumpy().tolist())
        distance = float(np.abs(self.weight.asnumpy() - 1).sum())
        return -round(distance), distance

    def state_dict(self) -> dict[str, Any]:
        return {"scale": self.scale}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.scale = state["scale"]


def train(run: Momentum, path, epochs: int = 4, resume: bool = False) -> loop.Progress:
    return loop.train(run, epochs, path, resume, "test")


def same(one: loop.Progress, other: loop.Progress) -> bool:
    def plain(progress):
        epochs = [(e.losses, e.overflowed, e.validation, e.validation_loss) for e in progress.epochs]
        return epochs, progress.best_epoch, {name: value.tolist() for name, value in progress.best.items()}

    return plain(one) == plain(other)


@pytest.mark.parametrize("average", [0.0, 0.8])
@pytest.mark.parametrize("fail_at", [0, 1, 3, 4, 5, 11, 15])
def test_a_run_interrupted_at_any_step_goes_on_as_if_it_had_not_been(tmp_path, fail_at, average):
    whole, broken, resumed = Momentum(average=average), Momentum(fail_at, average), Momentum(average=average)
    expected = train(whole, tmp_path / "whole.npz")
    with pytest.raises(KeyboardInterrupt):
        train(broken, tmp_path / "checkpoint.npz")
    progress = train(resumed, tmp_path / "checkpoint.npz", resume=True)
    assert same(progress, expected)
    np.testing.assert_array_equal(resumed.weight.asnumpy(), whole.weight.asnumpy())
    np.testing.assert_array_equal(resumed.slot.asnumpy(), whole.slot.asnumpy())
    assert resumed.scale == whole.scale
    assert [epoch.overflowed for epoch in progress.epochs] == [1] * 4


def test_more_epochs_can_be_added_but_not_taken_away(tmp_path):
    expected = train(Momentum(), tmp_path / "whole.npz", epochs=4)
    train(Momentum(), tmp_path / "checkpoint.npz", epochs=2)
    assert same(train(Momentum(), tmp_path / "checkpoint.npz", epochs=4, resume=True), expected)
    with pytest.raises(ExampleError, match="--epochs 3: .* already has 4"):
        train(Momentum(), tmp_path / "checkpoint.npz", epochs=3, resume=True)


def test_a_fresh_run_replaces_an_old_checkpoint_before_its_first_step(tmp_path):
    train(Momentum(), tmp_path / "checkpoint.npz")
    with pytest.raises(KeyboardInterrupt):
        train(Momentum(fail_at=0), tmp_path / "checkpoint.npz")
    assert checkpoint.load(tmp_path / "checkpoint.npz").description["epochs"] == []


def test_the_best_epoch_is_kept_and_ties_go_to_the_smaller_loss(tmp_path):
    run = Momentum()
    progress = train(run, tmp_path / "checkpoint.npz", epochs=6)
    ranks = [(epoch.validation, -epoch.validation_loss) for epoch in progress.epochs]
    assert progress.best_epoch == ranks.index(max(ranks))
    assert run.weight.asnumpy().tolist() == run.validated[progress.best_epoch]
    assert len({epoch.validation for epoch in progress.epochs}) < len(progress.epochs), "no tie: the test shows nothing"


def test_the_best_epoch_can_be_chosen_by_loss_and_nan_is_never_best(tmp_path):
    run = Momentum()
    validations = iter([(0.5, math.nan), (0.6, 0.7), (0.9, 0.8), (0.6, 0.9)])
    run.evaluate, run.by_loss = lambda part: next(validations), True
    assert loop.train(run, 4, tmp_path / "checkpoint.npz", False, "test").best_epoch == 1


def test_what_is_validated_is_the_weighted_mean_of_the_epochs(tmp_path):
    plain, averaged = Momentum(), Momentum(average=0.8)
    train(plain, tmp_path / "plain.npz")
    train(averaged, tmp_path / "averaged.npz")
    for number, found in enumerate(averaged.validated):
        weights = [0.8 ** (number - epoch) for epoch in range(number + 1)]
        np.testing.assert_allclose(found, np.average(plain.validated[: number + 1], axis=0, weights=weights), rtol=1e-5)


@pytest.mark.parametrize("value", [None, np.ones(4)])
@pytest.mark.parametrize("group", ["parameters/weight", "slots/slot", "best/weight"])
def test_a_checkpoint_of_another_network_is_refused_and_changes_nothing(tmp_path, group, value):
    path = tmp_path / "checkpoint.npz"
    train(Momentum(), path, epochs=1)
    stored = checkpoint.load(path)
    arrays = {name: array for name, array in stored.arrays.items() if name != group}
    if value is not None:
        arrays[group] = value
    checkpoint.save(path, checkpoint.Checkpoint(arrays, stored.description))
    before, run = path.read_bytes(), Momentum()
    with pytest.raises(ExampleError, match=group):
        train(run, path, resume=True)
    assert path.read_bytes() == before
    assert run.weight.asnumpy().tolist() == run.slot.asnumpy().tolist() == [0, 0, 0]


def test_a_checkpoint_with_other_settings_or_a_broken_description_is_refused(tmp_path):
    path = tmp_path / "checkpoint.npz"
    train(Momentum(), path, epochs=1)
    with pytest.raises(ExampleError, match="made with seed 0, this run has 1"):
        train(Momentum(settings={"seed": 1}), path, resume=True)
    stored = checkpoint.load(path)
    for key in ("settings", "epochs", "scaler", "best_epoch"):
        description = {name: value for name, value in stored.description.items() if name != key}
        checkpoint.save(path, checkpoint.Checkpoint(stored.arrays, description))
        with pytest.raises(ExampleError, match="damaged"):
            train(Momentum(), path, resume=True)


def test_the_summary_is_json_and_adds_up(tmp_path):
    progress = train(Momentum(), tmp_path / "checkpoint.npz")
    summary = json.loads(json.dumps(loop.summary(progress)))
    assert summary["steps"] == len(summary["losses"]) == 16 and summary["overflowed"] == 4
    assert summary["wall_seconds"] == pytest.approx(summary["history"][-1]["elapsed"])
    assert 0.05 < summary["peak_memory_gb"] < 64
