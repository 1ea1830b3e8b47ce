"""The command line of every example, and what its options mean.

Without ``--fixes`` and ``--precision`` three variants run: plain in float32, then with
all fixes in float32 and in float16. float16 has the speed on a device; on a CPU it is emulated and
shows correctness only, so the two precisions are separate rows. A run writes its options
to ``options.json`` in its output folder, from where ``--resume`` takes them.
"""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from examples.common.errors import CheckpointError, UsageError
from examples.common.files import load_record, save_record

__all__ = ["FIXES", "Variant", "add_arguments", "natural", "parse_fixes", "positive", "remember", "settle", "variants"]

FIXES = ("shapes", "host", "fusion", "amp")
_FILE = "options.json"


@dataclass(frozen=True)
class Variant:
    """One way to train a model: with which families of fixes, computing in which precision."""

    fixes: tuple[str, ...]
    precision: str

    @property
    def name(self) -> str:
        """As it stands in the table, ``fixed float32``."""
        fixes = {(): "plain", FIXES: "fixed"}.get(self.fixes, ",".join(self.fixes))
        return f"{fixes} {self.precision}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that every example has. None stands for "not given": `settle` fills it in."""
    add = parser.add_argument
    add("--data", metavar="DIR", help="corpus folder (default: built-in, generated data)")
    add("--fixes", metavar="LIST", help=f"run only this variant: none, all, or some of {','.join(FIXES)}")
    add("--precision", choices=("float32", "float16"), help="compute only in it (default: the fixes in both)")
    add("--fused", choices=("on", "off"), help="graph-kernel fusion (default: off)")
    add("--epochs", type=positive, metavar="N", help="passes over the training data")
    add("--limit", type=positive, metavar="N", help="train on the first N training examples only (default: on all)")
    add("--seed", type=natural, metavar="N", help="seed of everything random (default: 0)")
    add("--distributed", type=positive, metavar="N", help="train data parallel in N processes (msrun; default: 1)")
    add(
        "--unbucketed",
        action="store_true",
        default=None,
        help="with the shapes fixes: their batches, all padded to the longest; what padding alone changes",
    )
    add("--output", metavar="DIR", help="where checkpoints, table and figure go (default: under runs/)")
    add("--json", metavar="FILE", help="write the results to FILE as well")
    add("--resume", metavar="DIR", help="go on with the interrupted run whose output is in DIR, with its options")


def positive(text: str) -> int:
    """An argparse type: an integer of at least 1."""
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return int(text)


def natural(text: str) -> int:
    """An argparse type: an integer of at least 0."""
    if int(text) < 0:
        raise argparse.ArgumentTypeError(f"must be at least 0, got {text}")
    return int(text)


def parse_fixes(text: str) -> tuple[str, ...]:
    """``none``, ``all``, or comma-separated families, in the order of `FIXES`.

    Raises:
        UsageError: a family does not exist.
    """
    if text in ("none", "all"):
        return FIXES if text == "all" else ()
    asked = [name.strip() for name in text.split(",")]
    for name in asked:
        if name not in FIXES:
            near = difflib.get_close_matches(name, ("none", "all", *FIXES), 1)
            remedy = f"did you mean {near[0]}?" if near else f"use none, all, or some of {','.join(FIXES)}"
            raise UsageError(f"--fixes {text}: there is no {name!r}; {remedy}")
    return tuple(name for name in FIXES if name in asked)


def variants(options: Mapping[str, Any]) -> tuple[Variant, ...]:
    """The variants that the options ask for.

    Raises:
        UsageError: ``fixes`` names a family that does not exist.
    """
    if options["fixes"] is not None:
        return (Variant(parse_fixes(options["fixes"]), options["precision"] or "float32"),)
    if options["precision"] is not None:
        return Variant((), options["precision"]), Variant(FIXES, options["precision"])
    return Variant((), "float32"), Variant(FIXES, "float32"), Variant(FIXES, "float16")


def settle(given: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The options of this run: what was given, else what a resumed run was started with, else the default.

    Raises:
        CheckpointError: ``--resume`` names a folder that holds no run, or a damaged one.
        UsageError: an option differs from the resumed run's.
    """
    given = {name: value for name, value in given.items() if value is not None}
    if "resume" not in given:
        return {**defaults, **given, "resume": None}
    folder = Path(given.pop("resume"))
    stored = _recall(folder)
    for name, value in given.items():
        if name not in ("json", "epochs") and value != stored.get(name):
            raise UsageError(f"--{name} {value}: the run in {folder} has {stored.get(name)}; leave the option out")
    return {**defaults, **stored, **given, "output": str(folder), "resume": str(folder)}


def remember(options: Mapping[str, Any]) -> None:
    """Write the options of a fresh run to its output folder."""
    content = {name: value for name, value in options.items() if name != "resume"}
    save_record(Path(options["output"]) / _FILE, "options", {"options": content})


def _recall(folder: Path) -> dict[str, Any]:
    if not (folder / _FILE).exists():
        raise CheckpointError(f"--resume {folder}: holds no run (no {_FILE})")
    stored = load_record(folder / _FILE, "options").get("options")
    if not isinstance(stored, dict):
        raise CheckpointError(f"--resume {folder}: {_FILE} is damaged (no options in it)")
    return stored
