"""Arrays in npz archives that say what they hold, checked before they are used."""

from __future__ import annotations

import hashlib
import math
import os
import zipfile
from collections.abc import Collection, Mapping
from typing import IO, Any

import numpy as np

from ascend_fixes.files._plain import FileError, PathLike, open_regular, reason_of, replacing

__all__ = ["read_array_header", "read_arrays", "write_arrays"]


def write_arrays(path: PathLike, kind: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Write named arrays as an npz file that says what it is and carries a digest of its list of members.

    Args:
        path: the file to create or replace.
        kind: what it holds.
        arrays: by name, of numbers or strings; none may be named "format".

    Raises:
        FileError: as `replacing`.
    """
    # numpy.savez leaves a half-open archive behind when the disk is full, which complains when it is collected.
    with replacing(path) as stream, zipfile.ZipFile(stream, "w") as archive:
        for name, array in {"format": np.array(kind), **arrays}.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as part:
                np.lib.format.write_array(part, np.asarray(array), allow_pickle=False)
        archive.comment = _seal(archive)


def read_arrays(
    path: PathLike,
    kind: str,
    names: Collection[str] = (),
    *,
    earlier: str | None = None,
    optional: Collection[str] = (),
) -> dict[str, np.ndarray]:
    """Read what `write_arrays` wrote under the same ``kind``; list and content are checked.

    Args:
        path: the file.
        kind: what it has to hold.
        names: arrays that have to be there.
        earlier: a kind that was written before there was a digest, and is read without one: of such a file each
            member's own checksum is verified, and that there is none but ``names`` and ``optional``.
        optional: arrays that such a file may have.

    Raises:
        FileError: the file is missing, truncated, damaged, holds Python objects, is compressed, or is of another kind.
    """
    with open_regular(path) as stream:
        try:
            arrays, sealed = _members(stream)
        except (
            Exception
        ) as error:  # there is no end to what foreign bytes raise in zipfile and in NumPy's header parser
            reason = "it ends early" if isinstance(error, (EOFError, IndexError)) else reason_of(error)
            raise FileError(f"{path} is not a whole {kind} file ({reason}); restore it from a copy") from error
    found = str(arrays.pop("format", ""))
    if found == earlier and not sealed:
        unknown = sorted(set(arrays) - {*names, *optional})
        if unknown:
            raise FileError(f"{path} is not a whole {kind} file ({unknown[0]!r} in it); restore it from a copy")
    elif found != kind:
        raise FileError(f"{path} holds {found or 'something else'!r}, not {kind!r}; pass a file that was saved as that")
    elif not sealed:
        raise FileError(f"{path} is not a whole {kind} file (its checksum differs); restore it from a copy")
    missing = [name for name in names if name not in arrays]
    if missing:
        raise FileError(f"{path} lacks {', '.join(missing)}; it was not written by this library's save")
    return arrays


def _members(stream: IO[bytes]) -> tuple[dict[str, np.ndarray], bool]:
    """All arrays of an archive, and whether its digest is right; raises anything for what is no such archive."""
    size = os.fstat(stream.fileno()).st_size
    with zipfile.ZipFile(stream) as archive:
        members = archive.infolist()
        for member in members:
            if member.flag_bits & 1 or member.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"{member.filename!r} is compressed or encrypted")
        if len({member.filename for member in members}) < len(members):
            raise ValueError("two members have one name")
        if sum(member.file_size for member in members) > size:
            raise ValueError("its members are larger than the file")
        sealed = archive.comment == _seal(archive)
        return {member.filename[: -len(".npy")]: _array(archive, member) for member in members}, sealed


def _seal(archive: zipfile.ZipFile) -> bytes:
    """A digest of the list of members; their content is covered by the checksums in it, which reading verifies."""
    members = [(member.filename, member.file_size, member.CRC) for member in archive.infolist()]
    return b"ascend_fixes sha256:" + hashlib.sha256(repr(members).encode()).hexdigest().encode()


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    """One array; its header is looked at before the memory for it is taken."""
    if not member.filename.endswith(".npy"):
        raise ValueError(f"{member.filename!r} is no array")
    with archive.open(member) as part:
        read_array_header(part, member.file_size)
    with archive.open(member) as part:
        array = np.lib.format.read_array(part, allow_pickle=False)
        if part.read(1):  # reading to the end verifies the checksum
            raise ValueError(f"{member.filename!r} goes on after its end")
    return array


def read_array_header(stream: Any, size: int) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether in Fortran order, and dtype of an array in NumPy's format; the stream then stands at its numbers.

    Args:
        stream: open in binary, at the array's beginning.
        size: bytes of the header and the numbers.

    Raises:
        ValueError: it is none, holds Python objects, or is not as long as it says.
    """
    try:
        version = np.lib.format.read_magic(stream)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, fortran_order, dtype = read[version](stream)
    except Exception as error:  # NumPy's parser lets through what the tokenizer and the compiler raise
        raise ValueError(f"no array in NumPy's format 1 or 2: {reason_of(error)}") from None
    if dtype.hasobject:
        raise ValueError("an array holds Python objects")
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != size - stream.tell():
        raise ValueError(f"an array of {dtype} is not as long as its shape {shape} says")
    return shape, fortran_order, dtype
