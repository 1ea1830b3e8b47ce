"""The seam, name by name, on one tiny cell: after a new release of MindSpore, open the file of every name that is red here.

Each case is a function named after what it tries, in `seam_compiler.py` or `seam_platform.py`, under the file of the
seam that it is in; `test_every_name_has_a_case` holds the list to `__all__`.
"""

from __future__ import annotations

import importlib
import pkgutil

import pytest
import seam_compiler
import seam_platform
from mindspore import Model, nn
from seam_support import Tiny, X

from ascend_fixes import _mindspore as seam

CASES = {**vars(seam_compiler), **vars(seam_platform)}


@pytest.fixture(scope="module")
def cell():
    """Compiled once for all cases."""
    net = Tiny()
    net(X)
    return net


@pytest.fixture(scope="module")
def model():
    net = Tiny()
    return Model(net, nn.MSELoss(), nn.SGD(net.trainable_params(), 0.1), metrics={"loss"})


@pytest.fixture(autouse=True)
def as_before(monkeypatch):
    """Settings of the process that a case changes."""
    monkeypatch.delenv("MS_COMPILER_CACHE_ENABLE", raising=False)
    monkeypatch.delenv("MS_COMPILER_CACHE_PATH", raising=False)
    flags = seam.graph_kernel_flags()
    yield
    seam.set_graph_kernel_flags(flags)
    seam.set_kernel_directory("")


@pytest.mark.parametrize("name", seam.__all__)
def test_a_name_of_the_seam_answers(name, request):
    case = CASES[name]
    arguments = case.__code__.co_varnames[: case.__code__.co_argcount]
    case(**{argument: request.getfixturevalue(argument) for argument in arguments})


def test_every_name_has_a_case_and_stands_in_the_list():
    """`__all__` is complete: it holds whatever a file of the seam offers, and nothing else."""
    offered = set()
    for module in pkgutil.iter_modules(seam.__path__):
        offered |= set(importlib.import_module(f"{seam.__name__}.{module.name}").__all__)
    assert set(seam.__all__) == offered and list(seam.__all__) == sorted(seam.__all__)
    assert all(callable(CASES.get(name)) for name in seam.__all__)
