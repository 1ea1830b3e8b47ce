"""The table of what was compiled for Ascend, and what its figures are made of."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import records
from benchmarks.ascend import __main__ as ascend
from benchmarks.ascend import cells as ascend_cells
from benchmarks.ascend import memory as ascend_memory
from benchmarks.ascend.epoch import own_shape


def test_every_row_names_its_factories_and_is_compiled_for_both_chips_at_both_levels():
    keys = {work.key for work in ascend.works()}
    assert len(keys) == len(list(ascend.works()))
    for row in ascend_cells.ROWS:
        assert callable(getattr(ascend_cells, row.factory)) and (not row.plain or getattr(ascend_cells, row.plain))
        for soc, level in ascend.SETTINGS:
            assert ascend.Work(row.family, row.name, "tool", soc, level).key in keys


def test_the_page_shows_kernels_verdicts_with_their_reason_and_what_is_missing():
    row = ascend_cells.ROWS[0]
    done, refused = (ascend.Work(row.family, row.name, "tool", "Ascend910B", level).key for level in ("O1", "O0"))
    kernels = {**dict.fromkeys(ascend.KINDS, 0), "aclnn": 3, "aclop": 2, "host": 1}
    operators = {"aclop": {"Sort": 2}, "host": {"Custom": 1}}
    page = ascend.page(
        {
            done: {"verdict": "compiled", "reason": "", "kernels": kernels, "operators": operators, "seconds": 60},
            refused: {"verdict": "refused", "reason": "no such kernel"},
        }
    )
    (line,) = [line for line in page.splitlines() if line.startswith(f"| {row.name} |")]
    assert line == f"| {row.name} | 3 + 2 + 0, 1 host | **refused** | - | - | Sort x2 | Custom |"
    assert f"- {row.name} (910B O0): refused: no such kernel" in page and "nothing was executed" in page


@pytest.mark.parametrize("page", ["docs/platform.md", "docs/zh/platform.md"])
def test_the_report_on_the_910a_counts_what_it_refuses_to_fuse(page):
    compiled = records.read(records.RESULTS / "ascend.json", {})
    refused = sum("Unrecognized SoC Version" in one.get("reason", "") for one in compiled.values())
    text = (records.ROOT / page).read_text(encoding="utf-8")
    assert refused and (f"all {refused} dry runs" in text or f"{refused} 次空跑" in text)


def test_own_shapes_leave_out_padding_of_all_rows_and_arrays_without_ids():
    ids = np.array([[3, 1, 0, 0], [2, 0, 0, 0]], np.int32)
    assert own_shape([ids, ids.astype(np.float32), np.ones(2, np.int32)]) == ((2, 2),)


def test_the_batch_at_which_a_card_is_full_lies_on_the_line_of_the_largest_two():
    found = {"8": {"bytes": 1}, "16": {"bytes": 2 * 2**30}, "32": {"bytes": 4 * 2**30}}
    assert ascend_memory.full_at(found) == 256
    assert ascend_memory.full_at({"8": {"bytes": None}, "16": {"bytes": 5}}) is None
