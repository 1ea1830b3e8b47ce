"""The graph kernel's flag string: read, merged and written without losing a flag.

A flag is ``--key=value`` or ``--key``; spaces separate flags, commas the members
of a list. Of a key given twice MindSpore keeps the first and warns; of
``--path=file.json`` beside other flags it keeps the file alone; of the
environment variable and ``set_context`` it keeps the variable alone. Here lists
are united, a file is folded in, and what contradicts is an error that names
both sides.

Source of the format: MindSpore's documentation of ``graph_kernel_flags``
(https://www.mindspore.cn/docs/en/master/api_python/mindspore/mindspore.set_context.html),
and what version 2.10.0 did when run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ascend_fixes import _mindspore
from ascend_fixes.errors import AscendFixesError, UnknownNameError, nearest
from ascend_fixes.files import FileError, read_json

__all__ = ["Flag", "FlagConflictError", "FlagFileError", "exclusions", "merge", "opt_level", "parse", "render"]

# Each "disable" list with the lists it may contradict: additions to the default, and replacements of it.
_OPPOSITES: dict[str, tuple[str, ...]] = {
    "disable_cluster_ops": ("enable_cluster_ops", "enable_cluster_ops_only"),
    "disable_expand_ops": ("enable_expand_ops", "enable_expand_ops_only"),
    "disable_cce_lib_ops": ("enable_cce_lib_ops", "enable_cce_lib_ops_only"),
    "disable_packet_ops": ("enable_packet_ops_only",),
    "disable_fusion_pattern": ("enable_fusion_pattern_only",),
    "disable_simplify_exprs": ("enable_simplify_exprs_only",),
    "disable_pass": ("enable_pass",),
}
_LISTS = frozenset(_OPPOSITES) | {key for keys in _OPPOSITES.values() for key in keys}


_KEYS = {
    "cluster": "disable_cluster_ops",
    "expand": "disable_expand_ops",
    "packet": "disable_packet_ops",
    "pass": "disable_pass",
    "pattern": "disable_fusion_pattern",
}


class FlagConflictError(AscendFixesError, ValueError):
    """Two parties ask the graph kernel for opposite things."""


class FlagFileError(AscendFixesError, ValueError):
    """The file that ``--path`` names cannot be used."""


@dataclass(frozen=True)
class Flag:
    """One flag and who asked for it.

    Attributes:
        key: without the dashes: ``"disable_cluster_ops"``.
        values: the members of a list; of any other flag its one value, or nothing for a bare ``--key``.
        origins: who asked, member by member: ``("set_context", "patch F1")``.
    """

    key: str
    values: tuple[str, ...]
    origins: tuple[str, ...]

    def __str__(self) -> str:
        return f"--{self.key}={','.join(self.values)}" if self.values else f"--{self.key}"


def parse(text: str, origin: str) -> tuple[Flag, ...]:
    """The flags of a string, a ``--path`` file folded in.

    Args:
        text: flags separated by spaces.
        origin: who wrote them, for messages.

    Raises:
        FlagFileError: the file of ``--path`` is missing or is no JSON object of strings.
    """
    words = text.split()
    paths = [word.partition("=")[2] for word in words if word.startswith("--path=")]
    flags = [_flag(word, origin) for word in words if not word.startswith("--path=")]
    for path in paths:
        flags += [_flag(f"--{key}={value}", f"{origin}, file {path}") for key, value in _read(path, origin).items()]
    return tuple(flags)


def merge(flags: Iterable[Flag]) -> tuple[Flag, ...]:
    """One flag per key, in the order of first appearance; lists are united.

    Raises:
        FlagConflictError: one member is asked for and excluded, or one key has two values.
    """
    merged: dict[str, Flag] = {}
    for flag in flags:
        old = merged.get(flag.key)
        merged[flag.key] = _unite(old, flag) if old else flag
    for key, opposites in _OPPOSITES.items():
        for other in opposites:
            _check(merged.get(key), merged.get(other))
    return tuple(merged.values())


def render(flags: Iterable[Flag]) -> str:
    """The flags as MindSpore reads them."""
    return " ".join(map(str, flags))


def exclusions(operators: Iterable[str], origin: str) -> tuple[Flag, ...]:
    """The flags that leave these operators out.

    Raises:
        UnknownNameError: an operator or a prefix does not exist, or a string was given for a sequence of names.
    """
    if isinstance(operators, str):
        raise UnknownNameError(
            f"the operators must be a sequence of names, not the string {operators!r}; write [{operators!r}]"
        )
    found: list[Flag] = []
    for operator in operators:
        kind, colon, name = operator.rpartition(":")
        if colon and kind not in _KEYS:
            raise UnknownNameError(f"{operator!r}: the prefix must be one of {', '.join(_KEYS)}")
        if kind not in ("pass", "pattern") and name not in _mindspore.operator_names():
            remedy = nearest(
                name, _mindspore.operator_names(), "take the name from the compiled graph, as in 'ReduceSum'"
            )
            raise UnknownNameError(f"no operator is called {name!r}{remedy}")
        found += [Flag(_KEYS[key], (name,), (origin,)) for key in ([kind] if kind else ["cluster", "expand"])]
    return tuple(found)


def opt_level(flags: Iterable[Flag]) -> int | None:
    """The value of ``--opt_level``, which alone switches fusion on or off; None where it is not set."""
    value = next((flag.values for flag in flags if flag.key == "opt_level"), ())
    return int(value[0]) if value and value[0].isdigit() else None


def _flag(word: str, origin: str) -> Flag:
    key, _, value = word.partition("=")
    key = key[2:] if key.startswith("--") else key
    values = tuple(filter(None, value.split(","))) if key in _LISTS else (value,) if value else ()
    return Flag(key, values, (origin,) * max(1, len(values)))


def _read(path: str, origin: str) -> Mapping[str, str]:
    try:
        content = read_json(path)
    except FileError as error:
        raise FlagFileError(f"--path={path} ({origin}) cannot be read as JSON: {error}") from None
    if not isinstance(content, dict) or not all(isinstance(value, str) for value in content.values()):
        raise FlagFileError(f"--path={path} ({origin}) must hold one JSON object whose values are strings")
    return content


def _unite(old: Flag, new: Flag) -> Flag:
    added = [(value, who) for value, who in zip(new.values, new.origins) if value not in old.values]
    replaces = old.key not in _LISTS or old.key.endswith("_only")
    if replaces and (added or set(old.values) != set(new.values)):
        raise FlagConflictError(
            f"{old} ({old.origins[0]}) and {new} ({new.origins[0]}) contradict each other; leave one of them out"
        )
    return Flag(old.key, old.values + tuple(v for v, _ in added), old.origins + tuple(who for _, who in added))


def _check(excluded: Flag | None, wanted: Flag | None) -> None:
    if excluded is None or wanted is None:
        return
    for value, who in zip(excluded.values, excluded.origins):
        if value in wanted.values:
            other = wanted.origins[wanted.values.index(value)]
            raise FlagConflictError(
                f"--{excluded.key}={value} ({who}) contradicts --{wanted.key}={value} ({other}); leave one of them out"
            )
