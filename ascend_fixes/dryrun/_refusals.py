"""What MindSpore's errors mean for the verdict, and where in the program they point."""

from __future__ import annotations

import re

__all__ = ["explain"]

_VALUE_DEPENDENT = re.compile(r"value.?depend|dynamic rank|dry.?run.*not support|compute depend|ComputeDepend", re.I)
_NODE = re.compile(r"(?:node|op|operator)[\w ]*[:\[ ]+((?:Default|Gradients)/[\w\-./]+)", re.I)
_SOURCE = re.compile(r"In file (.+?:\d+)")


def explain(error: str) -> tuple[str, str]:
    """The verdict for an error at compilation, and its reason: the message, the node, the source line."""
    verdict = "value-dependent" if _VALUE_DEPENDENT.search(error) else "refused"
    lines = [line.strip() for line in error.splitlines()]
    message = next((line for line in lines if line), "")
    reason = [message]
    node, source = _NODE.search(error), _SOURCE.findall(error)
    if node and node.group(1) not in message:
        reason.append(f"node: {node.group(1)}")
    if source:
        own = [place for place in source if "/mindspore/" not in place]
        reason.append(f"source: {(own or source)[-1]}")
    return verdict, "\n".join(reason)
