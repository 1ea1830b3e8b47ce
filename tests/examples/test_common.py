"""The parts that examples share: options, checkpoints, random numbers, the report."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from examples.common import checkpoint, command_line, report
from examples.common.checkpoint import Checkpoint
from examples.common.files import ExampleError
from examples.common.randomness import Stream, dropout, generator

# --- options -----------------------------------------------------------------------------------

DEFAULTS = {"data": None, "fixes": None, "precision": None, "seed": 0, "epochs": None, "output": None, "json": None}


def test_fixes():
    assert command_line.parse_fixes("none") == ()
    assert command_line.parse_fixes("all") == command_line.FIXES
    assert command_line.parse_fixes("amp, shapes") == ("shapes", "amp")


@pytest.mark.parametrize(
    "text, hint", [("shape", "did you mean 'shapes'?"), ("xyz", "choose from none, all"), ("", "choose from none, all")]
)
def test_an_unknown_family_is_refused(text, hint):
    with pytest.raises(ExampleError) as error:
        command_line.parse_fixes(text)
    assert hint in str(error.value)


@pytest.mark.parametrize(
    "given, names",
    [
        ({}, ["plain float32", "fixed float32", "fixed float16"]),
        ({"precision": "float16"}, ["plain float16", "fixed float16"]),
        ({"fixes": "none"}, ["plain float32"]),
        ({"fixes": "shapes,amp", "precision": "float16"}, ["shapes,amp float16"]),
    ],
)
def test_variants(given, names):
    assert [variant.name for variant in command_line.asked({**DEFAULTS, **given})] == names


def test_a_resumed_run_takes_its_options_from_the_first(tmp_path):
    first = command_line.settle({"seed": 3, "fixes": "amp", "output": str(tmp_path), "epochs": 2}, DEFAULTS)
    command_line.remember(first)
    again = command_line.settle({"resume": str(tmp_path), "epochs": 5}, DEFAULTS)
    assert again == {**first, "epochs": 5, "resume": str(tmp_path)}
    with pytest.raises(ExampleError, match="--seed 4: the run in .* has 3"):
        command_line.settle({"resume": str(tmp_path), "seed": 4}, DEFAULTS)


def test_resuming_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(ExampleError, match="holds no run"):
        command_line.settle({"resume": str(tmp_path)}, DEFAULTS)
    (tmp_path / "options.json").write_text("{")
    with pytest.raises(ExampleError, match="damaged, .* has to be trained again"):
        command_line.settle({"resume": str(tmp_path)}, DEFAULTS)


@pytest.mark.parametrize("arguments", [["--epochs", "0"], ["--seed", "-1"], ["--fused", "maybe"]])
def test_impossible_values_exit_with_status_2(arguments):
    with pytest.raises(SystemExit) as exit_:
        command_line.settled("texting", arguments)
    assert exit_.value.code == 2


# --- checkpoints -------------------------------------------------------------------------------

arrays = st.dictionaries(
    st.text("abc/._", min_size=1, max_size=8).map(lambda name: "parameters/" + name),
    st.sampled_from(
        [np.zeros(3, np.float32), np.array(7, np.int32), np.arange(6.0).reshape(2, 3), np.float16([np.inf])]
    ),
    max_size=4,
)


@settings(max_examples=30)
@given(arrays, st.dictionaries(st.text(max_size=5), st.floats() | st.text() | st.lists(st.integers()), max_size=3))
def test_checkpoints_come_back_exactly(tmp_path_factory, arrays, description):
    path = tmp_path_factory.mktemp("checkpoint") / "run" / "checkpoint.npz"
    checkpoint.save(path, Checkpoint(arrays, description))
    stored = checkpoint.load(path)
    assert json.dumps(stored.description) == json.dumps(description)
    assert stored.arrays.keys() == arrays.keys()
    for name, value in arrays.items():
        assert stored.arrays[name].dtype == value.dtype
        np.testing.assert_array_equal(stored.arrays[name], value)
    assert [entry.name for entry in path.parent.iterdir()] == ["checkpoint.npz"]


@settings(max_examples=60)
@given(st.floats(0, 1), st.integers(1, 255))
def test_every_damaged_checkpoint_is_refused(tmp_path_factory, place, change):
    """Any byte of the numbers changed, or the file cut anywhere: an error, never other numbers."""
    path = tmp_path_factory.mktemp("damage") / "checkpoint.npz"
    weights = np.random.default_rng(0).normal(size=200).astype(np.float32)
    checkpoint.save(path, Checkpoint({"parameters/w": weights}, {"epochs": [1, 2]}))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(place * (len(whole) - 1))])
    with pytest.raises(ExampleError):
        checkpoint.load(path)
    start = whole.index(weights.tobytes())
    byte = start + int(place * (weights.nbytes - 1))
    path.write_bytes(whole[:byte] + bytes([whole[byte] ^ change]) + whole[byte + 1 :])
    with pytest.raises(ExampleError):
        checkpoint.load(path)


def test_a_pickle_is_never_opened(tmp_path):
    path = tmp_path / "checkpoint.npz"
    np.savez(path, **{"parameters/w": np.array([{"a": 1}], dtype=object)})
    with pytest.raises(ExampleError, match="holds Python objects"):
        checkpoint.load(path)


def test_a_failed_save_leaves_the_checkpoint_before(tmp_path):
    path = tmp_path / "checkpoint.npz"
    checkpoint.save(path, Checkpoint({"w": np.ones(2)}, {}))
    with pytest.raises(TypeError):
        checkpoint.save(path, Checkpoint({"w": np.zeros(2)}, {"unsavable": object()}))
    assert checkpoint.load(path).arrays["w"].tolist() == [1, 1]
    assert len(list(tmp_path.iterdir())) == 1


# --- random numbers ----------------------------------------------------------------------------


def test_random_numbers_depend_on_seed_stream_and_position_only():
    draw = [generator(*key).random() for key in [(0, Stream.DROPOUT, 1, 2), (0, Stream.DROPOUT, 1, 2)]]
    assert draw[0] == draw[1]
    others = [(1, Stream.DROPOUT, 1, 2), (0, Stream.ORDER, 1, 2), (0, Stream.DROPOUT, 2, 1), (0, Stream.DROPOUT, 1)]
    assert len({draw[0], *(generator(*key).random() for key in others)}) == 5


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.9])
def test_dropout_meets_its_rate_and_keeps_the_mean(rate):
    mask = dropout(generator(0, Stream.DROPOUT), (200, 500), rate)
    assert mask.dtype == np.float32 and mask.shape == (200, 500)
    assert abs((mask == 0).mean() - rate) < 0.006
    assert abs(mask.mean() - 1) < 0.03
    assert len(np.unique(mask)) <= 2


# --- the report --------------------------------------------------------------------------------

ROWS = [
    {
        "variant": "plain float32",
        "status": "finished",
        "graphs": 5,
        "wall_seconds": 12.34,
        "epoch_seconds": 6.17,
        "overflowed": 0,
        "padded_share": 0.75,
        "metric": "test_accuracy",
        "test_accuracy": 0.912,
        "peak_memory_gb": 1.2,
        "history": [
            {"loss": 0.7, "validation": 0.5, "elapsed": 6.0},
            {"loss": 0.4, "validation": 0.9, "elapsed": 12.3},
        ],
    },
    {"variant": "plain float16", "status": "crashed: TypeError: no kernel"},
]


def test_table_and_markdown_show_numbers_and_failures():
    lines, notes = report.table(ROWS)
    markdown = report.markdown(lines, right=True)
    for text in (report.aligned(lines, right=True) + notes, markdown + notes):
        assert "12.3" in text and "75.0%" in text and "91.20%" in text
        assert "plain float16: crashed: TypeError: no kernel" in text
    assert markdown.splitlines()[0].count("|") == markdown.splitlines()[2].count("|")


def test_figure_is_drawn_even_when_a_variant_failed(tmp_path):
    report.figure(ROWS, tmp_path / "figure.png", "title")
    report.figure(ROWS[1:], tmp_path / "empty.png", "title")
    for name in ("figure.png", "empty.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
