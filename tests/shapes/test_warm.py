from __future__ import annotations

import os

import pytest
from shapes_cells import Pooled, batch
from test_compile_cache import finish, start

from ascend_fixes.shapes import CompileCache, warm


@pytest.mark.slow
def test_workers_compile_what_the_run_then_loads(tmp_path):
    script = os.path.join(os.path.dirname(__file__), "shapes_warm_run.py")
    found = finish(start(tmp_path / "store", [], cwd=tmp_path, script=script))
    assert sorted(sizes["length"] for sizes in found["compiled"]) == [4, 6, 8] and not found["failed"]
    assert found["hits"] == 3 and found["stored"] == 0 and found["graphs"] == 3 and found["finite"]
    assert len(found["told"]) == 3 and found["told"][-1].startswith("compiled 3 of 3 graphs")
    assert "call warm before the first `with`" in found["again"]


def test_only_bucketed_cells_are_warmed(tmp_path):
    with pytest.raises(TypeError, match="is not bucketed"):
        warm(Pooled(), batch(3), CompileCache(tmp_path / "store"))
