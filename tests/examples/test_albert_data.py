"""SQuAD files, built-in data, splits, vocabularies, windows."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest
from example_support import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from ascend_fixes.errors import AscendFixesError
from examples.albert import data
from examples.albert.data import Part, Shape, collate, read_vocabulary, words_of
from examples.albert.train import start
from examples.common.files import ExampleError

DATA = ROOT.parent / "shared" / "data"
SQUAD, VOCABULARY = DATA / "mrc" / "squad", DATA / "vocab" / "albert-30k-clean.vocab"
PASSAGE = "Ada wrote notes. Bob read them."


def tree(**changes):
    """A SQuAD file of one question; changes replace what is in the question."""
    entry = {"id": "q1", "question": "Who wrote?", "answers": [{"text": "Ada", "answer_start": 0}], **changes}
    return {"version": "1.1", "data": [{"title": "A", "paragraphs": [{"context": PASSAGE, "qas": [entry]}]}]}


def two_articles():
    value = tree()
    value["data"].append(tree(id="q2")["data"][0] | {"title": "B"})
    return value


def write(path, value):
    text = json.dumps(value).encode()
    path.write_bytes(gzip.compress(text) if path.name.endswith(".gz") else text)
    return path


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "train-v2.0.json", two_articles())
    write(tmp_path / "dev-v2.0.json.gz", tree(is_impossible=True, plausible_answers=[]))
    return tmp_path


# --- files -------------------------------------------------------------------------------------


def test_reads_both_versions_plain_and_compressed(folder):
    corpus = data.read_folder(folder)
    assert [question.id for question in corpus.train] == ["q1", "q2"]
    assert corpus.train[0].answers == (data.Answer("Ada", 0),) and not corpus.has_unanswerable
    (question,) = corpus.tests["dev-v2.0"]
    assert question.answers == () and question.passage == PASSAGE


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda f: (f / "dev-v2.0.json.gz").unlink(), "one without, *.json or *.json.gz; has 1 and 0"),
        (lambda f: (f / "train-v2.0.json").write_bytes(b""), "train-v2.0.json: damaged, or no JSON"),
        (
            lambda f: (f / "train-v2.0.json").write_bytes(b"{,"),
            "no JSON (Expecting property name enclosed in double quotes: line 1",
        ),
        (lambda f: (f / "train-v2.0.json").write_bytes(b'{"data": "\xff"}'), "not UTF-8 (byte 10)"),
        (lambda f: (f / "train-v2.0.json").write_bytes(b"[]"), "not a SQuAD file: data is missing"),
        (lambda f: write(f / "train-v2.0.json", {"data": []}), "train-v2.0.json: has no question"),
        (lambda f: write(f / "train-v2.0.json", tree()), "needs two training articles"),
        (lambda f: write(f / "train-v2.0.json", tree(is_impossible=True)), "no training question has an answer"),
        (lambda f: write(f / "train-v2.0.json", tree(question=3)), "data[0].paragraphs[0].qas[0].question is missing"),
        (
            lambda f: write(f / "train-v2.0.json", tree(answers=[{"text": "Ada", "answer_start": 4}])),
            "question q1: answer 'Ada' is not at character 4 of the passage, which has 'wro' there",
        ),
        (
            lambda f: write(f / "train-v2.0.json", tree(answers=[{"text": "Ada", "answer_start": 400}])),
            "is not at character 400",
        ),
        (lambda f: (f / "dev-v2.0.json.gz").write_bytes(b"{}"), "dev-v2.0.json.gz: damaged, or not compressed"),
        (
            lambda f: (f / "dev-v2.0.json.gz").write_bytes((f / "dev-v2.0.json.gz").read_bytes()[:-9]),
            "dev-v2.0.json.gz: damaged",
        ),
        (
            lambda f: write(f / "dev-v2.0.json", {"data": [tree()["data"][0], tree()["data"][0]]}),
            "two questions have the id 'q1'",
        ),
    ],
)
def test_malformed_folders_are_refused_in_one_line(folder, damage, message):
    damage(folder)
    with pytest.raises(AscendFixesError) as error:
        data.read_folder(folder)
    assert message in str(error.value) and "\n" not in str(error.value)


def request(**given):
    names = ("data", "vocabulary", "pretrained", "length", "stride")
    return {**dict.fromkeys(names), "seed": 0, **given}


@pytest.mark.parametrize(
    "given, message",
    [
        ({"data": "nowhere"}, "--data nowhere: no such folder"),
        ({}, "--data needs a vocabulary: add --vocabulary FILE"),
        ({"vocabulary": "missing.vocab"}, "missing.vocab: No such file"),
        ({"length": 60}, "leave -7 for the passage beside a question of 64"),
        ({"stride": 400}, "choose --stride from 1 to 317"),
        ({"pretrained": "nowhere", "vocabulary": "good.vocab"}, "nowhere: no such checkpoint folder"),
    ],
)
def test_what_does_not_go_together_is_refused_in_one_line(folder, monkeypatch, given, message):
    monkeypatch.chdir(folder)
    write_vocabulary(folder / "good.vocab")
    write(folder / "other.json", tree())
    with pytest.raises(AscendFixesError) as error:
        start(request(**{"data": str(folder), **given}))
    assert message in str(error.value) and "\n" not in str(error.value)


def test_without_unanswerable_training_questions_none_is_asked(folder):
    write_vocabulary(folder / "good.vocab")
    with pytest.raises(ExampleError, match="no test question has an answer"):
        start(request(data=str(folder), vocabulary=str(folder / "good.vocab")))
    write(folder / "other.json", tree())
    given = start(request(data=str(folder), vocabulary=str(folder / "good.vocab")))
    assert list(given.tests) == ["other"] and set(given.corpus.tests) == {"dev-v2.0", "other"}


def test_reads_the_real_files():
    if not SQUAD.is_dir():
        pytest.skip(f"the corpus is not there: {SQUAD}")
    corpus = data.read_folder(SQUAD)
    assert len(corpus.train) == 11877 and not corpus.has_unanswerable
    sizes = {name: (len(questions), sum(not q.answers for q in questions)) for name, questions in corpus.tests.items()}
    assert sizes == {"squad-v2.0-dev-16articles": (6078, 3168), "xquad.en": (1190, 0)}
    train, validation = data.split(corpus.train, seed=0)
    assert len(train) + len(validation) == 11877 and 0.1 <= len(validation) / 11877 < 0.2
    assert not {q.article for q in train} & {q.article for q in validation}


# --- built-in data -----------------------------------------------------------------------------


def test_built_in_data_is_seeded_and_has_rivals_for_every_answer():
    corpus, again, other = (data.built_in(400, 100, seed) for seed in (1, 1, 2))
    assert corpus.digest() == again.digest() != other.digest()
    assert 15 < sum(not question.answers for question in corpus.train) < 80
    for question in corpus.train:
        thing = question.text.split()[1] if question.text.startswith("Which") else question.text.split()[-1][:-1]
        assert (thing in question.passage) == bool(question.answers)
        assert question.passage.count(" saw a ") > 1  # another thing has a look and a place as well
        for answer in question.answers:
            assert question.passage[answer.start :].startswith(answer.text)
            sentence = question.passage[: answer.start].count(".")
            assert thing in question.passage.split(".")[sentence]
    train, tests = {q.passage for q in corpus.train}, {q.passage for q in corpus.tests["generated"]}
    assert not train & tests


# --- vocabularies ------------------------------------------------------------------------------


def write_vocabulary(path):
    words = [f"▁{word}" for word in ("ada", "bob", "wrote", "read", "notes", "them", "who")]
    pieces = [("<pad>", 0), ("<unk>", 0), ("[CLS]", 0), ("[SEP]", 0), ("▁", -2), (".", -2), ("?", -2), ("s", -3)]
    path.write_text("".join(f"{piece}\t{score}\n" for piece, score in [*pieces, *((word, -4) for word in words)]))
    return path


def test_unigram_pieces_know_their_characters(tmp_path):
    vocabulary = read_vocabulary(write_vocabulary(tmp_path / "v.vocab"))
    text = "  Ádà  wrote\nnotes. 東"
    (encoded,) = vocabulary.encode([text])
    spans = [text[start:end] for start, end in zip(encoded.starts, encoded.ends)]
    assert [span for span in spans if span] == ["Ádà", "wrote", "notes", ".", "東"]
    assert vocabulary.unknown_words(text) == ["東"]
    assert (vocabulary.pad, vocabulary.unknown, vocabulary.first, vocabulary.separator) == (0, 1, 2, 3)


def test_the_published_vocabulary():
    if not VOCABULARY.exists():
        pytest.skip(f"the vocabulary is not there: {VOCABULARY}")
    vocabulary = read_vocabulary(VOCABULARY)
    (encoded,) = vocabulary.encode(["Beyoncé's co-op earned $5,000"])
    pieces = [vocabulary.tokenizer.id_to_token(int(i)) for i in encoded.ids]
    assert len(vocabulary) == 30000 and pieces == ["▁beyonce", "'", "s", "▁co", "-", "op", "▁earned", "▁$5,000"]


def test_a_saved_vocabulary_is_the_same(tmp_path):
    vocabulary = words_of(["Anna lives in Oslo.", "Where does Anna live?"])
    (tmp_path / "tokenizer.json").write_text(str(vocabulary))
    again = read_vocabulary(tmp_path / "tokenizer.json")
    text = "where does ANNA live? Zorg"
    assert again.encode([text])[0].ids.tolist() == vocabulary.encode([text])[0].ids.tolist()
    assert again.unknown_words(text) == ["Zorg"] and str(again) == str(vocabulary)


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("v.vocab", b"", "v.vocab: empty"),
        ("v.vocab", b"<pad>\t0\nword\n", "line 2: expected piece<TAB>log-probability, got 'word'"),
        ("v.vocab", b"a\t0\na\t1\n", "a piece occurs twice"),
        ("v.vocab", b"a\t0\n", "the vocabulary has no piece [CLS]"),
        ("spiece.model", b"\n\xff\x00", "not UTF-8 (byte 1); a sentencepiece .model is not read"),
        ("tokenizer.json", b"{}", "tokenizer.json: not a tokenizer"),
    ],
)
def test_vocabularies_that_are_none_are_refused_in_one_line(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(AscendFixesError) as error:
        read_vocabulary(tmp_path / name)
    assert message in str(error.value) and "\n" not in str(error.value)


# --- windows -----------------------------------------------------------------------------------


def sample(words, first, last, name="q"):
    """A question whose answer is words ``first`` to ``last`` of the passage ``w0 w1 ...``."""
    parts = [f"w{i}" for i in range(words)]
    answer = data.Answer(" ".join(parts[first : last + 1]), len(" ".join([*parts[:first], ""])))
    return data.Question(name, "a", " ".join(parts), "who are you", (answer,))


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 60), st.integers(8, 40), st.data())
def test_windows_cover_every_piece_and_place_the_answer(words, length, draw):
    room = length - 3 - 3
    stride = draw.draw(st.integers(1, room))
    first = draw.draw(st.integers(0, words - 1))
    last = min(words - 1, first + draw.draw(st.integers(0, 5)))
    question = sample(words, first, last)
    vocabulary = words_of([question.passage, question.text])
    part = Part.of([question], vocabulary, Shape(length, stride, 3))
    covered = set()
    for window in part.windows:
        assert len(window) <= length and window.ids[0] == vocabulary.first and window.ids[-1] == vocabulary.separator
        inside = window.ids[window.passage : -1]
        assert inside.tolist() == part.passages[0].ids[window.piece : window.piece + len(inside)].tolist()
        covered |= set(range(window.piece, window.piece + len(inside)))
        holds = window.piece <= first and last < window.piece + len(inside)
        shift = window.passage - window.piece
        assert (window.first, window.last) == ((first + shift, last + shift) if holds else (0, 0))
    assert covered == set(range(words))
    if last - first < room - stride + 1:  # windows overlap by room - stride pieces
        assert any(window.first for window in part.windows)
    assert len(part.trainable()) in (0, len(part.windows))


def test_answers_that_fit_no_window_are_not_trained_on():
    questions = [sample(40, 0, 30, "long"), sample(40, 3, 4, "short")]
    part = Part.of(questions, words_of([questions[0].passage, "who are you"]), Shape(20, 7, 3))
    kept = {part.windows[number].question for number in part.trainable()}
    assert kept == {1}


def test_empty_texts_are_refused():
    question = data.Question("q7", "a", " \n", "who", ())
    with pytest.raises(ExampleError, match="question q7: the passage is empty"):
        Part.of([question], words_of(["who"]), Shape(20, 7, 3))


def test_a_question_that_is_too_long_loses_its_end():
    question = sample(10, 2, 2)
    part = Part.of([question], words_of([question.passage, question.text]), Shape(12, 6, 2))
    assert all(window.passage == 1 + 2 + 1 for window in part.windows)


def test_collate_pads_and_marks():
    question = sample(4, 1, 1)
    part = Part.of([question], words_of([question.passage, question.text]), Shape(20, 7, 3))
    ids, segments, mask = collate(part.windows, 12, pad=9)
    assert ids.shape == (1, 12) and (ids[0, 10:] == 9).all() and mask[0].tolist() == [1] * 10 + [0] * 2
    assert segments[0].tolist() == [0] * 5 + [1] * 5 + [0] * 2
    assert (ids.dtype, segments.dtype, mask.dtype) == (np.int32, np.int32, np.float32)


def test_strides_that_skip_pieces_are_refused():
    with pytest.raises(ExampleError, match="choose --stride from 1 to 14"):
        Shape(20, 15, 3)
