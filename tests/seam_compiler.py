"""Cases of the seam's names around compiling: executors, graph_ir, compile_cache. Run by `test_seam.py`."""

from __future__ import annotations

import inspect
from pathlib import Path

import mindspore
import numpy as np
import pytest
from mindspore import Parameter, Tensor, _c_expression, nn
from seam_support import Tiny, X, resolved

from ascend_fixes import _mindspore as seam
from ascend_fixes.processes import Children

# --- executors ------------------------------------------------------------------------------------


def cell_compile_target():
    assert callable(resolved(seam.cell_compile_target()))


def jit_compile_target():
    assert callable(resolved(seam.jit_compile_target()))


def jit_call_target():
    assert callable(resolved(seam.jit_call_target()))


def eager_gradient_target():
    assert callable(resolved(seam.eager_gradient_target()))


def compilation_targets():
    assert all(callable(resolved(target)) for target in seam.compilation_targets())


def compiled_phases(cell):
    assert len(seam.compiled_phases(cell)) == 1


def latest_phase(cell):
    assert seam.latest_phase(cell) == seam.compiled_phases(cell)[-1]


def phase_name(cell):
    assert seam.phase_name(cell, seam.latest_phase(cell)) == cell.phase


def abandon_compilation(cell):
    executor = _c_expression.GraphExecutor_.get_instance()
    executor.generate_arguments_key(cell, (X,), {}, False)
    seam.abandon_compilation(executor, cell)
    assert cell(X).shape == (2, 4)


@mindspore.jit
def doubled(x):
    return x * 2


class Halving:
    @mindspore.jit
    def half(self, x):
        return x / 2


def under_jit():
    assert seam.under_jit(doubled).__name__ == "doubled" and seam.under_jit(Halving().half).__name__ == "half"
    assert seam.under_jit(seam.under_jit(doubled)) is None and seam.under_jit(len) is None


def compiled_part(cell):
    halving = Halving()
    assert seam.compiled_part(cell) == (cell, "construct")
    assert seam.compiled_part(doubled) == (seam.under_jit(doubled), "")
    assert seam.compiled_part(halving.half) == (halving, "half")
    with pytest.raises(TypeError, match="neither a cell nor a function"):
        seam.compiled_part(len)


def compiles_cells(cell):
    executors = _c_expression.GraphExecutor_.get_instance(), _c_expression.JitExecutor_.get_instance()
    assert [seam.compiles_cells(executor, cell) for executor in executors] == [True, False]
    assert not seam.compiles_cells(executors[0], seam.under_jit(doubled))


def parsed_method(cell):
    halving = Halving()
    halving.half(X)
    found = [seam.parsed_method(subject) for subject in (cell, halving, seam.under_jit(doubled))]
    assert found == ["construct", "half", ""]


def jit_phases():
    one, other = Halving(), Halving()
    doubled(X), one.half(X), one.half(X[0]), other.half(X)
    assert [len(seam.jit_phases(callee)) for callee in (doubled, one.half, other.half, len)] == [1, 2, 1, 0]


def is_mutable():
    assert seam.is_mutable(mindspore.mutable((X, X))) and not seam.is_mutable((X, X))


def has_jit_graph():
    doubled(X)
    assert seam.has_jit_graph(seam.jit_phases(doubled)[0]) and not seam.has_jit_graph("none")


def jit_executor(function):
    """An executor of MindSpore's, as it makes one for every call."""
    return resolved(seam.jit_compile_target().rpartition(".")[0])(function, 0)


def jit_subject():
    function = seam.under_jit(doubled)
    assert seam.jit_subject(jit_executor(function)) is function


def jit_options():
    assert seam.jit_options(jit_executor(seam.under_jit(doubled))) == {}


def CELL_COMPILE_OPTIONS():
    parameters = inspect.signature(resolved(seam.cell_compile_target())).parameters
    kinds = (inspect.Parameter.KEYWORD_ONLY,)
    assert tuple(name for name, one in parameters.items() if one.kind in kinds) == seam.CELL_COMPILE_OPTIONS


def has_compiled_anything(cell):
    assert seam.has_compiled_anything() is True


def synchronous():
    def late():
        Tensor(np.ones((3, 5), np.float32)) + Tensor(np.ones((7, 6), np.float32))  # wrong, and nobody reads it

    def refused():
        mindspore.set_context(mode=mindspore.PYNATIVE_MODE)
        with pytest.raises(ValueError, match="broadcast"), seam.synchronous():
            late()
        with (
            pytest.raises((KeyError, ValueError)),
            seam.synchronous(),
        ):  # its own error, where nobody was told of the other
            late()
            raise KeyError("ours")
        with seam.synchronous():  # nothing is left to be told
            pass
        assert (Tensor(1.0) + 1).asnumpy() == 2

    with Children() as children:
        assert children.fork(refused).wait(60) == 0


def taking_gradients():
    assert seam.taking_gradients() is False


def dynamic_inputs():
    net = Tiny()
    with seam.dynamic_inputs(net, (Tensor(shape=[None, 4], dtype=mindspore.float32),)):
        assert net(X).shape == (2, 4)
        assert net(Tensor(np.ones((3, 4), np.float32))).shape == (3, 4)
    assert len(net.compile_cache) == 1


# --- graph_ir -------------------------------------------------------------------------------------


def graph_inputs(cell):
    assert seam.graph_inputs(cell, seam.latest_phase(cell)) == {"x": "Float32[2, 4]"}


def graph_nodes(cell):
    assert ("Exp", (2, 4)) in seam.graph_nodes(cell)


def graph_operators(cell):
    assert ("Exp", [(2, 4)]) in [(name, shapes) for name, shapes, _ in seam.graph_operators(cell)]


def graph_scopes(cell):
    assert any(name == "Exp" for name, _ in seam.graph_scopes(cell))
    assert any(path.endswith("Dense") for _, path in seam.graph_scopes(cell))


def graph_transfers(cell):
    assert seam.graph_transfers(cell) == []


def graph_writes(cell):
    assert seam.graph_writes(cell) == (set(), set())

    class Counting(nn.Cell):
        def __init__(self):
            super().__init__()
            self.calls = Parameter(Tensor(0, mindspore.int32), name="calls", requires_grad=False)
            self.large = Parameter(Tensor(0, mindspore.int32), name="large", requires_grad=False)

        def construct(self, x):
            mindspore.ops.assign(self.calls, self.calls + 1)
            if x.sum() > 0:
                mindspore.ops.assign(self.large, self.large + 1)
            return x * self.large

    counting = Counting()
    counting.compile(X)
    assert seam.graph_writes(counting) == ({"calls"}, {"large"})


def whole_graph_operators(cell):
    assert {"MatMul", "Exp"} <= set(seam.whole_graph_operators(cell))


# --- compile_cache --------------------------------------------------------------------------------


def COMPILE_CACHE_FILES():
    assert Path(seam.compile_cache_file(0)).match(seam.COMPILE_CACHE_FILES)


def compile_cache_file():
    assert seam.compile_cache_file(3) == "rank_0/graph_cache/compile_cache_3.mindir"


def is_whole_graph(cell):
    from mindspore.train import mind_ir_pb2

    whole = mind_ir_pb2.ModelProto(mind_ir_version=0, graph=mind_ir_pb2.GraphProto(name="g")).SerializeToString()
    assert seam.is_whole_graph(whole) and not seam.is_whole_graph(whole[:-2]) and not seam.is_whole_graph(b"nothing")


def wanted_compile_cache():
    assert seam.wanted_compile_cache() == (False, ".")


def set_compile_cache():
    seam.set_compile_cache(True)
    try:
        assert seam.wanted_compile_cache()[0] is True
    finally:
        seam.set_compile_cache(False)
    assert seam.wanted_compile_cache()[0] is False


def set_compile_cache_directory(monkeypatch):
    monkeypatch.setenv("MS_COMPILER_CACHE_PATH", "")
    seam.set_compile_cache_directory("/somewhere")
    assert seam.wanted_compile_cache()[1] == "/somewhere"


def cell_state(cell):
    state = seam.cell_state(cell)
    assert "_cells" in state and not {"_compile_cache", "_phase_cache", "_id", "phase_cache"} & set(state)
    assert seam.cell_state(Tiny()).keys() == seam.cell_state(Tiny()).keys()


def is_platform_type():
    assert seam.is_platform_type(mindspore.float32) and not seam.is_platform_type(1.0)


def compile_settings(monkeypatch):
    monkeypatch.setenv("MS_SOMETHING", "1")
    settings = seam.compile_settings()
    assert settings["device_target"] == "CPU" and settings["MS_SOMETHING"] == "1" and "parallel_mode" in settings
