"""The examples are not installed; they are imported from the checkout."""

from __future__ import annotations

import sys

import pytest
from example_support import ROOT, write_corpus

sys.path.insert(0, str(ROOT))


@pytest.fixture
def corpus_folder(tmp_path):
    """60 training and 20 test documents."""
    return write_corpus(tmp_path / "corpus", 60, 20)
