"""Cases of the seam's other names, file by file. Run by `test_seam.py`."""

from __future__ import annotations

import os
from pathlib import Path

import mindspore
import numpy as np
import pytest
from mindspore import Tensor, nn, ops
from seam_support import Tiny, X, resolved

from ascend_fixes import _mindspore as seam
from ascend_fixes.processes import Children

# --- versions -------------------------------------------------------------------------------------


def version():
    assert len(seam.version()) == 3 and seam.version() >= (2, 7)


def version_text():
    assert seam.version_text().startswith(".".join(map(str, seam.version())))


def backend():
    assert seam.backend() == "CPU"


def build():
    commit, branch = seam.build().split()
    assert int(commit, 16) and branch[0] == "r" and seam.version_text().startswith(branch[1:])  # r2.10, r2.7.1


def device_name():
    assert seam.device_name() == "CPU"


def toolkit_version(tmp_path, monkeypatch):
    monkeypatch.delenv("ASCEND_HOME_PATH", raising=False)
    assert seam.toolkit_version() == ""
    (tmp_path / "compiler").mkdir()
    (tmp_path / "compiler" / "version.info").write_text("Package=x\nVersion=8.5.0\ninner=1\n")
    monkeypatch.setenv("ASCEND_HOME_PATH", str(tmp_path))
    assert seam.toolkit_version() == "8.5.0"


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


class Quick(seam.SwiftCall):
    def __init__(self):
        super().__init__()
        self.dense = nn.Dense(4, 4)

    def construct(self, *inputs):
        return self.dense(inputs[0])


def SwiftCall():
    if not hasattr(nn.Cell, "compile_phase"):
        pytest.skip("this MindSpore (2.7.0) does not tell cells the name of the graph")
    cell = Quick()
    cell(X)
    first = cell.compile_phase
    assert first in cell.compile_cache and cell.dense.compile_phase == first, "the compiler reads it from every cell"
    cell.dense._compile_phase = "of another graph"
    cell(X)
    assert cell.compile_phase == first and cell.dense.compile_phase == "of another graph", (
        "no walk where the graph exists"
    )
    cell(Tensor(np.ones((3, 4), np.float32)))
    assert cell.dense.compile_phase == cell.compile_phase != first


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

    def hear(gradient):  # a function: a bound method of a list is refused by 2.7.0
        got.append(gradient.asnumpy().tolist())

    with seam.mode_set(mindspore.PYNATIVE_MODE):

        def loss(x):
            y = x * 3
            seam.on_gradient(y, hear)
            return (y * y).sum()

        mindspore.grad(loss)(Tensor([2.0]))
        seam.on_gradient(Tensor([1.0]), hear)()  # takes none: nothing to hear, no error
        weight = mindspore.Parameter(Tensor([1.0]), name="weight")
        remove = seam.on_gradient(weight, hear)
        assert weight.hooks()
        remove()
    assert got == [[12.0]] and not weight.hooks()


# --- operators ------------------------------------------------------------------------------------


def operator_names():
    assert {"Exp", "MatMul", "SoftmaxGrad"} & seam.operator_names() >= {"Exp", "MatMul"}


def aicpu_operators():
    assert len(seam.aicpu_operators()) > 100


def documented_platforms():
    assert seam.documented_platforms()["Conv2D"] == {"Ascend", "GPU", "CPU"}


def as_in_graphs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before, x = Tensor.max, Tensor([[1.0, 3.0]])
    with seam.as_in_graphs(), seam.mode_set(mindspore.PYNATIVE_MODE):
        assert x.max(1).asnumpy().tolist() == [3.0] and x.min(-1).asnumpy().tolist() == [1.0]
        assert float(x.max()) == 3.0 and len(x.max(1, return_indices=True)) == 2
        rows = mindspore.ops.operations.GatherV2()(Tensor([[1.0], [2.0]]), Tensor([1]), 0)
        assert rows.asnumpy().tolist() == [[2.0]]
        with pytest.raises(Exception, match="Add"), seam.synchronous():
            mindspore.ops.operations.Add()(Tensor([1.0, 2.0]), Tensor([1.0, 2.0, 3.0]))
    assert Tensor.max is before and not (tmp_path / "rank_0").exists()

    class Largest(mindspore.nn.Cell):
        def construct(self, x):
            return x.max(1)

    assert Largest()(x).asnumpy().tolist() == [3.0]


def repeatable():
    class Drawing(nn.Cell):
        def construct(self, x):
            return ops.operations.Dropout(keep_prob=0.5)(x)[0] + ops.standard_normal(x.shape)

    drawing, x = Drawing(), Tensor(np.ones((8, 8), np.float32))
    with seam.mode_set(mindspore.PYNATIVE_MODE):
        with seam.repeatable(drawing):
            assert np.array_equal(drawing(x).asnumpy(), drawing(x).asnumpy())
        assert not np.array_equal(drawing(x).asnumpy(), drawing(x).asnumpy())


def reports_in(tmp_path, monkeypatch):
    monkeypatch.delenv("MS_OM_PATH", raising=False)

    class Sum(nn.Cell):
        def construct(self, x, y):
            return x + y

    with pytest.raises(ValueError), seam.reports_in(lambda: tmp_path):
        Sum()(Tensor([1.0, 2.0]), Tensor([1.0, 2.0, 3.0]))
    assert list(tmp_path.glob("rank_*")) and "MS_OM_PATH" not in os.environ
    monkeypatch.setenv("MS_OM_PATH", "theirs")
    with seam.reports_in(lambda: pytest.fail("the user has named a folder")):
        assert os.environ["MS_OM_PATH"] == "theirs"


def run_eagerly():
    with seam.mode_set(mindspore.PYNATIVE_MODE):
        x = Tensor([[1.0, 3.0]])
        assert float(seam.run_eagerly(lambda: (x.max(1) + x.sum(1)).sum())) == 7.0
        with pytest.raises(KeyError, match="first"):
            seam.run_eagerly(lambda: {}["first"])


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


def fusion_compiler_folder():
    folder = seam.fusion_compiler_folder()
    assert folder is None or folder.is_absolute()


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
