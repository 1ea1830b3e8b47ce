"""Shared libraries as written: read back, loaded, and looked at by binutils where they are installed."""

from __future__ import annotations

import ctypes
import platform
import shutil
import struct
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ascend_fixes.dryrun._elf import AARCH64, X86_64, ElfError, pack, read, sysv_hash

NAMES = st.text("abcXYZ_019", min_size=1, max_size=12)
ZERO = {X86_64: bytes.fromhex("31c0c3"), AARCH64: struct.pack("<II", 0x52800000, 0xD65F03C0)}
HERE = {"x86_64": X86_64, "aarch64": AARCH64}.get(platform.machine())
loads = pytest.mark.skipif(platform.system() != "Linux" or HERE is None, reason="needs Linux on x86-64 or aarch64")


@given(
    machine=st.sampled_from([X86_64, AARCH64]),
    soname=NAMES,
    functions=st.dictionaries(NAMES, st.binary(min_size=1, max_size=40), max_size=20),
    addressed=st.dictionaries(NAMES, st.integers(0, 63), max_size=5),
    needed=st.lists(NAMES, max_size=4, unique=True),
)
def test_what_is_written_is_read_back(tmp_path_factory, machine, soname, functions, addressed, needed):
    path = tmp_path_factory.mktemp("elf") / "library.so"
    path.write_bytes(pack(machine, soname, functions, needed, addressed, bytes(64), {8: 16}))
    library = read(path)
    assert (library.machine, library.soname, library.needed) == (machine, soname, tuple(needed))
    assert library.defined == {*functions, *addressed}
    assert library.undefined == frozenset()


@given(st.lists(NAMES, min_size=1, max_size=50, unique=True))
def test_every_name_is_found_through_the_hash_table(tmp_path_factory, names):
    data = pack(X86_64, "library.so", dict.fromkeys(names, b"\xc3"))
    path = tmp_path_factory.mktemp("hash") / "library.so"
    path.write_bytes(data)
    sections = struct.unpack_from("<Q", data, 40)[0]
    symbols, strings, table = (struct.unpack_from("<Q", data, sections + 64 * at + 24)[0] for at in (1, 2, 3))
    buckets, chains = struct.unpack_from("<II", data, table)
    assert chains == len(names) + 1
    for name in names:
        index = struct.unpack_from("<I", data, table + 8 + 4 * (sysv_hash(name) % buckets))[0]
        met = []
        while index:
            at = strings + struct.unpack_from("<I", data, symbols + 24 * index)[0]
            met.append(data[at : data.index(b"\0", at)].decode())
            index = struct.unpack_from("<I", data, table + 8 + 4 * buckets + 4 * index)[0]
        assert name in met


@given(cut=st.integers(0, 4000), noise=st.binary(max_size=8), at=st.integers(0, 400))
def test_a_damaged_file_is_refused_or_read_but_never_followed_out_of_it(tmp_path_factory, cut, noise, at):
    data = bytearray(pack(X86_64, "library.so", {"one": b"\xc3", "two": b"\x90\xc3"}, ["libc.so.6"]))
    data[at : at + len(noise)] = noise
    path = tmp_path_factory.mktemp("damaged") / "library.so"
    path.write_bytes(data[: len(data) - cut])
    try:
        read(path)
    except ElfError as error:
        assert str(path) in str(error)


@pytest.mark.parametrize(
    "content", [b"", b"\x7fELF", b"GROUP ( libc.so.6 )", bytes(64), b"\x7fELF\x01\x01\x01" + bytes(60)]
)
def test_a_file_that_is_no_library_is_refused_by_name(tmp_path, content):
    (tmp_path / "odd.so").write_bytes(content)
    with pytest.raises(ElfError, match="odd.so"):
        read(tmp_path / "odd.so")


@loads
def test_a_written_library_loads_and_its_functions_answer(tmp_path):
    (tmp_path / "library.so").write_bytes(
        pack(
            HERE,
            "library.so",
            {"zero": ZERO[HERE]},
            (),
            {"text": 16, "word": 8},
            bytes(16) + b"hello\0" + bytes(10),
            {8: 16},
        )
    )
    library = ctypes.CDLL(str(tmp_path / "library.so"))
    library.text.restype, library.word.restype = ctypes.c_char_p, ctypes.c_void_p
    assert library.zero() == 0
    assert library.text() == b"hello"
    assert ctypes.c_void_p.from_address(library.word()).value == library.word() + 8, "the pointer was not relocated"


@pytest.mark.skipif(shutil.which("readelf") is None, reason="binutils are not installed")
@pytest.mark.parametrize("machine, name", [(X86_64, "X86-64"), (AARCH64, "AArch64")])
def test_binutils_see_a_sound_library(tmp_path, machine, name):
    (tmp_path / "library.so").write_bytes(
        pack(machine, "library.so", {"zero": ZERO[machine]}, ["libc.so.6"], {"text": 0}, bytes(32), {8: 16})
    )
    done = subprocess.run(["readelf", "-aW", tmp_path / "library.so"], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    for part in (name, "[library.so]", "[libc.so.6]", "RELATIVE", "zero", "text", "GNU_STACK"):
        assert part in done.stdout


def test_another_processor_is_refused():
    with pytest.raises(ElfError, match="machine 8"):
        pack(8, "library.so")
