"""One thread at a time in MindSpore's compiler and runner of graphs.

There is one graph executor per process and it is not re-entrant (defect S6), so there is one lock for it,
whichever cells are called. Bucketed cells take it, and so does the cure of S6.
"""

from __future__ import annotations

import functools
import threading
from typing import Any, Callable, TypeVar

__all__ = ["executor_lock", "one_at_a_time"]

Function = TypeVar("Function", bound=Callable[..., Any])

executor_lock = threading.RLock()


def one_at_a_time(function: Function) -> Function:
    """``function``, called by one thread at a time."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        with executor_lock:
            return function(*args, **kwargs)

    return wrapper  # type: ignore[return-value]
