"""Questions about passages: SQuAD 1.1 and 2.0 files and built-in ones, vocabularies, and windows of bounded length.

An input is a window ``[CLS] question [SEP] part of the passage [SEP]`` (Devlin et al. 2019). Parts begin every ``stride``
pieces; one that does not hold the whole answer is trained to point at ``[CLS]``, and so is one of a question without an answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from ascend_fixes.files import parse_json, read_text
from examples.common.files import ExampleError, expect
from examples.common.randomness import Stream, digest, drawn, generator, padded


class Answer(NamedTuple):
    """A reference answer: its text, and where in the passage it begins, in characters."""

    text: str
    start: int


class Question(NamedTuple):
    """A question about a passage, which holds all of its reference answers; without any, it does not answer it.

    ``id`` is unique in its file, ``article`` what the passage is part of; a split keeps articles together.
    """

    id: str
    article: str
    passage: str
    text: str
    answers: tuple[Answer, ...]


Questions = tuple[Question, ...]


@dataclass(frozen=True)
class Corpus:
    """Questions to train on, and test sets by name."""

    train: Questions
    tests: Mapping[str, Questions]

    @property
    def has_unanswerable(self) -> bool:
        """Whether "no answer" can be learnt from it."""
        return any(not question.answers for question in self.train)

    def digest(self) -> str:
        return digest(self.train, *(self.tests[name] for name in sorted(self.tests)))


def read_folder(folder: Path) -> Corpus:
    """Read a corpus folder; `ExampleError` where it has no file to train or to test on, or a file is wrong or has no answer."""
    files = sorted(path for path in folder.iterdir() if path.name.endswith((".json", ".json.gz")))
    training = [path for path in files if "train" in path.name]
    tests = [path for path in files if "train" not in path.name]
    needs = f"--data {folder}: needs a SQuAD file with 'train' in its name and one without, *.json or *.json.gz"
    expect(training and tests, f"{needs}; has {len(training)} and {len(tests)}")
    train = tuple(question for path in training for question in read_file(path))
    expect(any(question.answers for question in train), f"--data {folder}: no training question has an answer")
    several = len({question.article for question in train}) > 1
    expect(several, f"--data {folder}: needs two training articles at least, one of them for validation")
    return Corpus(train, {path.name.split(".json")[0]: read_file(path) for path in tests})


def read_file(path: Path) -> Questions:
    """Read a SQuAD 1.1 or 2.0 file, compressed where its name ends in ``.gz``.

    Raises `FileError` where it cannot be read or is no JSON, `ExampleError` where it is no SQuAD, has no question, an answer is not
    where it should be, or an id occurs twice.
    """
    questions = tuple(_questions(parse_json(read_text(path).removeprefix("\ufeff"), path), path))
    expect(questions, f"{path}: has no question")
    ((name, count),) = Counter(question.id for question in questions).most_common(1)
    expect(count == 1, f"{path}: two questions have the id {name!r}")
    return questions


def _questions(tree: Any, path: Path) -> Iterator[Question]:
    def field(tree: Any, name: str, kind: Any, where: str) -> Any:
        value = tree.get(name) if isinstance(tree, dict) else None
        right = isinstance(value, kind) and not isinstance(value, bool)
        place = f"{where}.{name}".lstrip(".")
        expect(right, f"{path}: not a SQuAD file: {place} is missing or of the wrong type")
        return value

    for a, article in enumerate(field(tree, "data", list, "")):
        for p, paragraph in enumerate(field(article, "paragraphs", list, f"data[{a}]")):
            inside = f"data[{a}].paragraphs[{p}]"
            passage = field(paragraph, "context", str, inside)
            for q, entry in enumerate(field(paragraph, "qas", list, inside)):
                where = f"{inside}.qas[{q}]"
                text, name = field(entry, "question", str, where), str(field(entry, "id", (str, int), where))
                answers = []
                for item in () if entry.get("is_impossible", False) else field(entry, "answers", list, where):
                    answer = Answer(field(item, "text", str, where), field(item, "answer_start", int, where))
                    found = passage[answer.start : answer.start + len(answer.text)] if answer.start >= 0 else ""
                    wrong = f"answer {answer.text[:40]!r} is not at character {answer.start:,} of the passage"
                    there = f"{path}: question {name}: {wrong}, which has {found[:40]!r} there"
                    expect(answer.text.strip() and found == answer.text, there)
                    answers.append(answer)
                yield Question(name, str(article.get("title", a)), passage, text, tuple(answers))


_PEOPLE = "Anna Boris Clara David Elena Felix Greta Hugo Irene Jonas Karin Lukas Maria Nils Olga Peter".split()
_THINGS = "castle parrot violin bridge horse lamp boat tower drum garden wagon statue rabbit kite piano tent".split()
_COLOURS = "red blue green yellow black white brown grey".split()
_SHADES = "dark light pale".split()
_PLACES = "Oslo,Rome,Lima,Cairo,Delhi,New York,Hong Kong,Cape Town".split(",")
_TAILS = ("last year", "in the evening", "on a cold morning", "long ago")
_FILLERS = ("It rained all day.", "Nobody knew the reason.", "The winter was long.")
_QUESTIONS = ("Which {} was that?", "Where was the {}?")

_WORDS_OF_A_THING, _WORDS_OF_A_FILLER, _WORDS_OF_A_QUESTION = 13, 5, 8  # about so many, punctuation included
SENTENCES, SPREAD, MOST = 2, 0.7, 10  # median number of things, deviation of its logarithm, the most
UNANSWERABLE, VALIDATION = 0.1, 0.1  # shares of the questions


def built_in(train: int = 6000, test: int = 1000, seed: int = 0, ragged: bool = False) -> Corpus:
    """Generated passages about 2 to 10 things, one for each question, and questions that name one of them.

    A passage says of every thing what it looked like and where it was seen: ``Anna saw a dark red castle in New York last
    year.`` A question asks for one of the two: ``dark red castle`` or ``New York``. The other things have a look and a place
    as well, so that the kind of question alone does not tell the answer. Some questions name a thing that the passage does
    not know: they have no answer. With ``ragged`` passages are as long as those of SQuAD (`examples.common.randomness`):
    sentences about nothing fill them up.
    """
    random = generator(seed, Stream.DATA)
    lengths = drawn("albert", train + test, random)[:, 0].tolist() if ragged else [0] * (train + test)
    questions = []
    for number, length in enumerate(lengths):
        count = int(np.clip(round(SENTENCES * np.exp(SPREAD * random.standard_normal())), 2, MOST))
        *things, missing = (str(thing) for thing in random.choice(_THINGS, count + 1, replace=False))
        passage, answers = _passage(random, things, length)
        thing = missing if random.random() < UNANSWERABLE else things[random.integers(count)]
        kind = int(random.integers(len(_QUESTIONS)))
        answer = (answers[thing][kind],) if thing in answers else ()
        questions.append(Question(f"{number}", f"{number}", passage, _QUESTIONS[kind].format(thing), answer))
    return Corpus(tuple(questions[:train]), {"generated": tuple(questions[train:])})


def _passage(
    random: np.random.Generator, things: list[str], length: int
) -> tuple[str, dict[str, tuple[Answer, Answer]]]:
    """The text, and where in it look and place of every thing are; with a question about ``length`` words, or more."""
    missing = length - _WORDS_OF_A_THING * len(things) - _WORDS_OF_A_QUESTION
    text, answers = "", {}
    for _ in range(max(missing, 0) // _WORDS_OF_A_FILLER):
        text += f"{random.choice(_FILLERS)} "
    for thing in things:
        if random.random() < 0.2:
            text += f"{random.choice(_FILLERS)} "
        shade = f"{random.choice(_SHADES)} " if random.random() < 0.4 else ""
        text += f"{random.choice(_PEOPLE)} saw a "
        look = Answer(f"{shade}{random.choice(_COLOURS)} {thing}", len(text))
        text += f"{look.text} in "
        place = Answer(str(random.choice(_PLACES)), len(text))
        text += f"{place.text} {random.choice(_TAILS)}. "
        answers[thing] = look, place
    return text.rstrip(), answers


def split(questions: Questions, seed: int) -> tuple[Questions, Questions]:
    """Training and validation questions; whole articles, chosen at random, make up the share `VALIDATION`."""
    sizes = Counter(question.article for question in questions)
    articles = sorted(sizes)
    held_out: set[str] = set()
    for place in generator(seed, Stream.SPLIT).permutation(len(articles))[:-1]:
        held_out.add(articles[place])
        if sum(sizes[article] for article in held_out) >= VALIDATION * len(questions):
            break
    train = tuple(question for question in questions if question.article not in held_out)
    return train, tuple(question for question in questions if question.article in held_out)


_SPECIAL, _PADS, _UNKNOWNS = ("[CLS]", "[SEP]"), ("<pad>", "[PAD]"), ("<unk>", "[UNK]")


class Encoded(NamedTuple):
    """A text in pieces: ``ids`` (pieces,) int32, and the characters that each stands for, without blanks around, int64."""

    ids: np.ndarray
    starts: np.ndarray
    ends: np.ndarray


class Vocabulary:
    """A tokenizer and the ids of its special pieces; `ExampleError`, which names ``source``, where one of them is missing."""

    def __init__(self, tokenizer: Tokenizer, source: str) -> None:
        self.tokenizer = tokenizer
        ids = []
        for names in ((_SPECIAL[0],), (_SPECIAL[1],), _PADS, _UNKNOWNS):
            found = [number for name in names if (number := tokenizer.token_to_id(name)) is not None]
            expect(found, f"{source}: the vocabulary has no piece {' or '.join(names)}")
            ids.append(found[0])
        self.first, self.separator, self.pad, self.unknown = ids

    def __len__(self) -> int:
        return self.tokenizer.get_vocab_size()

    def __str__(self) -> str:
        """The content of a ``tokenizer.json``."""
        return self.tokenizer.to_str()

    def encode(self, texts: Iterable[str]) -> list[Encoded]:
        """The pieces of every text, without special ones."""
        texts, found = list(texts), []
        for text, encoding in zip(texts, self.tokenizer.encode_batch(texts, add_special_tokens=False)):
            # A piece such as "_the" claims the blank before the word; a blank alone claims nothing.
            parts = [(start, end, text[start:end]) for start, end in encoding.offsets]
            ends = np.array([end - len(part) + len(part.rstrip()) for _, end, part in parts], np.int64)
            starts = np.array([start + len(part) - len(part.lstrip()) for start, _, part in parts], np.int64)
            found.append(Encoded(np.array(encoding.ids, np.int32), np.minimum(starts, ends), ends))
        return found

    def unknown_words(self, text: str) -> list[str]:
        """The parts of the text that the vocabulary has no piece for."""
        (encoded,) = self.encode([text])
        return [text[start:end] for number, start, end in zip(*encoded) if number == self.unknown]


def words_of(texts: Iterable[str]) -> Vocabulary:
    """The words of the texts and single signs of punctuation, in lower case."""
    normalise, split = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    words = {word for text in set(texts) for word, _ in split.pre_tokenize_str(normalise.normalize_str(text))}
    ids = {piece: number for number, piece in enumerate(["[PAD]", "[UNK]", *_SPECIAL, *sorted(words)])}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalise, split
    return Vocabulary(tokenizer, "built-in data")


def read_vocabulary(path: Path) -> Vocabulary:
    """Read ``tokenizer.json``, or ALBERT's unigram pieces (Kudo 2018): lines of ``piece<TAB>log-probability`` of any other file."""
    text = read_text(path, hint="a sentencepiece .model is not read, give its .vocab or a tokenizer.json")
    if path.suffix == ".json":
        return parse_vocabulary(text, path)
    pieces: list[tuple[str, float]] = []
    for number, line in enumerate(text.split("\n"), start=1):
        piece, _, score = line.rstrip("\r").partition("\t")
        try:
            pieces += [(piece, float(score))] if line else []
        except ValueError:
            wrong = f"line {number}: expected piece<TAB>log-probability, got {line[:40]!r}"
            raise ExampleError(f"{path}, {wrong}") from None
    places = {piece: place for place, (piece, _) in enumerate(pieces)}
    expect(pieces, f"{path}: empty")
    expect(len(places) == len(pieces), f"{path}: a piece occurs twice")
    unknown = next((places[name] for name in _UNKNOWNS if name in places), None)
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=unknown))
    quotes = [normalizers.Replace(quote, '"') for quote in ("``", "''")]
    plain = [normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()]
    tokenizer.normalizer = normalizers.Sequence([*quotes, *plain, normalizers.Replace(Regex(r"\s+"), " ")])
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    return Vocabulary(tokenizer, str(path))


def parse_vocabulary(text: str, path: Path) -> Vocabulary:
    """The vocabulary of a ``tokenizer.json`` with this content; `ExampleError` where it is none."""
    try:
        tokenizer = Tokenizer.from_str(text)
    except Exception as error:  # the library raises plain Exception
        raise ExampleError(f"{path}: not a tokenizer ({str(error).splitlines()[0][:80]})") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return Vocabulary(tokenizer, str(path))


BUILT_IN = {"length": 96, "stride": 48, "question": 24}
PUBLISHED = {"length": 384, "stride": 128, "question": 64}  # as Devlin et al. 2019 cut SQuAD


@dataclass(frozen=True)
class Shape:
    """How texts are cut, in pieces: the longest input, from part to part of a passage, the longest question (cut at its end).

    Raises `ExampleError` where the three do not go together.
    """

    length: int
    stride: int
    question: int

    def __post_init__(self) -> None:
        room = self.length - self.question - 3
        leave = f"windows of {self.length} pieces leave {room} for the passage beside a question of {self.question}"
        remedy = f"choose --stride from 1 to {room}, or a larger --length"
        expect(1 <= self.stride <= room, f"--stride {self.stride}: {leave}; {remedy}")


@dataclass(frozen=True)
class Window:
    """One input: the number of its question, and ``ids`` (length,) int32.

    The part of the passage begins at ``passage`` with the whole passage's ``piece``; the answer is from ``first`` to ``last``, which
    are 0 where the window does not hold it.
    """

    question: int
    ids: np.ndarray
    passage: int
    piece: int
    first: int
    last: int

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Part:
    """Questions, the pieces of each one's passage, their windows, and each question's windows."""

    questions: Sequence[Question]
    passages: Sequence[Encoded]
    windows: Sequence[Window]
    owned: Sequence[range]

    @classmethod
    def of(cls, questions: Sequence[Question], vocabulary: Vocabulary, shape: Shape) -> Part:
        """Encode and cut; a passage of several questions is encoded once. `ExampleError` where a text is empty."""
        distinct = list(dict.fromkeys(question.passage for question in questions))
        encoded = dict(zip(distinct, vocabulary.encode(distinct)))
        passages = [encoded[question.passage] for question in questions]
        windows: list[Window] = []
        owned = []
        for number, text in enumerate(vocabulary.encode(question.text for question in questions)):
            question, passage = questions[number], passages[number]
            for kind, content, own in (("question", question.text, text), ("passage", question.passage, passage)):
                expect(content.strip() and len(own.ids), f"question {question.id}: the {kind} is empty")
            before = len(windows)
            windows += _cut(number, text, passage, question, vocabulary, shape)
            owned.append(range(before, len(windows)))
        return cls(questions, passages, windows, owned)

    @property
    def lengths(self) -> np.ndarray:
        """(windows,) int64: how many pieces every window has."""
        return np.array([len(window) for window in self.windows], np.int64)

    def trainable(self) -> np.ndarray:
        """The numbers of the windows of those questions that have no answer, or one that fits a window."""
        held = {window.question for window in self.windows if window.first}
        held |= {number for number, question in enumerate(self.questions) if not question.answers}
        return np.flatnonzero([window.question in held for window in self.windows])


def _cut(
    number: int, text: Encoded, passage: Encoded, question: Question, vocabulary: Vocabulary, shape: Shape
) -> Iterator[Window]:
    """The windows of a question; what is trained on is the first reference answer."""
    head = [vocabulary.first, *text.ids[: shape.question], vocabulary.separator]
    room, pieces = shape.length - len(head) - 1, len(passage.ids)
    touched = np.array([], np.int64)
    for answer in question.answers[:1]:
        end = answer.start + len(answer.text)
        touched = np.flatnonzero((passage.ends > answer.start) & (passage.starts < end))
    # The last part is the first to reach the end.
    for start in range(0, max(pieces - room, 0) + shape.stride, shape.stride) if pieces > room else (0,):
        stop = min(start + room, pieces)
        holds = len(touched) and start <= touched[0] and touched[-1] < stop
        first, last = (len(head) + int(touched[place]) - start if holds else 0 for place in (0, -1))
        ids = np.array([*head, *passage.ids[start:stop], vocabulary.separator], np.int32)
        yield Window(number, ids, len(head), start, first, last)


def collate(chosen: Sequence[Window], width: int, pad: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Dense ``ids`` and ``segments`` (batch, width) int32, and ``mask`` (batch, width) float32, zero outside the windows."""
    ids, mask = padded([window.ids for window in chosen], width, pad)
    passages = np.array([[window.passage] for window in chosen])
    return ids, ((np.arange(width) >= passages) & (mask > 0)).astype(np.int32), mask
