"""``python -m examples.albert.predict FOLDER``: type a passage and questions, and see the answers.

FOLDER is what a training wrote (``runs/albert-built-in-seed0``), or a Hugging Face checkpoint of an ALBERT with a span head.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor

from ascend_fixes import shapes
from ascend_fixes.errors import AscendFixesError
from examples.albert import pretrained
from examples.albert.answers import Answers, answers, logits_of
from examples.albert.data import Question
from examples.albert.model import Albert, Config
from examples.albert.pieces import Vocabulary, parse_vocabulary, read_vocabulary
from examples.albert.windows import PUBLISHED, Part, Shape, collate
from examples.common import checkpoint
from examples.common.command_line import positive
from examples.common.files import CheckpointError, DataError, read_text
from examples.common.pretrained import assign
from examples.common.randomness import chunks

__all__ = ["Reader", "main"]

_BATCH = 64


class Reader:
    """A model that answers questions: what a training left in ``folder``, or a Hugging Face checkpoint with a span head.

    Attributes:
        threshold: how far "no answer" has to score above the best span to be said; infinite where it never is.

    Raises:
        CheckpointError: there is neither, or it is damaged.
    """

    def __init__(self, folder: Path) -> None:
        if (folder / "config.json").exists():
            arrays, config, self.shape, self.vocabulary = _published(folder)
            self.threshold, network = 0.0, Albert(config, np.random.default_rng(0))
            assign(network, arrays)
        else:
            folder, (config, self.shape, threshold, self.vocabulary) = checkpoint.described(folder, "albert", _trained)
            self.threshold, network = (
                np.inf if threshold is None else threshold,
                Albert(config, np.random.default_rng(0)),
            )
            checkpoint.restore(network, folder)
        length = self.shape.length
        self._bucketed = shapes.bucketed(
            network,
            axes={name: {0: "windows", 1: "pieces"} for name in ("ids", "segments", "mask")},
            buckets={
                "windows": shapes.Buckets([_BATCH]),
                "pieces": shapes.Buckets.geometric(min(32, length), length, 4),
            },
            pad={"ids": self.vocabulary.pad},
            outputs={number: {0: "windows", 1: "pieces"} for number in (0, 1)},
        )

    def answer(self, passage: str, question: str, count: int = 5) -> Answers:
        """The best answers to a question about a passage.

        Raises:
            DataError: one of them is empty.
        """
        asked = Question(repr(question[:40]), "", passage, question, ())
        part = Part.of([asked], self.vocabulary, self.shape)
        numbers = chunks(np.arange(len(part.windows)), part.lengths, _BATCH)
        (result,) = answers(part, logits_of(part, ((own, self._logits(part, own)) for own in numbers)), count)
        return result

    def _logits(self, part: Part, numbers: np.ndarray) -> Any:
        windows = [part.windows[number] for number in numbers]
        return self._bucketed(*map(Tensor, collate(windows, max(map(len, windows)), self.vocabulary.pad)))


def _trained(stored: Mapping[str, Any]) -> tuple[Config, Shape, float | None, Vocabulary]:
    vocabulary = parse_vocabulary(stored["tokenizer"], Path("model.json"))
    return Config(**stored["config"]), Shape(**stored["shape"]), stored["threshold"], vocabulary


def _published(folder: Path) -> tuple[Mapping[str, np.ndarray], Config, Shape, Vocabulary]:
    stored = pretrained.read(folder)
    if not stored.has_span:
        raise CheckpointError(f"{folder}: has no span head (qa_outputs); train it first, with --pretrained {folder}")
    shape, quarter = PUBLISHED, stored.config.length // 4
    if shape["length"] > stored.config.length:
        shape = {"length": stored.config.length, "stride": quarter, "question": quarter}
    return stored.arrays, stored.config, Shape(**shape), read_vocabulary(folder / "tokenizer.json")


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
        reader = Reader(Path(given.folder))
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
    unknown = list(dict.fromkeys(reader.vocabulary.unknown_words(text)))
    if unknown:
        shown = ", ".join(unknown[:5]) + (", ..." if len(unknown) > 5 else "")
        print(f"note: the {kind} has words that the model does not know: {shown}", file=sys.stderr)


def _show(reader: Reader, passage: str, question: str, count: int, as_json: bool) -> None:
    _note(reader, "question", question)
    found = reader.answer(passage, question, count)
    said = found.text(reader.threshold)
    if as_json:
        best = [
            {name: getattr(one, name) for name in ("text", "start", "score", "probability")} for one in found.candidates
        ]
        answer = {"question": question, "answer": said, "no_answer": found.nothing, "best": best}
        print(json.dumps(answer, ensure_ascii=False))
        return
    print(f"{question}\n  {said or '(no answer in the passage)'}")
    for candidate in found.candidates:
        print(f"    {candidate.probability:6.1%}  {candidate.text}  (character {candidate.start})")
    print(f"    {found.nothing:6.1%}  (no answer)", flush=True)


if __name__ == "__main__":
    sys.exit(main())
