"""RNNSearch's corpora: files, generated dates, tokens and batches."""

import gzip

import numpy as np
import pytest
from example_support import ROOT
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("tokenizers", reason="needs the extra: pip install 'ascend_fixes[examples]'")

from ascend_fixes import shapes
from ascend_fixes.errors import AscendFixesError
from examples.common.files import ExampleError
from examples.common.randomness import padded
from examples.rnnsearch import data

MULTI30K = ROOT.parent / "shared" / "data" / "mt" / "multi30k_en_de"


@pytest.fixture(scope="module")
def dates():
    return data.built_in(200, 20, 20)


def write(folder, **files):
    folder.mkdir()
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


FILES = dict(train_en="a b\nc\n", train_de="A B\nC\n", val_en="a\n", val_de="A\n", test_en="b\n", test_de="B\n")


def test_a_folder_is_read_gzipped_or_not(tmp_path):
    folder = write(tmp_path / "corpus", **FILES)
    (folder / "train.de.gz").write_bytes(gzip.compress((folder / "train.de").read_bytes()))
    (folder / "train.de").unlink()
    corpus = data.read_folder(folder, "en", "de")
    assert corpus.parts["train"] == data.Pairs(("a b", "c"), ("A B", "C")) and corpus.parts["test"].target == ("B",)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"train_de": "A B\n"}, "2 sentences of en and 1 of de"),
        ({"train_de": b"\xff\n\n"}, "not UTF-8 (byte 0)"),
        ({"train_de": "A\n\n"}, "line 2: empty sentence"),
        ({"val_en": ""}, "val.en: empty"),
        ({"train_de": None}, "no train.de or train.de.gz; train files are there for en"),
    ],
)
def test_wrong_files_are_named(tmp_path, change, message):
    files = {name: text for name, text in {**FILES, **change}.items() if text is not None}
    with pytest.raises(AscendFixesError) as caught:
        data.read_folder(write(tmp_path / "corpus", **files), "en", "de")
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_damaged_archive_is_named(tmp_path):
    folder = write(tmp_path / "corpus", **{**FILES, "train_de": "x\n"})
    (folder / "train.de").unlink()
    (folder / "train.de.gz").write_bytes(gzip.compress(b"A B\nC\n")[:-6])
    with pytest.raises(AscendFixesError, match=r"train\.de\.gz: damaged"):
        data.read_folder(folder, "en", "de")


def test_multi30k_is_read_whole():
    if not MULTI30K.is_dir():
        pytest.skip(f"the corpus is not there: {MULTI30K}")
    corpus = data.read_folder(MULTI30K, "en", "de")
    assert [len(pairs) for pairs in corpus.parts.values()] == [29000, 1014, 1000]


def test_generated_dates_do_not_repeat_and_mean_what_they_say(dates):
    written = [date for pairs in dates.parts.values() for date in pairs.source]
    assert len(set(written)) == len(written) == 240
    for source, target in zip(dates.parts["train"].source, dates.parts["train"].target):
        assert target[:4] in source  # the year is always written out
    assert {len(target) for target in dates.parts["train"].target} == {4, 7, 10}
    assert data.built_in(200, 20, 20).digest() == dates.digest() != data.built_in(200, 20, 20, seed=1).digest()


@given(st.text(min_size=1))
def test_no_text_is_unknown(text):
    pieces = TOKENIZER
    normal = pieces.normalizer.normalize_str(text)
    assert pieces.decode(pieces.encode(text).ids, skip_special_tokens=False) == normal


TOKENIZER = data.tokenizer(["the 3rd of March 1998"], 300)


def test_long_pairs_are_left_out_and_counted(dates):
    pieces = data.tokenizer(dates.parts["train"].source, 330)
    whole = data.encode(dates.parts["train"], pieces, pieces)
    kept = data.encode(dates.parts["train"], pieces, pieces, longest=11)
    assert kept.dropped > 0 and len(kept) + kept.dropped == len(whole) and kept.lengths.max() <= 11
    assert all(tokens[-1] == data.END for tokens in whole.source + whole.target)
    with pytest.raises(ExampleError, match="at most 1 tokens"):
        data.encode(dates.parts["train"], pieces, pieces, longest=1)


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=40), st.integers(1, 5))
def test_every_pair_is_in_one_batch_and_fits_its_size(lengths, size):
    lengths, grid = np.array(lengths), shapes.Grid([(4, 9), (9, 5), (9, 9)])
    found = data.batches(lengths, grid, size, np.random.default_rng(0))
    assert sorted(np.concatenate(found).tolist()) == list(range(len(lengths)))
    for batch in found:
        assert len(batch) <= size and len({grid(*lengths[number]) for number in batch}) == 1


def test_collated_tokens_are_padded_and_masked():
    tokens, mask = padded([(5, 6, data.END), (7, data.END)], 4)
    assert tokens.tolist() == [[5, 6, data.END, data.PAD], [7, data.END, data.PAD, data.PAD]]
    assert mask.tolist() == [[1, 1, 1, 0], [1, 1, 0, 0]]
