"""Writers killed (SIGKILL) at random moments: what they wrote is the old content or the new one, whole.

The writers of tables and of the folder of an `Embedding` are killed by `benchmarks.host.killed`; here are the others.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ascend_fixes import files
from ascend_fixes.host import Embedding
from ascend_fixes.shapes._compile_cache import Store
from examples.common import checkpoint


@dataclass(frozen=True)
class Writer:
    """What writes content number ``n``, and what reads the number back, having checked that the content is whole."""

    write: Callable[[Path, int], Any]
    read: Callable[[Path], int]


def _read_arrays(path: Path, kind: str) -> int:
    found = files.read_arrays(path, kind, ("a", "b"))
    assert (found["a"] == found["b"].flat[0]).all()
    return int(found["b"].flat[0])


def _arrays(number: int) -> dict[str, np.ndarray]:
    return {"a": np.full(20_000, number), "b": np.array([number])}


def _write_embedding(path: Path, number: int) -> None:
    Embedding(2000, 4, None, "sgd", float(number)).save(path)


def _read_embedding(path: Path) -> int:
    embedding = Embedding(2000, 4, None, "sgd", 0.5)
    embedding.load(path)
    rows = embedding.rows(range(2000))
    assert (rows == rows[0, 0]).all()
    return int(rows[0, 0])


def _read_record(path: Path) -> int:
    (number,) = set(files.read_record(path, "kind")["numbers"])
    return int(number)


def _read_store(path: Path) -> int:
    graph = Store(str(path.parent)).read("a" * 64) or b""
    (byte,) = set(graph)
    return byte


def _read_checkpoint(path: Path) -> int:
    found = checkpoint.load(path)
    assert (found.arrays["a"] == found.description["number"]).all()
    return int(found.description["number"])


WRITERS = {
    "arrays": Writer(lambda p, n: files.write_arrays(p, "kind", _arrays(n)), lambda p: _read_arrays(p, "kind")),
    "record": Writer(lambda p, n: files.write_record(p, "kind", {"numbers": [n] * 5000}), _read_record),
    "embedding file": Writer(_write_embedding, _read_embedding),
    "compile cache": Writer(lambda p, n: Store(str(p.parent)).write("a" * 64, bytes([n]) * 200_000), _read_store),
    "checkpoint": Writer(
        lambda p, n: checkpoint.save(p, checkpoint.Checkpoint({"a": np.full(20_000, n)}, {"number": n})),
        _read_checkpoint,
    ),
}


def run(writer: Writer, folder: Path, kills: int, seed: int) -> dict[str, int]:
    """Kill a process that writes 1, 2, 3, ... 9 over each other, and read."""
    chance, path = random.Random(seed), folder / "file"
    writer.write(path, 1)
    found = {"kills": kills, "amid a write": 0}
    for _ in range(kills):
        done, begun = os.pipe()
        child = os.fork()
        if not child:
            number = 1
            writer.write(path, number)
            os.write(begun, b".")
            while True:
                number = number % 9 + 1
                writer.write(path, number)
        os.close(begun)
        os.read(done, 1)
        os.close(done)
        time.sleep(chance.random() * 0.03)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert 1 <= writer.read(path) <= 9
        left = list(folder.glob(".*.part"))
        found["amid a write"] += bool(left)
        for part in left:
            part.unlink()
    return found
