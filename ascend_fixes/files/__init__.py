"""Files that are believed whole or not at all: how everything here is written to disk and read back.

Writing. The bytes go to a file beside the target, are on the disk before the name points at them, and take the name
in one step (`replacing`): a reader sees the old file or the new one, whenever the writer is killed and whoever else
writes. What a killed writer leaves behind is swept by a later one.

Reading. Arrays (`write_arrays`, `read_arrays`) lie in an npz archive whose comment is a digest of its kind and of its
list of members with their sizes and checksums; JSON (`write_record`, `read_record`) carries a digest of its content.
Both are checked before anything is used. They tell of damage, not of forgery. Nothing is unpickled, no size that a
header declares is trusted beyond the size of the file, and only ordinary files are read: a FIFO or a device is
refused, not waited for. Whatever goes wrong is a `FileError` that names the file.
"""

from ascend_fixes.files._arrays import read_array_header, read_arrays, write_arrays
from ascend_fixes.files._plain import (
    EVERYBODY,
    FileError,
    LockedError,
    MissingFileError,
    PathLike,
    check_writable,
    lock,
    open_regular,
    parse_json,
    read_bytes,
    read_json,
    read_record,
    read_text,
    replacing,
    sweep,
    sync_folder,
    user_folder,
    writable_by_others,
    write_record,
)

__all__ = [
    "EVERYBODY",
    "FileError",
    "LockedError",
    "MissingFileError",
    "PathLike",
    "check_writable",
    "lock",
    "open_regular",
    "parse_json",
    "read_array_header",
    "read_arrays",
    "read_bytes",
    "read_json",
    "read_record",
    "read_text",
    "replacing",
    "sweep",
    "sync_folder",
    "user_folder",
    "writable_by_others",
    "write_arrays",
    "write_record",
]
