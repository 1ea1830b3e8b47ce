"""Stand-ins for the vendor's libraries: shared libraries with the names that the user's own wheel leaves open.

MindSpore's Ascend plugin is linked to libraries of CANN, and looks further functions of theirs up by name when it is
loaded. A stand-in exports these names; each function returns 0, which is success in the vendor's interfaces. Nothing of
the vendor's is copied: the names are read from the wheel, the code is a handful of instructions written here.

They are made at first use and kept under the user's cache folder, one set for each wheel and machine.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import shutil
import stat
import struct
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from ascend_fixes import _mindspore
from ascend_fixes.dryrun._elf import AARCH64, X86_64, ElfError, Library, pack, read
from ascend_fixes.errors import AscendFixesError
from ascend_fixes.files import user_folder

__all__ = [
    "CANN",
    "StandInError",
    "cache_folder",
    "folder_of_standins",
    "is_vendor_name",
    "key_of_wheel",
    "make",
    "name_chip",
    "open_names",
]

# The vendor's folder: 2.7.0 looks for "latest" in the libraries' path, later ones for a name that begins with "cann"; 2.7.1 and
# 2.7.2 cut the path behind that word, which is another folder.
CANN, CUT = "cann-latest", "cann"
FORMAT = 5  # of what is written: a new number makes every wheel's stand-ins anew


class StandInError(AscendFixesError, RuntimeError):
    """The stand-ins cannot be made or kept here."""


@dataclass(frozen=True)
class OpenNames:
    """What a wheel leaves open.

    Attributes:
        machine: the ELF number of the processor it is built for.
        libraries: names of libraries that it is linked to and that nobody brings.
        functions: names it expects of them when it is loaded.
        looked_up: names it asks for later.
    """

    machine: int
    libraries: tuple[str, ...]
    functions: tuple[str, ...]
    looked_up: tuple[str, ...]


# --- what the wheel leaves open -----------------------------------------------------------------

# The vendor's interfaces: C functions by prefix, C++ ones by namespace. Nothing else is ever exported: a stand-in with a
# name of the C++ library or of MindSpore itself would take the place of the real one.
_C_NAME = re.compile(
    r"(acl|Acl|[Hh]ccl|rt|hal|[Mm]sprof|[Pp]rof|[Aa]tb|Alog|Dlog|Nnopbase|mm|ge|Ascend)[A-Z]\w*"
    r"|acl(dvpp|mdl|nn|op|prof|rt|tdt|vdec|venc)[A-Z]\w*|profApi\w*|CheckLogLevel|hi_\w+|[a-z]+_s"
)
_CXX_NAME = re.compile(
    r"_ZT[VIS]N(2ge|3ops|2fe|8optiling|3atb|4gert|13error_message)"
    r"|_ZNK?(2ge|3ops|2fe|8optiling|3atb|9atb_speed|4gert|9aclTensor|13error_message|12ErrorManager|3Adx)\d|_ZN2ge|_Z\d+(Dlog|CheckLogLevel|Nnopbase)"
)
# Names in the constant data of the plugin that may be handed to dlsym.
_PREFIXES = (b"acl", b"Hccl", b"hccl", b"rt", b"hal", b"Msprof", b"msprof", b"profApi", b"Prof", b"Atb", b"atb")
_LOOKED_UP = re.compile(
    rb"(?:acl(?:rt|op|mdl|tdt|prof)?|[Hh]ccl|rt|hal|[Mm]sprof|profApi|Prof|[Aa]tb)[A-Z][A-Za-z0-9]{2,70}(?=\0)"
)
# Asked for and unanswered, this one ends the fuser in an uncaught error; absent, it is not asked.
_NEVER = frozenset({"aclsysGetCANNVersion"})
# Of the operators' functions, MindSpore's own registry knows which exist; these two are called.
_ALWAYS = ("aclnnInit", "aclnnFinalize")
# Libraries opened by name when the plugin is loaded.
_OPENED = (
    *("libacl_op_compiler.so", "libacl_tdt_channel.so", "libacl_tdt_queue.so", "libacl_mdl.so", "libacl_rt.so"),
    *("libopapi_math.so", "libopapi_nn.so", "libopapi_transformer.so", "libopapi_cv.so", "driver/libascend_hal.so"),
)
_SYSTEM = ("/lib64", "/usr/lib64", "/lib", "/usr/lib")
_TRIPLES = {X86_64: "x86_64-linux-gnu", AARCH64: "aarch64-linux-gnu"}


def is_vendor_name(name: str) -> bool:
    """Whether a symbol belongs to the vendor's interfaces, and may be exported by a stand-in."""
    return name not in _NEVER and bool(_C_NAME.fullmatch(name) or _CXX_NAME.match(name))


def open_names(folder: Path, progress: Callable[[int, int], None] = lambda done, of: None) -> OpenNames:
    """Read what the wheel whose shared libraries are in ``folder`` leaves open.

    Raises:
        StandInError: the wheel has no Ascend part.
    """
    paths = _mindspore.ascend_libraries(folder)
    own = {path.name for path in folder.rglob("*.so*")}
    libraries: list[Library] = []
    looked_up: set[str] = set()
    for done, path in enumerate(paths):
        progress(done, len(paths))
        try:
            library = read(path)
        except ElfError:
            continue  # a script for the linker, a kernel of the device: nothing that this process loads
        if libraries and library.machine != libraries[0].machine:
            continue
        libraries.append(library)
        if "dlsym" in library.undefined:  # others, with hundreds of MB of kernels among them, look nothing up
            looked_up |= {name for name in _texts(path) if is_vendor_name(name)}
    progress(len(paths), len(paths))
    if not libraries:
        raise StandInError(
            f"the MindSpore in {folder.parent} has no Ascend part: its wheel from PyPI for Linux has one"
        )
    machine = libraries[0].machine
    needed = {name for library in libraries for name in library.needed}
    defined = {name for library in libraries for name in library.defined}
    wanted = {name for library in libraries for name in library.undefined} - defined
    return OpenNames(
        machine,
        tuple(sorted(name for name in needed - own if _nobody_brings(name, machine))),
        tuple(sorted(filter(is_vendor_name, wanted))),
        tuple(sorted(looked_up)),
    )


def _texts(path: Path) -> Iterator[str]:
    """The texts in a file that have the form of a name to look up. Searched prefix by prefix: files have 100 MB."""
    data = path.read_bytes()
    for prefix in _PREFIXES:
        at = data.find(b"\0" + prefix)
        while at >= 0:
            match = _LOOKED_UP.match(data, at + 1)
            if match:
                yield match.group().decode()
            at = data.find(b"\0" + prefix, at + 1)


def _nobody_brings(name: str, machine: int) -> bool:
    """Whether a library is the vendor's and absent: those of a system carry a version behind ``.so``."""
    if not name.endswith(".so") or name.startswith(("_c_", "libpython", "libmpi")):
        return False
    folders = [*_SYSTEM, *(f"{folder}/{_TRIPLES.get(machine, '')}" for folder in ("/lib", "/usr/lib"))]
    return not any(os.path.exists(os.path.join(folder, name)) for folder in folders)


# --- what the stand-ins do ----------------------------------------------------------------------

_ZERO = {X86_64: bytes.fromhex("31c0c3"), AARCH64: struct.pack("<II", 0x52800000, 0xD65F03C0)}
# Constructors, and functions that return an object: an empty object of 16 or 24 bytes. On x86-64 both get its place as
# the first argument and return it; on AArch64 a returned object's place comes in x8, a constructor's in x0.
_X86_OBJECT = bytes.fromhex("4889f831c948890848894808")
_OBJECT = {
    (X86_64, 16, "made"): _X86_OBJECT + b"\xc3",
    (X86_64, 24, "made"): _X86_OBJECT + bytes.fromhex("48894810c3"),
    (AARCH64, 16, "made"): struct.pack("<II", 0xA9007C1F, 0xD65F03C0),
    (AARCH64, 24, "made"): struct.pack("<III", 0xA9007C1F, 0xF900081F, 0xD65F03C0),
    (AARCH64, 16, "returned"): struct.pack("<II", 0xA9007D1F, 0xD65F03C0),
    (AARCH64, 24, "returned"): struct.pack("<III", 0xA9007D1F, 0xF900091F, 0xD65F03C0),
}
_GE_METHOD = re.compile(r"_ZNK?2ge(\d+)(\w+)")
_RETURNS_OBJECT = re.compile(
    r"\d+(CreateOperator|Get(Shape|OriginShape|Dims|TensorDesc|OutputDesc|Name|OpType|DirectNode|InControlNodes"
    r"|OutControlNodes|InDataNodes\w*|OutDataNodes\w*|CompiledGraphSummary))E"
)
_LARGE = ("Operator", "GetDims", "GetDirectNode")  # objects of three words: a class with methods, a vector
# What is returned by address: an empty registry of status texts, whose map refers to itself; an empty text; and the
# chip's name, which `name_chip` writes.
_REGISTRY, _EMPTY, _CHIP, _DATA_SIZE = 0, 320, 384, 448
_POINTERS = {24: 8, 32: 8}
_ADDRESSES = {
    "_ZN2ge13StatusFactory8InstanceEv": _REGISTRY,
    "_ZNK2ge12AscendString9GetStringEv": _EMPTY,
    "aclGetRecentErrMsg": _EMPTY,
    "HcclGetErrorString": _EMPTY,
    "aclrtGetSocName": _CHIP,
}


def _code(name: str, machine: int) -> bytes:
    """The code of a stand-in's function."""
    method = _GE_METHOD.match(name)
    if method:
        length = int(method.group(1))
        rest = method.group(2)[length:]
        size = 24 if any(word in name for word in _LARGE) else 16
        if re.match(r"C[12]E", rest):
            return _OBJECT[machine, size, "made"]
        if _RETURNS_OBJECT.match(rest):
            return _OBJECT.get((machine, size, "returned")) or _OBJECT[machine, size, "made"]
    return _ZERO[machine]


def make(names: OpenNames, folder: Path) -> None:
    """Write the stand-ins into ``folder``: the libraries, and ``python`` with the module hccl.

    MindSpore asks the collective library's Python package for its version.

    Raises:
        ElfError: they cannot be written for this machine.
    """
    asked = dict.fromkeys([*names.functions, *names.looked_up, *_ALWAYS])
    asked.update(dict.fromkeys(name.replace("GetWorkspaceSize", "") for name in [*asked]))
    functions = {name: _code(name, names.machine) for name in asked} if names.machine in _ZERO else {}
    libraries = folder / CANN / "lib64"
    (libraries / "driver").mkdir(parents=True)
    whole = pack(
        names.machine, "libascendcl.so", functions, addresses=_ADDRESSES, data=bytes(_DATA_SIZE), pointers=_POINTERS
    )
    (libraries / "libascendcl.so").write_bytes(whole)
    for name in dict.fromkeys([*names.libraries, *_OPENED]):
        if name != "libascendcl.so":
            (libraries / name).write_bytes(pack(names.machine, os.path.basename(name), needed=["libascendcl.so"]))
    for name in ("opp", "opp_kernel"):
        (folder / CANN / name).mkdir()
    (folder / CUT).symlink_to(CANN)
    module = folder / "python" / "hccl"
    module.mkdir(parents=True)
    (module / "__init__.py").write_text('"""A stand-in for the vendor\'s package, for dry runs."""\n', encoding="utf-8")
    (module / "sys_version.py").write_text('__sys_version__ = "0"\n', encoding="utf-8")


def is_standin(library: Path) -> bool:
    """Whether a library was written here."""
    return (library.resolve().parents[2] / "sums").is_file()


def name_chip(name: str) -> None:
    """Make the stand-ins loaded into this process give this name to whoever asks which chip there is."""
    library = ctypes.CDLL("libascendcl.so")
    library.aclrtGetSocName.restype = ctypes.c_void_p
    text = name.encode() + b"\0"
    ctypes.memmove(library.aclrtGetSocName(), text, min(len(text), _DATA_SIZE - _CHIP))


# --- keeping them -------------------------------------------------------------------------------


def cache_folder() -> Path:
    """Where stand-ins are kept: ``$XDG_CACHE_HOME/ascend_fixes``, by default ``~/.cache/ascend_fixes``."""
    return user_folder("XDG_CACHE_HOME", ".cache")


def folder_of_standins(wheel: Path, progress: Callable[[int, int], None] = lambda done, of: None) -> Path:
    """The folder with the stand-ins for a wheel, made now if there is none or it was damaged.

    Args:
        wheel: the folder with MindSpore's shared libraries.
        progress: called with the files read and their number while stand-ins are made.

    Raises:
        StandInError: the wheel has no Ascend part, or the cache folder cannot be written or belongs to others.
        ElfError: they cannot be written for this machine.
    """
    base = cache_folder() / "standins"
    kept = base / key_of_wheel(wheel)
    try:
        base.mkdir(parents=True, exist_ok=True, mode=0o700)
        _own(base)
        if _whole(kept):
            return kept
        fresh = Path(tempfile.mkdtemp(prefix="making-", dir=base))
    except OSError as error:
        raise StandInError(
            f"{base} cannot be used ({error.strerror}): set XDG_CACHE_HOME to a folder of yours"
        ) from None
    try:
        make(open_names(wheel, progress), fresh)
        (fresh / "sums").write_text(_sums(fresh), encoding="utf-8")
        return _put(fresh, kept)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def key_of_wheel(wheel: Path) -> str:
    """A name for what the stand-ins depend on: the wheel's files and the form of what is written here."""
    facts = [str(FORMAT), str(wheel)]
    for path in _mindspore.ascend_libraries(wheel):
        about = path.stat()
        facts.append(f"{path.relative_to(wheel.parent)} {about.st_size} {about.st_mtime_ns}")
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]


def _own(folder: Path) -> None:
    """Refuse libraries that somebody else could have written: they are loaded into the user's process."""
    for part in (folder, folder.parent):
        about = part.stat()
        if about.st_uid not in (os.getuid(), 0) or about.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise StandInError(
                f"{part} can be written by other users, and libraries are loaded from it: "
                "remove their permission (chmod go-w), or set XDG_CACHE_HOME to a folder of your own"
            )


def _files(folder: Path) -> Iterable[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "sums")


def _sums(folder: Path) -> str:
    return "".join(
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder)}\n"
        for path in _files(folder)
        if "__pycache__" not in path.parts
    )


def _whole(folder: Path) -> bool:
    """Whether the stand-ins are as they were written."""
    try:
        return (folder / "sums").read_text(encoding="utf-8") == _sums(folder)
    except (OSError, ValueError):
        return False


def _put(fresh: Path, kept: Path) -> Path:
    """Move what was made to its place; if another process was as quick, take that one's."""
    for _ in range(3):
        try:
            os.rename(fresh, kept)
            return kept
        except OSError:  # it exists
            if _whole(kept):
                return kept
            with tempfile.TemporaryDirectory(prefix="damaged-", dir=kept.parent) as aside:
                try:
                    os.rename(kept, Path(aside) / "old")
                except FileNotFoundError:
                    pass
    raise StandInError(f"{kept} cannot be replaced: remove it")
