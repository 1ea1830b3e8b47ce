"""The command line of TextING, run as a person runs it."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
from example_support import CORPORA, run, start, write_corpus

from examples.common import checkpoint
from examples.common.files import ExampleError
from examples.texting import predict

MODULE = "examples.texting"


def results(folder: Path) -> list[dict]:
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


# --- wrong use: one line, exit status 2, nothing written ---------------------------------------


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--fixes", "shape"], "did you mean 'shapes'?"),
        (["--data", "nowhere"], "--data nowhere: no such folder"),
        (["--data", "corpus", "--embeddings", "narrow.txt"], "line 2: vector of width 2, expected 3"),
        (["--data", "corpus", "--embeddings", "good.txt", "--width", "4"], "vector of width 3, expected 4"),
        (["--resume", "corpus"], "--resume corpus: holds no run"),
    ],
)
def test_wrong_use_is_one_line_and_changes_nothing(tmp_path, corpus_folder, arguments, message):
    (tmp_path / "narrow.txt").write_text("good 1 2 3\nbad 1 2\n")
    (tmp_path / "good.txt").write_text("good 1 2 3\nbad 1 2 3\n")
    before = sorted(tmp_path.rglob("*"))
    done = run(tmp_path, MODULE, *arguments)
    assert done.returncode == 2
    assert message in done.stderr and done.stderr.count("\n") == 1 and not done.stdout
    assert sorted(tmp_path.rglob("*")) == before


def test_label_count_mismatch_is_refused(tmp_path, corpus_folder):
    with open(corpus_folder / "toy.txt", "a", encoding="utf-8") as file:
        file.write("\n80\ttest\tyes")
    done = run(tmp_path, MODULE, "--data", "corpus")
    assert done.returncode == 2 and "has 80 documents but toy.txt labels 81" in done.stderr


# --- whole runs --------------------------------------------------------------------------------


@pytest.mark.slow
def test_plain_and_fixed_runs_end_in_a_table_and_a_figure(tmp_path, corpus_folder):
    done = run(tmp_path, MODULE, "--data", "corpus", "--epochs", "2", "--output", "out", "--json", "copy.json")
    assert done.returncode == 0, done.stderr
    rows = results(tmp_path / "out")
    assert [row["variant"] for row in rows] == ["plain float32", "fixed float32", "fixed float16"]
    _, fixed, half = rows
    for row in rows:
        assert row["status"] == "finished" and row["overflowed"] == 0 and len(row["losses"]) == row["steps"] == 2
        assert 0 < row["padded_share"] < 1 and row["variant"] in done.stdout
    assert half["losses"] == pytest.approx(fixed["losses"], abs=2e-3) and half["losses"] != fixed["losses"]
    assert json.loads((tmp_path / "copy.json").read_text()) == rows
    assert (tmp_path / "out" / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["copy.json", "corpus", "out"]


@pytest.mark.slow
def test_plain_float16_loses_the_run_and_the_amp_family_saves_it(tmp_path, corpus_folder):
    common = ("--data", "corpus", "--epochs", "1", "--precision", "float16")
    run(tmp_path, MODULE, *common, "--fixes", "none", "--output", "none")
    run(tmp_path, MODULE, *common, "--fixes", "amp", "--output", "amp")
    (row,) = results(tmp_path / "none")
    assert row["status"] != "finished" or row["overflowed"] == row["steps"]
    (row,) = results(tmp_path / "amp")
    assert row["status"] == "finished" and row["overflowed"] == 0


@pytest.mark.slow
def test_padding_to_the_longest_changes_only_the_padding(tmp_path, corpus_folder):
    common = ("--data", "corpus", "--epochs", "2", "--fixes", "all")
    for name, option in (("bucketed", ()), ("longest", ("--unbucketed",))):
        done = run(tmp_path, MODULE, *common, *option, "--output", name)
        assert done.returncode == 0, done.stderr
    (bucketed,), (longest,) = results(tmp_path / "bucketed"), results(tmp_path / "longest")
    assert longest["losses"] == pytest.approx(bucketed["losses"], abs=1e-5)
    assert longest["unbucketed"] and not bucketed["unbucketed"]


@pytest.mark.slow
def test_two_ranks_train_as_one_process_does_and_resume(tmp_path):
    write_corpus(tmp_path / "corpus", 142, 20)  # two whole batches
    common = ("--data", "corpus", "--fixes", "all")
    whole = run(tmp_path, MODULE, *common, "--epochs", "3", "--output", "one")
    assert whole.returncode == 0, whole.stderr
    for options in (
        (*common, "--epochs", "2", "--distributed", "2", "--output", "two"),
        ("--resume", "two", "--epochs", "3"),
    ):
        done = run(tmp_path, MODULE, *options)
        assert done.returncode == 0, done.stdout + done.stderr
    (one,), (two,) = results(tmp_path / "one"), results(tmp_path / "two")
    assert two["distributed"] == 2 and len(two["history"]) == 3
    assert two["losses"] == pytest.approx(one["losses"], abs=1e-5)
    assert [e["validation_loss"] for e in two["history"]] == pytest.approx(
        [e["validation_loss"] for e in one["history"]], abs=1e-5
    )


@pytest.mark.slow
def test_a_trained_model_labels_typed_text(tmp_path, corpus_folder):
    done = run(tmp_path, MODULE, "--data", "corpus", "--epochs", "8", "--fixes", "all", "--output", "out")
    assert done.returncode == 0, done.stderr
    predictor = predict.Predictor(tmp_path / "out")
    for text, label in (("w1 Good w2", "yes"), ("bad w3, w1", "no")):
        found = predictor.probabilities(text)
        assert max(found, key=found.get) == label and sum(found.values()) == pytest.approx(1)
    with pytest.raises(ExampleError, match="no word of 'nothing known' was in the training documents"):
        predictor.probabilities("nothing known")
    typed = [run(tmp_path, f"{MODULE}.predict", "out", "w1 Good w2") for _ in range(2)]
    assert typed[0].stdout == typed[1].stdout and typed[0].stdout.startswith("yes ("), typed[1].stderr
    assert list((tmp_path / "out" / "graphs").glob("*.graph"))  # which the second start found
    path = tmp_path / "out" / "fixed-float32" / "model.json"
    path.write_text(path.read_text()[:-20])
    assert predict.main([str(tmp_path / "out"), "good"]) == 2


def test_text_is_split_as_the_corpora_are():
    assert predict.split("It's a FINE film, isn't it?") == [
        "it",
        "'s",
        "a",
        "fine",
        "film",
        ",",
        "is",
        "n't",
        "it",
        "?",
    ]


@pytest.mark.slow
def test_float16_trains_with_the_graph_kernel_on(tmp_path, corpus_folder):
    common = ("--data", "corpus", "--epochs", "1", "--precision", "float16", "--fixes", "all")
    for fused in ("on", "off"):
        done = run(tmp_path, MODULE, *common, "--fused", fused, "--output", fused)
        assert done.returncode == 0, done.stdout + done.stderr
    (on,), (off,) = results(tmp_path / "on"), results(tmp_path / "off")
    assert on["overflowed"] == 0 and on["losses"] == pytest.approx(off["losses"], abs=1e-3)


@pytest.mark.slow
def test_a_killed_run_goes_on_with_the_same_losses(tmp_path, corpus_folder):
    arguments = ("--data", "corpus", "--fixes", "all", "--precision", "float16", "--epochs", "6")
    whole = run(tmp_path, MODULE, *arguments, "--output", "whole")
    assert whole.returncode == 0, whole.stderr
    folder = tmp_path / "killed"  # by Ctrl-C: the same test of BERT-CRF
    interrupted = start(tmp_path, MODULE, *arguments, "--output", folder)
    wait_for_epochs(folder / "fixed-float16" / "checkpoint.npz", 2, interrupted)
    interrupted.kill()
    interrupted.communicate(timeout=1200)
    assert interrupted.returncode == -signal.SIGKILL
    resumed = run(tmp_path, MODULE, "--resume", folder)
    assert resumed.returncode == 0, resumed.stderr
    (expected,), (found,) = results(tmp_path / "whole"), results(folder)
    assert found["losses"] == pytest.approx(expected["losses"], abs=1e-6)
    for name in ("test_accuracy", "best_epoch", "validation", "overflowed"):
        assert found[name] == expected[name]


def wait_for_epochs(path: Path, epochs: int, process) -> None:
    """Wait until the checkpoint holds at least so many epochs."""
    deadline = time.monotonic() + 1200
    while time.monotonic() < deadline and process.poll() is None:
        if path.exists() and len(checkpoint.load(path).description["epochs"]) >= epochs:
            return
        time.sleep(0.02)
    raise AssertionError(f"no checkpoint of epoch {epochs}: {process.communicate()[1]}")


@pytest.mark.slow
def test_a_damaged_checkpoint_is_refused_and_left_alone(tmp_path, corpus_folder):
    interrupted = start(tmp_path, MODULE, "--data", "corpus", "--fixes", "none", "--epochs", "400", "--output", "out")
    path = tmp_path / "out" / "plain-float32" / "checkpoint.npz"
    wait_for_epochs(path, 1, interrupted)
    os.kill(interrupted.pid, signal.SIGINT)
    interrupted.communicate(timeout=1200)
    damaged = path.read_bytes()[:-1000]
    path.write_bytes(damaged)
    done = run(tmp_path, MODULE, "--resume", "out")
    assert done.returncode == 2
    assert "checkpoint.npz is not a whole" in done.stderr and "Traceback" not in done.stderr
    assert path.read_bytes() == damaged


@pytest.mark.slow
def test_one_epoch_on_the_movie_reviews_beats_chance_by_far(tmp_path):
    if not (CORPORA / "mr").is_dir():
        pytest.skip(f"the corpus is not there: {CORPORA / 'mr'}")
    done = run(tmp_path, MODULE, "--data", CORPORA / "mr", "--fixes", "shapes,amp", "--epochs", "1", "--output", "out")
    assert done.returncode == 0, done.stderr
    (row,) = results(tmp_path / "out")
    assert row["documents"] == {"train": 6398, "validation": 710, "test": 3554}
    assert row["test_accuracy"] > 0.68
