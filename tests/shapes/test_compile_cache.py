from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn
from shapes_cells import Pooled, Same, Scorer, pooled_step

import ascend_fixes
from ascend_fixes import _mindspore, compiling
from ascend_fixes.cures import patched
from ascend_fixes.shapes import CompileCache, CompileCacheError
from ascend_fixes.shapes._compile_cache import Store
from ascend_fixes.shapes._fingerprint import UndescribableError, fingerprint

RUN = os.path.join(os.path.dirname(__file__), "shapes_cache_runs.py")
PER_LENGTH = 3  # graphs that a run compiles and stores for each length; one more cannot be written by MindSpore


def start(folder, lengths, *more, cwd, script=RUN):
    command = [sys.executable, script, str(folder), ",".join(map(str, lengths)), *more]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=cwd, env=environment()
    )


def environment():
    """That of a process that imports what is tested here, and the modules beside this one."""
    package = os.path.dirname(os.path.dirname(ascend_fixes.__file__))
    return {**os.environ, "PYTHONPATH": os.pathsep.join([os.path.dirname(RUN), package])}


def finish(process):
    out, error = process.communicate(timeout=1200)
    assert process.returncode == 0, error[-3000:]
    return json.loads(out.partition("RESULT")[2])


def run(*args, **kwargs):
    return finish(start(*args, **kwargs))


@pytest.fixture(scope="module")
def cold(tmp_path_factory):
    """A first run over three lengths, and its folder."""
    folder = tmp_path_factory.mktemp("cold")
    return folder, run(folder / "store", [5, 6, 7], cwd=folder)


@pytest.mark.slow
def test_another_order_and_a_subset_load_the_right_graphs(cold, tmp_path):
    folder, first = cold
    assert first["counts"] == {"hits": 0, "stored": 3 * PER_LENGTH, "damaged": 0, "skipped": 3}, first["reasons"]
    assert set(first["reasons"]) == {"RuntimeError: Cannot export a PyExecute CNode in MindIR."}
    second = run(folder / "store", [7, 5], cwd=tmp_path)
    assert second["counts"] == {"hits": 2 * PER_LENGTH, "stored": 0, "damaged": 0, "skipped": 2}, second["reasons"]
    assert set(second["reasons"]) == {"MindSpore cannot write this graph, as seen before"}
    for length in ("7", "5"):
        np.testing.assert_allclose(second["results"][length], first["results"][length], rtol=1e-5)


@pytest.mark.slow
def test_hits_go_on_after_a_miss(cold, tmp_path):
    folder, first = cold
    found = run(folder / "store", [6, 9, 5], cwd=tmp_path)
    assert found["counts"] == {"hits": 2 * PER_LENGTH, "stored": PER_LENGTH, "damaged": 0, "skipped": 3}
    assert run(folder / "store", [9], cwd=tmp_path)["counts"]["hits"] == PER_LENGTH
    np.testing.assert_allclose(found["results"]["5"], first["results"]["5"], rtol=1e-5)


@pytest.mark.slow
def test_damaged_entries_are_compiled_anew_and_replaced(cold, tmp_path):
    import shutil

    shutil.copytree(cold[0] / "store", tmp_path / "store")
    entries = sorted((tmp_path / "store").iterdir())
    for place, entry in enumerate(entries):
        content = entry.read_bytes()
        # Cut short, emptied, one bit changed, another entry's content.
        other = entries[place - 1].read_bytes()
        flipped = content[:50] + bytes([content[50] ^ 1]) + content[51:]
        entry.write_bytes([content[: len(content) // 2], b"", flipped, other][place % 4])
    found = run(tmp_path / "store", [5, 6, 7], cwd=tmp_path)
    counts = found["counts"]
    assert counts["hits"] == 0 and counts["damaged"] == 3 * (PER_LENGTH + 1) and counts["stored"] == 3 * PER_LENGTH
    for length, expected in cold[1]["results"].items():
        np.testing.assert_allclose(found["results"][length], expected, rtol=1e-5)
    assert run(tmp_path / "store", [6], cwd=tmp_path)["counts"]["hits"] == PER_LENGTH


@pytest.mark.slow
def test_another_attribute_or_source_is_another_graph(cold, tmp_path):
    folder, first = cold
    found = run(folder / "store", [5], "2.5", cwd=tmp_path)
    assert found["counts"]["hits"] == PER_LENGTH - 1 and found["counts"]["stored"] == 1
    assert found["results"]["5"][2] == pytest.approx(first["results"]["5"][2] * 2.5 / 1.5)
    script = tmp_path / "shapes_cache_runs.py"
    with open(RUN) as file:
        script.write_text(file.read().replace("SCALE = 1.0", "SCALE = 3.0").replace("x * 2", "x * 4"))
    changed = run(folder / "store", [5], cwd=tmp_path, script=str(script))
    # Cells of the unchanged module are found, what the changed script defines is not.
    assert changed["counts"]["hits"] == 1 and changed["counts"]["stored"] == 2
    assert changed["results"]["5"][1:] == pytest.approx([2 * first["results"]["5"][1], 3 * first["results"]["5"][2]])


@pytest.mark.slow
def test_two_processes_share_a_folder(tmp_path):
    both = [start(tmp_path / "store", lengths, cwd=tmp_path) for lengths in ([5, 6], [6, 5])]
    found = [finish(process) for process in both]
    assert found[0]["results"]["6"] == pytest.approx(found[1]["results"]["6"], rel=1e-5)
    assert run(tmp_path / "store", [5, 6], cwd=tmp_path)["counts"]["hits"] == 2 * PER_LENGTH
    assert not list((tmp_path / "store").glob(".*.part"))


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system")
def test_a_full_disk_leaves_the_run_alone(cold, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48k", "tmpfs", str(small)], check=True)
    try:
        found = run(small / "store", [5], cwd=tmp_path)
        # The two small graphs fit, the training step's does not; what is stored is whole.
        assert found["counts"]["stored"] == PER_LENGTH - 1
        assert any("No space left on device" in reason for reason in found["reasons"])
        assert found["results"]["5"] == pytest.approx(cold[1]["results"]["5"], rel=1e-5)
        assert run(small / "store", [5], cwd=tmp_path)["counts"]["hits"] == PER_LENGTH - 1
    finally:
        subprocess.run(["umount", str(small)], check=True)


@pytest.mark.slow
def test_a_graph_that_mindspore_cut_short_is_not_stored(cold, tmp_path):
    """A limit on the size of files does to MindSpore's own file what a full disk does: it ends early, silently."""
    code = "import resource, signal, runpy, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    code += "resource.setrlimit(resource.RLIMIT_FSIZE, (30000, 30000)); sys.argv = sys.argv[1:]; "
    code += "runpy.run_path(sys.argv[0], run_name='__main__')"
    command = [sys.executable, "-c", code, RUN, str(tmp_path / "store"), "5"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=environment()
    )
    found = finish(process)
    assert found["counts"]["stored"] == PER_LENGTH - 1
    assert any("did not write the whole graph" in reason for reason in found["reasons"]), found["reasons"]
    assert found["results"]["5"] == pytest.approx(cold[1]["results"]["5"], rel=1e-5)
    again = run(tmp_path / "store", [5], cwd=tmp_path)
    assert again["counts"]["hits"] == PER_LENGTH - 1 and again["counts"]["damaged"] == 0


@pytest.mark.slow
def test_a_crash_in_the_middle_leaves_nothing_that_misleads(cold, tmp_path):
    process = start(tmp_path / "store", [5, 6, 7], cwd=tmp_path)
    deadline = time.monotonic() + 1200
    while not list((tmp_path / "store").glob("*.graph")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.communicate()
    held = [entry for entry in (tmp_path / "store").glob("*.graph") if entry.stat().st_size > 85]  # not a marker
    # As if it had died while it wrote, an hour ago and just now.
    old, new = tmp_path / "store" / ".old.part", tmp_path / "store" / ".new.part"
    old.write_bytes(b"half"), new.write_bytes(b"half")
    os.utime(old, (time.time() - 7200,) * 2)
    found = run(tmp_path / "store", [5, 6, 7], cwd=tmp_path)
    counts = found["counts"]
    assert counts["hits"] == len(held) and counts["hits"] + counts["stored"] == 3 * PER_LENGTH and not counts["damaged"]
    assert new.exists() and not old.exists()
    for length, expected in cold[1]["results"].items():
        np.testing.assert_allclose(found["results"][length], expected, rtol=1e-5)


def test_a_store_returns_what_was_written_and_nothing_else(tmp_path):
    store = Store(str(tmp_path / "store"))
    assert store.read("a" * 64) is None
    store.write("a" * 64, b"graph")
    assert store.read("a" * 64) == b"graph"
    (tmp_path / "store" / ("b" * 64 + ".graph")).write_bytes((tmp_path / "store" / ("a" * 64 + ".graph")).read_bytes())
    with pytest.raises(ValueError, match="checksum"):
        store.read("b" * 64)


def test_a_store_is_not_waited_for_and_what_died_while_writing_is_swept(tmp_path):
    store = Store(str(tmp_path))
    os.mkfifo(tmp_path / ("a" * 64 + ".graph"))
    with pytest.raises(OSError, match="not an ordinary file"):
        store.read("a" * 64)
    old, young = tmp_path / ".b.x.part", tmp_path / ".b.y.part"
    for path in (old, young):
        path.touch()
    os.utime(old, (0, 0))
    with CompileCache(tmp_path):
        assert young.exists() and not old.exists()


def test_a_folder_that_everybody_may_write_is_refused(tmp_path):
    tmp_path.chmod(0o777)
    with pytest.raises(CompileCacheError, match="may be written by everybody"), CompileCache(tmp_path):
        pass
    before = os.umask(0)  # as in many containers
    try:
        Store(str(tmp_path / "own")).write("a" * 64, b"graph")
    finally:
        os.umask(before)
    with CompileCache(tmp_path / "own"):
        pass


def test_a_store_that_cannot_be_written_leaves_the_run_alone(tmp_path):
    cache = CompileCache(tmp_path / "file" / "below")
    (tmp_path / "file").write_text("in the way")
    cell = Same()
    with cache, pytest.warns(UserWarning, match="is compiled without the cache"):
        cell(Tensor(np.ones((1, 3)), ms.float32))
    assert cache.counts.stored == 0 and cache.counts.skipped == 1
    assert "the store cannot be used" in cache.reasons[0]


def test_what_cannot_be_described_is_compiled_and_counted(tmp_path):
    cell = Same()
    cell.secret = object.__new__(type("Opaque", (), {"__slots__": ()}))
    with CompileCache(tmp_path / "store") as cache:
        assert cell(Tensor(np.ones((1, 3)), ms.float32)).shape == (1, 3)
    assert cache.counts.skipped == 1 and "Opaque" in cache.reasons[0]


def test_wrong_use_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CompileCacheError, match="is a file; pass a folder"):
        CompileCache(tmp_path / "file")
    with CompileCache(tmp_path / "one"), pytest.raises(CompileCacheError, match="a compile cache is in use"):
        CompileCache(tmp_path / "two").__enter__()


def test_nothing_of_it_is_left_behind(tmp_path):
    with CompileCache(tmp_path / "store") as cache:
        assert [token for token, _, _ in compiling.held("cache")] == [cache]
        Same()(Tensor(np.ones((1, 3)), ms.float32))
    assert not compiling.held("cache")
    assert "MS_DEV_FORCE_USE_COMPILE_CACHE" not in os.environ and not _mindspore.wanted_compile_cache()[0]


def test_it_works_beside_the_patch_for_mindspores_own_cache(tmp_path):
    for around in (patched("S2"), contextlib.nullcontext()):
        with around:
            for _ in range(2):
                with CompileCache(tmp_path / "store") as cache:
                    Same()(Tensor(np.ones((1, 3)), ms.float32))
                assert cache.counts.stored + cache.counts.hits == 1 and cache.counts.skipped == 0
    assert cache.counts.hits == 1


# --- keys -----------------------------------------------------------------------------------------


def key(cell, *arguments, **settings):
    return fingerprint(cell, (arguments, {}), settings)


def test_a_key_follows_what_a_graph_depends_on():
    x, y = Tensor(np.ones((2, 3)), ms.float32), Tensor(np.ones((2, 4)), ms.float32)
    ms.set_seed(1)  # where a seed is set, each Dropout gets its own, counted from here
    cell = Scorer()
    base = key(cell, x)
    ms.set_seed(1)
    assert key(Scorer(), x + 1) == base
    keys = [base, key(cell, y), key(cell, x.astype(ms.float16)), key(cell, x, 1), key(cell, x, 2)]
    keys.append(key(cell, x, mode="1"))
    cell.set_train(True)
    keys.append(key(cell, x))
    cell.dropout.keep_prob = 0.25
    keys.append(key(cell, x))
    cell.head.weight.requires_grad = False
    keys.append(key(cell, x))
    cell.table = Tensor([1.0, 2.0])
    keys.append(key(cell, x))
    cell.table = Tensor([1.0, 3.0])
    keys.append(key(cell, x))
    cell.rule = lambda value: value
    keys.append(key(cell, x))
    assert len(set(keys)) == len(keys)


def test_a_key_does_not_follow_training_or_earlier_calls():
    step = pooled_step()
    inputs = [Tensor(np.ones((2, 5)), ms.int32), Tensor(np.ones((2, 5)), ms.float32), Tensor([0, 1], ms.int32)]
    before = key(step, *inputs)
    step(*inputs)
    assert key(step, *inputs) == before


def test_a_key_does_not_follow_how_a_cell_was_made():
    """Embedding keeps its table's first values; a constructor's code may reach anything."""

    def made(seed):
        cell = Pooled()
        cell.embedding.embedding_table.set_data(Tensor(np.random.default_rng(seed).random((50, 8)), ms.float32))
        return cell

    class Made(Pooled):
        def __init__(self):
            self_lock.acquire(blocking=False)
            super().__init__()

    assert key(made(1)) == key(made(2))
    assert len(key(Made())) == 64


def test_a_key_follows_closures_and_global_values():
    def made(factor):
        def function(x):
            return x * factor

        return function

    x = Tensor([1.0])
    assert key(made(2), x) == key(made(2), x) != key(made(3), x)
    before = key(uses_a_global, x)
    globals()["RATE"] = 0.25
    try:
        assert key(uses_a_global, x) != before
    finally:
        globals()["RATE"] = 0.5


RATE = 0.5
self_lock = threading.Lock()


def uses_a_global(x):
    return x * RATE


def test_what_has_no_description_has_no_key():
    cell = Pooled()
    cell.stream = iter([])
    with pytest.raises(UndescribableError, match="list_iterator"):
        key(cell)
    cell.stream = loop = []
    loop.append(loop)
    with pytest.raises(UndescribableError, match="contains itself"):
        key(cell)
    assert isinstance(cell, nn.Cell)
