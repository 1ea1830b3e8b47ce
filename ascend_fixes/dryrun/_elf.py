"""Reading and writing ELF shared libraries (64 bits, little endian), as far as stand-ins need it.

The format: System V gABI, chapter 4 and 5 (object files; dynamic linking); the relocation numbers are those of the
psABI supplements for x86-64 and AArch64. No binutils and no compiler are needed.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ascend_fixes.errors import AscendFixesError

__all__ = ["AARCH64", "X86_64", "ElfError", "Library", "pack", "read", "sysv_hash"]

X86_64, AARCH64 = 62, 183
_SHARED_OBJECT = 3
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_DYNAMIC = struct.Struct("<qQ")
_RELOCATION = struct.Struct("<QQq")
_MAGIC = b"\x7fELF\x02\x01\x01"  # 64 bits, little endian, version 1
_SECTION_DYNAMIC, _SECTION_DYNSYM = 6, 11
_TEXT = 4  # the number of the section with the code, in what is written here
_NEEDED, _SONAME = 1, 14
_PAGE = {X86_64: 0x1000, AARCH64: 0x10000}
_RELATIVE = {X86_64: 8, AARCH64: 1027}  # R_X86_64_RELATIVE, R_AARCH64_RELATIVE


class ElfError(AscendFixesError, ValueError):
    """A file is no shared library that can be read here."""


@dataclass(frozen=True)
class Library:
    """What the dynamic linker sees of a shared library.

    Attributes:
        machine: `X86_64`, `AARCH64` or another number of the ELF registry.
        soname: the name it goes by; "" where it has none.
        needed: the libraries it is linked to.
        undefined: the names it expects of others.
        defined: the names it offers.
    """

    machine: int
    soname: str
    needed: tuple[str, ...]
    undefined: frozenset[str]
    defined: frozenset[str]


# --- reading ------------------------------------------------------------------------------------


def read(path: str | Path) -> Library:
    """Read the names of a shared library.

    Raises:
        ElfError: the file is no 64-bit little-endian shared library, or its headers point outside of it.
        OSError: it cannot be opened.
    """
    with open(path, "rb") as file:
        try:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:  # an empty file has no map
            raise ElfError(f"{path} is empty") from None
        with data:
            return _Reader(data, str(path)).library()


class _Reader:
    """Every offset is held against the file's size before it is followed."""

    def __init__(self, data: mmap.mmap, path: str) -> None:
        self._data, self._path = data, path

    def library(self) -> Library:
        ident, kind, machine, _, _, _, sections_at, _, _, _, _, size, count, _ = self._unpack(_HEADER, 0)
        if ident[: len(_MAGIC)] != _MAGIC or kind != _SHARED_OBJECT:
            raise ElfError(f"{self._path} is no 64-bit little-endian shared library")
        if count and size != _SECTION.size:
            raise ElfError(f"{self._path} has section headers of {size} bytes, not {_SECTION.size}")
        sections = [self._unpack(_SECTION, sections_at + index * size) for index in range(count)]
        needed, soname = [], ""
        undefined: set[str] = set()
        defined: set[str] = set()
        for section in sections:
            kind, offset, length, link = section[1], section[4], section[5], section[6]
            if kind not in (_SECTION_DYNAMIC, _SECTION_DYNSYM):
                continue
            if link >= count:
                raise ElfError(f"{self._path} has a section whose names are in section {link} of {count}")
            names = self._part(sections[link][4], sections[link][5])
            table = self._part(offset, length)
            if kind == _SECTION_DYNSYM:
                for name, _, _, home, _, _ in _SYMBOL.iter_unpack(table[: length - length % _SYMBOL.size]):
                    if name:
                        (defined if home else undefined).add(self._text(names, name))
                continue
            for tag, value in _DYNAMIC.iter_unpack(table[: length - length % _DYNAMIC.size]):
                if tag == _NEEDED:
                    needed.append(self._text(names, value))
                elif tag == _SONAME:
                    soname = self._text(names, value)
        return Library(machine, soname, tuple(needed), frozenset(undefined), frozenset(defined))

    def _unpack(self, form: struct.Struct, offset: int) -> tuple:
        return form.unpack(self._part(offset, form.size))

    def _part(self, offset: int, length: int) -> bytes:
        if offset + length > len(self._data):
            raise ElfError(f"{self._path} is cut short: {length} bytes at {offset} of {len(self._data)}")
        return self._data[offset : offset + length]

    def _text(self, names: bytes, at: int) -> str:
        end = names.find(b"\0", at)
        if at >= len(names) or end < 0:
            raise ElfError(f"{self._path} has a name at {at} of {len(names)} bytes of names")
        return names[at:end].decode("latin-1")


# --- writing ------------------------------------------------------------------------------------


def pack(
    machine: int,
    soname: str,
    functions: Mapping[str, bytes] | None = None,
    needed: Sequence[str] = (),
    addresses: Mapping[str, int] | None = None,
    data: bytes = b"",
    pointers: Mapping[int, int] | None = None,
) -> bytes:
    """The bytes of a shared library.

    Args:
        machine: `X86_64` or `AARCH64`.
        soname: the name it goes by.
        functions: machine code by name; names with the same code share it.
        needed: the libraries it is linked to.
        addresses: functions that return the address of ``data`` at the given offset.
        data: a writable part.
        pointers: offsets into ``data`` (multiples of 8) that hold the address of ``data`` at another offset when loaded.

    Raises:
        ElfError: no code can be written for this machine.
    """
    if machine not in _PAGE:
        raise ElfError(f"stand-ins can be written for x86-64 and aarch64, not for ELF machine {machine}")
    functions, addresses, pointers = dict(functions or {}), dict(addresses or {}), dict(pointers or {})
    page = _PAGE[machine]
    strings = _Strings()
    soname_at, needed_at = strings.add(soname), [strings.add(name) for name in needed]
    names = [*functions, *(name for name in addresses if name not in functions)]
    name_at = [strings.add(name) for name in names]
    code, places = _lay_out(functions, addresses, machine)

    symbols_at = _HEADER.size + 4 * _SEGMENT.size
    hash_at = symbols_at + _SYMBOL.size * (len(names) + 1)
    table = _hash_table(names)
    strings_at = hash_at + len(table)
    code_at = _aligned(strings_at + len(strings.text), 16)
    data_at = _aligned(code_at + len(code), page)
    relocations_at = data_at + _aligned(len(data), 16)
    relocations = b"".join(
        _RELOCATION.pack(data_at + place, _RELATIVE[machine], data_at + target) for place, target in pointers.items()
    )
    dynamic_at = relocations_at + len(relocations)
    entries = [(_NEEDED, at) for at in needed_at] + [(_SONAME, soname_at)]
    entries += [(4, hash_at), (5, strings_at), (6, symbols_at), (10, len(strings.text)), (11, _SYMBOL.size)]
    if relocations:
        entries += [(7, relocations_at), (8, len(relocations)), (9, _RELOCATION.size)]
    dynamic = b"".join(_DYNAMIC.pack(*entry) for entry in [*entries, (0, 0)])
    end = dynamic_at + len(dynamic)

    for name, offset in addresses.items():
        place = places[name]
        code[place : place + 12] = _address_code(machine, code_at + place, data_at + offset)
    symbols = _SYMBOL.pack(0, 0, 0, 0, 0, 0) + b"".join(
        _SYMBOL.pack(at, 0x12, 0, _TEXT, code_at + places[name], 4) for at, name in zip(name_at, names)
    )
    sections_at = _aligned(end, 8)
    sections, section_names = _sections(
        [
            (".dynsym", _SECTION_DYNSYM, 2, symbols_at, len(symbols), ".dynstr", 1, 8, _SYMBOL.size),
            (".dynstr", 3, 2, strings_at, len(strings.text), "", 0, 1, 0),
            (".hash", 5, 2, hash_at, len(table), ".dynsym", 0, 8, 4),
            (".text", 1, 6, code_at, len(code), "", 0, 16, 0),
            (".data", 1, 3, data_at, len(data), "", 0, 16, 0),
            (".rela.dyn", 4, 2, relocations_at, len(relocations), ".dynsym", 0, 8, _RELOCATION.size),
            (".dynamic", _SECTION_DYNAMIC, 3, dynamic_at, len(dynamic), ".dynstr", 0, 8, _DYNAMIC.size),
        ],
        sections_at,
    )
    out = bytearray(sections_at + len(sections))
    ident = _MAGIC.ljust(16, b"\0")
    segments = [
        (1, 5, 0, 0, 0, code_at + len(code), code_at + len(code), page),  # names and code: read, execute
        (1, 6, data_at, data_at, data_at, end - data_at, end - data_at, page),  # data: read, write
        (2, 6, dynamic_at, dynamic_at, dynamic_at, len(dynamic), len(dynamic), 8),
        (0x6474E551, 6, 0, 0, 0, 0, 0, 16),  # PT_GNU_STACK: the stack is not executable
    ]
    header = _HEADER.pack(
        *(ident, _SHARED_OBJECT, machine, 1, 0, _HEADER.size, sections_at, 0, _HEADER.size),
        *(_SEGMENT.size, len(segments), _SECTION.size, section_names + 1, section_names),
    )
    parts = [
        (0, header + b"".join(_SEGMENT.pack(*segment) for segment in segments)),
        (symbols_at, symbols),
        (hash_at, table),
        (strings_at, bytes(strings.text)),
        (code_at, bytes(code)),
        (data_at, data),
        (relocations_at, relocations),
        (dynamic_at, dynamic),
        (sections_at, sections),
    ]
    for at, part in parts:
        out[at : at + len(part)] = part
    return bytes(out)


def _sections(described: Sequence[tuple], at: int) -> tuple[bytes, int]:
    """Section headers, with their own names behind them, for a place in the file; and the number of the names' section.

    Each is name, type, flags, offset (and address), size, name of the linked section, info, alignment, size of an entry.
    """
    strings, numbers = _Strings(), {part[0]: number for number, part in enumerate(described, 1)}
    headers = [bytes(_SECTION.size)]
    for name, kind, flags, offset, size, link, info, alignment, entry in described:
        linked = numbers.get(link, 0)
        headers.append(
            _SECTION.pack(strings.add(name), kind, flags, offset, offset, size, linked, info, alignment, entry)
        )
    own = strings.add(".shstrtab")
    names_at = at + _SECTION.size * (len(headers) + 1)
    headers.append(_SECTION.pack(own, 3, 0, 0, names_at, len(strings.text), 0, 0, 1, 0))
    return b"".join(headers) + bytes(strings.text), len(headers) - 1


class _Strings:
    """A string table: every text once, the empty one first."""

    def __init__(self) -> None:
        self.text = bytearray(b"\0")
        self._at: dict[str, int] = {"": 0}

    def add(self, text: str) -> int:
        if text not in self._at:
            self._at[text] = len(self.text)
            self.text += text.encode("latin-1") + b"\0"
        return self._at[text]


def _lay_out(
    functions: Mapping[str, bytes], addresses: Mapping[str, int], machine: int
) -> tuple[bytearray, dict[str, int]]:
    """The code, each different piece once at a multiple of 16, and where the code of each name is."""
    code, shared, places = bytearray(), {}, {}

    def place(piece: bytes) -> int:
        code.extend(b"\0" * (_aligned(len(code), 16) - len(code)))
        code.extend(piece)
        return len(code) - len(piece)

    for name, piece in functions.items():
        if piece not in shared:
            shared[piece] = place(piece)
        places[name] = shared[piece]
    for name in addresses:
        places[name] = place(bytes(12))
    return code, places


def _address_code(machine: int, here: int, target: int) -> bytes:
    """12 bytes of code at ``here`` that return ``target``."""
    if machine == X86_64:  # lea rax, [rip + distance]; ret
        return b"\x48\x8d\x05" + struct.pack("<i", target - (here + 7)) + b"\xc3" + b"\xcc" * 4
    pages = (target >> 12) - (here >> 12)  # adrp x0, page; add x0, x0, rest; ret
    adrp = 0x90000000 | (pages & 3) << 29 | (pages >> 2 & 0x7FFFF) << 5
    return struct.pack("<III", adrp, 0x91000000 | (target & 0xFFF) << 10, 0xD65F03C0)


def sysv_hash(name: str) -> int:
    """The hash of a symbol's name in a DT_HASH table (gABI, figure 5-13)."""
    value = 0
    for byte in name.encode("latin-1"):
        value = (value << 4) + byte
        high = value & 0xF0000000
        value ^= high >> 24
        value &= ~high
    return value & 0xFFFFFFFF


def _hash_table(names: Sequence[str]) -> bytes:
    """A DT_HASH table over the symbols 1, 2, ... of these names."""
    buckets, chains = [0] * max(1, len(names) // 2), [0] * (len(names) + 1)
    for index, bucket in _numbered(names, len(buckets)):
        chains[index], buckets[bucket] = buckets[bucket], index
    return struct.pack(f"<{2 + len(buckets) + len(chains)}I", len(buckets), len(chains), *buckets, *chains)


def _numbered(names: Sequence[str], buckets: int) -> Iterator[tuple[int, int]]:
    for index, name in enumerate(names, 1):
        yield index, sysv_hash(name) % buckets


def _aligned(size: int, to: int) -> int:
    return (size + to - 1) // to * to
