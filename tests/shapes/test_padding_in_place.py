"""Garbage in place, masks by what they do, and what is no leak: the second method of `check_padding`."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn, ops
from shapes_leaks import WIDTH, Body, Classifier, MaskedMean, Mean

from ascend_fixes.shapes import PaddingCheckError, check_padding

AXES = {"ids": 1, "mask": 1}
ENDS = np.array([7, 3, 4])


def inputs(ends=ENDS, length=7, rows=3):
    random = np.random.default_rng(0)
    ids = random.integers(1, 30, (rows, length)).astype(np.int32)
    return {"ids": ids, "mask": (np.arange(length) < np.asarray(ends)[:, None]).astype(np.float32)}


def checked(cell, batch=None, axes=AXES, **options):
    return check_padding(cell, batch or inputs(), axes, **{"gradients": False, **options})


class Fixed(nn.Cell):
    """Positions are added at a width that is written in; another width fails."""

    def __init__(self, pool):
        super().__init__()
        self.body, self.pool = Body(), pool
        self.places = Parameter(ops.ones((7, WIDTH), ms.float32), name="places")

    def construct(self, ids, mask):
        return self.pool(self.body(ids) + self.places, mask)


@pytest.mark.parametrize("pool, ok", [(Mean, False), (MaskedMean, True)])
def test_what_cannot_be_padded_is_checked_in_place(pool, ok):
    report = checked(Fixed(pool()))
    assert report.ok is ok and report.tried == ("garbage in place",)
    assert any("cannot be run at length 8" in note for note in report.notes)
    assert report.rows == (("length", (7, 3, 4)),)
    if not ok:
        assert report.cell == "pool" and {leak.method for leak in report.leaks} == {"in place"}
        assert "with garbage beyond the rows' ends" in str(report)


def test_rows_that_are_all_full_are_cut_where_a_mask_can_say_so():
    report = checked(Fixed(Mean()), inputs(ends=[7, 7, 7]), method="in place")
    assert not report.ok and any("every row was full" in note for note in report.notes)
    assert checked(Fixed(MaskedMean()), inputs(ends=[7, 7, 7]), method="in place").ok


def test_nothing_tried_is_not_called_safe():
    class Alone(Fixed):
        def construct(self, ids):
            return (self.body(ids) + self.places).mean(1)

    report = checked(Alone(None), {"ids": inputs()["ids"]}, {"ids": 1})
    assert not report.ok and not report.leaks and report.tried == ()
    assert str(report).startswith("nothing was tried") and "nothing says where its rows end" in str(report)
    told = checked(Alone(None), {"ids": inputs()["ids"]}, {"ids": 1}, lengths=ENDS)
    assert told.leaks and told.tried == ("garbage in place",)


def test_both_methods_can_be_had_and_agree():
    report = checked(Classifier(Mean()), widths=[9], method="both")
    assert report.tried == ("length 9", "garbage in place")
    assert {leak.method for leak in report.leaks} == {"widths", "in place"}
    assert [suspect.cell for suspect in report.suspects] == ["pool"]


class InHalf(nn.Cell):
    """A float16 layer over positions; ``leak`` of the mean over all positions goes in beside the masked mean."""

    def __init__(self, leak):
        super().__init__()
        self.body, self.dense, self.pool, self.leak = (
            Body(),
            nn.Dense(WIDTH, WIDTH).to_float(ms.float16),
            MaskedMean(),
            leak,
        )

    def construct(self, ids, mask):
        x = self.dense(self.body(ids)).astype(ms.float32)
        return self.pool(x, mask) + self.leak * x.mean(1)


@pytest.mark.parametrize("leak", [0.0, 2e-3])
def test_in_place_half_precision_hides_no_small_leak(leak):
    report = checked(InHalf(leak), method="in place")
    assert report.ok is (leak == 0) and report.tolerance == 1e-2
    assert checked(InHalf(leak), method="in place", tolerance=1e-2).ok


@pytest.mark.parametrize("leak", [0.0, 2e-3])
def test_two_kinds_of_garbage_show_what_half_precision_hides_at_another_width(leak):
    report = checked(InHalf(leak), widths=[10])
    assert report.ok is (leak == 0) and report.tried == ("length 10",)
    assert checked(InHalf(leak), widths=[10], tolerance=1e-2).ok


class Weighted(nn.Cell):
    """A loss over the positions that ``label_weights`` counts: a mask by use, not by name."""

    def __init__(self):
        super().__init__()
        self.body = Body()

    def construct(self, ids, kinds, labels, label_weights):
        kept = labels * (labels >= 0)
        lost = (self.body(ids).sum(-1) + kinds - kept.astype(ms.float32)) ** 2
        return (lost * label_weights).sum() / label_weights.sum()


def test_a_mask_is_known_by_what_it_does_and_labels_keep_their_ending():
    batch = inputs()
    weights = batch.pop("mask")
    kinds = np.ones_like(weights)
    labels = np.where(weights > 0, 3, -100).astype(np.int32)
    batch = {**batch, "kinds": kinds, "labels": labels, "label_weights": weights}
    report = checked(Weighted(), batch, dict.fromkeys(batch, 1), widths=[9], method="both")
    assert report.ok, str(report)
    assert dict(report.pads) == {"label_weights": 0, "labels": -100}


class Two(nn.Cell):
    """Two leaks, and a final state that nobody reads."""

    def __init__(self):
        super().__init__()
        self.body, self.last, self.first, self.second = Body(), Last(), Mean(), Mean()
        self.between, self.sound = nn.Dense(WIDTH, WIDTH), MaskedMean()

    def construct(self, ids, mask):
        states = self.body(ids)
        states, _ = self.last(states)
        return self.first(states, mask), self.second(self.between(states), mask), self.sound(states, mask)


class Last(nn.Cell):
    """The states, and the last of them."""

    def construct(self, x):
        return x, x[:, -1]


def test_every_suspect_is_listed_and_an_unread_state_is_none():
    report = checked(Two(), method="in place")
    assert [(s.cell, s.explains) for s in report.suspects] == [("first", ("output[0]",)), ("second", ("output[1]",))]
    assert "and in sub-cell 'second'" in str(report)


class Windowed(nn.Cell):
    """Neighbours are summed: beyond a row's end something changes, but that is dead already."""

    def __init__(self):
        super().__init__()
        self.body = Body()

    def construct(self, ids, mask):
        states = self.body(ids) * mask.expand_dims(-1)
        return states.cumsum(1), Tensor(1.0) * ids


def test_what_stands_beyond_a_rows_end_is_dead():
    assert checked(Windowed(), method="both").ok


def test_a_leak_behind_zero_weights_is_seen():
    cell = Classifier(Mean())
    cell.head.weight.set_data(ops.zeros_like(cell.head.weight))
    assert checked(cell, widths=[9]).cell == "pool"
    assert not cell.head.weight.asnumpy().any()


class Summed(nn.Cell):
    """A sum over the embedding, whose row of the padding is zero."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(30, WIDTH, padding_idx=0)

    def construct(self, ids):
        return self.table(ids).sum(1)


def test_a_leak_in_gradients_alone_is_named_by_its_owner():
    report = checked(Summed(), {"ids": inputs()["ids"]}, {"ids": 1}, widths=[9], pad={"ids": 0}, gradients=True)
    assert [leak.what for leak in report.leaks] == ["gradient of table.embedding_table"]
    assert report.cell == "table" and "padded positions train the table's row" in report.cause


def test_functions_are_checked_too():
    cells = {pool: Classifier(pool()) for pool in (Mean, MaskedMean)}
    leaking, sound = cells[Mean], cells[MaskedMean]

    @ms.jit
    def forward(ids, mask):
        return leaking(ids, mask)

    def fine(ids, mask):
        return sound(ids, mask)

    report = checked(forward, widths=[9])
    assert not report.ok and report.cell.endswith(".pool")
    assert checked(fine, widths=[9]).ok


def test_wrong_use_is_one_clear_line():
    with pytest.raises(PaddingCheckError, match="method='twice' is unknown; choose one of auto"):
        checked(Classifier(Mean()), method="twice")
    with pytest.raises(PaddingCheckError, match=r"lengths of 'length' are \[9, 1, 1\]; pass one integer for each row"):
        checked(Classifier(Mean()), lengths=[9, 1, 1])
    with pytest.raises(PaddingCheckError, match="Fixed fails on the batch as it is"):
        checked(Fixed(Mean()), inputs(length=5))
