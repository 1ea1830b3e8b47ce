"""The command line of RNNSearch, run as a person runs it."""

import json
import subprocess
import sys

import pytest
from example_support import ROOT, run

pytest.importorskip("tokenizers", reason="needs the extra: pip install 'ascend_fixes[examples]'")

from ascend_fixes import files
from examples.common import checkpoint
from examples.rnnsearch import data

MODULE = "examples.rnnsearch"


@pytest.fixture
def corpus(tmp_path):
    """A few dates as files."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    for part, pairs in data.built_in(90, 20, 20).parts.items():
        name = {"validation": "val"}.get(part, part)
        (folder / f"{name}.xx").write_text("\n".join(pairs.source) + "\n")
        (folder / f"{name}.yy").write_text("\n".join(pairs.target) + "\n")
    return folder


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--data", "nowhere"], "--data nowhere: no such folder"),
        (["--data", "corpus"], "no train.en or train.en.gz; train files are there for xx, yy"),
        (["--fixes", "hosts"], "did you mean 'host'?"),
    ],
)
def test_wrong_use_is_one_line_and_changes_nothing(tmp_path, corpus, arguments, message):
    before = sorted(tmp_path.rglob("*"))
    done = run(tmp_path, MODULE, *arguments)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr and done.stderr.count("\n") == 1 and not done.stdout
    assert sorted(tmp_path.rglob("*")) == before


def translate(folder, text, *arguments):
    return subprocess.run(
        [sys.executable, "-m", f"{MODULE}.predict", *map(str, arguments)],
        input=text,
        text=True,
        capture_output=True,
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "GLOG_v": "3"},
    )


@pytest.mark.slow
def test_variants_train_and_the_fixed_one_translates(tmp_path, corpus):
    pytest.importorskip("sacrebleu", reason="needs the extra: pip install 'ascend_fixes[examples]'")
    where = ("--data", "corpus", "--source", "xx", "--target", "yy")
    done = run(tmp_path, MODULE, *where, "--epochs", "1", "--fixes", "all", "--output", "out")
    assert done.returncode == 0, done.stdout + done.stderr
    (row,) = json.loads((tmp_path / "out" / "results.json").read_text())
    assert row["status"] == "finished" and row["steps"] == len(row["losses"]) and row["overflowed"] == 0
    assert row["metric"] == "test_bleu" and 0 <= row["test_bleu"] <= 1 and 0 < row["padded_share"] < 1
    done = translate(tmp_path, "the 3rd of March 1998\n5.6.2001\n", "out")
    assert done.returncode == 0 and done.stdout.count("\n") == 2, done.stderr
    said = translate(tmp_path, "", "out", "the 3rd of March", "1998")
    assert said.returncode == 0 and said.stdout.splitlines() == done.stdout.splitlines()[:1]
    done = translate(tmp_path, f"\n{'1 ' * 70}\n5.6.2001\n", "out")
    assert done.returncode == 2 and done.stdout.count("\n") == 1, done.stderr
    assert done.stderr.splitlines() == [
        "the sentence is empty; type at least one word",
        "139 tokens, at most 127 can be translated; split the sentence",
    ]
    path = tmp_path / "out" / "fixed-float32" / "checkpoint.npz"
    arrays = files.read_arrays(path, checkpoint._KIND)
    del arrays["best/encoder.keys.weight"]
    files.write_arrays(path, checkpoint._KIND, arrays)
    done = translate(tmp_path, "x\n", "out")
    assert done.returncode == 2 and "checkpoint.npz: best/encoder.keys.weight is missing" in done.stderr, done.stderr
    done = translate(tmp_path, "x\n", "corpus")
    assert done.returncode == 2 and "holds no run" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
def test_two_ranks_train_as_one_process_does(tmp_path):
    common = ("--fixes", "shapes,amp", "--limit", "200", "--epochs", "1")
    for name, option in (("one", ()), ("two", ("--distributed", "2"))):
        done = run(tmp_path, MODULE, *common, *option, "--output", name)
        assert done.returncode == 0, done.stdout + done.stderr
    one, two = (json.loads((tmp_path / name / "results.json").read_text())[0] for name in ("one", "two"))
    assert one["status"] == two["status"] == "finished" and two["distributed"] == 2
    assert two["losses"] == pytest.approx(one["losses"], abs=1e-5)
    assert two["history"][-1]["validation_loss"] == pytest.approx(one["history"][-1]["validation_loss"], abs=1e-5)
