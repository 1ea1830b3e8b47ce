"""The generators of this folder, a few cases of each; ``pytest tests/fuzz --fuzz 100`` runs 100 times as many.

Each failure names its input; `benchmarks/library/reliability.py` runs them at length, and `soak.py` trains without a pause.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import fuzz_files
import fuzz_kills
import fuzz_resume
import fuzz_scaler
import fuzz_training
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def times(request):
    return request.config.getoption("--fuzz")


@pytest.mark.parametrize("reader", fuzz_files.READERS, ids=lambda reader: reader.name)
def test_a_damaged_file_is_whole_or_an_error_of_the_library(reader, tmp_path, times):
    found = fuzz_files.run(reader, tmp_path, 60 * times, seed=times)
    assert found["another sound file"] == 0 or not reader.sealed


def test_whatever_threads_patch_everything_is_as_before(tmp_path, times):
    script = Path(fuzz_files.__file__).with_name("fuzz_patching.py")
    command = [sys.executable, str(script), str(4 * times), "8", str(times)]
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1])["sequences"] == 4 * times


def test_a_dataset_goes_on_with_the_batches_that_remained(times):
    assert fuzz_resume.run(10 * times, seed=times)["batches compared"] > 0


def test_training_goes_on_to_the_bit(tmp_path, times):
    """Windows of accumulation, written Parameters and faults; benchmarks.library.reliability runs the other kinds, too."""
    found = fuzz_training.run(5 * times, tmp_path, times, [fuzz_training.KINDS[1]])
    assert found["steps compared"] > found["of them without an update"] > 0


def test_a_compiled_scaler_follows_the_rule(times):
    assert fuzz_scaler.run(30 * times, seed=times)["overflowed steps"] > 0


@pytest.mark.parametrize("name", fuzz_kills.WRITERS)
def test_a_killed_writer_leaves_the_old_content_or_the_new(name, tmp_path, times):
    assert fuzz_kills.run(fuzz_kills.WRITERS[name], tmp_path, 10 * times, seed=times)["kills"] == 10 * times
