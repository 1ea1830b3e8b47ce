"""What a step and a compilation cost at some sizes: what `shapes_replay` replays whole corpora with.

    python -m benchmarks.shapes.costs --net bert --json FILE [--sizes 4,8,...] [--rounds 5]
    python -m benchmarks.shapes.costs --net rnnsearch --json FILE --sizes 6x6,12x12,...

A process for each kind of graph (static, dynamic, PyTorch eager), all alive at once and taking turns: round by round,
size by size, one step each. The first round compiles and is timed apart; the median of the other rounds counts. A
file that is there already is added to, so that a long list of sizes can be measured in parts.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from typing import Any, Callable

import numpy as np

from benchmarks import records

ROWS = 16
KINDS = ("static", "dynamic", "torch")
Size = Any  # a length, or (source, target)


def parsed(text: str) -> Size:
    """``"24"`` or ``"12x16"``."""
    parts = tuple(int(part) for part in text.split("x"))
    return parts[0] if len(parts) == 1 else parts


def named(size: Size) -> str:
    """The reverse of `parsed`."""
    return "x".join(map(str, size)) if isinstance(size, tuple) else str(size)


def full(net: str, size: Size) -> list[np.ndarray]:
    """A batch that fills a size."""
    from benchmarks.shapes import bert as shapes_bert
    from benchmarks.shapes import rnnsearch as shapes_rnnsearch

    if net == "bert":
        return shapes_bert.batch(np.full(ROWS, size), size)
    return shapes_rnnsearch.batch(np.tile(np.asarray(size), (ROWS, 1)), size)


# --- a child: one kind of graph --------------------------------------------------------------------


def runner(net: str, kind: str) -> Callable[[list[np.ndarray]], dict[str, float]]:
    """What runs a step and says how long it took, and how much of that was compilation."""
    if kind == "torch":
        from benchmarks.shapes.torch import training_step

        step = training_step(net)

        def eager(arrays: list[np.ndarray]) -> dict[str, float]:
            start = time.perf_counter()
            step(*arrays)
            return {"seconds": time.perf_counter() - start}

        return eager
    return _compiled(net, kind)


def _compiled(net: str, kind: str) -> Callable[[list[np.ndarray]], dict[str, float]]:
    import mindspore as ms

    from ascend_fixes.shapes import graphs, limit_graphs
    from benchmarks.shapes import bert as shapes_bert
    from benchmarks.shapes import rnnsearch as shapes_rnnsearch

    ms.set_device("CPU")
    ms.set_context(mode=ms.GRAPH_MODE)
    module: Any = shapes_bert if net == "bert" else shapes_rnnsearch
    cell = limit_graphs(module.training_step(), None)
    if kind == "dynamic":
        example = [ms.Tensor(array) for array in full(net, 8 if net == "bert" else (8, 8))]
        cell.set_inputs(*(ms.Tensor(shape=[ROWS, None], dtype=a.dtype) if a.ndim == 2 else a for a in example))

    def run(arrays: list[np.ndarray]) -> dict[str, float]:
        before, start = len(graphs(cell)), time.perf_counter()
        float(cell(*(ms.Tensor(array) for array in arrays)))
        found = {"seconds": time.perf_counter() - start}
        if len(graphs(cell)) > before:
            found["compile"] = graphs(cell)[-1].seconds or 0.0
        return found

    return run


def child(net: str, kind: str) -> None:
    """Answer each size on standard input with a line of JSON."""
    run = runner(net, kind)
    for line in sys.stdin:
        try:
            answer: dict[str, Any] = run(full(net, parsed(line.strip())))
        except Exception as error:  # whatever the compiler makes of it is the finding
            answer = {"failed": f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"}
        print("RESULT" + json.dumps(answer), flush=True)


# --- the parent -------------------------------------------------------------------------------------


class Child:
    """A process that measures one kind of graph when it is asked."""

    def __init__(self, net: str, kind: str):
        command = [sys.executable, "-m", "benchmarks.shapes.costs", "--net", net, "--child", kind]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def ask(self, size: Size) -> dict[str, Any]:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(named(size) + "\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("RESULT"):
                return json.loads(line[len("RESULT") :])
        raise RuntimeError(f"the process ended: {self.process.wait()}")

    def end(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


def measure(net: str, sizes: list[Size], rounds: int, kinds: list[str]) -> dict[str, Any]:
    """By kind and size: the seconds of the compilation and the median of the steps."""
    children = {kind: Child(net, kind) for kind in kinds}
    steps: dict[str, dict[str, list[float]]] = {kind: {} for kind in kinds}
    found: dict[str, Any] = {kind: {} for kind in kinds}
    for turn in range(rounds + 1):
        for size in sizes:
            for kind, process in list(children.items()):
                if "failed" in found[kind]:
                    continue
                answer = process.ask(size)
                if "failed" in answer:
                    found[kind] = answer
                    continue
                if "compile" in answer:
                    found[kind].setdefault(named(size), {})["compile"] = answer["compile"]
                if turn:
                    steps[kind].setdefault(named(size), []).append(answer["seconds"])
    for process in children.values():
        process.end()
    for kind, by_size in steps.items():
        for size_name, seconds in by_size.items():
            found[kind].setdefault(size_name, {})["step"] = statistics.median(seconds)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--net", choices=("bert", "rnnsearch"), required=True)
    parser.add_argument("--sizes", default="2,8,16,24,32,48,64,96,128,256,384,520")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--json")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.net, options.child)
        return
    found = measure(
        options.net, [parsed(s) for s in options.sizes.split(",")], options.rounds, options.kinds.split(",")
    )
    if options.json:
        merged: dict[str, Any] = records.read(options.json)
        for kind, by_size in found.items():
            merged.setdefault(options.net, {}).setdefault(kind, {}).update(by_size)
        records.write(options.json, merged)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
