"""TextING on MR and R8: accuracy, time and memory, plainly in float32 and with the fixes in both precisions.

    python -m benchmarks.trained.texting [--data ../shared/data/textclass] [--corpora mr,r8] [--seeds 3]

Every run is a process of its own, one after the other, and leaves its result under
``runs/benchmark-texting``: started again, the script takes what is finished and goes
on with the rest. Plain training of R8 pads every document to 291 nodes and is timed on one
seed. Writes ``benchmarks/results/texting.json`` and ``texting.md`` after every run.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import records
from examples.common import command_line
from examples.common.files import write_json

RESULTS = records.RESULTS
RUNS = records.ROOT / "runs" / "benchmark-texting"
EPOCHS = 10
FIXED = tuple(command_line.Variant(command_line.FIXES, precision) for precision in ("float32", "float16"))
PLAIN = (command_line.Variant((), "float32"),)
OFFICIAL = (
    "The authors' TensorFlow 1.15 code with random, fixed vectors, on two cores: MR 63.2 and 62.9 % (20 epochs, "
    "2 seeds), 6 to 9 s an epoch, 3.1 GB; R8 94.4 % (20 epochs), 42 s an epoch, 17.2 GB."
)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=records.ROOT.parent / "shared" / "data" / "textclass")
    parser.add_argument("--corpora", default="mr,r8")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for corpus, seed, variant in _plan(arguments.corpora.split(","), arguments.seeds):
        rows.append(_run(arguments.data / corpus, corpus, seed, variant))
        _write(rows)


def _plan(corpora: Sequence[str], seeds: int) -> Iterator[tuple[str, int, command_line.Variant]]:
    """The fixed variants seed by seed, then what takes longest: plain MR, and R8 last."""
    for seed in range(seeds):
        for variant in FIXED:
            for corpus in corpora:
                yield corpus, seed, variant
    for corpus in corpora:
        for seed in range(1 if corpus == "r8" else seeds):
            for variant in PLAIN:
                yield corpus, seed, variant


def _run(data: Path, corpus: str, seed: int, variant: command_line.Variant) -> dict[str, Any]:
    output = RUNS / f"{corpus}-seed{seed}"
    options = ["--data", str(data), "--epochs", str(EPOCHS), "--seed", str(seed), "--output", str(output)]
    settled = {**command_line.settled("texting", options), "resume": str(output)}
    print(f"{corpus}, seed {seed}, {variant.name}", flush=True)
    result = command_line.run_variant("texting", settled, variant)
    return {"corpus": corpus, "seed": seed, "variant": variant.name, **_without_losses(result)}


def _without_losses(result: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in result.items() if key != "losses"}


def _write(rows: Sequence[dict[str, Any]]) -> None:
    finished = [row for row in rows if row["status"] == "finished"]
    groups = sorted({(row["corpus"], row["variant"]) for row in finished}, key=lambda group: (group[0], group[1]))
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    heading = f"{datetime.date.today()}, {machine}, {EPOCHS} epochs, batch 64; mean over seeds (smallest to largest)."
    columns = ["corpus", "variant", "seeds", "test accuracy, %", "s per epoch", "fastest", "graphs"]
    columns += ["overflowed steps", "padded share", "peak GB"]
    lines = [heading, "", "| " + " | ".join(columns) + " |", "|---|---|" + "---:|" * (len(columns) - 2)]
    for corpus, variant in groups:
        of = [row for row in finished if (row["corpus"], row["variant"]) == (corpus, variant)]
        lines.append("| " + " | ".join((corpus, variant, str(len(of)), *_cells(of))) + " |")
    failed = [row for row in rows if row["status"] != "finished"]
    lines += [f"{row['corpus']}, seed {row['seed']}, {row['variant']}: {row['status']}" for row in failed]
    lines += [
        "",
        "Seconds per epoch are the median and the fastest of all, with validation, without compilation.",
        OFFICIAL,
        "",
    ]
    RESULTS.mkdir(parents=True, exist_ok=True)
    stored = {"machine": machine, "date": str(datetime.date.today()), "runs": list(rows)}
    write_json(RESULTS / "texting.json", stored)
    (RESULTS / "texting.md").write_text("\n".join(lines), encoding="utf-8")


def _cells(rows: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    accuracy = np.array([100 * row["test_accuracy"] for row in rows])
    spread = f" ({accuracy.min():.2f} to {accuracy.max():.2f})" if len(rows) > 1 else ""
    return (
        f"{accuracy.mean():.2f}{spread}",
        f"{np.mean([row['epoch_seconds'] for row in rows]):.1f}",
        f"{min(np.diff([epoch['elapsed'] for epoch in row['history']]).min() for row in rows):.1f}",
        str(max(row["graphs"] for row in rows)),
        str(sum(row["overflowed"] for row in rows)),
        f"{np.mean([row['padded_share'] for row in rows]):.1%}",
        f"{max(row['peak_memory_gb'] for row in rows):.2f}",
    )


if __name__ == "__main__":
    main()
