"""patch, unpatch, patched and status on the real catalogue and the real MindSpore."""

from __future__ import annotations

import inspect
import subprocess
import sys
import warnings

import mindspore
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ascend_fixes
from ascend_fixes import _mindspore, cures
from ascend_fixes.defects import Defect, Finding, Patch, catalogue
from ascend_fixes.errors import UnknownNameError
from ascend_fixes.patching import ConflictError, MissingSymbolError, Replacement

PATCHES = [defect.id for defect in catalogue().values() if defect.patch is not None]


@pytest.fixture(autouse=True)
def unpatched():
    ascend_fixes.unpatch()
    yield
    ascend_fixes.unpatch()


def holders():
    """Every module of MindSpore and every class that a patch of the catalogue touches."""
    found = [module for name, module in sorted(sys.modules.items()) if name.split(".")[0] == "mindspore" and module]
    for id_ in PATCHES:
        for part in catalogue()[id_].patch.replacements:
            module, _, path = part.target.partition(":")
            owner = sys.modules.get(module)
            for name in path.split(".")[:-1]:
                owner = getattr(owner, name)
            if isinstance(owner, type) and owner not in found:
                found.append(owner)
    return found


COUNTERS = {"total_instance_count"}  # cells that live: any collection of garbage changes it


def snapshot():
    return [(holder, {n: v for n, v in vars(holder).items() if n not in COUNTERS}) for holder in holders()]


def assert_same(before):
    for holder, names in before:
        now = vars(holder)
        changed = [name for name in names if now.get(name, None) is not names[name]]
        assert not changed, (holder, changed)
        if isinstance(holder, type):
            assert [name for name in now if name not in COUNTERS] == list(names), holder


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["patch", "unpatch", "patched"]), st.sets(st.sampled_from(PATCHES), min_size=1)),
        max_size=6,
    )
)
def test_any_sequence_of_patches_leaves_no_trace(steps):
    ascend_fixes.patch()
    ascend_fixes.unpatch()  # modules that a first patch imports are there from now on
    before = snapshot()
    for action, ids in steps:
        if action == "patch":
            report = ascend_fixes.patch(*ids)
            assert {fix.id for fix in report.cures} == ids
        elif action == "patched":
            held = {fix.id for fix in ascend_fixes.status() if fix.state == "applied"}
            with ascend_fixes.patched(*ids) as report:
                now = {fix.id for fix in ascend_fixes.status() if fix.state == "applied"}
                assert now == held | set(report.applied)
            assert {fix.id for fix in ascend_fixes.status() if fix.state == "applied"} == held
        else:
            ascend_fixes.unpatch()
    ascend_fixes.unpatch()
    assert_same(before)


def test_patch_takes_families_ids_and_skip():
    report = ascend_fixes.patch("amp", skip=["A4"])
    assert {fix.family for fix in report.cures} == {"amp"} and "A4" not in report.applied
    assert "A1" in report.applied and "A2" in report.applied
    assert ascend_fixes.patch("A4").applied == ("A4",)
    assert {"A1", "A2", "A4"} <= {fix.id for fix in ascend_fixes.status() if fix.state == "applied"}


def test_patch_is_idempotent():
    first = ascend_fixes.patch()
    during = snapshot()
    assert ascend_fixes.patch() == first
    assert_same(during)


def test_patched_inside_patch_leaves_the_patch():
    ascend_fixes.patch("A4")
    with ascend_fixes.patched("A4"), ascend_fixes.patched("A1"):
        pass
    assert [fix.id for fix in ascend_fixes.status() if fix.state == "applied"] == ["A4"]


def test_every_status_has_a_reason():
    for fix in ascend_fixes.status():
        assert fix.state in ("applied", "available", "not needed", "not applicable") and fix.reason
    assert str(ascend_fixes.patch("A4")).startswith("A4")


@pytest.mark.parametrize("wrong", ["A99", "ampp", "", 5])
def test_an_unknown_name_offers_the_nearest_and_changes_nothing(wrong):
    before = snapshot()
    with pytest.raises(UnknownNameError, match="neither a family"):
        ascend_fixes.patch("A4", wrong)
    with pytest.raises(UnknownNameError, match="neither a family"):
        ascend_fixes.patch(skip=[wrong])
    assert_same(before)


def test_a_near_miss_is_suggested():
    with pytest.raises(UnknownNameError, match="did you mean 'fusion'"):
        ascend_fixes.patch("fussion")
    with pytest.raises(UnknownNameError, match=r"\['A4'\]"):
        ascend_fixes.patch(skip="A4")


def planted(**changes):
    cure = {"replacements": (Replacement("mindspore.amp:all_finite", lambda original: original),), **changes}
    return Defect("X1", "amp", "planted", "", "", "", "", "", probe=lambda: Finding(False, ""), patch=Patch(**cure))


@pytest.fixture
def plant(monkeypatch):
    def add(defect):
        known = {**catalogue(), defect.id: defect}
        monkeypatch.setattr(cures, "catalogue", lambda: known)

    return add


@pytest.mark.parametrize(
    "changes, state, reason",
    [
        (
            {"since": (99, 0), "before": (100, 0)},
            "not applicable",
            r"checked on MindSpore >=99.0,<100.0, this is MindSpore",
        ),
        ({"backends": ("Ascend",)}, "not applicable", "for Ascend; graphs run on CPU here"),
        ({"unneeded": lambda: "fusion is off"}, "not needed", "fusion is off"),
    ],
)
def test_a_cure_that_does_not_apply_says_why(plant, changes, state, reason):
    plant(planted(**changes))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", cures.UncheckedVersionWarning)
        (fix,) = ascend_fixes.patch("X1").cures
    assert fix.state == state and reason in fix.reason


def test_patch_names_what_it_left_out_for_the_version(plant):
    plant(planted(since=(99, 0), before=(100, 0)))
    with pytest.warns(
        cures.UncheckedVersionWarning, match=r"^X1: left out, not checked on MindSpore .*--only X1`"
    ) as said:
        ascend_fixes.patch("amp")
    assert len(said) == 1 and said[0].filename == __file__
    with pytest.warns(cures.UncheckedVersionWarning) as said, ascend_fixes.patched("X1"):
        pass
    assert len(said) == 1 and said[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ascend_fixes.patch("amp", skip=["X1"])


def test_the_old_names_of_status_and_report_work():
    with pytest.warns(DeprecationWarning, match="CureStatus"):
        old = ascend_fixes.FixStatus
    assert old is ascend_fixes.CureStatus
    report = ascend_fixes.patch("A4")
    assert report.fixes is report.cures


def test_a_reported_cure_is_applied_only_by_its_id(plant):
    plant(planted(verified=False))
    assert "X1" not in ascend_fixes.patch("amp").applied
    assert ascend_fixes.patch("X1").applied == ("X1",)


def test_a_missing_symbol_names_the_versions(plant):
    plant(planted(replacements=(Replacement("mindspore.amp:gone", lambda original: original),)))
    before = snapshot()
    with pytest.raises(
        MissingSymbolError,
        match=rf"no mindspore.amp:gone in MindSpore {mindspore.__version__}; .*X1 on MindSpore >=2.7,<2.11",
    ):
        ascend_fixes.patch("A4", "X1")
    assert_same(before)


def test_a_conflicting_patch_is_named(monkeypatch):
    monkeypatch.setattr(mindspore.amp.DynamicLossScaler, "adjust", lambda self, finite: True)
    with pytest.raises(ConflictError, match="DynamicLossScaler.adjust has already been replaced by .*test_cures"):
        ascend_fixes.patch()
    assert not [fix for fix in ascend_fixes.status() if fix.state == "applied"]


def signature(function):
    """None for what Python cannot look into: a method of MindSpore's C++ side."""
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        return None


@pytest.mark.parametrize("id_", PATCHES)
def test_replacements_keep_doc_signature_and_a_way_back(id_):
    for part in catalogue()[id_].patch.replacements:
        module, _, path = part.target.partition(":")
        owner = __import__(module, fromlist=["_"])
        *parents, name = path.split(".")
        for parent in parents:
            owner = getattr(owner, parent)
        original = inspect.getattr_static(owner, name)
        with ascend_fixes.patched(id_) as report:
            if id_ not in report.applied:
                pytest.skip(f"{id_} is not applied here: {report.cures[0].reason}")
            replacement = inspect.getattr_static(owner, name)
            assert replacement is not original
            # Without a docstring of its own a static method shows the class's.
            docs = [getattr(each, "__func__", each).__doc__ for each in (replacement, original)]
            assert docs[0] == docs[1]
            assert signature(replacement) == signature(original)
            # The graph compiler follows __wrapped__: what it parses itself names the original elsewhere.
            bare = [inspect.unwrap(getattr(each, "__func__", each)) for each in (replacement, original)]
            assert getattr(replacement, "__original__", None) is original or bare[0] is bare[1]


def test_only_the_seam_knows_private_names():
    import pathlib
    import re

    private = re.compile(
        r"mindspore\._(?!_version__)|_c_expression|_cell_graph_executor|_dynamic_shape_inputs|import _[a-z]\w+.*mindspore"
    )
    root = pathlib.Path(ascend_fixes.__file__).parent
    hits = [
        f"{path.relative_to(root)}:{number}: {line.strip()}"
        for path in sorted(root.rglob("*.py"))
        if path.parent.name != "_mindspore"
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if private.search(line)
    ]
    assert hits == []


def test_the_version_is_read_from_its_numbers(monkeypatch):
    monkeypatch.setattr(mindspore, "__version__", "2.10.0rc1")
    assert _mindspore.version() == (2, 10, 0)


def test_patching_from_threads_in_a_fresh_process(tmp_path):
    code = """
import threading, ascend_fixes
barrier = threading.Barrier(4)
def work():
    barrier.wait()
    for _ in range(5):
        with ascend_fixes.patched():
            pass
threads = [threading.Thread(target=work) for _ in range(4)]
[thread.start() for thread in threads]; [thread.join() for thread in threads]
assert not [fix for fix in ascend_fixes.status() if fix.state == "applied"]
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
