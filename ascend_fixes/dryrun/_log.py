"""Reading what the child printed: its announcements, and MindSpore's log lines between them.

Of MindSpore's log two kinds of lines are read. The compiler names every kernel it has built, after fusion, in the order
of execution; and every node that no kernel of the device can do and that goes to the host. Both are per node and per
graph. A kernel type that is not known here is kept by its name, and the report says so.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

__all__ = ["KERNEL_TYPES", "Compilation", "Transcript", "read_log"]

# MindSpore's name of a kernel's type, and the report's. "" is a kernel that computes nothing: views, streams, branches.
KERNEL_TYPES = {
    "opapi_kernel": "aclnn",
    "acl_kernel": "aclop",
    "internal_kernel": "internal",
    "atb_kernel": "internal",
    "host_kernel": "host",
    "hccl_kernel": "hccl",
    "akg_kernel": "fused",
    "rt_kernel": "",
}
_BUILT = re.compile(r"\] kernel opname:(?P<name>\S+), kernel type:(?P<type>\w*)")
_BACK_OFF = re.compile(r"node is (?P<name>\S+) should backoff")
_LOG_LINE = re.compile(r"^\[(INFO|DEBUG|VLOG_?\d*|WARNING|ERROR|CRITICAL|TRACE)[^\]]*\] ")


@dataclass
class Compilation:
    """What was seen of one compilation.

    Attributes:
        name: of what was compiled.
        because: why there is one graph more.
        kernels: operator and MindSpore's type of every kernel built, in order.
        host: names of the nodes that went to the host.
        seconds: what it took; None where it did not end.
        error: why it was refused.
        files: the graphs that MindSpore saved of it.
    """

    name: str
    because: str = ""
    kernels: list[tuple[str, str]] = field(default_factory=list)
    host: list[str] = field(default_factory=list)
    seconds: float | None = None
    error: str = ""
    files: list[str] = field(default_factory=list)


@dataclass
class Transcript:
    """What a child said.

    Attributes:
        compilations: in their order.
        events: the other announcements, in their order.
        printed: the lines that are neither announcements nor MindSpore's log: the program's own output.
    """

    compilations: list[Compilation] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    printed: list[str] = field(default_factory=list)

    def last(self, event: str) -> dict[str, Any] | None:
        """The latest announcement of this kind."""
        return next((facts for facts in reversed(self.events) if facts["event"] == event), None)


def read_log(output: str, word: str) -> Transcript:
    """Read a child's output; ``word`` begins its announcements."""
    transcript = Transcript()
    open_: list[Compilation] = []  # a graph may compile another inside
    for line in output.splitlines():
        if line.startswith(word + " "):
            facts = json.loads(line[len(word) + 1 :])
            _follow(facts, transcript, open_)
        elif open_ and _read_line(line, open_[-1]):
            continue
        elif line.strip() and not _LOG_LINE.match(line):
            transcript.printed.append(line)
    return transcript


def _follow(facts: dict[str, Any], transcript: Transcript, open_: list[Compilation]) -> None:
    if facts["event"] == "compile":
        compilation = Compilation(facts["name"], facts.get("because", ""))
        transcript.compilations.append(compilation)
        open_.append(compilation)
    elif facts["event"] in ("compiled", "refused"):
        done = open_.pop()
        done.seconds, done.error, done.files = facts.get("seconds"), facts.get("error", ""), facts["files"]
    else:
        transcript.events.append(facts)


def _read_line(line: str, compilation: Compilation) -> bool:
    built = _BUILT.search(line)
    if built:
        compilation.kernels.append((built["name"], built["type"]))
        return True
    back_off = _BACK_OFF.search(line)
    if back_off and back_off["name"] not in compilation.host:
        compilation.host.append(back_off["name"])
    return back_off is not None
