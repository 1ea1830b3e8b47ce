"""``python -m examples.albert``: ALBERT as a newcomer to MindSpore writes it, then with the fixes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from examples.albert import train
from examples.albert.start import start
from examples.common import command_line, comparison

__all__ = ["example", "main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return comparison.main(example(), arguments)


def example() -> comparison.Example:
    """What the shared code has to know."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.albert",
        description="Train ALBERT (Lan et al. 2020) to read, as a newcomer to MindSpore writes it, then with the fixes.",
    )
    command_line.add_arguments(parser)
    add = parser.add_argument
    add("--vocabulary", metavar="FILE", help="piece<TAB>log-probability lines, or a tokenizer.json")
    add("--pretrained", metavar="DIR", help="start from this Hugging Face checkpoint of an ALBERT")
    add("--length", type=command_line.positive, metavar="N", help="pieces of the longest window (default: 384)")
    add("--stride", type=command_line.positive, metavar="N", help="pieces from one window to the next (default: 128)")
    own = {"paths": ("vocabulary", "pretrained"), "settings": ("length", "stride")}
    return comparison.Example("albert", "ALBERT", parser, _epochs, _check, **own)


def _epochs(options: Mapping[str, Any]) -> int:
    if options["pretrained"]:
        return 2
    return 10 if options["data"] else train.EPOCHS


def _check(options: Mapping[str, Any]) -> None:
    start(options)


if __name__ == "__main__":
    sys.exit(main())
