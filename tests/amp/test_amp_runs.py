"""Training steps in processes of their own: killed and resumed, on two ranks, with fusion on."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import amp_runs
import mindspore as ms
import numpy as np
import pytest

SCRIPT = amp_runs.__file__
STEPS = 12


def start(folder: Path, kind: str, *rest) -> subprocess.Popen:
    paths = os.pathsep.join([str(Path(SCRIPT).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.Popen(
        [sys.executable, SCRIPT, kind, str(folder), *map(str, rest)],
        env={**os.environ, "PYTHONPATH": paths},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def answer(run: subprocess.Popen, word: str) -> str:
    output, _ = run.communicate(timeout=1200)
    return re.findall(rf"^{word} (.*)$", output, re.MULTILINE)[-1]


@pytest.mark.slow
def test_a_killed_run_goes_on_as_if_nothing_had_happened(tmp_path):
    """SIGKILL after several steps, within and between windows of the accumulation, just after an overflow."""
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    whole = start(tmp_path / "whole", "train", STEPS)
    for stop in (2, 5, 9):
        run = start(tmp_path / "killed", "train", STEPS)
        for line in run.stdout:
            if line.startswith("STEP ") and int(line.split()[1]) >= stop:
                run.send_signal(signal.SIGKILL)
                break
        run.stdout.close()
        assert run.wait() == -signal.SIGKILL
    assert answer(start(tmp_path / "killed", "train", STEPS), "STATE") == answer(whole, "STATE")


def of_two_ranks(kind: str, tmp_path: Path) -> list[str]:
    """What each rank answers under msrun."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    root = str(Path(SCRIPT).parents[2])
    environment = {
        **os.environ,
        "PATH": os.path.dirname(sys.executable) + os.pathsep + os.environ.get("PATH", ""),  # msrun starts `python`
        "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")])),
    }
    command = [
        *(sys.executable, "-m", "mindspore.parallel.cluster.run", "--worker_num=2", "--local_worker_num=2"),
        *(f"--master_port={port}", "--log_dir=ranks", "--join=True", SCRIPT, kind, str(tmp_path)),
    ]
    run = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=1200, check=False
    )
    logs = [file.read_text(errors="replace") for file in sorted((tmp_path / "ranks").glob("worker_*.log"))]
    answers = [found[-1] for found in (re.findall(r"^ANSWER (.*)$", log, re.MULTILINE) for log in logs) if found]
    assert len(answers) == 2, (run.stderr or run.stdout)[-500:]
    return answers


@pytest.mark.slow
def test_two_ranks_skip_together_and_stay_equal(tmp_path):
    answers = of_two_ranks("rank", tmp_path)
    assert answers[0] == answers[1]
    assert re.findall("updated|skipped", answers[0].partition("]")[0]) == [
        "updated",
        "skipped",
        "skipped",
        "skipped",
        "updated",
        "updated",
    ]


@pytest.mark.slow
def test_fusion_on(tmp_path):
    for package in ("attrs", "decorator", "sympy"):
        pytest.importorskip("attr" if package == "attrs" else package)
    events, _, loss = answer(start(tmp_path, "fused"), "ANSWER").rpartition(" ")
    assert events == str([number not in amp_runs.OVERFLOWS for number in range(8)]) and np.isfinite(float(loss))


@pytest.mark.slow
def test_two_ranks_put_back_what_they_have_written_when_one_batch_is_bad(tmp_path):
    """Each has batch statistics of its own; the checks stand in amp_runs.written."""
    answers = of_two_ranks("written", tmp_path)
    assert answers[0] != answers[1] and "nan" not in "".join(answers)


@pytest.mark.slow
def test_two_ranks_update_by_the_mean_over_all_tokens(tmp_path):
    """With calls of 1, 5, 2 and 4 rows; the mean of the ranks' means is another one."""
    answers = of_two_ranks("weighed", tmp_path)
    assert answers[0] == answers[1] and answers[0].startswith("True [")
    windows, single = (np.fromstring(part, sep=",") for part in re.findall(r"\[(.*?)\]", answers[0]))
    for found, parts in ((windows, amp_runs.ragged_batches()), (single, amp_runs.ragged_batches()[:2])):
        whole = amp_runs.weighed_step()
        whole(*(ms.Tensor(np.concatenate(arrays)) for arrays in zip(*parts)))
        assert np.allclose(found, whole.weights[0].asnumpy().ravel(), rtol=1e-5)
