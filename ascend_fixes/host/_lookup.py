"""``nn.EmbeddingLookup(target="DEVICE")`` on a backend that has no kernel for its sparse look-up.

The cell's two targets differ in where the rows are gathered, not in the result.
On CPU both mean the same memory, so the look-up of target "CPU" takes over; its
gradient is sparse, like that of target "DEVICE", so a lazy optimizer goes on
updating the rows of the batch alone.
"""

from __future__ import annotations

import functools
from typing import Any, Callable

from ascend_fixes import _mindspore
from ascend_fixes.patching import Replacement

__all__ = ["lookup_replacements"]

_WITHOUT_KERNEL = ("CPU",)  # backends without SparseGatherV2


def lookup_replacements() -> tuple[Replacement, ...]:
    """`EmbeddingLookup` cells that are built from now on run on this backend."""
    return (Replacement("mindspore.nn:EmbeddingLookup.__init__", _gathered_on_host),)


def _gathered_on_host(original: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(original)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        if self.sparse and self.target == "DEVICE" and _mindspore.backend() in _WITHOUT_KERNEL:
            self.target = "CPU"

    return __init__
