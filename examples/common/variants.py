"""Every variant runs in a process of its own: MindSpore's state is fresh, and the peak memory is that variant's.

The parent writes ``request.json`` into the variant's folder and starts
``python -m MODULE FOLDER``; the child, which runs in that folder because MindSpore leaves files
in its working directory, answers with ``result.json``.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Callable

from ascend_fixes import files
from ascend_fixes.processes import Children
from examples.common import ranks
from examples.common.files import ExampleError, UsageError, write_json, write_text

__all__ = ["SETTINGS", "answer", "run"]

# Of every request: what a checkpoint has to fit.
SETTINGS = ("fixes", "precision", "fused", "seed", "distributed", "unbucketed", "limit")

_ROOT = Path(__file__).resolve().parents[2]
_REQUEST, _RESULT, _LOG, _OUTPUT = "request.json", "result.json", "traceback.log", "output.log"
_WRONG_USE = 2


def run(
    module: str, request: Mapping[str, Any], folder: Path, resume: bool, children: Children | None = None
) -> dict[str, Any]:
    """Run one variant and return its result; a resumed variant that had finished the same request is not run again.

    A child that fails gives ``{"status": "crashed: ..."}``, a child that is killed ``{"status": "killed by SIGKILL"}``.

    Args:
        module: the example's training.
        request: what to train.
        folder: of the variant.
        resume: go on from its checkpoint.
        children: for a run from a thread, beside others: it ends with them, computes in one thread, and what it prints goes
            to ``output.log`` in its folder.

    Raises:
        UsageError: the child refused its input; it has printed why, or what it printed is the message.
        KeyboardInterrupt: passed on to the child, which is waited for.
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
        environment["PATH"] = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")])
    command += [str(folder.resolve()), *(["--resume"] if resume else [])]
    said = ""
    if children is None:
        status = _in_front(command, folder, environment)
    else:
        outcome = children.run(command, folder=folder, environment={**environment, "OMP_NUM_THREADS": "1"})
        write_text(folder / _OUTPUT, outcome.output)
        status, said = outcome.status or 0, outcome.failure.partition(": ")[2]  # None: there is no time limit
    if status == _WRONG_USE:
        raise UsageError(said)
    result = _read(folder / _RESULT)
    if status < 0:
        result = {"status": f"killed by {signal.Signals(-status).name}"}
    return result or {"status": f"ended with exit status {status}"}


def _in_front(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> int:
    """Run a program that prints to this terminal; on Ctrl-C it ends by itself, and loses at most the epoch it is in."""
    child = subprocess.Popen(command, cwd=folder, env=environment)
    try:
        return child.wait()
    except BaseException:
        child.send_signal(signal.SIGINT)
        try:
            child.wait(timeout=10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        raise


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
        write_text(folder / _LOG, traceback.format_exc())
        lines = [line for line in str(error).splitlines() if line.strip()] or [""]
        result = {"status": f"crashed: {type(error).__name__}: {lines[0].strip()[:120]}"}
    write_json(folder / _RESULT, result)
