"""Rows on the host against a dense embedding with MindSpore's own optimizer, and what crashes leave behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import textwrap
import time

import mindspore
import mindspore.dataset as ds
import numpy as np
import pytest
from embedding_cells import FIRST, WEIGHTS, WithWeight
from hypothesis import given, settings
from hypothesis import strategies as st
from mindspore import Parameter, Tensor, nn, ops

import ascend_fixes
from ascend_fixes import files
from ascend_fixes.host import Embedding, EmbeddingError, FileError, Table


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


def stepped(embedding, seed, times=1):
    """Updates as a graph would bring them, without one."""
    random = np.random.default_rng(seed)
    for _ in range(times):
        embedding._take_gradient(random.integers(0, 10, 6), random.normal(size=(6, 4)).astype(np.float32))
        embedding.update()
    return embedding


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
    """Run the kills of `benchmarks.host_killed`, which asserts what the folder holds."""
    root = os.path.dirname(os.path.dirname(ascend_fixes.__file__))
    command = [sys.executable, "-m", "benchmarks.host_killed", "--only", "embedding", "--rounds", str(rounds)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200, cwd=root)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)["embedding"]
    assert found["kills"] == rounds and found["updates kept"] > 0


def test_killed_at_any_moment_it_resumes_from_the_last_flush():
    killed(25)


@pytest.mark.slow
def test_killed_at_a_thousand_moments():
    killed(1000)


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


# --- faults and wrong use ------------------------------------------------------------------------


def test_a_folder_is_open_once(tmp_path):
    Embedding(3, 2, tmp_path / "t").flush()
    first = Embedding(3, 2, tmp_path / "u")
    with pytest.raises(FileError, match="open in another process"):
        Embedding(3, 2, tmp_path / "u")
    first.close()
    Embedding(3, 2, tmp_path / "u").close()


@pytest.mark.parametrize("damage", ["meta", "rows", "missing", "sizes", "optimizer"])
def test_a_damaged_or_other_folder_is_named(tmp_path, damage):
    path = tmp_path / "t"
    Embedding(3, 2, path).close()
    count, optimizer = 3, "adam"
    if damage == "meta":
        (path / "meta.json").write_text("{")
    elif damage == "rows":
        os.truncate(path / "records.npy", 100)
    elif damage == "missing":
        (path / "records.npy").unlink()
    elif damage == "sizes":
        count = 4
    else:
        optimizer = "sgd"
    with pytest.raises(FileError) as error:
        Embedding(count, 2, path, optimizer)
    assert str(path) in str(error.value)


def folder_of(path, updates=3):
    """A folder with a flushed table, and with changes since that its journal takes back."""
    embedding = stepped(Embedding(10, 4, path, "adam", FIRST), 1, updates)
    embedding.flush()
    stepped(embedding, 2).close()
    return path


def test_trained_rows_are_not_made_anew_where_meta_json_is_missing(tmp_path):
    path = folder_of(tmp_path / "t")
    (path / "meta.json").unlink()
    before = (path / "records.npy").read_bytes()
    with pytest.raises(FileError, match=r"has records\.npy and no meta\.json"):
        Embedding(10, 4, path, "adam")
    assert (path / "records.npy").read_bytes() == before


def test_a_creation_that_was_killed_is_ended_or_begun_anew(tmp_path):
    path = tmp_path / "t"
    Embedding(10, 4, path, "adam", FIRST).close()
    (path / "records.npy").rename(path / "records.new")  # killed before the last step
    again = Embedding(10, 4, path, "adam", 0.0)
    assert (again.rows(range(10)) == FIRST).all()
    again.close()
    (path / "records.npy").rename(path / "records.new")  # killed before meta.json
    (path / "meta.json").unlink()
    assert (Embedding(10, 4, path, "adam", 0.0).rows(range(10)) == 0).all()


def test_rows_in_fortran_order_are_refused(tmp_path):
    path = tmp_path / "t"
    Embedding(10, 4, path, "sgd", FIRST).close()
    np.save(path / "records.npy", np.asfortranarray(FIRST))
    with pytest.raises(FileError, match="not contiguous"):
        Embedding(10, 4, path, "sgd")


@pytest.mark.parametrize("name", ["records.npy", "meta.json", "checksums.1", "journal.1"])
def test_no_changed_byte_gives_other_rows(tmp_path, name):
    path = folder_of(tmp_path / "t")
    kept = {file.name: file.read_bytes() for file in path.iterdir()}
    whole = Embedding(10, 4, path, "adam")
    right, step = whole.rows(range(10)), whole.step
    whole.close()
    refused = 0
    for place in range(0, len(kept[name]), max(1, len(kept[name]) // 60)):
        for old in path.iterdir():
            old.unlink()
        damaged = bytearray(kept[name])
        damaged[place] ^= 1 << place % 8
        for file, content in {**kept, name: bytes(damaged)}.items():
            (path / file).write_bytes(content)
        try:
            found = Embedding(10, 4, path, "adam")
        except FileError as error:
            refused += str(path) in str(error)
        else:
            assert (found.rows(range(10)) == right).all() and found.step == step, place
            found.close()
    assert refused > 20


def test_a_folder_of_the_version_before_the_checksums_is_read_and_gets_them(tmp_path):
    path = folder_of(tmp_path / "t")
    meta = json.loads((path / "meta.json").read_text())
    del meta["sha256"]
    (path / "meta.json").write_text(json.dumps({**meta, "format": "ascend_fixes.host.Embedding 1"}))
    (path / "checksums.1").unlink()
    embedding = Embedding(10, 4, path, "adam")
    whole = stepped(Embedding(10, 4, None, "adam", FIRST), 1, 3)
    assert (embedding.rows(range(10)) == whole.rows(range(10))).all() and embedding.step == 3
    embedding.close()
    damaged = bytearray((path / "records.npy").read_bytes())
    damaged[-3] ^= 1
    (path / "records.npy").write_bytes(damaged)
    with pytest.raises(FileError, match="1 of 1 blocks"):
        Embedding(10, 4, path, "adam")


@pytest.mark.parametrize("name", ["lock", "journal.0"])
def test_nothing_is_written_through_a_symbolic_link(tmp_path, name):
    path, precious = tmp_path / "t", tmp_path / "precious"
    Embedding(10, 4, path, "sgd").close()
    precious.write_text("kept")
    (path / name).unlink()
    (path / name).symlink_to(precious)
    try:
        Embedding(10, 4, path, "sgd").close()
    except FileError as error:
        assert str(path) in str(error)
    assert precious.read_text() == "kept"


@pytest.mark.parametrize("step", [[1, 2], 1.5, -1])
def test_a_checkpoint_with_a_wrong_step_changes_nothing(tmp_path, step):
    path, kind = tmp_path / "e.npz", "ascend_fixes.host.Embedding checkpoint 2"
    embedding = Embedding(3, 4, None, "sgd", 1.0)
    Embedding(3, 4, None, "sgd", 2.0).save(path)
    files.write_arrays(path, kind, {**files.read_arrays(path, kind), "step": np.array(step)})
    with pytest.raises(FileError, match="step="):
        embedding.load(path)
    assert (embedding.rows(range(3)) == 1).all() and embedding.step == 0


ON_A_FULL_DISK = """
    import sys
    import numpy as np
    from ascend_fixes.host import Embedding, FileError, Table

    folder, free = sys.argv[1], int(sys.argv[2])
    words = Table(["old"])
    words.save(folder + "/words.npz")
    small = Embedding(500, 64, folder + "/small", "adam")
    small.save(folder + "/small.npz")
    small.flush()
    before = small.rows(range(500))
    small._take_gradient(np.arange(10), np.ones((10, 64), np.float32))
    assert small.update()
    after = small.rows(range(500))
    told = []

    def full(action):
        try:
            action()
        except FileError as error:
            told.append(str(error))

    full(lambda: Embedding(free, 64, folder + "/large"))
    full(lambda: Table([str(number) for number in range(free)]).save(folder + "/words.npz"))
    open(folder + "/ballast", "wb", 0).write(bytes(free))
    small._take_gradient(np.arange(500), np.ones((500, 64), np.float32))
    full(small.update)
    assert (small.rows(range(500)) == after).all() and small.step == 1
    full(lambda: small.save(folder + "/small.npz"))
    small.close()
    again = Embedding(500, 64, folder + "/small", "adam")
    assert (again.rows(range(500)) == before).all() and again.step == 0
    Embedding(500, 64, None, "adam").load(folder + "/small.npz")
    assert Table.load(folder + "/words.npz").keys(0) == "old"
    print("\\n".join(told))
"""


def full_disk(folder, size):
    """The beginning of a command that runs with a folder of so many free bytes."""
    mount = f'mount -t tmpfs -o size={size} none {folder} && exec "$@"'
    for unshare in (["unshare", "--mount"], ["unshare", "--user", "--map-root-user", "--mount"]):
        command = [*unshare, "sh", "-c", mount, "sh"]
        if subprocess.run([*command, "true"], capture_output=True).returncode == 0:
            return command
    # Where nothing can be mounted: no file may grow beyond half of that.
    return ["sh", "-c", f'ulimit -f {size // 1024}; exec "$@"', "sh"]


def test_on_a_full_disk_every_write_says_so_and_what_was_there_stays(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    size = 1_300_000
    command = [*full_disk(disk, size), sys.executable, "-c", textwrap.dedent(ON_A_FULL_DISK), str(disk), str(size)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=1200)
    told = done.stdout.splitlines()
    assert done.returncode == 0 and len(told) == 4 and not done.stderr, done.stderr[-2000:]
    assert told[0].startswith(f"cannot write {disk}/large/records.new: ") and "free space" in told[0]
    assert "what it held is unchanged" in told[1] and "what it held is unchanged" in told[3]
    assert "the rows are unchanged" in told[2]


READ_ONLY = """
    import os, sys
    import numpy as np
    from ascend_fixes.host import Embedding, FileError, Table

    folder = sys.argv[1]
    Table(["old"]).save(folder + "/words.npz")
    Embedding(3, 2, folder + "/rows", "sgd", 1.0).close()
    for name in ("words.npz", "rows/records.npy", "rows/lock"):
        os.chmod(f"{folder}/{name}", 0o444)
    os.chmod(folder + "/rows", 0o555)
    for name in ("", "/words.npz"):
        os.chown(folder + name, 65534, 65534)
    os.setuid(65534)

    def told(action):
        try:
            action()
        except FileError as error:
            print(error)

    told(lambda: Table(["new"]).save(folder + "/words.npz"))
    told(lambda: Embedding(3, 2, None, "sgd").save(folder + "/words.npz"))
    told(lambda: Embedding(3, 2, folder + "/rows", "sgd"))
    os.chmod(folder, 0o555)
    told(lambda: Table(["new"]).save(folder + "/more.npz"))
    told(lambda: Embedding(3, 2, folder + "/more"))
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become a user who may not write")
def test_read_only_files_and_folders_are_named():
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", textwrap.dedent(READ_ONLY), folder]
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=1200)
        told = done.stdout.splitlines()
        assert len(told) == 5 and Table.load(f"{folder}/words.npz").keys(0) == "old", done.stdout + done.stderr
        assert (
            told[0]
            == told[1]
            == f"cannot write {folder}/words.npz: {folder}/words.npz is read-only; what it held is unchanged"
        )
        assert told[2].startswith(f"cannot open the folder {folder}/rows: ") and told[2].endswith("Permission denied")
        assert told[3].startswith(f"cannot write {folder}/more.npz: Permission denied")
        assert told[4] == f"cannot open the folder {folder}/more: Permission denied"


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Embedding(0, 4), "num_embeddings=0"),
        (lambda: Embedding(3, 4, optimizer="lamb"), "'lamb' is none of sgd, adagrad, adam"),
        (lambda: Embedding(3, 4, optimizer="sgd", beta1=0.5), "sgd has no option 'beta1'"),
        (lambda: Embedding(3, 4, init=np.zeros((4, 3))), r"init has shape \(4, 3\)"),
        (lambda: Embedding(3, 4, init="zeros"), "init has shape .* <U5"),
        (lambda: Embedding(3, 4).rows([3]), "id 3 is not in 0 to 2"),
        (lambda: Embedding(3, 4).rows([-1]), "id -1"),
        (lambda: Embedding(3, 4).rows([0.5]), "float64"),
        (lambda: Embedding(3, 4).update(scale=0), "scale=0"),
        (lambda: Embedding(3, 4).construct(Tensor([5])), "id 5"),
    ],
)
def test_wrong_use_is_named(build, message):
    with pytest.raises(EmbeddingError, match=message):
        build()


def test_a_row_with_nan_changes_no_row():
    embedding = Embedding(10, 4, None, "adam", FIRST)
    gradient = np.ones((2, 4), np.float32)
    gradient[1, 2] = np.nan
    assert np.isnan(embedding._take_gradient(np.array([1, 2]), gradient)).all()
    assert not embedding.update() and embedding.step == 0
    assert (embedding.rows(range(10)) == FIRST).all()


def test_an_id_out_of_range_is_named_in_a_graph():
    with pytest.raises(EmbeddingError, match="id -1 is not in 0 to 9"):
        Embedding(10, 4)(Tensor([3, -1])).asnumpy()


@pytest.mark.parametrize("damage", ["truncated", "foreign", "other shape"])
def test_a_damaged_checkpoint_changes_nothing(tmp_path, damage):
    path, embedding = tmp_path / "e.npz", Embedding(3, 4, None, "sgd", 1.0)
    embedding.save(path)
    if damage == "truncated":
        os.truncate(path, path.stat().st_size - 100)
    elif damage == "foreign":
        Table(["a"]).save(path)
    else:
        kind = "ascend_fixes.host.Embedding checkpoint 2"
        files.write_arrays(path, kind, {**files.read_arrays(path, kind), "records": np.float32(1)})
    with pytest.raises((FileError, EmbeddingError), match=str(path)):
        embedding.load(path)
    assert (embedding.rows(range(3)) == 1).all()


def test_a_checkpoint_of_other_sizes_changes_nothing(tmp_path):
    Embedding(3, 4, optimizer="sgd").save(tmp_path / "e.npz")
    embedding = Embedding(3, 4)
    before = embedding.rows(range(3))
    with pytest.raises(EmbeddingError, match="build one like it"):
        embedding.load(tmp_path / "e.npz")
    assert (embedding.rows(range(3)) == before).all()
