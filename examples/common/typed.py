"""Prediction commands: answers to a text on the command line, or to typed lines."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Callable

import mindspore as ms

from examples.common.files import DataError, ExampleError

__all__ = ["main"]


def main(
    example: str,
    description: str,
    what: str,
    predictor: Callable[[Path], Any],
    arguments: Sequence[str] | None = None,
) -> int:
    """``python -m examples.EXAMPLE.predict RUN [TEXT]``; returns the exit status.

    Args:
        example: its package.
        description: of the command.
        what: is asked for, "sentence".
        predictor: loads a run; what it returns shows the answer to a text, ``show(text)``.
        arguments: of the command line.
    """
    parser = argparse.ArgumentParser(prog=f"python -m examples.{example}.predict", description=description)
    parser.add_argument("run", type=Path, help=f"output folder of python -m examples.{example}")
    parser.add_argument("text", nargs="*", help=f"the {what} (default: one a line, from standard input)")
    given = parser.parse_args(arguments)
    try:
        ms.set_context(mode=ms.GRAPH_MODE)
        loaded = predictor(given.run)
        if given.text:
            print(loaded.show(" ".join(given.text)))
            return 0
        return _lines(loaded.show, what)
    except ExampleError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2


def _lines(show: Callable[[str], str], what: str) -> int:
    """Answer until the input ends or, typed, a line is empty; a line that cannot be answered does not end it."""
    at_terminal = sys.stdin.isatty()
    if at_terminal:
        print(f"Type a {what}; an empty line ends.", file=sys.stderr)
    status = 0
    for line in sys.stdin:
        if at_terminal and not line.strip():
            break
        try:
            print(show(line), flush=True)
        except DataError as error:
            print(error, file=sys.stderr)
            status = 2
    return status
