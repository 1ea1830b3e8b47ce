"""``python -m examples.albert.predict FOLDER``: type a passage and questions, and see the answers.

FOLDER is what a training wrote (``runs/albert-built-in-seed0``), or a Hugging Face checkpoint of an ALBERT with a span head.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import mindspore as ms

from ascend_fixes.errors import AscendFixesError
from examples.albert.reader import Reader
from examples.common.command_line import positive
from examples.common.errors import DataError
from examples.common.files import read_text

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.albert.predict",
        description="Answer questions about a passage. Without --passage and --question, both are asked for.",
    )
    add = parser.add_argument
    add("folder", metavar="FOLDER", help="output of a training, or a Hugging Face checkpoint with a span head")
    add("--passage", metavar="TEXT", help="the passage itself, or @FILE")
    add("--question", metavar="TEXT", action="append", help="may be repeated")
    add("--best", type=positive, default=3, metavar="N", help="answers to show (default: 3)")
    add("--json", action="store_true", help="one JSON object a line")
    given = parser.parse_args(arguments)
    try:
        ms.set_context(mode=ms.GRAPH_MODE)
        reader = Reader.load(Path(given.folder))
        passage = _passage(given.passage) if given.passage else _ask_passage()
        _note(reader, "passage", passage)
        for question in given.question or _ask_questions():
            try:
                _show(reader, passage, question, given.best, given.json)
            except DataError as error:
                if given.question:
                    raise
                print(error, file=sys.stderr)
    except (AscendFixesError, OSError) as error:
        print(f"python -m examples.albert.predict: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _passage(given: str) -> str:
    return read_text(Path(given[1:])) if given.startswith("@") else given


def _lines(prompt: str) -> list[str]:
    """Lines up to an empty one or the end of the input."""
    if sys.stdin.isatty():
        print(prompt, flush=True)
    lines = []
    for line in sys.stdin:
        if not line.strip():
            break
        lines.append(line.rstrip("\n"))
    return lines


def _ask_passage() -> str:
    return "\n".join(_lines("passage (end with an empty line):"))


def _ask_questions() -> Iterator[str]:
    if sys.stdin.isatty():
        print("questions, one a line (end with Ctrl-D):", flush=True)
    for line in sys.stdin:
        if line.strip():
            yield line.strip()


def _note(reader: Reader, kind: str, text: str) -> None:
    unknown = list(dict.fromkeys(reader.unknown(text)))
    if unknown:
        shown = ", ".join(unknown[:5]) + (", ..." if len(unknown) > 5 else "")
        print(f"note: the {kind} has words that the model does not know: {shown}", file=sys.stderr)


def _show(reader: Reader, passage: str, question: str, count: int, as_json: bool) -> None:
    _note(reader, "question", question)
    found = reader.answer(passage, question, count)
    threshold = reader.description.threshold
    said = found.text(float("inf") if threshold is None else threshold)
    if as_json:
        best = [
            {"text": c.text, "start": c.start, "score": c.score, "probability": c.probability} for c in found.candidates
        ]
        print(
            json.dumps(
                {"question": question, "answer": said, "no_answer": found.nothing, "best": best}, ensure_ascii=False
            )
        )
        return
    print(f"{question}\n  {said or '(no answer in the passage)'}")
    for candidate in found.candidates:
        print(f"    {candidate.probability:6.1%}  {candidate.text}  (character {candidate.start})")
    print(f"    {found.nothing:6.1%}  (no answer)", flush=True)


if __name__ == "__main__":
    sys.exit(main())
