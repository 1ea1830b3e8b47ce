"""``python -m examples.texting``: TextING as a newcomer to MindSpore writes it, then with the fixes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from examples.common import command_line, comparison
from examples.texting import data, vectors

__all__ = ["example", "main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return comparison.main(example(), arguments)


def example() -> comparison.Example:
    """What the shared code has to know."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.texting",
        description="Train TextING (Zhang et al. 2020) as a newcomer to MindSpore writes it, then with the fixes.",
    )
    command_line.add_arguments(parser)
    add = parser.add_argument
    add("--embeddings", metavar="FILE", help="start from these word vectors (GloVe's text format)")
    add("--width", type=command_line.positive, metavar="N", help="how wide they are (default: as in FILE, or 300)")
    own = {"paths": ("embeddings",), "settings": ("width",)}
    return comparison.Example("texting", "TextING", parser, _epochs, _check, **own)


def _epochs(options: Mapping[str, Any]) -> int:
    return 10 if options["data"] else 5


def _check(options: Mapping[str, Any]) -> None:
    corpus = data.read_folder(Path(options["data"])) if options["data"] else None
    if options["embeddings"]:
        corpus = corpus or data.built_in(seed=options["seed"])
        vectors.read_glove(Path(options["embeddings"]), corpus.vocabulary, options["width"])


if __name__ == "__main__":
    sys.exit(main())
