"""What every test relies on: graph mode on the CPU, a working directory and caches of their own."""

from __future__ import annotations

import os
import sys
from collections import Counter

# pytest-xdist starts its processes without a script, and MindSpore's compile cache records the script when imported.
if not os.path.isfile(sys.argv[0]):
    sys.argv[0] = __file__

import mindspore
import numpy as np
import pytest
from hypothesis import settings

# Compilation dominates and machines are shared: an example's time says nothing. No database: tests leave no files.
settings.register_profile("ascend_fixes", deadline=None, database=None)
settings.load_profile("ascend_fixes")


def pytest_addoption(parser):
    parser.addoption("--fuzz", type=int, default=1, metavar="N", help="run N times as many random cases of tests/fuzz")


def pytest_configure():
    """MindSpore draws initial weights from NumPy's generator: cells made while files are imported have the same each time."""
    np.random.seed(0)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup():
    """So do those of fixtures and tests, whatever ran before: no test passes or fails by the luck of its weights."""
    np.random.seed(0)


def pytest_collection_modifyitems(items):
    """Files with the most slow tests come first, so that processes that share out files end together."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


@pytest.fixture(autouse=True, scope="session")
def working_directory(tmp_path_factory):
    """MindSpore writes folders into the working directory, so the session works in one of its own."""
    before = os.getcwd()
    os.chdir(tmp_path_factory.mktemp("working-directory"))
    with pytest.MonkeyPatch.context() as patch:
        for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
            patch.setenv(name, str(tmp_path_factory.mktemp(name.lower())))
        yield
    os.chdir(before)


@pytest.fixture(autouse=True, scope="session")
def graph_mode_on_cpu():
    mindspore.set_device("CPU")
    mindspore.set_context(mode=mindspore.GRAPH_MODE)
