"""Runs scripts one after the other, each in a fork of one process that has imported MindSpore: ``FOLDER SCRIPT...``.

Prints a line of JSON for each: its name, its exit status and what it printed.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import sys
from pathlib import Path

from ascend_fixes import _mindspore

_SECONDS = 600  # for one script


def run(script: Path, folder: Path) -> dict[str, object]:
    """Run one script in a folder of its own."""
    work = folder / script.stem
    work.mkdir()
    sys.stdout.flush()
    pid = _mindspore.fork()
    if pid == 0:
        status = 1
        try:
            signal.alarm(_SECONDS)
            os.chdir(work)
            output = os.open("output", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
            os.dup2(output, 1)
            os.dup2(output, 2)
            sys.argv = [str(script)]
            runpy.run_path(str(script), run_name="__main__")
            status = 0
        except SystemExit as end:
            print(end.code, flush=True)
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", flush=True)
        finally:
            os._exit(status)
    _, ended = os.waitpid(pid, 0)
    said = (work / "output").read_text(encoding="utf-8", errors="replace")
    return {"script": script.stem, "status": os.waitstatus_to_exitcode(ended), "said": said}


if __name__ == "__main__":
    for name in sys.argv[2:]:
        print(json.dumps(run(Path(name).resolve(), Path(sys.argv[1]))), flush=True)
