"""The READMEs' table of the quick comparison is that of the committed result."""

from __future__ import annotations

import pytest

from benchmarks import records
from benchmarks.pages import compare_readme

KERNELS = {"aclnn": 3, "aclop": 2, "host": 0, "fused": 4}
FIGURES = {
    "shapes": (
        {"at": [1.0, 2.0], "graphs": 3, "training_seconds": 6.0},
        {"at": [1.0] * 9, "graphs": 1, "training_seconds": 5.0},
    ),
    "amp": ({"losses": [1.0, None]}, {"losses": [1.0, 0.5]}),
    "fusion": ({"crash": "RuntimeError: Response is empty."}, {"error": 2e-7}),
    "host": ({"rate": 0.0, "unit": "translations"}, {"rate": 1234.5, "unit": "translations"}),
    "ascend": ({"verdict": "refused", "kernels": KERNELS}, {"verdict": "compiled", "kernels": KERNELS}),
}


@pytest.mark.parametrize("page", compare_readme.PAGES)
def test_the_table_is_that_of_the_committed_result(page):
    text = (records.ROOT / page).read_text(encoding="utf-8")
    before, after = compare_readme.MARKS
    assert text.split(before)[1].split(after)[0].strip() == compare_readme.expected(compare_readme.PAGES[page])


def test_cells_say_what_both_sides_did():
    rows = [
        {"family": family, "model": model, "figures": {"plain": plain, "cured": cured}}
        for family, (plain, cured) in FIGURES.items()
        for model in compare_readme.MODELS
    ]
    table = compare_readme.section({"seconds": 200.4, "rows": rows}, compare_readme.ENGLISH)
    assert "3 min 20 s" in table
    for cell in (
        "2.00 (3) → 0.50 (1)",
        "NaN → trains",
        "crash → 2e-07",
        "none in the time → 1,234 translations",
        "refused → 3 + 2 + 0 + 4",
    ):
        assert table.count(f"| {cell} |") >= 2, cell
