"""A model's first training step in float16, compiled by MindSpore's Ascend back end: nothing is executed.

``python -m examples.compare.ascend MODEL SIDE FOLDER`` makes the dry run; the other functions are the factories
that it names.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Callable

from ascend_fixes import dryrun
from ascend_fixes.errors import AscendFixesError
from examples.common import variants

__all__ = ["SETTING", "compiled", "main"]

ROOT = Path(__file__).resolve().parents[2]
SETTING = {"soc": "Ascend910B", "jit_level": "O1"}


def _factory(model: str, side: str) -> Callable[[], tuple[Any, ...]]:
    def first_step() -> tuple[Any, ...]:
        from mindspore import Tensor

        from examples.compare.subjects import trainer

        folder = Path("example")
        folder.mkdir(exist_ok=True)
        made = trainer(model, side, folder, "float16")
        return (made.cell, *map(Tensor, made.inputs(made.first)))

    return first_step


albert_plain, albert_cured = _factory("albert", "plain"), _factory("albert", "cured")
bert_crf_plain, bert_crf_cured = _factory("bert_crf", "plain"), _factory("bert_crf", "cured")
rnnsearch_plain, rnnsearch_cured = _factory("rnnsearch", "plain"), _factory("rnnsearch", "cured")
texting_plain, texting_cured = _factory("texting", "plain"), _factory("texting", "cured")


def compiled(model: str, side: str) -> dict[str, Any]:
    """The verdict, the kernels by kind, and why it was refused where it was."""
    try:
        report = dryrun.cell(f"examples.compare.ascend:{model}_{side}", **SETTING)
    except AscendFixesError as error:  # this machine makes no dry runs, and the error says why
        return {"verdict": "not run", "reason": str(error)}
    kernels = {
        kind: sum(graph.kernels[kind] for graph in report.graphs) for kind in ("aclnn", "aclop", "host", "fused")
    }
    reasons = [graph.reason for graph in report.graphs if graph.reason] + [report.failure]
    reason = reasons[0].replace(f"{ROOT}/", "")  # a result is the same wherever the repository lies
    seconds = sum(graph.seconds or 0 for graph in report.graphs)
    return {"verdict": report.verdict, "reason": reason, "kernels": kernels, "compile_seconds": seconds}


def main(model: str, side: str, folder: str) -> None:
    """Make the dry run, and write what came of it."""
    variants.write_json(Path(folder, "result.json"), {"ascend": compiled(model, side)})


if __name__ == "__main__":
    main(*sys.argv[1:])
