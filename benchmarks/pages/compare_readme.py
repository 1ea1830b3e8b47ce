"""``python -m benchmarks.pages.compare_readme``: the table of the quick comparison in both READMEs, from its committed result.

    python -m examples.compare --json benchmarks/results/compare.json && python -m benchmarks.pages.compare_readme

What stands between the marks ``<!-- compare -->`` and ``<!-- /compare -->`` is written anew; tests/test_compare_readme.py
holds the pages to the result.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from ascend_fixes.files import replacing
from benchmarks import records

__all__ = ["PAGES", "expected", "main", "section"]

RESULT = records.RESULTS / "compare.json"
MARKS = "<!-- compare -->", "<!-- /compare -->"
MODELS = {"albert": "ALBERT", "rnnsearch": "RNNSearch", "bert_crf": "BERT-CRF", "texting": "TextING"}
ENGLISH = {
    "took": "On 2 cores this took {minutes} min {seconds} s ([everything measured](benchmarks/results/compare.json)); "
    "each cell is without → with ascend_fixes:",
    "shapes": "**shapes**: seconds a batch, compilation included (graphs)",
    "amp": "**amp**: float16",
    "fusion": "**fusion**: error of the loss, fused",
    "host": "**host**: a second",
    "ascend": "compiled for Ascend, not run: kernels aclnn + aclop + host + fused",
    "crash": "crash",
    "trains": "trains",
    "refused": "refused",
    "none": "none in the time",
    "words": "words to ids",
    "steps": "steps of word vectors",
    "sentences": "sentences tagged",
    "translations": "translations",
}
CHINESE = {
    "took": "在 2 核机器上用时 {minutes} 分 {seconds} 秒（[全部测量数据](benchmarks/results/compare.json)）；"
    "每格是不用 → 用 ascend_fixes：",
    "shapes": "**shapes**：每批秒数，含编译（图数）",
    "amp": "**amp**：float16",
    "fusion": "**fusion**：融合后损失的误差",
    "host": "**host**：每秒",
    "ascend": "为昇腾编译（不执行）：aclnn + aclop + host + 融合核数",
    "crash": "崩溃",
    "trains": "正常训练",
    "refused": "拒绝编译",
    "none": "时间内一句也没有",
    "words": "词转编号",
    "steps": "词向量训练步",
    "sentences": "句标注",
    "translations": "句翻译",
}
PAGES = {"README.md": ENGLISH, "README.zh.md": CHINESE}


def expected(words: Mapping[str, str]) -> str:
    """What stands between the marks: nothing before a result is committed."""
    return section(records.read(RESULT), words) if RESULT.exists() else ""


def section(results: Mapping[str, Any], words: Mapping[str, str]) -> str:
    """The table of a result, with a line that says how long it took."""
    minutes, seconds = divmod(round(results["seconds"]), 60)
    rows = {(row["family"], row["model"]): row["figures"] for row in results["rows"]}
    lines = [
        words["took"].format(minutes=minutes, seconds=seconds),
        "",
        f"| | {' | '.join(MODELS.values())} |",
        "|---|---|---|---|---|",
    ]
    for family in ("shapes", "amp", "fusion", "host", "ascend"):
        cells = [_cell(family, rows[family, model], words) for model in MODELS]
        lines.append(f"| {words[family]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(family: str, figures: Mapping[str, Any], words: Mapping[str, str]) -> str:
    plain, cured = (_side(family, figures[side], figures, words) for side in ("plain", "cured"))
    unit = f" {words[figures['cured']['unit']]}" if family == "host" and "unit" in figures["cured"] else ""
    return f"{plain} → {cured}{unit}"


def _side(family: str, one: Mapping[str, Any], figures: Mapping[str, Any], words: Mapping[str, str]) -> str:
    if "crash" in one:
        return words["crash"]
    if family == "shapes":
        return f"{one['training_seconds'] / (len(one['at']) + 1):.2f} ({one['graphs']})"
    if family == "amp":
        return "NaN" if one["losses"][-1] is None else words["trains"]
    if family == "fusion":
        return "∞" if one["error"] is None else f"{one['error']:.0e}"
    if family == "host":
        return (
            words["none"] if not one["rate"] else f"{one['rate']:,.0f}" if one["rate"] >= 10 else f"{one['rate']:.1f}"
        )
    return " + ".join(map(str, one["kernels"].values())) if one["verdict"] == "compiled" else words["refused"]


def main() -> int:
    for page, words in PAGES.items():
        text = (records.ROOT / page).read_text(encoding="utf-8")
        before, rest = text.split(MARKS[0])
        _, after = rest.split(MARKS[1])
        with replacing(records.ROOT / page) as file:
            file.write(f"{before}{MARKS[0]}\n{expected(words)}\n{MARKS[1]}{after}".encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
