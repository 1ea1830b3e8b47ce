"""What `bucketed` pads: ragged arguments, their axes, their sizes, and the outputs to cut back.

`RaggedInputs` is made once, checked against the arguments of ``construct``, and then only
read: it maps the shapes of a call to the sizes the call is padded to.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mindspore import Tensor

from ascend_fixes.errors import AscendFixesError
from ascend_fixes.shapes import _padding as padding
from ascend_fixes.shapes._buckets import Buckets, LengthError
from ascend_fixes.shapes._grid import Grid

__all__ = ["AxesError", "CellTypeError", "Outputs", "RaggedArgument", "RaggedInputs"]

DEFAULT_NAME = "length"
OVERFLOWS = ("error", "grow", "truncate")

Axes = tuple[tuple[int, str], ...]


class AxesError(AscendFixesError, ValueError):
    """Arguments, axes, buckets or outputs of `bucketed` that do not fit together."""


class CellTypeError(AscendFixesError, TypeError):
    """Something that is no cell, or no bucketed cell, where one is needed."""


@dataclass(frozen=True)
class RaggedArgument:
    """An argument to pad: its place, its ragged axes as (axis, name of the length), its pad value.

    One inside of a container, ``"batch.ids"`` or ``"states.0"``, has the keys that lead there in ``keys``.
    """

    name: str
    index: int
    axes: Axes
    pad: Any
    keys: tuple[Any, ...] = ()

    def of(self, args: Sequence[Any]) -> Any:
        """Its value in a call; None where it is left out."""
        value = args[self.index] if self.index < len(args) else None
        for key in self.keys:
            try:
                value = value[key] if value is not None else None
            except (KeyError, IndexError, TypeError):
                return None
        return value

    def put(self, args: list[Any], new: Any) -> None:
        """Put ``new`` in its place; containers on the way are copied."""
        args[self.index] = _with_part(args[self.index], self.keys, new)

    def lengths(self, value: padding.Array) -> list[tuple[str, int]]:
        """The named lengths of ``value``."""
        shape = value.shape
        try:
            return [(name, shape[axis]) for axis, name in self.axes]
        except IndexError:
            raise LengthError(
                f"argument {self.name!r} has shape {list(shape)}, so axes={dict(self.axes)} cannot be padded; "
                f"pass an array with that many axes"
            ) from None


@dataclass(frozen=True)
class RaggedInputs:
    """See `bucketed` for the meaning of the parts.

    Attributes:
        arguments: the ragged arguments by position.
        sizers: (names of the lengths, what gives their sizes): one name with Buckets, or two with a Grid.
        masks: (name, position of the mask, the argument it marks).
    """

    arguments: tuple[RaggedArgument, ...]
    sizers: tuple[tuple[tuple[str, ...], Buckets | Grid], ...]
    outputs: Outputs | None
    masks: tuple[tuple[str, int, RaggedArgument], ...]
    overflow: str

    @classmethod
    def make(
        cls,
        names: tuple[list[str], bool],
        axes: Mapping | None,
        buckets: Any,
        pad: Any = 0,
        outputs: Any = None,
        masks: Mapping[str, str] | None = None,
        overflow: str = "error",
    ) -> RaggedInputs:
        """Check and normalise what `bucketed` was given; ``names`` are construct's, and whether it takes more."""
        if overflow not in OVERFLOWS:
            raise AxesError(f"overflow={overflow!r} is unknown; choose one of {', '.join(OVERFLOWS)}")
        if not isinstance(axes, Mapping) or not axes:
            raise AxesError(f'axes={axes!r} names no ragged axis; pass axes={{"ids": 1}}')
        pads = pad if isinstance(pad, Mapping) else dict.fromkeys(axes, pad)
        _only_known("pad", pads, axes)
        arguments = tuple(
            RaggedArgument(str(name), *_place(name, names, _axes(name, spec), pads.get(name, 0)))
            for name, spec in axes.items()
        )
        by_name = {argument.name: argument for argument in arguments}
        masks = dict(masks or {})
        _only_known("masks", masks.values(), by_name)
        lengths = list(dict.fromkeys(name for argument in arguments for _, name in argument.axes))
        return cls(
            arguments,
            _sizers(buckets, lengths),
            None if outputs is None else Outputs.make(outputs, lengths),
            tuple((mask, _position("masks", mask, names), by_name[of]) for mask, of in masks.items()),
            overflow,
        )

    @property
    def advice(self) -> str:
        """What to do about too many graphs of a bucketed cell."""
        sizes = "; ".join(f"{' x '.join(names)}: {sizer.sizes}" for names, sizer in self.sizers)
        return f"Its buckets are {sizes}: use fewer, or raise max_graphs"

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the lengths, in the order of the arguments."""
        return tuple(dict.fromkeys(name for argument in self.arguments for _, name in argument.axes))

    def lengths(self, args: Sequence[Any]) -> dict[str, int]:
        """The ragged lengths of a call, by name. Raises `LengthError` where two axes of one name differ."""
        lengths: dict[str, int] = {}
        for argument in self.arguments:
            value = argument.of(args)
            if not padding.is_array(value):
                continue
            for name, length in argument.lengths(value):
                if lengths.setdefault(name, length) != length:
                    raise LengthError(
                        f"argument {argument.name!r} has {name} {length}, but another argument of this call has "
                        f"{lengths[name]}; pass arrays of one length, or give the axes different names in axes="
                    )
        return lengths

    def sizes(self, lengths: Mapping[str, int]) -> dict[str, int]:
        """The size of every length. Raises `LengthError`, naming the argument, for an over-long one."""
        sizes: dict[str, int] = {}
        for names, sizer in self.sizers:
            if not any(name in lengths for name in names):
                continue  # an optional argument was left out
            values = _values(names, lengths)
            try:
                found = sizer(*values)
            except LengthError:
                raise LengthError(self._over_long(names, values, sizer)) from None
            sizes.update(zip(names, found if isinstance(found, tuple) else (found,)))
        return {name: sizes[name] for name in lengths}

    def _over_long(self, names: tuple[str, ...], values: list[int], sizer: Buckets | Grid) -> str:
        who = next(a.name for a in self.arguments if any(name in names for _, name in a.axes))
        return (
            f"argument {who!r} has {' x '.join(names)} {' x '.join(map(str, values))}, "
            f"over the largest bucket {sizer.sizes[-1]}; add a bucket that holds it, shorten the input, "
            f'or pass overflow="grow" or overflow="truncate"'
        )

    def grown(self, lengths: Mapping[str, int]) -> RaggedInputs:
        """The same with sizes added that hold ``lengths``."""
        sizers = tuple(
            (names, sizer.grown(*_values(names, lengths)) if any(name in lengths for name in names) else sizer)
            for names, sizer in self.sizers
        )
        return replace(self, sizers=sizers)

    def truncated(self, lengths: Mapping[str, int]) -> dict[str, int]:
        """The sizes to which over-long ``lengths`` are cut, and others padded."""
        sizes: dict[str, int] = {}
        for names, sizer in self.sizers:
            found = sizer.truncated(*_values(names, lengths))
            sizes.update(zip(names, found if isinstance(found, tuple) else (found,)))
        return {name: sizes[name] for name in lengths}

    def all_sizes(self) -> list[dict[str, int]]:
        """Every combination of sizes that a call can be padded to."""
        choices = [
            [dict(zip(names, size if isinstance(size, tuple) else (size,))) for size in sizer]
            for names, sizer in self.sizers
        ]
        return [{name: size for part in parts for name, size in part.items()} for parts in itertools.product(*choices)]

    def missing_masks(self, args: Sequence[Any]) -> list[tuple[str, RaggedArgument]]:
        """The masks to build: (name, the argument they mark)."""
        return [
            (mask, source)
            for mask, index, source in self.masks
            if (index >= len(args) or args[index] is None) and padding.is_array(source.of(args))
        ]


@dataclass(frozen=True)
class Outputs:
    """Which axes of which outputs to cut back: the axes of a Tensor, or the same for the parts of a container."""

    axes: Axes = ()
    parts: tuple[tuple[Any, Outputs], ...] = ()

    @classmethod
    def make(cls, spec: Any, lengths: Sequence[str]) -> Outputs:
        """From an int, ints, ``{axis: name}``, or a mapping of positions or keys to such."""
        if spec is None:
            return cls()
        if isinstance(spec, Mapping) and not (spec and all(isinstance(name, str) for name in spec.values())):
            return cls(parts=tuple((key, cls.make(value, lengths)) for key, value in spec.items()))
        axes = _axes("outputs", spec, lengths[0] if len(lengths) == 1 else DEFAULT_NAME)
        for _, name in axes:
            if name not in lengths:
                known = ", ".join(map(repr, lengths))
                raise AxesError(f"outputs name the length {name!r}, but axes= has {known}; write {{axis: name}}")
        return cls(axes=axes)

    def crop(self, output: Any, lengths: Mapping[str, int], sizes: Mapping[str, int]) -> Any:
        """``output`` with its named axes cut from ``sizes`` to ``lengths``."""
        if self.parts:
            return self._crop_parts(output, lengths, sizes)
        if not self.axes or output is None:
            return output
        if not isinstance(output, Tensor):
            raise AxesError(f"outputs= names axes of a {type(output).__name__}; name the Tensors inside it")
        wanted = [(axis, lengths[name]) for axis, name in self.axes if lengths.get(name) != sizes.get(name)]
        for axis, name in self.axes:
            if not -output.ndim <= axis < output.ndim or output.shape[axis] != sizes.get(name, output.shape[axis]):
                raise AxesError(
                    f"outputs= says that axis {axis} of an output of shape {list(output.shape)} is {name}, "
                    f"but {name} was padded to {sizes[name]}; correct outputs="
                )
        return padding.crop(output, wanted) if wanted else output

    def _crop_parts(self, output: Any, lengths: Mapping[str, int], sizes: Mapping[str, int]) -> Any:
        if isinstance(output, Tensor) and [key for key, _ in self.parts] == [0]:
            return self.parts[0][1].crop(output, lengths, sizes)
        if not isinstance(output, (tuple, list, dict)):
            raise AxesError(f"outputs= names parts of a {type(output).__name__}; it has none")
        kept = dict(output) if isinstance(output, dict) else dict(enumerate(output))
        for key, part in self.parts:
            if key not in kept:
                raise AxesError(f"outputs= names {key!r}, but the output has {', '.join(map(repr, kept))}")
            kept[key] = part.crop(kept[key], lengths, sizes)
        if isinstance(output, dict):
            return kept
        if hasattr(output, "_fields"):
            return type(output)(*kept.values())
        return type(output)(kept.values())


def _values(names: tuple[str, ...], lengths: Mapping[str, int]) -> list[int]:
    """The named lengths; one whose argument was left out counts as 1."""
    return [lengths.get(name, 1) for name in names]


def _axes(name: Any, spec: Any, default: str = DEFAULT_NAME) -> Axes:
    """Normalise 1, (1, 2) or {1: "source"} to ((axis, name of the length), ...)."""
    if isinstance(spec, int) and not isinstance(spec, bool):
        return ((spec, default),)
    if isinstance(spec, Mapping):
        pairs = tuple(spec.items())
    elif isinstance(spec, (tuple, list)):
        pairs = tuple((axis, default) for axis in spec)
    else:
        pairs = ()
    good = pairs and all(isinstance(a, int) and not isinstance(a, bool) and isinstance(n, str) for a, n in pairs)
    if not good:
        raise AxesError(f"axes of {name!r} are {spec!r}; pass an axis, several axes, or {{axis: name of the length}}")
    return pairs


def _place(name: Any, names: tuple[list[str], bool], axes: Axes, pad: Any) -> tuple[int, Axes, Any, tuple[Any, ...]]:
    """Position, axes, pad value, and for ``"batch.ids"`` the keys that lead into the argument."""
    if isinstance(name, str) and name not in names[0] and "." in name:
        outer, *keys = name.split(".")
        return _position("axes", outer, names), axes, pad, tuple(int(k) if k.isdigit() else k for k in keys)
    return _position("axes", name, names), axes, pad, ()


def _with_part(value: Any, keys: tuple[Any, ...], new: Any) -> Any:
    """A container with another part at the end of ``keys``."""
    if not keys:
        return new
    part = _with_part(value[keys[0]], keys[1:], new)
    if isinstance(value, dict):
        return {**value, keys[0]: part}
    items = [part if place == keys[0] else item for place, item in enumerate(value)]
    return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)


def _position(option: str, name: Any, names: tuple[list[str], bool]) -> int:
    known, variadic = names
    if name in known:
        return known.index(name)
    if isinstance(name, int) and not isinstance(name, bool) and name >= 0 and (variadic or name < len(known)):
        return name
    raise AxesError(
        f"{option}= names {name!r}, but construct takes {', '.join(known) or '*inputs'}; "
        f"use its argument names{' or positions' if variadic else ''}"
    )


def _only_known(option: str, given: Any, known: Any) -> None:
    for name in given:
        if name not in known:
            raise AxesError(f"{option}= names {name!r}, which axes= does not; it has {', '.join(map(repr, known))}")


def _sizers(buckets: Any, lengths: list[str]) -> tuple[tuple[tuple[str, ...], Buckets | Grid], ...]:
    if isinstance(buckets, Buckets):
        return tuple(((name,), buckets) for name in lengths)
    if isinstance(buckets, Grid):
        if len(lengths) != 2:
            raise AxesError(
                f"a Grid gives two sizes, but axes= names {len(lengths)} length(s): {', '.join(lengths)}; "
                f'name two, as in {{"source": {{1: "source"}}, "target": {{1: "target"}}}}'
            )
        return ((tuple(lengths), buckets),)
    if not isinstance(buckets, Mapping):
        raise AxesError(f"buckets={buckets!r}; pass a Buckets, a Grid, or a mapping from the names of lengths to them")
    sizers = []
    for key, sizer in buckets.items():
        names = key if isinstance(key, tuple) else (key,)
        wanted = Grid if len(names) == 2 else Buckets
        if not isinstance(sizer, wanted):
            raise AxesError(f"buckets[{key!r}] is {sizer!r}; pass a {wanted.__name__} for {len(names)} length(s)")
        sizers.append((names, sizer))
    covered = [name for names, _ in sizers for name in names]
    if sorted(covered) != sorted(lengths):
        raise AxesError(
            f"buckets= has sizes for {', '.join(map(repr, covered))}, "
            f"axes= names {', '.join(map(repr, lengths))}; each length needs one"
        )
    return tuple(sizers)
