"""Answers to typed lines, for the examples' prediction commands."""

from __future__ import annotations

import sys
from typing import Callable

from examples.common.errors import DataError

__all__ = ["answer"]


def answer(show: Callable[[str], str], what: str) -> int:
    """Print ``show`` of every line of standard input; returns the exit status.

    A line that cannot be answered (`DataError`) is told on standard error and does not end it. At a terminal, ``what`` is asked
    for, and an empty line ends.
    """
    at_terminal = sys.stdin.isatty()
    if at_terminal:
        print(f"Type {what}; an empty line ends.", file=sys.stderr)
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
