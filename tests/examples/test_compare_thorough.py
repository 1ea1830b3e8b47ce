"""The thorough comparison of the examples: what it runs, how it judges, what it writes."""

import argparse
import json
import os
import signal
import time
from pathlib import Path

import pytest
from example_support import run, start

from examples.compare import thorough

MODULE = "examples.compare"


def row(cell, losses=(2.0, 1.0), **changes):
    against = next(each.against for each in thorough.CELLS if each.name == cell)
    history = [{"loss": loss, "validation_loss": loss, "elapsed": 10.0 * n} for n, loss in enumerate(losses, 1)]
    values = dict(
        model="texting",
        cell=cell,
        against=against,
        fixes=[],
        status="finished",
        losses=list(losses),
        history=history,
        graphs=1,
        padded_share=0.5,
        overflowed=0,
        metric="test_accuracy",
        test_accuracy=0.9,
        wall_seconds=20.0,
        peak_memory_gb=1.0,
        sizes=[8],
    )
    return {**values, **changes}


def judged(*rows):
    thorough.judge(rows)
    return thorough.verdicts(rows)


NAN = float("nan")


@pytest.mark.parametrize(
    "losses, expected",
    [((1.0, NAN), "NaN from step 2"), ((NAN, NAN), "NaN from step 1"), ((NAN, 1.0), "finished"), ((), "finished")],
)
def test_a_run_is_lost_where_its_losses_stay_lost(losses, expected):
    assert thorough.outcome(row("plain", losses)) == expected


def test_a_crash_is_told_as_it_was():
    assert thorough.outcome({"status": "crashed: TypeError: no kernel"}) == "crashed: TypeError: no kernel"


@pytest.mark.parametrize("target, seconds", [(2.0, 10.0), (1.5, 15.0), (1.0, 20.0), (0.5, None), (3.0, 10.0)])
def test_time_to_a_loss_is_read_between_epochs(target, seconds):
    assert thorough.seconds_to(row("plain"), target) == seconds


def test_a_run_without_losses_reaches_none():
    assert thorough.seconds_to({"status": "crashed"}, 1.0) is None
    assert thorough.seconds_to(row("plain", (NAN, NAN)), 1.0) is None


def test_verdicts_tell_hits_cures_and_fixes_that_do_not_help():
    found = judged(
        row("plain"),
        row("shapes", (1.5, 0.5), padded_share=0.1),
        row("host"),
        row("plain, fused", (2.0, 1.1)),
        row("fusion, fused", (2.0, 1.0)),
        row("plain, float16", (2.0, NAN)),
        row("amp, float16"),
    )
    assert found["shapes"]["texting"] == "padding 50% -> 10%; speed-up to the plain run's loss 1.34"
    assert found["host"]["texting"] == "no difference"
    assert found["fusion"]["texting"] == "hit (losses off by 5e-02 -> 0e+00); cured"
    assert found["amp"]["texting"] == "hit (NaN from step 2); cured"


def test_verdicts_admit_what_was_not_cured_and_what_did_not_hit():
    found = judged(
        row("plain"),
        row("shapes", (3.0, 2.5)),
        row("host", test_accuracy=0.8),
        row("plain, fused"),
        row("fusion, fused"),
        row("plain, float16"),
        row("amp, float16", status="crashed: RuntimeError: x"),
    )
    assert found["shapes"]["texting"].endswith("the plain run's loss is not reached")
    assert found["host"]["texting"] == "accuracy 90.00% -> 80.00%"
    assert found["fusion"]["texting"].startswith("not hit")
    assert found["amp"]["texting"] == "not cured: crashed: RuntimeError: x"


def test_how_much_sooner_all_fixes_are_there():
    rows = [
        row("plain", model="a"),
        row("all", (1.0, 0.5), model="a"),
        row("plain", model="b"),
        row("all", (3.0, 2.0), model="b"),
        row("plain", (NAN, NAN), model="c"),
        row("all", model="c"),
        row("plain", model="d"),
        row("all", (2.0, 1.005), model="d"),
    ]
    thorough.judge(rows)
    assert thorough.sooner(rows) == pytest.approx({"a": 1.99, "b": 0.0, "d": 19.9 / (10 + 10 * 0.99 / 0.995)})


def test_losses_over_other_batches_are_not_compared():
    assert thorough.drift(row("all", sizes=[4]), row("plain")) is None
    assert thorough.drift(row("all", (2.0, 1.0, 1.0)), row("plain")) is None


def test_a_late_parting_does_not_count_as_drift_and_a_lasting_one_does():
    reference = row("plain", (4.0, 3.0, 2.0, 1.0, 0.5))
    assert thorough.drift(row("all", (4.0, 3.0, 2.0, 1.0, 0.6)), reference) == 0
    assert thorough.drift(row("all", (4.0, 3.0, 2.2, 1.1, 0.55)), reference) == pytest.approx(0.1)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--models", "texting,bert"], "there is no 'bert'; choose from"),
        (["--families", "shape"], "did you mean 'shapes'?"),
        (["--cells", "plain;fused"], "there is no 'fused'; choose from plain; shapes; host; plain, fused;"),
        (["--data", "nowhere", "--models", "texting"], "nowhere/textclass/r8"),
    ],
)
def test_wrong_use_is_one_line_and_changes_nothing(tmp_path, arguments, message):
    done = run(tmp_path, MODULE, *arguments)
    assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert not list(tmp_path.iterdir())


def test_chosen_cells_bring_what_they_are_compared_with():
    names = [cell.name for cell in thorough.cells("all", "all, float16, fused")]
    assert names == ["plain", "all", "all, float16, fused"]
    assert [cell.name for cell in thorough.cells("amp", None)] == ["plain", "plain, float16", "amp, float16"]


REAL = {"--data": "data/mrc/squad", "--vocabulary": "data/vocab/albert-30k-clean.vocab"}


@pytest.mark.parametrize(
    "options, expected",
    [
        ({}, {"--epochs": "2", "--limit": "1500"}),
        ({"full": True}, {}),
        ({"full": True, "epochs": 5}, {"--epochs": "5"}),
        ({"limit": 10}, {"--epochs": "2", "--limit": "10"}),
        ({"data": Path("data"), "full": True}, REAL),
        ({"data": Path("data")}, {**REAL, "--epochs": "3", "--limit": "4000"}),
    ],
)
def test_a_comparison_is_short_unless_it_is_full(options, expected):
    settled = argparse.Namespace(**{"seed": 3, "data": None, "full": False, "epochs": None, "limit": None, **options})
    lengths = thorough.Length(2, 1500), thorough.Length(3, 4000)
    model = thorough.Model("mrc/squad", *lengths, (("--vocabulary", "vocab/albert-30k-clean.vocab"),))
    given = thorough.arguments(model, settled)
    assert dict(zip(given[::2], given[1::2])) == {"--seed": "3", **expected}


@pytest.mark.slow
def test_cells_run_and_a_second_run_keeps_them(tmp_path):
    arguments = ("--models", "texting", "--families", "host", "--epochs", "1", "--output", "out", "--jobs", "1")
    done = run(tmp_path, MODULE, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [each["cell"] for each in results["rows"]] == ["plain", "host"]
    assert results["matrix"] == {"host": {"texting": "no difference"}}
    page = (tmp_path / "out" / "index.html").read_text()
    assert page.count("<svg") == 1 and "<script" not in page and 'src="http' not in page
    again = run(tmp_path, MODULE, *arguments, "--resume")
    resumed = json.loads((tmp_path / "out" / "results.json").read_text())
    assert resumed.pop("seconds") < results.pop("seconds")  # nothing was trained again
    assert resumed == results and again.returncode == 0


@pytest.mark.slow
def test_cells_run_side_by_side_each_on_one_core(tmp_path):
    cells = ("--models", "texting", "--cells", "plain;host", "--epochs", "1", "--limit", "300", "--jobs", "2")
    started = start(tmp_path, MODULE, *cells, "--output", "out")
    cores = set()
    while started.poll() is None:
        cores |= {core for _, core in children(started.pid, "examples.texting.train")}
        time.sleep(0.05)
    output, errors = started.communicate()
    assert started.returncode == 0, errors
    assert "1 of 2, texting: " in output and "2 of 2, texting: " in output and "epoch" not in errors
    assert all(len(allowed) == 1 for allowed in cores), cores
    if len(os.sched_getaffinity(0)) > 1:
        assert len(cores) == 2
    assert "epoch 1/1" in (tmp_path / "out" / "texting" / "plain" / "plain-float32" / "output.log").read_text()


@pytest.mark.slow
def test_an_interrupted_comparison_ends_its_cells_and_goes_on(tmp_path):
    arguments = ("--models", "texting", "--cells", "plain;host", "--epochs", "1", "--limit", "300", "--jobs", "2")
    started = start(tmp_path, MODULE, *arguments, "--output", "out")
    while not (trained := children(started.pid, "examples.texting.train")):
        assert started.poll() is None, started.communicate()
        time.sleep(0.05)
    started.send_signal(signal.SIGINT)
    _, errors = started.communicate(timeout=1200)
    assert started.returncode == 130 and "goes on with --resume" in errors, errors
    assert not any(Path(f"/proc/{child}").exists() for child, _ in trained)
    done = run(tmp_path, MODULE, *arguments, "--output", "out", "--resume")
    assert done.returncode == 0, done.stderr


def children(parent, module):
    """(process, its cores) of every process that ``parent`` started to run ``module``."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_text().split("\0")
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(fields[1]) == parent and module in command:
                found.append((int(folder.name), frozenset(os.sched_getaffinity(int(folder.name)))))
        except (OSError, IndexError):
            continue  # it has ended
    return found
