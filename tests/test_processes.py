"""Child processes: how they end, and that nothing of them is left."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time

import pytest

from ascend_fixes._mindspore import processes as seam_processes
from ascend_fixes.processes import Children, Outcome, ScratchError, StoppedError, run, scratch

PYTHON = [sys.executable, "-c"]
# A child that starts another in its turn, tells both ids, and waits for ever.
FAMILY = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
with open("ids.part", "w") as file:
    file.write(f"{os.getpid()} {child.pid}")
os.rename("ids.part", "ids")
time.sleep(600)
"""


@pytest.fixture(autouse=True)
def temporary_files(tmp_path, monkeypatch):
    """A folder for temporary files, looked at afterwards."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield
    assert list(folder.iterdir()) == []


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for(condition):
    end = time.monotonic() + 600
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize(
    "code, status, output, failure",
    [
        ("print('hello')", 0, "hello\n", ""),
        ("import sys; print('one'); sys.exit('two')", 1, "two", "ended with status 1: "),
        ("import os; os._exit(3)", 3, "", "ended with status 3: nothing was printed"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", -11, "", "was killed by SIGSEGV"),
    ],
)
def test_how_a_child_ends(code, status, output, failure):
    outcome = run([*PYTHON, code])
    assert outcome.status == status and output in outcome.output and not outcome.timed_out
    assert outcome.failure.startswith(failure) and bool(outcome.failure) == (status != 0)


def test_a_child_out_of_time_ends_with_all_it_started(tmp_path):
    outcome = run([*PYTHON, FAMILY], folder=tmp_path, timeout=3)
    assert outcome.timed_out and outcome.failure == "gave no answer within 3 s and was stopped"
    for pid in (tmp_path / "ids").read_text().split() if (tmp_path / "ids").exists() else ():
        wait_for(lambda pid=pid: not alive(pid))


def test_folder_and_environment(monkeypatch):
    monkeypatch.setenv("TAKEN_AWAY", "1")
    code = "import os; print(os.listdir('.'), os.environ['GIVEN'], 'TAKEN_AWAY' in os.environ, os.environ['TMPDIR'])"
    outcome = run([*PYTHON, code], environment={"GIVEN": "2", "TAKEN_AWAY": None})
    assert outcome.output.startswith("[] 2 False " + os.environ["TMPDIR"])


def test_temporary_files_of_a_child_go_with_it():
    assert run([*PYTHON, "import os, tempfile; tempfile.mkdtemp(); os._exit(0)"]).failure == ""


def test_without_a_place_for_temporary_files_one_line_says_so(monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    with pytest.raises(ScratchError, match="set TMPDIR"), scratch():
        pass
    monkeypatch.setattr(tempfile, "tempdir", None)


def test_nothing_is_started_after_the_end():
    with Children() as children:
        pass
    with pytest.raises(StoppedError, match="have been ended"):
        children.run([*PYTHON, ""])


def test_a_fork_does_its_work_and_says_whether_it_could(tmp_path):
    with Children() as children:
        good = children.fork(lambda: (tmp_path / "done").touch())
        bad = children.fork(lambda: [][0])
        slow = children.fork(lambda: time.sleep(600))
        assert (good.wait(60), bad.wait(60), slow.wait(0.1)) == (0, 1, None)
    assert (tmp_path / "done").exists() and slow.poll() == -signal.SIGTERM


def test_a_fork_waits_for_threads_that_work_and_may_hold_a_lock(monkeypatch):
    monkeypatch.setattr(seam_processes, "_PATIENCE_SECONDS", 120)
    started, done = threading.Event(), threading.Event()

    def work():
        data = bytes(2 * 10**8)
        started.set()
        hashlib.sha256(data)  # without the interpreter's lock
        done.set()

    threading.Thread(target=work).start()
    started.wait()
    with Children() as children:
        assert children.fork(lambda: None).wait(60) == 0 and done.is_set()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_children_at_once(tmp_path, number):
    code = f"""
import signal
from concurrent.futures import ThreadPoolExecutor
from ascend_fixes.processes import Children
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup, under which these tests may run, ignores it for all its children
with ThreadPoolExecutor(1) as pool, Children() as children:
    pool.submit(children.run, [{sys.executable!r}, "-c", {FAMILY!r}], folder={str(tmp_path)!r}).result()
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    parent = subprocess.Popen([*PYTHON, code], env=environment, stderr=subprocess.DEVNULL)
    wait_for((tmp_path / "ids").exists)
    parent.send_signal(number)
    status = parent.wait(600)
    assert status == (-number if number == signal.SIGINT else 128 + number)
    for pid in (tmp_path / "ids").read_text().split():
        wait_for(lambda pid=pid: not alive(pid))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("lost", ["raise RuntimeError('release unlocked lock')", "pass"])
def test_a_signal_whose_exception_is_lost_ends_the_block_all_the_same(number, lost):
    code = f"""
import os
from ascend_fixes.processes import Children
with Children():
    try:
        os.kill(os.getpid(), {int(number)})
        while True:
            pass
    except BaseException:
        {lost}
print("went on")
"""
    done = subprocess.run(
        [*PYTHON, code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (-number if number == signal.SIGINT else 128 + number, "")


def test_a_child_ends_its_own_children_first(tmp_path):
    code = f"""
import time
from ascend_fixes.processes import run
run([{sys.executable!r}, "-c", {FAMILY!r}], folder={str(tmp_path)!r})
"""
    with Children() as children:
        child = children.fork(lambda: children_of(code))
        wait_for((tmp_path / "ids").exists)
    assert child.poll() is not None
    for pid in (tmp_path / "ids").read_text().split():
        wait_for(lambda pid=pid: not alive(pid))


def children_of(code):
    os.execv(sys.executable, [*PYTHON, code])


def test_a_handler_of_the_user_stays():
    handler = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with Children():
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, handler)
    with Children():
        assert signal.getsignal(signal.SIGTERM) is not handler
    assert signal.getsignal(signal.SIGTERM) is handler


def test_an_outcome_without_an_end_has_no_status():
    assert Outcome(None, "", 90.4).failure == "gave no answer within 90 s and was stopped"
