"""``python -m examples.albert.predict FOLDER``: type a passage and questions, and see the answers.

FOLDER is what a training wrote (``runs/albert-built-in-seed0``), or a Hugging Face checkpoint of an ALBERT with a span head.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
from mindspore import Tensor

from ascend_fixes import shapes
from ascend_fixes.errors import AscendFixesError
from ascend_fixes.files import read_text
from examples.albert import data, model
from examples.albert.answers import Answers, answers, logits_of
from examples.common import checkpoint
from examples.common.command_line import INTERRUPTED, kept_graphs, positive
from examples.common.files import ExampleError, expect
from examples.common.randomness import chunks

_BATCH = 64


class Reader:
    """A model that answers questions: what a training left in ``folder``, or a Hugging Face checkpoint with a span head.

    ``threshold`` is how far "no answer" has to score above the best span to be said; infinite where it never is. Raises
    `ExampleError` or `FileError` where there is neither, or it is damaged.
    """

    def __init__(self, folder: Path) -> None:
        if (folder / "config.json").exists():
            network, known = _published(folder)
        else:
            network, known = checkpoint.trained(folder, "albert", _trained)
        self.shape, self.threshold, self.vocabulary = known
        length, axes = self.shape.length, {0: "windows", 1: "pieces"}
        sizes = shapes.Buckets.geometric(min(32, length), length, 4)
        self._bucketed = shapes.bucketed(
            network,
            axes=dict.fromkeys(("ids", "segments", "mask"), axes),
            buckets={"windows": shapes.Buckets([_BATCH]), "pieces": sizes},
            pad={"ids": self.vocabulary.pad},
            outputs={0: axes, 1: axes},
        )

    def answer(self, passage: str, question: str, count: int = 5) -> Answers:
        """The best answers to a question about a passage; `ExampleError` where one of them is empty."""
        asked = data.Question(repr(question[:40]), "", passage, question, ())
        part = data.Part.of([asked], self.vocabulary, self.shape)
        outputs = []
        for numbers in chunks(np.arange(len(part.windows)), part.lengths, _BATCH):
            windows = [part.windows[number] for number in numbers]
            arrays = data.collate(windows, max(map(len, windows)), self.vocabulary.pad)
            outputs.append((numbers, self._bucketed(*map(Tensor, arrays))))
        (result,) = answers(part, logits_of(part, outputs), count)
        return result


def _trained(stored: Mapping[str, Any]) -> tuple[model.Albert, tuple[data.Shape, float, data.Vocabulary]]:
    network = model.Albert(model.Config(**stored["config"]), np.random.default_rng(0))
    threshold = np.inf if stored["threshold"] is None else stored["threshold"]
    vocabulary = data.parse_vocabulary(stored["tokenizer"], Path("model.json"))
    return network, (data.Shape(**stored["shape"]), threshold, vocabulary)


def _published(folder: Path) -> tuple[model.Albert, tuple[data.Shape, float, data.Vocabulary]]:
    config, arrays = model.read(folder)
    lacks = f"{folder}: has no span head (qa_outputs); train it first, with --pretrained {folder}"
    expect("span.weight" in arrays, lacks)
    shape, longest = data.PUBLISHED, config.length
    if shape["length"] > longest:
        shape = {"length": longest, "stride": longest // 4, "question": longest // 4}
    network = model.Albert(config, np.random.default_rng(0))
    checkpoint.assign(network.get_parameters(), arrays)
    return network, (data.Shape(**shape), 0.0, data.read_vocabulary(folder / "tokenizer.json"))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    about = "Answer questions about a passage. Without --passage and --question, both are asked for."
    parser = argparse.ArgumentParser(prog="python -m examples.albert.predict", description=about)
    add = parser.add_argument
    add("folder", metavar="FOLDER", help="output of a training, or a Hugging Face checkpoint with a span head")
    add("--passage", metavar="TEXT", help="the passage itself, or @FILE")
    add("--question", metavar="TEXT", action="append", help="may be repeated")
    add("--best", type=positive, default=3, metavar="N", help="answers to show (default: 3)")
    add("--json", action="store_true", help="one JSON object a line")
    given = parser.parse_args(arguments)
    try:
        with kept_graphs(Path(given.folder)):
            reader = Reader(Path(given.folder))
            lines = _typed("passage (end with an empty line):")
            passage = given.passage or "".join(takewhile(str.strip, lines)).rstrip("\n")
            if given.passage and passage.startswith("@"):
                passage = read_text(Path(passage[1:]))
            _note(reader, "passage", passage)
            typed = filter(None, map(str.strip, _typed("questions, one a line (end with Ctrl-D):")))
            for question in given.question or typed:
                try:
                    _show(reader, passage, question, given.best, given.json)
                except ExampleError as error:
                    if given.question:
                        raise
                    print(error, file=sys.stderr)
    except (AscendFixesError, OSError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def _typed(prompt: str) -> Iterator[str]:
    """Lines from standard input; a person is asked for them."""
    if sys.stdin.isatty():
        print(prompt, flush=True)
    yield from sys.stdin


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
        kept = ("text", "start", "score", "probability")
        best = [{name: getattr(one, name) for name in kept} for one in found.candidates]
        answer = {"question": question, "answer": said, "no_answer": found.nothing, "best": best}
        print(json.dumps(answer, ensure_ascii=False))
        return
    print(f"{question}\n  {said or '(no answer in the passage)'}")
    for candidate in found.candidates:
        print(f"    {candidate.probability:6.1%}  {candidate.text}  (character {candidate.start})")
    print(f"    {found.nothing:6.1%}  (no answer)", flush=True)


if __name__ == "__main__":
    sys.exit(main())
