"""Where each defect was seen, as generated from the project's evidence."""

from __future__ import annotations

import functools
from pathlib import Path

from ascend_fixes.files import read_json

__all__ = ["seen"]


@functools.cache
def _generated() -> dict[str, str]:
    sentences: dict[str, str] = read_json(Path(__file__).with_name("seen.json"))
    return sentences


def seen(defect: str) -> str:
    """On which versions the doctor found a defect, and was it cured: a sentence; "" where there is no evidence.

    Args:
        defect: its id, ``"A1"``.
    """
    return _generated().get(defect, "")
