"""The seam, name by name, on one tiny cell: after a new release of MindSpore, open the file of every name that is red here.

Each case is a function named after what it tries; `test_every_name_has_a_case` holds the list to `__all__`.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from pathlib import Path

import mindspore
import numpy as np
import pytest
from mindspore import Model, Tensor, _c_expression, nn, ops

from ascend_fixes import _mindspore as seam
from ascend_fixes.processes import Children


class Tiny(nn.Cell):
    """``exp(x W)``: float32 (2, n) to (2, n); ``ids`` and ``names`` are there to be found again."""

    def __init__(self, n=4):
        super().__init__()
        self.dense = nn.Dense(n, n)

    def construct(self, x):
        return ops.exp(self.dense(x))


X = Tensor(np.full((2, 4), 0.25, np.float32))


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


def resolved(target):
    """What stands at ``"module:Class.attribute"``."""
    module, _, path = target.partition(":")
    value = importlib.import_module(module)
    for name in path.split("."):
        value = getattr(value, name)
    return value


# --- versions -------------------------------------------------------------------------------------


def version():
    assert len(seam.version()) == 3 and seam.version() >= (2, 7)


def version_text():
    assert seam.version_text().startswith(".".join(map(str, seam.version())))


def backend():
    assert seam.backend() == "CPU"


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


# --- context --------------------------------------------------------------------------------------


def in_graph_mode():
    assert seam.in_graph_mode() == (mindspore.get_context("mode") == mindspore.GRAPH_MODE)


def mode_set():
    with seam.mode_set(mindspore.PYNATIVE_MODE):
        assert not seam.in_graph_mode()
    assert seam.in_graph_mode()


def graph_kernel_flags():
    assert isinstance(seam.graph_kernel_flags(), str)


def set_graph_kernel_flags():
    seam.set_graph_kernel_flags("--disable_cluster_ops=Exp")
    assert mindspore.get_context("graph_kernel_flags") == "--disable_cluster_ops=Exp"


def set_kernel_directory():
    seam.set_kernel_directory("/somewhere")
    assert mindspore.get_context("compile_cache_path") == "/somewhere"
    seam.set_kernel_directory("")
    assert not mindspore.get_context("compile_cache_path")


def has_fusion_compiler():
    assert isinstance(seam.has_fusion_compiler(), bool)


def saturates():
    assert seam.saturates() is False


def has_bfloat16():
    assert seam.has_bfloat16() is False


# --- cells ----------------------------------------------------------------------------------------


def child_cells(cell):
    assert seam.child_cells(cell) == {"dense": cell.dense}


def copy_with_children(cell):
    twin = seam.copy_with_children(cell, {"dense": nn.Dense(4, 4)})
    assert twin.dense is not cell.dense and type(twin) is Tiny and not twin.compile_cache
    assert cell.dense is seam.child_cells(cell)["dense"] and len(cell.compile_cache) == 1


def free_gru_size():
    size = seam.free_gru_size(20)
    assert size == 20 and size % 16 == 0 and size % 3 == 2 and seam.free_gru_size("20") == "20"


def on_gradient():
    got = []
    with seam.mode_set(mindspore.PYNATIVE_MODE):

        def loss(x):
            y = x * 3
            seam.on_gradient(y, lambda gradient: got.append(gradient.asnumpy().tolist()))
            return (y * y).sum()

        mindspore.grad(loss)(Tensor([2.0]))
        seam.on_gradient(Tensor([1.0]), got.append)  # takes none: nothing to hear, no error
    assert got == [[12.0]]


# --- operators ------------------------------------------------------------------------------------


def operator_names():
    assert {"Exp", "MatMul", "SoftmaxGrad"} & seam.operator_names() >= {"Exp", "MatMul"}


def aicpu_operators():
    assert len(seam.aicpu_operators()) > 100


def documented_platforms():
    assert seam.documented_platforms()["Conv2D"] == {"Ascend", "GPU", "CPU"}


def tagged_for_host():
    net = Tiny()
    with seam.tagged_for_host(["Exp"]):
        net(X)
    placed = {name: attributes.get("primitive_target") for name, _, attributes in seam.graph_operators(net)}
    assert placed["Exp"] == "CPU"


# --- precision ------------------------------------------------------------------------------------


def cast_strategy():
    strategy = seam.cast_strategy(mindspore.float16, ["MatMul"], ["Exp"])
    assert "MatMul" in [name for name, _ in strategy.get_white_list()]


def blanket_strategy():
    assert seam.blanket_strategy(mindspore.float16).get_amp_dtype() == mindspore.float16


def pushed_strategy():
    with seam.mode_set(mindspore.PYNATIVE_MODE), seam.pushed_strategy(seam.blanket_strategy(mindspore.float16)):
        assert ops.exp(X).dtype == mindspore.float16
    assert ops.exp(X).dtype == mindspore.float32


def auto_cast_lists():
    low, full = seam.auto_cast_lists()
    assert low and full and not low & full


def mark_amp_level():
    net = Tiny()
    seam.mark_amp_level(net, "O2")
    assert net._amp_level == "O2"


def loss_scale_manager():
    assert seam.loss_scale_manager("O0", {}) is None
    assert seam.loss_scale_manager("O2", {}) is not None
    assert seam.loss_scale_manager("O2", {"loss_scale_manager": None}) is None


def precision_process_target():
    assert callable(resolved(seam.precision_process_target()))


def rewrite_os_target():
    assert resolved(seam.rewrite_os_target()).__name__ == "os"


# --- processes ------------------------------------------------------------------------------------


def fork(cell, tmp_path):
    import os

    child = seam.fork()
    if child == 0:  # the child compiles a graph of its own
        try:
            answer = cell(Tensor(np.ones((5, 4), np.float32))).shape
            (tmp_path / "answer").write_text(str(answer))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert (tmp_path / "answer").read_text() == "(5, 4)"


def fusion_compiler_runs():
    assert seam.fusion_compiler_runs() in (True, False)


# --- plugin ---------------------------------------------------------------------------------------


def in_fork(work):
    """Whether ``work`` ends well in a fork of this process, which it may leave in any state."""
    with Children() as children:
        return children.fork(work).wait(60) == 0


def SOCS():
    assert "Ascend910B" in seam.SOCS and all(len(names) == 2 for names in seam.SOCS.values())


def wheel_libraries():
    assert (seam.wheel_libraries() / "libmindspore_core.so").is_file()


def ascend_libraries():
    assert any("ascend" in path.name for path in seam.ascend_libraries(seam.wheel_libraries()))


def set_soc():
    def tell():
        from mindspore._c_expression import MSContext

        seam.set_soc("Ascend910B")
        assert MSContext.get_instance().get_ascend_soc_version() == "ascend910b"

    assert in_fork(tell)


def hold_ascend():
    def refused():
        with pytest.raises((RuntimeError, ValueError), match="Ascend"):  # not among this process's devices
            seam.hold_ascend("O1")

    assert in_fork(refused)


def around_compilations():
    def compile_hooked():
        seen = []

        def hook(obj, arguments, phase, compile):
            seen.append((obj, arguments, phase))
            return compile()

        for target, make in seam.around_compilations("O0", hook).items():
            owner = resolved(target.rpartition(".")[0])
            owner.compile = make(owner.compile)
        net = Tiny()
        assert net(X).shape == (2, 4)
        assert seen[0][0] is net and seen[0][1][0].shape == (2, 4) and seen[0][2]

    assert in_fork(compile_hooked)


def around_runs():
    def run_hooked():
        seen = []

        def hook(phase, run):
            seen.append(phase)
            return run() * 0

        net = Tiny()
        seam.around_runs(hook)
        assert net(X).asnumpy().max() == 0 and seen == [seam.latest_phase(net)]

    assert in_fork(run_hooked)


def placeholders(cell):
    zeros = seam.placeholders(seam.latest_phase(cell))
    assert zeros.shape == (2, 4) and zeros.dtype == mindspore.float32 and not zeros.asnumpy().any()


def plugin_environment():
    assert set(seam.plugin_environment(Path("cann"))) <= {"ASCEND_OPP_PATH"}


def save_only_below(cell, tmp_path):
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()

    def save():
        seam.save_only_below(inside)
        mindspore.save_checkpoint(cell, str(inside / "a.ckpt"))
        mindspore.save_checkpoint(cell, str(outside) + ".ckpt")

    assert in_fork(save)
    assert [path.name for path in tmp_path.rglob("*.ckpt")] == ["a.ckpt"]


def planned_memory():
    assert seam.planned_memory() >= 0


# --- training -------------------------------------------------------------------------------------


def data_parallel():
    assert seam.data_parallel() == (1, False)


def pipeline_iterators():
    data = mindspore.dataset.NumpySlicesDataset([1, 2])
    iterators = (data.create_dict_iterator(), data.create_tuple_iterator())
    assert all(isinstance(iterator, seam.pipeline_iterators()) for iterator in iterators)


def model_targets():
    assert all(callable(resolved(target)) for target in seam.model_targets())


def model_network(model):
    assert isinstance(seam.model_network(model), Tiny)


def model_loss(model):
    assert isinstance(seam.model_loss(model), nn.MSELoss)


def model_eval_network(model):
    assert isinstance(seam.model_eval_network(model), nn.Cell)


def set_model_eval_network(model):
    before, other = seam.model_eval_network(model), Tiny()
    seam.set_model_eval_network(model, other)
    assert seam.model_eval_network(model) is other
    seam.set_model_eval_network(model, before)


# --- all of them ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", seam.__all__)
def test_a_name_of_the_seam_answers(name, request):
    case = globals()[name]
    arguments = case.__code__.co_varnames[: case.__code__.co_argcount]
    case(**{argument: request.getfixturevalue(argument) for argument in arguments})


def test_every_name_has_a_case_and_stands_in_the_list():
    """`__all__` is complete: it holds whatever a file of the seam offers, and nothing else."""
    offered = set()
    for module in pkgutil.iter_modules(seam.__path__):
        offered |= set(importlib.import_module(f"{seam.__name__}.{module.name}").__all__)
    assert set(seam.__all__) == offered and list(seam.__all__) == sorted(seam.__all__)
    assert all(callable(globals().get(name)) for name in seam.__all__)
