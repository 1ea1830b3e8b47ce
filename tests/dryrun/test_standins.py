"""Making and keeping the stand-ins, from a small wheel of our own making."""

from __future__ import annotations

import os
import platform
import shutil
import threading

import pytest

from ascend_fixes.dryrun import _environment, _standins
from ascend_fixes.dryrun._elf import AARCH64, X86_64, pack, read
from ascend_fixes.dryrun._standins import (
    CANN,
    CUT,
    OpenNames,
    StandInError,
    folder_of_standins,
    is_vendor_name,
    make,
    open_names,
)
from ascend_fixes.processes import Outcome

pytestmark = pytest.mark.skipif(platform.system() != "Linux", reason="stand-ins are for Linux")
OPEN = OpenNames(
    X86_64,
    ("libascendcl.so", "libgraph.so"),
    ("aclInit", "_ZN2ge5ShapeC1Ev", "_ZNK2ge8Operator7GetNameEv", "aclnnGemmGetWorkspaceSize"),
    ("aclrtMalloc",),
)


@pytest.fixture
def wheel(tmp_path):
    """A wheel whose plugin is linked to one library that nobody brings."""
    folder = tmp_path / "mindspore" / "lib"
    (folder / "plugin" / "ascend").mkdir(parents=True)
    plugin = pack(X86_64, "libmindspore_ascend.so.2", {"own": b"\xc3"}, ["libgraph.so", "libc.so.6", "libown.so"])
    (folder / "plugin" / "libmindspore_ascend.so.2").write_bytes(plugin)
    (folder / "libown.so").write_bytes(pack(X86_64, "libown.so"))
    (folder / "plugin" / "ascend" / "liblinker_script.so").write_text("GROUP ( libc.so.6 )")
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "ascend_fixes" / "standins"


@pytest.mark.parametrize(
    "name", ["aclrtMalloc", "HcclAllReduce", "_ZN2ge5ShapeC1Ev", "memcpy_s", "rtSetDevice", "hi_mpi_x"]
)
def test_the_vendors_names_are_exported(name):
    assert is_vendor_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "_ZNSs4_Rep10_M_destroyERKSaIcE",
        "_ZN9mindspore4CoreEv",
        "malloc",
        "PyObject_Call",
        "aclsysGetCANNVersion",
        "main",
    ],
)
def test_names_of_others_never_are(name):
    assert not is_vendor_name(name)


def test_what_a_wheel_leaves_open_is_read_and_odd_files_are_passed_over(wheel):
    found = open_names(wheel)
    assert (found.machine, found.libraries) == (X86_64, ("libgraph.so",))


def test_a_wheel_without_an_ascend_part_is_refused(tmp_path):
    (tmp_path / "lib").mkdir()
    with pytest.raises(StandInError, match="no Ascend part"):
        open_names(tmp_path / "lib")


@pytest.mark.parametrize("machine", [X86_64, AARCH64])
def test_stand_ins_export_what_is_open_on_both_processors(tmp_path, machine):
    make(OpenNames(machine, *list(vars(OPEN).values())[1:]), tmp_path)
    library = read(tmp_path / CANN / "lib64" / "libascendcl.so")
    assert library.machine == machine
    assert {*OPEN.functions, *OPEN.looked_up, "aclnnGemm", "aclnnInit", "aclrtGetSocName"} <= library.defined
    assert read(tmp_path / CANN / "lib64" / "libgraph.so").needed == ("libascendcl.so",)
    assert CANN.startswith("cann")


def test_they_are_made_once_and_anew_for_a_changed_wheel(wheel, monkeypatch):
    first = folder_of_standins(wheel)
    made = []
    monkeypatch.setattr(_standins, "make", lambda names, folder: made.append(folder) or make(names, folder))
    assert folder_of_standins(wheel) == first and not made
    os.utime(wheel / "plugin" / "libmindspore_ascend.so.2", (1, 1))
    assert folder_of_standins(wheel) != first and len(made) == 1


@pytest.mark.parametrize("damage", ["cut", "missing", "added"])
def test_damaged_ones_are_made_anew(wheel, damage):
    library = folder_of_standins(wheel) / CANN / "lib64" / "libascendcl.so"
    whole = library.read_bytes()
    if damage == "cut":
        library.write_bytes(whole[:100])
    elif damage == "missing":
        library.unlink()
    else:
        (library.parent / "libevil.so").write_bytes(whole)
    again = folder_of_standins(wheel) / CANN / "lib64"
    assert (again / "libascendcl.so").read_bytes() == whole
    assert not (again / "libevil.so").exists()


def test_several_at_once_end_with_one_set_and_nothing_else(wheel, cache):
    results, errors = [], []

    def work():
        try:
            results.append(folder_of_standins(wheel))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and len(set(results)) == 1
    assert [path.name for path in cache.iterdir()] == [results[0].name]


def test_a_failure_leaves_nothing(wheel, cache, monkeypatch):
    monkeypatch.setattr(_standins, "make", lambda names, folder: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        folder_of_standins(wheel)
    assert list(cache.iterdir()) == []


def test_a_cache_that_others_may_write_is_refused(wheel, cache):
    cache.mkdir(parents=True)
    cache.chmod(0o777)
    with pytest.raises(StandInError, match="chmod go-w"):
        folder_of_standins(wheel)


def test_the_vendors_own_libraries_are_found_and_stand_ins_are_not_taken_for_them(wheel, tmp_path, monkeypatch):
    monkeypatch.setattr(_environment.processes, "run", lambda *_, **__: Outcome(0, "", 0.0))
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    for name in ("ASCEND_HOME_PATH", "ASCEND_TOOLKIT_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert _environment.vendor_libraries() is None
    standins = folder_of_standins(wheel) / CANN / "lib64"
    monkeypatch.setenv("LD_LIBRARY_PATH", str(standins))
    assert _environment.vendor_libraries() is None
    real = tmp_path / "vendor" / "lib64"
    shutil.copytree(standins, real)
    monkeypatch.setenv("ASCEND_HOME_PATH", str(tmp_path / "vendor"))
    assert _environment.vendor_libraries() == real
    found = _environment.libraries_for(wheel, lambda text: None)
    assert not found.standins and str(real) in found.label


def test_the_linkers_cache_is_asked(tmp_path, monkeypatch):
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "libascendcl.so").write_bytes(b"")
    line = f"\tlibascendcl.so (libc6,x86-64) => {tmp_path}/lib/libascendcl.so\n"
    monkeypatch.setattr(_environment.processes, "run", lambda *_, **__: Outcome(0, line, 0.0))
    assert _environment.vendor_libraries() == tmp_path / "lib"


@pytest.mark.parametrize(
    "system, machine, devices, message",
    [
        ("Darwin", "arm64", [], "Linux"),
        ("Linux", "riscv64", [], "riscv64"),
        ("Linux", "x86_64", ["/dev/davinci0"], "--on-device"),
    ],
)
def test_unsuitable_machines_are_refused(monkeypatch, system, machine, devices, message):
    monkeypatch.setattr(_environment.platform, "system", lambda: system)
    monkeypatch.setattr(_environment.platform, "machine", lambda: machine)
    monkeypatch.setattr(_environment.glob, "glob", lambda pattern: devices)
    with pytest.raises(_environment.DryRunError, match=message):
        _environment.check_machine(on_device=False)


def test_a_device_is_used_only_if_asked(monkeypatch):
    monkeypatch.setattr(_environment.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(_environment.glob, "glob", lambda pattern: ["/dev/davinci0"])
    _environment.check_machine(on_device=True)


def test_a_mindspore_that_cuts_the_path_behind_cann_finds_the_same_libraries(tmp_path):
    make(OPEN, tmp_path)
    assert (tmp_path / CUT / "lib64" / "libascendcl.so").samefile(tmp_path / CANN / "lib64" / "libascendcl.so")
