"""``python -m benchmarks.ascend.compile``: seconds of compilation for Ascend in one cold epoch of four corpora.

A graph for every shape that an epoch's batches have, each padded to its own longest, against one for each planned size.
The step is the examples' own with all fixes, float16. Compilation happens on the host, so its seconds are real; nothing is
executed. Of the planned sizes at most ``--sample`` are compiled, spread over them; the others, and all shapes of the first
way, are taken to cost the mean of those: the result says how many were measured. Run it on a quiet machine.

    python -m benchmarks.ascend.compile --data ../shared/data
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

RESULTS = records.RESULTS / "ascend_compile.json"
CORPORA = {
    "MR": ("texting", "textclass/mr"),
    "R8": ("texting", "textclass/r8"),
    "WNUT17": ("bert_crf", "ner/wnut17"),
    "Multi30k": ("rnnsearch", "mt/multi30k_en_de"),
}


def measured(name: str, data: Path, sample: int, soc: str, jit_level: str) -> dict[str, Any]:
    """One corpus; ``verdict`` says how the dry run ended."""
    script = Path(__file__).with_name("epoch.py")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "epoch.json")
        report = dryrun.script(
            script, name, str(data.resolve()), str(sample), str(file), soc=soc, jit_level=jit_level, timeout=3600
        )
        found = records.read(file)
    found.update(
        soc=soc, jit_level=jit_level, verdict=report.verdict, reason=report.failure, mindspore=report.mindspore
    )
    if found.get("seconds"):
        mean = sum(found["seconds"]) / len(found["seconds"])
        found["per_shape_seconds"] = round(mean * found["own_shapes"])
        found["planned_seconds"] = round(mean * found["planned_shapes"])
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ascend.compile")
    parser.add_argument("--data", type=Path, required=True, help="the folder of the corpora")
    parser.add_argument("--only", default=",".join(CORPORA), help="some of them (default: %(default)s)")
    parser.add_argument("--sample", type=int, default=3, help="graphs to compile for each (default: %(default)s)")
    parser.add_argument("--soc", default="Ascend910B")
    parser.add_argument("--jit-level", default="O1")
    chosen = parser.parse_args(arguments)
    results = records.read(RESULTS)
    for corpus in chosen.only.split(","):
        name, folder = CORPORA[corpus]
        found = results[corpus] = measured(name, chosen.data / folder, chosen.sample, chosen.soc, chosen.jit_level)
        print(corpus, json.dumps(found), flush=True)
        with replacing(RESULTS) as file:
            file.write((json.dumps(results, indent=1) + "\n").encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
