"""`host.Embedding` in the ways a network is trained: loss scaling, buckets, Model.train, several ranks."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import embedding_ranks as ranks
import mindspore
import mindspore.dataset as ds
import numpy as np
import pytest
from embedding_cells import FIRST, WEIGHTS, WithWeight
from mindspore import Parameter, Tensor, nn

import ascend_fixes
from ascend_fixes import shapes
from ascend_fixes.amp import LossScaler, TrainStep
from ascend_fixes.host import Embedding, EmbeddingError


class Net(WithWeight):
    """A masked loss over looked-up rows, with a weight of its own; ``factor`` injects an overflow."""

    def construct(self, ids, mask, factor):
        rows = self.embedding(ids) * self.weight
        return ((rows**2).sum(-1) * mask * factor).sum()


def batch(ids, factor=1.0):
    ids = np.asarray(ids)
    return Tensor(ids, mindspore.int32), Tensor(np.ones(ids.shape, np.float32)), Tensor(factor, mindspore.float32)


def build(accumulate=1, **options):
    embedding = Embedding(10, 4, None, "adam", FIRST, learning_rate=0.05, **options)
    net = Net(embedding)
    scaler = LossScaler(1024.0, minimum=1.0)
    return embedding, net, TrainStep(net, nn.SGD(net.trainable_params(), 0.01), scaler, accumulate=accumulate)


def plainly(steps):
    """The rows after unscaled steps over these ids."""
    embedding = Embedding(10, 4, None, "adam", FIRST, learning_rate=0.05)
    net = Net(embedding)
    optimizer = nn.SGD(net.trainable_params(), 0.01)
    step = mindspore.value_and_grad(net, None, optimizer.parameters)
    for ids in steps:
        _, gradients = step(*batch(ids))
        optimizer(gradients)
        embedding.update()
    return embedding.rows(range(10))


def test_a_skipped_step_of_loss_scaling_changes_no_row():
    embedding, net, step = build()
    assert embedding.follow(step(*batch([[1, 2, 2]])))
    before, weight = embedding.rows(range(10)), net.weight.asnumpy()
    result = step(*batch([[1, 2, 2]], np.inf))
    assert not result.updated and not embedding.follow(result)
    assert (embedding.rows(range(10)) == before).all() and (net.weight.asnumpy() == weight).all()
    assert embedding.step == 1
    assert embedding.follow(step(*batch([[3, 1, 0]])))
    np.testing.assert_allclose(embedding.rows(range(10)), plainly([[[1, 2, 2]], [[3, 1, 0]]]), atol=1e-6)


def test_an_overflow_of_the_rows_alone_skips_the_whole_step():
    class Rows(nn.Cell):
        def __init__(self):
            super().__init__()
            self.embedding = Embedding(10, 4, None, "adam", FIRST)
            self.weight = Parameter(Tensor(WEIGHTS), name="weight")

        def construct(self, ids):
            return (self.embedding(ids) * 1e36).sum() + self.weight.sum()  # times the scale: the rows' overflow

    net = Rows()
    step = TrainStep(net, nn.SGD(net.trainable_params(), 0.1), LossScaler(2.0**10, minimum=1.0))
    result = step(Tensor([1, 2], mindspore.int32))
    assert not result.finite and not net.embedding.follow(result)
    assert (net.weight.asnumpy() == WEIGHTS).all() and (net.embedding.rows(range(10)) == FIRST).all()


def test_gradients_are_accumulated():
    embedding, _, step = build(accumulate=2)
    assert not embedding.follow(step(*batch([[1, 2, 2]])), 2)
    assert embedding.follow(step(*batch([[3, 1, 0]])), 2)
    whole, _, once = build()
    ids = [[1, 2, 2, 3, 1, 0]]
    assert whole.follow(once(*batch(ids, 0.5)))
    np.testing.assert_allclose(embedding.rows(range(10)), whole.rows(range(10)), atol=1e-6)


def test_bucketed_training_gives_the_rows_of_unpadded_training():
    ragged = [[[1, 2, 0]], [[3, 1, 0, 0, 5]], [[4, 2]], [[0, 1, 2, 3, 4, 5]]]  # row 0 is also what pads
    embedding, _, step = build()
    padded = shapes.bucketed(step, axes={0: 1, 1: 1}, buckets=shapes.Buckets([4, 8]))
    for ids in ragged:
        assert embedding.follow(padded(*batch(ids)))
    np.testing.assert_allclose(embedding.rows(range(10)), plainly(ragged), atol=1e-6)


class Loss(nn.Cell):
    def __init__(self, embedding):
        super().__init__()
        self.embedding, self.out = embedding, nn.Dense(4, 1)

    def construct(self, ids, wanted):
        return ((self.out(self.embedding(ids)).squeeze(-1) - wanted) ** 2).mean()


def data():
    ids = np.arange(10, dtype=np.int32)
    return ds.NumpySlicesDataset((ids, ids.astype(np.float32) / 10), ["ids", "wanted"], shuffle=False).batch(5)


def loss_scale_managers():
    return {
        "fixed, unscaled by the optimizer": (mindspore.FixedLossScaleManager(256, False), 256.0),
        "fixed, skipping": (mindspore.FixedLossScaleManager(256, True), 1.0),
        "dynamic": (mindspore.DynamicLossScaleManager(1024, 2, 1000), 1.0),
    }


@pytest.mark.parametrize("how", ["plain", "TrainStep", "fixed, unscaled by the optimizer"])
def test_model_train(how):
    mindspore.set_seed(0)
    embedding = Embedding(10, 4, None, "sgd", FIRST, learning_rate=0.05)
    net, scale = Loss(embedding), 1.0
    if how == "TrainStep":
        model = mindspore.Model(TrainStep(net, nn.SGD(net.trainable_params(), 0.05), LossScaler(1024.0)))
    elif how == "plain":
        model = mindspore.Model(net, optimizer=nn.SGD(net.trainable_params(), 0.05))
    else:
        manager, scale = loss_scale_managers()[how]
        optimizer = nn.SGD(net.trainable_params(), 0.05, loss_scale=256.0)
        model = mindspore.Model(net, optimizer=optimizer, loss_scale_manager=manager)
    model.train(2, data(), callbacks=[embedding.updater(scale)], dataset_sink_mode=False)
    assert embedding.step == 4
    np.testing.assert_allclose(embedding.rows(range(10)), expected_rows(), atol=1e-6)


def expected_rows():
    mindspore.set_seed(0)
    embedding = Embedding(10, 4, None, "sgd", FIRST, learning_rate=0.05)
    net = Loss(embedding)
    optimizer = nn.SGD(net.trainable_params(), 0.05)
    step = mindspore.value_and_grad(net, None, optimizer.parameters)
    for _ in range(2):
        for ids, wanted in data():
            _, gradients = step(ids, wanted)
            optimizer(gradients)
            embedding.update()
    return embedding.rows(range(10))


def test_as_many_distinct_rows_as_announced_cross():
    narrow, wide = build(distinct=3), build()
    for ids in ([[1, 2, 2, 1, 5, 5, 5]], [[7, 7, 7, 7, 7, 7, 7]]):
        for embedding, _, step in (narrow, wide):
            assert embedding.follow(step(*batch(ids)))
    np.testing.assert_allclose(narrow[0].rows(range(10)), wide[0].rows(range(10)), atol=1e-6)
    with pytest.raises(EmbeddingError, match="4 distinct ids for distinct=3"):
        narrow[0].construct(Tensor([1, 2, 3, 4], mindspore.int32))


@pytest.mark.slow
def test_two_ranks_stay_equal_and_train_as_one_with_both_batches(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    root = os.path.dirname(os.path.dirname(ascend_fixes.__file__))
    folder = os.path.dirname(sys.executable)  # msrun starts the first `python` of PATH
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "PYTHONPATH": root}
    command = [sys.executable, "-m", "mindspore.parallel.cluster.run", "--worker_num=2", "--local_worker_num=2"]
    command += [f"--master_port={port}", f"--log_dir={tmp_path}", "--join=True", ranks.__file__, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=1200)
    assert (tmp_path / "1.npz").exists(), done.stdout[-1500:] + done.stderr[-1500:]
    with np.load(tmp_path / "0.npz") as one, np.load(tmp_path / "1.npz") as two:
        assert (one["rows"] == two["rows"]).all() and (one["weight"] == two["weight"]).all()
        both, net = ranks.train(
            lambda number: ranks.IDS[number].reshape(-1), lambda number: np.inf if number == ranks.SKIPPED else 1.0
        )
        np.testing.assert_allclose(one["rows"], both.rows(range(10)), atol=1e-6)
        np.testing.assert_allclose(one["weight"], net.weight.asnumpy(), atol=1e-6)
