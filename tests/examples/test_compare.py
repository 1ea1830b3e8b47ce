"""The quick comparison: built-in data as ragged as the corpora, what the rows say, and a whole run."""

import json
import math

import numpy as np
import pytest
from example_support import run

from examples.albert import data as questions_of
from examples.albert.data import words_of
from examples.bert_crf import data as sentences
from examples.common import randomness
from examples.compare import jobs, quick
from examples.compare.jobs import MODELS, REPEATS, SIDES
from examples.rnnsearch import data as pairs
from examples.texting import data as documents

LOSSES = [float(loss) for loss in np.linspace(2, 1, REPEATS)]


def measured(**changes):
    """What the jobs of a run of every model write, all as it should be; `changes` by ``model_side_part``."""
    parts = {
        "ragged": {"losses": LOSSES, "at": [5.0, 6.0], "graphs": 3, "padded_share": 0.5, "training_seconds": 8.0},
        "float16": {"losses": LOSSES, "skipped": 2},
        "fused": {"losses": LOSSES},
    }
    found = {}
    for model in MODELS:
        for side in SIDES:
            own = {part: dict(values) for part, values in parts.items()}
            kernels = {"aclnn": 3, "aclop": 2, "host": 0, "fused": 4}
            own["ascend"] = {"verdict": "compiled", "reason": "", "kernels": kernels, "compile_seconds": 1.0}
            own["host"] = {"rate": 10.0 if side == "plain" else 20.0, "unit": "words", "answer": "ab"}
            for name, values in changes.items():
                if name.startswith(f"{model}_{side}_"):
                    own[name.rpartition("_")[2]] = values
            found[model, side, "running"] = {part: own[part] for part in parts}
            found[model, side, "ascend"], found[model, side, "hosted"] = ({p: own[p]} for p in ("ascend", "host"))
    return found


def rows(**changes):
    results = quick.results(list(MODELS), measured(**changes))
    return {(row["family"], row["model"]): row for row in results["rows"]}, results["sentences"]


def test_what_is_as_it_should_be_says_so():
    found, sentences_ = rows()
    assert len(found) == 5 * 4 and all(row["ok"] and not row["hit"] for row in found.values())
    assert found["shapes", "albert"]["cured"] == "3 batches in 8 s, 3 graphs, 50% padding"
    assert found["ascend", "texting"]["plain"] == "compiled: 3 aclnn, 2 aclop, 0 host, 4 fused"
    assert "It did not help BERT-CRF, RNNSearch, ALBERT and TextING." in sentences_["shapes"]
    assert sentences_["host"].count("2.0 times the rate") == 4


@pytest.mark.parametrize(
    "part, broken, said",
    [
        ("float16", {"losses": [math.nan] * REPEATS, "skipped": REPEATS}, "NaN from step 1"),
        ("float16", {"losses": LOSSES, "skipped": REPEATS}, f"{REPEATS} of {REPEATS} steps skipped"),
        ("fused", {"losses": [*LOSSES[:-1], 1.01]}, "losses off by 1e-02"),
        ("fused", {"crash": "RuntimeError: Response is empty."}, "RuntimeError: Response is empty."),
        ("ascend", {"verdict": "refused", "reason": "TypeError: no\nmore"}, "refused: TypeError: no"),
        ("host", {"rate": 0.0, "unit": "translations", "graphs": 4, "tokens": [[1, 2, 3]]}, "none translated after 3"),
    ],
)
def test_a_defect_is_told_where_it_hits_and_fails_the_run_where_it_is_not_cured(part, broken, said):
    family = {"float16": "amp", "fused": "fusion"}.get(part, part)
    found, sentences_ = rows(**{f"albert_plain_{part}": broken})
    assert said in found[family, "albert"]["plain"] and found[family, "albert"]["hit"]
    assert all(row["ok"] for row in found.values()) and "NOT" not in sentences_[family]
    found, sentences_ = rows(**{f"albert_cured_{part}": broken})
    assert said in found[family, "albert"]["cured"] and not found[family, "albert"]["ok"]
    assert "NOT as it should be with ascend_fixes: ALBERT" in sentences_[family]


def test_losses_that_padding_changes_are_a_failure():
    wrong = {**measured()["albert", "cured", "running"]["ragged"], "losses": [1.1 * loss for loss in LOSSES]}
    found, _ = rows(albert_cured_ragged=wrong)
    assert not found["shapes", "albert"]["ok"]


@pytest.mark.parametrize(
    "plain, cured", [({"answer": "ab"}, {"answer": "ac"}), ({"tokens": [[1, 2]]}, {"tokens": [[1, 3, 4]]})]
)
def test_another_answer_on_the_host_is_a_failure(plain, cured):
    both = {"unit": "translations" if "tokens" in plain else "words", "rate": 1.0, "graphs": 1}
    for theirs in (cured, plain):
        found, _ = rows(albert_plain_host={**both, **plain}, albert_cured_host={**both, **theirs})
        assert found["host", "albert"]["ok"] == (theirs is plain)


def test_a_process_that_dies_is_a_row():
    found = measured()
    found["texting", "plain", "running"] = {
        "ragged": found["texting", "plain", "running"]["ragged"],
        "ended": "was killed",
    }
    results = quick.results(list(MODELS), found)
    said = {row["family"]: row["plain"] for row in results["rows"] if row["model"] == "texting"}
    assert said["amp"] == said["fusion"] == "was killed" and said["shapes"].startswith("3 batches")


def test_the_page_needs_nothing_else():
    results = {**quick.results(list(MODELS), measured()), "seconds": 1.0, "cores": 2}
    results["rows"][0]["plain"] = "<b>"
    html = quick.page(results)
    assert html.count("<svg") == 2 and "currentColor" in html and "prefers-color-scheme: dark" in html
    assert "<script" not in html and 'src="' not in html and "<b>" not in html and "#010203" not in html


def test_every_model_and_side_has_its_jobs_and_its_factory():
    assert len(quick.jobs(list(MODELS))) == 3 * 4 * 2 and len(quick.jobs(["texting"])) == 6
    assert all(callable(getattr(jobs, f"{model}_{side}")) for model in MODELS for side in SIDES)


@pytest.mark.parametrize("example", MODELS)
def test_lengths_are_drawn_as_they_were_counted(example):
    stored = randomness.counted(example)
    found = randomness.drawn(example, 20_000, np.random.default_rng(0))
    bins = np.array(stored["bins"])
    middle = bins[:, :-1] + stored["width"] / 2
    expected = (middle * bins[:, -1:]).sum(0) / bins[:, -1].sum()
    assert found.shape == (20_000, bins.shape[1] - 1) and found.min() >= 1
    assert np.allclose(found.mean(0), expected, rtol=0.05)
    assert (found.max(0) < bins[:, :-1].max(0) + stored["width"]).all()


def test_built_in_data_can_be_as_ragged_as_the_corpora():
    for length in map(len, (one.words for one in sentences.built_in(200, 5, 5, ragged=True).parts["train"])):
        assert 1 <= length <= 44
    reviews = documents.built_in(300, 20, ragged=True)
    assert reviews.lengths.max() > 4 * np.median(reviews.lengths)
    dates = pairs.built_in(200, 5, 5, ragged=True).parts["train"]
    assert {len(target) for target in dates.target} >= {4, 7, 10} and all(
        " " in one for one in dates.target if len(one) > 11
    )
    questions = questions_of.built_in(60, 5, ragged=True).train
    encoded = words_of(question.passage for question in questions).encode(question.passage for question in questions)
    counts = np.array([len(one.ids) for one in encoded])
    assert counts.max() > 2 * counts.min() and 80 < np.median(counts) < 200
    for question in questions:
        for answer in question.answers:
            assert question.passage[answer.start :].startswith(answer.text)


@pytest.mark.parametrize(
    "arguments, message",
    [(["--models", "texting,bert"], "there is no 'bert'; choose from"), (["--jobs", "0"], "at least 1")],
)
def test_wrong_use_changes_nothing(tmp_path, arguments, message):
    done = run(tmp_path, "examples.compare", *arguments)
    assert done.returncode == 2 and message in done.stderr and not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_model_is_compared_from_end_to_end(tmp_path):
    done = run(tmp_path, "examples.compare", "--models", "texting", "--output", "out", "--json", "copy.json")
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((tmp_path / "copy.json").read_text())
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == results
    found = {row["family"]: row for row in results["rows"]}
    assert all(row["ok"] for row in found.values()), found
    assert found["amp"]["hit"] and "NaN" in found["amp"]["plain"]
    assert found["shapes"]["figures"]["cured"]["graphs"] < len(found["shapes"]["figures"]["cured"]["at"])
    assert "[ 6/6]" in done.stdout and "shapes: As they are, the models take" in done.stdout
    assert (tmp_path / "out" / "index.html").read_text().count("<svg") == 2
