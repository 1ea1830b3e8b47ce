"""Mutated files over every reader: the content that was written, or an error of the library's own that names the file.

Each reader stands in `READERS` with what writes a whole file and what reads it. Files that carry a checksum must come back
as they were or not at all; others, such as a corpus, may become another sound file, but raise nothing foreign.
"""

from __future__ import annotations

import json
import random
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ascend_fixes import files, fusion
from ascend_fixes.errors import AscendFixesError
from ascend_fixes.fusion import _flags, _learned
from ascend_fixes.host import Embedding, Table
from ascend_fixes.shapes._compile_cache import Store
from examples.albert import data as squad
from examples.bert_crf import data as conll
from examples.bert_crf.model import read_vocabulary
from examples.common import checkpoint, command_line
from examples.texting import data as documents
from examples.texting import vectors


@dataclass(frozen=True)
class Reader:
    """One kind of file.

    Attributes:
        name: of the kind.
        write: writes whole files into an empty folder and returns the one to damage, or several.
        read: reads the folder; what it returns is compared by `repr` or, for arrays, by their bytes.
        sealed: whether it carries a checksum.
    """

    name: str
    write: Callable[[Path], Any]
    read: Callable[[Path], Any]
    sealed: bool = True


def _table(keys: Any, values: Any = None) -> Reader:
    def read(folder: Path) -> Any:
        table = Table.load(folder / "t.npz")
        ids = table(keys)
        return ids.tolist(), table.keys(ids).tolist(), len(table)

    return Reader("Table", lambda f: (Table(keys, values, default=0).save(f / "t.npz"), f / "t.npz")[1], read)


def _rows(embedding: Embedding) -> Any:
    found = embedding.rows(range(12)).tobytes(), embedding.step
    embedding.close()
    return found


def _embedding_file(folder: Path) -> Path:
    Embedding(12, 4, None, "adam").save(folder / "e.npz")
    return folder / "e.npz"


def _read_embedding_file(folder: Path) -> Any:
    embedding = Embedding(12, 4, None, "adam", 0.0)
    before = embedding.rows(range(12)).tobytes()
    try:
        embedding.load(folder / "e.npz")
    except AscendFixesError:
        assert embedding.rows(range(12)).tobytes() == before and embedding.step == 0, "a failed load changed rows"
        raise
    return _rows(embedding)


def _embedding_folder(folder: Path) -> list[Path]:
    embedding = Embedding(12, 4, folder / "e", "adam")
    for flushed in (True, False):
        embedding._take_gradient(np.arange(3, 9), np.ones((6, 4), np.float32))
        embedding.anchor.set_data(embedding.anchor)
        embedding.update()
        if flushed:
            embedding.flush()
    embedding.close()
    return [path for path in (folder / "e").iterdir() if path.name != "lock"]


def _store(folder: Path) -> Path:
    Store(str(folder)).write("a" * 64, b"graph" * 40)
    return folder / ("a" * 64 + ".graph")


def _read_store(folder: Path) -> Any:
    try:
        return Store(str(folder)).read("a" * 64)
    except ValueError as error:  # how the store tells its cache of a damaged entry
        if str(error) != "checksum mismatch":
            raise
        raise files.FileError(f"{folder}: damaged") from None


_ROWS = [
    {"keep_out": ["cluster:Add"], "backend": "CPU", "mindspore": "1.0", "symptom": "wrong"},
    {"keep_out": ["expand:GeLU"], "backend": "Ascend", "mindspore": "2.0", "symptom": "NaN"},
]


def _findings(folder: Path) -> Path:
    files.write_record(folder / "q.json", _learned._KIND, {"rows": _ROWS})
    return folder / "q.json"


def _checkpoint(folder: Path) -> Path:
    arrays = {"parameters/w": np.arange(20, dtype=np.float32), "best/w": np.ones((2, 3))}
    checkpoint.save(folder / "checkpoint.npz", checkpoint.Checkpoint(arrays, {"epochs": [1, 2], "seed": 0}))
    return folder / "checkpoint.npz"


def _read_checkpoint(folder: Path) -> Any:
    found = checkpoint.load(folder / "checkpoint.npz")
    return [(name, value.dtype.str, value.tobytes()) for name, value in found.arrays.items()], found.description


def _options(folder: Path) -> Path:
    command_line.remember({"output": str(folder), "seed": 3, "data": "corpus"})
    return folder / "options.json"


def _model(folder: Path) -> Path:
    checkpoint.describe(folder, "texting", {"words": ["w1", "w2"], "labels": ["no", "yes"], "width": 8})
    return folder / "model.json"


def _text(name: str, content: str, read: Callable[[Path], Any]) -> Reader:
    def write(folder: Path) -> Path:
        (folder / name).write_text(content, encoding="utf-8")
        return folder / name

    return Reader(name, write, lambda folder: read(folder / name), sealed=False)


_ARTICLE = {
    "title": "t",
    "paragraphs": [
        {
            "context": "The film was fine.",
            "qas": [{"id": "1", "question": "How?", "answers": [{"text": "fine", "answer_start": 13}]}],
        }
    ],
}
_BERT = {"model_type": "bert", "vocab_size": 8, "hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 1}


def _config(path: Path) -> Any:
    return checkpoint.read_sizes(path.parent, "bert", {"width": "hidden_size", "heads": "num_attention_heads"}, {})[1]


def _safetensors(folder: Path) -> Path:
    from safetensors.numpy import save_file

    save_file({"a": np.arange(6, dtype=np.float32).reshape(2, 3)}, str(folder / "model.safetensors"))
    return folder / "model.safetensors"


def _conll(folder: Path) -> Path:
    for name in ("train", "dev", "test"):
        (folder / f"{name}.txt").write_text("EU B-ORG\nrejects O\n\nPeter B-PER\n\n", encoding="utf-8")
    return folder / "train.txt"


def _documents(folder: Path) -> list[Path]:
    (folder / "toy.clean.txt").write_text("good film\nbad film\ngood plot\n" * 12)
    kinds = ("train", "train", "test") * 12
    (folder / "toy.txt").write_text(
        "".join(f"{n}\t{kind}\t{'yes' if n % 3 else 'no'}\n" for n, kind in enumerate(kinds))
    )
    return [folder / "toy.clean.txt", folder / "toy.txt"]


READERS = (
    _table(["a", "bc", "é"]),
    _table([5, -7, 1 << 40], [3, 1, 2]),
    Reader("Embedding file", _embedding_file, _read_embedding_file),
    Reader("Embedding folder", _embedding_folder, lambda f: _rows(Embedding(12, 4, f / "e", "adam", 0.0))),
    Reader("CompileCache entry", _store, _read_store),
    Reader("findings of learn", _findings, lambda f: _learned._read(f / "q.json")),
    Reader("example checkpoint", _checkpoint, _read_checkpoint),
    Reader("example options", _options, lambda f: command_line.settle({"resume": str(f)}, {})),
    Reader("example model", _model, lambda f: checkpoint.described(f, "texting")[1]),
    Reader(
        "safetensors",
        _safetensors,
        lambda f: checkpoint.read_arrays(f, "", [("a", "a", (2, 3))])["a"].shape,
        False,
    ),
    Reader("CoNLL", _conll, lambda f: conll.read_folder(f), False),
    Reader("TextING corpus", _documents, lambda f: documents.read_folder(f), False),
    _text("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\nw\n", lambda path: read_vocabulary(path.parent, 8)),
    _text("words.txt", "the\nfilm\nwas\n", lambda path: Table.from_file(path)),
    _text("config.json", json.dumps(_BERT), _config),
    _text("squad.json", json.dumps({"data": [_ARTICLE]}), lambda path: squad.read_file(path)),
    _text("glove.txt", "the 1.0 2.5\nfilm -1 2e-3\n", lambda path: vectors.read_glove(path, ["the", "film"])),
    _text(
        "pieces.vocab",
        "<unk>\t0\n[CLS]\t0\n[SEP]\t0\n<pad>\t0\n▁the\t-3.5\n",
        lambda path: squad.read_vocabulary(path),
    ),
    _text("flags.json", '{"opt_level": "2", "enable_pass": "a"}', lambda path: _flags._read(str(path), "test")),
    _text(
        "report.json",
        fusion.BisectReport(
            ("cluster:Add",), "--x", "", "output", 0.5, 0.1, {"a": ("b",)}, 3, 1.0, "2.10.0", "CPU"
        ).to_json(),
        lambda path: fusion.BisectReport.from_json(path.read_bytes().decode("utf-8", "replace")),
    ),
)


def mutate(content: bytes, chance: random.Random) -> bytes:
    """One to three damages: bits, bytes, cuts, insertions, repetitions, zeros, and what an attacker of parsers tries."""
    data = bytearray(content)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        place, length = chance.randrange(len(data) + 1), chance.choice((1, 1, 2, 4, 16, 300))
        how = chance.randrange(9)
        if how <= 2 and data:
            data[min(place, len(data) - 1)] ^= 1 << chance.randrange(8)
        elif how == 3 and data:
            data[min(place, len(data) - 1)] = chance.choice((0, 10, 34, 91, 123, 255, chance.randrange(256)))
        elif how == 4:
            del data[place : place + length]
        elif how == 5:
            data[place:place] = bytes(chance.randrange(256) for _ in range(length))
        elif how == 6:
            data[place:place] = data[place : place + length]
        elif how == 7:
            data[place : place + length] = bytes(length)
        else:
            tricks = (
                b"[" * 3000,
                b'{"a":' * 3000,
                b"9" * 5000,
                b"PK\x05\x06",
                b"\x93NUMPY",
                b"\xef\xbb\xbf",
                b"\x00",
                b"NaN",
            )
            data[place:place] = chance.choice(tricks)
    return bytes(data)


def run(reader: Reader, folder: Path, count: int, seed: int) -> dict[str, int]:
    """Read ``count`` damaged files; AssertionError for one that was half believed or raised something foreign."""
    chance = random.Random(f"{reader.name} {seed}")
    whole = folder / "whole"
    whole.mkdir()
    targets = reader.write(whole)
    targets = sorted(targets) if isinstance(targets, list) else [targets]
    kept = {path: path.read_bytes() for path in whole.rglob("*") if path.is_file()}
    right = repr(reader.read(whole))
    found = {"inputs": count, "refused": 0, "the same": 0, "another sound file": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(count):
            for path in [path for path in whole.rglob("*") if path.is_file() and path not in kept]:
                path.unlink()
            for path, content in kept.items():
                path.write_bytes(content)
            target = chance.choice(targets)
            damaged = mutate(kept[target], chance)
            target.write_bytes(damaged)
            try:
                got = repr(reader.read(whole))
            except AscendFixesError as error:
                assert "\n" not in str(error), f"{reader.name}: an error of several lines: {error}"
                found["refused"] += 1
            except BaseException as error:
                raise AssertionError(f"{reader.name}: {type(error).__name__}: {error} for {damaged!r}") from error
            else:
                assert got == right or not reader.sealed, f"{reader.name}: half believed: {got} for {damaged!r}"
                found["the same" if got == right else "another sound file"] += 1
    shutil.rmtree(whole)
    return found
