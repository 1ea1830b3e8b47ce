"""Rows on the host against a dense embedding with MindSpore's own optimizer, and what crashes leave behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time

import mindspore
import mindspore.dataset as ds
import numpy as np
import pytest
from embedding_cells import FIRST, WEIGHTS, WithWeight, stepped
from hypothesis import given, settings
from hypothesis import strategies as st
from mindspore import Parameter, Tensor, nn, ops

import ascend_fixes
from ascend_fixes.host import Embedding


class Net(WithWeight):
    """A loss over looked-up rows, with a weight of its own."""

    def construct(self, ids, factor):
        return ((self.embedding(ids) * self.weight) ** 2 * factor).sum()


class Dense(nn.Cell):
    def __init__(self):
        super().__init__()
        self.table = Parameter(Tensor(FIRST), name="table")

    def construct(self, ids):
        return ops.gather(self.table, ids, 0)


def trainer(net, optimizer):
    step = mindspore.value_and_grad(net, None, optimizer.parameters)

    def train(ids, factor=1.0):
        loss, gradients = step(Tensor(ids, mindspore.int32), Tensor(factor, mindspore.float32))
        optimizer(gradients)
        return float(loss)

    return train


OPTIMIZERS = {
    "sgd": lambda parameters: nn.SGD(parameters, 0.05),
    "adagrad": lambda parameters: nn.Adagrad(parameters, learning_rate=0.05),
    "adam": lambda parameters: nn.Adam(parameters, 0.05),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("mapped", [False, True])
def test_as_a_dense_embedding_with_the_same_optimizer(tmp_path, name, mapped):
    random = np.random.default_rng(3)
    dense, ours = (
        Net(Dense()),
        Net(Embedding(10, 4, tmp_path / "t" if mapped else None, name, FIRST, learning_rate=0.05)),
    )
    train_dense = trainer(dense, OPTIMIZERS[name](dense.trainable_params()))
    train_ours = trainer(ours, OPTIMIZERS[name](ours.trainable_params()))
    for step in range(5):
        # Every row is touched: dense Adam also moves the rows that are not.
        ids = np.concatenate([random.permutation(10), random.integers(0, 10, 6)]).reshape(2, 8)
        assert train_ours(ids) == pytest.approx(train_dense(ids), rel=1e-5)
        assert ours.embedding.update() and ours.embedding.step == step + 1
        np.testing.assert_allclose(ours.embedding.rows(range(10)), dense.embedding.table.asnumpy(), atol=1e-6)
    np.testing.assert_allclose(ours.weight.asnumpy(), dense.weight.asnumpy(), atol=1e-6)
    assert ours.embedding.anchor.asnumpy() == 0


class Sparse(WithWeight):
    """The same over MindSpore's own sparse look-up, which `nn.LazyAdam` updates lazily."""

    def __init__(self):
        super().__init__(nn.EmbeddingLookup(10, 4, target="CPU"))
        self.embedding.embedding_table.set_data(Tensor(FIRST))
        self.embedding.embedding_table.name = "table"

    def construct(self, ids, factor):
        return ((self.embedding(ids) * self.weight) ** 2 * factor).sum()


@pytest.mark.parametrize("name", ["sgd", "adagrad", "lazy adam"])
def test_rows_touched_now_and_then_are_as_with_mindspores_own(name):
    lazy = name == "lazy adam"
    own = Sparse() if lazy else Net(nn.Embedding(10, 4, embedding_table=Tensor(FIRST)))
    ours = Net(Embedding(10, 4, None, "adam" if lazy else name, FIRST, learning_rate=0.05))
    own.weight.requires_grad = ours.weight.requires_grad = False
    optimizer = nn.LazyAdam(own.trainable_params(), 0.05) if lazy else OPTIMIZERS[name](own.trainable_params())
    if lazy:
        optimizer.target = "CPU"
    train_own = nn.TrainOneStepCell(own, optimizer).set_train()
    train_ours = trainer(ours, nn.SGD(ours.trainable_params(), 0.0))
    for ids in ([1, 1, 2], [2, 7, 7], [1, 9, 2], [3, 3, 3], [1, 2, 7]):
        train_own(Tensor(ids, mindspore.int32), Tensor(1.0)).asnumpy()
        train_ours(np.array(ids))
        assert ours.embedding.update()
        np.testing.assert_allclose(ours.embedding.rows(range(10)), own.embedding.embedding_table.asnumpy(), atol=1e-6)


one_net = Net(Embedding(10, 4, None, "sgd", FIRST, learning_rate=0.1))
one_train = trainer(one_net, nn.SGD(one_net.trainable_params(), 0.0))


@settings(max_examples=20)
@given(st.lists(st.integers(0, 9), min_size=6, max_size=6))
def test_only_the_rows_of_the_batch_change_and_their_gradients_are_summed(ids):
    one_net.embedding._store.records[...] = FIRST
    before = one_net.embedding.rows(range(10))
    one_train(np.array(ids))
    assert one_net.embedding.update()
    gradient = np.zeros((10, 4))
    for place in ids:
        gradient[place] += 2 * before[place] * WEIGHTS**2
    np.testing.assert_allclose(one_net.embedding.rows(range(10)), before - 0.1 * gradient, atol=1e-6)
    untouched = [row for row in range(10) if row not in ids]
    assert (one_net.embedding.rows(untouched) == before[untouched]).all()


def test_a_loss_scale_is_taken_out_and_a_skipped_step_changes_nothing():
    plain, scaled = (Embedding(10, 4, None, "adam", FIRST) for _ in range(2))
    for embedding, factor in ((plain, 1.0), (scaled, 1024.0)):
        net = Net(embedding)
        trainer(net, nn.SGD(net.trainable_params(), 0.0))(np.arange(6), factor)
    assert plain.update() and scaled.update(scale=1024.0)
    np.testing.assert_allclose(scaled.rows(range(10)), plain.rows(range(10)), atol=1e-6)
    before = plain.rows(range(10))
    net = Net(plain)
    train = trainer(net, nn.SGD(net.trainable_params(), 0.0))
    train(np.arange(6))
    plain.discard()
    assert not plain.update() and (plain.rows(range(10)) == before).all() and plain.step == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_gradient_that_is_not_finite_marks_the_step_and_changes_no_row(bad):
    embedding = Embedding(10, 4, None, "adam", FIRST)
    net = Net(embedding)
    _, gradients = mindspore.value_and_grad(net, None, net.trainable_params())(Tensor([1, 2]), Tensor(bad))
    by_name = dict(zip([parameter.name for parameter in net.trainable_params()], gradients))
    assert np.isnan(by_name["embedding.anchor"].asnumpy()).all()
    assert not embedding.update()
    assert (embedding.rows(range(10)) == FIRST).all() and embedding.step == 0


def test_an_update_waits_for_the_backward_half_of_the_step(monkeypatch):
    take = Embedding._take_gradient

    def slowly(self, ids, gradient):
        time.sleep(0.2)
        return take(self, ids, gradient)

    monkeypatch.setattr(Embedding, "_take_gradient", slowly)
    embedding = Embedding(10, 4, None, "sgd", FIRST)
    net = Net(embedding)
    step = mindspore.value_and_grad(net, None, net.trainable_params())
    for _ in range(3):
        step(Tensor([1, 2], mindspore.int32), Tensor(1.0))
        assert embedding.update()
    step(Tensor([1, 2], mindspore.int32), Tensor(1.0))
    embedding.discard()
    time.sleep(0.4)
    assert not embedding.update() and embedding.step == 3


def test_evaluation_leaves_no_gradients_and_empty_batches_pass():
    embedding = Embedding(10, 4, None, "sgd", FIRST)
    assert (embedding(Tensor([[1, 2]])).asnumpy() == FIRST[[[1, 2]]]).all()
    assert not embedding.update()
    assert embedding.rows(np.empty((0, 3), int)).shape == (0, 3, 4)
    assert embedding(Tensor(np.empty((0, 3), np.int32))).shape == (0, 3, 4)
    assert embedding.rows([]).shape == (0, 4)
    assert (embedding(np.array([1, 2])).asnumpy() == FIRST[[1, 2]]).all()
    assert (Embedding(10, 4, init=Tensor(FIRST)).rows(3) == FIRST[3]).all()


def test_inside_a_network_trained_by_model_train():
    class Loss(nn.Cell):
        def __init__(self, embedding):
            super().__init__()
            self.embedding, self.out = embedding, nn.Dense(4, 1)

        def construct(self, ids, wanted):
            return ((self.out(self.embedding(ids)).squeeze(-1) - wanted) ** 2).mean()

    embedding = Embedding(10, 4, None, "adam", FIRST, learning_rate=0.05)
    net = Loss(embedding)
    ids = np.arange(10, dtype=np.int32)
    data = ds.NumpySlicesDataset((ids, ids.astype(np.float32) / 10), ["ids", "wanted"], shuffle=False).batch(5)
    before = float(net(Tensor(ids), Tensor(ids / 10, mindspore.float32)))
    model = mindspore.Model(net, optimizer=nn.Adam(net.trainable_params(), 0.01))
    model.train(30, data, callbacks=[embedding.updater()], dataset_sink_mode=False)
    assert embedding.step == 60
    assert float(net(Tensor(ids), Tensor(ids / 10, mindspore.float32))) < before / 10


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_checkpoints_in_a_file_and_in_a_folder_continue_as_if_uninterrupted(tmp_path, name):
    whole = stepped(stepped(Embedding(10, 4, None, name, FIRST), 1, 3), 2, 3)
    first = stepped(Embedding(10, 4, None, name, FIRST), 1, 3)
    first.save(tmp_path / "e.npz")
    second = Embedding(10, 4, None, name)
    second.load(tmp_path / "e.npz")
    assert (stepped(second, 2, 3).rows(range(10)) == whole.rows(range(10))).all() and second.step == 6
    folder = stepped(Embedding(10, 4, tmp_path / "t", name, FIRST), 1, 3)
    folder.flush()
    folder.close()
    resumed = stepped(Embedding(10, 4, tmp_path / "t", name, seed=9), 2, 3)
    assert (resumed.rows(range(10)) == whole.rows(range(10))).all() and resumed.step == 6


def test_what_was_not_flushed_is_taken_back(tmp_path):
    embedding = stepped(Embedding(10, 4, tmp_path / "t", "adam", FIRST), 1, 2)
    embedding.flush()
    flushed = embedding.rows(range(10))
    stepped(embedding, 2, 4)
    embedding.close()
    again = Embedding(10, 4, tmp_path / "t", "adam")
    assert (again.rows(range(10)) == flushed).all() and again.step == 2
    again.close()
    whole = stepped(stepped(Embedding(10, 4, None, "adam", FIRST), 1, 2), 3)
    assert (stepped(Embedding(10, 4, tmp_path / "t", "adam"), 3).rows(range(10)) == whole.rows(range(10))).all()


def killed(rounds):
    """Run the kills of `benchmarks.host.killed`, which asserts what the folder holds."""
    root = os.path.dirname(os.path.dirname(ascend_fixes.__file__))
    command = [sys.executable, "-m", "benchmarks.host.killed", "--only", "embedding", "--rounds", str(rounds)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200, cwd=root)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)["embedding"]
    assert found["kills"] == rounds and found["updates kept"] > 0


def test_killed_at_any_moment_it_resumes_from_the_last_flush(request):
    killed(25 * request.config.getoption("--fuzz"))


KILLED_IN_A_FLUSH = """
    import itertools, os, sys
    from pathlib import Path
    import numpy as np
    from ascend_fixes.host import Embedding

    def dying(function):
        def call(*arguments, **options):
            global passed
            if passed == wanted:
                os.kill(os.getpid(), 9)
            passed += 1
            return function(*arguments, **options)
        return call

    for wanted in itertools.count():
        passed, folder = 0, Path(sys.argv[1]) / str(wanted)
        Embedding(4, 2, folder, "sgd", 0.0).close()
        child = os.fork()
        if not child:
            embedding = Embedding(4, 2, folder, "sgd", learning_rate=1.0)
            embedding._take_gradient(np.arange(4), -np.ones((4, 2), np.float32))
            embedding.update()
            mapped = embedding._store._mapped
            embedding._store._mapped = type("Mapped", (), {"flush": staticmethod(dying(mapped.flush))})
            for owner, name in ((os, "replace"), (os, "fsync"), (os, "fchmod"), (Path, "unlink")):
                setattr(owner, name, dying(getattr(owner, name)))
            embedding.flush()
            os._exit(0)
        whole = os.waitpid(child, 0)[1] == 0
        after = Embedding(4, 2, folder, "sgd")
        assert (after.rows(range(4)) == after.step).all() and not list(folder.glob(".*.part"))
        print(after.step, end="")
        after.close()
        if whole:
            break
"""


def test_killed_at_every_step_of_a_flush_it_holds_the_state_before_or_after(tmp_path):
    command = [sys.executable, "-c", textwrap.dedent(KILLED_IN_A_FLUSH), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=1200)
    assert done.returncode == 0 and set(done.stdout) == {"0", "1"}, done.stderr
    assert done.stdout == "".join(sorted(done.stdout)) and len(done.stdout) > 5  # once it is there, it stays
