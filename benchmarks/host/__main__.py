"""The figures of `ascend_fixes.host` against what they replace.

    python -m benchmarks.host [--only table,embedding,...] [--json FILE] [--steps 50]

Parts: ``table`` (look-ups a second over growing numbers of keys), ``embedding`` (steps a second and peak
resident memory at 5 million rows of 64, against `nn.EmbeddingLookup` with `nn.LazyAdam`), ``mapped`` (a million rows
mapped from a file, and the same in a control group that may use half as much memory as the table takes), ``growth``
(steps a second from 10^4 to 10^7 rows), ``static`` (seconds a call of the operators of fixed size in a graph
against MindSpore's own and `numpy.unique`), ``decoding`` (Viterbi against a Python loop, beam search a step),
``feed`` (items a second) and ``killed`` (1,000 kills each of processes that save; `benchmarks.host.killed`). Each
embedding runs in a process of its own, so that its peak memory is its own. Times are wall time; run it alone. With
``--json`` the parts that were run take the place of those that the file held, and a table is written beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable

import numpy as np

from benchmarks import records
from benchmarks.host import table as host_table

DIM, BATCH, ROWS, MAPPED_ROWS = 64, 2048, 5_000_000, 1_000_000
SIZES = (10_000, 100_000, 1_000_000, 10_000_000)  # of the growth curves
DENSE = "nn.EmbeddingLookup CPU + LazyAdam"
KINDS = (DENSE, "host.Embedding", "host.Embedding, mapped")
GROUPS = Path("/sys/fs/cgroup/memory")  # control groups of version 1


def seconds(call: Callable[[], Any], times: int) -> float:
    """The median seconds of a call, after one that is not counted."""
    call()
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return float(np.median(taken))


def table(options: argparse.Namespace) -> dict[str, Any]:
    """Million look-ups a second, for growing numbers of keys."""
    return {f"{size} keys": host_table.measure(size) for size in SIZES}


# --- embedding -----------------------------------------------------------------------------------


def embedding(options: argparse.Namespace) -> dict[str, Any]:
    """Each kind in a process of its own."""
    return {kind: _in_a_process(kind, ROWS, options.steps) for kind in KINDS[:2]}


def growth(options: argparse.Namespace) -> dict[str, Any]:
    """Steps a second and memory by the number of rows."""
    return {f"{rows} rows": {kind: _in_a_process(kind, rows, 20) for kind in KINDS[:2]} for rows in SIZES}


def mapped(options: argparse.Namespace) -> dict[str, Any]:
    """A mapped table, with all memory and with half of what it takes."""
    return {
        "all memory": _in_a_process(KINDS[2], MAPPED_ROWS, options.steps),
        "half its size": limited(options),
    }


def limited(options: argparse.Namespace) -> dict[str, Any]:
    """A mapped table twice as large as the memory that its process may use, files included."""
    before = 450_000_000  # MindSpore's own, before there is a table
    limit = before + 3 * 4 * MAPPED_ROWS * DIM // 2
    group = GROUPS / "ascend_fixes_host"
    try:
        group.mkdir(exist_ok=True)
        (group / "memory.limit_in_bytes").write_text(str(limit))
    except OSError as error:
        return {"not run": f"no control group could be made: {error}"}
    found = _in_a_process(KINDS[2], MAPPED_ROWS, options.steps, group)
    found["memory limit GB"] = limit / 1e9
    found["peak in the group GB"] = int((group / "memory.max_usage_in_bytes").read_text()) / 1e9
    group.rmdir()
    return found


def _in_a_process(kind: str, rows: int, steps: int, group: Path | None = None) -> dict[str, Any]:
    command = [
        sys.executable,
        "-m",
        "benchmarks.host",
        "--child",
        kind,
        "--rows",
        str(rows),
        "--steps",
        str(steps),
    ]

    def join() -> None:
        if group is not None:
            (group / "cgroup.procs").write_text(str(os.getpid()))

    done = subprocess.run(command, capture_output=True, text=True, check=True, preexec_fn=join)
    return json.loads(done.stdout.strip().splitlines()[-1])


def embedding_child(kind: str, rows: int, steps: int) -> dict[str, Any]:
    """Seconds a training step at 2,048 random ids, and the peak resident memory of this process."""
    import mindspore
    from mindspore import Tensor, nn

    from ascend_fixes.host import Embedding

    mindspore.set_device("CPU")
    mindspore.set_context(mode=mindspore.GRAPH_MODE)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    class Net(nn.Cell):
        def __init__(self, look_up: nn.Cell) -> None:
            super().__init__()
            self.look_up = look_up

        def construct(self, ids: Tensor) -> Tensor:
            rows = self.look_up(ids)
            return (rows * rows).sum()

    folder = tempfile.TemporaryDirectory()
    start = time.perf_counter()
    if kind == DENSE:
        look_up: Any = nn.EmbeddingLookup(rows, DIM, target="CPU")
    else:
        look_up = Embedding(rows, DIM, os.path.join(folder.name, "t") if "mapped" in kind else None)
    net = Net(look_up)
    optimizer = nn.LazyAdam(net.trainable_params()) if kind == DENSE else nn.SGD(net.trainable_params(), 0.0)
    built = time.perf_counter() - start
    if kind == DENSE:
        optimizer.target = "CPU"
    cell = nn.TrainOneStepCell(net, optimizer).set_train()
    random = np.random.default_rng(0)

    def step() -> None:
        cell(Tensor(random.integers(0, rows, BATCH), mindspore.int32)).asnumpy()
        if kind != DENSE:
            look_up.update()

    taken = seconds(step, steps)
    flush = 0.0
    if "mapped" in kind:
        start = time.perf_counter()
        look_up.flush()
        flush = time.perf_counter() - start
        look_up.close()
    folder.cleanup()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    table_bytes = 3 * 4 * rows * DIM  # rows and Adam's two moments
    return {
        "rows": rows,
        "seconds a step": taken,
        "steps a second": 1 / taken,
        "seconds to build": built,
        "seconds a flush": flush,
        "peak resident GB": peak * 1024 / 1e9,
        "of that before the table GB": before * 1024 / 1e9,
        "rows and state GB": table_bytes / 1e9,
        "over rows and state": (peak - before) * 1024 / table_bytes,
    }


# --- the rest ------------------------------------------------------------------------------------


def static(options: argparse.Namespace) -> dict[str, Any]:
    """Seconds a call in a compiled graph, 4,096 integers of 1,000 distinct."""
    import mindspore
    from mindspore import Tensor, nn, ops

    from ascend_fixes import host

    mindspore.set_context(mode=mindspore.GRAPH_MODE)
    values = np.random.default_rng(0).integers(0, 1000, 4096).astype(np.int32)
    x = Tensor(values)

    class Unique(nn.Cell):
        def __init__(self, check: bool) -> None:
            super().__init__()
            self.check = check

        def construct(self, x: Tensor) -> Tensor:
            return host.unique(x, 1024, 0, self.check)[0] + 1

    class OwnUnique(nn.Cell):
        def construct(self, x: Tensor) -> Tensor:
            return ops.unique(x)[0] + 1

    class MaskedSelect(nn.Cell):
        def construct(self, x: Tensor) -> Tensor:
            return host.masked_select(x, x > 500, 4096)[0] + 1

    class OwnMaskedSelect(nn.Cell):
        def construct(self, x: Tensor) -> Tensor:
            return ops.masked_select(x, x > 500) + 1

    class Nonzero(nn.Cell):
        def construct(self, x: Tensor) -> Tensor:
            return host.nonzero(x, 4096)[0] + 1

    class OwnNonzero(nn.Cell):
        def construct(self, x: Tensor) -> Tensor:
            return ops.nonzero(x) + 1

    cells = {
        "host.unique": Unique(True),
        "host.unique, unchecked": Unique(False),
        "ops.unique": OwnUnique(),
        "host.masked_select": MaskedSelect(),
        "ops.masked_select": OwnMaskedSelect(),
        "host.nonzero": Nonzero(),
        "ops.nonzero": OwnNonzero(),
    }
    found = {}
    for name, cell in cells.items():
        found[name] = seconds(lambda cell=cell: cell(x).asnumpy(), options.steps)
    unique = lambda: np.unique(values, return_inverse=True, return_counts=True)  # noqa: E731
    return {**found, "numpy.unique": seconds(unique, options.steps)}


def decoding(options: argparse.Namespace) -> dict[str, Any]:
    """Viterbi at 128 sentences, 60 steps, 20 tags; beam search at 16 sentences, beam 4, 8,000 words, 20 steps."""
    from ascend_fixes.host import beam_search, viterbi

    random = np.random.default_rng(0)
    scores = random.normal(size=(128, 60, 20)).astype(np.float32)
    transitions = random.normal(size=(20, 20)).astype(np.float32)
    lengths = random.integers(1, 61, 128)
    fast = seconds(lambda: viterbi(scores, transitions, lengths), options.steps)
    start = time.perf_counter()
    for row, length in zip(scores.tolist(), lengths.tolist()):
        _loop_viterbi(row, transitions.tolist(), length)
    slow = time.perf_counter() - start
    logits = random.normal(size=(64, 8000)).astype(np.float32)
    search = seconds(lambda: beam_search(lambda tokens, state: (logits, state), np.zeros((16, 1)), 4, 20, 1, 0), 5)
    return {"viterbi": fast, "Python loop": slow, "times faster": slow / fast, "beam search, a step": search / 20}


def _loop_viterbi(scores: list, transitions: list, length: int) -> list[int]:
    total, back = list(scores[0]), []
    for step in range(1, length):
        row, pointers = [], []
        for tag in range(len(total)):
            candidates = [total[before] + transitions[before][tag] for before in range(len(total))]
            best = max(candidates)
            pointers.append(candidates.index(best))
            row.append(best + scores[step][tag])
        total = row
        back.append(pointers)
    path = [total.index(max(total))]
    for pointers in reversed(back):
        path.append(pointers[path[-1]])
    return path[::-1]


def feed(options: argparse.Namespace) -> dict[str, Any]:
    """Items a second of a pipeline and of an iterable, fed and plain."""
    import mindspore.dataset as ds

    from ascend_fixes import host

    rows = np.zeros((20_000, 32), np.int32)
    pipeline = ds.NumpySlicesDataset(rows, ["x"], shuffle=False).batch(10)
    batches = [rows[start : start + 10] for start in range(0, len(rows), 10)]
    sources: dict[str, Callable[[], Any]] = {
        "pipeline": lambda: pipeline.create_tuple_iterator(num_epochs=1),
        "feed(pipeline)": lambda: host.feed(pipeline),
        "feed(iterable)": lambda: host.feed(batches),
    }
    taken: dict[str, list[float]] = {name: [] for name in sources}
    for _ in range(9):  # in turns: a machine that is shared slows all of them alike
        for name, source in sources.items():
            start = time.perf_counter()
            items = sum(1 for _ in source())
            taken[name].append((time.perf_counter() - start) / items)
    return {name: 1 / float(np.median(each)) for name, each in taken.items()}


def killed(options: argparse.Namespace) -> dict[str, Any]:
    """How many kills hit what; a file that was not whole raises."""
    command = [sys.executable, "-m", "benchmarks.host.killed"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


PARTS = {
    "table": table,
    "embedding": embedding,
    "mapped": mapped,
    "growth": growth,
    "static": static,
    "decoding": decoding,
    "feed": feed,
    "killed": killed,
}


def as_table(found: dict[str, Any]) -> str:
    """The figures as Markdown: one line each, by their path in the JSON."""
    lines = ["| what | figure |", "|---|---|"]

    def walk(part: Any, path: tuple[str, ...]) -> None:
        if isinstance(part, dict):
            for name, value in part.items():
                walk(value, (*path, name))
        else:
            lines.append(
                f"| {': '.join(path)} | {part:.4g} |"
                if isinstance(part, (int, float))
                else f"| {': '.join(path)} | {part} |"
            )

    walk(found, ())
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--json", type=Path, help="also write the figures here, and a table beside it")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=int, default=ROWS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(embedding_child(options.child, options.rows, options.steps)))
        return
    unknown = set(options.only.split(",")) - set(PARTS)
    if unknown:
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    found: dict[str, Any] = {}
    for name in options.only.split(","):
        found[name] = PARTS[name](options)
        print(json.dumps({name: found[name]}, indent=1), flush=True)
        if options.json:
            before = records.read(options.json)
            merged = {**before, name: found[name]}
            whole = {part: merged[part] for part in PARTS if part in merged}
            records.write(options.json, whole)
            options.json.with_suffix(".md").write_text(as_table(whole))


if __name__ == "__main__":
    main()
