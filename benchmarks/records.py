"""The files of `benchmarks/results`: where they are, read and written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["RESULTS", "ROOT", "read", "write"]

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"


def read(file: str | Path | None, otherwise: Any = None) -> Any:
    """What a file holds; ``otherwise``, by default an empty dictionary, where there is none: a first run adds to nothing."""
    if file is None or not Path(file).exists():
        return {} if otherwise is None else otherwise
    return json.loads(Path(file).read_text(encoding="utf-8"))


def write(file: str | Path | None, found: Any) -> None:
    """Put a result into a file, if one was asked for."""
    if file is not None:
        Path(file).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
