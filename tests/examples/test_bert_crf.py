"""The command lines of BERT-CRF, run as a person runs them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from example_support import ROOT, run, start, write_bert, write_conll

from examples.common import checkpoint

pytest.importorskip("tokenizers", reason="needs the extra: pip install 'ascend_fixes[examples]'")
pytest.importorskip("safetensors", reason="needs the extra: pip install 'ascend_fixes[examples]'")

from examples.bert_crf import predict
from examples.common.command_line import main
from examples.common.training import learning_rates

MODULE = "examples.bert_crf"


@pytest.fixture
def corpus(tmp_path):
    return write_conll(tmp_path / "corpus")


@pytest.fixture
def bert(tmp_path):
    return write_bert(tmp_path / "bert")


def results(folder):
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


def run_predict(folder, *arguments, text=None):
    return subprocess.run(
        [sys.executable, "-m", f"{MODULE}.predict", *map(str, arguments)],
        input=text,
        text=True,
        capture_output=True,
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "GLOG_v": "3"},
    )


# --- wrong use: one line, exit status 2, nothing written ---------------------------------------


def long_sentence(tmp_path):
    with open(tmp_path / "corpus" / "test.conll", "a", encoding="utf-8") as file:
        file.write("\n\n" + "went\tO\n" * 30)


@pytest.mark.parametrize(
    "damage, arguments, message",
    [
        (None, ["--data", "nowhere"], "--data nowhere: no such folder"),
        (None, ["--fixes", "fuson"], "did you mean 'fusion'?"),
        (None, ["--data", "corpus", "--pretrained", "nowhere"], "nowhere: no such checkpoint folder"),
        (
            lambda f: (f / "bert" / "vocab.txt").unlink(),
            ["--data", "corpus", "--pretrained", "bert"],
            "vocab.txt: No such",
        ),
        (
            long_sentence,
            ["--data", "corpus", "--pretrained", "bert"],
            "32 pieces with [CLS] and [SEP], the model has 24",
        ),
        (
            lambda f: (f / "corpus" / "train.conll").write_text(""),
            ["--data", "corpus"],
            "train.conll: holds no sentence",
        ),
    ],
)
def test_wrong_use_is_one_line_and_changes_nothing(
    tmp_path, monkeypatch, capsys, corpus, bert, damage, arguments, message
):
    if damage:
        damage(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path)
    assert main("bert_crf", arguments) == 2
    written = capsys.readouterr()
    assert message in written.err and written.err.count("\n") == 1 and not written.out
    assert sorted(tmp_path.rglob("*")) == before


def test_predicting_without_a_run_is_one_line(tmp_path, capsys):
    assert predict.main([str(tmp_path), "some text"]) == 2
    written = capsys.readouterr()
    assert "holds no run" in written.err and written.err.count("\n") == 1


# --- parts -------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 2, 7, 100])
def test_learning_rates_rise_to_their_height_and_fall(steps):
    rates = learning_rates(2.0, steps)
    top = int(np.argmax(rates))
    assert len(rates) == steps and min(rates) > 0 and rates[top] == pytest.approx(2.0, rel=0.2)
    assert rates[: top + 1] == sorted(rates[: top + 1]) and rates[top:] == sorted(rates[top:], reverse=True)


def test_typed_text_is_split_into_words():
    assert predict.split("Ana's @paul, don't go to St.Ives (#now)!") == (
        "Ana's",
        "@paul",
        ",",
        "don't",
        "go",
        "to",
        "St.Ives",
        "(",
        "#now",
        ")",
        "!",
    )


# --- whole runs --------------------------------------------------------------------------------


@pytest.mark.slow
def test_fixed_variants_train_predict_and_agree(tmp_path, corpus, bert):
    """Fusion on and off too: without the cure of F7 the second loss was 10.35 instead of 10.60, in both precisions."""
    common = ("--data", "corpus", "--pretrained", "bert", "--epochs", "2", "--fixes", "all")
    for precision, fused in (("float32", "off"), ("float16", "on")):
        done = run(tmp_path, MODULE, *common, "--precision", precision, "--fused", fused, "--output", precision)
        assert done.returncode == 0, done.stdout + done.stderr
    (full,), (half,) = results(tmp_path / "float32"), results(tmp_path / "float16")
    for row in (full, half):
        assert row["status"] == "finished" and row["overflowed"] == 0 and len(row["losses"]) == row["steps"] == 4
        assert row["metric"] == "test_f1" and 0 <= row["test_f1"] <= 1 and row["pretrained"] == "bert"
    assert half["losses"] == pytest.approx(full["losses"], rel=5e-3) and half["losses"] != full["losses"]

    done = run_predict(tmp_path, "float32", text="ana went to lun pex\n\n😂 東京 \u0394\n" + "went " * 30 + "\n")
    assert done.returncode == 2 and done.stdout.count("\n") >= 2 and "Traceback" not in done.stderr
    assert "the sentence is empty" in done.stderr and "the model has 24 places" in done.stderr
    path = tmp_path / "float32" / "fixed-float32" / "checkpoint.npz"
    path.write_bytes(path.read_bytes()[:-100])
    done = run_predict(tmp_path, "float32", "ana")
    assert done.returncode == 2 and "checkpoint.npz is not a whole" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.slow
def test_plain_float16_loses_the_run(tmp_path, corpus, bert):
    common = ("--data", "corpus", "--pretrained", "bert", "--epochs", "1", "--fixes", "none")
    run(tmp_path, MODULE, *common, "--precision", "float16", "--output", "out")
    (half,) = results(tmp_path / "out")
    assert half["status"] != "finished" or half["overflowed"] == half["steps"]


@pytest.mark.slow
def test_a_killed_run_goes_on_with_the_same_losses(tmp_path, corpus, bert):
    arguments = ("--data", "corpus", "--pretrained", "bert", "--fixes", "host,amp", "--epochs", "30")
    whole = run(tmp_path, MODULE, *arguments, "--output", "whole")
    assert whole.returncode == 0, whole.stderr
    interrupted = start(tmp_path, MODULE, *arguments, "--output", "killed")
    path, deadline = tmp_path / "killed" / "host+amp-float32" / "checkpoint.npz", time.monotonic() + 1200
    while not (path.exists() and len(checkpoint.load(path).description["epochs"]) >= 2):
        assert time.monotonic() < deadline and interrupted.poll() is None, interrupted.communicate()[1]
        time.sleep(0.02)
    interrupted.send_signal(signal.SIGINT)
    interrupted.communicate(timeout=1200)
    assert interrupted.returncode == 130
    resumed = run(tmp_path, MODULE, "--resume", "killed")
    assert resumed.returncode == 0, resumed.stderr
    (expected,), (found,) = results(tmp_path / "whole"), results(tmp_path / "killed")
    assert found["losses"] == pytest.approx(expected["losses"], abs=1e-5)
    assert found["test_f1"] == expected["test_f1"] and found["best_epoch"] == expected["best_epoch"]
