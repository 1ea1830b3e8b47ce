"""What `host.Embedding` says and keeps where files are damaged, disks are full, or it is used wrongly."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import textwrap

import numpy as np
import pytest
from embedding_cells import FIRST, stepped
from mindspore import Tensor

from ascend_fixes import files
from ascend_fixes.host import Embedding, EmbeddingError, FileError, Table


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


@pytest.mark.parametrize("entry", [bytes(16), b"\xff" * 16, bytes(7)])
def test_an_entry_of_the_journal_that_is_none_is_passed_over_or_named(tmp_path, entry):
    path = folder_of(tmp_path / "t")
    journal = (path / "journal.1").read_bytes()
    (path / "journal.1").write_bytes(journal + entry)  # after what is whole, as a crash leaves it
    whole = Embedding(10, 4, path, "adam")
    whole.close()
    folder_of(tmp_path / "u")
    (tmp_path / "u" / "journal.1").write_bytes(entry + journal)
    with pytest.raises(FileError, match="or its journal was damaged"):
        Embedding(10, 4, tmp_path / "u", "adam")


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
