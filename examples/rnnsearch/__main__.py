"""``python -m examples.rnnsearch``: RNNSearch as a newcomer to MindSpore writes it, then with the fixes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from examples.common import command_line, comparison
from examples.rnnsearch.train import corpus_of

__all__ = ["example", "main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return comparison.main(example(), arguments)


def example() -> comparison.Example:
    """What the shared code has to know."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.rnnsearch",
        description="Train RNNSearch (Bahdanau et al. 2015) as a newcomer to MindSpore writes it, then with the fixes.",
    )
    command_line.add_arguments(parser)
    add = parser.add_argument
    add("--source", metavar="XX", help="language of the sources, the files' suffix (default: en)")
    add("--target", metavar="XX", help="language of the translations (default: de)")
    add("--test", metavar="NAME", help="the test set's file name (default: the first test*)")
    own = {"settings": ("source", "target", "test")}
    return comparison.Example("rnnsearch", "RNNSearch", parser, _epochs, _check, **own)


def _epochs(options: Mapping[str, Any]) -> int:
    return 10 if options["data"] else 8


def _check(options: Mapping[str, Any]) -> None:
    corpus_of(options)


if __name__ == "__main__":
    sys.exit(main())
