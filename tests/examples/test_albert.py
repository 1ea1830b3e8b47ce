"""The command lines of ALBERT, run as a person runs them, and checkpoints that do not fit."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import mindspore as ms
import numpy as np
import pytest
from example_support import ROOT, run

from ascend_fixes.errors import AscendFixesError
from examples.albert import model as pretrained
from examples.albert.model import Albert, Config
from examples.albert.predict import Reader
from examples.common.files import ExampleError

MODULE, PREDICT = "examples.albert", "examples.albert.predict"
SIZES = {
    "vocab_size": 20,
    "embedding_size": 4,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 128,
    "type_vocab_size": 2,
}
PASSAGE = "Ada wrote notes . Bob read them . Eve sold books ."


def results(folder):
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


def write_corpus(folder, articles=6):
    """Questions of the form "who wrote": the answer is the name before the verb."""
    folder.mkdir()
    questions, names = [], ("Ada", "Bob", "Eve", "Dan")
    for number in range(articles):
        passage = " ".join(f"{names[(number + i) % 4]} {verb} it ." for i, verb in enumerate(("wrote", "read")))
        passage += " it ." * number
        qas = []
        for i, verb in enumerate(("wrote", "read")):
            name = names[(number + i) % 4]
            answer = {"text": name, "answer_start": passage.index(f"{name} {verb}")}
            qas.append({"id": f"{number}-{i}", "question": f"who {verb} it", "answers": [answer]})
        qas.append({"id": f"{number}-no", "question": "who ?", "is_impossible": True, "answers": []})
        questions.append({"title": f"{number}", "paragraphs": [{"context": passage, "qas": qas}]})
    (folder / "train.json").write_text(json.dumps({"data": questions}))
    (folder / "dev.json").write_text(json.dumps({"data": questions[:2]}))
    words = ["▁ada", "▁bob", "▁eve", "▁dan", "▁wrote", "▁read", "▁it", "▁who", "▁", "."]
    special = "".join(f"{piece}\t0\n" for piece in ("<pad>", "<unk>", "[CLS]", "[SEP]"))
    (folder / "toy.vocab").write_text(special + "".join(f"{word}\t-3\n" for word in words), encoding="utf-8")
    return folder


def write_checkpoint(folder, span=True, drop=(), sizes=SIZES, **changes):
    """A Hugging Face checkpoint of random weights."""
    from safetensors.numpy import save_file

    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "albert", **sizes, **changes}))
    config = Config(20, 4, 8, 2, 2, 12, 128)
    random = np.random.default_rng(0)
    arrays = {
        key if key.startswith("qa_") else f"albert.{key}": random.normal(0, 0.3, shape).astype(np.float32)
        for _, key, shape in pretrained.parameters(config)
        if key not in drop and (span or not key.startswith("qa_"))
    }
    save_file(arrays, str(folder / "model.safetensors"))
    return folder


# --- checkpoints that do not fit ---------------------------------------------------------------


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"model_type": "bert"}, "model_type is 'bert', expected 'albert'"),
        ({"hidden_size": 16}, "of shape (8, 4), config.json asks for (16, 4)"),
        ({"vocab_size": None}, "vocab_size is None, expected a positive integer"),
        ({"num_hidden_groups": 2}, "num_hidden_groups is 2, this ALBERT has 1"),
        ({"hidden_act": "relu"}, "hidden_act is 'relu', this ALBERT has gelu or"),
        ({"num_attention_heads": 3}, "3 attention heads do not divide hidden_size 8"),
        ({"drop": ("encoder.albert_layer_groups.0.albert_layers.0.ffn.bias",)}, "ffn.bias; is it a checkpoint of"),
    ],
)
def test_mismatched_checkpoints_are_refused_in_one_line(tmp_path, changes, message):
    pytest.importorskip("safetensors")
    with pytest.raises(ExampleError) as error:
        pretrained.read(write_checkpoint(tmp_path / "c", **changes))
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda f: (f / "model.safetensors").unlink(), "model.safetensors: no such file"),
        (lambda f: (f / "model.safetensors").write_bytes(b"123456789"), "model.safetensors: damaged"),
        (lambda f: (f / "config.json").write_bytes(b"{"), "config.json: damaged"),
        (lambda f: (f / "config.json").write_bytes(b"\xff"), "config.json: not UTF-8 (byte 0)"),
    ],
)
def test_damaged_checkpoints_are_refused_in_one_line(tmp_path, damage, message):
    pytest.importorskip("safetensors")
    folder = write_checkpoint(tmp_path / "c")
    damage(folder)
    with pytest.raises(AscendFixesError) as error:
        pretrained.read(folder)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_checkpoint_without_span_head_cannot_answer(tmp_path):
    pytest.importorskip("safetensors")
    folder = write_checkpoint(tmp_path / "c", span=False)
    assert "span.weight" not in pretrained.read(folder)[1]
    with pytest.raises(ExampleError, match=r"has no span head \(qa_outputs\); train it first"):
        Reader(folder)


def test_both_kinds_of_models_have_the_same_parameters():
    ms.set_context(mode=ms.GRAPH_MODE)
    config = Config(20, 4, 8, 2, 2, 12, 128)
    first, second = (Albert(config, np.random.default_rng(0), safe) for safe in (True, False))
    for one, other in zip(first.get_parameters(), second.get_parameters()):
        assert one.name == other.name and np.array_equal(one.asnumpy(), other.asnumpy())
    names = {name: shape for name, _, shape in pretrained.parameters(config)}
    assert names == {parameter.name: tuple(parameter.shape) for parameter in first.get_parameters()}


# --- wrong use: one line, exit status 2, nothing written ---------------------------------------


@pytest.mark.parametrize(
    "module, arguments, message",
    [
        (MODULE, ["--data", "corpus"], "--data needs a vocabulary"),
        (MODULE, ["--length", "20"], "choose --stride"),
        (PREDICT, ["corpus"], "corpus: holds no run"),
    ],
)
def test_wrong_use_is_one_line_and_changes_nothing(tmp_path, module, arguments, message):
    write_corpus(tmp_path / "corpus")
    before = sorted(tmp_path.rglob("*"))
    done = run(tmp_path, module, *arguments)
    assert done.returncode == 2
    assert message in done.stderr and done.stderr.count("\n") == 1 and not done.stdout
    assert sorted(tmp_path.rglob("*")) == before


# --- whole runs --------------------------------------------------------------------------------


@pytest.mark.slow
def test_all_variants_run_on_files_and_the_result_answers(tmp_path):
    write_corpus(tmp_path / "corpus")
    given = ("--data", "corpus", "--vocabulary", "corpus/toy.vocab", "--length", "32", "--stride", "8", "--epochs", "2")
    done = run(tmp_path, MODULE, *given, "--output", "out")
    assert done.returncode == 2 and "windows of 32 pieces leave -35" in done.stderr  # questions may be 64 long
    given = ("--data", "corpus", "--vocabulary", "corpus/toy.vocab", "--length", "80", "--stride", "8", "--epochs", "2")
    done = run(tmp_path, MODULE, *given, "--output", "out")
    assert done.returncode == 0, done.stderr
    rows = results(tmp_path / "out")
    assert [row["variant"] for row in rows] == ["plain float32", "fixed float32", "fixed float16"]
    plain, fixed, half = rows
    for row in rows:
        assert row["status"] == "finished" and row["overflowed"] == 0 and 0 < row["padded_share"] < 1
        assert set(row["tests"]) == {"dev"} and row["tests"]["dev"]["questions"] == 6 and row["threshold"] is not None
    assert fixed["losses"] == pytest.approx(plain["losses"], rel=1e-4)
    assert half["losses"] == pytest.approx(fixed["losses"], rel=2e-2) and half["losses"] != fixed["losses"]

    arguments = ("--passage", "Bob read it . Zoe wrote it .", "--question", "who wrote it", "--json")
    done = run(tmp_path, PREDICT, "out", *arguments)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["answer"] in ("", answer["best"][0]["text"]) and len(answer["best"]) == 3
    assert "note: the passage has words that the model does not know: zoe" in done.stderr.lower()
    for wrong, message in (
        (("--passage", " "), "the passage is empty"),
        (("--passage", "@none"), "none: No such file"),
    ):
        done = run(tmp_path, PREDICT, "out", *wrong, "--question", "who wrote it")
        assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_pretrained_checkpoint_is_trained_on_and_typed_into(tmp_path):
    pytest.importorskip("safetensors")
    write_corpus(tmp_path / "corpus")
    write_checkpoint(tmp_path / "c", span=False)
    given = ("--data", "corpus", "--vocabulary", "corpus/toy.vocab", "--pretrained", "c", "--epochs", "1")
    given = (*given, "--output", "out", "--fixes", "all")
    done = run(tmp_path, MODULE, *given)
    assert done.returncode == 2 and "--length 384: the longest input of the checkpoint is 128" in done.stderr
    done = run(tmp_path, MODULE, *given, "--length", "80", "--stride", "8")
    assert done.returncode == 0, done.stderr
    assert "the checkpoint has no span head, which starts from random weights" in done.stdout
    (row,) = results(tmp_path / "out")
    assert row["status"] == "finished"
    typed = subprocess.run(
        [sys.executable, "-m", PREDICT, "out"],
        input="Ada wrote it .\nBob read it .\n\nwho wrote it\n\nwho read it\n",
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert typed.returncode == 0, typed.stderr
    assert typed.stdout.count("(no answer)\n") == 2 and "who read it" in typed.stdout
