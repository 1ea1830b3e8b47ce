"""How feeding ends: pipelines that hang, Ctrl-C and other signals at any moment, and worker processes that are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time

import mindspore.dataset as ds
import numpy as np
import pytest

from ascend_fixes.host import feed


def run(code, timeout=60, **options):
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )
    return process


def finish(process, timeout=60):
    try:
        out, err = process.communicate(timeout=timeout)
    finally:
        process.kill()
    return process.returncode, out, err


PIPELINE = """
    import os, signal, sys, threading, time
    import numpy as np
    import mindspore.dataset as ds
    from ascend_fixes.host import FeedTimeoutError, feed

    timeout, how, source = float(sys.argv[1]), sys.argv[2], sys.argv[3]

    def rows():
        yield (np.zeros(2),)
        while True:
            time.sleep(500 if source == "sleeping" else 0.001)

    begin = time.monotonic()
    try:
        pipeline = ds.GeneratorDataset(lambda: rows(), ["x"], shuffle=False)
        for item in feed(pipeline.create_tuple_iterator() if how == "stalled" else pipeline, timeout):
            print("got", type(item).__name__, flush=True)
            if how == "left":
                break
            if how in ("interrupted", "ended"):
                threading.Timer(0.7, os.kill, (os.getpid(), signal.SIGINT)).start()
    except (FeedTimeoutError, KeyboardInterrupt) as error:
        if how == "ended":
            raise
        print(type(error).__name__, error, "after", round(time.monotonic() - begin))
    assert signal.set_wakeup_fd(-1) == -1
    print("goes on", [len(item) for item in feed(ds.NumpySlicesDataset([1, 2]))])
"""
STALLED = {
    "stalled": ("1", "timeout=1 s: the pipeline has been reading item 1", 0),
    "interrupted": ("100", "KeyboardInterrupt", 0),
    "left": ("100", "goes on", 0),
    "ended": ("100", "", -signal.SIGINT),
}


def stalled_pipeline(folder, how, source):
    """A process whose pipeline hangs in its source, while it is read and when the process ends."""
    timeout, reported, status = STALLED[how]
    command = [sys.executable, "-c", textwrap.dedent(PIPELINE), timeout, how, source]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=60)
    assert done.stdout.startswith("got tuple\n") and reported in done.stdout, done.stderr
    assert done.returncode == status and "terminate called" not in done.stderr, done.stderr
    assert ("goes on [1, 1]" in done.stdout) == (how != "ended")


# A source that comes back while the interpreter ends used to abort the process, every time.
@pytest.mark.parametrize(("how", "source"), [("stalled", "sleeping"), ("interrupted", "polling"), ("left", "sleeping")])
def test_a_stalled_pipeline_ends_at_the_limit_and_at_ctrl_c_and_does_not_keep_the_process(tmp_path, how, source):
    stalled_pipeline(tmp_path, how, source)


@pytest.mark.slow
@pytest.mark.parametrize("source", ["sleeping", "polling"])
@pytest.mark.parametrize("how", STALLED)
def test_a_stalled_pipeline_ends_every_time(tmp_path, how, source):
    for _ in range(2):
        stalled_pipeline(tmp_path, how, source)


def test_other_signals_do_not_end_a_pipeline():
    def rows():
        for number in range(6):
            time.sleep(0.1)
            yield (np.array([number]),)

    before = signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
    try:
        found = [item.asnumpy()[0] for (item,) in feed(ds.GeneratorDataset(lambda: rows(), ["x"], shuffle=False), 20)]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert found == list(range(6))


def test_a_killed_worker_process_is_noticed_within_the_limit(tmp_path):
    code = """
        import multiprocessing, os, time
        from ascend_fixes.host import FeedTimeoutError, feed

        def work(pipe):
            pipe.send(0)
            time.sleep(600)

        class Remote:
            def __iter__(self):
                ours, theirs = multiprocessing.Pipe()
                self.process = multiprocessing.get_context("fork").Process(target=work, args=(theirs,), daemon=True)
                self.process.start()
                while True:
                    yield ours.recv()

        remote = Remote()
        try:
            for item in feed(remote, 2):
                print("got", item, flush=True)
                os.kill(remote.process.pid, 9)
        except FeedTimeoutError as error:
            print("reported:", error)
    """
    status, out, err = finish(run(code, cwd=tmp_path))
    assert "got 0" in out and "reported: no item came" in out and "reading item 1" in out, err
    assert status == 0


INTERRUPTED = """
    import queue, signal, sys, threading, time
    import mindspore.dataset as ds
    from ascend_fixes.host import Feed, feed

    ours = sys.modules[feed.__module__].__file__

    class Interrupted:
        '''Raises KeyboardInterrupt where Python looks for signals: at the nth call or return in the modules that wait.'''

        places = (threading.__file__, queue.__file__, ours)

        def __init__(self, number):
            self.number = number

        def __call__(self, frame, event, _):
            # Closing a generator is a call to the profiler, but no place where Python looks for signals.
            looks = event == "c_return" or event == "call" and frame.f_code is not Feed.__iter__.__code__
            if looks and frame.f_code.co_filename in self.places:
                self.number -= 1
                if self.number == 0:
                    raise KeyboardInterrupt

    def rows():
        yield 1
        time.sleep(0.01)  # so that the loop has to wait
        yield from range(2, 8)

    def left():
        '''Does a thread still stand in our file? One that Python itself could not start stands in its own.'''
        stacks = [frame for thread, frame in sys._current_frames().items() if thread != threading.get_ident()]
        while stacks:
            frame = stacks.pop()
            if frame.f_code.co_filename == ours:
                return True
            stacks += [frame.f_back] if frame.f_back else []
        return False

    pipeline = ds.NumpySlicesDataset(list(range(8)), shuffle=False)
    for number in range(1, 1000):
        interrupted = Interrupted(number)
        seen = 0
        sys.setprofile(interrupted)
        try:
            for _ in feed(rows() if sys.argv[1] == "iterable" else pipeline, output_numpy=True):
                seen += 1
                if seen == 3:  # before the end of the data, so that something is left to stop
                    break
        except KeyboardInterrupt:
            pass
        finally:
            sys.setprofile(None)
        if interrupted.number > 0:  # the loop ended before
            break
        deadline = time.monotonic() + 10
        while left() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not left(), f"a thread of ours runs on after interrupt {number}"
        assert signal.set_wakeup_fd(-1) == -1, f"signals are still written to us after interrupt {number}"
    print(number)
"""


@pytest.mark.parametrize("source", ["iterable", "pipeline"])
def test_an_interrupt_at_any_moment_is_raised_as_itself_and_leaves_nothing_behind(tmp_path, source):
    """Amid a thread's start it came as RuntimeError("release unlocked lock"), and a queue of Python code stayed locked."""
    command = [sys.executable, "-c", textwrap.dedent(INTERRUPTED), source]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert done.returncode == 0, done.stderr
    assert 50 < int(done.stdout) < 999


def test_ctrl_c_is_raised_at_once_and_a_hanging_dataset_does_not_keep_the_process(tmp_path):
    code = """
        import threading
        from ascend_fixes.host import feed

        def rows():
            yield 0
            threading.Event().wait()

        try:
            for item in feed(rows(), 500):
                print("got", item, flush=True)
        except KeyboardInterrupt:
            print("interrupted")
    """
    process = run(code, cwd=tmp_path)
    assert process.stdout.readline() == "got 0\n"
    time.sleep(0.3)
    begin = time.monotonic()
    os.kill(process.pid, signal.SIGINT)
    status, out, err = finish(process, 20)
    assert out == "interrupted\n" and status == 0, err
    assert time.monotonic() - begin < 10


def test_a_killed_mindspore_worker_process_ends_the_program(tmp_path):
    # MindSpore watches its own worker processes and terminates the whole program; what matters is that it ends.
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent("""
        import os, time
        import numpy as np
        import mindspore.dataset as ds
        from ascend_fixes.host import feed

        class Source:
            def __len__(self):
                return 1000
            def __getitem__(self, index):
                if index == 20:
                    os.kill(os.getpid(), 9)
                return np.array([index])

        workers = {"num_parallel_workers": 2, "python_multiprocessing": True}
        pipeline = ds.GeneratorDataset(Source(), ["x"], shuffle=False, **workers)
        print("read", sum(1 for _ in feed(pipeline, 10)))
    """)
    )
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, cwd=tmp_path, timeout=100)
    assert done.returncode != 0 and "read" not in done.stdout
