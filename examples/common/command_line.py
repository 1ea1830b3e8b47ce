"""An example's whole run: its options, one process per variant, table and figure.

Without ``--fixes`` and ``--precision`` three variants run: plain in float32, then with
all fixes in float32 and in float16. float16 has the speed on a device; on a CPU it is emulated and
shows correctness only, so the two precisions are separate rows. A run writes its options
to ``options.json`` in its output folder, from where ``--resume`` takes them.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ascend_fixes.processes import Children
from examples.common import report, trainer, variants
from examples.common.files import CheckpointError, ExampleError, UsageError, load_record, save_record

__all__ = ["FIXES", "Options", "Variant", "main", "natural", "parse_fixes", "positive", "run_variant", "settled"]

Options = dict[str, Any]
FIXES = ("shapes", "host", "fusion", "amp")
_FILE = "options.json"
_INTERRUPTED = 130


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


def main(name: str, arguments: Sequence[str] | None = None) -> int:
    """``python -m examples.NAME``; returns the exit status: 0 if all variants finished, 1 if not, 2 for wrong use."""
    command = f"python -m examples.{name}"
    try:
        options = settled(name, arguments)
        trainer.load(name).check(options)
        if not options["resume"]:
            remember(options)
        try:
            rows = [run_variant(name, options, variant) for variant in asked(options)]
        except KeyboardInterrupt:
            print(f"\ninterrupted; go on with: {command} --resume {options['output']}", file=sys.stderr)
            return _INTERRUPTED
        _finish(name, options, rows)
    except (ExampleError, OSError) as error:
        if str(error):
            print(f"{command}: {error}", file=sys.stderr)
        return 2
    return 0 if all(row["status"] == "finished" for row in rows) else 1


def run_variant(name: str, options: Options, variant: Variant, children: Children | None = None) -> dict[str, Any]:
    """Run one variant in a process of its own (``children``: see `variants.run`); its options and its results."""
    own = trainer.load(name).options
    paths = {option: options[option] for option in ("data", *(one for one in own if own[one].get("metavar") in _PATHS))}
    output = Path(options["output"])
    request = {
        **{option: options[option] for option in (*own, "epochs", "limit", "seed", "distributed", "unbucketed")},
        **{option: _absolute(path) for option, path in paths.items()},
        **{"variant": variant.name, "fixes": list(variant.fixes), "precision": variant.precision},
        "fused": options["fused"] == "on",
    }
    folder = output / variant.name.replace(" ", "-").replace(",", "+")
    result = variants.run(f"examples.{name}.train", request, folder, bool(options["resume"]), children)
    return {**request, **paths, **result}  # what is published names files as the user did, and not where they lie here


def _absolute(path: str | None) -> str | None:
    """The training runs in another folder; what names no file there is left as it is."""
    return str(Path(path).resolve()) if path and Path(path).exists() else path


def _finish(name: str, options: Options, rows: Sequence[dict[str, Any]]) -> None:
    output = Path(options["output"])
    data = Path(options["data"]).name if options["data"] else "built-in data"
    title = f"{trainer.load(name).title} on {data}, {options['epochs']} epochs"
    report.write(rows, output, title, options["json"])


# --- options -----------------------------------------------------------------------------------

_PATHS = ("DIR", "FILE")  # metavars of an example's own options that name what is read


def parser(name: str) -> argparse.ArgumentParser:
    """The options that every example has, and its own. None stands for "not given": `settle` fills it in."""
    about = trainer.load(name)
    made = argparse.ArgumentParser(
        prog=f"python -m examples.{name}",
        description=f"Train {about.about} as a newcomer to MindSpore writes it, then with the fixes.",
    )
    add_arguments(made)
    for option, settings in about.options.items():
        made.add_argument(f"--{option}", **settings)
    return made


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that every example has."""
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
    return _at_least(1, text)


def natural(text: str) -> int:
    """An argparse type: an integer of at least 0."""
    return _at_least(0, text)


def _at_least(least: int, text: str) -> int:
    if int(text) < least:
        raise argparse.ArgumentTypeError(f"must be at least {least}, got {text}")
    return int(text)


def parse_fixes(text: str) -> tuple[str, ...]:
    """``none``, ``all``, or comma-separated families, in the order of `FIXES`.

    Raises:
        UsageError: a family does not exist.
    """
    if text in ("none", "all"):
        return FIXES if text == "all" else ()
    named = [name.strip() for name in text.split(",")]
    for name in named:
        if name not in FIXES:
            near = difflib.get_close_matches(name, ("none", "all", *FIXES), 1)
            remedy = f"did you mean {near[0]}?" if near else f"use none, all, or some of {','.join(FIXES)}"
            raise UsageError(f"--fixes {text}: there is no {name!r}; {remedy}")
    return tuple(name for name in FIXES if name in named)


def asked(options: Mapping[str, Any]) -> tuple[Variant, ...]:
    """The variants that the options ask for.

    Raises:
        UsageError: ``fixes`` names a family that does not exist.
    """
    if options["fixes"] is not None:
        return (Variant(parse_fixes(options["fixes"]), options["precision"] or "float32"),)
    if options["precision"] is not None:
        return Variant((), options["precision"]), Variant(FIXES, options["precision"])
    return Variant((), "float32"), Variant(FIXES, "float32"), Variant(FIXES, "float16")


def settled(name: str, arguments: Sequence[str] | None) -> Options:
    """The options of a run: what the arguments say, and defaults.

    Raises:
        CheckpointError, UsageError: as `settle`, and for a family that does not exist.
    """
    given = vars(parser(name).parse_args(arguments))
    options = settle(given, dict.fromkeys(given) | {"seed": 0, "fused": "off", "distributed": 1, "unbucketed": False})
    data = Path(options["data"]).name if options["data"] else "built-in"
    options["epochs"] = options["epochs"] or trainer.load(name).epochs(options)
    options["output"] = options["output"] or str(Path("runs") / f"{name}-{data}-seed{options['seed']}")
    asked(options)
    return options


def settle(given: Mapping[str, Any], defaults: Mapping[str, Any]) -> Options:
    """What was given, else what a resumed run was started with, else the default.

    Raises:
        CheckpointError: ``--resume`` names a folder that holds no run, or a damaged one.
        UsageError: an option differs from the resumed run's.
    """
    given = {name: value for name, value in given.items() if value is not None}
    if "resume" not in given:
        return {**defaults, **given, "resume": None}
    folder = Path(given.pop("resume"))
    stored = recalled(folder)
    for name, value in given.items():
        if name not in ("json", "epochs") and value != stored.get(name):
            raise UsageError(f"--{name} {value}: the run in {folder} has {stored.get(name)}; leave the option out")
    return {**defaults, **stored, **given, "output": str(folder), "resume": str(folder)}


def remember(options: Mapping[str, Any]) -> None:
    """Write the options of a fresh run to its output folder."""
    content = {name: value for name, value in options.items() if name != "resume"}
    save_record(Path(options["output"]) / _FILE, "options", {"options": content})


def recalled(folder: Path) -> Options:
    """The options of the run in a folder; `CheckpointError` where it holds none, or they are damaged."""
    if not (folder / _FILE).exists():
        raise CheckpointError(f"--resume {folder}: holds no run (no {_FILE})")
    stored = load_record(folder / _FILE, "options").get("options")
    if not isinstance(stored, dict):
        raise CheckpointError(f"--resume {folder}: {_FILE} is damaged (no options in it)")
    return stored
