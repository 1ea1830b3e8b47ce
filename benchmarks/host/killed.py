"""Processes that are killed (SIGKILL) at random moments while they save; what their files hold afterwards.

    python -m benchmarks.host.killed [--only table,writers,embedding] [--rounds 1000] [--seed 0]

``table``: one process saves two tables over each other; after every kill the file must hold one of the two, whole.
``writers``: the same with two processes at once. ``embedding``: a process updates a mapped `Embedding` and flushes
after every third update; after every kill the folder must hold, bit for bit, what an undisturbed run holds after
the last flush. Anything else ends the script with an AssertionError; what it prints is how many kills hit what.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import tempfile
import time
from pathlib import Path
from typing import Callable

import numpy as np

from ascend_fixes.host import Embedding, Table

KEYS, ROWS, DIM = 3000, 500, 8


def killed(work: Callable[[], None], processes: int, longest: float) -> None:
    """Run ``work`` over and over in processes of their own, and kill them a random time after each has done it once."""
    children = []
    for _ in range(processes):
        done, begun = os.pipe()
        child = os.fork()
        if not child:
            work()
            os.write(begun, b".")
            while True:
                work()
        os.close(begun)
        os.read(done, 1)
        os.close(done)
        children.append(child)
    time.sleep(random.random() * longest)
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def table(folder: Path, rounds: int, writers: int = 1) -> dict[str, int]:
    """Kills during `Table.save`."""
    path = folder / "t.npz"
    tables = [Table(np.arange(KEYS) * (number + 2), frozen=bool(number)) for number in range(2)]
    tables[0].save(path)
    found = {"kills": rounds, "writers": writers, "amid a save": 0, "the first table": 0, "the second table": 0}

    def work() -> None:
        for one in tables:
            one.save(path)

    for _ in range(rounds):
        killed(work, writers, 0.012)
        seen = Table.load(path)
        assert len(seen) == KEYS and (seen(np.arange(KEYS) * (seen.frozen + 2)) == np.arange(KEYS)).all()
        found["the second table" if seen.frozen else "the first table"] += 1
        left = list(folder.glob(".*.part"))
        found["amid a save"] += bool(left)
        for part in left:
            part.unlink()
    return found


def two_writers(folder: Path, rounds: int) -> dict[str, int]:
    """Kills of two processes that save to one file."""
    return table(folder, rounds, 2)


def embedding(folder: Path, rounds: int) -> dict[str, int]:
    """Kills during updates and flushes of a mapped `Embedding`."""

    def opened(path: object) -> Embedding:
        return Embedding(ROWS, DIM, path, "adam", 0.0)  # type: ignore[arg-type]

    def advance(rows: Embedding) -> None:
        generator = np.random.default_rng(rows.step)
        ids, gradient = generator.permutation(ROWS)[:100], generator.normal(size=(100, DIM)).astype(np.float32)
        rows._take_gradient(ids, gradient)  # as a graph brings it
        rows.update()

    path, reference = folder / "e", opened(None)
    opened(path).close()
    found = {"kills": rounds, "amid a flush": 0, "with changes to take back": 0, "updates kept": 0}
    for _ in range(rounds):
        resumed: list[Embedding] = []

        def work(resumed: list[Embedding] = resumed) -> None:
            if not resumed:
                resumed.append(opened(path))
            for _ in range(3):
                advance(resumed[0])
            resumed[0].flush()

        killed(work, 1, 0.1)
        found["amid a flush"] += any(path.glob(".meta.json.*.part"))
        found["with changes to take back"] += any(journal.stat().st_size > 0 for journal in path.glob("journal.*"))
        rows = opened(path)
        assert rows.step % 3 == 0 and rows.step >= found["updates kept"]
        found["updates kept"] = rows.step
        while reference.step < rows.step:
            advance(reference)
        assert (rows._store.records == reference._store.records).all()
        rows.close()
    return found


PARTS = {"table": table, "writers": two_writers, "embedding": embedding}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    random.seed(options.seed)
    found = {}
    for name in options.only.split(","):
        with tempfile.TemporaryDirectory() as folder:
            found[name] = PARTS[name](Path(folder), options.rounds)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
