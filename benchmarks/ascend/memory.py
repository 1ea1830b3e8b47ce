"""``python -m benchmarks.ascend.memory``: device memory that MindSpore plans for BERT-CRF, by batch size.

One training step on built-in data, every batch padded to the longest sentence, compiled for Ascend at jit level O0 and
called: in a dry run the call takes memory from the device's pool and computes nothing. What is planned lacks the
kernels' workspaces, so it is a lower bound. From the largest two batch sizes it is extrapolated, as a straight line, to
the batch at which a card of 32 GB is full.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ascend_fixes import dryrun
from ascend_fixes.files import replacing
from benchmarks import records

RESULTS = records.RESULTS / "ascend_memory.json"
SIZES = (8, 16, 32, 64)
CARD = 32 * 2**30
VARIANTS = (("none", "float32"), ("all", "float16"))


def planned(fixes: str, precision: str, batch: int) -> dict[str, Any]:
    """Bytes that the pool gave out at most; None where the dry run came to no end."""
    script = Path(__file__).with_name("example.py")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "bytes")
        report = dryrun.script(
            script, "bert_crf", fixes, precision, "1", str(batch), str(file), jit_level="O0", timeout=1800
        )
        found = int(file.read_text()) if file.exists() else None
    return {"verdict": report.verdict, "bytes": found, "reason": report.failure, "mindspore": report.mindspore}


def full_at(found: dict[str, dict[str, Any]]) -> int | None:
    """The batch size at which the card is full, by the straight line through the largest two."""
    (low, less), (high, more) = [(int(size), one["bytes"]) for size, one in list(found.items())[-2:]]
    if not less or not more or more <= less:
        return None
    slope = (more - less) / (high - low)
    return int(high + (CARD - more) / slope)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ascend.memory")
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="batch sizes (default: %(default)s)")
    chosen = parser.parse_args(arguments)
    results: dict[str, Any] = {}
    for fixes, precision in VARIANTS:
        found = {size: planned(fixes, precision, int(size)) for size in chosen.sizes.split(",")}
        results[f"{fixes} {precision}"] = {"sizes": found, "full_at": full_at(found)}
        print(fixes, precision, json.dumps(results[f"{fixes} {precision}"]), flush=True)
        with replacing(RESULTS) as file:
            file.write((json.dumps(results, indent=1) + "\n").encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
