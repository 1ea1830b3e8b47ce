"""`host.Table` against a dict, over keys of every kind, sizes, orders and faults."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import textwrap
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ascend_fixes
from ascend_fixes import files
from ascend_fixes.host import FileError, FrozenError, KeysError, Table, UnknownKeyError, _keys

KIND = "ascend_fixes.host.Table 2"

characters = st.characters(blacklist_characters="\0", blacklist_categories=("Cs",))
texts = st.one_of(st.text(characters, max_size=6), st.text(characters, min_size=60, max_size=80))
integers = st.one_of(st.integers(-(2**63), 2**63 - 1), st.integers(-40, 40))
key_lists = st.one_of(
    st.lists(texts, unique=True, max_size=30), st.lists(integers, unique=True, min_size=1, max_size=60)
)


@given(key_lists, st.data())
def test_a_table_is_a_dict_both_ways(keys, data):
    table = Table(keys, default=-1)
    plain = {key: position for position, key in enumerate(keys)}
    like = integers if table._store.kind == "int" else texts
    asked = data.draw(st.lists(st.one_of(like, st.sampled_from(keys)) if keys else like, max_size=40))
    assert table(asked).tolist() == [plain.get(key, -1) for key in asked]
    assert table.keys(np.arange(len(keys))).tolist() == keys
    assert len(table) == table.size == len(keys)
    assert all((key in table) == (key in plain) for key in asked)


@given(st.lists(integers, unique=True, min_size=1, max_size=40), st.data())
def test_given_ids_are_kept(keys, data):
    ids = data.draw(st.lists(st.integers(-50, 2**31 - 2), unique=True, min_size=len(keys), max_size=len(keys)))
    table = Table(keys, ids, num_oov_buckets=3, dtype=np.int64)
    assert table(keys).tolist() == ids
    assert table.keys(ids).tolist() == keys
    assert table.size == max(0, max(ids) + 1) + 3


@given(st.lists(st.lists(texts, max_size=12), max_size=8))
def test_growing_gives_new_ids_in_order_of_first_occurrence(batches):
    table, plain = Table([]), {}
    for batch in batches:
        assert table.add(batch).tolist() == [plain.setdefault(key, len(plain)) for key in batch]
    assert table.keys(np.arange(len(plain))).tolist() == list(plain)


@given(st.lists(st.lists(integers, max_size=30), min_size=1, max_size=8))
def test_growing_integers_may_leave_the_dense_range_in_either_direction(batches):
    table, plain = Table(np.empty(0, np.int64)), {}
    for batch in batches:
        assert table.add(batch).tolist() == [plain.setdefault(key, len(plain)) for key in batch]
    known = list(plain)
    assert table(known).tolist() == list(range(len(known)))


@pytest.mark.parametrize("step", [1, -1, 7, 1000])
def test_growing_one_key_at_a_time(step):
    table = Table(np.array([0]))
    for number in range(1, 500):
        assert table.add(number * step) == number
    assert table(np.arange(500) * step).tolist() == list(range(500))


@settings(max_examples=30)
@given(st.lists(texts, unique=True, min_size=2, max_size=40), st.integers(0, 5))
def test_equal_hashes_are_told_apart_by_the_strings(keys, mask):
    def weak(points):
        return points.sum(axis=1).astype(np.uint64) & np.uint64(mask)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(_keys, "hash_strings", weak)
        table = Table(keys[::2], default=-1)
        expected = {key: position for position, key in enumerate(keys[::2])}
        assert table(keys).tolist() == [expected.get(key, -1) for key in keys]
        assert table.add(keys + keys).tolist() == 2 * [expected.setdefault(key, len(expected)) for key in keys]


def test_many_keys_cross_every_block():
    words = np.char.add("k", np.arange(100_000).astype(str))
    table = Table(words, num_oov_buckets=5)
    shuffled = np.random.default_rng(0).permutation(100_000)
    assert (table(words[shuffled]) == shuffled).all()
    assert (table(words[shuffled].astype(object)) == shuffled).all()
    assert (table(np.char.encode(words[shuffled], "utf-8")) == shuffled).all()
    unknown = table(np.char.add("z", np.arange(70_000).astype(str)))
    assert unknown.min() == 100_000 and unknown.max() == 100_004
    assert np.bincount(unknown - 100_000).min() > 13_000


def test_shape_dtype_and_single_keys():
    import mindspore

    table = Table([10, 20, 30], default=0)
    assert table(mindspore.Tensor([[10, 30], [20, 99]])).tolist() == [[0, 2], [1, 0]]
    assert table(20) == 1 and table(20).dtype == np.int32
    assert table(np.zeros((0, 4), np.int64)).shape == (0, 4)
    assert table([]).shape == (0,)
    assert Table([1], dtype=np.int64)([1]).dtype == np.int64
    assert Table(["a", "b"], default="b")([["a", "q"]]).tolist() == [[0, 1]]
    assert Table({"a": 7, "b": 5}, default=-1)(["b", "a", "q"]).tolist() == [5, 7, -1]


# --- sources -----------------------------------------------------------------------------------


def test_from_counts_orders_by_count_then_key_and_obeys_both_limits():
    counts = Counter({"b": 3, "a": 3, "c": 5, "rare": 1, "[UNK]": 9})
    table = Table.from_counts(counts, size=4, minimum=2, special=["[UNK]"], default="[UNK]")
    assert table.keys(range(4)).tolist() == ["[UNK]", "c", "a", "b"]
    assert table("rare") == 0


def test_from_file_keeps_every_character_but_the_line_end(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_bytes("a\r\n\u2028b\nc\x85\n d \n".encode())
    assert Table.from_file(path).keys(range(4)).tolist() == ["a", "\u2028b", "c\x85", " d "]


def test_from_mindspore_vocab():
    from mindspore.dataset import text

    vocab = text.Vocab.from_dict({"home": 3, "behind": 7})
    table = Table.from_vocab(vocab)
    assert table(["behind", "home"]).tolist() == [7, 3] == vocab.tokens_to_ids(["behind", "home"])


# --- files -------------------------------------------------------------------------------------


@given(key_lists, st.booleans())
def test_saving_and_loading(tmp_path_factory, keys, frozen):
    path = tmp_path_factory.mktemp("table") / "t.npz"
    ids = [7 * position + 3 for position in range(len(keys))]
    table = Table(keys, ids, default=5, frozen=frozen, dtype=np.int64)
    table.save(path)
    loaded = Table.load(path)
    assert loaded(keys).tolist() == ids and loaded(keys).dtype == np.int64
    assert (loaded.frozen, repr(loaded)) == (frozen, repr(table))
    bucketed = Table(keys, num_oov_buckets=4)
    bucketed.save(path)
    assert repr(Table.load(path)) == repr(bucketed)
    assert os.listdir(path.parent) == ["t.npz"]


def test_oov_ids_are_the_same_in_every_process_and_version():
    # Written down once: whoever changes the hash changes every saved model.
    assert Table([], num_oov_buckets=10**6)(["", "a", "héllo", "x" * 100]).tolist() == [607535, 887330, 341067, 27086]
    assert Table([0], num_oov_buckets=10**6)([1, -1, 2**63 - 1]).tolist() == [822466, 443937, 352040]


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "text", "pickle", "other", "folder", "missing"])
def test_a_damaged_or_foreign_file_is_named(tmp_path, damage):
    path = tmp_path / "t.npz"
    Table([f"word{i}" for i in range(500)]).save(path)
    whole = path.read_bytes()
    if damage == "truncate":
        path.write_bytes(whole[: len(whole) // 2])
    elif damage == "flip":
        path.write_bytes(whole[:1500] + bytes([whole[1500] ^ 255]) + whole[1501:])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "text":
        path.write_text("a\nb\n")
    elif damage == "pickle":
        np.savez(path, format=np.array([object()], object))
    elif damage == "other":
        np.savez(path, weights=np.zeros(3))
    elif damage == "folder":
        path.unlink()
        path.mkdir()
    else:
        path.unlink()
    with pytest.raises(FileError) as error:
        Table.load(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "change",
    [
        {"ends": np.array([3, 1])},
        {"settings": np.array('{"keys": "int"}')},
        {"settings": np.array("{}")},
        {"values": np.array([1.5, 2.5])},
        {"utf8": np.array([255, 255], np.uint8)},
    ],
)
def test_a_whole_file_with_contradictions_is_named(tmp_path, change):
    path = tmp_path / "t.npz"
    Table(["a", "b"]).save(path)
    files.write_arrays(path, KIND, {**files.read_arrays(path, KIND), **change})
    with pytest.raises(FileError, match="contradicts itself"):
        Table.load(path)


@pytest.mark.parametrize("values", [None, [7, 3]])
def test_files_of_the_version_before_the_digest_are_read_as_far_as_they_can_be_checked(tmp_path, values):
    path = tmp_path / "t.npz"
    Table(["a", "b"], values).save(path)
    arrays = files.read_arrays(path, KIND)
    np.savez(path, format=np.array("ascend_fixes.host.Table 1"), **arrays)
    assert Table.load(path)(["b", "a"]).tolist() == ([1, 0] if values is None else [3, 7])
    np.savez(path, format=np.array("ascend_fixes.host.Table 1"), valuds=np.array([7, 3]), **arrays)
    with pytest.raises(FileError, match="valuds"):
        Table.load(path)


def test_no_flipped_bit_gives_another_table(tmp_path):
    path = tmp_path / "t.npz"
    Table(["a", "bc"], [7, 3]).save(path)
    whole = path.read_bytes()
    for place in range(len(whole)):
        for bit in (place % 8, (place + 3) % 8):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
            try:
                table = Table.load(path)
            except FileError as error:
                assert str(path) in str(error)
            else:
                assert table(["a", "bc"]).tolist() == [7, 3] and table.keys([7, 3]).tolist() == ["a", "bc"]


def test_a_read_only_file_is_not_replaced(tmp_path, monkeypatch):
    path = tmp_path / "t.npz"
    Table(["old"]).save(path)
    # root may write anything, so what access() would tell another user is put in its place
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(FileError, match="read-only"):
        Table(["new"]).save(path)
    assert Table.load(path).keys(0) == "old" and os.listdir(tmp_path) == ["t.npz"]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileError, match="cannot write .*gone"):
        Table(["a"]).save(tmp_path / "gone" / "t.npz")


def test_a_full_disk_leaves_the_old_file(tmp_path):
    path = tmp_path / "t.npz"
    Table(["old"]).save(path)
    code = f"""
        import resource, signal
        from ascend_fixes.host import Table, FileError
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))  # the disk is full after 20 kB
        try:
            Table([str(i) for i in range(10000)]).save({str(path)!r})
        except FileError as error:
            print(error)
    """
    assert resource.RLIMIT_FSIZE is not None
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=1200)
    assert "what it held is unchanged" in run.stdout, run.stderr
    assert Table.load(path).keys(0) == "old" and os.listdir(tmp_path) == ["t.npz"]


def killed_while_saving(part, rounds):
    """Run the kills of `benchmarks.host.killed`, which asserts that every file is whole."""
    root = os.path.dirname(os.path.dirname(ascend_fixes.__file__))
    command = [sys.executable, "-m", "benchmarks.host.killed", "--only", part, "--rounds", str(rounds)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=1200, cwd=root)
    assert run.returncode == 0, run.stderr[-2000:]
    found = json.loads(run.stdout)[part]
    assert found["kills"] == rounds


@pytest.mark.parametrize("part", ["table", "writers"])
def test_writers_killed_at_any_moment_leave_a_whole_file(part, request):
    killed_while_saving(part, 25 * request.config.getoption("--fuzz"))


# --- wrong use ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Table(["a", "b", "a"]), "'a' occurs twice"),
        (lambda: Table([5, 6, 5]), "5 occurs twice"),
        (lambda: Table(["x" * 70, "x" * 70]), "occurs twice"),
        (lambda: Table(["a", 3]), "got 3 at row 1"),
        (lambda: Table([1.5]), "got 1.5"),
        (lambda: Table(np.array([1.5])), "float64"),
        (lambda: Table([True, False]), "got True"),
        (lambda: Table("abc"), "pass a sequence"),
        (lambda: Table(np.zeros((2, 2), np.int64)), r"shape \(2, 2\)"),
        (lambda: Table([b"\xff\xfe"]), "not UTF-8"),
        (lambda: Table(["a\0b"]), "NUL"),
        (lambda: Table(np.array(["a\0b"])), "NUL"),
        (lambda: Table(["\ud800"]), "surrogate"),
        (lambda: Table([2**63]), "64 bits"),
        (lambda: Table(["a"], [1, 2]), "1 keys and 2 values"),
        (lambda: Table(["a", "b"], [1, 1]), "id 1 is given to two keys"),
        (lambda: Table(["a"], [2**31]), "do not fit int32"),
        (lambda: Table(["a"], [0.5]), "ids are integers"),
        (lambda: Table({"a": 1}, [1]), "keys is a dict"),
        (lambda: Table(["a"], default="q"), "not a key"),
        (lambda: Table(["a"], default=1.0), "no id"),
        (lambda: Table(["a"], default=2**40), "does not fit"),
        (lambda: Table(["a"], default=0, num_oov_buckets=2), "one of the two"),
        (lambda: Table(["a"], num_oov_buckets=-1), "num_oov_buckets=-1"),
        (lambda: Table(["a"], dtype=np.float32), "no dtype for ids"),
        (lambda: Table(["a"])([1]), "got 1 at row 0"),
        (lambda: Table(["a"])(np.array([1])), "are strings"),
        (lambda: Table([1])(["a"]), "are integers"),
        (lambda: Table([1])([2**64]), "integers|64 bits"),
        (lambda: Table([1])([[1], [2, 3]]), "ragged"),
        (lambda: Table.from_counts({"a": 1}, size=0, special=["x"]), "size=0"),
    ],
)
def test_wrong_keys_are_named(build, message):
    with pytest.raises(KeysError, match=message) as error:
        build()
    assert "\n" not in str(error.value)


def test_unknown_keys_and_ids_are_named():
    with pytest.raises(UnknownKeyError, match="2 keys are not in the table, the first is 'q'"):
        Table(["a"])(["q", "a", "r"])
    with pytest.raises(UnknownKeyError, match="id 5 has no key"):
        Table(["a"]).keys([0, 5])
    for outside in (-1, 1, 2**40):
        with pytest.raises(UnknownKeyError):
            Table(["a"]).keys(outside)
    assert Table(["a"], num_oov_buckets=2).keys([0, 1, 2], default="[UNK]").tolist() == ["a", "[UNK]", "[UNK]"]


@pytest.mark.parametrize("table", [Table(["a"], frozen=True), Table(["a"], num_oov_buckets=1)])
def test_tables_that_do_not_grow(table):
    with pytest.raises(FrozenError):
        table.add(["b"])
    assert len(table) == 1


def test_a_refused_batch_adds_nothing():
    table = Table([f"w{i}" for i in range(40_000)])
    with pytest.raises(KeysError):
        table.add([f"n{i}" for i in range(40_000)] + ["\ud800"])
    assert len(table) == 40_000 and "n0" not in table


@pytest.mark.parametrize(("text", "message"), [("a\n\nb\n", "line 2 is empty"), ("a\nb\na\n", "'a' occurs twice")])
def test_a_wrong_vocabulary_file_is_named(tmp_path, text, message):
    path = tmp_path / "vocab.txt"
    path.write_text(text)
    with pytest.raises(FileError, match=message) as error:
        Table.from_file(path)
    assert str(path) in str(error.value)
    path.write_bytes(b"caf\xe9\n")
    with pytest.raises(FileError, match=r"not UTF-8 \(byte 3\)"):
        Table.from_file(path)
    with pytest.raises(FileError, match="No such file"):
        Table.from_file(tmp_path / "none")


def test_a_table_travels_to_data_workers():
    import pickle

    table = pickle.loads(pickle.dumps(Table(["a", "y" * 99], num_oov_buckets=4)))
    assert table(["y" * 99, "a"]).tolist() == [1, 0]


def test_settings_are_plain_json(tmp_path):
    Table(["a"]).save(tmp_path / "t.npz")
    with np.load(tmp_path / "t.npz", allow_pickle=False) as archive:
        assert json.loads(str(archive["settings"]))["keys"] == "str"
