"""Training stopped anywhere: step, scale and dataset are saved, and it goes on to the bit as if it had not stopped.

Two `TrainStep`s of one kind are compiled once. One trains over a bucketed dataset, with overflows at random calls, and is saved at a
random call: a checkpoint of the step and the state of the dataset, as files. The other, which has trained with something else
meanwhile, takes them over; losses, events, scales and all Parameters have to be those of the first one that went on.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mindspore
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from ascend_fixes import shapes
from ascend_fixes.amp import LossScaler, Policy, TrainStep

SIZES, WORDS, DIM = [3, 6], 12, 4


class Tagger(nn.Cell):
    """A loss over a padded batch, batch statistics, an average that the forward pass writes, and a fault in the gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(WORDS, DIM)
        self.norm = nn.BatchNorm1d(DIM, momentum=0.5)
        self.head = nn.Dense(DIM, 2)
        self.average = Parameter(np.zeros(DIM, np.float32), name="average", requires_grad=False)

    def construct(self, ids: Tensor, mask: Tensor, weight: Tensor, fault: Tensor) -> Any:
        pooled = (self.table(ids) * mask.expand_dims(-1)).sum(1) / mask.sum(1, keepdims=True)
        ops.assign(self.average, self.average * 0.9 + pooled.mean(0) * fault)
        scores = self.head(self.norm(pooled))
        return (ops.square(scores).sum(1) * weight).sum() / weight.sum() * fault + (
            self.average * 0.0
        ).sum(), weight.sum()


@dataclass(frozen=True)
class Kind:
    """What a `TrainStep` is made with."""

    name: str
    optimizer: Any
    scaler: dict[str, Any]
    options: dict[str, Any]


KINDS = (
    Kind("adam", lambda w: nn.Adam(w, 0.05), {"initial": 256.0, "growth_interval": 3}, {"clip_norm": 0.5}),
    Kind(
        "windows",
        lambda w: nn.Momentum(w, nn.exponential_decay_lr(0.1, 0.9, 400, 4, 1), 0.9),
        {"initial": 64.0, "growth_interval": 2, "hysteresis": 2},
        {"accumulate": 3, "weight_output": 1},
    ),
    Kind(
        "float16",
        lambda w: [nn.AdamWeightDecay(w[:1], 0.05), nn.SGD(w[1:], 0.05)],
        {"initial": 2.0**15, "growth_interval": 2},
        {"policy": Policy("compute=float16"), "accumulate": 2, "clip_norm": 1.0},
    ),
)


def built(kind: Kind) -> TrainStep:
    net = Tagger()
    return TrainStep(net, kind.optimizer(net.trainable_params()), LossScaler(**kind.scaler), **kind.options).set_train()


def dataset(chance: random.Random) -> Any:
    """What makes a small bucketed dataset, the same one each time."""
    random_ = np.random.default_rng(chance.randrange(2**32))
    lengths = random_.integers(1, SIZES[-1] + 1, chance.randrange(4, 14))
    samples = [{"ids": random_.integers(1, WORDS, n).astype(np.int32), "mask": np.ones(n, np.float32)} for n in lengths]
    seed, carry = chance.randrange(2**31), chance.random() < 0.5
    options = {"batch_size": 2, "shuffle_seed": seed, "carry": carry}
    return lambda: shapes.bucket_dataset(samples, lengths, shapes.Buckets(SIZES), **options)


def everything(step: TrainStep) -> dict[str, bytes]:
    return {parameter.name: parameter.asnumpy().tobytes() for parameter in step.get_parameters()}


def train(step: TrainStep, batches: Any, faults: Any) -> list[tuple[Any, ...]]:
    """A step for each batch; what it said."""
    said = []
    for batch, fault in zip(batches, faults):
        result = step(*map(Tensor, batch), Tensor(np.float32(fault)))
        said.append((result.loss.asnumpy().tobytes(), result.event, float(result.scale), float(result.new_scale)))
    return said


def epochs(data: Any, count: int) -> Any:
    for _ in range(count):
        yield from data.create_tuple_iterator(num_epochs=1, output_numpy=True)


def save(step: TrainStep, data: Any, folder: Path) -> None:
    mindspore.save_checkpoint(step, str(folder / "step.ckpt"))
    state = {"data": data.state_dict(), "scaler": step.scaler.state_dict()}
    (folder / "state.json").write_text(json.dumps(state), encoding="utf-8")


def load(step: TrainStep, data: Any, folder: Path) -> None:
    arrays = mindspore.load_checkpoint(str(folder / "step.ckpt"))
    missing, foreign = mindspore.load_param_into_net(step, arrays, strict_load=True)
    assert not missing and not foreign, (missing, foreign)
    state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    assert step.scaler.state_dict() == state["scaler"], "the scale of the checkpoint is not that of the state"
    step.scaler.load_state_dict(state["scaler"])
    data.load_state_dict(state["data"])


def point(first: TrainStep, other: TrainStep, folder: Path, chance: random.Random) -> tuple[int, int]:
    """Stop and resume once; the number of steps compared, and of those that were skipped."""
    made, count = dataset(chance), 3
    data = made()
    total = sum(1 for _ in epochs(made(), count))
    rate = chance.choice((0.0, 0.1, 0.3))
    faults = [chance.choice((np.inf, np.nan, 1e30)) if chance.random() < rate else 1.0 for _ in range(total)]
    stop = chance.randrange(total + 1)
    running = epochs(data, count)
    first.scaler.load_state_dict({**first.scaler.state_dict(), "stuck_steps": 0})  # faults are no sign of a stuck run
    train(first, (next(running) for _ in range(stop)), faults[:stop])
    save(first, data, folder)
    wanted = train(first, running, faults[stop:]), everything(first)
    train(other, epochs(made(), 1), [chance.choice((1.0, np.inf)) for _ in range(chance.randrange(4))])
    resumed = made()
    load(other, resumed, folder)
    got = train(other, epochs(resumed, count), faults[stop:]), everything(other)
    assert got == wanted, (stop, faults, got[0], wanted[0])
    return total - stop, sum(event != "updated" for _, event, _, _ in wanted[0])


def run(points: int, folder: Path, seed: int, kinds: Sequence[Kind] = KINDS) -> dict[str, int]:
    """Stop and resume at random calls of random datasets, as often with each kind of step."""
    chance = random.Random(seed)
    found = {"points": points, "steps compared": 0, "of them without an update": 0}
    for place, kind in enumerate(kinds):
        mindspore.set_seed(seed)
        first, other = built(kind), built(kind)
        for _ in range(points // len(kinds) + (place < points % len(kinds))):
            compared, skipped = point(first, other, folder, chance)
            found["steps compared"] += compared
            found["of them without an update"] += skipped
    return found
