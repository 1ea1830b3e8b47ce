"""Positions of bucketed and packed datasets: saved anywhere, through JSON, they go on with exactly the batches that remained."""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np

from ascend_fixes import shapes


def made(recipe: dict[str, Any], ranks: int, rank: int) -> Any:
    """A dataset, the same from the same recipe."""
    random_ = np.random.default_rng(recipe["data"])
    lengths = random_.integers(1, 20, recipe["samples"])
    samples = [{"ids": np.arange(n, dtype=np.int32) + 100 * place} for place, n in enumerate(lengths)]
    shared = {"shuffle_seed": recipe["seed"], "num_shards": ranks, "shard_id": rank}
    rows = recipe["global_rows"] // ranks
    if recipe["packed"]:
        return shapes.pack_dataset(samples, lengths, width=24, rows=rows, **shared)
    buckets = shapes.Buckets(recipe["sizes"])
    return shapes.bucket_dataset(samples, lengths, buckets, batch_size=rows, carry=recipe["carry"], **shared)


def batches(dataset: Any) -> list[str]:
    """What is left of the epoch, as text."""
    return [str([np.asarray(part).tolist() for part in batch]) for batch in taking(dataset)]


def taking(dataset: Any) -> Any:
    return dataset.create_tuple_iterator(num_epochs=1, output_numpy=True)


def run(points: int, seed: int) -> dict[str, int]:
    """Stop at random batches of random epochs, and resume, at times on another number of ranks."""
    chance = random.Random(seed)
    found = {"points": points, "on other ranks": 0, "packed": 0, "batches compared": 0}
    for _ in range(points):
        recipe = {
            "data": chance.randrange(2**32),
            "samples": chance.randrange(3, 40),
            "seed": chance.choice((None, chance.randrange(2**31))),
            "global_rows": chance.choice((2, 4)),
            "packed": chance.random() < 0.3,
            "sizes": sorted({chance.randrange(1, 20), chance.randrange(1, 20), 20}),
            "carry": chance.random() < 0.5,
        }
        ranks, later = chance.choice((1, 2)), chance.choice((1, 2))
        stopped = made(recipe, ranks, 0)
        epoch, stop = chance.randrange(3), chance.randrange(stopped.batches + 1)
        for _ in range(epoch):
            batches(stopped)
        iterator = taking(stopped)
        for _ in range(stop):
            next(iterator)
        state = json.loads(json.dumps(stopped.state_dict()))
        for rank in range(later):
            resumed, whole = made(recipe, later, rank), made(recipe, later, rank)
            resumed.load_state_dict(state)
            for _ in range(epoch):
                batches(whole)
            wanted = [*batches(whole)[stop:], *batches(whole)]
            got = [*batches(resumed), *batches(resumed)]
            assert got == wanted, (recipe, ranks, later, epoch, stop)
            found["batches compared"] += len(got)
        found["on other ranks"] += ranks != later
        found["packed"] += recipe["packed"]
    return found
