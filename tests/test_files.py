"""Files of the library and the examples: whole, or an error that names them."""

from __future__ import annotations

import gzip
import json
import os
import re
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ascend_fixes import files
from ascend_fixes.files import FileError, MissingFileError

ARRAYS = {"a": np.arange(6).reshape(2, 3), "b/c": np.array(["x", "yz"]), "empty": np.zeros((0, 4), np.float32)}


def same(found, wanted):
    return found.keys() == wanted.keys() and all(
        found[name].dtype == wanted[name].dtype and np.array_equal(found[name], wanted[name]) for name in wanted
    )


def test_arrays_come_back_as_they_were(tmp_path):
    files.write_arrays(tmp_path / "f.npz", "kind", ARRAYS)
    assert same(files.read_arrays(tmp_path / "f.npz", "kind", ("a",)), ARRAYS)
    with np.load(tmp_path / "f.npz") as plain:  # it stays a file that NumPy reads
        assert np.array_equal(plain["a"], ARRAYS["a"])


@settings(max_examples=400)
@given(st.data())
def test_whatever_happens_to_the_bytes_it_is_the_same_or_an_error(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "mutated.npz"
    files.write_arrays(path, "kind", ARRAYS)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        place, byte = data.draw(st.integers(0, len(content) - 1)), data.draw(st.integers(0, 255))
        how = data.draw(st.sampled_from(["set", "cut", "insert", "repeat"]))
        if how == "set":
            content[place] = byte
        elif how == "cut":
            del content[place : place + byte + 1]
        elif how == "insert":
            content.insert(place, byte)
        else:
            content[place:place] = content[place : place + byte]
        content = content or bytearray(1)
    path.write_bytes(bytes(content))
    try:
        assert same(files.read_arrays(path, "kind"), ARRAYS)
    except FileError as error:
        assert str(path) in str(error)


def archive(path, names, **options):
    with zipfile.ZipFile(path, "w", **options) as stream:
        for name, content in names.items():
            stream.writestr(name, content)


def member(shape, data=b"", dtype="<f4"):
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data


@pytest.mark.parametrize(
    "names",
    [
        {"format.npy": member((400_000_000,))},  # 1.6 GB by its header
        {"format.npy": member((-2, -1), bytes(8))},
        {"format.npy": member((1,), bytes(8), "|O")},
        {"format.npy": b"[" * 5000},
        {"format.npy": member("(" * 4000)},
        {"format": b"text"},
        {},
    ],
)
def test_what_a_header_declares_is_not_believed(tmp_path, names):
    import tracemalloc

    path = tmp_path / "f.npz"
    archive(path, names)
    tracemalloc.start()
    with pytest.raises(FileError, match=str(path)):
        files.read_arrays(path, "kind")
    assert tracemalloc.get_traced_memory()[1] < 1 << 22
    tracemalloc.stop()


def test_an_archive_that_unpacks_to_more_than_itself_is_refused(tmp_path):
    np.savez_compressed(tmp_path / "bomb.npz", a=np.zeros(10_000_000))
    with pytest.raises(FileError, match="compressed or encrypted"):
        files.read_arrays(tmp_path / "bomb.npz", "kind")
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(bytes(10_000_000)))
    with pytest.raises(FileError, match="unpack to more than"):
        files.read_text(tmp_path / "bomb.gz")


@pytest.mark.parametrize("read", [files.read_bytes, files.read_text, files.read_json, files.open_regular])
def test_a_fifo_a_device_and_a_folder_are_refused_and_not_waited_for(tmp_path, read):
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", "/dev/zero", tmp_path):
        with pytest.raises(FileError, match=re.escape(str(path))):
            read(path)
    with pytest.raises(MissingFileError, match="No such file"):
        read(tmp_path / "none")
    for wrong in (None, 3, "", "a\0b"):
        with pytest.raises(FileError, match="is no path"):
            read(wrong)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "{", "", "9" * 100_000 + "x", b"\xff"])
def test_json_that_is_none_is_named(tmp_path, text):
    path = tmp_path / "f.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    for read in (files.read_json, lambda path: files.read_record(path, "kind")):
        with pytest.raises(FileError, match=str(path)):
            read(path)


CONTENT = {"words": ["a", "é"], "rate": 0.1, "deep": {"b": [1, None, True]}}


def test_a_record_comes_back_and_no_flipped_bit_gives_another(tmp_path):
    path = tmp_path / "f.json"
    files.write_record(path, "kind", CONTENT)
    whole = path.read_bytes()
    assert files.read_record(path, "kind") == CONTENT
    with pytest.raises(FileError, match="holds 'kind', not 'other'"):
        files.read_record(path, "other")
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 7]) + whole[place + 1 :])
        try:
            assert files.read_record(path, "kind") == CONTENT
        except FileError as error:
            assert str(path) in str(error)


def test_what_a_killed_writer_left_is_swept_when_it_is_old(tmp_path):
    old, young, other = (tmp_path / f".{name}.part" for name in ("f.x", "f.y", "g.z"))
    for path in (old, young, other):
        path.touch()
    for path in (old, other):
        os.utime(path, (time.time() - 4000,) * 2)
    files.write_record(tmp_path / "f", "kind", {})
    assert not old.exists() and young.exists() and other.exists()
    files.sweep(tmp_path)
    assert young.exists() and not other.exists()


def test_an_error_while_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / "f"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), files.replacing(path) as stream:
        stream.write(b"new")
        1 / 0
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["f"]
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(FileError, match="not an ordinary file"), files.replacing(tmp_path / "fifo"):
        pass


def test_a_lock_is_held_once_and_never_through_a_link(tmp_path):
    with files.lock(tmp_path / "lock"), pytest.raises(files.LockedError):
        files.lock(tmp_path / "lock", wait=False)
    files.lock(tmp_path / "lock", wait=False).close()
    (tmp_path / "precious").write_text("kept")
    (tmp_path / "link").symlink_to(tmp_path / "precious")
    with pytest.raises(FileError, match="link"):
        files.lock(tmp_path / "link")
    assert (tmp_path / "precious").read_text() == "kept"


def test_a_folder_that_others_may_write_is_told_from_one_that_they_may_not(tmp_path):
    tmp_path.chmod(0o755)
    assert files.writable_by_others(tmp_path) == ""
    tmp_path.chmod(0o1777)
    assert "everybody" in files.writable_by_others(tmp_path)


def test_settings_stay_plain_json(tmp_path):
    files.write_record(tmp_path / "f", "kind", CONTENT)
    assert {**CONTENT, "format": "kind"}.items() <= json.loads((tmp_path / "f").read_text()).items()


def test_the_users_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert files.user_folder("XDG_CACHE_HOME", ".cache") == tmp_path / "ascend_fixes"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert files.user_folder("XDG_CACHE_HOME", ".cache") == tmp_path / "home" / ".cache" / "ascend_fixes"

    def nobody():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nobody)
    with pytest.raises(files.FileError, match="no home folder; set HOME or XDG_CACHE_HOME"):
        files.user_folder("XDG_CACHE_HOME", ".cache")
