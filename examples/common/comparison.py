"""An example's whole run: options, one process per variant, table and figure."""

from __future__ import annotations

import argparse
import math
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

from examples.common import command_line, report, variants
from examples.common.errors import ExampleError
from examples.common.files import write_atomically

__all__ = ["Example", "Options", "finite", "main", "run_variant", "settled"]

Options = dict[str, Any]
_INTERRUPTED = 130


@dataclass(frozen=True)
class Example:
    """What the shared code has to know about an example.

    Attributes:
        name: its package, ``texting``.
        title: of its figure.
        parser: the shared options (`command_line.add_arguments`) and its own.
        epochs: how many, from the options, where ``--epochs`` is not given.
        check: raises an `ExampleError` for input that cannot be used, before anything is written.
        paths, settings: names of its own options, which are passed on to the training; a path that exists is made
            absolute.
    """

    name: str
    title: str
    parser: argparse.ArgumentParser
    epochs: Callable[[Options], int]
    check: Callable[[Options], None]
    paths: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()


def main(example: Example, arguments: Sequence[str] | None) -> int:
    """Run the command line; returns the exit status: 0 if all variants finished, 1 if not, 2 for wrong use."""
    command = f"python -m examples.{example.name}"
    try:
        options = settled(example, arguments)
        example.check(options)
        if not options["resume"]:
            command_line.remember(options)
        try:
            rows = [run_variant(example, options, variant) for variant in command_line.variants(options)]
        except KeyboardInterrupt:
            print(f"\ninterrupted; go on with: {command} --resume {options['output']}", file=sys.stderr)
            return _INTERRUPTED
        _finish(example, options, rows)
    except (ExampleError, OSError) as error:
        if str(error):
            print(f"{command}: {error}", file=sys.stderr)
        return 2
    return 0 if all(row["status"] == "finished" for row in rows) else 1


def settled(example: Example, arguments: Sequence[str] | None) -> Options:
    """The options of a run: what the arguments say, and defaults."""
    given = vars(example.parser.parse_args(arguments))
    defaults = {"seed": 0, "fused": "off", "distributed": 1, "unbucketed": False}
    options = command_line.settle(given, dict.fromkeys(given) | defaults)
    data = Path(options["data"]).name if options["data"] else "built-in"
    options["epochs"] = options["epochs"] or example.epochs(options)
    options["output"] = options["output"] or str(Path("runs") / f"{example.name}-{data}-seed{options['seed']}")
    command_line.variants(options)  # refuses a wrong --fixes
    return options


def run_variant(
    example: Example, options: Options, variant: command_line.Variant, stop: threading.Event | None = None
) -> dict[str, Any]:
    """Run one variant in a process of its own (``stop``: see `variants.run`); its options and its results."""
    paths = {name: _absolute(options[name]) for name in ("data", *example.paths)}
    output = Path(options["output"])
    request = {
        **paths,
        **{name: options[name] for name in example.settings},
        "variant": variant.name,
        "fixes": list(variant.fixes),
        "precision": variant.precision,
        "fused": options["fused"] == "on",
        "epochs": options["epochs"],
        **{name: options[name] for name in ("limit", "seed", "distributed", "unbucketed")},
        "cache": str((output / "cache").resolve()),
    }
    folder = output / variant.name.replace(" ", "-").replace(",", "+")
    result = variants.run(f"examples.{example.name}.train", request, folder, bool(options["resume"]), stop)
    # What is published names files as the user did, and not where they lie on this machine.
    given = {name: options[name] for name in paths}
    return {**{name: value for name, value in request.items() if name != "cache"}, **given, **result}


def _absolute(path: str | None) -> str | None:
    """The training runs in another folder; what names no file there is left as it is."""
    return str(Path(path).resolve()) if path and Path(path).exists() else path


def _finish(example: Example, options: Options, rows: Sequence[dict[str, Any]]) -> None:
    output = Path(options["output"])
    name = Path(options["data"]).name if options["data"] else "built-in data"
    report.figure(rows, output / "figure.png", f"{example.title} on {name}, {options['epochs']} epochs")
    results = finite(rows)
    for path in filter(None, (output / "results.json", options["json"])):
        variants.write_json(Path(path), results)
    write_atomically(output / "table.md", lambda file: file.write(report.markdown(rows).encode()))
    print(f"\n{report.table(rows)}\n\ntable, figure and results: {output}")


def finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: they become null."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
