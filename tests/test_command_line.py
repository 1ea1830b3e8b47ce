"""The command line where something around it is missing or ends: one line, an exit status, nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

# Python runs `sitecustomize` before anything else.
WITHOUT_MINDSPORE = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "mindspore":
            raise ModuleNotFoundError("No module named 'mindspore'", name=name)
sys.meta_path.insert(0, Hidden())
"""
POSING_AS_NUMPY_2 = """
import sys, types
sys.modules["numpy"] = types.SimpleNamespace(__version__="2.3.5")
"""


@pytest.fixture
def environment(tmp_path):
    """Variables for a child, whose temporary files are looked at afterwards."""
    (tmp_path / "temporary").mkdir()
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    yield {**os.environ, "PYTHONPATH": path, "TMPDIR": str(tmp_path / "temporary")}
    assert list((tmp_path / "temporary").iterdir()) == []


def start(environment, *arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "ascend_fixes", *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


@pytest.mark.parametrize("arguments", [["defects", "A1"], ["defects"], ["doctor"], ["bisect", "module:factory"]])
def test_without_mindspore_one_line_says_so(tmp_path, environment, arguments):
    (tmp_path / "sitecustomize.py").write_text(WITHOUT_MINDSPORE)
    process = start(environment, *arguments)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 2
    assert errors == "ascend-fixes: MindSpore is not installed; install it with: pip install 'mindspore>=2.7,<2.11'\n"


def test_the_command_line_lives_beside_numpy_2_and_a_program_does_not(tmp_path, environment):
    (tmp_path / "sitecustomize.py").write_text(POSING_AS_NUMPY_2)
    process = start(environment, "--version")
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0 and output.startswith("ascend-fixes "), errors
    program = [sys.executable, "-c", "import ascend_fixes"]
    done = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and "pip install 'numpy<2'" in done.stderr.splitlines()[-1]


def test_the_demo_shows_an_overflow_and_a_step_that_survives_it(environment):
    process = start(environment, "demo")
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    rows = [line for line in output.splitlines() if line[:1].isdigit()]
    assert len(rows) == 5 and [row.split()[3] for row in rows] == ["whole"] * 2 + ["NaN"] * 3
    assert ["skipped" in row for row in rows] == [False, False, True, False, False]
    assert all(row.split()[6] == "whole" for row in rows)


def test_a_closed_pipe_is_no_traceback(environment):
    process = start(environment, "defects", "--markdown")
    process.stdout.close()
    errors = process.stderr.read()
    assert process.wait(120) == 141
    assert errors == "ascend-fixes: standard output was closed before all was written\n"


@pytest.mark.slow
@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_doctor_that_is_told_to_stop_stops_and_leaves_nothing(tmp_path, environment, number, status):
    process = start(environment, "doctor", "--only", "shapes", preexec_fn=lambda: signal.signal(number, signal.SIG_DFL))
    while not list((tmp_path / "temporary").glob("*/log")):  # until a probe has begun
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    stopped = "ascend-fixes: stopped\n" if number == signal.SIGINT else ""
    assert (process.returncode, output, errors) == (status, "", stopped)
