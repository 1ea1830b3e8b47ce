"""Every variant runs in a process of its own: MindSpore's state is fresh, and the peak memory is that variant's.

The parent writes ``request.json`` into the variant's folder and starts
``python -m MODULE FOLDER``; the child, which runs in that folder because MindSpore leaves files
in its working directory, answers with ``result.json``.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Callable

from ascend_fixes import files
from examples.common import ranks
from examples.common.errors import ExampleError, UsageError
from examples.common.files import write_atomically

__all__ = ["SETTINGS", "answer", "run", "write_json"]

# Of every request: what a checkpoint has to fit.
SETTINGS = ("fixes", "precision", "fused", "seed", "distributed", "unbucketed")

_ROOT = Path(__file__).resolve().parents[2]
_REQUEST, _RESULT, _LOG, _OUTPUT = "request.json", "result.json", "traceback.log", "output.log"
_WRONG_USE = 2
_PATIENCE = 0.1  # seconds between two looks at whether to stop


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as JSON, all or nothing."""
    write_atomically(path, lambda file: file.write((json.dumps(value, indent=1) + "\n").encode()))


def run(
    module: str,
    request: Mapping[str, Any],
    folder: Path,
    resume: bool,
    stop: threading.Event | None = None,
) -> dict[str, Any]:
    """Run one variant and return its result; a resumed variant that had finished the same request is not run again.

    A child that fails gives ``{"status": "crashed: ..."}``, a child that is killed ``{"status": "killed by SIGKILL"}``.

    Args:
        module: the example's training.
        request: what to train.
        folder: of the variant.
        resume: go on from its checkpoint.
        stop: for a run from a thread, beside others: what it prints goes to ``output.log`` in its folder, it computes in
            one thread, and it ends when this is set.

    Raises:
        UsageError: the child refused its input; it has printed why, or what it printed is the message.
        KeyboardInterrupt: passed on to the child, which is waited for; also when ``stop`` was set.
    """
    if resume and (folder / _RESULT).exists() and _read(folder / _REQUEST) == request:
        return _read(folder / _RESULT)
    folder.mkdir(parents=True, exist_ok=True)
    for stale in (_RESULT, _LOG, _OUTPUT):
        (folder / stale).unlink(missing_ok=True)
    write_json(folder / _REQUEST, request)
    paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {"GLOG_v": "3", **os.environ, "PYTHONPATH": os.pathsep.join(paths)}  # GLOG_v 3: errors only
    command = [sys.executable, "-m", module]
    if request["distributed"] > 1:
        command = ranks.command(module, request["distributed"], folder)
        environment.update(ranks.environment())
    command += [str(folder.resolve()), *(["--resume"] if resume else [])]
    if stop is None:
        status = _wait(subprocess.Popen(command, cwd=folder, env=environment), None)
    else:
        environment["OMP_NUM_THREADS"] = "1"
        with open(folder / _OUTPUT, "wb") as output:
            child = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT)
            status = _wait(child, stop)
    if status == _WRONG_USE:
        raise UsageError("" if stop is None else _last_line(folder / _OUTPUT))
    result = _read(folder / _RESULT)
    if status < 0:
        result = {"status": f"killed by {signal.Signals(-status).name}"}
    return result or {"status": f"ended with exit status {status}"}


def _wait(child: subprocess.Popen[bytes], stop: threading.Event | None) -> int:
    """The child's exit status; it ends with this process, and when ``stop`` is set."""
    try:
        while True:
            try:
                return child.wait(None if stop is None else _PATIENCE)
            except subprocess.TimeoutExpired:
                if stop is not None and stop.is_set():
                    raise KeyboardInterrupt from None
    except BaseException:
        _end(child)
        raise


def _last_line(path: Path) -> str:
    """The last line that a program printed."""
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line for line in reversed(lines) if line.strip()), "")


def _end(child: subprocess.Popen[bytes]) -> None:
    """Let the child end by itself, as after Ctrl-C; it loses at most the epoch it is in."""
    child.send_signal(signal.SIGINT)
    try:
        child.wait(timeout=10)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _read(path: Path) -> dict[str, Any]:
    try:
        value = files.read_json(path)
    except files.FileError:
        return {}
    return value if isinstance(value, dict) else {}


def answer(train: Callable[[dict[str, Any], Path, bool], dict[str, Any]]) -> None:
    """The child's side: read the request, train, write the result. Exits the process."""
    folder, resume = Path(sys.argv[1]), "--resume" in sys.argv[2:]
    request = _read(folder / _REQUEST)
    if request["distributed"] > 1:
        ranks.start(request["distributed"])
        folder = ranks.own_folder(folder, resume)
    try:
        result = {"status": "finished", **train(request, folder, resume)}
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except ExampleError as error:
        print(error, file=sys.stderr)
        sys.exit(_WRONG_USE)
    except Exception as error:  # whatever a platform defect throws becomes a row of the table
        text = traceback.format_exc()
        write_atomically(folder / _LOG, lambda file: file.write(text.encode("utf-8", "replace")))
        lines = [line for line in str(error).splitlines() if line.strip()] or [""]
        result = {"status": f"crashed: {type(error).__name__}: {lines[0].strip()[:120]}"}
    write_json(folder / _RESULT, result)
