"""What the tests of the examples share: running the command line, and small corpora."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
CORPORA = ROOT.parent / "shared" / "data" / "textclass"


def start(folder: Path, module: str, *arguments: Any) -> subprocess.Popen:
    """Start ``python -m MODULE ARGUMENTS`` in ``folder``."""
    return subprocess.Popen(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(folder: Path, module: str, *arguments: Any, timeout: float = 300) -> subprocess.CompletedProcess:
    """Run it to its end."""
    process = start(folder, module, *arguments)
    try:
        output, errors = process.communicate(timeout=timeout)
    finally:
        process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def write_corpus(folder: Path, train: int, test: int) -> Path:
    """Write a separable corpus in the published format: documents of 1 to 9 words, with ``good`` or with ``bad``."""
    folder.mkdir(parents=True)
    texts, index = [], []
    for i in range(train + test):
        texts.append(" ".join([("good", "bad")[i % 2], *(f"w{(i * k) % 17}" for k in range(1, i % 9 + 1))]))
        index.append(f"{i}\t{'train' if i < train else 'test'}\t{('yes', 'no')[i % 2]}")
    (folder / "toy.clean.txt").write_text("\n".join(texts), encoding="utf-8")
    (folder / "toy.txt").write_text("\n".join(index), encoding="utf-8")
    return folder
